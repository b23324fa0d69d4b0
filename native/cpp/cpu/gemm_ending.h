// What a product does with a tile of C while it is in cache, beyond bias and ReLU: keeps the
// arguments of the activation for its gradient, applies GELU, adds a residual of C's layout.
#pragma once

#include "core/backend.h"
#include "core/elementwise.h"
#include "cpu/convert.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct Ending {
  const void* c;  // where the offsets of residual and before count from
  const void* residual;
  void* before;
  Activation activation;

  __attribute__((always_inline)) bool due() const {
    return residual || before || activation == Activation::gelu ||
           activation == Activation::gelu_tanh;
  }
};

static inline Ending ending_of(const GemmArgs& g) {
  return {g.c, g.residual, g.before, g.activation};
}

#define NODEGRAD_ACTIVATION(name, kind, saved, forward, backward) \
  template <class T>                                              \
  static inline T name##_of(T x) {                                \
    return forward;                                               \
  }
NODEGRAD_UNARY_OPS(NODEGRAD_ACTIVATION)
#undef NODEGRAD_ACTIVATION

// `n` neighbours of C, from `at` on: x are their sums, with scale and bias; ReLU is applied here
// where the sums are kept.
template <class T, class S>
void end_row(const Ending& e, const S* at, T* x, int64_t n) {
  const int64_t offset = at - static_cast<const S*>(e.c);
  if (e.before) {
    S* const before = static_cast<S*>(e.before) + offset;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) before[i] = Stored<S>::store(x[i]);
  }
  if (e.activation == Activation::gelu) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) x[i] = gelu_of(x[i]);
  } else if (e.activation == Activation::gelu_tanh) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) x[i] = gelu_tanh_of(x[i]);
  } else if (e.activation == Activation::relu) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) x[i] = x[i] < T(0) ? T(0) : x[i];
  }
  if (e.residual) {
    const S* const residual = static_cast<const S*>(e.residual) + offset;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) x[i] += Stored<S>::load(residual[i]);
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
