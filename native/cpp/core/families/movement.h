// Elements in other places: the contract of movement.cc and movement.cu (see core/backend.h).
#pragma once

#include "core/axis_map.h"
#include "core/view.h"

namespace nodegrad {

class Stream;

struct MovementFamily {
  // out[i0, i1, …] = x[s0, s1, …], sk = axis_source(maps[k], …); `fill`, one element of x's dtype,
  // where one of them is outside. One map per axis of x; any dtype.
  void (*remap)(Stream&, const View& x, const AxisMap* maps, const View& fill, const View& out);
  // dx[o, j, c] = Σ dout[o, i, c] over the places i of element j, in ascending order. Both are
  // contiguous, floating and of rank 3; float32 inside for the 16-bit types.
  void (*fold)(Stream&, const View& dout, AxisMap map, const View& dx);
  // out[b, i, j] = x[b, i, j] where j - i <= diagonal (upper: >=), else 0. x is contiguous.
  void (*triangle)(Stream&, const View& x, int64_t diagonal, bool upper, const View& out);
};

}  // namespace nodegrad
