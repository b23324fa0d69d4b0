// Layer, RMS and group norm (rows), batch norm (channels) and their gradients; formulas and shapes
// in core/families/norm.h.
// Rows: a group of lanes, at most a warp, walks a row of up to 1024, a block a longer one: mean,
// squares about it, result; the walks after the first find the row in cache. Backward the same with
// Σ g and Σ g·x̂; norm_channels.h has the sums per channel. A lane moves eight neighbours where all
// addresses allow, else one. float32 inside, double for float64; dtypes are told apart at run time.
// Cost: rows 2·N·size bytes, backward 3 (and 2 more for dweight and dbias); batch norm 3, its
// backward 5: bandwidth-bound, floor bytes / bandwidth.
#include <initializer_list>

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
constexpr int kUnits = 8;  // elements per thread of elementwise passes

struct RowShape {
  int64_t rows, columns, group_channels, groups;
  Divider inner;
  int lanes;
  DType dtype;
  bool narrow;
  bool eight;  // neighbours at once, of one channel, or of eight where inner is 1
};

// weight[…] (or bias) of the V elements from i on of a row whose first channel is `channel`.
template <int V, class A>
__device__ __forceinline__ void load_channels(const RowShape& shape, const A* of_channel,
                                              int64_t channel, int64_t i, A (&value)[V]) {
  if constexpr (V == 8) {
    if (shape.inner.divisor == 1) {
#pragma unroll
      for (int part = 0; part < V; part += 4) {
        const auto four = load_vector<4>(of_channel + channel + i + part);
#pragma unroll
        for (int j = 0; j < 4; ++j) value[part + j] = four[j];
      }
      return;
    }
  }
  const A one = of_channel[channel + static_cast<int64_t>(divide(static_cast<uint64_t>(i),
                                                                 shape.inner, shape.narrow))];
#pragma unroll
  for (int j = 0; j < V; ++j) value[j] = one;
}

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

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    rows_kernel(const __grid_constant__ RowShape shape, const void* x, const A* weight,
                const A* bias, const A eps, void* y, A* means, A* rstds) {
  RowSlots<A>& slots = shared_memory<RowSlots<A>>();
  const DType dtype = shape.dtype;
  const int lanes = shape.lanes, lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                      static_cast<int>(threadIdx.x) / lanes;
  const int64_t n = row < shape.rows ? shape.columns : 0;
  const int64_t start = row < shape.rows ? row * shape.columns : 0;
  A mean = A(0);
  if (means) {
    A total = A(0);
    visit_eight<A>(shape.eight ? 0 : n, n, lane, lanes, [&](auto width, int64_t i) {
      constexpr int V = decltype(width)::value;
      A v[V];
      load_values<V>(x, start + i, dtype, v);
#pragma unroll
      for (int j = 0; j < V; ++j) total += v[j];
    });
    mean = reduce_group(total, lanes, slots.first, add_to<A>) / static_cast<A>(shape.columns);
  }
  A squares = A(0);
  visit_eight<A>(shape.eight ? 0 : n, n, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V];
    load_values<V>(x, start + i, dtype, v);
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
  visit_eight<A>(shape.eight ? 0 : n, n, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V], k[V];
    load_values<V>(x, start + i, dtype, v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = (v[j] - mean) * rstd;
    if (weight) {
      load_channels<V>(shape, weight, channel, i, k);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] *= k[j];
    }
    if (bias) {
      load_channels<V>(shape, bias, channel, i, k);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] += k[j];
    }
    store_values<V>(y, start + i, dtype, v);
  });
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    rows_backward_kernel(const __grid_constant__ RowShape shape, const void* x, const A* weight,
                         const A* means, const A* rstds, const void* dy, void* dx) {
  const DType dtype = shape.dtype;
  const int lanes = shape.lanes, lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                      static_cast<int>(threadIdx.x) / lanes;
  const bool valid = row < shape.rows;
  const int64_t n = valid ? shape.columns : 0, start = valid ? row * shape.columns : 0;
  const A mean = means && valid ? means[row] : A(0);
  const A rstd = valid ? rstds[row] : A(0);
  const int64_t channel = valid ? row % shape.groups * shape.group_channels : 0;
  // g = dy·weight.
  const auto load_both = [&](auto width, int64_t i, auto& v, auto& g) {
    constexpr int V = decltype(width)::value;
    load_values<V>(x, start + i, dtype, v);
    load_values<V>(dy, start + i, dtype, g);
    if (!weight) return;
    A k[V];
    load_channels<V>(shape, weight, channel, i, k);
#pragma unroll
    for (int j = 0; j < V; ++j) g[j] *= k[j];
  };
  Pair<A> total{A(0), A(0)};
  visit_eight<A>(shape.eight ? 0 : n, n, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V], g[V];
    load_both(width, i, v, g);
#pragma unroll
    for (int j = 0; j < V; ++j) {
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
  visit_eight<A>(shape.eight ? 0 : n, n, lane, lanes, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A v[V], g[V];
    load_both(width, i, v, g);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = rstd * (g[j] - shift - (v[j] - mean) * slope);
    store_values<V>(dx, start + i, dtype, v);
  });
}

