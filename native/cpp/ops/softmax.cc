#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// The tensor as rows over its last axis.
View rows(const Tensor& x) {
  View v = x.view;
  const int64_t columns = x.rank() == 0 ? 1 : x.size(x.rank() - 1);
  int64_t count = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) count *= x.size(i);
  v.rank = 2;
  v.shape[0] = count;
  v.shape[1] = columns;
  v.strides[0] = columns;
  v.strides[1] = 1;
  return v;
}

void check_floating(const char* op, const Tensor& x) {
  if (!is_float(x.dtype())) fail("%s: needs a floating dtype, got %s", op, dtype_name(x.dtype()));
}

void check_cross_entropy(const Tensor& logits, const Tensor& target) {
  check_floating("crossEntropy", logits);
  check_same_device("crossEntropy", logits, target);
  if (target.dtype() != DType::int64) {
    fail("crossEntropy: the target must be int64 class indices, got %s",
         dtype_name(target.dtype()));
  }
  if (logits.rank() != 2 || target.rank() != 1 || logits.size(0) != target.size(0)) {
    fail("crossEntropy: shapes must be [N,C] and [N], got %s and %s",
         shape_text(logits.view).c_str(), shape_text(target.view).c_str());
  }
  if (logits.size(1) == 0) fail("crossEntropy: needs at least one class, got none");
}

}  // namespace

Tensor softmax(const Tensor& input, bool logarithm) {
  const char* name = logarithm ? "logSoftmax" : "softmax";
  check_floating(name, input);
  const Tensor x = contiguous(input);
  Tensor y = empty_like(x, x.dtype(), name);
  x.backend().softmax->softmax(x.stream(), rows(x), rows(y), logarithm);
  return y;
}

Tensor softmax_backward(const Tensor& output, const Tensor& gradient, bool logarithm) {
  const char* name = logarithm ? "logSoftmax" : "softmax";
  check_floating(name, output);
  check_same_device(name, output, gradient);
  if (gradient.shape() != output.shape() || gradient.dtype() != output.dtype()) {
    fail("%s: the gradient must be %s%s, got %s%s", name, dtype_name(output.dtype()),
         shape_text(output.view).c_str(), dtype_name(gradient.dtype()),
         shape_text(gradient.view).c_str());
  }
  const Tensor y = contiguous(output), dy = contiguous(gradient);
  Tensor dx = empty_like(y, y.dtype(), name);
  y.backend().softmax->softmax_backward(y.stream(), rows(y), rows(dy), rows(dx), logarithm);
  return dx;
}

std::tuple<Tensor, Tensor> cross_entropy(const Tensor& input, const Tensor& classes,
                                         int64_t ignore_index) {
  check_cross_entropy(input, classes);
  const Tensor x = contiguous(input), target = contiguous(classes);
  const DType wide = x.dtype() == DType::float64 ? DType::float64 : DType::float32;
  Tensor loss = empty(x.device(), {x.size(0)}, x.dtype(), "crossEntropy");
  Tensor lse = empty(x.device(), {x.size(0)}, wide, "crossEntropy");
  x.backend().softmax->cross_entropy(x.stream(), x.view, target.view, ignore_index, loss.view,
                                     lse.view);
  return {loss, lse};
}

namespace {

// Where the gradient of logits x goes: over x itself, if nobody reads x again. That is so of a copy
// made here, and of `input` where the caller says so and no other tensor lies in its memory.
Tensor gradient_place(const Tensor& x, const Tensor& input, bool spare) {
  const bool copied = x.storage.get() != input.storage.get();
  const Storage& memory = *input.storage;
  const bool alone = spare && memory.references() == 2 && !memory.borrowed();  // input and x
  return copied || alone ? x : empty_like(x, x.dtype(), "crossEntropy");
}

}  // namespace

Tensor cross_entropy_backward(const Tensor& input, const Tensor& classes, const Tensor& lse,
                              const Tensor& dloss, int64_t ignore_index, bool spare) {
  check_cross_entropy(input, classes);
  if (dloss.rank() != 1 || dloss.size(0) != input.size(0) || dloss.dtype() != input.dtype() ||
      lse.rank() != 1 || lse.size(0) != input.size(0)) {
    fail("crossEntropy: the gradient must be %s[%lld], got %s%s", dtype_name(input.dtype()),
         (long long)input.size(0), dtype_name(dloss.dtype()), shape_text(dloss.view).c_str());
  }
  const Tensor x = contiguous(input), target = contiguous(classes);
  Tensor dx = gradient_place(x, input, spare);
  x.backend().softmax->cross_entropy_backward(x.stream(), x.view, target.view, ignore_index,
                                              lse.view, dloss.view, dx.view);
  return dx;
}

