// Softmax, log-softmax and cross-entropy over rows of logits x [N,C], contiguous.
//   softmax: y = exp(x - max) / Σ exp(x - max);  log: y = (x - max) - ln Σ exp(x - max)
//   backward: dx = y·(dy - Σ dy·y), or dy - exp(y)·Σ dy
//   cross-entropy: loss = lse - x[target], lse = ln Σ exp(x), kept for
//   backward: dx = (exp(x - lse) - [c = target]) · dloss, one pass
//   soft: loss = Σ q·(lse - x), dx = (exp(x - lse)·Σ q - q) · dloss
// A group of lanes, at most a warp, walks a row of up to 1024; a block a longer one. Maximum and
// sum are found in one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax",
// 2018); the second pass over x finds it in cache. float32 inside, double for float64.
// Cost: softmax 2N·C·size bytes, its backward 3, cross-entropy 1 and its backward 2:
// bandwidth-bound, floor bytes / bandwidth.
#include <cmath>

#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int64_t kLongRow = 1024;
constexpr int kSoftBlocks = 3;  // of the soft backward on a multiprocessor: doubles need registers

// Which row a thread works on, and as which of the row's lanes.
struct RowPlace {
  int64_t row;
  int lane;
};

__device__ __forceinline__ RowPlace row_place(int lanes) {
  const int thread = static_cast<int>(threadIdx.x);
  return {static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) + thread / lanes,
          thread % lanes};
}

// Σ exp(x - max) so far; max is -inf and sum 0 before the first element.
template <class A>
struct Normalizer {
  A max, sum;

  // What to subtract: a row of nothing but -inf keeps its sum 0, not NaN.
  static __device__ __forceinline__ A base_of(A max) { return max == A(-INFINITY) ? A(0) : max; }

  template <int V>
  __device__ __forceinline__ void add(const A (&x)[V]) {
    A top = max;
#pragma unroll
    for (int j = 0; j < V; ++j) top = x[j] > top ? x[j] : top;
    const A base = base_of(top);
    A total = sum * m_exp(max - base);
#pragma unroll
    for (int j = 0; j < V; ++j) total += m_exp(x[j] - base);
    max = top;
    sum = total;
  }

  __device__ __forceinline__ void merge(const Normalizer& other) {
    const A top = other.max > max ? other.max : max;
    const A base = base_of(top);
    sum = sum * m_exp(max - base) + other.sum * m_exp(other.max - base);
    max = top;
  }
};

// Elements before common boundaries of 16 bytes of two rows, or all n where there are none.
__device__ __forceinline__ int64_t common_head(const void* a, const void* b, int64_t first,
                                               int64_t n, DType dtype) {
  const int64_t head = head_of(a, first, dtype);
  return head == head_of(b, first, dtype) ? head : n;
}

template <class A>
__device__ __forceinline__ Normalizer<A> normalize_row(const void* x, int64_t start, DType dtype,
                                                       int64_t classes, bool valid, int lane,
                                                       int lanes) {
  using S = Normalizer<A>;
  S state{A(-INFINITY), A(0)};
  if (valid) {
    visit_eight<A>(head_of(x, start, dtype), classes, lane, lanes, [&](auto width, int64_t i) {
      constexpr int V = decltype(width)::value;
      A value[V];
      load_values<V>(x, start + i, dtype, value);
      state.template add<V>(value);
    });
  }
  return reduce_group(state, lanes, shared_memory<GroupSlots<S>>(),
                      [](S& into, const S& from) { into.merge(from); });
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    softmax_kernel(const void* x, void* y, const DType dtype, int64_t rows, int64_t classes,
                   const int lanes, const bool logarithm) {
  const RowPlace place = row_place(lanes);
  const bool valid = place.row < rows;
  const int64_t start = valid ? place.row * classes : 0;
  const Normalizer<A> state = normalize_row<A>(x, start, dtype, classes, valid, place.lane, lanes);
  if (!valid) return;
  const A max = state.max, sum = state.sum, log_sum = m_log(state.sum);
  visit_eight<A>(common_head(x, y, start, classes, dtype), classes, place.lane, lanes,
                 [&](auto width, int64_t i) {
                   constexpr int V = decltype(width)::value;
                   A value[V];
                   load_values<V>(x, start + i, dtype, value);
#pragma unroll
                   for (int j = 0; j < V; ++j) {
                     value[j] =
                         logarithm ? (value[j] - max) - log_sum : m_exp(value[j] - max) / sum;
                   }
                   store_values<V>(y, start + i, dtype, value);
                 });
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    softmax_backward_kernel(const void* y, const void* dy, void* dx, const DType dtype,
                            int64_t rows, int64_t classes, const int lanes, const bool logarithm) {
  const RowPlace place = row_place(lanes);
  const bool valid = place.row < rows;
  const int64_t start = valid ? place.row * classes : 0;
  const int64_t head = common_head(y, dy, start, classes, dtype);
  A total = A(0);
  if (valid) {
    visit_eight<A>(head, classes, place.lane, lanes, [&](auto width, int64_t i) {
      constexpr int V = decltype(width)::value;
      A g[V], p[V];
      load_values<V>(dy, start + i, dtype, g);
      if (!logarithm) load_values<V>(y, start + i, dtype, p);
#pragma unroll
      for (int j = 0; j < V; ++j) total += logarithm ? g[j] : g[j] * p[j];
    });
  }
  total = reduce_group(total, lanes, shared_memory<GroupSlots<A>>(),
                       [](A& into, const A& from) { into += from; });
  if (!valid) return;
  const bool together = head == head_of(dx, start, dtype);
  visit_eight<A>(together ? head : classes, classes, place.lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A g[V], p[V];
    load_values<V>(dy, start + i, dtype, g);
    load_values<V>(y, start + i, dtype, p);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      g[j] = logarithm ? g[j] - m_exp(p[j]) * total : p[j] * (g[j] - total);
    }
    store_values<V>(dx, start + i, dtype, g);
  });
}

