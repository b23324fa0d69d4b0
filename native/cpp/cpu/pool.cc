// Pooling of planes [h.size, w.size, inner] to [h.out, w.out, inner] by maximum or average, and its
// gradients.
//   maximum: y = x[index], index the first of the largest; dx[j] = Σ dy over windows whose index is
//   j average: y = Σ window / divisor; dx[j] = Σ dy / divisor over the windows that hold j
// A chunk computes some rows of the result, each from the rows of the windows it meets, so that
// backward gathers in a fixed order. Taps go over a row of windows at a time, in vectors where
// windows are 1 or 2 apart; adaptive windows go one by one. Where inner is more than 1, vectors run
// along it. 16-bit types compute in float32.
// Cost: memory-bound; the maximum reads x and writes y and an int32 index, backward reads those
// and writes dx.
#include "core/backend.h"
#include "core/error.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct Pool {
  const void* in;
  void* out;
  int32_t* index;
  PoolShape shape;
  int64_t rows, rows_per_chunk;
};

// The elements of an axis that a window holds, and the result's elements that an element reaches.
struct Range {
  int64_t begin, end;
};

Range window_of(const PoolAxis& a, bool adaptive, int64_t o) {
  if (adaptive) return {o * a.size / a.out, ((o + 1) * a.size + a.out - 1) / a.out};
  const int64_t begin = o * a.stride - a.pad;
  return {max_of(begin, 0), min_of(begin + a.kernel, a.size)};
}

Range windows_over(const PoolAxis& a, bool adaptive, int64_t at) {
  if (adaptive) return {at * a.out / a.size, ((at + 1) * a.out + a.size - 1) / a.size};
  const int64_t reach = a.dilation * (a.kernel - 1), low = at + a.pad - reach;
  return {low <= 0 ? 0 : (low + a.stride - 1) / a.stride,
          min_of(a.out, (at + a.pad) / a.stride + 1)};
}

// What a window counts for in an average's divisor.
int64_t extent_of(const PoolAxis& a, const PoolShape& s, int64_t o) {
  if (!s.adaptive && s.count_pad) {
    const int64_t begin = o * a.stride - a.pad;
    return min_of(begin + a.kernel, a.size + a.pad) - begin;
  }
  const Range window = window_of(a, s.adaptive, o);
  return window.end - window.begin;
}

// The windows of [0, out) for which element o·stride + offset lies in the axis.
Range windows_inside(const PoolAxis& a, int64_t offset) {
  const int64_t begin = offset < 0 ? (-offset + a.stride - 1) / a.stride : 0;
  const int64_t end = offset < a.size ? (a.size - offset + a.stride - 1) / a.stride : 0;
  return {begin, max_of(begin, min_of(end, a.out))};
}

template <class T, class S>
const T* row_of(const void* data, int64_t row, int64_t length, T* buffer) {
  const S* const from = static_cast<const S*>(data) + row * length;
  if constexpr (sizeof(S) == sizeof(T)) {
    return from;
  } else {
    load_row<S, T>(from, 1, buffer, length);
    return buffer;
  }
}

template <class T, class S>
void put_row(const T* row, void* data, int64_t at, int64_t length) {
  S* const to = static_cast<S*>(data) + at * length;
#pragma GCC ivdep
  for (int64_t i = 0; i < length; ++i) to[i] = Stored<S>::store(row[i]);
}

template <class T>
T* scratch_rows(int64_t elements) {
  T* const memory = static_cast<T*>(thread_scratch(sizeof(T) * static_cast<size_t>(elements) + 64));
  if (!memory) fail("pool: out of memory for a row");
  return memory;
}

template <class T, int64_t kStride>
void max_tap(const T* x, int64_t stride, int32_t at, T* best, int32_t* index, int64_t n) {
  const int64_t step = kStride ? kStride : stride;
  const int32_t apart = static_cast<int32_t>(step);
#pragma GCC ivdep
  for (int64_t o = 0; o < n; ++o) {
    const T v = x[o * step];
    const bool take = (v > best[o]) | (v != v) | (index[o] < 0);  // NaN wins
    best[o] = take ? v : best[o];
    index[o] = take ? at + static_cast<int32_t>(o) * apart : index[o];
  }
}

// One element of a row of windows, `n` channels that lie together.
template <class T>
void max_channels(const T* x, int32_t at, T* best, int32_t* index, int64_t n) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    const T v = x[c];
    const bool take = (v > best[c]) | (v != v) | (index[c] < 0);  // NaN wins
    best[c] = take ? v : best[c];
    index[c] = take ? at : index[c];
  }
}

