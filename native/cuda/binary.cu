// Elementwise functions of two tensors, of a tensor and a number, and selection by a condition,
// from the formulas of core/elementwise.h; operands broadcast by stride 0.
// Sums, differences, products and quotients of float32, bfloat16 and float16 run kernels compiled
// for the one op, of operands laid out like the output, or along its rows; the rest runs kernels
// that branch on the op for each element. A number is an operand among the kernel's parameters.
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

template <BinaryOp op>
struct Forward {
  template <class A>
  static __device__ __forceinline__ A apply(int, const A (&x)[2]) {
    if constexpr (is_real<A> || !Formula<op>::kFloating) {
      return Formula<op>::template forward<A>(x[0], x[1]);
    } else {
      return x[0];
    }
  }
};

struct AnyForward {
  static constexpr bool kIntegers = true;
  template <class A>
  static __device__ __forceinline__ A apply(int op, const A (&x)[2]) {
    switch (static_cast<BinaryOp>(op)) {
#define NODEGRAD_CASE(id, ...) \
  case BinaryOp::id:           \
    return Forward<BinaryOp::id>::template apply<A>(op, x);
      NODEGRAD_BINARY_OPS(NODEGRAD_CASE)
#undef NODEGRAD_CASE
#define NODEGRAD_CASE(id, ...) \
  case BinaryOp::id:           \
    return A(Formula<BinaryOp::id>::test(x[0], x[1]));
      NODEGRAD_BINARY_PREDICATES(NODEGRAD_CASE)
#undef NODEGRAD_CASE
    }
    return x[0];
  }
};

template <BinaryOp op>
constexpr VectorKernels<2> own_kernels() {
  return {vector_kernel<Forward<op>, 2, Linear>, vector_kernel<Forward<op>, 2, Dims<2>>};
}

// The kernels of the most common ops, which have some compiled for them alone.
VectorKernels<2> own_kernels_of(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return own_kernels<BinaryOp::add>();
    case BinaryOp::sub:
      return own_kernels<BinaryOp::sub>();
    case BinaryOp::mul:
      return own_kernels<BinaryOp::mul>();
    case BinaryOp::div:
      return own_kernels<BinaryOp::div>();
    default:
      return {};
  }
}

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
  launch_pointwise<AnyForward, 2>(stream, info.name, static_cast<int>(op), own_kernels_of(op),
                                  {a, b}, s, out);
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