// The rows' targets and what a target means.
struct Targets {
  const int64_t* data;
  int64_t stride;
  int64_t ignored;
};

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    cross_entropy_kernel(const void* x, const DType dtype, const Targets targets, void* loss,
                         A* lse, int64_t rows, int64_t classes, const int lanes) {
  const RowPlace place = row_place(lanes);
  const bool valid = place.row < rows;
  const int64_t start = valid ? place.row * classes : 0;
  const Normalizer<A> state = normalize_row<A>(x, start, dtype, classes, valid, place.lane, lanes);
  if (!valid || place.lane != 0) return;
  const A log_sum = m_log(state.sum);
  const int64_t target = targets.data[place.row * targets.stride];
  A value = A(NAN);
  if (target == targets.ignored) {
    value = A(0);
  } else if (target >= 0 && target < classes) {
    value = log_sum + (state.max - load_as<A>(x, start + target, dtype));
  }
  lse[place.row] = state.max + log_sum;
  store_as(loss, place.row, dtype, value);
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    cross_entropy_backward_kernel(const void* x, const DType dtype, const Targets targets,
                                  const A* lse, int64_t lse_stride, const void* dloss,
                                  int64_t dloss_stride, void* dx, int64_t rows, int64_t classes,
                                  const int lanes) {
  const RowPlace place = row_place(lanes);
  if (place.row >= rows) return;
  const int64_t start = place.row * classes;
  const int64_t target = targets.data[place.row * targets.stride];
  const bool ignored = target == targets.ignored;
  const A normalizer = lse[place.row * lse_stride];
  A scale = load_as<A>(dloss, place.row * dloss_stride, dtype);
  if (!ignored && (target < 0 || target >= classes)) scale = A(NAN);
  visit_eight<A>(common_head(x, dx, start, classes, dtype), classes, place.lane, lanes,
                 [&](auto width, int64_t i) {
                   constexpr int V = decltype(width)::value;
                   A value[V];
                   load_values<V>(x, start + i, dtype, value);
#pragma unroll
                   for (int j = 0; j < V; ++j) {
                     const A slope = m_exp(value[j] - normalizer) - (i + j == target ? A(1) : A(0));
                     value[j] = ignored ? A(0) : slope * scale;
                   }
                   store_values<V>(dx, start + i, dtype, value);
                 });
}

// What soft cross-entropy compares with, as core/families/softmax.h has it.
struct Soft {
  const int64_t* classes;     // [N], or
  const void* probabilities;  // [N,C], of the logits' dtype
  const void* weight;         // [C], or null
  double smoothing;
  int64_t ignored;
};

// q over a row: `at(i)` from the probability there, if any.
template <class A>
struct SoftRow {
  const void* weight;
  DType dtype;
  int64_t target;  // -1: probabilities
  A keep, base;

  __device__ __forceinline__ SoftRow(const Soft& soft, DType of, int64_t row, int64_t classes)
      : weight(soft.weight),
        dtype(of),
        target(-1),
        keep(static_cast<A>(1.0 - soft.smoothing)),
        base(static_cast<A>(soft.smoothing / static_cast<double>(classes))) {
    if (!soft.classes) return;
    target = soft.classes[row];
    if (target == soft.ignored) {
      keep = A(0);
      base = A(0);
    } else if (target < 0 || target >= classes) {
      base = A(NAN);
    }
  }
  __device__ __forceinline__ A weight_at(int64_t i) const {
    return weight ? load_as<A>(weight, i, dtype) : A(1);
  }
  __device__ __forceinline__ A at(int64_t i, A probability, bool has_classes) const {
    const A t = has_classes ? (i == target ? A(1) : A(0)) : probability;
    return weight_at(i) * (keep * t + base);
  }
};

template <class A>
struct LossAndMass {
  A loss, mass;
};

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    soft_cross_entropy_kernel(const void* x, const DType dtype, const Soft soft, void* loss, A* lse,
                              A* mass, int64_t rows, int64_t classes, const int lanes) {
  const RowPlace place = row_place(lanes);
  const bool valid = place.row < rows;
  const int64_t start = valid ? place.row * classes : 0;
  const Normalizer<A> state = normalize_row<A>(x, start, dtype, classes, valid, place.lane, lanes);
  const A normalizer = state.max + m_log(state.sum);
  const bool has_classes = soft.classes != nullptr;
  const void* const probabilities = has_classes ? x : soft.probabilities;
  LossAndMass<A> total{A(0), A(0)};
  if (valid) {
    const SoftRow<A> q(soft, dtype, place.row, classes);
    visit_eight<A>(common_head(x, probabilities, start, classes, dtype), classes, place.lane, lanes,
                   [&](auto width, int64_t i) {
                     constexpr int V = decltype(width)::value;
                     A value[V], t[V];
                     load_values<V>(x, start + i, dtype, value);
                     load_values<V>(probabilities, start + i, dtype, t);
#pragma unroll
                     for (int j = 0; j < V; ++j) {
                       const A share = q.at(i + j, t[j], has_classes);
                       if (share != A(0)) total.loss += share * (normalizer - value[j]);
                       total.mass += share;
                     }
                   });
  }
  if (lanes > 32) __syncthreads();  // the slots of normalize_row serve again
  total = reduce_group(total, lanes, shared_memory<GroupSlots<LossAndMass<A>>>(),
                       [](LossAndMass<A>& into, const LossAndMass<A>& from) {
                         into.loss += from.loss;
                         into.mass += from.mass;
                       });
  if (!valid || place.lane != 0) return;
  lse[place.row] = normalizer;
  mass[place.row] = total.mass;
  store_as(loss, place.row, dtype, total.loss);
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kSoftBlocks)
    soft_cross_entropy_backward_kernel(const void* x, const DType dtype, const Soft soft,
                                       const A* lse, const A* mass, const void* dloss,
                                       int64_t dloss_stride, void* dx, void* dt, int64_t rows,
                                       int64_t classes, const int lanes) {
  const RowPlace place = row_place(lanes);
  if (place.row >= rows) return;
  const int64_t start = place.row * classes;
  const bool has_classes = soft.classes != nullptr;
  const void* const probabilities = has_classes ? x : soft.probabilities;
  const A normalizer = lse[place.row], all = mass[place.row];
  const A scale = load_as<A>(dloss, place.row * dloss_stride, dtype);
  const SoftRow<A> q(soft, dtype, place.row, classes);
  const int64_t head = common_head(x, probabilities, start, classes, dtype);
  const bool together =
      head == head_of(dx, start, dtype) && (!dt || head == head_of(dt, start, dtype));
  visit_eight<A>(together ? head : classes, classes, place.lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A value[V], t[V];
    load_values<V>(x, start + i, dtype, value);
    load_values<V>(probabilities, start + i, dtype, t);
    if (dt) {
      A slope[V];
#pragma unroll
      for (int j = 0; j < V; ++j) {
        slope[j] = q.keep * q.weight_at(i + j) * (normalizer - value[j]) * scale;
      }
      store_values<V>(dt, start + i, dtype, slope);
    }
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const A share = q.at(i + j, t[j], has_classes);
      value[j] = (m_exp(value[j] - normalizer) * all - share) * scale;
    }
    store_values<V>(dx, start + i, dtype, value);
  });
}