// The columns of window `o` of a row of `w.size`: f(column).
template <class F>
void for_columns(const PoolAxis& w, bool adaptive, int64_t o, const F& f) {
  if (adaptive) {
    const Range r = window_of(w, true, o);
    for (int64_t j = r.begin; j < r.end; ++j) f(j);
    return;
  }
  for (int64_t b = 0; b < w.kernel; ++b) {
    const int64_t j = o * w.stride - w.pad + b * w.dilation;
    if (j >= 0 && j < w.size) f(j);
  }
}

template <class T, class S>
void max_kernel(const void* args, int64_t chunk) {
  const Pool& p = *static_cast<const Pool*>(args);
  const PoolAxis &h = p.shape.h, &w = p.shape.w;
  const int64_t inner = p.shape.inner, length = w.out * inner;
  T* const buffer = scratch_rows<T>(w.size * inner + length);
  T* const best = buffer + w.size * inner;
  const int64_t end = min_of(p.rows, (chunk + 1) * p.rows_per_chunk);
  for (int64_t row = chunk * p.rows_per_chunk; row < end; ++row) {
    const int64_t plane = row / h.out, oh = row % h.out;
    int32_t* const index = p.index + row * length;
    for (int64_t o = 0; o < length; ++o) {
      best[o] = -T(__builtin_inff());
      index[o] = -1;
    }
    const Range window = window_of(h, p.shape.adaptive, oh);
    const int64_t taps = p.shape.adaptive ? window.end - window.begin : h.kernel;
    for (int64_t a = 0; a < taps; ++a) {
      const int64_t at =
          p.shape.adaptive ? window.begin + a : oh * h.stride - h.pad + a * h.dilation;
      if (at < 0 || at >= h.size) continue;
      const T* const x = row_of<T, S>(p.in, plane * h.size + at, w.size * inner, buffer);
      const int32_t base = static_cast<int32_t>(at * w.size);
      if (p.shape.adaptive || inner > 1) {
        for (int64_t o = 0; o < w.out; ++o) {
          for_columns(w, p.shape.adaptive, o, [&](int64_t j) {
            max_channels(x + j * inner, base + static_cast<int32_t>(j), best + o * inner,
                         index + o * inner, inner);
          });
        }
        continue;
      }
      for (int64_t b = 0; b < w.kernel; ++b) {
        const int64_t offset = b * w.dilation - w.pad;
        const Range r = windows_inside(w, offset);
        if (r.begin >= r.end) continue;
        const int64_t first = r.begin * w.stride + offset;
        const auto tap = w.stride == 1   ? max_tap<T, 1>
                         : w.stride == 2 ? max_tap<T, 2>
                                         : max_tap<T, 0>;
        tap(x + first, w.stride, base + static_cast<int32_t>(first), best + r.begin,
            index + r.begin, r.end - r.begin);
      }
    }
    if (p.shape.relu) {
#pragma GCC ivdep
      for (int64_t o = 0; o < length; ++o) {
        const bool cut = best[o] <= T(0);  // NaN stays
        best[o] = cut ? T(0) : best[o];
        index[o] = cut ? -1 : index[o];
      }
    }
    put_row<T, S>(best, p.out, row, length);
  }
}

// dx of windows that lie side by side, each of kWidth elements.
template <class T, class S, int kWidth>
void max_backward_apart(const S* dy, const int32_t* index, int32_t base, T* dx, int64_t windows) {
#pragma GCC ivdep
  for (int64_t o = 0; o < windows; ++o) {
    const T g = Stored<S>::load(dy[o]);
    const int32_t chosen = index[o] - base - static_cast<int32_t>(o) * kWidth;
#pragma GCC unroll 4
    for (int b = 0; b < kWidth; ++b) dx[o * kWidth + b] = chosen == b ? g : T(0);
  }
}

// dx += dy of the channels whose maximum was found at that element.
template <class T, class S>
void add_chosen(const S* dy, const int32_t* index, int32_t at, T* dx, int64_t n) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) dx[c] += index[c] == at ? Stored<S>::load(dy[c]) : T(0);
}

