#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// An operand as a matrix of its last two axes; copied where neither stride is 1.
struct Matrix {
  Tensor tensor;
  int64_t rows, columns, row_stride, column_stride;
};

Matrix as_matrix(const Tensor& x) {
  const int r = x.rank();
  Matrix m{x, x.size(r - 2), x.size(r - 1), x.view.strides[r - 2], x.view.strides[r - 1]};
  // A size of 1 has no stride to speak of; a product wants one of the two to be 1.
  if (m.columns == 1 && m.row_stride != 1) m.column_stride = 1;
  if (m.rows == 1 && m.column_stride != 1) m.row_stride = 1;
  const bool row_major = m.column_stride == 1 && (m.rows == 1 || m.row_stride >= m.columns);
  const bool column_major = m.row_stride == 1 && (m.columns == 1 || m.column_stride >= m.rows);
  if (!row_major && !column_major) {
    m.tensor = clone(x);
    m.row_stride = m.columns;
    m.column_stride = 1;
  }
  if (m.column_stride == 1 && m.row_stride < m.columns) m.row_stride = m.columns;
  if (m.row_stride == 1 && m.column_stride != 1 && m.column_stride < m.rows) {
    m.column_stride = m.rows;
  }
  return m;
}

GemmArgs arguments(const Matrix& a, const Matrix& b, void* c, DType dtype, int64_t precision,
                   int64_t library) {
  GemmArgs args{};
  args.a = a.tensor.view.data;
  args.b = b.tensor.view.data;
  args.c = c;
  args.m = a.rows;
  args.n = b.columns;
  args.k = a.columns;
  args.batch = 1;
  args.a_row = a.row_stride;
  args.a_col = a.column_stride;
  args.b_row = b.row_stride;
  args.b_col = b.column_stride;
  args.c_row = b.columns;
  args.dtype = dtype;
  args.precision = static_cast<Precision>(precision);
  args.library = static_cast<MatmulBackend>(library);
  return args;
}

void check_operands(const char* op, const Tensor& a, const Tensor& b) {
  check_same_device(op, a, b);
  if (a.dtype() != b.dtype() || !is_float(a.dtype())) {
    fail("%s: needs two tensors of one floating dtype, got %s and %s", op, dtype_name(a.dtype()),
         dtype_name(b.dtype()));
  }
}

void check_gradients(const Tensor& dy, const Tensor& x) {
  check_operands("linear", dy, x);
  if (dy.rank() != 2 || x.rank() != 2 || dy.size(0) != x.size(0)) {
    fail("linear: gradients and inputs must be [rows,out] and [rows,in], got %s and %s",
         shape_text(dy.view).c_str(), shape_text(x.view).c_str());
  }
}

// Runs one product per matrix of the broadcast batch, as one call where strides allow.
void batched(const Tensor& a, const Tensor& b, const Tensor& out, const Shape& batch,
             GemmArgs args) {
  const int rank = static_cast<int>(batch.size());
  View av = a.view, bv = b.view;
  av.rank -= 2;
  bv.rank -= 2;
  av = broadcast_view(av, batch.data(), rank);
  bv = broadcast_view(bv, batch.data(), rank);
  const int64_t matrix = args.m * args.n;
  // The innermost run of axes whose strides follow from one another is one batched call.
  int64_t run = 1, a_step = 0, b_step = 0;
  int outer = rank;
  for (; outer > 0; --outer) {
    const int i = outer - 1;
    if (batch[static_cast<size_t>(i)] == 1) continue;
    if (run == 1) {
      a_step = av.strides[i];
      b_step = bv.strides[i];
    } else if (av.strides[i] != a_step * run || bv.strides[i] != b_step * run) {
      break;
    }
    run *= batch[static_cast<size_t>(i)];
  }
  args.batch = run;
  args.a_batch = a_step;
  args.b_batch = b_step;
  args.c_batch = matrix;
  int64_t outer_count = 1;
  for (int i = 0; i < outer; ++i) outer_count *= batch[static_cast<size_t>(i)];
  const auto item = static_cast<int64_t>(item_size(args.dtype));
  for (int64_t at = 0; at < outer_count; ++at) {
    int64_t rest = at, a_offset = 0, b_offset = 0;
    for (int i = outer - 1; i >= 0; --i) {
      const int64_t size = batch[static_cast<size_t>(i)];
      a_offset += rest % size * av.strides[i];
      b_offset += rest % size * bv.strides[i];
      rest /= size;
    }
    GemmArgs call = args;
    call.a = static_cast<const char*>(args.a) + a_offset * item;
    call.b = static_cast<const char*>(args.b) + b_offset * item;
    call.c = static_cast<char*>(out.view.data) + at * run * matrix * item;
    out.backend().gemm->gemm(out.stream(), call);
  }
}

}  // namespace