// The sizes that every launch of this family shares.
struct Rows {
  int64_t rows, classes;
  int lanes;
  dim3 grid;
};

Rows rows_of(const char* name, const View& x) {
  Rows r;
  r.rows = x.shape[0];
  r.classes = x.shape[1];
  const int64_t width = x.dtype == DType::float64 ? 1 : 8;
  r.lanes = r.classes > kLongRow ? kReduceBlock : group_lanes((r.classes + width - 1) / width);
  const int64_t per_block = kReduceBlock / r.lanes;
  const int64_t blocks = (r.rows + per_block - 1) / per_block;
  if (blocks > INT32_MAX) fail("%s: too many rows, got %lld", name, static_cast<long long>(r.rows));
  r.grid = dim3(static_cast<unsigned>(blocks));
  return r;
}

// Calls f with the type of arithmetic and the rows' sizes; nothing where there are no elements.
template <class F>
void for_rows(const char* name, const View& x, const F& f) {
  const Rows r = rows_of(name, x);
  if (r.rows == 0) return;
  const bool served = with_float_arith(x.dtype, [&](auto zero) { f(zero, r); });
  if (!served) fail("%s: takes floating dtypes, got %s", name, dtype_name(x.dtype));
}

constexpr dim3 block_shape() { return dim3(kReduceBlock); }

