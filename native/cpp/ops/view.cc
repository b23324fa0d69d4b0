#include <algorithm>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

int normal_axis(const char* op, int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) {
    fail("%s: axis must be in [%d,%d), got %lld", op, -rank, rank, (long long)axis);
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  if (&a.device() != &b.device()) {
    fail("%s: tensors must be on one device, got %s and %s", op, a.device().name().c_str(),
         b.device().name().c_str());
  }
}

// Rank -1 in the result says that x does not broadcast to the shape.
View broadcast_view(const View& x, const int64_t* shape, int rank) {
  View out = x;
  out.rank = -1;
  if (x.rank > rank) return out;
  const int lead = rank - x.rank;
  for (int i = 0; i < rank; ++i) {
    const int64_t size = i < lead ? 1 : x.shape[i - lead];
    if (size != shape[i] && size != 1) return out;
    out.shape[i] = shape[i];
    out.strides[i] = size == 1 ? 0 : x.strides[i - lead];
  }
  out.rank = rank;
  return out;
}

namespace {

Shape resolve_shape(const Tensor& x, Shape shape) {
  const Shape asked = shape;
  int64_t known = 1;
  int64_t* unknown = nullptr;
  for (int64_t& size : shape) {
    if (size == -1 && !unknown) {
      unknown = &size;
    } else if (size < 0) {
      fail("reshape: sizes must not be negative (one may be -1), got %s",
           shape_text(asked).c_str());
    }
  }
  Shape others = shape;
  for (int64_t& size : others) size = size == -1 ? 1 : size;
  check_shape("reshape", others.data(), static_cast<int>(others.size()));
  for (int64_t size : others) known *= size;
  const int64_t elements = x.elements();
  if (unknown && known > 0 && elements % known == 0) {
    *unknown = elements / known;
    known = elements;
  }
  if (known != elements || (unknown && *unknown < 0)) {
    fail("reshape: sizes must multiply to %lld, got %s", (long long)elements,
         shape_text(asked).c_str());
  }
  return shape;
}

// Strides that give `shape` over x's own storage; false where there are none.
bool view_strides(const View& x, const Shape& shape, int64_t* strides) {
  int64_t sizes[kMaxRank], steps[kMaxRank];
  int old = -1;
  for (int i = 0; i < x.rank; ++i) {
    if (x.shape[i] == 1) continue;
    ++old;
    sizes[old] = x.shape[i];
    steps[old] = x.strides[i];
  }
  int axis = static_cast<int>(shape.size()) - 1;
  while (old >= 0) {
    // A run of x's axes that lie evenly in memory must make up a run of the new axes.
    const int64_t stride = steps[old];
    int64_t run = sizes[old];
    for (; old > 0 && steps[old - 1] == steps[old] * sizes[old]; --old) run *= sizes[old - 1];
    --old;
    int64_t filled = 1;
    for (; axis >= 0 && filled < run; --axis) {
      strides[axis] = stride * filled;
      filled *= shape[static_cast<size_t>(axis)];
    }
    if (filled != run) return false;
  }
  for (; axis >= 0; --axis) strides[axis] = 1;
  return true;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& wanted) {
  const Shape shape = resolve_shape(x, wanted);
  Tensor out = x;
  out.view.rank = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), out.view.shape);
  if (x.contiguous()) {
    int64_t stride = 1;
    for (int i = out.view.rank - 1; i >= 0; --i) {
      out.view.strides[i] = stride;
      stride *= shape[static_cast<size_t>(i)];
    }
    return out;
  }
  if (view_strides(x.view, shape, out.view.strides)) return out;
  return reshape(clone(x), shape);
}

Tensor permute(const Tensor& x, const Shape& axes) {
  if (static_cast<int>(axes.size()) != x.rank()) {
    fail("permute: needs one axis for each of %d, got %s", x.rank(), shape_text(axes).c_str());
  }
  Tensor out = x;
  unsigned seen = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = normal_axis("permute", axes[static_cast<size_t>(i)], x.rank());
    if (seen & (1u << axis)) {
      fail("permute: axes must differ, got %s", shape_text(axes).c_str());
    }
    seen |= 1u << axis;
    out.view.shape[i] = x.view.shape[axis];
    out.view.strides[i] = x.view.strides[axis];
  }
  return out;
}