template <class T, class S>
void max_backward_kernel(const void* args, int64_t chunk) {
  const Pool& p = *static_cast<const Pool*>(args);
  const PoolAxis &h = p.shape.h, &w = p.shape.w;
  const int64_t inner = p.shape.inner, length = w.size * inner;
  T* const buffer = scratch_rows<T>(length);
  const bool apart = inner == 1 && !p.shape.adaptive && w.stride == 2 && w.kernel == 2 &&
                     w.dilation == 1 && w.pad == 0 && h.stride >= h.dilation * (h.kernel - 1) + 1;
  const int64_t end = min_of(p.rows, (chunk + 1) * p.rows_per_chunk);
  for (int64_t row = chunk * p.rows_per_chunk; row < end; ++row) {
    const int64_t plane = row / h.size, at = row % h.size;
    const int32_t base = static_cast<int32_t>(at * w.size);
    const Range over = windows_over(h, p.shape.adaptive, at);
    T* const dx = sizeof(S) == sizeof(T) ? static_cast<T*>(p.out) + row * length : buffer;
    const int64_t whole = apart && over.begin < over.end ? min_of(w.out, w.size / 2) : 0;
    for (int64_t j = 2 * whole; j < length; ++j) dx[j] = T(0);
    for (int64_t oh = over.begin; oh < over.end; ++oh) {
      const int64_t first = (plane * h.out + oh) * w.out * inner;
      const S* const dy = static_cast<const S*>(p.in) + first;
      const int32_t* const index = p.index + first;
      if (inner > 1) {
        for (int64_t o = 0; o < w.out; ++o) {
          for_columns(w, p.shape.adaptive, o, [&](int64_t j) {
            add_chosen<T, S>(dy + o * inner, index + o * inner, base + static_cast<int32_t>(j),
                             dx + j * inner, inner);
          });
        }
        continue;
      }
      if (whole > 0) max_backward_apart<T, S, 2>(dy, index, base, dx, whole);
      for (int64_t o = whole; o < w.out; ++o) {
        const int64_t j = int64_t{index[o]} - base;
        if (j >= 0 && j < w.size) dx[j] += Stored<S>::load(dy[o]);
      }
    }
    if (dx == buffer) put_row<T, S>(dx, p.out, row, length);
  }
}

template <class T, int64_t kStride>
void add_tap(const T* x, int64_t stride, T* sums, int64_t n) {
  const int64_t step = kStride ? kStride : stride;
#pragma GCC ivdep
  for (int64_t o = 0; o < n; ++o) sums[o] += x[o * step];
}

template <class T, class S>
void average_kernel(const void* args, int64_t chunk) {
  const Pool& p = *static_cast<const Pool*>(args);
  const PoolShape& s = p.shape;
  const PoolAxis &h = s.h, &w = s.w;
  const int64_t inner = s.inner, across = w.size * inner, length = w.out * inner;
  T* const buffer = scratch_rows<T>(2 * across + length);
  T* const columns = buffer + across;
  T* const sums = columns + across;
  const int64_t end = min_of(p.rows, (chunk + 1) * p.rows_per_chunk);
  for (int64_t row = chunk * p.rows_per_chunk; row < end; ++row) {
    const int64_t plane = row / h.out, oh = row % h.out;
    const Range window = window_of(h, s.adaptive, oh);
    for (int64_t j = 0; j < across; ++j) columns[j] = T(0);
    for (int64_t at = window.begin; at < window.end; ++at) {
      add_tap<T, 1>(row_of<T, S>(p.in, plane * h.size + at, across, buffer), 1, columns, across);
    }
    for (int64_t o = 0; o < length; ++o) sums[o] = T(0);
    if (s.adaptive || inner > 1) {
      for (int64_t o = 0; o < w.out; ++o) {
        for_columns(w, s.adaptive, o, [&](int64_t j) {
          add_tap<T, 1>(columns + j * inner, 1, sums + o * inner, inner);
        });
      }
    } else {
      for (int64_t b = 0; b < w.kernel; ++b) {
        const Range r = windows_inside(w, b - w.pad);
        if (r.begin >= r.end) continue;
        const auto tap = w.stride == 1   ? add_tap<T, 1>
                         : w.stride == 2 ? add_tap<T, 2>
                                         : add_tap<T, 0>;
        tap(columns + r.begin * w.stride + b - w.pad, w.stride, sums + r.begin, r.end - r.begin);
      }
    }
    const int64_t high = extent_of(h, s, oh);
    for (int64_t o = 0; o < w.out; ++o) {
      const T extent = static_cast<T>(high * extent_of(w, s, o));
      for (int64_t c = o * inner; c < (o + 1) * inner; ++c) sums[c] /= extent;
    }
    put_row<T, S>(sums, p.out, row, length);
  }
}

