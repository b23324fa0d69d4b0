// Layer, RMS and group norm (rows), batch norm (channels) and their gradients; formulas and shapes
// in core/families/norm.h.
// Rows: a group of lanes, at most a warp, walks a row of up to 1024, a block a longer one: mean,
// squares about it, result; the walks after the first find the row in cache. Backward the same with
// Σ g and Σ g·x̂. Sums per channel (moments, dweight, dbias): a block's threads run across 32
// channels where inner is 1, else along one channel; samples are cut into splits by size alone and
// a second launch joins their results in order. float32 inside, double for float64; no atomics.
// Cost: rows 2·N·size bytes, backward 3 (and 2 more for dweight and dbias); batch norm 3, its
// backward 5: bandwidth-bound, floor bytes / bandwidth.
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int64_t kLongRow = 1024;
constexpr int64_t kBlocksWanted = 1024;
constexpr int64_t kMostSplits = 128;
constexpr int64_t kPerThread = 8;  // elements that are worth a thread of a channel's sum
constexpr int kUnits = 4;          // elements per thread of elementwise passes

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

dim3 grid_of(const char* name, int64_t blocks) {
  if (blocks > INT32_MAX) fail("%s: the tensor is too large for one launch", name);
  return dim3(static_cast<unsigned>(blocks));
}

template <class T>
T* data_of(const View* v) {
  return v ? static_cast<T*>(v->data) : nullptr;
}

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

// What a channel's sums gather, and how two of them join. Moments are those of the distance from
// the channel's first element, so that a mean far from zero costs no digits.
template <class A>
struct Moments {
  A n, mean, squares;
  static constexpr bool kGradient = false;
  static __device__ __forceinline__ Moments none() { return {A(0), A(0), A(0)}; }
  __device__ __forceinline__ void add(A x, A) {
    n += A(1);
    const A distance = x - mean;
    mean += distance / n;
    squares += distance * (x - mean);
  }
  __device__ __forceinline__ void merge(const Moments& other) {
    if (other.n == A(0)) return;
    const A all = n + other.n, distance = other.mean - mean;
    squares += other.squares + distance * distance * (n * (other.n / all));
    mean += distance * (other.n / all);
    n = all;
  }
};

template <class A>
struct Sums {
  A g, gx;
  static constexpr bool kGradient = true;
  static __device__ __forceinline__ Sums none() { return {A(0), A(0)}; }
  __device__ __forceinline__ void add(A xhat, A dy) {
    g += dy;
    gx += dy * xhat;
  }
  __device__ __forceinline__ void merge(const Sums& other) {
    g += other.g;
    gx += other.gx;
  }
};

struct ChannelShape {
  int64_t items, channels;  // items: samples · inner, per channel
  int64_t chunk;            // items per split
  Divider inner, group_channels;
  int64_t groups;   // statistics lie at [sample, group], or per channel where it is 0
  int32_t columns;  // channels that a block takes
  int32_t splits;
  bool narrow;
};

template <class S>
struct ChannelSlots {
  S slot[kReduceBlock];
};

