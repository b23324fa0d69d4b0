#include "core/error.h"
#include "ops/layout.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

View with_kept_axes(const View& out, const View& x, int64_t axes) {
  View kept = out;
  kept.rank = x.rank;
  int64_t stride = 1;
  for (int i = x.rank - 1; i >= 0; --i) {
    kept.shape[i] = axes >> i & 1 ? 1 : x.shape[i];
    kept.strides[i] = stride;
    stride *= kept.shape[i];
  }
  return kept;
}

Tensor make_output(const char* name, const Tensor& x, int64_t axes, bool keepdim, DType dtype) {
  int64_t shape[kMaxRank];
  int rank = 0;
  for (int i = 0; i < x.rank(); ++i) {
    if (!(axes >> i & 1)) {
      shape[rank++] = x.size(i);
    } else if (keepdim) {
      shape[rank++] = 1;
    }
  }
  return empty(x.device(), shape, rank, dtype, name);
}

Tensor reduce(ReduceOp op, const char* name, const Tensor& x, int64_t axes, bool keepdim) {
  if (axes < 0 || axes >> x.rank() != 0) {
    fail("%s: axes must be in [0,%d)", name, x.rank());
  }
  DType dtype = x.dtype();
  if (op == ReduceOp::mean && !is_float(dtype)) {
    fail("mean: needs a floating dtype, got %s", dtype_name(dtype));
  }
  if ((op == ReduceOp::sum || op == ReduceOp::prod) && !is_float(dtype)) dtype = DType::int64;
  if (op == ReduceOp::max || op == ReduceOp::min) {
    for (int i = 0; i < x.rank(); ++i) {
      if ((axes >> i & 1) && x.size(i) == 0) {
        fail("%s: needs at least one element, got shape %s", name, shape_text(x.view).c_str());
      }
    }
  }
  Tensor out = make_output(name, x, axes, keepdim, dtype);
  const View kept = with_kept_axes(out.view, x.view, axes);
  const bool last = x.channels_last() && is_contiguous(channels_to_end(kept));
  x.backend().reduce->reduce(x.stream(), op, in_order(x.view, last), in_order(kept, last));
  return out;
}

Tensor arg_reduce(ArgReduceOp op, const char* name, const Tensor& x, int64_t axis_index,
                  bool keepdim) {
  if (x.rank() == 0) {
    return reshape(arg_reduce(op, name, reshape(x, {1}), axis_index, false), {});
  }
  const int axis = normal_axis(name, axis_index, x.rank());
  if (x.dtype() == DType::boolean) fail("%s: needs a numeric dtype, got bool", name);
  if (x.size(axis) == 0) {
    fail("%s: needs at least one element, got shape %s", name, shape_text(x.view).c_str());
  }
  const int64_t axes = int64_t{1} << axis;
  Tensor out = make_output(name, x, axes, keepdim, DType::int64);
  x.backend().reduce->arg_reduce(x.stream(), op, x.view, axis,
                                 with_kept_axes(out.view, x.view, axes));
  return out;
}

}  // namespace

Tensor sum(const Tensor& x, int64_t axes, bool keepdim) {
  return reduce(ReduceOp::sum, "sum", x, axes, keepdim);
}
Tensor mean(const Tensor& x, int64_t axes, bool keepdim) {
  return reduce(ReduceOp::mean, "mean", x, axes, keepdim);
}
Tensor max(const Tensor& x, int64_t axes, bool keepdim) {
  return reduce(ReduceOp::max, "max", x, axes, keepdim);
}
Tensor min(const Tensor& x, int64_t axes, bool keepdim) {
  return reduce(ReduceOp::min, "min", x, axes, keepdim);
}
Tensor prod(const Tensor& x, int64_t axes, bool keepdim) {
  return reduce(ReduceOp::prod, "prod", x, axes, keepdim);
}
Tensor argmax(const Tensor& x, int64_t axis, bool keepdim) {
  return arg_reduce(ArgReduceOp::argmax, "argmax", x, axis, keepdim);
}
Tensor argmin(const Tensor& x, int64_t axis, bool keepdim) {
  return arg_reduce(ArgReduceOp::argmin, "argmin", x, axis, keepdim);
}

void sum_into(const Tensor& out, const Tensor& x) {
  check_same_device("sum", out, x);
  const View target = broadcast_view(out.view, x.view.shape, x.rank());
  if (target.rank < 0 || !out.contiguous() || out.dtype() != x.dtype() || !is_float(x.dtype())) {
    fail("sum: %s%s does not sum to %s%s", dtype_name(x.dtype()), shape_text(x.view).c_str(),
         dtype_name(out.dtype()), shape_text(out.view).c_str());
  }
  int64_t axes = 0;
  const int lead = x.rank() - out.rank();
  for (int i = 0; i < x.rank(); ++i) {
    if (i < lead || (out.size(i - lead) == 1 && x.size(i) != 1)) axes |= int64_t{1} << i;
  }
  x.backend().reduce->reduce(x.stream(), ReduceOp::sum, x.view,
                             with_kept_axes(out.view, x.view, axes));
}

}  // namespace nodegrad::ops
