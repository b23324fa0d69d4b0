// One recurrent layer. The products with x run here, over all steps at once, through gemm; the
// family's functions run the recurrence and its reverse.
#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr const char* op = "recurrent";

// The sizes of a layer: B, T, I, H, D, and G·H.
struct Sizes {
  int64_t batch, steps, input, hidden, directions, gates;
  int64_t rows() const { return batch * steps; }
  int64_t states() const { return directions * batch * hidden; }
  int64_t outputs() const { return rows() * directions * hidden; }
};

RnnMode mode_of(int64_t code) {
  if (code < 0 || code > 3) fail("recurrent: the mode must be in [0,3], got %lld", (long long)code);
  return static_cast<RnnMode>(code);
}

void expect_shape(const char* what, const Tensor& x, const Tensor& like, const Shape& shape) {
  check_same_device(op, like, x);
  if (x.dtype() != like.dtype() || x.shape() != shape) {
    fail("%s: %s must be %s%s, got %s%s", op, what, dtype_name(like.dtype()),
         shape_text(shape).c_str(), dtype_name(x.dtype()), shape_text(x.view).c_str());
  }
}

void check_weights(const Tensor& x, const Sizes& s, const TensorList& weights) {
  const bool biased = static_cast<int64_t>(weights.size()) == 4 * s.directions;
  const size_t each = biased ? 4 : 2;
  for (size_t d = 0; d < static_cast<size_t>(s.directions); ++d) {
    const Tensor* const w = &weights[d * each];
    expect_shape("weight_ih", w[0], x, {s.gates, s.input});
    expect_shape("weight_hh", w[1], x, {s.gates, s.hidden});
    if (!biased) continue;
    expect_shape("bias_ih", w[2], x, {s.gates});
    expect_shape("bias_hh", w[3], x, {s.gates});
  }
}

void check_states(const Tensor& like, const Sizes& s, const std::optional<Tensor>& lengths,
                  const std::optional<Tensor>& h0, const std::optional<Tensor>& c0) {
  const Shape shape = {s.directions, s.batch, s.hidden};
  if (h0) expect_shape("the initial h", *h0, like, shape);
  if (c0) expect_shape("the initial c", *c0, like, shape);
  if (!lengths) return;
  check_same_device(op, like, *lengths);
  if (lengths->dtype() != DType::int64 || lengths->shape() != Shape{s.batch}) {
    fail("%s: lengths must be int64[%lld], got %s%s", op, (long long)s.batch,
         dtype_name(lengths->dtype()), shape_text(lengths->view).c_str());
  }
}

std::optional<Tensor> dense(const std::optional<Tensor>& x) {
  return x ? std::optional<Tensor>(contiguous(*x)) : std::nullopt;
}

const void* data_of(const std::optional<Tensor>& x) { return x ? x->view.data : nullptr; }

char* advance(void* data, int64_t elements, DType dtype) {
  return static_cast<char*>(data) + elements * static_cast<int64_t>(item_size(dtype));
}

RnnArgs arguments(RnnMode mode, DType dtype, const Sizes& s, bool batch_first, int64_t precision) {
  RnnArgs a{};
  a.mode = mode;
  a.dtype = dtype;
  a.precision = static_cast<Precision>(precision);
  a.directions = s.directions;
  a.batch = s.batch;
  a.steps = s.steps;
  a.hidden = s.hidden;
  a.row_batch = batch_first ? s.steps : 1;
  a.row_step = batch_first ? 1 : s.batch;
  return a;
}

// A flat tensor of the output and the states after it.
struct Parts {
  char *output, *h_n, *c_n;
};
Parts parts_of(const Tensor& flat, const Sizes& s, RnnMode mode) {
  const DType dtype = flat.dtype();
  Parts p;
  p.output = static_cast<char*>(flat.view.data);
  p.h_n = advance(p.output, s.outputs(), dtype);
  p.c_n = mode == RnnMode::lstm ? advance(p.h_n, s.states(), dtype) : nullptr;
  return p;
}

int64_t flat_size(const Sizes& s, RnnMode mode) {
  return s.outputs() + s.states() * (mode == RnnMode::lstm ? 2 : 1);
}

