// What the products by warpgroups add to their pipeline (wgmma_pipeline.h), for both kinds of tiles
// (gemm_wgmma.cu, gemm_wgmma_tf32.cu): the problem as the kernel receives it, who fills the stages,
// the sums of A's rows beside a tile's product, and the ways of the sums to C.
//
// A stage holds lines of 128 bytes: rows of M or N where K is contiguous, else for each 64
// (float32: 32) of M or N as many lines of K.
#pragma once

#include <cstddef>

#include "ptx.h"
#include "wgmma_pipeline.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct WgmmaProblem {
  GemmOutput out;
  int64_t m, n;
  int32_t k_blocks;  // stages of K of the whole product
  WgmmaTiles tiles;
  bool a_batched, b_batched;
  bool a_k_contiguous, b_k_contiguous;  // else M, N are
  bool turned;                          // it is Cᵀ that is computed
  bool plain;  // C of 16 bits, in groups of 8 columns, is due scale, bias and ReLU alone
};

// Of a product that adds up the rows of A: 8 lines of 64 bytes of ones, under their swizzle, and a
// block's share of the sums where K is sliced.
template <int kRows>
struct RowSums {
  uint32_t ones[128];
  float sums[kRows];
};

template <WgmmaType kType, int kBM, int kBN>
struct Config : WgmmaConfig<kType, kBM, kBN, RowSums<kBM == 64 ? kBM : 1>> {
  static constexpr bool kLeft = false;  // whether A goes through registers (gemm_wgmma_tf32.cu)
  static constexpr uint32_t kOnes = kType == WgmmaType::float16 ? 0x3c003c00 : 0x3f803f80;
  static_assert(offsetof(typename Config::WgmmaConfig::Shared, more) % 512 == 0);
};

[[maybe_unused]] __device__ __forceinline__ WgmmaRange range_of(const WgmmaProblem& p,
                                                                uint32_t rank) {
  if (p.tiles.multicast) return {0, p.k_blocks};
  return slice_of(static_cast<uint32_t>(p.k_blocks), p.tiles.cluster, rank);
}

template <class C>
__device__ __forceinline__ void produce(typename C::Shared& shared, const CUtensorMap* a_map,
                                        const CUtensorMap* b_map, const WgmmaProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const WgmmaRange range = range_of(p, rank);
  for (uint32_t unit = blockIdx.x / p.tiles.cluster; unit < static_cast<uint32_t>(p.tiles.units);
       unit += gridDim.x / p.tiles.cluster) {
    const WgmmaPlace place = unit_place<C>(p.tiles, unit, rank);
    const int a_batch = p.a_batched ? place.batch : 0, b_batch = p.b_batched ? place.batch : 0;
    for (int32_t block = range.begin; block < range.end; ++block) {
      const int k = block * C::kTileK;
      Mbarrier* full = &shared.full[ring.stage];
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      // Bytes of a peer may come before these are announced: the count may pass below zero.
      mbarrier_expect_and_arrive(full, C::kStageBytes);
      unsigned char* a = shared.a[ring.stage];
      if (p.a_k_contiguous) {
        load_box(a, a_map, k, place.m, a_batch, full);
      } else {
#pragma unroll
        for (int i = 0; i < C::kBM; i += C::kTileK) {
          load_box(a + i * kLine, a_map, place.m + i, k, a_batch, full);
        }
      }
      unsigned char* b = shared.b[ring.stage];
      if (p.tiles.multicast) {
        const int half = static_cast<int>(rank);
        if (p.b_k_contiguous) {
          const int row = half * (C::kBN / 2);
          load_box_multicast(b + row * kLine, b_map, k, place.n + row, b_batch, full, 3);
        } else {
          const int line = half * (C::kTileK / 2);
#pragma unroll
          for (int i = 0; i < C::kBN; i += C::kTileK) {
            load_box_multicast(b + (i + line) * kLine, b_map, place.n + i, k + line, b_batch, full,
                               3);
          }
        }
      } else if (p.b_k_contiguous) {
        load_box(b, b_map, k, place.n, b_batch, full);
      } else {
#pragma unroll
        for (int i = 0; i < C::kBN; i += C::kTileK) {
          load_box(b + i * kLine, b_map, place.n + i, k, b_batch, full);
        }
      }
      ring.advance();
    }
  }
}

