// Lists of tensors that the families optim and scaler give to kernels by dtype.
#pragma once

#include <vector>

#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

constexpr DType kFloatTypes[] = {DType::float32, DType::float64, DType::bfloat16, DType::float16};

inline void check_floating(const char* op, const Tensor& x) {
  if (!is_float(x.dtype())) {
    fail("%s: needs floating tensors, got %s", op, dtype_name(x.dtype()));
  }
}

// Calls f(dtype, entries) with the tensors of each dtype as both parameter and gradient.
template <class F>
void for_dtypes(const char* op, const TensorList& tensors, const F& f) {
  std::vector<OptimTensor> entries;
  for (const Tensor& x : tensors) {
    check_floating(op, x);
    check_same_device(op, tensors[0], x);
    if (!x.contiguous()) fail("%s: gradients must be contiguous", op);
  }
  for (DType dtype : kFloatTypes) {
    entries.clear();
    for (const Tensor& x : tensors) {
      if (x.dtype() != dtype) continue;
      entries.push_back(
          {x.view.data, x.view.data, nullptr, nullptr, nullptr, nullptr, x.elements()});
    }
    if (!entries.empty()) f(dtype, entries);
  }
}

// One number on the device of `like`.
inline void check_scalar(const char* op, const char* what, const Tensor& like, const Tensor& x,
                         DType dtype) {
  check_same_device(op, like, x);
  if (x.dtype() != dtype || x.elements() != 1) {
    fail("%s: %s must be a scalar of %s, got %s%s", op, what, dtype_name(dtype),
         dtype_name(x.dtype()), shape_text(x.view).c_str());
  }
}

// Whether a gradient was not finite.
inline void check_flag(const char* op, const Tensor& like, const Tensor& found) {
  check_scalar(op, "the flag", like, found, DType::int32);
}

}  // namespace nodegrad::ops
