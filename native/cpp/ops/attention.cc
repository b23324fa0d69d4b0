#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr const char* kName = "scaledDotProductAttention";
constexpr int64_t kMostWidth = 256;

// What decides the weights besides q and k.
struct AttentionInputs {
  const std::optional<Tensor>& mask;
  const std::optional<Tensor>& padding;
  const std::optional<Tensor>& lengths;
  const std::optional<Tensor>& state;
  bool causal;
  double scale, keep;
  int64_t precision;
};

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v) {
  check_same_device(kName, q, k);
  check_same_device(kName, q, v);
  if (!is_float(q.dtype()) || k.dtype() != q.dtype() || v.dtype() != q.dtype()) {
    fail("%s: q, k and v must have one floating dtype, got %s, %s and %s", kName,
         dtype_name(q.dtype()), dtype_name(k.dtype()), dtype_name(v.dtype()));
  }
  const bool fit = q.rank() == 4 && k.rank() == 4 && k.shape() == v.shape() &&
                   q.size(0) == k.size(0) && q.size(3) == k.size(3);
  if (!fit) {
    fail("%s: shapes must be [B,H,T,D], [B,Hkv,S,D] and [B,Hkv,S,D], got %s, %s and %s", kName,
         shape_text(q.view).c_str(), shape_text(k.view).c_str(), shape_text(v.view).c_str());
  }
  if (q.size(1) != 0 && (k.size(1) == 0 || q.size(1) % k.size(1) != 0)) {
    fail("%s: the heads of k must divide those of q, got %lld and %lld", kName,
         (long long)k.size(1), (long long)q.size(1));
  }
  if (q.size(3) > kMostWidth) {
    fail("%s: heads must be at most %lld wide, got %lld", kName, (long long)kMostWidth,
         (long long)q.size(3));
  }
}

// x itself where its rows lie in one piece.
Tensor with_rows(const Tensor& x) {
  return x.size(3) <= 1 || x.view.strides[3] == 1 ? x : contiguous(x);
}

// A tensor of x's shape, its axes in memory as x has them: heads may lie inside positions.
Tensor laid_like(const Tensor& x) {
  if (x.size(1) <= 1 || x.size(2) <= 1 || x.view.strides[1] >= x.view.strides[2]) {
    return empty_like(x, x.dtype(), kName);
  }
  const Tensor turned =
      empty(x.device(), {x.size(0), x.size(2), x.size(1), x.size(3)}, x.dtype(), kName);
  return permute(turned, {0, 2, 1, 3});
}

View absent() {
  View view = {};
  return view;
}

View check_mask(const Tensor& q, const Tensor& k, const std::optional<Tensor>& mask) {
  if (!mask) return absent();
  check_same_device(kName, q, *mask);
  if (mask->dtype() != DType::boolean && mask->dtype() != q.dtype()) {
    fail("%s: the mask must be bool or %s, got %s", kName, dtype_name(q.dtype()),
         dtype_name(mask->dtype()));
  }
  const int64_t shape[] = {q.size(0), q.size(1), q.size(2), k.size(2)};
  const View view = broadcast_view(mask->view, shape, 4);
  if (view.rank < 0) {
    fail("%s: the mask must broadcast to %s, got %s", kName,
         shape_text(Shape(shape, shape + 4)).c_str(), shape_text(mask->view).c_str());
  }
  return view;
}

View check_padding(const Tensor& k, const std::optional<Tensor>& padding) {
  if (!padding) return absent();
  check_same_device(kName, k, *padding);
  if (padding->dtype() != DType::boolean || padding->shape() != Shape{k.size(0), k.size(2)}) {
    fail("%s: the key padding must be bool[%lld,%lld], got %s%s", kName, (long long)k.size(0),
         (long long)k.size(2), dtype_name(padding->dtype()), shape_text(padding->view).c_str());
  }
  return padding->view;
}

View check_lengths(const Tensor& k, const std::optional<Tensor>& lengths) {
  if (!lengths) return absent();
  check_same_device(kName, k, *lengths);
  if (lengths->dtype() != DType::int32 || lengths->shape() != Shape{k.size(0)} ||
      !lengths->contiguous()) {
    fail("%s: lengths must be contiguous int32[%lld], got %s%s", kName, (long long)k.size(0),
         dtype_name(lengths->dtype()), shape_text(lengths->view).c_str());
  }
  return lengths->view;
}

View check_state(const Tensor& q, const std::optional<Tensor>& state) {
  if (!state) return absent();
  if (state->dtype() != DType::int64 || state->elements() != 2 || &state->device() != &q.device()) {
    fail("%s: the generator's state must be int64[2] on %s", kName, q.device().name().c_str());
  }
  return state->view;
}