// Moves the warp's 16 rows of sums from registers to C.
template <class C>
__device__ __forceinline__ void store_tile(typename C::Shared& shared, const WgmmaProblem& p,
                                           const WgmmaPlace& place, const float (&d)[C::kBN / 2]) {
  store_rows<C>(
      shared, d, [&](int row, int column) { return place.m + row < p.m && place.n + column < p.n; },
      [&](int row, int column, float(&v)[C::kPerStore]) {
        finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + column, p.n, v);
      });
}

// The same where C is `plain`: what is due is done in registers, and the rounded sums cross shared
// memory in lines of 64 columns, 16 bytes of which are in the place of their number xor the row's.
template <class C>
__device__ __forceinline__ void store_plain_rows(typename C::Shared& shared, const WgmmaProblem& p,
                                                 const WgmmaPlace& place,
                                                 const float (&d)[C::kBN / 2]) {
  using T = typename C::T;
  constexpr int kColumns = 64;
  static_assert(kLine <= (C::kStaged + 8) * 4);
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32, t = lane % 4, own = lane % 8;
  auto* const staged = reinterpret_cast<unsigned char*>(shared.sums[warp * 16]);
  unsigned char* const line = staged + lane % 16 * kLine;
  const int row = place.m + warp * 16 + lane / 8;
  T* to = static_cast<T*>(p.out.c) + place.batch * p.out.batch_stride + row * p.out.ld + place.n +
          own * 8;
  const T* bias = static_cast<const T*>(p.out.bias);
#pragma unroll
  for (int first = 0; first < C::kBN; first += kColumns) {
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      uint32_t words[4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int group = first / 8 + 2 * pair + half, column = place.n + group * 8;
        Vector<T, 2> more{};
        if (bias && column < p.n) more = load_vector<2>(bias + column + 2 * t);
#pragma unroll
        for (int upper = 0; upper < 2; ++upper) {
          float v[2];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            v[i] = d[group * 4 + upper * 2 + i] * p.out.scale + to_float(more[i]);
          }
          if (p.out.activation == Activation::relu) activate(Activation::relu, v);
          words[half * 2 + upper] =
              std::is_same_v<T, BFloat16> ? pack_bfloat16(v[0], v[1]) : pack_float16(v[0], v[1]);
        }
      }
      stmatrix_x4(line + ((2 * pair + lane / 16) ^ own) * 16, words);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      const int at = i + lane / 8;
      const auto eight = load_vector<4>(
          reinterpret_cast<const uint32_t*>(staged + at * kLine + (own ^ at % 8) * 16));
      if (row + i < p.m && place.n + first + own * 8 < p.n) {
        store_vector(reinterpret_cast<uint32_t*>(to + i * p.out.ld + first), eight);
      }
    }
    __syncwarp();
  }
}

// The same to C from sums of Cᵀ, staged as they go: lines of 16 along its rows.
template <class C>
__device__ __forceinline__ void store_turned(typename C::Shared& shared, const WgmmaProblem& p,
                                             const WgmmaPlace& place,
                                             const float (&d)[C::kBN / 2]) {
  constexpr int kLines = 32, kLength = 16 + 4;
  static_assert(kLines * kLength <= 16 * (C::kStaged + 8));
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32, t = lane % 4, mine = C::staged_row(lane / 4);
  float* const staged = shared.sums[warp * 16];
#pragma unroll
  for (int first = 0; first < C::kBN; first += kLines) {
#pragma unroll
    for (int j = 0; j < kLines / 8; ++j) {
      const float* from = d + (first / 8 + j) * 4;
      float* to = staged + (8 * j + 2 * t) * kLength + mine;
      store_vector(to, Vector<float, 2>{from[0], from[2]});
      store_vector(to + kLength, Vector<float, 2>{from[1], from[3]});
    }
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < kLines * 4; i += 32) {
      const int row = C::tile_row(warp, i % 4 * 4), column = i / 4;
      if (place.m + row >= p.m || place.n + first + column >= p.n) continue;
      const auto four = load_vector<4>(staged + column * kLength + i % 4 * 4);
      float v[4] = {four[0], four[1], four[2], four[3]};
      finish_columns<typename C::T>(p.out, place.batch, place.n + first + column, place.m + row,
                                    p.m, v);
    }
    __syncwarp();
  }
}

