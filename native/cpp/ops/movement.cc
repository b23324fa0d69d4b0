#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr int64_t kFarthest = int64_t{1} << 46;  // what no legal size goes beyond

// What the map's contract asks of sizes.
void check_map(const char* op, const AxisMap& map, int64_t from, int64_t to) {
  bool fits = std::abs(map.before) <= kFarthest && to >= 0 && to <= kFarthest;
  fits = fits && (from > 0 || to == 0 || map.mode == AxisMode::pad);
  const int64_t after = to - map.before - from;  // places past the last element
  if (map.mode == AxisMode::reflect) {
    fits = fits && (to == 0 || (map.before < from && after < from));
  } else if (map.mode == AxisMode::flip) {
    fits = fits && map.before == 0 && to == from;
  } else if (map.mode == AxisMode::each) {
    fits = fits && map.before == 0 && map.repeat > 0 && map.repeat <= kFarthest &&
           (from == 0 ? to == 0 : to % from == 0 && to / from == map.repeat);
  }
  if (!fits) {
    fail("%s: an axis of %lld elements has no such map to %lld", op, (long long)from,
         (long long)to);
  }
}

AxisMap make_map(const char* op, int64_t mode, int64_t before, int64_t repeat) {
  if (mode < 0 || mode >= kAxisModes) fail("%s: no such map, got %lld", op, (long long)mode);
  return {static_cast<AxisMode>(mode), before, repeat};
}

Tensor triangle(const char* op, const Tensor& input, int64_t diagonal, bool upper) {
  if (input.rank() < 2) {
    fail("%s: needs a tensor of rank 2 or more, got %s", op, shape_text(input.view).c_str());
  }
  const int64_t offset = std::clamp(diagonal, -kFarthest, kFarthest);
  const Tensor x = contiguous(input);
  Tensor out = empty_like(x, x.dtype(), op);
  x.backend().movement->triangle(x.stream(), x.view, offset, upper, out.view);
  return out;
}

}  // namespace

// `spec` is mode, before, repeat and the size of the result, for each axis.
Tensor remap(const char* op, const Tensor& x, const Shape& spec, double fill) {
  const size_t rank = static_cast<size_t>(x.rank());
  if (spec.size() != 4 * rank) fail("%s: needs four numbers an axis, got %zu", op, spec.size());
  AxisMap maps[kMaxRank];
  Shape shape(rank);
  bool fills = false;
  for (size_t i = 0; i < rank; ++i) {
    maps[i] = make_map(op, spec[4 * i], spec[4 * i + 1], spec[4 * i + 2]);
    shape[i] = spec[4 * i + 3];
    check_map(op, maps[i], x.size(static_cast<int>(i)), shape[i]);
    fills |= maps[i].mode == AxisMode::pad;
  }
  Tensor out = empty(x.device(), shape, x.dtype(), op);
  const Tensor value = fills ? full(x.device(), {}, fill, x.dtype(), op) : x;
  x.backend().movement->remap(x.stream(), x.view, maps, value.view, out.view);
  return out;
}

Tensor fold(const Tensor& gradient, int64_t axis_index, int64_t size, int64_t mode, int64_t before,
            int64_t repeat) {
  if (!is_float(gradient.dtype())) {
    fail("fold: needs a floating dtype, got %s", dtype_name(gradient.dtype()));
  }
  const int axis = normal_axis("fold", axis_index, gradient.rank());
  const AxisMap map = make_map("fold", mode, before, repeat);
  Shape shape = gradient.shape();
  shape[static_cast<size_t>(axis)] = size;
  Tensor dx = empty(gradient.device(), shape, gradient.dtype(), "fold");
  check_map("fold", map, size, gradient.size(axis));
  const Tensor dout = contiguous(gradient);
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= dout.size(i);
  for (int i = axis + 1; i < dout.rank(); ++i) inner *= dout.size(i);
  auto rows = [&](const Tensor& t) {
    View v = t.view;
    v.rank = 3;
    v.shape[0] = outer;
    v.shape[1] = t.size(axis);
    v.shape[2] = inner;
    v.strides[0] = t.size(axis) * inner;
    v.strides[1] = inner;
    v.strides[2] = 1;
    return v;
  };
  dout.backend().movement->fold(dout.stream(), rows(dout), map, rows(dx));
  return dx;
}

Tensor cat(const TensorList& tensors, int64_t axis_index) {
  if (tensors.empty()) fail("cat: needs at least one tensor, got none");
  const Tensor& first = tensors.front();
  if (first.rank() == 0) fail("cat: needs tensors of rank 1 or more, got a scalar");
  const int axis = normal_axis("cat", axis_index, first.rank());
  Shape shape = first.shape();
  DType dtype = first.dtype();
  int64_t length = 0;
  for (const Tensor& x : tensors) {
    check_same_device("cat", first, x);
    bool same = x.rank() == first.rank();
    for (int i = 0; same && i < x.rank(); ++i) same = i == axis || x.size(i) == first.size(i);
    if (!same) {
      fail("cat: sizes must match except on axis %d, got %s and %s", axis,
           shape_text(first.view).c_str(), shape_text(x.view).c_str());
    }
    dtype = promote(dtype, x.dtype());
    length += x.size(axis);
    shape[static_cast<size_t>(axis)] = length;
    check_shape("cat", shape.data(), x.rank());
  }
  Tensor out = empty(first.device(), shape, dtype, "cat");
  int64_t at = 0;
  for (const Tensor& x : tensors) {
    const Tensor part = slice(out, axis, at, at + x.size(axis), 1);
    first.backend().copy->copy(first.stream(), x.view, part.view);
    at += x.size(axis);
  }
  return out;
}

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("tril", x, diagonal, false); }

Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("triu", x, diagonal, true); }

}  // namespace nodegrad::ops
