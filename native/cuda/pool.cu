// Pooling of planes [h.size, w.size, inner] to [h.out, w.out, inner] by maximum or average, and its
// gradients.
//   maximum: y = x[index], index the first of the largest; dx[j] = Σ dy over windows whose index is
//   j average: y = Σ window / divisor; dx[j] = Σ dy / divisor over the windows that hold j
// A thread computes one element of the result from the windows, or the window, it belongs to:
// backward gathers in a fixed order, without atomics. float32 inside for 16-bit types.
// Cost: each window is read once from memory and again from cache where windows overlap:
// bandwidth-bound, floor (x + y + 4 bytes of index per y) / bandwidth.
#include <cmath>

#include "core/error.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256;

struct Pool {
  PoolShape s;
  Divider plane, row, inner;  // of the result
  int64_t n;
  bool narrow;
};

struct Place {
  int64_t plane, high, low, channel;
};

__device__ __forceinline__ Place place_of(const Pool& p, int64_t at) {
  const uint64_t plane = divide(static_cast<uint64_t>(at), p.plane, p.narrow);
  const uint64_t rest = static_cast<uint64_t>(at) - plane * p.plane.divisor;
  const uint64_t high = divide(rest, p.row, p.narrow);
  const uint64_t line = rest - high * p.row.divisor;
  const uint64_t low = divide(line, p.inner, p.narrow);
  return {static_cast<int64_t>(plane), static_cast<int64_t>(high), static_cast<int64_t>(low),
          static_cast<int64_t>(line - low * p.inner.divisor)};
}

// Elements begin, begin + step … below end.
struct Range {
  int64_t begin, end, step;
};

__device__ __forceinline__ Range window_of(const PoolAxis& a, bool adaptive, int64_t o) {
  if (adaptive) return {o * a.size / a.out, ((o + 1) * a.size + a.out - 1) / a.out, 1};
  int64_t begin = o * a.stride - a.pad;
  const int64_t end = begin + a.dilation * (a.kernel - 1) + 1;
  if (begin < 0) begin += (-begin + a.dilation - 1) / a.dilation * a.dilation;
  return {begin, end < a.size ? end : a.size, a.dilation};
}

__device__ __forceinline__ Range windows_over(const PoolAxis& a, bool adaptive, int64_t at) {
  if (adaptive) return {at * a.out / a.size, ((at + 1) * a.out + a.size - 1) / a.size, 1};
  const int64_t low = at + a.pad - a.dilation * (a.kernel - 1);
  const int64_t end = (at + a.pad) / a.stride + 1;
  return {low <= 0 ? 0 : (low + a.stride - 1) / a.stride, end < a.out ? end : a.out, 1};
}

