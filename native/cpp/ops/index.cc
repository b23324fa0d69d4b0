#include <cstring>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

Tensor as_index(const char* op, const char* what, const Tensor& x) {
  if (is_float(x.dtype()) || x.dtype() == DType::boolean) {
    fail("%s: the %s must be int64, int32 or uint8, got %s", op, what, dtype_name(x.dtype()));
  }
  return as_dtype(x, DType::int64);
}

namespace {

Tensor row_of_indices(const char* op, const Tensor& x, const Tensor& index) {
  check_same_device(op, x, index);
  if (index.rank() != 1) {
    fail("%s: the index must be of rank 1, got %s", op, shape_text(index.view).c_str());
  }
  return contiguous(as_index(op, "index", index));
}

}  // namespace

Tensor index_select(const Tensor& x, const Tensor& positions) {
  return index_select_on(x.stream(), x, positions);
}

Tensor index_select_on(Stream& stream, const Tensor& input, const Tensor& positions) {
  const Tensor index = row_of_indices("indexSelect", input, positions);
  if (input.rank() == 0) fail("indexSelect: needs a tensor of rank 1 or more, got a scalar");
  const Tensor x = contiguous(input);
  Shape shape = x.shape();
  shape[0] = index.size(0);
  Tensor out = empty(x.device(), shape, x.dtype(), "indexSelect");
  x.backend().index->select(stream, x.view, index.view, out.view);
  return out;
}

Tensor index_add(const Shape& shape, const Tensor& positions, const Tensor& source) {
  const Tensor index = row_of_indices("indexAdd", source, positions);
  const Tensor src = contiguous(source);
  Shape expected = shape;
  if (!expected.empty()) expected[0] = index.size(0);
  if (shape.empty() || src.shape() != expected) {
    fail("indexAdd: the source must be %s, got %s", shape_text(expected).c_str(),
         shape_text(src.view).c_str());
  }
  Tensor out = full(src.device(), shape, 0, src.dtype(), "indexAdd");
  src.backend().index->add(src.stream(), src.view, index.view, out.view);
  return out;
}

}  // namespace nodegrad::ops