namespace {

// Checks the arguments and gathers them; x, target and weight must outlive the result.
SoftTarget soft_target(const Tensor& x, const Tensor& target, const std::optional<Tensor>& weight,
                       double smoothing, int64_t ignore_index) {
  constexpr const char* op = "crossEntropy";
  if (target.dtype() == DType::int64) {
    check_cross_entropy(x, target);
  } else {
    check_floating(op, x);
    check_same_device(op, x, target);
    if (x.rank() != 2 || target.shape() != x.shape() || target.dtype() != x.dtype()) {
      fail("%s: probabilities must be %s%s as the logits, got %s%s", op, dtype_name(x.dtype()),
           shape_text(x.view).c_str(), dtype_name(target.dtype()), shape_text(target.view).c_str());
    }
    if (x.size(1) == 0) fail("%s: needs at least one class, got none", op);
  }
  if (weight) {
    check_same_device(op, x, *weight);
    if (weight->dtype() != x.dtype() || weight->rank() != 1 || weight->size(0) != x.size(1)) {
      fail("%s: the weight must be %s[%lld], got %s%s", op, dtype_name(x.dtype()),
           (long long)x.size(1), dtype_name(weight->dtype()), shape_text(weight->view).c_str());
    }
  }
  if (!(smoothing >= 0 && smoothing <= 1)) {
    fail("%s: labelSmoothing must be in [0,1], got %g", op, smoothing);
  }
  View none{};
  none.data = nullptr;
  return {target.view, weight ? weight->view : none, smoothing, ignore_index};
}

std::optional<Tensor> contiguous_if(const std::optional<Tensor>& x) {
  if (!x) return std::nullopt;
  return contiguous(*x);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> soft_cross_entropy(const Tensor& input, const Tensor& labels,
                                                      const std::optional<Tensor>& weights,
                                                      double smoothing, int64_t ignore_index) {
  const Tensor x = contiguous(input), target = contiguous(labels);
  const std::optional<Tensor> weight = contiguous_if(weights);
  const SoftTarget soft = soft_target(x, target, weight, smoothing, ignore_index);
  const DType wide = x.dtype() == DType::float64 ? DType::float64 : DType::float32;
  Tensor loss = empty(x.device(), {x.size(0)}, x.dtype(), "crossEntropy");
  Tensor lse = empty(x.device(), {x.size(0)}, wide, "crossEntropy");
  Tensor mass = empty(x.device(), {x.size(0)}, wide, "crossEntropy");
  x.backend().softmax->soft_cross_entropy(x.stream(), x.view, soft, loss.view, lse.view, mass.view);
  return {loss, lse, mass};
}

std::tuple<Tensor, Tensor> soft_cross_entropy_backward(const Tensor& input, const Tensor& labels,
                                                       const std::optional<Tensor>& weights,
                                                       double smoothing, int64_t ignore_index,
                                                       const Tensor& lse, const Tensor& mass,
                                                       const Tensor& dloss, bool target_gradient,
                                                       bool spare) {
  const Tensor x = contiguous(input), target = contiguous(labels);
  const std::optional<Tensor> weight = contiguous_if(weights);
  const SoftTarget soft = soft_target(x, target, weight, smoothing, ignore_index);
  for (const Tensor* kept : {&lse, &mass, &dloss}) {
    if (kept->rank() != 1 || kept->size(0) != x.size(0)) {
      fail("crossEntropy: the gradient must be [%lld], got %s", (long long)x.size(0),
           shape_text(kept->view).c_str());
    }
  }
  if (dloss.dtype() != x.dtype()) {
    fail("crossEntropy: the gradient must be %s, got %s", dtype_name(x.dtype()),
         dtype_name(dloss.dtype()));
  }
  // One element where no gradient of the target is wanted; where it is, it is computed from x, too.
  const bool both = target_gradient && target.dtype() != DType::int64;
  Tensor dx = both ? empty_like(x, x.dtype(), "crossEntropy") : gradient_place(x, input, spare);
  Tensor dt = both ? empty_like(x, x.dtype(), "crossEntropy")
                   : empty(x.device(), Shape{}, x.dtype(), "crossEntropy");
  View wanted = dt.view;
  if (!both) wanted.data = nullptr;
  x.backend().softmax->soft_cross_entropy_backward(x.stream(), x.view, soft, lse.view, mass.view,
                                                   dloss.view, dx.view, wanted);
  return {dx, dt};
}

}  // namespace nodegrad::ops
