// Weights of convolutions in the order [group][m][tap][channel], in which the kernels for channels
// that lie together have them, and sums of their gradients back from it: one element a thread, a
// pass over memory of their size (times the slices).
#include "conv_tile.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256;

// Word: of an element's size.
template <class Word, ConvMode kMode>
__global__ void __launch_bounds__(kThreads)
    conv_pack_kernel(const __grid_constant__ ConvProblem p, Word* to, const int64_t channels,
                     const int64_t n) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= n) return;
  const int64_t taps = p.s.kh * p.s.kw;
  const int64_t channel = at % channels, tap = at / channels % taps;
  const int64_t line = at / channels / taps, row = line % p.rows, group = line / p.rows;
  const Share share = tap_share<kMode>(p, group, channel * taps + tap);
  const int64_t base = kMode == ConvMode::data ? row * p.weight_plane : line * p.k;
  to[at] = static_cast<const Word*>(p.left)[base + share.left];
}

// dw[group][m][channel][tap] = the slices' sums of it, added in order. Neighbouring threads read
// neighbouring channels: there are more sums to read than results to write.
__global__ void __launch_bounds__(kThreads)
    conv_sum_kernel(const __grid_constant__ ConvProblem p, const float* sums, const int64_t slices,
                    const int64_t channels, const int64_t n) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= n) return;
  const int64_t taps = p.s.kh * p.s.kw, channel = at % p.in_channels;
  const int64_t line = at / p.in_channels, tap = line % taps, row = line / taps;
  const int64_t step = p.s.groups * p.rows * taps * channels;
  const float* const from = sums + line * channels + channel;
  float sum = 0;
#pragma unroll 8
  for (int64_t slice = 0; slice < slices; ++slice) sum += from[slice * step];
  store_as(p.out, (row * p.in_channels + channel) * taps + tap, p.s.dtype, sum);
}

}  // namespace

void sum_conv_gradients(Stream& stream, const ConvProblem& p, const float* sums, int64_t slices,
                        int64_t channels) {
  const int64_t n = p.s.groups * p.rows * p.columns;
  launch(stream, "conv2d_sum", conv_sum_kernel, dim3(static_cast<unsigned>(divide_up(n, kThreads))),
         dim3(kThreads), 0, p, sums, slices, channels, n);
}

void* pack_conv_weights(Stream& stream, ConvMode mode, const ConvProblem& p) {
  const int64_t n = p.s.groups * p.rows * p.k;
  const size_t item = item_size(p.s.dtype);
  void* const packed = acquire_scratch(stream, item * static_cast<size_t>(n));
  const auto pack = [&](auto word, auto kernel) {
    launch(stream, "conv2d_pack", kernel, dim3(static_cast<unsigned>(divide_up(n, kThreads))),
           dim3(kThreads), 0, p, static_cast<decltype(word)*>(packed), conv_channels(mode, p), n);
  };
  const auto pack_words = [&](auto word) {
    using Word = decltype(word);
    if (mode == ConvMode::data) {
      pack(word, conv_pack_kernel<Word, ConvMode::data>);
    } else {
      pack(word, conv_pack_kernel<Word, ConvMode::forward>);
    }
  };
  if (item == 2) {
    pack_words(uint16_t{});
  } else {
    pack_words(uint32_t{});
  }
  return packed;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
