// Constant and counting fills: the contract of fill.cc and fill.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct FillFamily {
  void (*fill)(Stream&, const View& out, Scalar value);
  void (*arange)(Stream&, const View& out, Scalar start, Scalar step);  // out: [N]
};

}  // namespace nodegrad
