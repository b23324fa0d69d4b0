#include <cstring>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

void check_index(const char* op, const Tensor& x, const Tensor& index) {
  check_same_device(op, x, index);
  if (index.dtype() != DType::int64 || index.rank() != 1) {
    fail("%s: the index must be int64 of rank 1, got %s%s", op, dtype_name(index.dtype()),
         shape_text(index.view).c_str());
  }
}

}  // namespace

Tensor index_select(const Tensor& x, const Tensor& positions) {
  return index_select_on(x.stream(), x, positions);
}

Tensor index_select_on(Stream& stream, const Tensor& input, const Tensor& positions) {
  check_index("indexSelect", input, positions);
  if (input.rank() == 0) fail("indexSelect: needs a tensor of rank 1 or more, got a scalar");
  const Tensor x = contiguous(input), index = contiguous(positions);
  Shape shape = x.shape();
  shape[0] = index.size(0);
  Tensor out = empty(x.device(), shape, x.dtype(), "indexSelect");
  x.backend().index->select(stream, x.view, index.view, out.view);
  return out;
}

Tensor index_add(const Shape& shape, const Tensor& positions, const Tensor& source) {
  check_index("indexAdd", source, positions);
  const Tensor src = contiguous(source), index = contiguous(positions);
  Shape expected = shape;
  if (!expected.empty()) expected[0] = index.size(0);
  if (shape.empty() || src.shape() != expected) {
    fail("indexAdd: the source must be %s, got %s", shape_text(expected).c_str(),
         shape_text(src.view).c_str());
  }
  Tensor out = full(src.device(), shape, 0, src.dtype());
  src.backend().index->add(src.stream(), src.view, index.view, out.view);
  return out;
}

}  // namespace nodegrad::ops
