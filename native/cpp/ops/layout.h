// Results that lie as their operand does, for ops that do not mind where channels are.
#pragma once

#include "core/tensor.h"

namespace nodegrad::ops {

// The view that walks memory in its order, of images whose channels come last.
inline View in_order(const View& v, bool channels_last) {
  return channels_last ? channels_to_end(v) : v;
}

// A new tensor of x's shape, channels last where x has them so.
inline Tensor empty_beside(const Tensor& x, DType dtype, const char* op) {
  return x.channels_last() ? empty_images(x.device(), x.shape(), dtype, true, op)
                           : empty_like(x, dtype, op);
}

}  // namespace nodegrad::ops
