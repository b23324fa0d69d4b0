#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

void check_scalar(const char* op, const char* what, const Tensor& x, DType dtype) {
  if (x.dtype() != dtype || x.elements() != 1) {
    fail("%s: %s must be a scalar of %s, got %s%s", op, what, dtype_name(dtype),
         dtype_name(x.dtype()), shape_text(x.view).c_str());
  }
}

}  // namespace

void unscale_into(const Tensor& x, const Tensor& scale, const Tensor& found) {
  const bool floating = x.dtype() == DType::float32 || x.dtype() == DType::float64 ||
                        x.dtype() == DType::bfloat16 || x.dtype() == DType::float16;
  if (!floating || !x.contiguous()) {
    fail("unscale: gradients must be floating and contiguous, got %s%s", dtype_name(x.dtype()),
         shape_text(x.view).c_str());
  }
  check_same_device("unscale", x, scale);
  check_same_device("unscale", x, found);
  check_scalar("unscale", "the scale", scale, DType::float32);
  check_scalar("unscale", "the flag", found, DType::int32);
  x.backend().scaler->unscale(x.stream(), x.view, scale.view, found.view);
}

void copy_if(const Tensor& out, const Tensor& x, const Tensor& found) {
  check_same_device("copyIf", out, x);
  check_same_device("copyIf", out, found);
  check_scalar("copyIf", "the flag", found, DType::int32);
  if (out.dtype() != x.dtype() || out.shape() != x.shape() || !out.contiguous() ||
      !x.contiguous()) {
    fail("copyIf: both must be contiguous and alike, got %s%s and %s%s", dtype_name(out.dtype()),
         shape_text(out.view).c_str(), dtype_name(x.dtype()), shape_text(x.view).c_str());
  }
  out.backend().scaler->copy_if(out.stream(), out.view, x.view, found.view);
}

// Room for a copy of x that is made only where the flag is set.
Tensor backup_if(const Tensor& x, const Tensor& found) {
  Tensor out = empty_like(x, x.dtype(), "backup");
  copy_if(out, x, found);
  return out;
}

}  // namespace nodegrad::ops
