// Tensor: a View and the Storage it lies in. Value semantics; copies share the storage.
#pragma once

#include <string>
#include <vector>

#include "core/storage.h"
#include "core/view.h"

namespace nodegrad {

using Shape = std::vector<int64_t>;

struct Tensor {
  Ref<Storage> storage;
  View view;

  Device& device() const { return storage->device(); }
  Stream& stream() const { return device().stream(); }
  const Backend& backend() const { return device().backend(); }
  DType dtype() const { return view.dtype; }
  int rank() const { return view.rank; }
  int64_t size(int axis) const { return view.shape[axis]; }
  int64_t elements() const { return element_count(view); }
  size_t bytes() const { return static_cast<size_t>(elements()) * item_size(view.dtype); }
  bool contiguous() const { return is_contiguous(view); }
  bool channels_last() const { return is_channels_last(view); }
  Shape shape() const { return Shape(view.shape, view.shape + view.rank); }
};

// Refuses negative sizes and those whose product, zeros left out, is beyond 2^46: no product of a
// legal shape's sizes overflows, in any order.
void check_shape(const char* op, const int64_t* shape, int rank);

// A new contiguous tensor with undefined contents; `op` names who asks, for errors.
Tensor empty(Device& device, const int64_t* shape, int rank, DType dtype, const char* op);
Tensor empty(Device& device, const Shape& shape, DType dtype, const char* op);
Tensor empty_like(const Tensor& x, DType dtype, const char* op);
// The same for images [n,c,h,w], which lie as [n,h,w,c] where `channels_last` says so.
Tensor empty_images(Device& device, const Shape& shape, DType dtype, bool channels_last,
                    const char* op);

// [2,3]: how errors print a shape.
std::string shape_text(const View& view);
std::string shape_text(const Shape& shape);

}  // namespace nodegrad
