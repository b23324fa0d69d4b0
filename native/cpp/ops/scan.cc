#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// The tensor as [outer, n, inner] around an axis.
View lines(const Tensor& x, int axis) {
  View v = x.view;
  v.rank = 3;
  for (int64_t& size : v.shape) size = 1;
  for (int i = 0; i < x.rank(); ++i) v.shape[i < axis ? 0 : i == axis ? 1 : 2] *= x.size(i);
  v.strides[2] = 1;
  v.strides[1] = v.shape[2];
  v.strides[0] = v.shape[1] * v.shape[2];
  return v;
}

Tensor scan(ScanOp op, const char* name, const Tensor& input, int64_t axis_index, bool reverse) {
  if (input.rank() == 0) {
    return reshape(scan(op, name, reshape(input, {1}), axis_index, reverse), {});
  }
  const int axis = normal_axis(name, axis_index, input.rank());
  const DType dtype = is_float(input.dtype()) ? input.dtype() : DType::int64;
  const Tensor x = contiguous(as_dtype(input, dtype));
  Tensor out = empty_like(x, dtype, name);
  x.backend().scan->scan(x.stream(), op, reverse, lines(x, axis), lines(out, axis));
  return out;
}

}  // namespace

Tensor cumsum(const Tensor& x, int64_t axis, bool reverse) {
  return scan(ScanOp::sum, "cumsum", x, axis, reverse);
}
Tensor cumprod(const Tensor& x, int64_t axis) {
  return scan(ScanOp::product, "cumprod", x, axis, false);
}

}  // namespace nodegrad::ops
