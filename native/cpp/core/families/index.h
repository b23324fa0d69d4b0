// Rows by index: the contract of index.cc and index.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct IndexFamily {
  // out[i, :] = x[index[i], :]; x is [R, ...], index int64 [I], out [I, ...]; x's rows are
  // contiguous. Indices outside [0,R) give zeros for integers and NaN for floats.
  void (*select)(Stream&, const View& x, const View& index, const View& out);
  // out[index[i], :] += src[i, :], in the order of i (deterministic); indices outside are skipped.
  void (*add)(Stream&, const View& src, const View& index, const View& out);
};

}  // namespace nodegrad
