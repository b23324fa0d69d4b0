// Variance and mean: the contract of variance.cc and variance.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct VarianceFamily {
  // x is [outer, n, inner], contiguous, floating; variance and mean are [outer, inner] of its
  // dtype: mean over n, and the sum of squared deviations from it divided by `freedom` (NaN where
  // n is 0). One pass over x less its line's first element, so that a large mean costs no digits.
  void (*variance)(Stream&, const View& x, double freedom, const View& variance, const View& mean);
};

}  // namespace nodegrad
