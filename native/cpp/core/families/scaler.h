// Gradient scaling: the contract of scaler.cc and scaler.cu (see core/backend.h). What is decided
// is decided on the device, so that a captured step decides anew at each replay.
#pragma once

#include "core/families/optim.h"

namespace nodegrad {

struct ScaleRule {
  double growth, backoff;
  int32_t interval;
};

struct ScalerFamily {
  // Each `param` ← param/scale; found ← 1 where an element of a result is not finite. scale is a
  // float32 scalar, found an int32 scalar.
  void (*unscale)(Stream&, const OptimTensor*, int count, DType, const View& scale,
                  const View& found);
  // found ≠ 0: scale *= backoff, tracker = 0. Otherwise tracker += 1, and where it is then
  // interval: scale *= growth unless that is not finite, tracker = 0. The product is rounded once.
  // scale is a float32 scalar, tracker and found are int32 scalars.
  void (*update)(Stream&, const View& scale, const View& tracker, const View& found,
                 const ScaleRule&);
};

}  // namespace nodegrad
