// The optimizers' rules, element by element: formulas in core/families/optim.h, which follow
// torch/optim. `takes` says which states a rule knows, by the bits of StateMask; scalars are formed
// in double and rounded once to the type of arithmetic.
#pragma once

#include "core/families/optim.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

// What a rule keeps per element beside the parameter and its gradient.
template <class T>
struct State {
  T param, grad, first, second, third;
};

enum StateMask : int { kFirst = 1, kSecond = 2, kThird = 4 };

template <class T>
struct Sgd {
  static constexpr bool takes(int mask) { return mask == 0 || mask == kFirst; }
  T lr, decay, momentum, fresh, direction;
  bool nesterov, first_step;

  Sgd(const double* hyper, int options)
      : lr(static_cast<T>(hyper[kLearningRate])),
        decay(static_cast<T>(hyper[kWeightDecay])),
        momentum(static_cast<T>(hyper[kMomentum])),
        fresh(static_cast<T>(1.0 - hyper[kDampening])),
        direction(options & kMaximize ? T(-1) : T(1)),
        nesterov(options & kNesterov),
        first_step(hyper[kStep] <= 1.0) {}

  template <int mask>
  void update(State<T>& x) const {
    const T g = direction * x.grad + decay * x.param;
    if (mask == 0) {
      x.param = x.param - lr * g;
      return;
    }
    // At the first step v is undefined and may hold NaN: it is not read.
    const T moved = momentum * x.first + fresh * g;
    const T velocity = first_step ? g : moved;
    const T ahead = g + momentum * velocity;
    x.first = velocity;
    x.param = x.param - lr * (nesterov ? ahead : velocity);
  }
};

template <class T>
struct ClassicalSgd : Sgd<T> {
  using Sgd<T>::Sgd;

  template <int mask>
  void update(State<T>& x) const {
    const T move = this->lr * (this->direction * x.grad + this->decay * x.param);
    if (mask == 0) {
      x.param = x.param - move;
      return;
    }
    const T moved = this->momentum * x.first + move;
    const T velocity = this->first_step ? move : moved;
    const T ahead = move + this->momentum * velocity;
    x.first = velocity;
    x.param = x.param - (this->nesterov ? ahead : velocity);
  }
};

template <class T>
struct Adam {
  static constexpr bool takes(int mask) { return (mask & 3) == (kFirst | kSecond); }
  T shrink, decay, fresh1, keep2, fresh2, root_bias2, eps, step_size, direction;

  Adam(const double* hyper, int options) {
    const bool decoupled = options & kDecoupled;
    const double lr = hyper[kLearningRate], wd = hyper[kWeightDecay], t = hyper[kStep];
    const double beta1 = hyper[kMomentum], beta2 = hyper[kDampening];
    shrink = static_cast<T>(decoupled ? 1.0 - lr * wd : 1.0);
    decay = static_cast<T>(decoupled ? 0.0 : wd);
    fresh1 = static_cast<T>(1.0 - beta1);
    keep2 = static_cast<T>(beta2);
    fresh2 = static_cast<T>(1.0 - beta2);
    root_bias2 = static_cast<T>(__builtin_sqrt(1.0 - __builtin_pow(beta2, t)));
    eps = static_cast<T>(hyper[kEps]);
    step_size = static_cast<T>(lr / (1.0 - __builtin_pow(beta1, t)));
    direction = options & kMaximize ? T(-1) : T(1);
  }

  template <int mask>
  void update(State<T>& x) const {
    const T p = x.param * shrink;
    const T g = direction * x.grad + decay * p;
    x.first = x.first + fresh1 * (g - x.first);
    x.second = keep2 * x.second + fresh2 * g * g;
    T square = x.second;
    if (mask & kThird) {
      x.third = x.third > square ? x.third : square;
      square = x.third;
    }
    x.param = p - step_size * x.first / (m_sqrt(square) / root_bias2 + eps);
  }
};

template <class T>
struct RmsProp {
  static constexpr bool takes(int mask) { return mask & kSecond; }
  T lr, decay, momentum, keep, fresh, eps, direction;

