// Elements by index along one axis, and which elements are set: the contract of gather.cc and
// gather.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

constexpr int64_t kNonzeroBlock = 4096;  // elements counted together

struct GatherFamily {
  // out[c] = x[c'], where c' is c but index[c] on `axis`. index (int64) has out's shape; x's rank
  // is the same and its other sizes are no smaller. Indices outside the axis give NaN, or 0 for
  // integers.
  void (*gather)(Stream&, const View& x, const View& index, int axis, const View& out);
  // out[c'] = src[c], or += src[c], in the order of c along `axis`; src has index's shape. Indices
  // outside are skipped. Sums are for float32, float64 and the integers.
  void (*scatter)(Stream&, const View& src, const View& index, int axis, bool add, const View& out);
  // mask: bool, contiguous. offsets: int64 [B + 1], how many of mask are set before each block of
  // kNonzeroBlock elements, and in all.
  void (*count)(Stream&, const View& mask, const View& offsets);
  // out: int64 [K,R], the coordinates of the elements that are set, in row-major order.
  void (*nonzero)(Stream&, const View& mask, const View& offsets, const View& out);
};

}  // namespace nodegrad
