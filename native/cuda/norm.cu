// Layer, RMS and group norm (rows), batch norm (channels) and their gradients; formulas and shapes
// in core/families/norm.h.
// Rows: a group of lanes, at most a warp, walks a row of up to 1024, a block a longer one: mean,
// squares about it, result; the walks after the first find the row in cache. Backward the same with
// Σ g and Σ g·x̂; norm_channels.h has the sums per channel. float32 inside, double for float64.
// Cost: rows 2·N·size bytes, backward 3 (and 2 more for dweight and dbias); batch norm 3, its
// backward 5: bandwidth-bound, floor bytes / bandwidth.
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "norm_channels.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int64_t kLongRow = 1024;
constexpr int kUnits = 4;  // elements per thread of elementwise passes

struct RowShape {
  int64_t rows, columns, group_channels, groups;
  Divider inner;
  int lanes;
  bool narrow;
};

template <class A>
struct Pair {
  A first, second;
};

template <class A>
struct RowSlots {
  GroupSlots<A> first, second;
};

template <class A>
__device__ __forceinline__ void add_to(A& into, const A& from) {
  into += from;
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    rows_kernel(const RowShape shape, const T* x, const Arith<T>* weight, const Arith<T>* bias,
                const Arith<T> eps, T* y, Arith<T>* means, Arith<T>* rstds) {
  using A = Arith<T>;
  constexpr int kWidth = kPerVector<T>;
  RowSlots<A>& slots = shared_memory<RowSlots<A>>();
  const int lanes = shape.lanes, lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                      static_cast<int>(threadIdx.x) / lanes;
  const int64_t n = row < shape.rows ? shape.columns : 0;
  const int64_t start = row < shape.rows ? row * shape.columns : 0;
  const T* const from = x + start;
  const int64_t head = aligned_head(from);
  A mean = A(0);
  if (means) {
    A total = A(0);
    visit_row<kWidth>(n, head, lane, lanes, [&](auto width, int64_t i) {
      constexpr int V = decltype(width)::value;
      A v[V];
      load_arith<V>(from + i, v);
#pragma unroll
      for (int j = 0; j < V; ++j) total += v[j];
    });
    mean = reduce_group(total, lanes, slots.first, add_to<A>) / static_cast<A>(shape.columns);
  }
  A squares = A(0);
  visit_row<kWidth>(n, head, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V];
    load_arith<V>(from + i, v);
#pragma unroll
    for (int j = 0; j < V; ++j) squares += (v[j] - mean) * (v[j] - mean);
  });
  squares = reduce_group(squares, lanes, slots.second, add_to<A>);
  const A rstd = A(1) / m_sqrt(squares / static_cast<A>(shape.columns) + eps);
  if (row >= shape.rows) return;
  if (lane == 0) {
    if (means) means[row] = mean;
    rstds[row] = rstd;
  }
  const int64_t channel = row % shape.groups * shape.group_channels;
  T* const to = y + start;
  visit_row<kWidth>(n, aligned_head(from, to, n), lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V];
    load_arith<V>(from + i, v);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const int64_t c = channel + static_cast<int64_t>(divide(static_cast<uint64_t>(i + j),
                                                              shape.inner, shape.narrow));
      v[j] = (v[j] - mean) * rstd;
      if (weight) v[j] *= weight[c];
      if (bias) v[j] += bias[c];
    }
    store_arith<V>(to + i, v);
  });
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    rows_backward_kernel(const RowShape shape, const T* x, const Arith<T>* weight,
                         const Arith<T>* means, const Arith<T>* rstds, const T* dy, T* dx) {
  using A = Arith<T>;
  constexpr int kWidth = kPerVector<T>;
  const int lanes = shape.lanes, lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                      static_cast<int>(threadIdx.x) / lanes;
  const bool valid = row < shape.rows;
  const int64_t n = valid ? shape.columns : 0, start = valid ? row * shape.columns : 0;
  const T* const from = x + start;
  const T* const upstream = dy + start;
  const A mean = means && valid ? means[row] : A(0);
  const A rstd = valid ? rstds[row] : A(0);
  const int64_t channel = valid ? row % shape.groups * shape.group_channels : 0;
  const int64_t head = aligned_head(from, upstream, n);
  const auto weight_at = [&](int64_t i) {
    if (!weight) return A(1);
    return weight[channel + static_cast<int64_t>(
                                divide(static_cast<uint64_t>(i), shape.inner, shape.narrow))];
  };
  Pair<A> total{A(0), A(0)};
  visit_row<kWidth>(n, head, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V], g[V];
    load_arith<V>(from + i, v);
    load_arith<V>(upstream + i, g);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      g[j] *= weight_at(i + j);
      total.first += g[j];
      total.second += g[j] * (v[j] - mean);
    }
  });
  total = reduce_group(total, lanes, shared_memory<GroupSlots<Pair<A>>>(),
                       [](Pair<A>& into, const Pair<A>& other) {
                         into.first += other.first;
                         into.second += other.second;
                       });
  if (!valid) return;
  const A columns = static_cast<A>(shape.columns);
  const A shift = means ? total.first / columns : A(0);
  const A slope = total.second * rstd / columns * rstd;
  T* const to = dx + start;
  const bool together = head == aligned_head(to);
  visit_row<kWidth>(n, together ? head : n, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V], g[V];
    load_arith<V>(from + i, v);
    load_arith<V>(upstream + i, g);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      v[j] = rstd * (g[j] * weight_at(i + j) - shift - (v[j] - mean) * slope);
    }
    store_arith<V>(to + i, v);
  });
}

