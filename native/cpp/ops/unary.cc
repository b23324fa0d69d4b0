#include "core/error.h"
#include "ops/layout.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

Tensor run(UnaryOp op, const char* name, const Tensor& x, DType out_dtype) {
  const bool last = x.channels_last();
  Tensor out = empty_beside(x, out_dtype, name);
  x.backend().unary->forward(x.stream(), op, in_order(x.view, last), in_order(out.view, last));
  return out;
}

}  // namespace

Tensor unary(UnaryOp op, const char* name, bool floating, const Tensor& x) {
  const bool rounds =
      op == UnaryOp::floor || op == UnaryOp::ceil || op == UnaryOp::round || op == UnaryOp::trunc;
  if (x.dtype() == DType::boolean && (rounds || !floating)) {
    fail("%s: needs a numeric dtype, got bool", name);
  }
  if (rounds && !is_float(x.dtype())) return clone(x);
  if (op == UnaryOp::hardtanh && x.dtype() == DType::uint8) {
    fail("hardtanh: needs a dtype that holds -1, got uint8");
  }
  if (floating && !is_float(x.dtype()))
    return run(op, name, cast(x, DType::float32), DType::float32);
  return run(op, name, x, x.dtype());
}

Tensor unary_backward(UnaryOp op, const char* name, const Tensor& saved, const Tensor& dout) {
  check_same_device(name, saved, dout);
  const View gradient = broadcast_view(dout.view, saved.view.shape, saved.rank());
  if (gradient.rank < 0 || dout.dtype() != saved.dtype() || !is_float(dout.dtype())) {
    fail("%s: the gradient must be %s%s, got %s%s", name, dtype_name(saved.dtype()),
         shape_text(saved.view).c_str(), dtype_name(dout.dtype()), shape_text(dout.view).c_str());
  }
  const bool last = saved.channels_last();
  Tensor dx = empty_beside(saved, saved.dtype(), name);
  saved.backend().unary->backward(saved.stream(), op, in_order(saved.view, last),
                                  in_order(gradient, last), in_order(dx.view, last));
  return dx;
}

Tensor unary_predicate(UnaryOp op, const char* name, const Tensor& x) {
  return run(op, name, x, DType::boolean);
}

}  // namespace nodegrad::ops
