// Losses of one element against its target and of chosen classes, and their derivatives:
// core/families/loss.h has the formulas, which are those of torch.nn.functional. float32 inside,
// double for float64.
// A thread takes vectors of 16 bytes of what it computes in, neighbours over the warp; operands of
// one element are read once a vector. Rows of classes are summed by blocks of kRowsPerBlock, whose
// sums another block joins where there are several.
// Cost: two operands read and the loss written, backward three and one: bandwidth-bound. Of
// classes one element a row is read, and backward writes N·C elements.
#include <cmath>

#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a > b ? a : a != a ? a : b;
}

template <class T>
__device__ __forceinline__ T softplus_of_negative(T x) {  // ln(1 + e⁻ˣ)
  const T size = x < T(0) ? -x : x;
  return m_log1p(m_exp(-size)) + (x < T(0) ? -x : T(0));
}

template <class T>
__device__ __forceinline__ T loss_value(LossKind kind, T x, T t, T f, T a) {
  const T d = x > t ? x - t : t - x;
  switch (kind) {
    case LossKind::mse:
      return d * d;
    case LossKind::l1:
      return d;
    case LossKind::smooth_l1:
      return d < a ? T(0.5) * d * d / a : d - T(0.5) * a;
    case LossKind::huber:
      return d <= a ? T(0.5) * d * d : a * (d - T(0.5) * a);
    case LossKind::bce:
      return (t - T(1)) * larger(m_log1p(-x), T(-100)) - t * larger(m_log(x), T(-100));
    case LossKind::bce_logits:
      return (T(1) - t) * x + (T(1) + (f - T(1)) * t) * softplus_of_negative(x);
  }
  return d;
}

template <class T>
__device__ __forceinline__ T loss_slope(LossKind kind, bool of_target, T x, T t, T f, T a) {
  const T d = x - t;
  const T size = d < T(0) ? -d : d;
  const T sign = d > T(0) ? T(1) : d < T(0) ? T(-1) : d;
  T slope = d;
  switch (kind) {
    case LossKind::mse:
      slope = T(2) * d;
      break;
    case LossKind::l1:
      slope = sign;
      break;
    case LossKind::smooth_l1:
      slope = size < a ? d / a : sign;
      break;
    case LossKind::huber:
      slope = d > a ? a : d < -a ? -a : d;
      break;
    case LossKind::bce:
      if (of_target) return larger(m_log1p(-x), T(-100)) - larger(m_log(x), T(-100));
      return d / larger((T(1) - x) * x, T(1e-12));
    case LossKind::bce_logits:
      if (of_target) return (f - T(1)) * softplus_of_negative(x) - x;
      return (T(1) - t) - (T(1) + (f - T(1)) * t) / (T(1) + m_exp(x));
  }
  return of_target ? -slope : slope;
}

template <class S>
struct Operands {
  const S* x;
  const S* t;
  const S* factor;  // null: 1
  const S* dloss;   // null: the loss itself
  bool one_factor, one_dloss;
  bool of_target, vector;
  LossKind kind;
  double parameter;
};

template <int V, class S>
__device__ __forceinline__ Vector<S, V> load_operand(const S* p, int64_t i, bool one) {
  if (!one) return load_vector<V>(p + i);
  Vector<S, V> all;
#pragma unroll
  for (int j = 0; j < V; ++j) all[j] = *p;
  return all;
}

template <int V, class S>
__device__ __forceinline__ void loss_part(const Operands<S>& o, S* out, int64_t i) {
  using A = Arith<S>;
  const A a = static_cast<A>(o.parameter);
  const Vector<S, V> x = load_vector<V>(o.x + i), t = load_vector<V>(o.t + i);
  Vector<S, V> f{}, d{}, y;
  if (o.factor) f = load_operand<V>(o.factor, i, o.one_factor);
  if (o.dloss) d = load_operand<V>(o.dloss, i, o.one_dloss);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const A xj = to_arith(x[j]), tj = to_arith(t[j]);
    const A fj = o.factor ? to_arith(f[j]) : A(1);
    y[j] =
        from_arith<S>(o.dloss ? to_arith(d[j]) * loss_slope<A>(o.kind, o.of_target, xj, tj, fj, a)
                              : loss_value<A>(o.kind, xj, tj, fj, a));
  }
  store_global(out + i, y);
}