  RmsProp(const double* hyper, int options)
      : lr(static_cast<T>(hyper[kLearningRate])),
        decay(static_cast<T>(hyper[kWeightDecay])),
        momentum(static_cast<T>(hyper[kMomentum])),
        keep(static_cast<T>(hyper[kDampening])),
        fresh(static_cast<T>(1.0 - hyper[kDampening])),
        eps(static_cast<T>(hyper[kEps])),
        direction(options & kMaximize ? T(-1) : T(1)) {}

  template <int mask>
  void update(State<T>& x) const {
    const T g = direction * x.grad + decay * x.param;
    x.second = keep * x.second + fresh * g * g;
    T square = x.second;
    if (mask & kThird) {
      x.third = keep * x.third + fresh * g;
      square = square - x.third * x.third;
    }
    T move = g / (m_sqrt(square) + eps);
    if (mask & kFirst) {
      x.first = momentum * x.first + move;
      move = x.first;
    }
    x.param = x.param - lr * move;
  }
};

template <class T>
struct Adagrad {
  static constexpr bool takes(int mask) { return mask == kSecond; }
  T lr, decay, eps, direction;

  Adagrad(const double* hyper, int options)
      : lr(static_cast<T>(hyper[kLearningRate] / (1.0 + (hyper[kStep] - 1.0) * hyper[kMomentum]))),
        decay(static_cast<T>(hyper[kWeightDecay])),
        eps(static_cast<T>(hyper[kEps])),
        direction(options & kMaximize ? T(-1) : T(1)) {}

  template <int>
  void update(State<T>& x) const {
    const T g = direction * x.grad + decay * x.param;
    x.second = x.second + g * g;
    x.param = x.param - lr * (g / (m_sqrt(x.second) + eps));
  }
};

template <class T>
struct Adadelta {
  static constexpr bool takes(int mask) { return mask == (kFirst | kSecond); }
  T lr, decay, keep, fresh, eps, direction;

  Adadelta(const double* hyper, int options)
      : lr(static_cast<T>(hyper[kLearningRate])),
        decay(static_cast<T>(hyper[kWeightDecay])),
        keep(static_cast<T>(hyper[kDampening])),
        fresh(static_cast<T>(1.0 - hyper[kDampening])),
        eps(static_cast<T>(hyper[kEps])),
        direction(options & kMaximize ? T(-1) : T(1)) {}

  template <int>
  void update(State<T>& x) const {
    const T g = direction * x.grad + decay * x.param;
    x.second = keep * x.second + fresh * g * g;
    const T move = m_sqrt(x.first + eps) / m_sqrt(x.second + eps) * g;
    x.first = keep * x.first + fresh * move * move;
    x.param = x.param - lr * move;
  }
};

template <class T>
struct Lion {
  static constexpr bool takes(int mask) { return mask == kFirst; }
  T lr, shrink, keep1, fresh1, keep2, fresh2, direction;

  Lion(const double* hyper, int options)
      : lr(static_cast<T>(hyper[kLearningRate])),
        shrink(static_cast<T>(1.0 - hyper[kLearningRate] * hyper[kWeightDecay])),
        keep1(static_cast<T>(hyper[kMomentum])),
        fresh1(static_cast<T>(1.0 - hyper[kMomentum])),
        keep2(static_cast<T>(hyper[kDampening])),
        fresh2(static_cast<T>(1.0 - hyper[kDampening])),
        direction(options & kMaximize ? T(-1) : T(1)) {}

  template <int>
  void update(State<T>& x) const {
    const T g = direction * x.grad;
    const T ahead = keep1 * x.first + fresh1 * g;
    // NaN goes through.
    const T sign = ahead > T(0) ? T(1) : ahead < T(0) ? T(-1) : ahead;
    x.first = keep2 * x.first + fresh2 * g;
    x.param = x.param * shrink - lr * sign;
  }
};

template <class T>
struct Average {
  static constexpr bool takes(int mask) { return mask == 0; }
  T fresh;

  Average(const double* hyper, int options) {
    const double t = hyper[kStep], warm = (1.0 + t) / (10.0 + t);
    double keep = hyper[kMomentum];
    if ((options & kWarmup) && warm < keep) keep = warm;
    if (options & kEqual) keep = 1.0 - 1.0 / t;
    fresh = static_cast<T>(1.0 - keep);
  }

  template <int>
  void update(State<T>& x) const {
    x.param = x.param + fresh * (x.grad - x.param);
  }
};

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
