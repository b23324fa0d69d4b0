// What stands in a result for an element that is not there (an index outside): a quiet NaN.
#pragma once

#include "core/dtype.h"

namespace nodegrad {

// Its bits in a floating dtype; 0 in the others.
static constexpr uint64_t missing_bits(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 0x7fc00000u;
    case DType::float64:
      return 0x7ff8000000000000u;
    case DType::bfloat16:
      return 0x7fc0u;
    case DType::float16:
      return 0x7e00u;
    default:
      return 0;
  }
}

}  // namespace nodegrad
