// Derivatives of elementwise functions of one tensor, dx = dout · f'(saved), saved being x or the
// output, by the same kernels as unary.cu. A file of its own, since a kernel per op and dtype takes
// long to compile. Cost: 3·size bytes per element: bandwidth-bound, floor N·bytes / bandwidth.
#include "core/error.h"
#include "families.h"
#include "unary_formulas.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <UnaryOp op, int V, class T>
__device__ __forceinline__ void backward_each(const Arith<T> (&x)[2][V], T (&y)[V]) {
  using A = Arith<T>;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    y[j] = from_arith<T>(x[1][j] * Formula<op>::template derivative<A>(x[0][j]));
  }
}

template <UnaryOp op, class T>
struct Backward {
  using In = T;
  using Out = T;
  static constexpr bool kSingle = false;
  static constexpr int kInputs = 2;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[2][V], T (&y)[V]) const {
    backward_each<op, V, T>(x, y);
  }
};

template <class T>
struct AnyBackward {
  using In = T;
  using Out = T;
  static constexpr bool kSingle = true;
  static constexpr int kInputs = 2;
  UnaryOp op;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[2][V], T (&y)[V]) const {
    switch (op) {
#define NODEGRAD_CASE(id, ...)              \
  case UnaryOp::id:                         \
    backward_each<UnaryOp::id, V, T>(x, y); \
    break;
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        break;
    }
  }
};

}  // namespace

void unary_backward(Stream& stream, UnaryOp op, const View& saved, const View& dout,
                    const View& dx) {
  const OpInfo& info = kOps[static_cast<int>(op)];
  const View* const inputs[2] = {&saved, &dout};
  const bool served = with_float_type(saved.dtype, [&](auto zero) {
    using T = decltype(zero);
    const AnyBackward<T> any{op};
    switch (op) {
#define NODEGRAD_CASE(id, ...)                                                              \
  case UnaryOp::id:                                                                         \
    if constexpr (same_type<Arith<T>, float>) {                                             \
      launch_pointwise(stream, info.name, Backward<UnaryOp::id, T>{}, any, inputs, {}, dx); \
    } else {                                                                                \
      launch_pointwise(stream, info.name, any, any, inputs, {}, dx);                        \
    }                                                                                       \
    break;
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        fail("%s: has no derivative", info.name);
    }
  });
  if (!served) {
    fail("%s: a gradient takes floating dtypes, got %s", info.name, dtype_name(saved.dtype));
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
