// Elementwise functions of two tensors, of a tensor and a number, and selection by a condition,
// from the formulas of core/elementwise.h; operands broadcast by stride 0.
// Operands laid out like the output (or single values) run a kernel compiled for the one op where
// the dtype is float32, bfloat16 or float16; the rest runs one kernel per dtype that branches on
// the op once per vector. A number is an operand that the kernel takes from its parameters.
// Cost: 3·size bytes per element (2·size with a number; output of size 1 for comparisons; where:
// 3·size + 1): bandwidth-bound, floor N·bytes / bandwidth. A broadcast operand costs its own size.
#include "core/elementwise.h"
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "pointwise.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr bool kOnly_floating = true;
constexpr bool kOnly_any = false;

template <BinaryOp op>
struct Formula;

#define NODEGRAD_FORMULA(id, kind, value)                   \
  template <>                                               \
  struct Formula<BinaryOp::id> {                            \
    static constexpr bool kFloating = kOnly_##kind;         \
    template <class T>                                      \
    static __device__ __forceinline__ T forward(T a, T b) { \
      return value;                                         \
    }                                                       \
  };
NODEGRAD_BINARY_OPS(NODEGRAD_FORMULA)
#undef NODEGRAD_FORMULA

#define NODEGRAD_FORMULA(id, value)                         \
  template <>                                               \
  struct Formula<BinaryOp::id> {                            \
    template <class T>                                      \
    static __device__ __forceinline__ bool test(T a, T b) { \
      return value;                                         \
    }                                                       \
  };
NODEGRAD_BINARY_PREDICATES(NODEGRAD_FORMULA)
#undef NODEGRAD_FORMULA

template <BinaryOp op, int V, class T>
__device__ __forceinline__ void forward_each(const Arith<T> (&x)[2][V], T (&y)[V]) {
  using A = Arith<T>;
  if constexpr (is_real<A> || !Formula<op>::kFloating) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      y[j] = from_arith<T>(Formula<op>::template forward<A>(x[0][j], x[1][j]));
    }
  }
}

template <BinaryOp op, class T>
struct Forward {
  using In = T;
  using Out = T;
  static constexpr int kInputs = 2;
  static constexpr bool kSingle = false;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[2][V], T (&y)[V]) const {
    forward_each<op, V, T>(x, y);
  }
};

template <class T>
struct AnyForward {
  using In = T;
  using Out = T;
  static constexpr int kInputs = 2;
  static constexpr bool kSingle = !is_real<Arith<T>>;
  BinaryOp op;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[2][V], T (&y)[V]) const {
    switch (op) {
#define NODEGRAD_CASE(id, ...)              \
  case BinaryOp::id:                        \
    forward_each<BinaryOp::id, V, T>(x, y); \
    break;
      NODEGRAD_BINARY_OPS(NODEGRAD_CASE)
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
  static constexpr int kInputs = 2;
  static constexpr bool kSingle = !same_type<Arith<T>, float>;
  BinaryOp op;
  template <int V>
  __device__ __forceinline__ void apply(const Arith<T> (&x)[2][V], Bool8 (&y)[V]) const {
    switch (op) {
#define NODEGRAD_CASE(id, ...)                                                           \
  case BinaryOp::id:                                                                     \
    _Pragma("unroll") for (int j = 0; j < V; ++j) {                                      \
      y[j] = Bool8{static_cast<uint8_t>(Formula<BinaryOp::id>::test(x[0][j], x[1][j]))}; \
    }                                                                                    \
    break;
      NODEGRAD_BINARY_PREDICATES(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default:
        break;
    }
  }
};

// out = condition ? a : b moves bits, so it is compiled per size. Elements are interleaved over
// lanes; each operand has its own offset unless all are laid out like the output.
constexpr int kWherePerThread = 4;

template <class U>
__global__ void __launch_bounds__(kPointwiseBlock)
    where_kernel(const bool linear, const __grid_constant__ Dims<3> dims, const uint8_t* condition,
                 const U* a, const U* b, U* out, int64_t n) {
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kPointwiseBlock * kWherePerThread);
#pragma unroll
  for (int j = 0; j < kWherePerThread; ++j) {
    const int64_t i = base + j * kPointwiseBlock + static_cast<int>(threadIdx.x);
    if (i >= n) continue;
    Offsets<3> at{{i, i, i}};
    if (!linear) at = offsets_of(dims, i);
    const U x = a[at.at[1]], y = b[at.at[2]];
    out[i] = condition[at.at[0]] != 0 ? x : y;
  }
}

struct OpInfo {
  const char* name;
  bool floating;
};

constexpr OpInfo kOps[] = {
#define NODEGRAD_INFO(id, kind, ...) {#id, kOnly_##kind},
    NODEGRAD_BINARY_OPS(NODEGRAD_INFO)
#undef NODEGRAD_INFO
#define NODEGRAD_INFO(id, ...) {#id, false},
        NODEGRAD_BINARY_PREDICATES(NODEGRAD_INFO)
#undef NODEGRAD_INFO
};

// `a` or `b` is null where it is the number `s`.
void apply(Stream& stream, BinaryOp op, const View* a, const View* b, Scalar s, const View& out) {
  const OpInfo& info = kOps[static_cast<int>(op)];
  const DType dtype = a ? a->dtype : b->dtype;
  if (info.floating && !is_float(dtype)) {
    fail("%s: takes floating dtypes, got %s", info.name, dtype_name(dtype));
  }
  const View* const inputs[2] = {a, b};
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const AnyForward<T> any{op};
    switch (op) {
#define NODEGRAD_CASE(id, ...)                                                              \
  case BinaryOp::id:                                                                        \
    if constexpr (same_type<Arith<T>, float>) {                                             \
      launch_pointwise(stream, info.name, Forward<BinaryOp::id, T>{}, any, inputs, s, out); \
    } else {                                                                                \
      launch_pointwise(stream, info.name, any, any, inputs, s, out);                        \
    }                                                                                       \
    break;
      NODEGRAD_BINARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
      default: {
        const Predicate<T> predicate{op};
        launch_pointwise(stream, info.name, predicate, predicate, inputs, s, out);
      }
    }
  });
}

void forward(Stream& stream, BinaryOp op, const View& a, const View& b, const View& out) {
  apply(stream, op, &a, &b, {}, out);
}

void scalar(Stream& stream, BinaryOp op, const View& a, Scalar s, bool reversed, const View& out) {
  if (reversed) {
    apply(stream, op, nullptr, &a, s, out);
  } else {
    apply(stream, op, &a, nullptr, s, out);
  }
}

void where(Stream& stream, const View& condition, const View& a, const View& b, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  const Dims<3> dims = make_dims<3>(out.rank, out.shape, {condition.strides, a.strides, b.strides});
  const bool linear = dims.linear(0) && dims.linear(1) && dims.linear(2);
  constexpr int per_block = kPointwiseBlock * kWherePerThread;
  const dim3 grid(static_cast<unsigned>((n + per_block - 1) / per_block));
  with_size_of(out.dtype, [&](auto zero) {
    using U = decltype(zero);
    launch(stream, "where", where_kernel<U>, grid, dim3(kPointwiseBlock), 0, linear, dims,
           static_cast<const uint8_t*>(condition.data), static_cast<const U*>(a.data),
           static_cast<const U*>(b.data), static_cast<U*>(out.data), n);
  });
}

}  // namespace

const BinaryFamily binary_family = {forward, scalar, where};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
