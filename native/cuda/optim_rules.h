// The optimizers' rules, element by element: formulas in core/families/optim.h, which follow
// torch/optim. Scalars are formed in double, once a block (`prepare` changes what a rule has of its
// own), and rounded once to the type of arithmetic.
#pragma once

#include "core/families/optim.h"
#include "device_math.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// What a rule keeps per element beside the parameter and its gradient, and which of it there is.
template <class T>
struct State {
  T param, grad, first, second, third;
};

struct Present {
  bool first, third;
};

template <class T>
struct Scalars {
  T lr, decay, shrink, momentum, keep, fresh1, fresh2, root_bias2, eps, direction;
  bool nesterov, first_step;

  __device__ Scalars(const double* hyper, int options) {
    lr = static_cast<T>(hyper[kLearningRate]);
    decay = static_cast<T>(hyper[kWeightDecay]);
    shrink = static_cast<T>(1.0 - hyper[kLearningRate] * hyper[kWeightDecay]);
    momentum = static_cast<T>(hyper[kMomentum]);
    keep = static_cast<T>(hyper[kDampening]);
    fresh1 = static_cast<T>(1.0 - hyper[kMomentum]);
    fresh2 = static_cast<T>(1.0 - hyper[kDampening]);
    root_bias2 = T(1);
    eps = static_cast<T>(hyper[kEps]);
    direction = options & kMaximize ? T(-1) : T(1);
    nesterov = options & kNesterov;
    first_step = hyper[kStep] <= 1.0;
  }

  // The gradient as rules take it.
  __device__ __forceinline__ T gradient(const State<T>& x) const {
    const T g = direction * x.grad;
    return decay != T(0) ? g + decay * x.param : g;
  }
};

struct Sgd {
  template <class T>
  static __device__ void prepare(Scalars<T>&, const double*, int) {}

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present has, State<T>& x) {
    T g = s.gradient(x);
    if (has.first) {
      x.first = s.first_step ? g : s.momentum * x.first + s.fresh2 * g;
      g = s.nesterov ? g + s.momentum * x.first : x.first;
    }
    x.param = x.param - s.lr * g;
  }
};

struct ClassicalSgd {
  template <class T>
  static __device__ void prepare(Scalars<T>&, const double*, int) {}

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present has, State<T>& x) {
    T move = s.lr * s.gradient(x);
    if (has.first) {
      x.first = s.first_step ? move : s.momentum * x.first + move;
      move = s.nesterov ? move + s.momentum * x.first : x.first;
    }
    x.param = x.param - move;
  }
};

struct Adam {
  template <class T>
  static __device__ void prepare(Scalars<T>& s, const double* hyper, int options) {
    const double t = hyper[kStep];
    if (options & kDecoupled) {
      s.decay = T(0);
    } else {
      s.shrink = T(1);
    }
    s.root_bias2 = static_cast<T>(m_sqrt(1.0 - m_pow(hyper[kDampening], t)));
    s.lr = static_cast<T>(hyper[kLearningRate] / (1.0 - m_pow(hyper[kMomentum], t)));
  }

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present has, State<T>& x) {
    x.param = x.param * s.shrink;
    const T g = s.gradient(x);
    x.first = x.first + s.fresh1 * (g - x.first);
    x.second = s.keep * x.second + s.fresh2 * g * g;
    T square = x.second;
    if (has.third) {
      x.third = x.third > square ? x.third : square;
      square = x.third;
    }
    x.param = x.param - s.lr * x.first / (m_sqrt(square) / s.root_bias2 + s.eps);
  }
};

struct RmsProp {
  template <class T>
  static __device__ void prepare(Scalars<T>&, const double*, int) {}

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present has, State<T>& x) {
    const T g = s.gradient(x);
    x.second = s.keep * x.second + s.fresh2 * g * g;
    T square = x.second;
    if (has.third) {
      x.third = s.keep * x.third + s.fresh2 * g;
      square = square - x.third * x.third;
    }
    T move = g / (m_sqrt(square) + s.eps);
    if (has.first) {
      x.first = s.momentum * x.first + move;
      move = x.first;
    }
    x.param = x.param - s.lr * move;
  }
};

struct Adagrad {
  template <class T>
  static __device__ void prepare(Scalars<T>& s, const double* hyper, int) {
    s.lr = static_cast<T>(hyper[kLearningRate] / (1.0 + (hyper[kStep] - 1.0) * hyper[kMomentum]));
  }

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present, State<T>& x) {
    const T g = s.gradient(x);
    x.second = x.second + g * g;
    x.param = x.param - s.lr * (g / (m_sqrt(x.second) + s.eps));
  }
};

struct Adadelta {
  template <class T>
  static __device__ void prepare(Scalars<T>&, const double*, int) {}

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present, State<T>& x) {
    const T g = s.gradient(x);
    x.second = s.keep * x.second + s.fresh2 * g * g;
    const T move = m_sqrt(x.first + s.eps) / m_sqrt(x.second + s.eps) * g;
    x.first = s.keep * x.first + s.fresh2 * move * move;
    x.param = x.param - s.lr * move;
  }
};

struct Lion {
  template <class T>
  static __device__ void prepare(Scalars<T>&, const double*, int) {}

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present, State<T>& x) {
    const T g = s.direction * x.grad;
    const T ahead = s.momentum * x.first + s.fresh1 * g;
    const T sign = ahead > T(0) ? T(1) : ahead < T(0) ? T(-1) : ahead;
    x.first = s.keep * x.first + s.fresh2 * g;
    x.param = x.param * s.shrink - s.lr * sign;
  }
};

struct Average {
  template <class T>
  static __device__ void prepare(Scalars<T>& s, const double* hyper, int options) {
    const double t = hyper[kStep], warm = (1.0 + t) / (10.0 + t);
    double keep = hyper[kMomentum];
    if ((options & kWarmup) && warm < keep) keep = warm;
    if (options & kEqual) keep = 1.0 - 1.0 / t;
    s.fresh1 = static_cast<T>(1.0 - keep);
  }

  template <class T>
  static __device__ __forceinline__ void update(const Scalars<T>& s, Present, State<T>& x) {
    x.param = x.param + s.fresh1 * (x.grad - x.param);
  }
};

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