// What a window counts for in an average's divisor.
__device__ __forceinline__ int64_t extent_of(const PoolAxis& a, const PoolShape& s, int64_t o) {
  const int64_t begin = o * a.stride - a.pad;
  if (!s.adaptive && s.count_pad) {
    const int64_t end = begin + a.kernel;
    return (end < a.size + a.pad ? end : a.size + a.pad) - begin;
  }
  const Range window = window_of(a, s.adaptive, o);
  return window.end - window.begin;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    max_kernel(const __grid_constant__ Pool p, const T* x, T* y, int32_t* index) {
  using A = Arith<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= p.n) return;
  const PoolAxis &h = p.s.h, &w = p.s.w;
  const Place place = place_of(p, at);
  const Range rows = window_of(h, p.s.adaptive, place.high);
  const Range columns = window_of(w, p.s.adaptive, place.low);
  const int64_t inner = p.s.inner;
  const T* const from = x + place.plane * h.size * w.size * inner + place.channel;
  A best = A(-INFINITY);
  int32_t found = -1;
  for (int64_t i = rows.begin; i < rows.end; i += rows.step) {
    for (int64_t j = columns.begin; j < columns.end; j += columns.step) {
      const A v = to_arith(from[(i * w.size + j) * inner]);
      if (v > best || v != v || found < 0) {
        best = v;
        found = static_cast<int32_t>(i * w.size + j);
      }
    }
  }
  const bool cut = p.s.relu && best <= A(0);  // NaN stays
  y[at] = from_arith<T>(cut ? A(0) : best);
  index[at] = cut ? -1 : found;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    max_backward_kernel(const __grid_constant__ Pool p, const T* dy, const int32_t* index, T* dx) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= p.n) return;
  const PoolAxis &h = p.s.h, &w = p.s.w;
  const Place place = place_of(p, at);
  const Range rows = windows_over(h, p.s.adaptive, place.high);
  const Range columns = windows_over(w, p.s.adaptive, place.low);
  const int32_t own = static_cast<int32_t>(place.high * w.size + place.low);
  const int64_t first = place.plane * h.out * w.out;
  const int64_t inner = p.s.inner;
  Arith<T> sum = 0;
  for (int64_t i = rows.begin; i < rows.end; ++i) {
// Unrolled further, sm_100 and sm_120 are short of registers.
#pragma unroll 2
    for (int64_t j = columns.begin; j < columns.end; ++j) {
      const int64_t window = (first + i * w.out + j) * inner + place.channel;
      if (index[window] == own) sum += to_arith(dy[window]);
    }
  }
  dx[at] = from_arith<T>(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    average_kernel(const __grid_constant__ Pool p, const T* x, T* y) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= p.n) return;
  const PoolAxis &h = p.s.h, &w = p.s.w;
  const Place place = place_of(p, at);
  const Range rows = window_of(h, p.s.adaptive, place.high);
  const Range columns = window_of(w, p.s.adaptive, place.low);
  const int64_t inner = p.s.inner;
  const T* const from = x + place.plane * h.size * w.size * inner + place.channel;
  Arith<T> sum = 0;
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    for (int64_t j = columns.begin; j < columns.end; ++j)
      sum += to_arith(from[(i * w.size + j) * inner]);
  }
  const int64_t extent = extent_of(h, p.s, place.high) * extent_of(w, p.s, place.low);
  y[at] = from_arith<T>(sum / static_cast<Arith<T>>(extent));
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    average_backward_kernel(const __grid_constant__ Pool p, const T* dy, T* dx) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= p.n) return;
  const PoolAxis &h = p.s.h, &w = p.s.w;
  const Place place = place_of(p, at);
  const Range rows = windows_over(h, p.s.adaptive, place.high);
  const Range columns = windows_over(w, p.s.adaptive, place.low);
  const int64_t inner = p.s.inner;
  const T* const from = dy + place.plane * h.out * w.out * inner + place.channel;
  Arith<T> sum = 0;
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    const int64_t high = extent_of(h, p.s, i);
// Unrolled, sm_100 and sm_120 are short of registers.
#pragma unroll 1
    for (int64_t j = columns.begin; j < columns.end; ++j) {
      const int64_t extent = high * extent_of(w, p.s, j);
      sum += to_arith(from[(i * w.out + j) * inner]) / static_cast<Arith<T>>(extent);
    }
  }
  dx[at] = from_arith<T>(sum);
}

// Calls f with the storage type, the result's sizes and the grid; nothing without elements.
template <class F>
void for_elements(const PoolShape& s, bool backward, const F& f) {
  const int64_t high = backward ? s.h.size : s.h.out, low = backward ? s.w.size : s.w.out;
  const int64_t line = low * s.inner;
  Pool p = {s,
            make_divider(high * line),
            make_divider(line),
            make_divider(s.inner),
            s.planes * high * line,
            false};
  if (p.n == 0) return;
  p.narrow = p.n < INT32_MAX;
  const int64_t blocks = (p.n + kThreads - 1) / kThreads;
  if (blocks > INT32_MAX) fail("pool: too many elements for one launch");
  const bool served =
      with_float_type(s.dtype, [&](auto zero) { f(zero, p, dim3(static_cast<unsigned>(blocks))); });
  if (!served) fail("pool: dtype must be floating, got %s", dtype_name(s.dtype));
}

void max_forward(Stream& stream, const PoolShape& s, const void* x, void* y, int32_t* index) {
  for_elements(s, false, [&](auto zero, const Pool& p, dim3 grid) {
    using T = decltype(zero);
    launch(stream, "maxPool2d", max_kernel<T>, grid, dim3(kThreads), 0, p, static_cast<const T*>(x),
           static_cast<T*>(y), index);
  });
}

void max_backward(Stream& stream, const PoolShape& s, const void* dy, const int32_t* index,
                  void* dx) {
  for_elements(s, true, [&](auto zero, const Pool& p, dim3 grid) {
    using T = decltype(zero);
    launch(stream, "maxPool2d", max_backward_kernel<T>, grid, dim3(kThreads), 0, p,
           static_cast<const T*>(dy), index, static_cast<T*>(dx));
  });
}

void average_forward(Stream& stream, const PoolShape& s, const void* x, void* y) {
  for_elements(s, false, [&](auto zero, const Pool& p, dim3 grid) {
    using T = decltype(zero);
    launch(stream, "avgPool2d", average_kernel<T>, grid, dim3(kThreads), 0, p,
           static_cast<const T*>(x), static_cast<T*>(y));
  });
}

void average_backward(Stream& stream, const PoolShape& s, const void* dy, void* dx) {
  for_elements(s, true, [&](auto zero, const Pool& p, dim3 grid) {
    using T = decltype(zero);
    launch(stream, "avgPool2d", average_backward_kernel<T>, grid, dim3(kThreads), 0, p,
           static_cast<const T*>(dy), static_cast<T*>(dx));
  });
}

}  // namespace

const PoolFamily pool_family = {max_forward, max_backward, average_forward, average_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
