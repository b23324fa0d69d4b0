// Draws: the contract of random.cc and random.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// `state` is int64[2] in device memory: seed, offset. Element i of a draw uses Philox4x32-10
// with key = seed and counter = offset + i/4, word i%4 (core/philox.h). `advance` adds
// `counters` to the offset; ops call it after each draw with ceil(N/4).
struct RandomFamily {
  void (*uniform)(Stream&, const View& out, const View& state, double low, double high);
  void (*normal)(Stream&, const View& out, const View& state, double mean, double std);
  void (*bernoulli)(Stream&, const View& out, const View& state, double probability);
  void (*advance)(Stream&, const View& state, int64_t counters);
};

}  // namespace nodegrad
