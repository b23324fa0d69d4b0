// What the kernels of recurrent layers share: where a row is at a step, and the cells' formulas
// (ops/rnn.ts) with their derivatives.
#pragma once

#include "core/backend.h"
#include "device_math.h"
#include "numbers.h"
#include "ptx.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kMostGates = 4;

__device__ __forceinline__ int64_t rnn_length(const RnnArgs& a, int64_t b) {
  if (!a.lengths) return a.steps;
  const int64_t length = a.lengths[b];
  return length < 0 ? 0 : length > a.steps ? a.steps : length;
}

// Where row b of a direction is at a step.
struct RnnPlace {
  int64_t at, before;
  bool active;
};

__device__ __forceinline__ RnnPlace rnn_place(const RnnArgs& a, int direction, int64_t b,
                                              int64_t length, int64_t step) {
  const bool active = step < length, reverse = direction == 1;
  const int64_t t = active && reverse ? length - 1 - step : step;
  const int64_t at = b * a.row_batch + t * a.row_step;
  return {at, at + (reverse ? a.row_step : -a.row_step), active};
}

struct ExactMath {
  template <class A>
  static __device__ __forceinline__ A sigmoid(A x) {
    return A(1) / (A(1) + m_exp(-x));
  }
  template <class A>
  static __device__ __forceinline__ A tanh(A x) {
    return m_tanh(x);
  }
};

// Two approximate instructions each, right to within 2^-21: where products take operands of 11
// bits or fewer, which err more.
struct QuickMath {
  static __device__ __forceinline__ float sigmoid(float x) {
    constexpr float kLog2E = 1.442695041f;
    return reciprocal_fast(1.0f + exp2_fast(-kLog2E * x));
  }
  static __device__ __forceinline__ float tanh(float x) {
    return fmaf(2.0f, sigmoid(2.0f * x), -1.0f);
  }
};

// The value as it will be read again.
template <class T>
__device__ __forceinline__ Arith<T> rounded(Arith<T> x) {
  return to_arith(from_arith<T>(x));
}

// One unit's step. x: its share of x·W_ihᵀ + b_ih, becomes the gates. sums: of h·W_hhᵀ + b_hh.
// `cell` is c of the LSTM, before and after; of the GRU it receives W_hn·h + b_hn. Returns h.
template <RnnMode mode, class Math = ExactMath, class A>
__device__ __forceinline__ A cell_forward(A (&x)[kMostGates], const A (&sums)[kMostGates], A before,
                                          A& cell) {
  if constexpr (mode == RnnMode::lstm) {
    x[0] = Math::sigmoid(x[0] + sums[0]);
    x[1] = Math::sigmoid(x[1] + sums[1]);
    x[2] = Math::tanh(x[2] + sums[2]);
    x[3] = Math::sigmoid(x[3] + sums[3]);
    cell = x[1] * cell + x[0] * x[2];
    return x[3] * Math::tanh(cell);
  } else if constexpr (mode == RnnMode::gru) {
    x[0] = Math::sigmoid(x[0] + sums[0]);
    x[1] = Math::sigmoid(x[1] + sums[1]);
    x[2] = Math::tanh(x[2] + x[0] * sums[2]);
    cell = sums[2];
    return (A(1) - x[1]) * x[2] + x[1] * before;
  } else {
    const A sum = x[0] + sums[0];
    x[0] = mode == RnnMode::tanh ? Math::tanh(sum) : sum < A(0) ? A(0) : sum;
    return x[0];
  }
}

// What a unit's step was computed from and the gradients that reach it.
template <class A>
struct CellStep {
  A gates[kMostGates];
  A cell, cell_before, h_before;
  A dh;
};

// Fills dx, the gradients of x·W_ihᵀ + b_ih, and d_last, that of the last gate's share of
// h·W_hhᵀ + b_hh (the others are the same as dx). dc: of c after, becomes that of c before.
// Returns the part of the gradient of the h before that goes past the product.
template <RnnMode mode, class Math = ExactMath, class A>
__device__ __forceinline__ A cell_backward(const CellStep<A>& s, A& dc, A (&dx)[kMostGates],
                                           A& d_last) {
  const A(&x)[kMostGates] = s.gates;
  A direct = A(0);
  if constexpr (mode == RnnMode::lstm) {
    const A y = Math::tanh(s.cell);
    const A d_cell = dc + s.dh * x[3] * (A(1) - y * y);
    dx[0] = d_cell * x[2] * x[0] * (A(1) - x[0]);
    dx[1] = d_cell * s.cell_before * x[1] * (A(1) - x[1]);
    dx[2] = d_cell * x[0] * (A(1) - x[2] * x[2]);
    d_last = dx[3] = s.dh * y * x[3] * (A(1) - x[3]);
    dc = d_cell * x[1];
  } else if constexpr (mode == RnnMode::gru) {
    dx[2] = s.dh * (A(1) - x[1]) * (A(1) - x[2] * x[2]);
    dx[0] = dx[2] * s.cell * x[0] * (A(1) - x[0]);
    dx[1] = s.dh * (s.h_before - x[2]) * x[1] * (A(1) - x[1]);
    d_last = dx[2] * x[0];
    direct = s.dh * x[1];
  } else {
    const A slope = A(1) - x[0] * x[0];
    d_last = dx[0] = s.dh * (mode == RnnMode::tanh ? slope : x[0] > A(0) ? A(1) : A(0));
  }
  return direct;
}

// Calls f with the mode as a template argument.
template <class F>
__device__ __forceinline__ void with_rnn_mode(RnnMode mode, const F& f) {
  switch (mode) {
    case RnnMode::lstm:
      return f.template operator()<RnnMode::lstm>();
    case RnnMode::gru:
      return f.template operator()<RnnMode::gru>();
    case RnnMode::tanh:
      return f.template operator()<RnnMode::tanh>();
    case RnnMode::relu:
      return f.template operator()<RnnMode::relu>();
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
