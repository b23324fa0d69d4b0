// Losses of one element: the contract of loss.cc and loss.cu (see core/backend.h).
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

// All operands have one floating dtype and are contiguous with the output's elements; `factor` and
// `dloss` may be one element (rank 0) instead; a factor without data is 1. float32 inside, or
// float64.
struct LossFamily {
  void (*forward)(Stream&, LossKind, const View& x, const View& t, const View& factor, double a,
                  const View& loss);
  // d = dloss · the derivative by x, or by t where `of_target`.
  void (*backward)(Stream&, LossKind, const View& x, const View& t, const View& factor, double a,
                   const View& dloss, bool of_target, const View& d);
};

}  // namespace nodegrad
