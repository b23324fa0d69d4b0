// Losses of elements and of chosen classes: the contract of loss.cc and loss.cu (see
// core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// The loss of x against t; `a` is the launch's parameter, f an element of `factor`. With d = x - t:
enum class LossKind : uint8_t {
  mse,        // d²
  l1,         // |d|
  smooth_l1,  // |d| < a ? d²/(2a) : |d| - a/2
  huber,      // |d| ≤ a ? d²/2 : a·(|d| - a/2)
  bce,        // -t·ln x - (1 - t)·ln(1 - x), logarithms at least -100
  // (1 - t)·x + (1 + (f - 1)·t)·ln(1 + e⁻ˣ): bce of the sigmoid of x, t counting f times
  bce_logits,
};
constexpr int kLossKinds = 6;

enum class Reduction : uint8_t { mean, sum, none };

// Rows [N,D] of classes C, each row with one: log-probabilities are [N,C,D].
struct ClassTarget {
  const int64_t* target;  // t, [N,D]; a loss of 0 where it is ignore_index, NaN where no class
  int64_t ignore_index;
  View weight;  // w, [C], contiguous, of the loss's dtype; no data: all 1
  int64_t batch, classes, inner;
};

// All operands have one floating dtype and are contiguous with the output's elements; `factor` and
// `dloss` may be one element (rank 0) instead; a factor without data is 1. float32 inside, or
// float64.
struct LossFamily {
  void (*forward)(Stream&, LossKind, const View& x, const View& t, const View& factor, double a,
                  const View& loss);
  // d = dloss · the derivative by x, or by t where `of_target`.
  void (*backward)(Stream&, LossKind, const View& x, const View& t, const View& factor, double a,
                   const View& dloss, bool of_target, const View& d);
  // Per row -w[t]·x[n,t,d]; `loss` is [N,D] where nothing is reduced, else one element: their sum,
  // or that by `total`, the sum of w[t] over rows not ignored (float32, or float64 for float64),
  // which is written for a mean alone. x is [N,C,D] of any strides.
  void (*nll)(Stream&, const View& x, const ClassTarget&, Reduction, const View& loss,
              const View& total);
  // dx[n,c,d] = -w[c]·dloss[n,d] where c = t, else 0 (NaN throughout rows of no class), by `total`
  // for a mean. dloss is [N,D], contiguous, or one element (rank 0).
  void (*nll_backward)(Stream&, const ClassTarget&, Reduction, const View& total, const View& dloss,
                       const View& dx);
};

}  // namespace nodegrad