template <class T, template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    channels_kernel(const __grid_constant__ ChannelShape shape, const T* x, const T* dy,
                    const Arith<T>* means, const Arith<T>* rstds, Rule<Arith<T>>* partial) {
  using A = Arith<T>;
  using S = Rule<A>;
  const int columns = shape.columns, rows = kReduceBlock / columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / columns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * columns + thread % columns;
  const int64_t inner = static_cast<int64_t>(shape.inner.divisor);
  S state = S::none();
  if (c < shape.channels) {
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * shape.chunk;
    const int64_t end = begin + shape.chunk < shape.items ? begin + shape.chunk : shape.items;
    const int64_t group =
        static_cast<int64_t>(divide(static_cast<uint64_t>(c), shape.group_channels, shape.narrow));
    for (int64_t item = begin + row; item < end; item += rows) {
      const int64_t sample =
          static_cast<int64_t>(divide(static_cast<uint64_t>(item), shape.inner, shape.narrow));
      const int64_t at = (sample * shape.channels + c) * inner + (item - sample * inner);
      A value = to_arith(x[at]), upstream = A(0);
      if constexpr (S::kGradient) {
        const int64_t s = shape.groups == 0 ? c : sample * shape.groups + group;
        value = (means ? value - means[s] : value) * rstds[s];
        upstream = to_arith(dy[at]);
      } else {
        value -= to_arith(x[c * inner]);
      }
      state.add(value, upstream);
    }
  }
  ChannelSlots<S>& shared = shared_memory<ChannelSlots<S>>();
  shared.slot[thread] = state;
  __syncthreads();
  for (int half = rows / 2; half > 0; half /= 2) {
    if (row < half) {
      state.merge(shared.slot[thread + half * columns]);
      shared.slot[thread] = state;
    }
    __syncthreads();
  }
  if (row == 0 && c < shape.channels) partial[blockIdx.y * shape.channels + c] = state;
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock)
    join_sums_kernel(const Sums<A>* partial, int64_t channels, int splits, A* dweight, A* dbias) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  Sums<A> all = Sums<A>::none();
  for (int s = 0; s < splits; ++s) all.merge(partial[s * channels + c]);
  if (dweight) dweight[c] = all.gx;
  if (dbias) dbias[c] = all.g;
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

// Σ over all samples per channel: `consume` gets the splits' results, [splits, channels].
template <class T, template <class> class Rule, class F>
void sum_channels(Stream& stream, const char* name, const NormShape& s, bool per_channel,
                  const View& x, const View* dy, const View* mean, const View* rstd,
                  const F& consume) {
  using A = Arith<T>;
  using S = Rule<A>;
  ChannelShape shape{};
  shape.items = s.samples * s.inner;
  shape.channels = s.channels;
  shape.columns = s.inner == 1 ? group_lanes(s.channels) : 1;
  shape.inner = make_divider(s.inner);
  shape.group_channels = make_divider(s.channels / s.groups);
  shape.groups = per_channel ? 0 : s.groups;
  shape.narrow = shape.items < (int64_t{1} << 31) && s.channels < (int64_t{1} << 31);
  const int64_t blocks = divide_up(s.channels, shape.columns);
  const int64_t worth = kReduceBlock / shape.columns * kPerThread;
  const int64_t splits = clamp(divide_up(kBlocksWanted, blocks), 1,
                               clamp(divide_up(shape.items, worth), 1, kMostSplits));
  shape.chunk = clamp(divide_up(shape.items, splits), 1, INT64_MAX);
  shape.splits = static_cast<int32_t>(clamp(divide_up(shape.items, shape.chunk), 1, splits));
  S* const partial = static_cast<S*>(
      acquire_scratch(stream, static_cast<size_t>(shape.splits * s.channels) * sizeof(S)));
  const dim3 grid(grid_of(name, blocks).x, static_cast<unsigned>(shape.splits));
  launch(stream, name, channels_kernel<T, Rule>, grid, dim3(kReduceBlock), sizeof(ChannelSlots<S>),
         shape, static_cast<const T*>(x.data), data_of<const T>(dy), data_of<const A>(mean),
         data_of<const A>(rstd), partial);
  consume(partial, shape.splits);
  release_scratch(stream, partial);
}

template <class T>
void channel_gradients(Stream& stream, const char* name, const NormShape& s, bool per_channel,
                       const View& x, const View* mean, const View& rstd, const View& dy,
                       const View* dweight, const View* dbias) {
  using A = Arith<T>;
  sum_channels<T, Sums>(
      stream, name, s, per_channel, x, &dy, mean, &rstd, [&](const Sums<A>* partial, int splits) {
        launch(stream, name, join_sums_kernel<A>,
               grid_of(name, divide_up(s.channels, kReduceBlock)), dim3(kReduceBlock), 0, partial,
               s.channels, splits, data_of<A>(dweight), data_of<A>(dbias));
      });
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
