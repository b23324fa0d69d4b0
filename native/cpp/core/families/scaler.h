// Gradient scaling: the contract of scaler.cc and scaler.cu (see core/backend.h). What is decided
// is decided on the device, so that a captured step decides anew at each replay.
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct ScalerFamily {
  // x ← x/scale in place; found ← 1 where an element of the result is not finite. x is floating
  // and contiguous, scale a float32 scalar, found an int32 scalar.
  void (*unscale)(Stream&, const View& x, const View& scale, const View& found);
  // out ← x where found ≠ 0; otherwise neither is touched. One size in bytes, contiguous.
  void (*copy_if)(Stream&, const View& out, const View& x, const View& found);
};

}  // namespace nodegrad
