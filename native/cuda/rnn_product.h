// The product of a step inside one block: sums[m][n] = Σ_k A[m][k]·B[n][k] with A (a slice of the
// recurrent weights) and B (the rows' h, or gradients of gates) in shared memory, K contiguous and
// padded with zeros to the depth of an instruction. The block's warps take tiles of M and, where
// these are fewer than warps, parts of K; `sink` receives every sum once per part.
//   HalfProduct   mma.sync of bfloat16 or float16, tiles of 16 by 8 rows
//   Tf32Product   the same of float32 values rounded to TF32 as they were stored
//   FloatProduct  float32, lanes along M (two rows each where M allows)
// Rows are apart by stride(K) elements, which keeps all reads free of bank conflicts.
#pragma once

#include "ptx.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kRnnThreads = 256;
constexpr int kRnnWarps = kRnnThreads / 32;

struct ProductShape {
  int rows;    // of A; all of its tiles are there
  int depth;   // K, a multiple of kDepth
  int stride;  // elements from row to row
  int parts;   // of K
};

template <class T>
struct HalfProduct {
  using Element = T;
  using Shared = T;
  static constexpr int kDepth = 16;
  static constexpr __host__ __device__ int tile_rows(int) { return 16; }
  static constexpr int stride(int depth) { return depth + 8; }
  static __device__ __forceinline__ T prepare(T x) { return x; }
};

struct Tf32Product {
  using Element = float;
  using Shared = float;
  static constexpr int kDepth = 16;
  static constexpr __host__ __device__ int tile_rows(int) { return 16; }
  static constexpr int stride(int depth) { return depth % 32 == 16 ? depth : depth + 16; }
  static __device__ __forceinline__ float prepare(float x) { return __uint_as_float(to_tf32(x)); }
};

struct FloatProduct {
  using Element = float;
  using Shared = float;
  static constexpr int kDepth = 4;
  static constexpr __host__ __device__ int tile_rows(int rows) { return rows > 32 ? 64 : 32; }
  static constexpr int stride(int depth) { return depth % 8 == 4 ? depth : depth + 4; }
  static __device__ __forceinline__ float prepare(float x) { return x; }
};

struct Depths {
  int begin, end;
};

template <class Product>
__device__ __forceinline__ Depths depths_of(const ProductShape& s, int part) {
  const int each = (s.depth / Product::kDepth + s.parts - 1) / s.parts * Product::kDepth;
  const int begin = min(part * each, s.depth);
  return {begin, min(begin + each, s.depth)};
}

__device__ __forceinline__ void mma_half(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2], BFloat16) {
  mma_m16n8k16_bf16(d, a, b);
}
__device__ __forceinline__ void mma_half(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2], Float16) {
  mma_m16n8k16_f16(d, a, b);
}

// Adds the products of one tile of 16 rows of A with 8·kTiles rows of B. Even and odd steps of K
// have sums of their own, so that fewer instructions wait for each other.
template <int kTiles, class T>
__device__ __forceinline__ void multiply_tile(HalfProduct<T>, const T* a, const T* b, int stride,
                                              Depths k, float (&sums)[2][kTiles][4]) {
  constexpr bool kPaired = kTiles > 1;  // one ldmatrix serves two tiles
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const T* const a_row = a + lane % 16 * stride + lane / 16 * 8;
  const T* const b_row = b + (lane % 8 + (kPaired ? lane / 16 * 8 : 0)) * stride + lane / 8 % 2 * 8;
  for (int from = k.begin; from < k.end; from += 32) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const int at = from + 16 * odd;
      if (at >= k.end) continue;
      uint32_t x[4];
      ldmatrix_x4(x, a_row + at);
#pragma unroll
      for (int j = 0; j < kTiles; j += 2) {
        uint32_t y[4];
        ldmatrix_x4(y, b_row + 8 * j * stride + at);
        mma_half(sums[odd][j], x, {y[0], y[1]}, T{});
        if constexpr (kPaired) mma_half(sums[odd][j + 1], x, {y[2], y[3]}, T{});
      }
    }
  }
}

