// Rotary positions: the contract of rotary.cc and rotary.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Columns i and i + D/2 of x [..., T, D] turn by an angle of position t, whose cosine c and sine s
// are element [t, i] of the tables [T, D/2]:
//   y[i] = x[i]·c - x[i + D/2]·s,  y[i + D/2] = x[i + D/2]·c + x[i]·s, with -s where `inverse`.
// x and y share a floating dtype; the tables are contiguous, float32 or, for float64, float64.
struct RotaryFamily {
  void (*rotate)(Stream&, const View& x, const View& cosines, const View& sines, bool inverse,
                 const View& y);
};

}  // namespace nodegrad
