// Sums per channel of [samples, channels, inner]: moments for batch norm, Σ dy and Σ dy·x̂ for the
// gradients of weight and bias.
// A block's threads run across channels where inner is 1, else along one channel, eight neighbours
// a thread where these lie together (16-byte accesses), else one; samples are cut into splits by
// size alone and a second launch joins their results in order. float32 inside, double for float64;
// no atomics. Cost: each operand read once, bandwidth-bound.
#pragma once

#include "core/error.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int64_t kBlocksWanted = 1024;
constexpr int64_t kMostSplits = 128;
constexpr int64_t kPerThread = 8;  // loads that are worth a thread of a channel's sum
constexpr int kEightBlocks = 3;    // on a multiprocessor: eight states need registers

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

dim3 grid_of(const char* name, int64_t blocks) {
  if (blocks > INT32_MAX) fail("%s: the tensor is too large for one launch", name);
  return dim3(static_cast<unsigned>(blocks));
}

template <class T>
T* data_of(const View* v) {
  return v ? static_cast<T*>(v->data) : nullptr;
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
  int32_t columns;  // threads across channels
  int32_t splits;
  bool narrow;
  DType dtype;
};

template <class S>
struct ChannelSlots {
  S slot[kReduceBlock];
};

// Joins the states of a block's rows, in the order of halves; every thread calls it, and `slots`
// may serve again.
template <class S>
__device__ __forceinline__ void join_rows(S& state, int row, int rows, int columns,
                                          ChannelSlots<S>& slots) {
  const int thread = static_cast<int>(threadIdx.x);
  slots.slot[thread] = state;
  __syncthreads();
  for (int half = rows / 2; half > 0; half /= 2) {
    if (row < half) {
      state.merge(slots.slot[thread + half * columns]);
      slots.slot[thread] = state;
    }
    __syncthreads();
  }
}

template <class A, template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    channels_kernel(const __grid_constant__ ChannelShape shape, const void* x, const void* dy,
                    const A* means, const A* rstds, Rule<A>* partial) {
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
#pragma unroll 2
    for (int64_t item = begin + row; item < end; item += rows) {
      const int64_t sample =
          static_cast<int64_t>(divide(static_cast<uint64_t>(item), shape.inner, shape.narrow));
      const int64_t at = (sample * shape.channels + c) * inner + (item - sample * inner);
      A value = load_as<A>(x, at, shape.dtype), upstream = A(0);
      if constexpr (S::kGradient) {
        const int64_t s = shape.groups == 0 ? c : sample * shape.groups + group;
        value = (means ? value - means[s] : value) * rstds[s];
        upstream = load_as<A>(dy, at, shape.dtype);
      } else {
        value -= load_as<A>(x, c * inner, shape.dtype);
      }
      state.add(value, upstream);
    }
  }
  join_rows(state, row, rows, columns, shared_memory<ChannelSlots<S>>());
  if (row == 0 && c < shape.channels) partial[blockIdx.y * shape.channels + c] = state;
}

// Eight neighbours a thread: of channels where inner is 1 (whose eight all are of one group, or
// have statistics each), else of a channel's items.
template <template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kEightBlocks)
    eight_kernel(const __grid_constant__ ChannelShape shape, const void* x, const void* dy,
                 const float* means, const float* rstds, Rule<float>* partial) {
  using S = Rule<float>;
  const int columns = shape.columns, rows = kReduceBlock / columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / columns;
  const int64_t inner = static_cast<int64_t>(shape.inner.divisor);
  const bool across = inner == 1;
  const int64_t c =
      (static_cast<int64_t>(blockIdx.x) * columns + thread % columns) * (across ? 8 : 1);
  S state[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) state[j] = S::none();
  if (c < shape.channels) {
    const int step = across ? 1 : 8;
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * shape.chunk;
    const int64_t end = begin + shape.chunk < shape.items ? begin + shape.chunk : shape.items;
    const int64_t group =
        static_cast<int64_t>(divide(static_cast<uint64_t>(c), shape.group_channels, shape.narrow));
    // What is taken from x, and what that is multiplied by.
    float shift[8], scale[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int64_t own = c + (across ? j : 0);
      scale[j] = 1.0f;
      if constexpr (S::kGradient) {
        shift[j] = means && shape.groups == 0 ? means[own] : 0.0f;
        if (shape.groups == 0) scale[j] = rstds[own];
      } else {
        shift[j] = load_as<float>(x, own * inner, shape.dtype);
      }
    }
    for (int64_t item = begin + row * step; item < end; item += rows * step) {
      const int64_t sample =
          static_cast<int64_t>(divide(static_cast<uint64_t>(item), shape.inner, shape.narrow));
      const int64_t at = (sample * shape.channels + c) * inner + (item - sample * inner);
      Piece piece[2][2] = {};
      load_eight(x, at, shape.dtype, piece[0]);
      if constexpr (S::kGradient) {
        load_eight(dy, at, shape.dtype, piece[1]);
        if (shape.groups > 0) {
          const int64_t s = sample * shape.groups + group;
          const float mean = means ? means[s] : 0.0f, rstd = rstds[s];
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            shift[j] = mean;
            scale[j] = rstd;
          }
        }
      }
      float value[8], upstream[8];
      unpack(piece[0], shape.dtype, value);
      unpack(piece[1], shape.dtype, upstream);
#pragma unroll
      for (int j = 0; j < 8; ++j) state[j].add((value[j] - shift[j]) * scale[j], upstream[j]);
    }
  }
  ChannelSlots<S>& slots = shared_memory<ChannelSlots<S>>();
  if (!across) {
#pragma unroll
    for (int j = 1; j < 8; ++j) state[0].merge(state[j]);
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    if (j > 0 && !across) break;
    join_rows(state[j], row, rows, columns, slots);
    if (row == 0 && c < shape.channels) partial[blockIdx.y * shape.channels + c + j] = state[j];
  }
}

