#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

void check_state(const char* op, Device& device, const Tensor& state) {
  if (state.dtype() != DType::int64 || state.elements() != 2 || &state.device() != &device) {
    fail("%s: the generator's state must be int64[2] on %s", op, device.name().c_str());
  }
}

// Moves the generator on by what `numbers` numbers of `words` words each took.
void advance(Device& device, const Tensor& state, int64_t numbers, int64_t words) {
  const int64_t counters = (numbers * words + 3) / 4;
  device.backend().random->advance(device.stream(), state.view, counters);
}

void check_floating(const char* op, DType dtype) {
  if (!is_float(dtype)) fail("%s: needs a floating dtype, got %s", op, dtype_name(dtype));
}

}  // namespace

Tensor randperm(Device& device, int64_t count, const Tensor& state) {
  check_state("randperm", device, state);
  Tensor out = empty(device, {count}, DType::int64, "randperm");
  device.backend().sample->permutation(device.stream(), state.view, out.view);
  advance(device, state, count, 2);
  return out;
}

Tensor multinomial(const Tensor& input, int64_t samples, bool replacement, const Tensor& state) {
  Device& device = input.device();
  check_floating("multinomial", input.dtype());
  check_state("multinomial", device, state);
  const int rank = input.rank();
  if (rank < 1 || rank > 2 || input.size(rank - 1) == 0) {
    fail("multinomial: weights must be [C] or [R,C] with C of 1 or more, got %s",
         shape_text(input.view).c_str());
  }
  const int64_t classes = input.size(rank - 1), rows = rank == 2 ? input.size(0) : 1;
  if (samples < 1 || (!replacement && samples > classes)) {
    fail("multinomial: samples must be 1 or more, and at most %lld without replacement, got %lld",
         (long long)classes, (long long)samples);
  }
  const Tensor weights = reshape(contiguous(as_dtype(input, DType::float64)), {rows, classes});
  Tensor out = empty(device, {rows, samples}, DType::int64, "multinomial");
  device.backend().sample->multinomial(device.stream(), weights.view, state.view, replacement,
                                       out.view);
  advance(device, state, rows * (replacement ? samples : classes), 2);
  return rank == 2 ? out : reshape(out, {samples});
}

Tensor bernoulli_each(const Tensor& input, const Tensor& state, DType dtype) {
  Device& device = input.device();
  check_floating("bernoulli", input.dtype());
  check_state("bernoulli", device, state);
  const Tensor probability = contiguous(as_dtype(input, DType::float64));
  Tensor out = empty_like(probability, dtype, "bernoulli");
  device.backend().sample->bernoulli(device.stream(), probability.view, state.view, out.view);
  advance(device, state, out.elements(), 1);
  return out;
}

Tensor truncated_normal(Device& device, const Shape& shape, DType dtype, const Tensor& state,
                        double mean, double std, double low, double high) {
  check_floating("truncatedNormal", dtype);
  check_state("truncatedNormal", device, state);
  Tensor out = empty(device, shape, dtype, "truncatedNormal");
  device.backend().sample->truncated_normal(device.stream(), state.view, mean, std, low, high,
                                            out.view);
  advance(device, state, out.elements(), 1);
  return out;
}

}  // namespace nodegrad::ops
