#include "core/error.h"
#include "ops/layout.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

DType wide_of(DType dtype) { return dtype == DType::float64 ? dtype : DType::float32; }

void check_input(const char* op, const Tensor& x) {
  if (!is_float(x.dtype())) fail("%s: needs a floating dtype, got %s", op, dtype_name(x.dtype()));
}

// Weight or bias as kernels take it: contiguous, in the type of arithmetic.
std::optional<Tensor> parameter_of(const char* op, const char* name, const Tensor& x,
                                   const std::optional<Tensor>& given, int64_t size) {
  if (!given) return std::nullopt;
  check_same_device(op, x, *given);
  const DType wide = wide_of(x.dtype());
  if (given->elements() != size || (given->dtype() != x.dtype() && given->dtype() != wide)) {
    fail("%s: the %s must be %s of %lld elements, got %s%s", op, name, dtype_name(x.dtype()),
         (long long)size, dtype_name(given->dtype()), shape_text(given->view).c_str());
  }
  return contiguous(as_dtype(*given, wide));
}

const View* view_of(const std::optional<Tensor>& x) { return x ? &x->view : nullptr; }

// The last `axes` axes as one row each: x as [rows, channels, 1].
NormShape trailing_shape(const Tensor& x, int64_t axes) {
  NormShape shape = {1, 1, 1, 1};
  for (int i = 0; i < x.rank(); ++i) {
    (i < x.rank() - axes ? shape.samples : shape.channels) *= x.size(i);
  }
  return shape;
}

NormShape channel_shape(const char* op, const Tensor& x, int64_t groups,
                        bool channels_last = false) {
  if (x.rank() < 2) fail("%s: needs [N,C,...], got %s", op, shape_text(x.view).c_str());
  NormShape shape = {x.size(0), x.size(1), 1, groups};
  for (int i = 2; i < x.rank(); ++i) (channels_last ? shape.samples : shape.inner) *= x.size(i);
  if (groups < 1 || shape.channels % groups != 0) {
    fail("%s: the groups must divide the channels, got %lld groups of %lld channels", op,
         (long long)groups, (long long)shape.channels);
  }
  return shape;
}

std::tuple<Tensor, Tensor, Tensor> normalize_rows(const char* op, const NormShape& shape,
                                                  const Tensor& input,
                                                  const std::optional<Tensor>& weight,
                                                  const std::optional<Tensor>& bias, double eps,
                                                  bool centered) {
  const Tensor x = contiguous(input);
  const auto w = parameter_of(op, "weight", x, weight, shape.channels);
  const auto b = parameter_of(op, "bias", x, bias, shape.channels);
  const DType wide = wide_of(x.dtype());
  const Shape rows = {shape.samples * shape.groups};
  Tensor y = empty_like(x, x.dtype(), op);
  Tensor rstd = empty(x.device(), rows, wide, op);
  Tensor mean = centered ? empty(x.device(), rows, wide, op) : rstd;
  x.backend().norm->rows(x.stream(), shape, x.view, view_of(w), view_of(b), eps, y.view,
                         centered ? &mean.view : nullptr, rstd.view);
  return {y, mean, rstd};
}

void check_backward(const char* op, const Tensor& x, const Tensor& dy, const Tensor& mean,
                    const Tensor& rstd, int64_t statistics) {
  check_input(op, x);
  check_same_device(op, x, dy);
  check_same_device(op, x, mean);
  check_same_device(op, x, rstd);
  if (dy.shape() != x.shape() || dy.dtype() != x.dtype()) {
    fail("%s: the gradient must be %s%s, got %s%s", op, dtype_name(x.dtype()),
         shape_text(x.view).c_str(), dtype_name(dy.dtype()), shape_text(dy.view).c_str());
  }
  for (const Tensor* t : {&mean, &rstd}) {
    if (t->elements() != statistics || t->dtype() != wide_of(x.dtype()) || !t->contiguous()) {
      fail("%s: the statistics must be %s of %lld elements", op, dtype_name(wide_of(x.dtype())),
           (long long)statistics);
    }
  }
}