template <class A>
__global__ void __launch_bounds__(kReduceBlock)
    join_sums_kernel(const Sums<A>* partial, int64_t channels, int splits, A* dweight, A* dbias) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  Sums<A> all = Sums<A>::none();
#pragma unroll 8
  for (int s = 0; s < splits; ++s) all.merge(partial[s * channels + c]);
  if (dweight) dweight[c] = all.gx;
  if (dbias) dbias[c] = all.g;
}

// Σ over all samples per channel: `consume` gets the splits' results, [splits, channels].
template <class A, template <class> class Rule, class F>
void sum_channels(Stream& stream, const char* name, const NormShape& s, bool per_channel,
                  const View& x, const View* dy, const View* mean, const View* rstd,
                  const F& consume) {
  using S = Rule<A>;
  const int64_t group = s.channels / s.groups;
  const bool across = s.inner == 1;
  const bool eight =
      same_type<A, float> && is_aligned(x.data, 16) && (!dy || is_aligned(dy->data, 16)) &&
      (across ? s.channels % 8 == 0 && (per_channel || group % 8 == 0) : s.inner % 8 == 0);
  const int64_t width = eight ? 8 : 1, wide = across ? width : 1, deep = across ? 1 : width;
  ChannelShape shape{};
  shape.items = s.samples * s.inner;
  shape.channels = s.channels;
  shape.columns = across ? group_lanes(s.channels / wide) : 1;
  shape.inner = make_divider(s.inner);
  shape.group_channels = make_divider(group);
  shape.groups = per_channel ? 0 : s.groups;
  shape.narrow = shape.items < (int64_t{1} << 31) && s.channels < (int64_t{1} << 31);
  shape.dtype = x.dtype;
  const int64_t blocks = divide_up(s.channels, shape.columns * wide);
  const int64_t worth = kReduceBlock / shape.columns * kPerThread * deep;
  const int64_t splits = clamp(divide_up(kBlocksWanted, blocks), 1,
                               clamp(divide_up(shape.items, worth), 1, kMostSplits));
  shape.chunk = clamp(divide_up(divide_up(shape.items, splits), deep) * deep, 1, INT64_MAX);
  shape.splits = static_cast<int32_t>(clamp(divide_up(shape.items, shape.chunk), 1, splits));
  S* const partial = static_cast<S*>(
      acquire_scratch(stream, static_cast<size_t>(shape.splits * s.channels) * sizeof(S)));
  const dim3 grid(grid_of(name, blocks).x, static_cast<unsigned>(shape.splits));
  auto kernel = channels_kernel<A, Rule>;
  if constexpr (same_type<A, float>) {
    if (eight) kernel = eight_kernel<Rule>;
  }
  launch(stream, name, kernel, grid, dim3(kReduceBlock), sizeof(ChannelSlots<S>), shape, x.data,
         data_of<const void>(dy), data_of<const A>(mean), data_of<const A>(rstd), partial);
  consume(partial, shape.splits);
  release_scratch(stream, partial);
}

template <class A>
void channel_gradients(Stream& stream, const char* name, const NormShape& s, bool per_channel,
                       const View& x, const View* mean, const View& rstd, const View& dy,
                       const View* dweight, const View* dbias) {
  sum_channels<A, Sums>(
      stream, name, s, per_channel, x, &dy, mean, &rstd, [&](const Sums<A>* partial, int splits) {
        launch(stream, name, join_sums_kernel<A>,
               grid_of(name, divide_up(s.channels, kReduceBlock)), dim3(kReduceBlock), 0, partial,
               s.channels, splits, data_of<A>(dweight), data_of<A>(dbias));
      });
}

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
