// Running sums and products: the contract of scan.cc and scan.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

enum class ScanOp : uint8_t { sum, product };

struct ScanFamily {
  // x and out are [outer, n, inner], contiguous, of one dtype: floating or int64. out[o,i,k] joins
  // x[o,0…i,k], or x[o,i…n-1,k] where `reverse`. float32 inside or wider; int64 wraps.
  void (*scan)(Stream&, ScanOp, bool reverse, const View& x, const View& out);
};

}  // namespace nodegrad