// dx, dweight and dbias, those that are wanted.
NormGradients rows_backward(const char* op, const NormShape& shape, const Tensor& input,
                            const std::optional<Tensor>& weight, const Tensor& mean,
                            const Tensor& rstd, const Tensor& gradient, bool centered, bool needs_x,
                            bool needs_weight, bool needs_bias) {
  check_backward(op, input, gradient, mean, rstd, shape.samples * shape.groups);
  const Tensor x = contiguous(input), dy = contiguous(gradient);
  const auto w = parameter_of(op, "weight", x, weight, shape.channels);
  const DType wide = wide_of(x.dtype());
  std::optional<Tensor> dx, dweight, dbias;
  if (needs_x) dx = empty_like(x, x.dtype(), op);
  if (needs_weight) dweight = empty(x.device(), {shape.channels}, wide, op);
  if (needs_bias) dbias = empty(x.device(), {shape.channels}, wide, op);
  x.backend().norm->rows_backward(x.stream(), shape, x.view, view_of(w),
                                  centered ? &mean.view : nullptr, rstd.view, dy.view, view_of(dx),
                                  view_of(dweight), view_of(dbias));
  return {dx, dweight, dbias};
}

void check_axes(const char* op, const Tensor& x, int64_t axes) {
  if (axes < 1 || axes > x.rank()) {
    fail("%s: needs a tensor of rank %lld or more, got %s", op, (long long)(axes < 1 ? 1 : axes),
         shape_text(x.view).c_str());
  }
}

void check_running(const Tensor& x, const Tensor& kept, int64_t channels) {
  check_same_device("batchNorm", x, kept);
  if (kept.elements() != channels || kept.dtype() != wide_of(x.dtype()) || !kept.contiguous()) {
    fail("batchNorm: running statistics must be %s[%lld], got %s%s", dtype_name(wide_of(x.dtype())),
         (long long)channels, dtype_name(kept.dtype()), shape_text(kept.view).c_str());
  }
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm(const Tensor& x, int64_t axes,
                                              const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias, double eps) {
  check_input("layerNorm", x);
  check_axes("layerNorm", x, axes);
  return normalize_rows("layerNorm", trailing_shape(x, axes), x, weight, bias, eps, true);
}

NormGradients layer_norm_backward(const Tensor& x, int64_t axes,
                                  const std::optional<Tensor>& weight, const Tensor& mean,
                                  const Tensor& rstd, const Tensor& dy, bool needs_x,
                                  bool needs_weight, bool needs_bias) {
  check_axes("layerNorm", x, axes);
  return rows_backward("layerNorm", trailing_shape(x, axes), x, weight, mean, rstd, dy, true,
                       needs_x, needs_weight, needs_bias);
}

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, int64_t axes,
                                    const std::optional<Tensor>& weight, double eps) {
  check_input("rmsNorm", x);
  check_axes("rmsNorm", x, axes);
  auto [y, mean, rstd] =
      normalize_rows("rmsNorm", trailing_shape(x, axes), x, weight, std::nullopt, eps, false);
  return {y, rstd};
}

NormGradients rms_norm_backward(const Tensor& x, int64_t axes, const std::optional<Tensor>& weight,
                                const Tensor& rstd, const Tensor& dy, bool needs_x,
                                bool needs_weight) {
  check_axes("rmsNorm", x, axes);
  return rows_backward("rmsNorm", trailing_shape(x, axes), x, weight, rstd, rstd, dy, false,
                       needs_x, needs_weight, false);
}

std::tuple<Tensor, Tensor, Tensor> group_norm(const Tensor& x, int64_t groups,
                                              const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias, double eps) {
  check_input("groupNorm", x);
  return normalize_rows("groupNorm", channel_shape("groupNorm", x, groups), x, weight, bias, eps,
                        true);
}

NormGradients group_norm_backward(const Tensor& x, int64_t groups,
                                  const std::optional<Tensor>& weight, const Tensor& mean,
                                  const Tensor& rstd, const Tensor& dy, bool needs_x,
                                  bool needs_weight, bool needs_bias) {
  return rows_backward("groupNorm", channel_shape("groupNorm", x, groups), x, weight, mean, rstd,
                       dy, true, needs_x, needs_weight, needs_bias);
}

