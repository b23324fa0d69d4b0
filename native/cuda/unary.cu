// Elementwise functions of one tensor, out = f(x), from the formulas of core/elementwise.h; their
// derivatives are in unary_backward.cu.
// Contiguous floating input of common ops runs a kernel compiled for the op; the rest kernels that
// branch on the op for each element.
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

template <UnaryOp op>
struct Forward {
  template <class A>
  static __device__ __forceinline__ A apply(int, const A (&x)[1]) {
    if constexpr (is_real<A> || !Formula<op>::kFloating) {
      return static_cast<A>(Formula<op>::template forward<A>(x[0]));
    } else {
      return x[0];
    }
  }
};

struct AnyForward {
  static constexpr bool kIntegers = true;
  template <class A>
  static __device__ __forceinline__ A apply(int op, const A (&x)[1]) {
    switch (static_cast<UnaryOp>(op)) {
#define NODEGRAD_CASE(id, ...) \
  case UnaryOp::id:            \
    return Forward<UnaryOp::id>::template apply<A>(op, x);
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
#define NODEGRAD_CASE(id, ...) \
  case UnaryOp::id:            \
    return A(Formula<UnaryOp::id>::test(x[0]));
      NODEGRAD_UNARY_PREDICATES(NODEGRAD_CASE)
#undef NODEGRAD_CASE
    }
    return x[0];
  }
};

void forward(Stream& stream, UnaryOp op, const View& x, const View& out) {
  const OpInfo& info = kOps[static_cast<int>(op)];
  if (info.floating && !is_float(x.dtype)) {
    fail("%s: takes floating dtypes, got %s", info.name, dtype_name(x.dtype));
  }
  launch_pointwise<AnyForward, 1>(stream, info.name, static_cast<int>(op),
                                  own_kernels_of<Forward, 1>(op), {&x}, {}, out);
}

}  // namespace

const UnaryFamily unary_family = {forward, unary_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
