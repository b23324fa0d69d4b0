// Multi-tensor optimizers: the contract of optim.cc and optim.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// One entry per parameter tensor; all contiguous, `n` elements, one dtype (float32 or float64;
// gradients likewise).
struct OptimTensor {
  void* param;
  const void* grad;
  void* first;   // momentum buffer, or Adam's first moment
  void* second;  // Adam's second moment, or null
  int64_t n;
};

// Hyper-parameters that may change between replays of a captured step live in device memory:
// `hyper` is float64[kHyperSize], `step` the number of updates so far. Kernels read them there.
enum Hyper : int {
  kLearningRate = 0,
  kMomentum,   // SGD's momentum, Adam's beta1
  kDampening,  // SGD's dampening, Adam's beta2
  kEps,
  kWeightDecay,
  kStep,  // updates done so far; `advance` adds 1 before an update reads it
  kHyperSize,
};

struct OptimFamily {
  // PyTorch's SGD: g += weight_decay·p; v = step == 1 ? g : momentum·v + (1 - dampening)·g;
  // p -= lr·(nesterov ? g + momentum·v : v). `first` null where momentum is 0; maximize negates g.
  void (*sgd)(Stream&, const OptimTensor*, int count, DType, const View& hyper, bool nesterov,
              bool maximize);
  // PyTorch's Adam; AdamW where `decoupled` (p -= lr·weight_decay·p before the update).
  void (*adam)(Stream&, const OptimTensor*, int count, DType, const View& hyper, bool decoupled,
               bool maximize);
  void (*advance)(Stream&, const View& hyper);  // hyper[kStep] += 1
};

}  // namespace nodegrad