template <class A>
struct Kept {
  A* mean;
  A* variance;
  const int64_t* batches;
  double momentum;
};

template <class A>
__global__ void __launch_bounds__(kReduceBlock)
    join_moments_kernel(const Moments<A>* partial, int64_t channels, int splits, const void* x,
                        const DType dtype, int64_t inner, const A eps, A* mean, A* rstd,
                        const Kept<A> kept) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  Moments<A> all = Moments<A>::none();
#pragma unroll 4
  for (int s = 0; s < splits; ++s) all.merge(partial[s * channels + c]);
  all.mean += load_as<A>(x, c * inner, dtype);
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
  DType dtype;
  bool narrow;
  bool eight;  // neighbours a thread, of one channel, or of eight where inner is 1
};

__device__ __forceinline__ int64_t channel_of(const ElementShape& shape, int64_t i) {
  const uint64_t unit = divide(static_cast<uint64_t>(i), shape.inner, shape.narrow);
  const uint64_t sample = divide(unit, shape.channels, shape.narrow);
  return static_cast<int64_t>(unit - sample * shape.channels.divisor);
}

// What batch norm does to an element of channel c; pointers as in the family's contract.
template <class A>
struct Batch {
  const A* mean;
  const A* rstd;
  const A* weight;
  const A* bias;

  struct Channel {
    A mean, rstd, weight, bias;
  };
  __device__ __forceinline__ Channel channel(int64_t c) const {
    return {mean[c], rstd[c], weight ? weight[c] : A(1), bias ? bias[c] : A(0)};
  }
  __device__ __forceinline__ A apply(const Channel& k, A x, A) const {
    A value = (x - k.mean) * k.rstd;
    if (weight) value *= k.weight;
    if (bias) value += k.bias;
    return value;
  }
};

template <class A>
struct BatchBackward {
  const A* mean;
  const A* rstd;
  const A* weight;
  const A* dweight;
  const A* dbias;
  A share;

  struct Channel {
    A mean, rstd, scale, shift, slope;
  };
  __device__ __forceinline__ Channel channel(int64_t c) const {
    return {mean[c], rstd[c], weight ? rstd[c] * weight[c] : rstd[c], dbias[c] * share,
            dweight[c] * share};
  }
  __device__ __forceinline__ A apply(const Channel& k, A x, A dy) const {
    const A xhat = (x - k.mean) * k.rstd;
    return k.scale * (dy - k.shift - xhat * k.slope);
  }
};

// out = f.apply(channel, x, dy), where dy may be null.
template <class A, class F>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    elements_kernel(const __grid_constant__ ElementShape shape, const F f, const void* x,
                    const void* dy, void* out) {
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (same_type<A, float>) {
    if (shape.eight) {
      const int64_t i = (static_cast<int64_t>(blockIdx.x) * kReduceBlock + thread) * 8;
      if (i >= shape.size) return;
      Piece piece[2][2] = {};
      load_eight(x, i, shape.dtype, piece[0]);
      if (dy) load_eight(dy, i, shape.dtype, piece[1]);
      const int64_t c = channel_of(shape, i);
      float value[8], upstream[8];
      unpack(piece[0], shape.dtype, value);
      unpack(piece[1], shape.dtype, upstream);
      if (shape.inner.divisor == 1) {
#pragma unroll
        for (int j = 0; j < 8; ++j) value[j] = f.apply(f.channel(c + j), value[j], upstream[j]);
      } else {
        const auto channel = f.channel(c);
#pragma unroll
        for (int j = 0; j < 8; ++j) value[j] = f.apply(channel, value[j], upstream[j]);
      }
      store_eight(out, i, shape.dtype, value);
      return;
    }
  }
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kReduceBlock * kUnits) + thread;
#pragma unroll 2
  for (int u = 0; u < kUnits; ++u) {
    const int64_t i = base + u * kReduceBlock;
    if (i >= shape.size) break;
    const A value = load_as<A>(x, i, shape.dtype);
    const A upstream = dy ? load_as<A>(dy, i, shape.dtype) : A(0);
    store_as(out, i, shape.dtype, f.apply(f.channel(channel_of(shape, i)), value, upstream));
  }
}

// `used`: what a kernel reads and writes by neighbours.
RowShape row_shape(const NormShape& s, const View& x, std::initializer_list<const View*> used) {
  RowShape r;
  r.rows = s.samples * s.groups;
  r.group_channels = s.channels / s.groups;
  r.groups = s.groups;
  r.columns = r.group_channels * s.inner;
  r.inner = make_divider(s.inner);
  r.narrow = r.columns < (int64_t{1} << 31);
  r.dtype = x.dtype;
  r.eight = x.dtype != DType::float64 && (s.inner == 1 ? r.group_channels : s.inner) % 8 == 0;
  for (const View* v : used) r.eight = r.eight && (!v || is_aligned(v->data, 16));
  r.lanes =
      r.columns > kLongRow ? kReduceBlock : group_lanes(divide_up(r.columns, r.eight ? 8 : 1));
  return r;
}

