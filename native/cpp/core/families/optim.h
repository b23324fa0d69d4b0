// Multi-tensor updates of parameters and gradients: the contract of optim.cc and optim.cu (see
// core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// One entry per parameter tensor, all contiguous, `n` elements. Parameter and gradient have the
// launch's dtype; states have the type of arithmetic: float32, or float64 for float64. What a rule
// does not use is null.
struct OptimTensor {
  void* param;
  const void* grad;
  void* first;   // momentum, Adam's first moment, Adadelta's mean of squared updates
  void* second;  // mean or sum of squared gradients
  void* third;   // AMSGrad's maximum, centered RMSprop's mean gradient
  // 16-bit parameters only: their float32 values. Where an element of `master` does not round to
  // the parameter's (at first, or since somebody else wrote the parameter), it is taken from there.
  void* master;
  int64_t n;
};

// Hyper-parameters that may change between replays of a captured step live in device memory:
// `hyper` is float64[kHyperSize], `step` the number of updates so far. Kernels read them there.
enum Hyper : int {
  kLearningRate = 0,
  kMomentum,   // momentum of SGD and RMSprop, beta1 of Adam and Lion, Adagrad's decay of lr
  kDampening,  // SGD's dampening, beta2 of Adam and Lion, RMSprop's alpha, Adadelta's rho
  kEps,
  kWeightDecay,
  kStep,  // updates done so far; `advance` adds 1 before an update reads it
  kHyperSize,
};

// g is the gradient, negated where kMaximize; weight decay adds wd·p to it unless said otherwise.
enum class UpdateRule : uint8_t {
  // PyTorch's: v = t == 1 ? g : momentum·v + (1 - dampening)·g; p -= lr·(nesterov ? g + momentum·v
  // : v). kClassical: v = momentum·v + lr·g; p -= nesterov ? lr·g + momentum·v : v.
  sgd,
  adam,      // kDecoupled: AdamW, p -= lr·wd·p first; AMSGrad where `third` is given
  rmsprop,   // `first`: momentum, `third`: centered
  adagrad,   // second += g²; p -= lr / (1 + (t - 1)·decay) · g / (√second + eps)
  adadelta,  // PyTorch's
  lion,      // p -= lr·wd·p; p -= lr·sign(b1·m + (1 - b1)·g); m = b2·m + (1 - b2)·g
  // p += (1 - d)·(g - p): running means. d is kMomentum; kWarmup: at most (1 + t) / (10 + t);
  // kEqual: 1 - 1/t, the mean of all so far.
  average,
};

enum UpdateOption : int {
  kMaximize = 1,
  kNesterov = 2,
  kClassical = 4,
  kDecoupled = 8,
  kWarmup = 16,
  kEqual = 32,
};

// Elements that one partial norm covers.
constexpr int64_t kNormChunk = 16384;

struct OptimFamily {
  // Where the flag `found` is not null and set on the device, neither of these changes anything.
  void (*update)(Stream&, UpdateRule, const OptimTensor*, int count, DType, const View& hyper,
                 int options, const int32_t* found);
  void (*advance)(Stream&, const View& hyper, const int32_t* found);  // hyper[kStep] += 1
  // Norms over many tensors at once: Σ|x|^p for a finite p, max |x| for an infinite one, NaN where
  // there is one. A partial result per kNormChunk elements of each `grad`, in their order.
  void (*norm_partials)(Stream&, const OptimTensor*, int count, DType, double p, double* partials);
  // norm = (Σ partials)^(1/p), or their maximum; norm is a float32 or float64 scalar.
  void (*norm_total)(Stream&, const double* partials, int64_t count, double p, const View& norm);
  // Each `param` times min(1, limit / (norm + 1e-6)).
  void (*scale)(Stream&, const OptimTensor*, int count, DType, const View& norm, double limit);
  // Each `param` brought into [-limit, limit]; NaN stays.
  void (*clamp)(Stream&, const OptimTensor*, int count, DType, double limit);
};

}  // namespace nodegrad