template <class S>
__global__ void __launch_bounds__(kBlock)
    loss_kernel(const Operands<S> operands, S* out, int64_t n) {
  constexpr int V = kPerVector<Arith<S>>;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * V;
  if (operands.vector && first + V <= n) {
    loss_part<V>(operands, out, first);
    return;
  }
#pragma unroll 1
  for (int j = 0; j < V; ++j) {
    if (first + j < n) loss_part<1>(operands, out, first + j);
  }
}

void launch_loss(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
                 double a, const View* dloss, bool of_target, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  const bool served = with_float_type(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    Operands<S> o;
    o.x = static_cast<const S*>(x.data);
    o.t = static_cast<const S*>(t.data);
    o.factor = static_cast<const S*>(factor.data);
    o.dloss = dloss ? static_cast<const S*>(dloss->data) : nullptr;
    o.one_factor = factor.rank == 0;
    o.one_dloss = dloss && dloss->rank == 0;
    o.of_target = of_target;
    o.kind = kind;
    o.parameter = a;
    o.vector = is_aligned(o.x, 16) && is_aligned(o.t, 16) && is_aligned(out.data, 16) &&
               (o.one_factor || is_aligned(o.factor, 16)) &&
               (!o.dloss || o.one_dloss || is_aligned(o.dloss, 16));
    constexpr int64_t kPerBlock = kBlock * kPerVector<Arith<S>>;
    launch(stream, dloss ? "lossBackward" : "loss", loss_kernel<S>,
           dim3(static_cast<unsigned>((n + kPerBlock - 1) / kPerBlock)), dim3(kBlock), 0, o,
           static_cast<S*>(out.data), n);
  });
  if (!served) fail("loss: takes floating dtypes, got %s", dtype_name(x.dtype));
}

void forward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
             double a, const View& loss) {
  launch_loss(stream, kind, x, t, factor, a, nullptr, false, loss);
}

void backward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
              double a, const View& dloss, bool of_target, const View& d) {
  launch_loss(stream, kind, x, t, factor, a, &dloss, of_target, d);
}

constexpr int kRowsPerBlock = 4096;
constexpr int kAhead = 4;  // rows whose targets a thread loads at once

// Rows of classes as the kernels see them.
struct Classes {
  const int64_t* target;
  const void* weight;  // null: 1
  int64_t ignored, classes;
  Divider inner, class_divider;
  int64_t stride[3];  // of x
  DType dtype;
  Reduction reduction;
  bool narrow;
};

template <class A>
struct LossSum {
  A loss, weight;
};

__device__ __forceinline__ bool is_class(const Classes& to, int64_t t) {
  return t >= 0 && t < to.classes;
}

// NaN where there is no such class.
template <class A>
__device__ __forceinline__ A weight_of(const Classes& to, int64_t t) {
  if (!to.weight) return A(1);
  return is_class(to, t) ? load_as<A>(to.weight, t, to.dtype) : A(NAN);
}

// Of a row with the class t.
template <class A>
__device__ __forceinline__ LossSum<A> row_loss(const Classes& to, const void* x, int64_t row,
                                               int64_t t) {
  const int64_t n = static_cast<int64_t>(divide(static_cast<uint64_t>(row), to.inner, to.narrow));
  const int64_t d = row - n * static_cast<int64_t>(to.inner.divisor);
  const int64_t at = n * to.stride[0] + t * to.stride[1] + d * to.stride[2];
  const bool counts = t != to.ignored, inside = counts && is_class(to, t);
  const A value = inside ? load_as<A>(x, at, to.dtype) : A(NAN);
  const A weight = counts ? weight_of<A>(to, t) : A(0);
  return {counts ? -weight * value : A(0), weight};
}