// K pairs (4t, 4t+1) and (4t+2, 4t+3) stand where the instruction has (t, t+4), in both operands.
template <int kTiles>
__device__ __forceinline__ void multiply_tile(Tf32Product, const float* a, const float* b,
                                              int stride, Depths k, float (&sums)[2][kTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = lane / 4 * stride + lane % 4 * 4;
  for (int at = k.begin; at < k.end; at += 16) {
    const auto low = load_vector<4>(reinterpret_cast<const uint32_t*>(a + own + at));
    const auto high = load_vector<4>(reinterpret_cast<const uint32_t*>(a + own + 8 * stride + at));
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const auto y =
          load_vector<4>(reinterpret_cast<const uint32_t*>(b + own + 8 * j * stride + at));
      mma_m16n8k8_tf32(sums[0][j], {low[0], high[0], low[1], high[1]}, {y[0], y[1]});
      mma_m16n8k8_tf32(sums[1][j], {low[2], high[2], low[3], high[3]}, {y[2], y[3]});
    }
  }
}

template <int kColumns, class Product, class Sink>
__device__ __forceinline__ void multiply_item(Product, const ProductShape& s,
                                              const typename Product::Shared* a,
                                              const typename Product::Shared* b, int tile, int part,
                                              const Sink& sink) {
  constexpr int kTiles = kColumns / 8;
  float sums[2][kTiles][4] = {};
  multiply_tile<kTiles>(Product{}, a + tile * 16 * s.stride, b, s.stride,
                        depths_of<Product>(s, part), sums);
  const int lane = static_cast<int>(threadIdx.x) % 32, m = tile * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sink(part, m + i / 2 * 8, 8 * j + lane % 4 * 2 + i % 2, sums[0][j][i] + sums[1][j][i]);
    }
  }
}

template <int kColumns, int kLaneRows, class Sink>
__device__ __forceinline__ void multiply_lanes(const ProductShape& s, const float* a,
                                               const float* b, int tile, int part,
                                               const Sink& sink) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Depths k = depths_of<FloatProduct>(s, part);
  float sums[kLaneRows][kColumns] = {};
  const float* rows[kLaneRows];
#pragma unroll
  for (int r = 0; r < kLaneRows; ++r) {
    rows[r] = a + min((tile * kLaneRows + r) * 32 + lane, s.rows - 1) * s.stride;
  }
#pragma unroll 1
  for (int at = k.begin; at < k.end; at += 4) {
    Vector<float, 4> x[kLaneRows];
#pragma unroll
    for (int r = 0; r < kLaneRows; ++r) x[r] = load_vector<4>(rows[r] + at);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const auto y = load_vector<4>(b + n * s.stride + at);
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][n] = fmaf(x[r][i], y[i], sums[r][n]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kLaneRows; ++r) {
    const int m = (tile * kLaneRows + r) * 32 + lane;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      if (m < s.rows) sink(part, m, n, sums[r][n]);
    }
  }
}

template <int kColumns, class Sink>
__device__ __forceinline__ void multiply_item(FloatProduct, const ProductShape& s, const float* a,
                                              const float* b, int tile, int part,
                                              const Sink& sink) {
  if (s.rows > 32) {
    multiply_lanes<kColumns, 2>(s, a, b, tile, part, sink);
  } else {
    multiply_lanes<kColumns, 1>(s, a, b, tile, part, sink);
  }
}

// All of it, by the whole block. kColumns: rows of B.
template <class Product, int kColumns, class Sink>
__device__ __forceinline__ void multiply(const ProductShape& s, const typename Product::Shared* a,
                                         const typename Product::Shared* b, const Sink& sink) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int tile_rows = Product::tile_rows(s.rows);
  const int tiles = (s.rows + tile_rows - 1) / tile_rows;
#pragma unroll 1
  for (int item = warp; item < tiles * s.parts; item += kRnnWarps) {
    multiply_item<kColumns>(Product{}, s, a, b, item % tiles, item / tiles, sink);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
