#include <cmath>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

Scalar scalar_of(double value) {
  // Integers beyond int64's range, and NaN, have no integer form.
  const bool representable = value > -9.2e18 && value < 9.2e18;
  return {value, representable ? static_cast<int64_t>(value) : 0};
}

Tensor full(Device& device, const Shape& shape, double value, DType dtype) {
  Tensor out = empty(device, shape, dtype, "full");
  device.backend().fill->fill(device.stream(), out.view, scalar_of(value));
  return out;
}

Tensor arange(Device& device, double start, double step, int64_t count, DType dtype) {
  if (dtype == DType::boolean) fail("arange: needs a numeric dtype, got bool");
  Tensor out = empty(device, {count}, dtype, "arange");
  device.backend().fill->arange(device.stream(), out.view, scalar_of(start), scalar_of(step));
  return out;
}

void fill_into(const Tensor& out, double value) {
  if (out.contiguous()) {
    out.backend().fill->fill(out.stream(), out.view, scalar_of(value));
  } else {
    copy_into(out, full(out.device(), out.shape(), value, out.dtype()));
  }
}

}  // namespace nodegrad::ops