AttentionArgs arguments(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionInputs& inputs) {
  check_shapes(q, k, v);
  if (!(inputs.keep >= 0 && inputs.keep <= 1)) {
    fail("%s: the share kept must be in [0,1], got %g", kName, inputs.keep);
  }
  AttentionArgs args;
  args.q = q.view;
  args.k = k.view;
  args.v = v.view;
  args.mask = check_mask(q, k, inputs.mask);
  args.padding = check_padding(k, inputs.padding);
  args.lengths = check_lengths(k, inputs.lengths);
  args.state = check_state(q, inputs.state);
  args.scale = inputs.scale;
  args.keep = inputs.keep;
  args.causal = inputs.causal;
  args.precision = static_cast<Precision>(inputs.precision);
  return args;
}

void check_saved(const Tensor& q, const Tensor& out, const Tensor& lse, const Tensor& dout) {
  check_same_device(kName, q, out);
  check_same_device(kName, q, lse);
  check_same_device(kName, q, dout);
  const DType wide = q.dtype() == DType::float64 ? DType::float64 : DType::float32;
  if (out.shape() != q.shape() || dout.shape() != q.shape() || out.dtype() != q.dtype() ||
      dout.dtype() != q.dtype() || lse.dtype() != wide || !lse.contiguous() ||
      lse.shape() != Shape{q.size(0), q.size(1), q.size(2)}) {
    fail("%s: the gradient must be %s%s, got %s%s", kName, dtype_name(q.dtype()),
         shape_text(q.view).c_str(), dtype_name(dout.dtype()), shape_text(dout.view).c_str());
  }
}

void run_backward(const Tensor& query, const Tensor& key, const Tensor& value,
                  const AttentionInputs& inputs, const Tensor& output, const Tensor& lse,
                  const Tensor& gradient, const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const Tensor q = with_rows(query), k = with_rows(key), v = with_rows(value);
  const AttentionArgs args = arguments(q, k, v, inputs);
  check_saved(q, output, lse, gradient);
  const Tensor out = with_rows(output), dout = with_rows(gradient);
  q.backend().attention->backward(q.stream(), args, out.view, lse.view, dout.view, dq.view, dk.view,
                                  dv.view);
}

}  // namespace

std::tuple<Tensor, Tensor> attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                     const std::optional<Tensor>& mask,
                                     const std::optional<Tensor>& padding,
                                     const std::optional<Tensor>& lengths,
                                     const std::optional<Tensor>& state, bool causal, double scale,
                                     double keep, int64_t precision) {
  check_shapes(query, key, value);
  const Tensor q = with_rows(query), k = with_rows(key), v = with_rows(value);
  const AttentionArgs args =
      arguments(q, k, v, {mask, padding, lengths, state, causal, scale, keep, precision});
  const DType wide = q.dtype() == DType::float64 ? DType::float64 : DType::float32;
  const Tensor out = laid_like(q);
  const Tensor lse = empty(q.device(), {q.size(0), q.size(1), q.size(2)}, wide, kName);
  q.backend().attention->forward(q.stream(), args, out.view, lse.view);
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
    const std::optional<Tensor>& padding, const std::optional<Tensor>& lengths,
    const std::optional<Tensor>& state, bool causal, double scale, double keep, int64_t precision,
    const Tensor& out, const Tensor& lse, const Tensor& dout) {
  check_shapes(q, k, v);
  const Tensor dq = laid_like(q), dk = laid_like(k), dv = laid_like(v);
  run_backward(q, k, v, {mask, padding, lengths, state, causal, scale, keep, precision}, out, lse,
               dout, dq, dk, dv);
  return {dq, dk, dv};
}

Tensor attention_backward_packed(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const std::optional<Tensor>& mask,
                                 const std::optional<Tensor>& padding,
                                 const std::optional<Tensor>& lengths,
                                 const std::optional<Tensor>& state, bool causal, double scale,
                                 double keep, int64_t precision, const Tensor& out,
                                 const Tensor& lse, const Tensor& dout) {
  check_shapes(q, k, v);
  if (q.shape() != k.shape()) {
    fail("%s: packed projections must have one shape, got %s and %s", kName,
         shape_text(q.view).c_str(), shape_text(k.view).c_str());
  }
  const Tensor packed =
      empty(q.device(), {q.size(0), q.size(2), 3, q.size(1), q.size(3)}, q.dtype(), kName);
  const auto part = [&](int64_t i) { return permute(select(packed, 2, i), {0, 2, 1, 3}); };
  run_backward(q, k, v, {mask, padding, lengths, state, causal, scale, keep, precision}, out, lse,
               dout, part(0), part(1), part(2));
  return packed;
}

Tensor reserve_draws(const Tensor& state, int64_t counters) {
  if (state.dtype() != DType::int64 || state.elements() != 2) {
    fail("%s: the generator's state must be int64[2]", kName);
  }
  const Tensor drawn = clone(state);
  state.backend().random->advance(state.stream(), state.view, counters);
  return drawn;
}

}  // namespace nodegrad::ops
