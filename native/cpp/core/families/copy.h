// Copies and casts: the contract of copy.cc and copy.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct CopyFamily {
  // dst = src, converting between any two dtypes; both may be strided; same shape.
  // float to integer truncates towards zero, anything to bool is x != 0.
  void (*copy)(Stream&, const View& src, const View& dst);
};

}  // namespace nodegrad
