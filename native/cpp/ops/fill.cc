#include <cmath>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

std::pair<double, double> range_of(DType dtype) {
  if (dtype == DType::uint8) return {0, 255};
  return dtype == DType::int32 ? std::pair{-0x1p31, 0x1p31 - 1} : std::pair{-0x1p63, 0x1p63 - 1024};
}

bool holds(DType dtype, double value) {
  const auto [least, most] = range_of(dtype);
  return value >= least && value <= most;
}

Scalar scalar_of(double value) {
  // Integers beyond int64's range, and NaN, have no integer form.
  return {value, holds(DType::int64, value) ? static_cast<int64_t>(value) : 0};
}

namespace {

// A number as an element of a dtype: all but 0 is true, a fraction is cut off.
Scalar element_of(const char* op, DType dtype, double value) {
  if (dtype == DType::boolean) return scalar_of(value != 0);
  if (!is_float(dtype) && !holds(dtype, std::trunc(value))) {
    const auto [least, most] = range_of(dtype);
    fail("%s: an element of %s must be in [%.17g,%.17g], got %.17g", op, dtype_name(dtype), least,
         most, value);
  }
  return scalar_of(value);
}

}  // namespace

Tensor full(Device& device, const Shape& shape, double value, DType dtype, const std::string& op) {
  const Scalar element = element_of(op.c_str(), dtype, value);
  Tensor out = empty(device, shape, dtype, "full");  // a name that is kept
  device.backend().fill->fill(device.stream(), out.view, element);
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
    out.backend().fill->fill(out.stream(), out.view, element_of("full", out.dtype(), value));
  } else {
    copy_into(out, full(out.device(), out.shape(), value, out.dtype(), "full"));
  }
}

}  // namespace nodegrad::ops