template <class A>
struct Kept {
  A* mean;
  A* variance;
  const int64_t* batches;
  double momentum;
};

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    join_moments_kernel(const Moments<Arith<T>>* partial, int64_t channels, int splits, const T* x,
                        int64_t inner, const Arith<T> eps, Arith<T>* mean, Arith<T>* rstd,
                        const Kept<Arith<T>> kept) {
  using A = Arith<T>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  Moments<A> all = Moments<A>::none();
  for (int s = 0; s < splits; ++s) all.merge(partial[s * channels + c]);
  all.mean += to_arith(x[c * inner]);
  mean[c] = all.mean;
  rstd[c] = A(1) / m_sqrt(all.squares / all.n + eps);
  if (!kept.mean) return;
  const double part =
      kept.momentum < 0 ? 1.0 / static_cast<double>(*kept.batches + 1) : kept.momentum;
  kept.mean[c] = static_cast<A>((1 - part) * static_cast<double>(kept.mean[c]) +
                                part * static_cast<double>(all.mean));
  kept.variance[c] = static_cast<A>((1 - part) * static_cast<double>(kept.variance[c]) +
                                    part * static_cast<double>(all.squares / (all.n - A(1))));
}

__global__ void __launch_bounds__(1) count_kernel(int64_t* batches) { *batches += 1; }

template <class A>
__global__ void __launch_bounds__(kReduceBlock)
    running_kernel(const A* running_mean, const A* running_variance, int64_t channels, const A eps,
                   A* mean, A* rstd) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  mean[c] = running_mean[c];
  rstd[c] = A(1) / m_sqrt(running_variance[c] + eps);
}

struct ElementShape {
  int64_t size;
  Divider inner, channels;
  bool narrow;
};