// The sums of the warp's 16 rows of A to their place, or only into shared memory.
template <class C, bool kFinish>
__device__ __forceinline__ void store_row_sums(typename C::Shared& shared, const WgmmaProblem& p,
                                               const WgmmaPlace& place, const float (&sums)[4]) {
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
  if (thread % 4 != 0) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * i;
    if constexpr (kFinish) {
      if (place.m + row < p.m) finish_sum<typename C::T>(p.out, place.m + row, sums[2 * i]);
    } else {
      shared.more.sums[row] = sums[2 * i];
    }
  }
}

// The partial sums of a cluster's blocks at one place, and `step` floats on from it each time.
template <int kCount>
__device__ __forceinline__ void add_slices(const float* own, int step, int blocks,
                                           float (&v)[kCount]) {
  for (int slice = 0; slice < blocks; ++slice) {
    const float* from = cluster_peer(own, static_cast<uint32_t>(slice));
    if (step == 1) {
#pragma unroll
      for (int j = 0; j < kCount; j += 4) {
        const auto four = load_vector<4>(from + j);
#pragma unroll
        for (int x = 0; x < 4; ++x) v[j + x] += four[x];
      }
    } else {
#pragma unroll
      for (int j = 0; j < kCount; ++j) v[j] += from[j * step];
    }
  }
}

// Adds the cluster's partial sums in the order of the slices; each block does its share of the
// rows.
template <class C>
__device__ __forceinline__ void sum_slices(typename C::Shared& shared, const WgmmaProblem& p,
                                           const WgmmaPlace& place, uint32_t rank) {
  constexpr int kStoresPerRow = C::kBN / C::kPerStore;
  const int blocks = p.tiles.cluster, rows = (C::kBM / 4 + blocks - 1) / blocks * 4;
  const int first = static_cast<int>(rank) * rows, last = min(first + rows, C::kBM);
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
  if (C::kLeft && p.turned) {
    const int lines = (last - first) / 4;
#pragma unroll 1
    for (int i = thread; i < lines * C::kBN; i += kWarpgroup) {
      const int row = first + i % lines * 4, column = i / lines;
      if (place.m + row >= p.m || place.n + column >= p.n) continue;
      float v[4] = {};
      add_slices(&shared.sums[row][column], C::kStaged + 8, blocks, v);
      finish_columns<typename C::T>(p.out, place.batch, place.n + column, place.m + row, p.m, v);
    }
    return;
  }
#pragma unroll 1
  for (int i = thread; i < (last - first) * kStoresPerRow; i += kWarpgroup) {
    const int row = first + i / kStoresPerRow, column = i % kStoresPerRow * C::kPerStore;
    if (place.m + row >= p.m || place.n + column >= p.n) continue;
    float v[C::kPerStore] = {};
    add_slices(&shared.sums[row][column], 1, blocks, v);
    finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + column, p.n, v);
  }
  if (!p.out.a_sums || place.n != 0) return;
  for (int row = first + thread; row < last && place.m + row < p.m; row += kWarpgroup) {
    float sum = 0;
    for (int slice = 0; slice < blocks; ++slice) {
      sum += *cluster_peer(&shared.more.sums[row], static_cast<uint32_t>(slice));
    }
    finish_sum<typename C::T>(p.out, place.m + row, sum);
  }
}

// One more, narrow product with ones beside a tile's: the sums of the rows of A, whose lines run
// along M.
template <class C>
struct AddRows {
  typename C::Shared& shared;
  float (&sums)[4];

  __device__ __forceinline__ void touch() { wgmma_touch(sums); }
  __device__ __forceinline__ void multiply(uint64_t a, bool add) {
    wgmma<C::kType, 8, true, false>(sums, a, wgmma_descriptor(shared.more.ones, 16, 512, 64), add);
  }
};

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
