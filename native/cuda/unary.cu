// Elementwise functions of one tensor, out = f(x), from the formulas of core/elementwise.h; their
// derivatives are in unary_backward.cu.
// Contiguous floating input runs a kernel compiled for the one op; strided input and the other
// dtypes run one kernel per dtype that branches on the op once per vector.
// Cost: 2·size bytes per element (size + 1 for predicates): bandwidth-bound, floor N·bytes /
// bandwidth.
#include "core/error.h"
#include "families.h"
#include "unary_formulas.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

#define NODEGRAD_FORMULA(id, value)                    \
  template <>                                          \
  struct Formula<UnaryOp::id> {                        \
    template <class T>                                 \
    static __device__ __forceinline__ bool test(T x) { \
      return value;                                    \
    }                                                  \
  };
NODEGRAD_UNARY_PREDICATES(NODEGRAD_FORMULA)
#undef NODEGRAD_FORMULA

template <UnaryOp op, int V, class T>
__device__ __forceinline__ void forward_each(const Arith<T> (&x)[V], T (&y)[V]) {
  using A = Arith<T>;
  if constexpr (is_real<A> || !Formula<op>::kFloating) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      y[j] = from_arith<T>(static_cast<A>(Formula<op>::template forward<A>(x[j])));
    }
  }
}

template <UnaryOp op, class T>
struct Forward {
  using In = T;
  using Out = T;
  static constexpr bool kSingle = false;
  static constexpr int kInputs = 1;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[1][V], T (&y)[V]) const {
    forward_each<op, V, T>(x[0], y);
  }
};

template <class T>
struct AnyForward {
  using In = T;
  using Out = T;
  static constexpr bool kSingle = true;
  static constexpr int kInputs = 1;
  UnaryOp op;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[1][V], T (&y)[V]) const {
    switch (op) {
#define NODEGRAD_CASE(id, ...)                \
  case UnaryOp::id:                           \
    forward_each<UnaryOp::id, V, T>(x[0], y); \
    break;
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        break;
    }
  }
};

template <class T>
struct Predicate {
  using In = T;
  using Out = Bool8;
  static constexpr bool kSingle = true;
  static constexpr int kInputs = 1;
  UnaryOp op;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&in)[1][V], Bool8 (&y)[V]) const {
    switch (op) {
#define NODEGRAD_CASE(id, ...)                                                  \
  case UnaryOp::id:                                                             \
    _Pragma("unroll") for (int j = 0; j < V; ++j) {                             \
      y[j] = Bool8{static_cast<uint8_t>(Formula<UnaryOp::id>::test(in[0][j]))}; \
    }                                                                           \
    break;
      NODEGRAD_UNARY_PREDICATES(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        break;
    }
  }
};

void forward(Stream& stream, UnaryOp op, const View& x, const View& out) {
  const OpInfo& info = kOps[static_cast<int>(op)];
  if (info.floating && !is_float(x.dtype)) {
    fail("%s: takes floating dtypes, got %s", info.name, dtype_name(x.dtype));
  }
  const View* const inputs[1] = {&x};
  with_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const AnyForward<T> any{op};
    switch (op) {
#define NODEGRAD_CASE(id, ...)                                                              \
  case UnaryOp::id:                                                                         \
    if constexpr (same_type<Arith<T>, float>) {                                             \
      launch_pointwise(stream, info.name, Forward<UnaryOp::id, T>{}, any, inputs, {}, out); \
    } else {                                                                                \
      launch_pointwise(stream, info.name, any, any, inputs, {}, out);                       \
    }                                                                                       \
    break;
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default: {
        const Predicate<T> predicate{op};
        launch_pointwise(stream, info.name, predicate, predicate, inputs, {}, out);
      }
    }
  });
}

}  // namespace

const UnaryFamily unary_family = {forward, unary_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