__device__ __forceinline__ int64_t channel_of(const ElementShape& shape, int64_t i) {
  const uint64_t unit = divide(static_cast<uint64_t>(i), shape.inner, shape.narrow);
  const uint64_t sample = divide(unit, shape.channels, shape.narrow);
  return static_cast<int64_t>(unit - sample * shape.channels.divisor);
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    batch_kernel(const __grid_constant__ ElementShape shape, const T* x, const Arith<T>* weight,
                 const Arith<T>* bias, const Arith<T>* mean, const Arith<T>* rstd, T* y) {
  using A = Arith<T>;
  const int64_t base =
      static_cast<int64_t>(blockIdx.x) * (kReduceBlock * kUnits) + static_cast<int>(threadIdx.x);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int64_t i = base + u * kReduceBlock;
    if (i >= shape.size) continue;
    const int64_t c = channel_of(shape, i);
    A value = (to_arith(x[i]) - mean[c]) * rstd[c];
    if (weight) value *= weight[c];
    if (bias) value += bias[c];
    y[i] = from_arith<T>(value);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    batch_backward_kernel(const __grid_constant__ ElementShape shape, const T* x,
                          const Arith<T>* weight, const Arith<T>* mean, const Arith<T>* rstd,
                          const T* dy, const Arith<T> share, const Arith<T>* dweight,
                          const Arith<T>* dbias, T* dx) {
  using A = Arith<T>;
  const int64_t base =
      static_cast<int64_t>(blockIdx.x) * (kReduceBlock * kUnits) + static_cast<int>(threadIdx.x);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int64_t i = base + u * kReduceBlock;
    if (i >= shape.size) continue;
    const int64_t c = channel_of(shape, i);
    const A xhat = (to_arith(x[i]) - mean[c]) * rstd[c];
    const A scale = weight ? rstd[c] * weight[c] : rstd[c];
    dx[i] =
        from_arith<T>(scale * (to_arith(dy[i]) - dbias[c] * share - xhat * (dweight[c] * share)));
  }
}

RowShape row_shape(const NormShape& s, size_t item) {
  RowShape r;
  r.rows = s.samples * s.groups;
  r.group_channels = s.channels / s.groups;
  r.groups = s.groups;
  r.columns = r.group_channels * s.inner;
  r.inner = make_divider(s.inner);
  r.narrow = r.columns < (int64_t{1} << 31);
  const int64_t vector = 16 / static_cast<int64_t>(item);
  r.lanes = r.columns > kLongRow ? kReduceBlock : group_lanes(divide_up(r.columns, vector));
  return r;
}

void rows(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
          double eps, const View& y, const View* mean, const View& rstd) {
  const RowShape shape = row_shape(s, item_size(x.dtype));
  if (shape.rows == 0) return;
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Arith<T>;
    launch(stream, "norm", rows_kernel<T>,
           grid_of("norm", divide_up(shape.rows, kReduceBlock / shape.lanes)), dim3(kReduceBlock),
           sizeof(RowSlots<A>), shape, static_cast<const T*>(x.data), data_of<const A>(weight),
           data_of<const A>(bias), static_cast<A>(eps), static_cast<T*>(y.data), data_of<A>(mean),
           static_cast<A*>(rstd.data));
  });
}

void rows_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                   const View* mean, const View& rstd, const View& dy, const View* dx,
                   const View* dweight, const View* dbias) {
  const RowShape shape = row_shape(s, item_size(x.dtype));
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Arith<T>;
    if (dx && shape.rows > 0) {
      launch(stream, "norm", rows_backward_kernel<T>,
             grid_of("norm", divide_up(shape.rows, kReduceBlock / shape.lanes)), dim3(kReduceBlock),
             sizeof(GroupSlots<Pair<A>>), shape, static_cast<const T*>(x.data),
             data_of<const A>(weight), data_of<const A>(mean), static_cast<const A*>(rstd.data),
             static_cast<const T*>(dy.data), static_cast<T*>(dx->data));
    }
    if ((dweight || dbias) && s.channels > 0) {
      channel_gradients<T>(stream, "norm", s, false, x, mean, rstd, dy, dweight, dbias);
    }
  });
}

bool is_empty(const NormShape& s) { return s.samples * s.channels * s.inner == 0; }

