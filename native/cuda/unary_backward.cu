// Derivatives of elementwise functions of one tensor, dx = dout · f'(saved), saved being x or the
// output, by the same kernels as unary.cu.
// Cost: 3·size bytes per element: bandwidth-bound, floor N·bytes / bandwidth.
#include "core/error.h"
#include "families.h"
#include "unary_formulas.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <UnaryOp op>
struct Backward {
  template <class A>
  static __device__ __forceinline__ A apply(int, const A (&x)[2]) {
    return x[1] * Formula<op>::template derivative<A>(x[0]);
  }
};

struct AnyBackward {
  static constexpr bool kIntegers = false;
  template <class A>
  static __device__ __forceinline__ A apply(int op, const A (&x)[2]) {
    switch (static_cast<UnaryOp>(op)) {
#define NODEGRAD_CASE(id, ...) \
  case UnaryOp::id:            \
    return Backward<UnaryOp::id>::template apply<A>(op, x);
      NODEGRAD_UNARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        return x[1];
    }
  }
};

}  // namespace

void unary_backward(Stream& stream, UnaryOp op, const View& saved, const View& dout,
                    const View& dx) {
  const OpInfo& info = kOps[static_cast<int>(op)];
  switch (op) {
#define NODEGRAD_CASE(id, ...) case UnaryOp::id:
    NODEGRAD_UNARY_PREDICATES(NODEGRAD_CASE)
#undef NODEGRAD_CASE
    fail("%s: has no derivative", info.name);
    default:
      break;
  }
  if (!is_float(saved.dtype)) {
    fail("%s: a gradient takes floating dtypes, got %s", info.name, dtype_name(saved.dtype));
  }
  launch_pointwise<AnyBackward, 2>(stream, info.name, static_cast<int>(op),
                                   own_kernels_of<Backward, 2>(op), {&saved, &dout}, {}, dx);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