template <class A>
__global__ void __launch_bounds__(kBlock)
    nll_rows_kernel(const __grid_constant__ Classes to, const void* x, void* loss, int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (row < rows) store_as(loss, row, to.dtype, row_loss<A>(to, x, row, to.target[row]).loss);
}

// The block's sum: its result where it is the only one, else one of `sums`.
template <class A>
__device__ __forceinline__ void finish_block(LossSum<A> sum, const Classes& to, LossSum<A>* sums,
                                             void* loss, A* total) {
  sum = reduce_group(sum, kReduceBlock, shared_memory<GroupSlots<LossSum<A>>>(),
                     [](LossSum<A>& into, const LossSum<A>& from) {
                       into.loss += from.loss;
                       into.weight += from.weight;
                     });
  if (threadIdx.x != 0) return;
  if (gridDim.x > 1) {
    sums[blockIdx.x] = sum;
    return;
  }
  const bool mean = to.reduction == Reduction::mean;
  store_as(loss, 0, to.dtype, mean ? sum.loss / sum.weight : sum.loss);
  if (mean) *total = sum.weight;
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    nll_kernel(const __grid_constant__ Classes to, const void* x, LossSum<A>* sums, void* loss,
               A* total, int64_t rows) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock;
  LossSum<A> sum{A(0), A(0)};
#pragma unroll 1
  for (int k = 0; k < kRowsPerBlock && first + k < rows; k += kReduceBlock * kAhead) {
    int64_t row[kAhead], t[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      row[j] = first + k + j * kReduceBlock + static_cast<int>(threadIdx.x);
      t[j] = row[j] < rows ? to.target[row[j]] : to.ignored;
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const LossSum<A> own = row_loss<A>(to, x, row[j], t[j]);
      sum.loss += own.loss;
      sum.weight += own.weight;
    }
  }
  finish_block(sum, to, sums, loss, total);
}

// One block.
template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    nll_join_kernel(const __grid_constant__ Classes to, LossSum<A>* sums, void* loss, A* total,
                    int64_t count) {
  LossSum<A> sum{A(0), A(0)};
  for (int64_t i = threadIdx.x; i < count; i += kReduceBlock) {
    sum.loss += sums[i].loss;
    sum.weight += sums[i].weight;
  }
  finish_block(sum, to, sums, loss, total);
}

// Eight neighbours of dx a thread (one of float64), which step through [N,C,D] from the first's
// place on.
template <class A>
__global__ void __launch_bounds__(kBlock)
    nll_backward_kernel(const __grid_constant__ Classes to, const A* total, const void* dloss,
                        const bool one, void* dx, const bool vector, int64_t size) {
  constexpr int V = same_type<A, float> ? 8 : 1;
  const int64_t first =
      (static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x)) * V;
  if (first >= size) return;
  const A scale = to.reduction == Reduction::mean ? A(1) / *total : A(1);
  const int64_t inner = static_cast<int64_t>(to.inner.divisor);
  const uint64_t line = divide(static_cast<uint64_t>(first), to.inner, to.narrow);
  const uint64_t batch = divide(line, to.class_divider, to.narrow);
  int64_t d = first - static_cast<int64_t>(line) * inner;
  int64_t c = static_cast<int64_t>(line - batch * to.class_divider.divisor);
  int64_t row = static_cast<int64_t>(batch) * inner;  // of d = 0
  A value[V];
