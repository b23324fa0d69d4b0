#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

Tensor index_of(const Tensor& weight, const Tensor& indices) {
  check_same_device("embedding", weight, indices);
  return contiguous(as_index("embedding", "index", indices));
}

View flat(const Tensor& index) {
  View v = index.view;
  v.rank = 1;
  v.shape[0] = index.elements();
  v.strides[0] = 1;
  return v;
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& indices) {
  const Tensor index = index_of(weight, indices);
  if (!is_float(weight.dtype()) || weight.rank() != 2) {
    fail("embedding: the weight must be a floating [V,D], got %s%s", dtype_name(weight.dtype()),
         shape_text(weight.view).c_str());
  }
  if (indices.rank() >= kMaxRank) {
    fail("embedding: takes indices of at most %d axes, got %s", kMaxRank - 1,
         shape_text(indices.view).c_str());
  }
  const Tensor table = contiguous(weight);
  Shape shape = index.shape();
  shape.push_back(table.size(1));
  Tensor out = empty(table.device(), shape, table.dtype(), "embedding");
  View rows = out.view;
  rows.rank = 2;
  rows.shape[0] = index.elements();
  rows.shape[1] = rows.strides[0] = table.size(1);
  rows.strides[1] = 1;
  table.backend().index->select(table.stream(), table.view, flat(index), rows);
  return out;
}

void embedding_backward_into(const Tensor& out, const Tensor& indices, const Tensor& gradient,
                             int64_t padding, bool accumulate) {
  check_same_device("embedding", out, gradient);
  const Tensor index = index_of(out, indices), dy = contiguous(gradient);
  if (out.rank() != 2 || !out.contiguous() || !is_float(out.dtype()) || dy.dtype() != out.dtype() ||
      dy.elements() != index.elements() * out.size(1)) {
    fail("embedding: the gradient of %s by indices %s must have their rows, got %s%s",
         shape_text(out.view).c_str(), shape_text(index.view).c_str(), dtype_name(dy.dtype()),
         shape_text(dy.view).c_str());
  }
  View rows = dy.view;
  rows.rank = 2;
  rows.shape[0] = index.elements();
  rows.shape[1] = rows.strides[0] = out.size(1);
  rows.strides[1] = 1;
  out.backend().embedding->backward(out.stream(), rows, flat(index), padding, accumulate, out.view);
}

Tensor embedding_backward(const Shape& shape, const Tensor& indices, const Tensor& gradient,
                          int64_t padding) {
  Tensor out = empty(gradient.device(), shape, gradient.dtype(), "embedding");
  embedding_backward_into(out, indices, gradient, padding, false);
  return out;
}

}  // namespace nodegrad::ops
