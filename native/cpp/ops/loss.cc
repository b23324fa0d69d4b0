#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr const char* kNames[kLossKinds] = {"mseLoss",
                                            "l1Loss",
                                            "smoothL1Loss",
                                            "huberLoss",
                                            "binaryCrossEntropy",
                                            "binaryCrossEntropyWithLogits"};

const char* name_of(int64_t kind) {
  if (kind < 0 || kind >= kLossKinds) {
    fail("pointwiseLoss: the kind must be in [0,%d), got %lld", kLossKinds, (long long)kind);
  }
  return kNames[kind];
}

struct Operands {
  Tensor x, target;
  std::optional<Tensor> factor;

  // No data: 1 throughout.
  View factor_view() const {
    View view = factor ? factor->view : View{};
    if (!factor) view.dtype = x.dtype();
    if (!factor || factor->elements() == 1) view.rank = 0;
    return view;
  }
};

// One floating dtype for all, contiguous; the factor stretched to x's shape unless it is one
// element.
Operands operands(const char* op, const Tensor& x, const Tensor& target,
                  const std::optional<Tensor>& factor) {
  check_same_device(op, x, target);
  if (target.shape() != x.shape()) {
    fail("%s: shapes must be equal, got %s and %s", op, shape_text(x.view).c_str(),
         shape_text(target.view).c_str());
  }
  DType dtype = promote(x.dtype(), target.dtype());
  if (!is_float(dtype)) fail("%s: needs a floating dtype, got %s", op, dtype_name(dtype));
  std::optional<Tensor> f;
  if (factor) {
    check_same_device(op, x, *factor);
    const Tensor cast = as_dtype(*factor, dtype);
    f = contiguous(cast.elements() == 1 ? cast : expand(cast, x.shape()));
  }
  return {contiguous(as_dtype(x, dtype)), contiguous(as_dtype(target, dtype)), f};
}

}  // namespace

Tensor pointwise_loss(int64_t kind, const Tensor& input, const Tensor& target,
                      const std::optional<Tensor>& factor, double parameter) {
  const char* const op = name_of(kind);
  const Operands in = operands(op, input, target, factor);
  Tensor loss = empty_like(in.x, in.x.dtype(), op);
  in.x.backend().loss->forward(in.x.stream(), static_cast<LossKind>(kind), in.x.view,
                               in.target.view, in.factor_view(), parameter, loss.view);
  return loss;
}

Tensor pointwise_loss_backward(int64_t kind, const Tensor& input, const Tensor& target,
                               const std::optional<Tensor>& factor, double parameter,
                               const Tensor& dloss, bool of_target) {
  const char* const op = name_of(kind);
  const Operands in = operands(op, input, target, factor);
  if (dloss.shape() != in.x.shape() || dloss.dtype() != in.x.dtype()) {
    fail("%s: the gradient must be %s%s, got %s%s", op, dtype_name(in.x.dtype()),
         shape_text(in.x.view).c_str(), dtype_name(dloss.dtype()), shape_text(dloss.view).c_str());
  }
  check_same_device(op, in.x, dloss);
  bool single = dloss.elements() > 0;
  for (int i = 0; i < dloss.rank(); ++i) {
    single = single && (dloss.size(i) == 1 || dloss.view.strides[i] == 0);
  }
  Tensor upstream = single ? dloss : contiguous(dloss);
  View view = upstream.view;
  if (single) view.rank = 0;
  Tensor d = empty_like(in.x, in.x.dtype(), op);
  in.x.backend().loss->backward(in.x.stream(), static_cast<LossKind>(kind), in.x.view,
                                in.target.view, in.factor_view(), parameter, view, of_target,
                                d.view);
  return d;
}

}  // namespace nodegrad::ops
