// The formulas of core/elementwise.h as device functions, one type per op.
#pragma once

#include "core/elementwise.h"
#include "device_math.h"
#include "pointwise.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// unary_backward.cu
void unary_backward(Stream& stream, UnaryOp op, const View& saved, const View& dout,
                    const View& dx);

namespace {

constexpr bool kOnly_floating = true;
constexpr bool kOnly_any = false;

// Which ops have a kernel of their own for contiguous floats; the rest share one, which reaches the
// bandwidth of memory too, but with fewer instructions to spare.
constexpr bool has_own_kernel(UnaryOp op) {
  switch (op) {
    case UnaryOp::neg:
    case UnaryOp::abs:
    case UnaryOp::square:
    case UnaryOp::relu:
    case UnaryOp::exp:
    case UnaryOp::log:
    case UnaryOp::sqrt:
    case UnaryOp::sigmoid:
    case UnaryOp::tanh:
    case UnaryOp::gelu:
    case UnaryOp::gelu_tanh:
    case UnaryOp::silu:
      return true;
    default:
      return false;
  }
}

template <UnaryOp op>
struct Formula;

#define NODEGRAD_FORMULA(id, kind, saved, value, slope)                    \
  template <>                                                              \
  struct Formula<UnaryOp::id> {                                            \
    static constexpr bool kFloating = kOnly_##kind;                        \
    template <class T>                                                     \
    static __device__ __forceinline__ T forward(T x) {                     \
      return value;                                                        \
    }                                                                      \
    template <class T>                                                     \
    static __device__ __forceinline__ T derivative([[maybe_unused]] T s) { \
      return slope;                                                        \
    }                                                                      \
  };
NODEGRAD_UNARY_OPS(NODEGRAD_FORMULA)
#undef NODEGRAD_FORMULA

// The kernels of F<op>, by the op's number.
template <template <UnaryOp> class F, int N, UnaryOp op>
constexpr VectorKernels<N> own_kernels() {
  VectorKernels<N> own{};
  if constexpr (has_own_kernel(op)) own.linear = vector_kernel<F<op>, N, Linear>;
  return own;
}

template <template <UnaryOp> class F, int N>
constexpr VectorKernels<N> own_kernels_of(UnaryOp op) {
  switch (op) {
#define NODEGRAD_CASE(id, ...) \
  case UnaryOp::id:            \
    return own_kernels<F, N, UnaryOp::id>();
    NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
    default:
      return {};
  }
}

struct OpInfo {
  const char* name;
  bool floating;
};

constexpr OpInfo kOps[] = {
#define NODEGRAD_INFO(id, kind, ...) {#id, kOnly_##kind},
    NODEGRAD_UNARY_OPS(NODEGRAD_INFO)
#undef NODEGRAD_INFO
#define NODEGRAD_INFO(id, ...) {#id, false},
        NODEGRAD_UNARY_PREDICATES(NODEGRAD_INFO)
#undef NODEGRAD_INFO
};

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
