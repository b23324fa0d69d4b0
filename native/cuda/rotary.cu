// Rotary positions: pairs of columns, half a row apart, turned by the angle of their position;
// core/families/rotary.h has the formula. Source: Su et al., "RoFormer", 2021.
// A thread turns eight neighbouring pairs where halves are whole vectors and addresses allow, else
// one; neighbours in a row are neighbours in the warp. float32 inside, double for float64.
// Backward is the same kernel with the sines negated.
// Cost: x read and y written once, the tables from L2: bandwidth-bound.
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

// Where the rows of x and of the tables are.
struct RotaryShape {
  Dims<1> rows;
  Divider parts;  // of half a row: its elements, or its vectors
  Divider positions;
  int64_t half, stride;  // pairs of a row; in elements along the last axis of x
  bool narrow;
};

template <class A, int V>
__global__ void __launch_bounds__(kBlock)
    rotary_kernel(const __grid_constant__ RotaryShape shape, const void* x, const void* cosines,
                  const void* sines, const A sign, void* y, const DType dtype, int64_t n) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (index >= n) return;
  const uint64_t row = divide(static_cast<uint64_t>(index), shape.parts, shape.narrow);
  const uint64_t round = divide(row, shape.positions, shape.narrow);
  const int64_t column = (index - static_cast<int64_t>(row * shape.parts.divisor)) * V;
  const int64_t position = static_cast<int64_t>(row - round * shape.positions.divisor);
  const int64_t from =
      offsets_of(shape.rows, static_cast<int64_t>(row)).at[0] + column * shape.stride;
  const int64_t entry = position * shape.half + column;
  constexpr DType wide = same_type<A, double> ? DType::float64 : DType::float32;
  A low[V], high[V], c[V], s[V];
  load_values<V>(x, from, dtype, low);
  load_values<V>(x, from + shape.half * shape.stride, dtype, high);
  load_values<V>(cosines, entry, wide, c);
  load_values<V>(sines, entry, wide, s);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const A sine = sign * s[j], first = low[j];
    low[j] = first * c[j] - high[j] * sine;
    high[j] = high[j] * c[j] + first * sine;
  }
  const int64_t to = static_cast<int64_t>(row) * 2 * shape.half + column;
  store_values<V>(y, to, dtype, low);
  store_values<V>(y, to + shape.half, dtype, high);
}

// Whether eight neighbours are a vector in every operand, wherever a row begins.
bool by_eight(const View& x, const View& cosines, const View& sines, const View& y) {
  if (x.dtype == DType::float64 || cosines.shape[1] % 8 != 0 || x.strides[x.rank - 1] != 1) {
    return false;
  }
  for (int d = 0; d + 1 < x.rank; ++d) {
    if (x.shape[d] != 1 && x.strides[d] % 8 != 0) return false;
  }
  for (const void* data : {x.data, cosines.data, sines.data, y.data}) {
    if (!is_aligned(data, 16)) return false;
  }
  return true;
}

template <class A, int V>
void launch_rotary(Stream& stream, const View& x, const View& cosines, const View& sines,
                   bool inverse, const View& y) {
  const int64_t n = element_count(y) / (2 * V);
  RotaryShape shape;
  const int64_t* const strides[1] = {x.strides};
  shape.rows = make_dims(x.rank - 1, x.shape, strides);
  shape.half = cosines.shape[1];
  shape.stride = x.strides[x.rank - 1];
  shape.parts = make_divider(shape.half / V);
  shape.positions = make_divider(cosines.shape[0]);
  shape.narrow = n < (int64_t{1} << 31);
  launch(stream, "rotary", rotary_kernel<A, V>,
         dim3(static_cast<unsigned>((n + kBlock - 1) / kBlock)), dim3(kBlock), 0, shape, x.data,
         cosines.data, sines.data, inverse ? A(-1) : A(1), y.data, x.dtype, n);
}

void rotate(Stream& stream, const View& x, const View& cosines, const View& sines, bool inverse,
            const View& y) {
  if (element_count(y) == 0) return;
  if (x.dtype == DType::float64) {
    launch_rotary<double, 1>(stream, x, cosines, sines, inverse, y);
  } else if (by_eight(x, cosines, sines, y)) {
    launch_rotary<float, 8>(stream, x, cosines, sines, inverse, y);
  } else {
    launch_rotary<float, 1>(stream, x, cosines, sines, inverse, y);
  }
}

}  // namespace

const RotaryFamily rotary_family = {rotate};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
