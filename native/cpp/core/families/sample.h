// Draws that need more than one number each: the contract of sample.cc and sample.cu (see
// core/backend.h). `state` as in core/families/random.h.
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Where two words make a number, number i takes words 2(i%2) and 2(i%2)+1 of the counter
// offset + i/2: 64 bits, the first word above the second.
struct SampleFamily {
  // out: int64 [N], the numbers 0 … N-1 sorted by their 64 bits (equal ones by themselves).
  void (*permutation)(Stream&, const View& state, const View& out);
  // weights: float64 [R,C], contiguous; out: int64 [R,S], classes drawn in proportion to their
  // weights; -1 where a row has nothing (left) to draw. What is not positive counts as 0.
  void (*multinomial)(Stream&, const View& weights, const View& state, bool replacement,
                      const View& out);
  // out[i] = u < probability[i], by the uniforms of core/families/random.h. probability: float64,
  // contiguous, of out's shape.
  void (*bernoulli)(Stream&, const View& probability, const View& state, const View& out);
  // Normal numbers of a mean and a standard deviation, given that they are in [low, high].
  void (*truncated_normal)(Stream&, const View& state, double mean, double std, double low,
                           double high, const View& out);
};

}  // namespace nodegrad