bool has_cells(RnnMode mode) { return mode == RnnMode::lstm || mode == RnnMode::gru; }

}  // namespace

std::tuple<Tensor, Tensor, Tensor> rnn(int64_t code, const Tensor& input, bool batch_first,
                                       int64_t directions, const std::optional<Tensor>& lengths,
                                       const std::optional<Tensor>& h0,
                                       const std::optional<Tensor>& c0, const TensorList& weights,
                                       int64_t precision, int64_t library) {
  const RnnMode mode = mode_of(code);
  if (!is_float(input.dtype())) {
    fail("%s: needs a floating dtype, got %s", op, dtype_name(input.dtype()));
  }
  if (input.rank() != 3) {
    fail("%s: the input must have 3 axes, got %s", op, shape_text(input.view).c_str());
  }
  if (directions < 1 || directions > kMaxDirections) {
    fail("%s: directions must be 1 or 2, got %lld", op, (long long)directions);
  }
  const int64_t count = static_cast<int64_t>(weights.size());
  if (count != 2 * directions && count != 4 * directions) {
    fail("%s: needs 2 or 4 weights per direction, got %lld for %lld", op, (long long)count,
         (long long)directions);
  }
  Sizes s;
  s.batch = input.size(batch_first ? 0 : 1);
  s.steps = input.size(batch_first ? 1 : 0);
  s.input = input.size(2);
  if (weights[1].rank() != 2 || weights[1].size(1) == 0) {
    fail("%s: weight_hh must be [%d·H,H] with H of 1 or more, got %s", op, rnn_gates(mode),
         shape_text(weights[1].view).c_str());
  }
  s.hidden = weights[1].size(1);
  s.directions = directions;
  s.gates = rnn_gates(mode) * s.hidden;
  check_weights(input, s, weights);
  check_states(input, s, lengths, h0, c0);
  if (c0 && mode != RnnMode::lstm) fail("%s: has no state c", op);

  const Tensor x = contiguous(input);
  const DType dtype = x.dtype(), wide = dtype == DType::float64 ? dtype : DType::float32;
  Tensor flat = empty(x.device(), {flat_size(s, mode)}, dtype, op);
  Tensor gates = empty(x.device(), {directions, x.size(0), x.size(1), s.gates}, dtype, op);
  Tensor cells =
      empty(x.device(), {has_cells(mode) ? directions * s.rows() * s.hidden : 0}, wide, op);
  const size_t each = weights.size() / static_cast<size_t>(directions);
  TensorList own;
  for (const Tensor& weight : weights) own.push_back(contiguous(weight));

  RnnArgs a = arguments(mode, dtype, s, batch_first, precision);
  const std::optional<Tensor> limits = dense(lengths), h = dense(h0), c = dense(c0);
  a.lengths = static_cast<const int64_t*>(data_of(limits));
  a.h0 = data_of(h);
  a.c0 = data_of(c);
  for (int64_t d = 0; d < directions; ++d) {
    const Tensor* const w = &own[static_cast<size_t>(d) * each];
    GemmArgs g{};
    g.a = x.view.data;
    g.b = w[0].view.data;
    g.c = advance(gates.view.data, d * s.rows() * s.gates, dtype);
    g.bias = each == 4 ? w[2].view.data : nullptr;
    g.m = s.rows();
    g.n = s.gates;
    g.k = s.input;
    g.batch = 1;
    g.a_row = g.b_col = s.input > 0 ? s.input : 1;
    g.a_col = g.b_row = 1;
    g.c_row = s.gates;
    g.dtype = dtype;
    g.precision = static_cast<Precision>(precision);
    g.library = static_cast<MatmulBackend>(library);
    x.backend().gemm->gemm(x.stream(), g);
    a.w_hh[d] = w[1].view.data;
    a.b_hh[d] = each == 4 ? w[3].view.data : nullptr;
  }
  const Parts parts = parts_of(flat, s, mode);
  a.gates = gates.view.data;
  a.cells = has_cells(mode) ? cells.view.data : nullptr;
  a.output = parts.output;
  a.h_n = parts.h_n;
  a.c_n = parts.c_n;
  if (s.batch > 0) x.backend().rnn->forward(x.stream(), a);
  return {flat, gates, cells};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> rnn_backward(
    int64_t code, const Tensor& gradient, const Tensor& out, const Tensor& gates,
    const Tensor& cells, bool batch_first, const std::optional<Tensor>& lengths,
    const std::optional<Tensor>& h0, const std::optional<Tensor>& c0, const TensorList& weights,
    int64_t precision) {
  const RnnMode mode = mode_of(code);
  const bool lstm = mode == RnnMode::lstm, gru = mode == RnnMode::gru;
  const size_t directions = weights.size();
  if (gates.rank() != 4 || directions < 1 || directions > kMaxDirections ||
      weights[0].rank() != 2 || !is_float(gates.dtype())) {
    fail("%s: needs the gates of its forward pass, got %s", op, shape_text(gates.view).c_str());
  }
  Sizes s{};
  s.directions = static_cast<int64_t>(directions);
  s.batch = gates.size(batch_first ? 1 : 2);
  s.steps = gates.size(batch_first ? 2 : 1);
  s.hidden = weights[0].size(1);
  s.gates = rnn_gates(mode) * s.hidden;
  const DType dtype = gates.dtype(), wide = dtype == DType::float64 ? dtype : DType::float32;
  expect_shape("the gates", gates, gates, {s.directions, gates.size(1), gates.size(2), s.gates});
  expect_shape("the gradient", gradient, gates, {flat_size(s, mode)});
  expect_shape("the output", out, gates, {flat_size(s, mode)});
  check_states(gates, s, lengths, h0, c0);
  if (!gates.contiguous() || !out.contiguous() || !cells.contiguous() || cells.dtype() != wide ||
      cells.elements() != (has_cells(mode) ? s.directions * s.rows() * s.hidden : 0)) {
    fail("%s: needs what its forward pass gave, got cells %s", op, shape_text(cells.view).c_str());
  }
  const Tensor dout = contiguous(gradient);
  Device& device = gates.device();
  Tensor d_input_gates = empty(device, gates.shape(), dtype, op);
  Tensor d_hidden_gates = gru ? empty(device, gates.shape(), dtype, op) : d_input_gates;
  Tensor previous = empty(device, {s.directions, s.rows(), s.hidden}, dtype, op);
  Tensor d_h0 = empty(device, {s.directions, s.batch, s.hidden}, dtype, op);
  Tensor d_c0 = empty(device, {s.directions, lstm ? s.batch : 0, s.hidden}, dtype, op);

  RnnArgs a = arguments(mode, dtype, s, batch_first, precision);
  const std::optional<Tensor> limits = dense(lengths), h = dense(h0), c = dense(c0);
  TensorList own;
  for (const Tensor& weight : weights) {
    expect_shape("weight_hh", weight, gates, {s.gates, s.hidden});
    own.push_back(contiguous(weight));
  }
  a.lengths = static_cast<const int64_t*>(data_of(limits));
  a.h0 = data_of(h);
  a.c0 = data_of(c);
  for (size_t d = 0; d < directions; ++d) a.w_hh[d] = own[d].view.data;
  const Parts kept = parts_of(out, s, mode), upstream = parts_of(dout, s, mode);
  a.gates = gates.view.data;
  a.cells = has_cells(mode) ? cells.view.data : nullptr;
  a.output = kept.output;
  RnnGradients g{};
  g.d_output = upstream.output;
  g.d_h_n = upstream.h_n;
  g.d_c_n = upstream.c_n;
  g.d_input_gates = d_input_gates.view.data;
  g.d_hidden_gates = d_hidden_gates.view.data;
  g.previous = previous.view.data;
  g.d_h0 = d_h0.view.data;
  g.d_c0 = lstm ? d_c0.view.data : nullptr;
  if (s.batch > 0) gates.backend().rnn->backward(gates.stream(), a, g);
  return {d_input_gates, d_hidden_gates, previous, d_h0, d_c0};
}

}  // namespace nodegrad::ops
