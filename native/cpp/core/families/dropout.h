// Dropout: the contract of dropout.cc and dropout.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// x, y, dy and dx share a floating dtype; mask is uint8, all are contiguous and of one size.
// The op layer advances the generator's state after a draw, as for core/families/random.h.
struct DropoutFamily {
  // mask[i] = u < keep, u being element i of a uniform draw; y = mask ? x·scale : 0.
  void (*forward)(Stream&, const View& x, const View& state, double keep, double scale,
                  const View& y, const View& mask);
  // dx = mask ? dy·scale : 0
  void (*backward)(Stream&, const View& mask, const View& dy, double scale, const View& dx);
};

}  // namespace nodegrad