Tensor matmul(const Tensor& left, const Tensor& right, double scale, int64_t precision,
              int64_t library) {
  check_same_device("matmul", left, right);
  if (left.dtype() != right.dtype() || left.dtype() == DType::boolean) {
    fail("matmul: needs two tensors of one dtype other than bool, got %s and %s",
         dtype_name(left.dtype()), dtype_name(right.dtype()));
  }
  if (left.rank() == 0 || right.rank() == 0) {
    fail("matmul: needs tensors of rank 1 or more, got %s and %s", shape_text(left.view).c_str(),
         shape_text(right.view).c_str());
  }
  // Vectors take part as a row or a column, and lose that axis again.
  const bool row = left.rank() == 1, column = right.rank() == 1;
  const Tensor a0 = row ? reshape(left, {1, left.size(0)}) : left;
  const Tensor b0 = column ? reshape(right, {right.size(0), 1}) : right;
  const Matrix a = as_matrix(a0), b = as_matrix(b0);
  if (a.columns != b.rows) {
    fail("matmul: inner sizes must match, got %s and %s", shape_text(left.view).c_str(),
         shape_text(right.view).c_str());
  }
  const int a_lead = a0.rank() - 2, b_lead = b0.rank() - 2;
  const int lead = a_lead > b_lead ? a_lead : b_lead;
  Shape batch;
  for (int i = 0; i < lead; ++i) {
    const int ia = i - (lead - a_lead), ib = i - (lead - b_lead);
    const int64_t sa = ia < 0 ? 1 : a0.size(ia), sb = ib < 0 ? 1 : b0.size(ib);
    if (sa != sb && sa != 1 && sb != 1) {
      fail("matmul: batch sizes must broadcast, got %s and %s", shape_text(left.view).c_str(),
           shape_text(right.view).c_str());
    }
    batch.push_back(sa == 1 ? sb : sa);
  }
  Shape shape = batch;
  if (!row) shape.push_back(a.rows);
  if (!column) shape.push_back(b.columns);
  Tensor out = empty(left.device(), shape, left.dtype(), "matmul");
  GemmArgs args = arguments(a, b, out.view.data, left.dtype(), precision, library);
  args.scale = scale;
  if (lead == 0) {
    out.backend().gemm->gemm(out.stream(), args);
  } else if (out.elements() > 0) {
    batched(a.tensor, b.tensor, out, batch, args);
  }
  return out;
}

