// What the tensor-core convolutions share (conv_mma.cu, conv_last.cu): stages of 64 bytes of K in
// shared memory, [row][4 chunks of 16 bytes] with chunk ^ ((row/2)%4), free of bank conflicts;
// their product; and where a place of an image and a tap of a channel meet.
#pragma once

#include "conv_mma.h"
#include "rnn_product.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kRowBytes = 64, kChunks = 4;
constexpr int32_t kOutside = -(1 << 30);  // a row or column that no tap brings inside

__device__ __forceinline__ int chunk_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row >> 1 & 3)) * 16);
}

// A place's or a tap's share; `left` is where A has its k, or -1 where there is none.
struct alignas(16) Share {
  int32_t offset, i, j, left;
};

template <ConvMode kMode>
__device__ __forceinline__ Share tap_share(const ConvProblem& p, int64_t group, int64_t index) {
  const ConvShape& s = p.s;
  const ConvIndex t = split_tap(p, index);
  const int64_t down = t.high * s.dilation_h, across = t.low * s.dilation_w;
  if constexpr (kMode == ConvMode::data) {
    const int64_t channel = group * p.out_channels + t.outer;
    const int64_t left = channel * p.rows * p.weight_plane +
                         (p.down.tap + t.high * p.down.tap_step) * p.weight_w + p.across.tap +
                         t.low * p.across.tap_step;
    return {static_cast<int32_t>(channel * p.y.channel - down * p.y.row - across * p.y.column),
            static_cast<int32_t>(-down), static_cast<int32_t>(-across), static_cast<int32_t>(left)};
  } else {
    const int64_t channel = group * p.in_channels + t.outer;
    return {static_cast<int32_t>(channel * p.x.channel + down * p.x.row + across * p.x.column),
            static_cast<int32_t>(down), static_cast<int32_t>(across), static_cast<int32_t>(index)};
  }
}

template <ConvMode kMode>
__device__ __forceinline__ Share share_of_place(const ConvProblem& p, const ConvIndex& t) {
  const ConvShape& s = p.s;
  if constexpr (kMode == ConvMode::data) {
    const int64_t i = t.high + s.pad_h, j = t.low + s.pad_w, image = t.outer * s.o * s.oh * s.ow;
    return {static_cast<int32_t>(image + i * p.y.row + j * p.y.column), static_cast<int32_t>(i),
            static_cast<int32_t>(j), 0};
  } else {
    const int64_t i = t.high * s.stride_h - s.pad_h, j = t.low * s.stride_w - s.pad_w;
    const int64_t x = t.outer * s.c * s.h * s.w + i * p.x.row + j * p.x.column;
    const int64_t y = t.outer * s.o * s.oh * s.ow + t.high * p.y.row + t.low * p.y.column;
    return {static_cast<int32_t>(x), static_cast<int32_t>(i), static_cast<int32_t>(j),
            static_cast<int32_t>(y)};
  }
}

template <ConvMode kMode>
__device__ __forceinline__ Share place_share(const ConvProblem& p, int64_t index) {
  return share_of_place<kMode>(p, split_place(p, index));
}

// sums += the A·B of one half of a stage, of the warp's part; kRound: float32 is still to be
// rounded to TF32.
template <bool kRound, int kDown, int kAcross, class T>
__device__ __forceinline__ void multiply_half(HalfProduct<T>, int step, const unsigned char* a,
                                              const unsigned char* b, int row0, int column0,
                                              float (&sums)[kDown][kAcross][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t x[kDown][4];
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
    ldmatrix_x4(x[i], a + chunk_offset(row0 + 16 * i + lane % 16, 2 * step + lane / 16));
  }
#pragma unroll
  for (int j = 0; j < kAcross; j += 2) {
    uint32_t y[4];
    ldmatrix_x4(
        y, b + chunk_offset(column0 + 8 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
      mma_half(sums[i][j], x[i], {y[0], y[1]}, T{});
      mma_half(sums[i][j + 1], x[i], {y[2], y[3]}, T{});
    }
  }
}

// Both halves at once: one read gives a lane four neighbours of K. K pairs (4t, 4t+1) and (4t+2,
// 4t+3) stand where the instruction has (t, t+4), in both operands.
template <bool kRound, int kDown, int kAcross>
__device__ __forceinline__ void multiply_half(Tf32Product, int step, const unsigned char* a,
                                              const unsigned char* b, int row0, int column0,
                                              float (&sums)[kDown][kAcross][4]) {
  if (step > 0) return;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const auto read = [&](const unsigned char* tile, int row) {
    auto x = load_vector<4>(reinterpret_cast<const uint32_t*>(tile + chunk_offset(row, t)));
    if constexpr (kRound) {
#pragma unroll
      for (int e = 0; e < 4; ++e) x[e] = to_tf32(__uint_as_float(x[e]));
    }
    return x;
  };
  Vector<uint32_t, 4> y[kAcross];
#pragma unroll
  for (int j = 0; j < kAcross; ++j) y[j] = read(b, column0 + 8 * j + g);
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
    const auto low = read(a, row0 + 16 * i + g), high = read(a, row0 + 16 * i + 8 + g);
#pragma unroll
    for (int half = 0; half < 4; half += 2) {
      const uint32_t x[4] = {low[half], high[half], low[half + 1], high[half + 1]};
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        mma_m16n8k8_tf32(sums[i][j], x, {y[j][half], y[j][half + 1]});
      }
    }
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
