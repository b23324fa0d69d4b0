#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// Checks an index along `axis` of x and returns the axis.
int check_gather(const char* op, const Tensor& x, int64_t axis_index, const Tensor& index) {
  check_same_device(op, x, index);
  if (x.rank() == 0) fail("%s: needs a tensor of rank 1 or more, got a scalar", op);
  const int axis = normal_axis(op, axis_index, x.rank());
  bool fits = index.rank() == x.rank();
  for (int i = 0; fits && i < x.rank(); ++i) fits = i == axis || index.size(i) <= x.size(i);
  if (!fits) {
    fail(
        "%s: the index must have the rank of x and sizes no larger except on axis %d, got %s and "
        "%s",
        op, axis, shape_text(x.view).c_str(), shape_text(index.view).c_str());
  }
  return axis;
}

// The part of the source that the index speaks of.
View source_view(const char* op, const Tensor& source, const Tensor& index) {
  bool fits = source.rank() == index.rank();
  for (int i = 0; fits && i < index.rank(); ++i) fits = source.size(i) >= index.size(i);
  if (!fits) {
    fail("%s: the source must cover the index, got %s and %s", op, shape_text(source.view).c_str(),
         shape_text(index.view).c_str());
  }
  View view = source.view;
  for (int i = 0; i < index.rank(); ++i) view.shape[i] = index.size(i);
  return view;
}

}  // namespace

Tensor gather(const Tensor& x, int64_t axis_index, const Tensor& places) {
  const Tensor index = as_index("gather", "index", places);
  const int axis = check_gather("gather", x, axis_index, index);
  Tensor out = empty_like(index, x.dtype(), "gather");
  x.backend().gather->gather(x.stream(), x.view, index.view, axis, out.view);
  return out;
}

Tensor scatter(const Tensor& x, int64_t axis_index, const Tensor& places, const Tensor& source) {
  const Tensor index = as_index("scatter", "index", places);
  const int axis = check_gather("scatter", x, axis_index, index);
  check_same_device("scatter", x, source);
  const Tensor src = as_dtype(source, x.dtype());
  const View from = source_view("scatter", src, index);
  Tensor out = clone(x);
  x.backend().gather->scatter(x.stream(), from, index.view, axis, false, out.view);
  return out;
}

Tensor scatter_add(const Tensor& x, int64_t axis_index, const Tensor& places,
                   const Tensor& source) {
  const Tensor index = as_index("scatterAdd", "index", places);
  const int axis = check_gather("scatterAdd", x, axis_index, index);
  check_same_device("scatterAdd", x, source);
  if (x.dtype() == DType::boolean) fail("scatterAdd: needs numbers, got bool");
  const bool half = x.dtype() == DType::bfloat16 || x.dtype() == DType::float16;
  const DType wide = half ? DType::float32 : x.dtype();
  const Tensor src = as_dtype(source, wide);
  const View from = source_view("scatterAdd", src, index);
  Tensor out = cast(x, wide);
  x.backend().gather->scatter(x.stream(), from, index.view, axis, true, out.view);
  return as_dtype(out, x.dtype());
}

Tensor nonzero(const Tensor& x) {
  if (x.stream().capturing()) {
    fail("nonzero: how many there are depends on values, so it cannot be captured");
  }
  const Tensor mask = contiguous(as_dtype(x, DType::boolean));
  const int64_t blocks = (mask.elements() + kNonzeroBlock - 1) / kNonzeroBlock;
  const Tensor offsets = empty(x.device(), {blocks + 1}, DType::int64, "nonzero");
  const GatherFamily& family = *x.backend().gather;
  family.count(x.stream(), mask.view, offsets.view);
  int64_t count = 0;
  x.stream().copy_to_host(&count, static_cast<const int64_t*>(offsets.view.data) + blocks,
                          sizeof count);
  Tensor out = empty(x.device(), {count, x.rank()}, DType::int64, "nonzero");
  family.nonzero(x.stream(), mask.view, offsets.view, out.view);
  return out;
}

}  // namespace nodegrad::ops