std::tuple<Tensor, std::optional<Tensor>> linear(const Tensor& x, const Tensor& weight,
                                                 const std::optional<Tensor>& bias,
                                                 const std::optional<Tensor>& residual,
                                                 int64_t activation, bool keep, int64_t precision,
                                                 int64_t library) {
  check_operands("linear", x, weight);
  if (x.rank() < 1 || weight.rank() != 2 || x.size(x.rank() - 1) != weight.size(1)) {
    fail("linear: the last size must match the weight's, got %s and %s", shape_text(x.view).c_str(),
         shape_text(weight.view).c_str());
  }
  const int64_t in = weight.size(1), features = weight.size(0);
  const Tensor flat = x.rank() == 2 ? x : reshape(contiguous(x), {in ? x.elements() / in : 0, in});
  Shape shape = x.shape();
  shape.back() = features;
  Tensor out = empty(x.device(), shape, x.dtype(), "linear");
  const Matrix rows = as_matrix(flat), columns = as_matrix(permute(weight, {1, 0}));
  GemmArgs args = arguments(rows, columns, out.view.data, x.dtype(), precision, library);
  std::optional<Tensor> added, rest, before;
  if (bias) {
    check_operands("linear", x, *bias);
    if (bias->rank() != 1 || bias->size(0) != features) {
      fail("linear: the bias must be [%lld], got %s", (long long)features,
           shape_text(bias->view).c_str());
    }
    added = contiguous(*bias);
    args.bias = added->view.data;
  }
  if (residual) {
    check_operands("linear", x, *residual);
    if (residual->shape() != shape) {
      fail("linear: the residual must be %s, got %s", shape_text(out.view).c_str(),
           shape_text(residual->view).c_str());
    }
    rest = contiguous(*residual);
    args.residual = rest->view.data;
  }
  if (keep) {
    before = empty(x.device(), shape, x.dtype(), "linear");
    args.before = before->view.data;
  }
  if (activation < 0 || activation > static_cast<int64_t>(Activation::gelu_tanh)) {
    fail("linear: unknown activation %lld", (long long)activation);
  }
  args.activation = static_cast<Activation>(activation);
  if (in == 0) args.m = out.elements() / (features ? features : 1);
  out.backend().gemm->gemm(out.stream(), args);
  return {out, before};
}

void matmul_into(const Tensor& out, const Tensor& a, const Tensor& b, double scale, bool accumulate,
                 int64_t precision, int64_t library) {
  check_operands("matmul", a, b);
  check_operands("matmul", a, out);
  if (a.rank() != 2 || b.rank() != 2 || out.rank() != 2 || a.size(1) != b.size(0) ||
      out.size(0) != a.size(0) || out.size(1) != b.size(1) || !out.contiguous()) {
    fail("matmul: shapes must be [M,K], [K,N] and [M,N], got %s, %s and %s",
         shape_text(a.view).c_str(), shape_text(b.view).c_str(), shape_text(out.view).c_str());
  }
  const Matrix left = as_matrix(a), right = as_matrix(b);
  GemmArgs args = arguments(left, right, out.view.data, a.dtype(), precision, library);
  args.scale = scale;
  args.accumulate = accumulate;
  out.backend().gemm->gemm(out.stream(), args);
}

std::tuple<Tensor, Tensor> linear_gradients(const Tensor& dy, const Tensor& x, int64_t precision,
                                            int64_t library) {
  check_gradients(dy, x);
  const Tensor weight = empty(x.device(), {dy.size(1), x.size(1)}, x.dtype(), "linear");
  const Tensor bias = empty(x.device(), {dy.size(1)}, x.dtype(), "linear");
  linear_gradients_into(weight, bias, dy, x, false, precision, library);
  return {weight, bias};
}

void linear_gradients_into(const Tensor& weight, const Tensor& bias, const Tensor& dy,
                           const Tensor& x, bool accumulate, int64_t precision, int64_t library) {
  check_gradients(dy, x);
  check_operands("linear", x, weight);
  check_operands("linear", x, bias);
  const Shape shape{dy.size(1), x.size(1)};
  if (weight.shape() != shape || bias.rank() != 1 || bias.size(0) != dy.size(1) ||
      !weight.contiguous() || !bias.contiguous()) {
    fail("linear: gradients must be [%lld,%lld] and [%lld], got %s and %s", (long long)shape[0],
         (long long)shape[1], (long long)shape[0], shape_text(weight.view).c_str(),
         shape_text(bias.view).c_str());
  }
  const Matrix rows = as_matrix(permute(dy, {1, 0})), columns = as_matrix(x);
  GemmArgs args = arguments(rows, columns, weight.view.data, x.dtype(), precision, library);
  args.a_sums = bias.view.data;
  args.accumulate = accumulate;
  weight.backend().gemm->gemm(weight.stream(), args);
}

}  // namespace nodegrad::ops