std::tuple<Tensor, Tensor, Tensor> batch_norm(
    const Tensor& input, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& running_mean, const std::optional<Tensor>& running_variance,
    const std::optional<Tensor>& batches, double momentum, double eps, bool training) {
  const char* op = "batchNorm";
  check_input(op, input);
  const bool last = input.channels_last();
  const NormShape shape = channel_shape(op, input, 1, last);
  const Tensor x = ordered(input, last);
  const auto w = parameter_of(op, "weight", x, weight, shape.channels);
  const auto b = parameter_of(op, "bias", x, bias, shape.channels);
  if (running_mean.has_value() != running_variance.has_value()) {
    fail("batchNorm: running mean and variance go together, got one of them");
  }
  if (!training && !running_mean) fail("batchNorm: evaluation needs running statistics, got none");
  if (training && shape.samples * shape.inner == 1) {
    fail("batchNorm: training needs more than one value per channel, got %s",
         shape_text(x.view).c_str());
  }
  if (running_mean) {
    check_running(x, *running_mean, shape.channels);
    check_running(x, *running_variance, shape.channels);
  }
  if (batches) {
    check_same_device(op, x, *batches);
    if (batches->dtype() != DType::int64 || batches->elements() != 1) {
      fail("batchNorm: the number of batches must be int64 of one element, got %s%s",
           dtype_name(batches->dtype()), shape_text(batches->view).c_str());
    }
  }
  if (training && running_mean && momentum < 0 && !batches) {
    fail("batchNorm: a mean of all batches needs their number, got none");
  }
  const DType wide = wide_of(x.dtype());
  Tensor y = empty_beside(x, x.dtype(), op);
  const View from = in_order(x.view, last), to = in_order(y.view, last);
  Tensor mean = empty(x.device(), {shape.channels}, wide, op);
  Tensor rstd = empty(x.device(), {shape.channels}, wide, op);
  const NormFamily& norm = *x.backend().norm;
  if (training) {
    const RunningStatistics kept = {view_of(running_mean), view_of(running_variance),
                                    view_of(batches), momentum};
    norm.batch_statistics(x.stream(), shape, from, eps, mean.view, rstd.view, kept);
  } else {
    norm.running_statistics(x.stream(), running_mean->view, running_variance->view, eps, mean.view,
                            rstd.view);
  }
  norm.batch(x.stream(), shape, from, view_of(w), view_of(b), mean.view, rstd.view, to);
  return {y, mean, rstd};
}

NormGradients batch_norm_backward(const Tensor& input, const std::optional<Tensor>& weight,
                                  const Tensor& mean, const Tensor& rstd, const Tensor& gradient,
                                  bool training, bool needs_x, bool needs_weight, bool needs_bias) {
  const char* op = "batchNorm";
  const bool last = input.channels_last();
  const NormShape shape = channel_shape(op, input, 1, last);
  check_backward(op, input, gradient, mean, rstd, shape.channels);
  const Tensor x = ordered(input, last), dy = ordered(gradient, last);
  const auto w = parameter_of(op, "weight", x, weight, shape.channels);
  const DType wide = wide_of(x.dtype());
  std::optional<Tensor> dx;
  if (needs_x) dx = empty_beside(x, x.dtype(), op);
  const View whole = dx ? in_order(dx->view, last) : View{};
  Tensor dweight = empty(x.device(), {shape.channels}, wide, op);
  Tensor dbias = empty(x.device(), {shape.channels}, wide, op);
  x.backend().norm->batch_backward(x.stream(), shape, in_order(x.view, last), view_of(w), mean.view,
                                   rstd.view, in_order(dy.view, last), !training,
                                   dx ? &whole : nullptr, dweight.view, dbias.view);
  return {dx, needs_weight ? std::optional(dweight) : std::nullopt,
          needs_bias ? std::optional(dbias) : std::nullopt};
}

}  // namespace nodegrad::ops
