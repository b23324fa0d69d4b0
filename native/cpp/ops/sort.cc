#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// A tensor with the axis last, as rows.
View rows(const Tensor& x) {
  View v = x.view;
  const int64_t n = x.size(x.rank() - 1);
  int64_t count = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) count *= x.size(i);
  v.rank = 2;
  v.shape[0] = count;
  v.shape[1] = n;
  v.strides[0] = n;
  v.strides[1] = 1;
  return v;
}

// Axes with `axis` exchanged for the last one.
Shape exchanged(int rank, int axis) {
  Shape axes(static_cast<size_t>(rank));
  for (int i = 0; i < rank; ++i) axes[static_cast<size_t>(i)] = i;
  axes[static_cast<size_t>(axis)] = rank - 1;
  axes[static_cast<size_t>(rank - 1)] = axis;
  return axes;
}

}  // namespace

std::tuple<Tensor, Tensor> sort(const Tensor& input, int64_t axis_index, int64_t count,
                                bool descending) {
  if (input.rank() == 0) {
    const auto [values, indices] = sort(reshape(input, {1}), axis_index, count, descending);
    if (count == 0) return {values, indices};
    return {reshape(values, {}), reshape(indices, {})};
  }
  const int axis = normal_axis("sort", axis_index, input.rank());
  const int64_t n = input.size(axis);
  const int64_t k = count < 0 ? n : count;
  if (k > n) fail("topk: k must be in [0,%lld], got %lld", (long long)n, (long long)k);
  if (n > INT32_MAX) fail("sort: an axis must be shorter than 2^31, got %lld", (long long)n);
  const Shape axes = exchanged(input.rank(), axis);
  const Tensor x = contiguous(permute(input, axes));
  Shape shape = x.shape();
  shape.back() = k;
  Tensor values = empty(x.device(), shape, x.dtype(), "sort");
  Tensor indices = empty(x.device(), shape, DType::int64, "sort");
  if (values.size(input.rank() - 1) > 0) {
    x.backend().sort->sort(x.stream(), rows(x), descending, rows(values), rows(indices));
  }
  return {contiguous(permute(values, axes)), contiguous(permute(indices, axes))};
}

Tensor sort_place(const Tensor& source, const Tensor& positions, int64_t axis_index, int64_t n) {
  check_same_device("sort", source, positions);
  if (source.shape() != positions.shape() || positions.dtype() != DType::int64 || n < 0) {
    fail("sort: the gradient must have the indices' shape %s, got %s",
         shape_text(positions.view).c_str(), shape_text(source.view).c_str());
  }
  if (source.rank() == 0) {
    return reshape(sort_place(reshape(source, {1}), reshape(positions, {1}), axis_index, n), {});
  }
  const int axis = normal_axis("sort", axis_index, source.rank());
  const Shape axes = exchanged(source.rank(), axis);
  const Tensor src = contiguous(permute(source, axes));
  const Tensor indices = contiguous(permute(positions, axes));
  Shape shape = src.shape();
  shape.back() = n;
  Tensor out = empty(src.device(), shape, src.dtype(), "sort");
  src.backend().sort->place(src.stream(), rows(src), rows(indices), rows(out));
  return contiguous(permute(out, axes));
}

}  // namespace nodegrad::ops
