#include "core/tensor.h"

#include "core/error.h"

namespace nodegrad {

void check_shape(const char* op, const int64_t* shape, int rank) {
  if (rank > kMaxRank) fail("%s: rank must be at most %d, got %d", op, kMaxRank, rank);
  constexpr int64_t most = int64_t{1} << 46;
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) {
    if (shape[i] < 0) fail("%s: sizes must not be negative, got %lld", op, (long long)shape[i]);
    if (shape[i] > 0 && product > most / shape[i]) {
      fail("%s: too many elements, got shape %s", op,
           shape_text(Shape(shape, shape + rank)).c_str());
    }
    if (shape[i] > 0) product *= shape[i];
  }
}

Tensor empty(Device& device, const int64_t* shape, int rank, DType dtype, const char* op) {
  check_shape(op, shape, rank);
  Tensor t;
  t.view.rank = rank;
  t.view.dtype = dtype;
  int64_t elements = 1;
  for (int i = rank - 1; i >= 0; --i) {
    t.view.shape[i] = shape[i];
    t.view.strides[i] = elements;
    elements *= shape[i];
  }
  t.storage = device.allocate(static_cast<size_t>(elements) * item_size(dtype), op);
  t.view.data = t.storage->data();
  return t;
}

Tensor empty(Device& device, const Shape& shape, DType dtype, const char* op) {
  return empty(device, shape.data(), static_cast<int>(shape.size()), dtype, op);
}

Tensor empty_like(const Tensor& x, DType dtype, const char* op) {
  return empty(x.device(), x.view.shape, x.view.rank, dtype, op);
}

Tensor empty_images(Device& device, const Shape& shape, DType dtype, bool channels_last,
                    const char* op) {
  Tensor t = empty(device, shape, dtype, op);
  if (!channels_last) return t;
  const int64_t c = shape[1], h = shape[2], w = shape[3];
  const int64_t strides[] = {c * h * w, 1, w * c, c};
  for (int i = 0; i < 4; ++i) t.view.strides[i] = strides[i];
  return t;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::string shape_text(const View& view) {
  return shape_text(Shape(view.shape, view.shape + view.rank));
}

}  // namespace nodegrad
