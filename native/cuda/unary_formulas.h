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
