#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

using Draw = void (*)(Stream&, const View&, const View&, double, double);

void check_state(const char* op, Device& device, const Tensor& state) {
  if (state.dtype() != DType::int64 || state.elements() != 2 || &state.device() != &device) {
    fail("%s: the generator's state must be int64[2] on %s", op, device.name().c_str());
  }
}

Tensor draw(const char* op, Device& device, const Shape& shape, DType dtype, const Tensor& state,
            Draw kernel, double a, double b) {
  if (!is_float(dtype)) fail("%s: needs a floating dtype, got %s", op, dtype_name(dtype));
  check_state(op, device, state);
  Tensor out = empty(device, shape, dtype, op);
  kernel(device.stream(), out.view, state.view, a, b);
  device.backend().random->advance(device.stream(), state.view, (out.elements() + 3) / 4);
  return out;
}

}  // namespace

Tensor uniform(Device& device, const Shape& shape, DType dtype, const Tensor& state, double low,
               double high) {
  return draw("uniform", device, shape, dtype, state, device.backend().random->uniform, low, high);
}

Tensor normal(Device& device, const Shape& shape, DType dtype, const Tensor& state, double mean,
              double std) {
  return draw("normal", device, shape, dtype, state, device.backend().random->normal, mean, std);
}

Tensor bernoulli(Device& device, const Shape& shape, DType dtype, const Tensor& state,
                 double probability) {
  if (!(probability >= 0 && probability <= 1)) {
    fail("bernoulli: probability must be in [0,1], got %g", probability);
  }
  check_state("bernoulli", device, state);
  Tensor out = empty(device, shape, dtype, "bernoulli");
  const RandomFamily& random = *device.backend().random;
  random.bernoulli(device.stream(), out.view, state.view, probability);
  random.advance(device.stream(), state.view, (out.elements() + 3) / 4);
  return out;
}

}  // namespace nodegrad::ops
