// Sorting: the contract of sort.cc and sort.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct SortFamily {
  // x is [rows, n], contiguous, n below 2^31; values [rows, k] and indices (int64) [rows, k] take
  // the first k of each sorted row. Stable; NaN counts as larger than every number.
  void (*sort)(Stream&, const View& x, bool descending, const View& values, const View& indices);
  // out [rows, n] is 0 but for out[r, indices[r,j]] = src[r,j]; indices [rows, k] differ in a row.
  void (*place)(Stream&, const View& src, const View& indices, const View& out);
};

}  // namespace nodegrad
