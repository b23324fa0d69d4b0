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

// Contiguous, or without axes where one element is the value of all.
Tensor one_or_contiguous(const Tensor& x) {
  bool single = x.elements() > 0;
  for (int i = 0; i < x.rank(); ++i) {
    single = single && (x.size(i) == 1 || x.view.strides[i] == 0);
  }
  Tensor result = single ? x : contiguous(x);
  if (single) result.view.rank = 0;
  return result;
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
  const Tensor upstream = one_or_contiguous(dloss);
  Tensor d = empty_like(in.x, in.x.dtype(), op);
  in.x.backend().loss->backward(in.x.stream(), static_cast<LossKind>(kind), in.x.view,
                                in.target.view, in.factor_view(), parameter, upstream.view,
                                of_target, d.view);
  return d;
}

namespace {

constexpr const char* kNll = "nllLoss";

Reduction reduction_of(int64_t code) {
  if (code < 0 || code > 2) {
    fail("%s: the reduction must be in [0,3), got %lld", kNll, (long long)code);
  }
  return static_cast<Reduction>(code);
}

// [N,C,…] as [N,C,D]; [C] is one row.
View with_classes(const Shape& shape) {
  View v{};
  v.rank = 3;
  v.shape[0] = shape.size() > 1 ? shape[0] : 1;
  v.shape[1] = shape.size() > 1 ? shape[1] : shape[0];
  v.shape[2] = 1;
  for (size_t i = 2; i < shape.size(); ++i) v.shape[2] *= shape[i];
  v.strides[0] = v.shape[1] * v.shape[2];
  v.strides[1] = v.shape[2];
  v.strides[2] = 1;
  return v;
}

// The same of a tensor, which is copied where its trailing axes are not one.
Tensor with_classes(const Tensor& x) {
  bool merges = true;
  for (int i = 2; i + 1 < x.rank(); ++i) {
    merges = merges && x.view.strides[i] == x.view.strides[i + 1] * x.size(i + 1);
  }
  Tensor result = merges ? x : contiguous(x);
  View v = with_classes(x.shape());
  const View& own = result.view;
  v.data = own.data;
  v.dtype = own.dtype;
  v.strides[0] = own.rank > 1 ? own.strides[0] : 0;
  v.strides[1] = own.strides[own.rank > 1 ? 1 : 0];
  v.strides[2] = own.rank > 2 ? own.strides[own.rank - 1] : 0;
  result.view = v;
  return result;
}

// What a call is given beside x, checked; tensors that the kernels read are kept here.
struct Classes {
  Tensor target;
  std::optional<Tensor> weight;
  ClassTarget kernel;
};

Classes classes_of(const Shape& shape, DType dtype, const Tensor& target,
                   const std::optional<Tensor>& weight, int64_t ignore_index) {
  Shape rows = shape;
  if (!rows.empty()) rows.erase(rows.begin() + (rows.size() > 1 ? 1 : 0));
  if (shape.empty() || target.shape() != rows) {
    fail("%s: shapes must be [N,C,…] and [N,…], got %s and %s", kNll, shape_text(shape).c_str(),
         shape_text(target.view).c_str());
  }
  if (target.dtype() != DType::int64) {
    fail("%s: the target must be int64 class indices, got %s", kNll, dtype_name(target.dtype()));
  }
  const View v = with_classes(shape);
  Classes result{contiguous(target), std::nullopt, {}};
  result.kernel = {static_cast<const int64_t*>(result.target.view.data),
                   ignore_index,
                   View{},
                   v.shape[0],
                   v.shape[1],
                   v.shape[2]};
  result.kernel.weight.dtype = dtype;
  if (weight) {
    check_same_device(kNll, target, *weight);
    if (weight->dtype() != dtype || weight->rank() != 1 || weight->size(0) != v.shape[1]) {
      fail("%s: the weight must be %s[%lld], got %s%s", kNll, dtype_name(dtype),
           (long long)v.shape[1], dtype_name(weight->dtype()), shape_text(weight->view).c_str());
    }
    result.weight = contiguous(*weight);
    result.kernel.weight = result.weight->view;
  }
  return result;
}

}  // namespace

std::tuple<Tensor, std::optional<Tensor>> nll_loss(const Tensor& x, const Tensor& target,
                                                   const std::optional<Tensor>& weight,
                                                   int64_t ignore_index, int64_t code) {
  const Reduction reduction = reduction_of(code);
  if (!is_float(x.dtype())) {
    fail("%s: needs a floating dtype, got %s", kNll, dtype_name(x.dtype()));
  }
  check_same_device(kNll, x, target);
  const Classes classes = classes_of(x.shape(), x.dtype(), target, weight, ignore_index);
  const Tensor rows = with_classes(x);
  Tensor loss =
      empty(x.device(), reduction == Reduction::none ? target.shape() : Shape{}, x.dtype(), kNll);
  std::optional<Tensor> total;
  if (reduction == Reduction::mean) {
    const DType wide = x.dtype() == DType::float64 ? DType::float64 : DType::float32;
    total = empty(x.device(), Shape{}, wide, kNll);
  }
  x.backend().loss->nll(x.stream(), rows.view, classes.kernel, reduction, loss.view,
                        total ? total->view : View{});
  return {loss, total};
}

Tensor nll_loss_backward(const Shape& shape, const Tensor& target,
                         const std::optional<Tensor>& weight, int64_t ignore_index, int64_t code,
                         const std::optional<Tensor>& total, const Tensor& dloss) {
  const Reduction reduction = reduction_of(code);
  check_shape(kNll, shape.data(), static_cast<int>(shape.size()));
  check_same_device(kNll, dloss, target);
  const Classes classes = classes_of(shape, dloss.dtype(), target, weight, ignore_index);
  const Shape wanted = reduction == Reduction::none ? target.shape() : Shape{};
  if (dloss.shape() != wanted || !is_float(dloss.dtype())) {
    fail("%s: the gradient must be of %s, got %s%s", kNll, shape_text(wanted).c_str(),
         dtype_name(dloss.dtype()), shape_text(dloss.view).c_str());
  }
  const DType wide = dloss.dtype() == DType::float64 ? DType::float64 : DType::float32;
  if ((reduction == Reduction::mean) != total.has_value() ||
      (total && (total->dtype() != wide || total->elements() != 1))) {
    fail("%s: a mean, and nothing else, needs the weight of all rows", kNll);
  }
  if (total) check_same_device(kNll, dloss, *total);
  const Tensor upstream = one_or_contiguous(dloss);
  Tensor dx = empty(dloss.device(), shape, dloss.dtype(), kNll);
  dloss.backend().loss->nll_backward(dloss.stream(), classes.kernel, reduction,
                                     total ? total->view : View{}, upstream.view, dx.view);
  return dx;
}

}  // namespace nodegrad::ops