void softmax(Stream& stream, const View& x, const View& y, bool logarithm) {
  const char* const name = logarithm ? "logSoftmax" : "softmax";
  for_rows(name, x, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    launch(stream, name, softmax_kernel<A>, r.grid, block_shape(),
           sizeof(GroupSlots<Normalizer<A>>), x.data, y.data, x.dtype, r.rows, r.classes, r.lanes,
           logarithm);
  });
}

void softmax_backward(Stream& stream, const View& y, const View& dy, const View& dx,
                      bool logarithm) {
  const char* const name = logarithm ? "logSoftmax" : "softmax";
  for_rows(name, y, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    launch(stream, name, softmax_backward_kernel<A>, r.grid, block_shape(), sizeof(GroupSlots<A>),
           y.data, dy.data, dx.data, y.dtype, r.rows, r.classes, r.lanes, logarithm);
  });
}

void cross_entropy(Stream& stream, const View& x, const View& target, int64_t ignore_index,
                   const View& loss, const View& lse) {
  for_rows("crossEntropy", x, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    const Targets targets{static_cast<const int64_t*>(target.data), target.strides[0],
                          ignore_index};
    launch(stream, "crossEntropy", cross_entropy_kernel<A>, r.grid, block_shape(),
           sizeof(GroupSlots<Normalizer<A>>), x.data, x.dtype, targets, loss.data,
           static_cast<A*>(lse.data), r.rows, r.classes, r.lanes);
  });
}

void cross_entropy_backward(Stream& stream, const View& x, const View& target, int64_t ignore_index,
                            const View& lse, const View& dloss, const View& dx) {
  for_rows("crossEntropy", x, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    const Targets targets{static_cast<const int64_t*>(target.data), target.strides[0],
                          ignore_index};
    launch(stream, "crossEntropy", cross_entropy_backward_kernel<A>, r.grid, block_shape(), 0,
           x.data, x.dtype, targets, static_cast<const A*>(lse.data), lse.strides[0], dloss.data,
           dloss.strides[0], dx.data, r.rows, r.classes, r.lanes);
  });
}

Soft soft_of(const SoftTarget& soft) {
  const bool classes = soft.target.dtype == DType::int64;
  return {classes ? static_cast<const int64_t*>(soft.target.data) : nullptr,
          classes ? nullptr : soft.target.data, soft.weight.data, soft.smoothing,
          soft.ignore_index};
}

void soft_cross_entropy(Stream& stream, const View& x, const SoftTarget& soft, const View& loss,
                        const View& lse, const View& mass) {
  for_rows("crossEntropy", x, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    static_assert(sizeof(Normalizer<A>) == sizeof(LossAndMass<A>));
    launch(stream, "softCrossEntropy", soft_cross_entropy_kernel<A>, r.grid, block_shape(),
           sizeof(GroupSlots<Normalizer<A>>), x.data, x.dtype, soft_of(soft), loss.data,
           static_cast<A*>(lse.data), static_cast<A*>(mass.data), r.rows, r.classes, r.lanes);
  });
}

void soft_cross_entropy_backward(Stream& stream, const View& x, const SoftTarget& soft,
                                 const View& lse, const View& mass, const View& dloss,
                                 const View& dx, const View& dt) {
  for_rows("crossEntropy", x, [&](auto zero, const Rows& r) {
    using A = decltype(zero);
    launch(stream, "softCrossEntropy", soft_cross_entropy_backward_kernel<A>, r.grid, block_shape(),
           0, x.data, x.dtype, soft_of(soft), static_cast<const A*>(lse.data),
           static_cast<const A*>(mass.data), dloss.data, dloss.strides[0], dx.data, dt.data, r.rows,
           r.classes, r.lanes);
  });
}

}  // namespace

const SoftmaxFamily softmax_family = {softmax,
                                      softmax_backward,
                                      cross_entropy,
                                      cross_entropy_backward,
                                      soft_cross_entropy,
                                      soft_cross_entropy_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