#pragma unroll
  for (int j = 0; j < V; ++j) {
    value[j] = A(0);
    if (first + j < size) {
      const int64_t t = to.target[row + d];
      if (t != to.ignored && t == c) {
        value[j] = -weight_of<A>(to, t) * load_as<A>(dloss, one ? 0 : row + d, to.dtype) * scale;
      } else if (t != to.ignored && !is_class(to, t)) {
        value[j] = A(NAN);
      }
    }
    if (++d == inner) {
      d = 0;
      if (++c == to.classes) {
        c = 0;
        row += inner;
      }
    }
  }
  if (vector && first + V <= size) {
    store_values<V>(dx, first, to.dtype, value);
    return;
  }
#pragma unroll
  for (int j = 0; j < V; ++j) {
    if (first + j < size) store_as(dx, first + j, to.dtype, value[j]);
  }
}

Classes classes_of(const ClassTarget& target, DType dtype, Reduction reduction) {
  Classes to{};
  to.target = target.target;
  to.weight = target.weight.data;
  to.ignored = target.ignore_index;
  to.classes = target.classes;
  to.inner = make_divider(target.inner);
  to.class_divider = make_divider(target.classes);
  to.dtype = dtype;
  to.reduction = reduction;
  to.narrow = target.batch * target.classes * target.inner < (int64_t{1} << 31) &&
              target.batch * target.inner < (int64_t{1} << 31);
  return to;
}

dim3 grid_of(int64_t n, int64_t per_block) {
  return dim3(static_cast<unsigned>((n + per_block - 1) / per_block));
}

template <class A>
void launch_nll(Stream& stream, const Classes& to, const View& x, int64_t rows, const View& loss,
                const View& total) {
  if (to.reduction == Reduction::none) {
    if (rows == 0) return;
    launch(stream, "nllLoss", nll_rows_kernel<A>, grid_of(rows, kBlock), dim3(kBlock), 0, to,
           x.data, loss.data, rows);
    return;
  }
  // Even no rows have a sum.
  const int64_t blocks = rows == 0 ? 1 : (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  constexpr size_t shared = sizeof(GroupSlots<LossSum<A>>);
  LossSum<A>* const sums = blocks > 1
                               ? static_cast<LossSum<A>*>(acquire_scratch(
                                     stream, static_cast<size_t>(blocks) * sizeof(LossSum<A>)))
                               : nullptr;
  A* const weight = static_cast<A*>(total.data);
  launch(stream, "nllLoss", nll_kernel<A>, dim3(static_cast<unsigned>(blocks)), dim3(kReduceBlock),
         shared, to, x.data, sums, loss.data, weight, rows);
  if (!sums) return;
  launch(stream, "nllLoss", nll_join_kernel<A>, dim3(1), dim3(kReduceBlock), shared, to, sums,
         loss.data, weight, blocks);
  release_scratch(stream, sums);
}

void nll(Stream& stream, const View& x, const ClassTarget& target, Reduction reduction,
         const View& loss, const View& total) {
  Classes to = classes_of(target, x.dtype, reduction);
  for (int i = 0; i < 3; ++i) to.stride[i] = x.strides[i];
  with_float_arith(x.dtype, [&](auto zero) {
    launch_nll<decltype(zero)>(stream, to, x, target.batch * target.inner, loss, total);
  });
}

void nll_backward(Stream& stream, const ClassTarget& target, Reduction reduction, const View& total,
                  const View& dloss, const View& dx) {
  const int64_t size = element_count(dx);
  if (size == 0) return;
  const Classes to = classes_of(target, dx.dtype, reduction);
  with_float_arith(dx.dtype, [&](auto zero) {
    using A = decltype(zero);
    launch(stream, "nllLossBackward", nll_backward_kernel<A>,
           grid_of(size, kBlock * (same_type<A, float> ? 8 : 1)), dim3(kBlock), 0, to,
           static_cast<const A*>(total.data), dloss.data, dloss.rank == 0, dx.data,
           is_aligned(dx.data, 16), size);
  });
}

}  // namespace

const LossFamily loss_family = {forward, backward, nll, nll_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
