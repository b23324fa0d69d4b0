// Elementwise functions of one tensor and their derivatives, from the formulas of
// core/elementwise.h:  out = f(x)  and  dx = dout · f'(saved), saved being x or the output.
// Contiguous floating input runs a kernel compiled for the one op; strided input and the other
// dtypes run one kernel per dtype that branches on the op once per vector.
// Cost: forward 2·size bytes per element (size + 1 for predicates), backward 3·size:
// bandwidth-bound, floor N·bytes / bandwidth.
#include "core/elementwise.h"
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "pointwise.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
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

template <UnaryOp op, int V, class T>
__device__ __forceinline__ void backward_each(const Arith<T> (&x)[2][V], T (&y)[V]) {
  using A = Arith<T>;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    y[j] = from_arith<T>(x[1][j] * Formula<op>::template derivative<A>(x[0][j]));
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

void backward(Stream& stream, UnaryOp op, const View& saved, const View& dout, const View& dx) {
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

}  // namespace

const UnaryFamily unary_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