void batch_statistics(Stream& stream, const NormShape& s, const View& x, double eps,
                      const View& mean, const View& rstd, const RunningStatistics& kept) {
  if (is_empty(s)) return;
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Arith<T>;
    const Kept<A> state{data_of<A>(kept.mean), data_of<A>(kept.variance),
                        data_of<const int64_t>(kept.batches), kept.momentum};
    sum_channels<T, Moments>(stream, "batchNorm", s, true, x, nullptr, nullptr, nullptr,
                             [&](const Moments<A>* partial, int splits) {
                               launch(stream, "batchNorm", join_moments_kernel<T>,
                                      grid_of("batchNorm", divide_up(s.channels, kReduceBlock)),
                                      dim3(kReduceBlock), 0, partial, s.channels, splits,
                                      static_cast<const T*>(x.data), s.inner, static_cast<A>(eps),
                                      static_cast<A*>(mean.data), static_cast<A*>(rstd.data),
                                      state);
                             });
  });
  if (kept.batches) {
    launch(stream, "batchNorm", count_kernel, dim3(1), dim3(1), 0,
           static_cast<int64_t*>(kept.batches->data));
  }
}

void running_statistics(Stream& stream, const View& running_mean, const View& running_variance,
                        double eps, const View& mean, const View& rstd) {
  const int64_t channels = mean.shape[0];
  if (channels == 0) return;
  with_float_type(mean.dtype, [&](auto zero) {
    using A = Arith<decltype(zero)>;
    launch(stream, "batchNorm", running_kernel<A>,
           grid_of("batchNorm", divide_up(channels, kReduceBlock)), dim3(kReduceBlock), 0,
           static_cast<const A*>(running_mean.data), static_cast<const A*>(running_variance.data),
           channels, static_cast<A>(eps), static_cast<A*>(mean.data), static_cast<A*>(rstd.data));
  });
}

ElementShape element_shape(const NormShape& s) {
  ElementShape shape{};
  shape.size = s.samples * s.channels * s.inner;
  shape.inner = make_divider(s.inner);
  shape.channels = make_divider(s.channels);
  shape.narrow = shape.size < (int64_t{1} << 31);
  return shape;
}

void batch(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
           const View& mean, const View& rstd, const View& y) {
  const ElementShape shape = element_shape(s);
  if (shape.size == 0) return;
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Arith<T>;
    launch(stream, "batchNorm", batch_kernel<T>,
           grid_of("batchNorm", divide_up(shape.size, kReduceBlock * kUnits)), dim3(kReduceBlock),
           0, shape, static_cast<const T*>(x.data), data_of<const A>(weight),
           data_of<const A>(bias), static_cast<const A*>(mean.data),
           static_cast<const A*>(rstd.data), static_cast<T*>(y.data));
  });
}

void batch_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                    const View& mean, const View& rstd, const View& dy, bool fixed, const View* dx,
                    const View& dweight, const View& dbias) {
  if (s.channels == 0) return;
  const ElementShape shape = element_shape(s);
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Arith<T>;
    channel_gradients<T>(stream, "batchNorm", s, true, x, &mean, rstd, dy, &dweight, &dbias);
    if (!dx || shape.size == 0) return;
    const A share = fixed ? A(0) : A(1) / static_cast<A>(s.samples * s.inner);
    launch(stream, "batchNorm", batch_backward_kernel<T>,
           grid_of("batchNorm", divide_up(shape.size, kReduceBlock * kUnits)), dim3(kReduceBlock),
           0, shape, static_cast<const T*>(x.data), data_of<const A>(weight),
           static_cast<const A*>(mean.data), static_cast<const A*>(rstd.data),
           static_cast<const T*>(dy.data), share, static_cast<const A*>(dweight.data),
           static_cast<const A*>(dbias.data), static_cast<T*>(dx->data));
  });
}

}  // namespace

const NormFamily norm_family = {rows,  rows_backward, batch_statistics, running_statistics,
                                batch, batch_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
