// Elements in other places: padding, flips, rolls and repetition as one map per axis
// (core/axis_map.h), their gradient, and triangles of matrices.
// remap: a thread per element of the output, bits moved by size; inner axes that stay as they are
// form one axis, so that neighbours read neighbours, and go by units of 16 bytes where addresses
// allow, two a thread. fold: a thread per element of the gradient sums its places in ascending
// order, without atomics.
// Cost: bytes of output written and as many read; some 20 integer instructions a unit or element.
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

struct RemapShape {
  Divider to[kMaxRank];  // innermost first
  AxisMap maps[kMaxRank];
  int64_t from[kMaxRank], stride[kMaxRank];
  int32_t rank;
  bool narrow;
};

// Places of the output per thread of remap.
template <class U>
inline constexpr int kPlaces = same_type<U, Piece> ? 2 : 1;

// The fill value, of `item` bytes, as often as it fits.
template <class U>
__device__ __forceinline__ U filled(const void* fill, int item) {
  if constexpr (!same_type<U, Piece>) {
    return *static_cast<const U*>(fill);
  } else {
    if (item == 8) {
      const auto two = load_vector<2>(static_cast<const uint32_t*>(fill));
      return Piece{two[0], two[1], two[0], two[1]};
    }
    const uint32_t word = item == 4   ? *static_cast<const uint32_t*>(fill)
                          : item == 2 ? *static_cast<const uint16_t*>(fill) * 0x10001u
                                      : *static_cast<const uint8_t*>(fill) * 0x1010101u;
    return Piece{word, word, word, word};
  }
}

template <class U>
__global__ void __launch_bounds__(kBlock)
    remap_kernel(const __grid_constant__ RemapShape shape, const U* x, const void* fill,
                 const int item, U* out, int64_t n) {
  const int64_t first =
      static_cast<int64_t>(blockIdx.x) * (kBlock * kPlaces<U>)+static_cast<int>(threadIdx.x);
  U value[kPlaces<U>];
#pragma unroll
  for (int p = 0; p < kPlaces<U>; ++p) {
    const int64_t at = first + p * kBlock;
    if (at >= n) break;
    uint64_t rest = static_cast<uint64_t>(at);
    int64_t offset = 0;
    bool inside = true;
#pragma unroll 1
    for (int d = 0; d < shape.rank; ++d) {
      const uint64_t quotient = divide(rest, shape.to[d], shape.narrow);
      const int64_t i = static_cast<int64_t>(rest - quotient * shape.to[d].divisor);
      const int64_t source = axis_source(shape.maps[d], shape.from[d], i);
      inside = inside && source >= 0;
      offset += source * shape.stride[d];
      rest = quotient;
    }
    value[p] = inside ? x[offset] : filled<U>(fill, item);
  }
#pragma unroll
  for (int p = 0; p < kPlaces<U>; ++p) {
    if (first + p * kBlock < n) out[first + p * kBlock] = value[p];
  }
}

// Turns the innermost axis into units of 16 bytes, where it stays as it is and all addresses allow.
bool by_units(RemapShape& shape, const View& x, const View& out, int64_t per_unit) {
  if (shape.rank == 0 || shape.maps[0].mode != AxisMode::pad || shape.maps[0].before != 0 ||
      static_cast<int64_t>(shape.to[0].divisor) != shape.from[0] || shape.stride[0] != 1 ||
      shape.from[0] % per_unit != 0 || !is_aligned(x.data, 16) || !is_aligned(out.data, 16)) {
    return false;
  }
  for (int d = 1; d < shape.rank; ++d) {
    if (shape.stride[d] % per_unit != 0) return false;
  }
  shape.from[0] /= per_unit;
  shape.to[0] = make_divider(shape.from[0]);
  for (int d = 1; d < shape.rank; ++d) shape.stride[d] /= per_unit;
  return true;
}

dim3 blocks_of(int64_t n) { return dim3(static_cast<unsigned>((n + kBlock - 1) / kBlock)); }

