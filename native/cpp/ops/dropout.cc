#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

std::tuple<Tensor, Tensor> dropout(const Tensor& input, const Tensor& state, double p) {
  if (!is_float(input.dtype())) {
    fail("dropout: needs a floating dtype, got %s", dtype_name(input.dtype()));
  }
  if (!(p >= 0 && p <= 1)) fail("dropout: p must be in [0,1], got %g", p);
  check_same_device("dropout", input, state);
  if (state.dtype() != DType::int64 || state.elements() != 2 || !state.contiguous()) {
    fail("dropout: the generator's state must be int64[2]");
  }
  const Tensor x = contiguous(input);
  Tensor y = empty_like(x, x.dtype(), "dropout");
  Tensor mask = empty_like(x, DType::uint8, "dropout");
  const double scale = p < 1 ? 1 / (1 - p) : 0;
  x.backend().dropout->forward(x.stream(), x.view, state.view, 1 - p, scale, y.view, mask.view);
  x.backend().random->advance(x.stream(), state.view, (x.elements() + 3) / 4);
  return {y, mask};
}

Tensor dropout_backward(const Tensor& mask, const Tensor& gradient, double p) {
  check_same_device("dropout", mask, gradient);
  if (gradient.shape() != mask.shape() || !is_float(gradient.dtype()) ||
      mask.dtype() != DType::uint8 || !mask.contiguous()) {
    fail("dropout: the gradient must be %s, got %s%s", shape_text(mask.view).c_str(),
         dtype_name(gradient.dtype()), shape_text(gradient.view).c_str());
  }
  const Tensor dy = contiguous(gradient);
  Tensor dx = empty_like(dy, dy.dtype(), "dropout");
  const double scale = p < 1 ? 1 / (1 - p) : 0;
  dy.backend().dropout->backward(dy.stream(), mask.view, dy.view, scale, dx.view);
  return dx;
}

}  // namespace nodegrad::ops