template <class T, class S>
void average_backward_kernel(const void* args, int64_t chunk) {
  const Pool& p = *static_cast<const Pool*>(args);
  const PoolShape& s = p.shape;
  const PoolAxis &h = s.h, &w = s.w;
  const int64_t inner = s.inner, across = w.size * inner, length = w.out * inner;
  T* const dx = scratch_rows<T>(across + 2 * length);
  T* const buffer = dx + across;
  T* const shares = buffer + length;
  const int64_t end = min_of(p.rows, (chunk + 1) * p.rows_per_chunk);
  for (int64_t row = chunk * p.rows_per_chunk; row < end; ++row) {
    const int64_t plane = row / h.size, at = row % h.size;
    const Range over = windows_over(h, s.adaptive, at);
    for (int64_t o = 0; o < length; ++o) shares[o] = T(0);
    for (int64_t oh = over.begin; oh < over.end; ++oh) {
      const T* const dy = row_of<T, S>(p.in, plane * h.out + oh, length, buffer);
      const T high = static_cast<T>(extent_of(h, s, oh));
#pragma GCC ivdep
      for (int64_t o = 0; o < length; ++o) shares[o] += dy[o] / high;
    }
    for (int64_t j = 0; j < across; ++j) dx[j] = T(0);
    for (int64_t o = 0; o < w.out; ++o) {
      T* const share = shares + o * inner;
      const T extent = static_cast<T>(extent_of(w, s, o));
      for (int64_t c = 0; c < inner; ++c) share[c] /= extent;
      const Range r = window_of(w, s.adaptive, o);
      for (int64_t j = r.begin; j < r.end; ++j) add_tap<T, 1>(share, 1, dx + j * inner, inner);
    }
    put_row<T, S>(dx, p.out, row, across);
  }
}

// A launch over `rows` rows of the result of so many elements each, of work or memory.
void launch_rows(Stream& stream, const char* name, Kernel kernel, Pool& p, int64_t rows,
                 int64_t elements) {
  if (rows == 0) return;
  p.rows = rows;
  p.rows_per_chunk = max_of(1, kChunk / max_of(1, elements));
  launch(stream, name, kernel, &p, sizeof p, chunk_count(rows, p.rows_per_chunk));
}

int64_t window_rows(const PoolShape& s) {
  const PoolAxis& h = s.h;
  return s.adaptive ? h.size / max_of(1, h.out) + 1 : h.kernel;
}

void max_forward(Stream& stream, const PoolShape& s, const void* x, void* y, int32_t* index) {
  with_floats("pool", s.dtype, [&](auto t, auto stored) {
    Pool p = {x, y, index, s, 0, 0};
    launch_rows(stream, "max_pool", max_kernel<decltype(t), decltype(stored)>, p,
                s.planes * s.h.out, window_rows(s) * s.w.size * s.inner);
  });
}

void max_backward(Stream& stream, const PoolShape& s, const void* dy, const int32_t* index,
                  void* dx) {
  with_floats("pool", s.dtype, [&](auto t, auto stored) {
    Pool p = {dy, dx, const_cast<int32_t*>(index), s, 0, 0};
    launch_rows(stream, "max_pool_backward", max_backward_kernel<decltype(t), decltype(stored)>, p,
                s.planes * s.h.size, s.w.size * s.inner);
  });
}

void average_forward(Stream& stream, const PoolShape& s, const void* x, void* y) {
  with_floats("pool", s.dtype, [&](auto t, auto stored) {
    Pool p = {x, y, nullptr, s, 0, 0};
    launch_rows(stream, "avg_pool", average_kernel<decltype(t), decltype(stored)>, p,
                s.planes * s.h.out, window_rows(s) * s.w.size * s.inner);
  });
}

void average_backward(Stream& stream, const PoolShape& s, const void* dy, void* dx) {
  with_floats("pool", s.dtype, [&](auto t, auto stored) {
    Pool p = {dy, dx, nullptr, s, 0, 0};
    launch_rows(stream, "avg_pool_backward", average_backward_kernel<decltype(t), decltype(stored)>,
                p, s.planes * s.h.size, s.w.size * s.inner);
  });
}

}  // namespace

extern const PoolFamily pool_family;
const PoolFamily pool_family = {max_forward, max_backward, average_forward, average_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