Tensor expand(const Tensor& x, const Shape& wanted) {
  Shape shape = wanted;
  const int lead = static_cast<int>(shape.size()) - x.rank();
  for (int i = std::max(lead, 0); i < static_cast<int>(shape.size()); ++i) {
    if (shape[static_cast<size_t>(i)] == -1) shape[static_cast<size_t>(i)] = x.size(i - lead);
  }
  check_shape("expand", shape.data(), static_cast<int>(shape.size()));
  Tensor out = x;
  out.view = broadcast_view(x.view, shape.data(), static_cast<int>(shape.size()));
  if (out.view.rank < 0) {
    fail("expand: shape %s does not broadcast to %s", shape_text(x.view).c_str(),
         shape_text(wanted).c_str());
  }
  return out;
}

Tensor slice(const Tensor& x, int64_t axis_index, int64_t start, int64_t stop, int64_t step) {
  const int axis = normal_axis("slice", axis_index, x.rank());
  if (step < 1) fail("slice: step must be positive, got %lld", (long long)step);
  const int64_t size = x.size(axis);
  auto bound = [size](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
  const int64_t first = bound(start);
  const int64_t last = std::max(bound(stop), first);
  Tensor out = x;
  out.view.shape[axis] = (last - first + step - 1) / step;
  out.view.data = static_cast<char*>(x.view.data) +
                  first * x.view.strides[axis] * static_cast<int64_t>(item_size(x.dtype()));
  out.view.strides[axis] = x.view.strides[axis] * step;
  return out;
}

Tensor select(const Tensor& x, int64_t axis_index, int64_t index) {
  const int axis = normal_axis("select", axis_index, x.rank());
  const int64_t size = x.size(axis);
  if (index < -size || index >= size) {
    fail("select: index must be in [%lld,%lld), got %lld", (long long)-size, (long long)size,
         (long long)index);
  }
  const int64_t at = index < 0 ? index + size : index;
  Tensor out = x;
  out.view.data = static_cast<char*>(x.view.data) +
                  at * x.view.strides[axis] * static_cast<int64_t>(item_size(x.dtype()));
  for (int i = axis; i + 1 < x.rank(); ++i) {
    out.view.shape[i] = x.view.shape[i + 1];
    out.view.strides[i] = x.view.strides[i + 1];
  }
  --out.view.rank;
  return out;
}

Tensor alias(const Tensor& x) { return x; }

Tensor diagonal(const Tensor& x, int64_t offset, int64_t first, int64_t second) {
  const int a = normal_axis("diagonal", first, x.rank());
  const int b = normal_axis("diagonal", second, x.rank());
  if (a == b)
    fail("diagonal: axes must differ, got %lld and %lld", (long long)first, (long long)second);
  const int64_t row = offset < 0 ? std::min(-offset, x.size(a)) : 0;
  const int64_t column = offset > 0 ? std::min(offset, x.size(b)) : 0;
  const int64_t length = std::min(x.size(a) - row, x.size(b) - column);
  Tensor out = x;
  out.view.rank = 0;
  for (int i = 0; i < x.rank(); ++i) {
    if (i == a || i == b) continue;
    out.view.shape[out.view.rank] = x.view.shape[i];
    out.view.strides[out.view.rank++] = x.view.strides[i];
  }
  out.view.shape[out.view.rank] = length;
  out.view.strides[out.view.rank++] = x.view.strides[a] + x.view.strides[b];
  if (length > 0) {
    out.view.data =
        static_cast<char*>(x.view.data) + (row * x.view.strides[a] + column * x.view.strides[b]) *
                                              static_cast<int64_t>(item_size(x.dtype()));
  }
  return out;
}

Tensor diag_embed(const Tensor& x, int64_t offset) {
  if (x.rank() == 0) fail("diagEmbed: needs a tensor of rank 1 or more, got a scalar");
  if (x.rank() == kMaxRank) fail("diagEmbed: needs a tensor of rank 7 or less, got 8");
  constexpr int64_t farthest = int64_t{1} << 46;
  if (offset < -farthest || offset > farthest) {
    fail("diagEmbed: too many elements, got offset %lld", (long long)offset);
  }
  Shape shape = x.shape();
  shape.back() += offset < 0 ? -offset : offset;
  shape.push_back(shape.back());
  Tensor out = full(x.device(), shape, 0, x.dtype(), "diagEmbed");
  copy_into(diagonal(out, offset, -2, -1), x);
  return out;
}

}  // namespace nodegrad::ops
