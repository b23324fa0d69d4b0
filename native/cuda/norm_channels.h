// Sums per channel of [samples, channels, inner]: moments for batch norm, Σ dy and Σ dy·x̂ for the
// gradients of weight and bias.
// A block's threads run across 32 channels where inner is 1, else along one channel; samples are
// cut into splits by size alone and a second launch joins their results in order. float32 inside,
// double for float64; no atomics. Cost: each operand read once, bandwidth-bound.
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
constexpr int64_t kPerThread = 8;  // elements that are worth a thread of a channel's sum

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

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