void rows(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
          double eps, const View& y, const View* mean, const View& rstd) {
  const RowShape shape = row_shape(s, x, {&x, &y, weight, bias});
  if (shape.rows == 0) return;
  with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    launch(stream, "norm", rows_kernel<A>,
           grid_of("norm", divide_up(shape.rows, kReduceBlock / shape.lanes)), dim3(kReduceBlock),
           sizeof(RowSlots<A>), shape, x.data, data_of<const A>(weight), data_of<const A>(bias),
           static_cast<A>(eps), y.data, data_of<A>(mean), static_cast<A*>(rstd.data));
  });
}

void rows_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                   const View* mean, const View& rstd, const View& dy, const View* dx,
                   const View* dweight, const View* dbias) {
  const RowShape shape = row_shape(s, x, {&x, &dy, dx, weight});
  with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    if (dx && shape.rows > 0) {
      launch(stream, "norm", rows_backward_kernel<A>,
             grid_of("norm", divide_up(shape.rows, kReduceBlock / shape.lanes)), dim3(kReduceBlock),
             sizeof(GroupSlots<Pair<A>>), shape, x.data, data_of<const A>(weight),
             data_of<const A>(mean), static_cast<const A*>(rstd.data), dy.data, dx->data);
    }
    if ((dweight || dbias) && s.channels > 0) {
      channel_gradients<A>(stream, "norm", s, false, x, mean, rstd, dy, dweight, dbias);
    }
  });
}

bool is_empty(const NormShape& s) { return s.samples * s.channels * s.inner == 0; }

void batch_statistics(Stream& stream, const NormShape& s, const View& x, double eps,
                      const View& mean, const View& rstd, const RunningStatistics& kept) {
  if (is_empty(s)) return;
  with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Kept<A> state{data_of<A>(kept.mean), data_of<A>(kept.variance),
                        data_of<const int64_t>(kept.batches), kept.momentum};
    sum_channels<A, Moments>(
        stream, "batchNorm", s, true, x, nullptr, nullptr, nullptr,
        [&](const Moments<A>* partial, int splits) {
          launch(stream, "batchNorm", join_moments_kernel<A>,
                 grid_of("batchNorm", divide_up(s.channels, kReduceBlock)), dim3(kReduceBlock), 0,
                 partial, s.channels, splits, x.data, x.dtype, s.inner, static_cast<A>(eps),
                 static_cast<A*>(mean.data), static_cast<A*>(rstd.data), state);
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
  with_float_arith(mean.dtype, [&](auto zero) {
    using A = decltype(zero);
    launch(stream, "batchNorm", running_kernel<A>,
           grid_of("batchNorm", divide_up(channels, kReduceBlock)), dim3(kReduceBlock), 0,
           static_cast<const A*>(running_mean.data), static_cast<const A*>(running_variance.data),
           channels, static_cast<A>(eps), static_cast<A*>(mean.data), static_cast<A*>(rstd.data));
  });
}

// f over all elements of x (and dy).
template <class A, class F>
void each_element(Stream& stream, const NormShape& s, const F& f, const View& x, const View* dy,
                  const View& out) {
  ElementShape shape{};
  shape.size = s.samples * s.channels * s.inner;
  if (shape.size == 0) return;
  shape.inner = make_divider(s.inner);
  shape.channels = make_divider(s.channels);
  shape.dtype = x.dtype;
  shape.narrow = shape.size < (int64_t{1} << 31);
  shape.eight = same_type<A, float> && is_aligned(x.data, 16) && is_aligned(out.data, 16) &&
                (!dy || is_aligned(dy->data, 16)) &&
                (s.inner == 1 ? s.channels % 8 == 0 : s.inner % 8 == 0);
  launch(stream, "batchNorm", elements_kernel<A, F>,
         grid_of("batchNorm", divide_up(shape.size, kReduceBlock * kUnits)), dim3(kReduceBlock), 0,
         shape, f, x.data, data_of<const void>(dy), out.data);
}

void batch(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
           const View& mean, const View& rstd, const View& y) {
  with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Batch<A> f{data_of<const A>(&mean), data_of<const A>(&rstd), data_of<const A>(weight),
                     data_of<const A>(bias)};
    each_element<A>(stream, s, f, x, nullptr, y);
  });
}

void batch_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                    const View& mean, const View& rstd, const View& dy, bool fixed, const View* dx,
                    const View& dweight, const View& dbias) {
  if (s.channels == 0) return;
  with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    channel_gradients<A>(stream, "batchNorm", s, true, x, &mean, rstd, dy, &dweight, &dbias);
    if (!dx) return;
    const A share = fixed ? A(0) : A(1) / static_cast<A>(s.samples * s.inner);
    const BatchBackward<A> f{data_of<const A>(&mean),  data_of<const A>(&rstd),
                             data_of<const A>(weight), data_of<const A>(&dweight),
                             data_of<const A>(&dbias), share};
    each_element<A>(stream, s, f, x, &dy, *dx);
  });
}

}  // namespace

const NormFamily norm_family = {rows,  rows_backward, batch_statistics, running_statistics,
                                batch, batch_backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
