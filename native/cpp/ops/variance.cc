#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// Axes to reduce last, the others in their order before them.
Shape reduced_last(int rank, int64_t axes) {
  Shape order;
  for (const int64_t wanted : {0, 1}) {
    for (int i = 0; i < rank; ++i) {
      if ((axes >> i & 1) == wanted) order.push_back(i);
    }
  }
  return order;
}

// Whether the reduced axes lie beside each other.
bool adjacent(int rank, int64_t axes) {
  int changes = 0;
  for (int i = 0; i < rank; ++i) changes += (axes >> i & 1) && (i == 0 || !(axes >> (i - 1) & 1));
  return changes <= 1;
}

}  // namespace

std::tuple<Tensor, Tensor> variance(const Tensor& input, int64_t axes, double correction,
                                    bool keepdim) {
  const int rank = input.rank();
  if (!is_float(input.dtype())) {
    fail("variance: needs a floating dtype, got %s", dtype_name(input.dtype()));
  }
  if (axes < 0 || axes >> rank != 0) fail("variance: axes must be in [0,%d)", rank);
  Shape shape;
  View lines = input.view;
  lines.rank = 3;
  for (int i = 0; i < 3; ++i) lines.shape[i] = 1;
  const bool beside = adjacent(rank, axes);
  bool behind = false;  // whether an axis was reduced already
  for (int i = 0; i < rank; ++i) {
    const bool reduced = axes >> i & 1;
    if (!reduced || keepdim) shape.push_back(reduced ? 1 : input.size(i));
    lines.shape[reduced ? 1 : behind && beside ? 2 : 0] *= input.size(i);
    behind |= reduced;
  }
  const Tensor x = contiguous(beside ? input : permute(input, reduced_last(rank, axes)));
  lines.data = x.view.data;
  lines.strides[2] = 1;
  lines.strides[1] = lines.shape[2];
  lines.strides[0] = lines.shape[1] * lines.shape[2];
  Tensor spread = empty(x.device(), shape, x.dtype(), "variance");
  Tensor mean = empty(x.device(), shape, x.dtype(), "variance");
  const double freedom = static_cast<double>(lines.shape[1]) - correction;
  x.backend().variance->variance(x.stream(), lines, freedom > 0 ? freedom : 0, spread.view,
                                 mean.view);
  return {spread, mean};
}

}  // namespace nodegrad::ops