void remap(Stream& stream, const View& x, const AxisMap* maps, const View& fill, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  RemapShape shape{};
  shape.narrow = n < (int64_t{1} << 31);
  int64_t size = 1;   // of the last axis of the output
  bool kept = false;  // whether that axis stays as it is
  for (int d = x.rank - 1; d >= 0; --d) {
    const bool keep =
        maps[d].mode == AxisMode::pad && maps[d].before == 0 && x.shape[d] == out.shape[d];
    if (keep && x.shape[d] == 1) continue;
    const int last = shape.rank - 1;
    if (keep && kept && x.strides[d] == shape.stride[last] * size) {
      size *= x.shape[d];
      shape.from[last] = size;
      shape.to[last] = make_divider(size);
      continue;
    }
    size = out.shape[d];
    shape.maps[shape.rank] = maps[d];
    shape.from[shape.rank] = x.shape[d];
    shape.to[shape.rank] = make_divider(size);
    shape.stride[shape.rank] = x.strides[d];
    ++shape.rank;
    kept = keep;
  }
  const int item = static_cast<int>(item_size(x.dtype));
  const auto run = [&](auto zero, int64_t places) {
    using U = decltype(zero);
    launch(stream, "remap", remap_kernel<U>, blocks_of((places + kPlaces<U> - 1) / kPlaces<U>),
           dim3(kBlock), 0, shape, static_cast<const U*>(x.data),
           static_cast<const void*>(fill.data), item, static_cast<U*>(out.data), places);
  };
  if (by_units(shape, x, out, 16 / item)) {
    run(Piece{}, n * item / 16);
  } else {
    with_size_of(x.dtype, [&](auto zero) { run(zero, n); });
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    fold_kernel(const T* dout, T* dx, const AxisMap map, int64_t from, int64_t to,
                const Divider inner, const Divider axis, const bool narrow, int64_t n) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (at >= n) return;
  const uint64_t row = divide(static_cast<uint64_t>(at), inner, narrow);
  const uint64_t outer = divide(row, axis, narrow);
  const int64_t width = static_cast<int64_t>(inner.divisor);
  const int64_t column = at - static_cast<int64_t>(row) * width;
  const int64_t j = static_cast<int64_t>(row - outer * axis.divisor);
  const T* const source = dout + static_cast<int64_t>(outer) * to * width + column;
  const AxisPlaces places = axis_places(map, from, to, j);
  Arith<T> sum = 0;
#pragma unroll
  for (int q = 0; q < 3; ++q) {
    if (q >= places.runs) break;
    for (int64_t p = 0; p < places.count; ++p) {
      const int64_t i = places.first[q] + p * places.step;
      if (i >= 0 && i < to) sum += to_arith(source[i * width]);
    }
  }
  dx[at] = from_arith<T>(sum);
}

void fold(Stream& stream, const View& dout, AxisMap map, const View& dx) {
  const int64_t n = element_count(dx);
  if (n == 0) return;
  with_float_type(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "fold", fold_kernel<T>, blocks_of(n), dim3(kBlock), 0,
           static_cast<const T*>(dout.data), static_cast<T*>(dx.data), map, dx.shape[1],
           dout.shape[1], make_divider(dx.shape[2]), make_divider(dx.shape[1]),
           n < (int64_t{1} << 31), n);
  });
}

template <class U>
__global__ void __launch_bounds__(kBlock)
    triangle_kernel(const U* x, U* out, const Divider columns, const Divider rows, int64_t diagonal,
                    const bool upper, const bool narrow, int64_t n) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (at >= n) return;
  const uint64_t line = divide(static_cast<uint64_t>(at), columns, narrow);
  const int64_t j = at - static_cast<int64_t>(line * columns.divisor);
  const int64_t i = static_cast<int64_t>(line - divide(line, rows, narrow) * rows.divisor);
  const bool keep = upper ? j - i >= diagonal : j - i <= diagonal;
  out[at] = keep ? x[at] : U(0);
}

void triangle(Stream& stream, const View& x, int64_t diagonal, bool upper, const View& out) {
  const int64_t n = element_count(x);
  if (n == 0) return;
  with_size_of(x.dtype, [&](auto zero) {
    using U = decltype(zero);
    launch(stream, "triangle", triangle_kernel<U>, blocks_of(n), dim3(kBlock), 0,
           static_cast<const U*>(x.data), static_cast<U*>(out.data),
           make_divider(x.shape[x.rank - 1]), make_divider(x.shape[x.rank - 2]), diagonal, upper,
           n < (int64_t{1} << 31), n);
  });
}

}  // namespace

const MovementFamily movement_family = {remap, fold, triangle};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
