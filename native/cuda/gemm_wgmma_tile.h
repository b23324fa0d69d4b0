// What the products by warpgroups share (gemm_wgmma.cu, gemm_wgmma_tf32.cu): the problem as the
// kernel receives it, the stages and who fills them, a tile's products with both operands in shared
// memory, and the way of the sums to C.
//
// One producer thread brings tiles by tensor copies into a ring of stages of 128 bytes of K; one or
// two consumer warpgroups of 64 rows each multiply them by wgmma. A stage holds 128-byte lines
// under the 128-byte swizzle (wgmma.h): rows of M or N where K is contiguous, else for each 64
// (float32: 32) of M or N as many lines of K.
#pragma once

#include "gemm_tile.h"
#include "gemm_wgmma.h"
#include "ptx.h"
#include "tensor_copy.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kWarpgroup = 128;
constexpr int kPeriod = 8 * kLine;
constexpr int kMostShared = 227 * 1024;

struct WgmmaProblem {
  GemmOutput out;
  int64_t m, n;
  int32_t k_blocks;          // stages of K of the whole product
  int32_t units;             // tiles, or pairs of them that a cluster makes together
  int32_t units_m, tiles_n;  // of one batch
  uint8_t cluster;           // blocks
  bool multicast;            // the cluster shares tiles of B; else slices of K, where cluster > 1
  bool a_batched, b_batched;
  bool a_k_contiguous, b_k_contiguous;  // else M, N are
  bool turned;                          // it is Cᵀ that is computed
  bool plain;  // C of 16 bits, in groups of 8 columns, is due scale, bias and ReLU alone
};

// kLeft: A goes through registers (gemm_wgmma_tf32.cu).
template <WgmmaType kType_, int kBM_, int kBN_, bool kLeft_ = false>
struct Config {
  static constexpr WgmmaType kType = kType_;
  static constexpr bool kLeft = kLeft_;
  using T = std::conditional_t<kType == WgmmaType::tf32, float,
                               std::conditional_t<kType == WgmmaType::float16, Float16, BFloat16>>;
  static constexpr int kBM = kBM_, kBN = kBN_;
  static constexpr int kTileK = kLine / static_cast<int>(sizeof(T));
  static constexpr int kGroup = kTileK;  // rows of M or N in a line, where they are contiguous
  static constexpr int kConsumers = kBM / 64;
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr bool kSlices = kBM == 64;
  static constexpr int kStaged = kSlices ? kBN : 32;  // columns of C on their way out
  static constexpr int kStageBytes = (kBM + kBN) * kLine;
  static constexpr int kFitting = (kMostShared - kBM * (kStaged + 8) * 4 - kPeriod) / kStageBytes;
  static constexpr int kStages = kFitting < 8 ? kFitting : 8;
  static constexpr uint32_t kOnes = kType == WgmmaType::float16 ? 0x3c003c00 : 0x3f803f80;

  struct alignas(1024) Shared {
    unsigned char a[kStages][kBM * kLine];
    unsigned char b[kStages][kBN * kLine];
    float sums[kBM][kStaged + 8];  // 16 rows for each warp; 8 keep reads off each other's banks
    // Of a product that adds up the rows of A: 8 lines of 64 bytes.
    alignas(512) uint32_t ones[128];
    float row_sums[kSlices ? kBM : 1];
    Mbarrier full[kStages], empty[kStages];
  };
  static_assert(sizeof(Shared) <= kMostShared);
};

struct Place {
  int32_t batch, m, n;  // m, n: the tile's first row and column
};

template <class C>
__device__ __forceinline__ Place unit_place(const WgmmaProblem& p, uint32_t unit, uint32_t rank) {
  const uint32_t tiles = static_cast<uint32_t>(p.units_m) * p.tiles_n;
  const uint32_t tile = unit % tiles, per_band = static_cast<uint32_t>(kBandOfTiles) * p.tiles_n;
  const uint32_t first = tile / per_band * kBandOfTiles, in_band = tile % per_band;
  const uint32_t rows = min(static_cast<uint32_t>(p.units_m) - first, uint32_t{kBandOfTiles});
  const uint32_t row = first + in_band % rows;
  Place place;
  place.batch = static_cast<int32_t>(unit / tiles);
  place.m = static_cast<int32_t>(p.multicast ? row * p.cluster + rank : row) * C::kBM;
  place.n = static_cast<int32_t>(in_band / rows) * C::kBN;
  return place;
}

// The blocks of K that a block multiplies.
struct Range {
  int32_t begin, end;
};

[[maybe_unused]] __device__ __forceinline__ Range range_of(const WgmmaProblem& p, uint32_t rank) {
  if (p.multicast) return {0, p.k_blocks};
  // Slices differ by one block at most, and none is empty.
  const uint32_t blocks = static_cast<uint32_t>(p.k_blocks), slices = p.cluster;
  const uint32_t whole = blocks / slices, longer = blocks % slices;
  const uint32_t begin = rank * whole + min(rank, longer);
  return {static_cast<int32_t>(begin),
          static_cast<int32_t>(begin + whole + (rank < longer ? 1 : 0))};
}

template <class C>
__device__ __forceinline__ void produce(typename C::Shared& shared, const CUtensorMap* a_map,
                                        const CUtensorMap* b_map, const WgmmaProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const Range range = range_of(p, rank);
  for (uint32_t unit = blockIdx.x / p.cluster; unit < static_cast<uint32_t>(p.units);
       unit += gridDim.x / p.cluster) {
    const Place place = unit_place<C>(p, unit, rank);
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
        for (int i = 0; i < C::kBM; i += C::kGroup) {
          load_box(a + i * kLine, a_map, place.m + i, k, a_batch, full);
        }
      }
      unsigned char* b = shared.b[ring.stage];
      if (p.multicast) {
        const int half = static_cast<int>(rank);
        if (p.b_k_contiguous) {
          const int row = half * (C::kBN / 2);
          load_box_multicast(b + row * kLine, b_map, k, place.n + row, b_batch, full, 3);
        } else {
          const int line = half * (C::kGroup / 2);
#pragma unroll
          for (int i = 0; i < C::kBN; i += C::kGroup) {
            load_box_multicast(b + (i + line) * kLine, b_map, place.n + i, k + line, b_batch, full,
                               3);
          }
        }
      } else if (p.b_k_contiguous) {
        load_box(b, b_map, k, place.n, b_batch, full);
      } else {
#pragma unroll
        for (int i = 0; i < C::kBN; i += C::kGroup) {
          load_box(b + i * kLine, b_map, place.n + i, k, b_batch, full);
        }
      }
      ring.advance();
    }
  }
}

// The place in staging memory of row g + 8i of a warp's fragment, and the tile's row that is there:
// A in registers has an order of rows of its own (gemm_wgmma_tf32.cu).
template <class C>
__device__ __forceinline__ int staged_row(int g) {
  return C::kLeft ? g / 4 * 8 + g / 2 % 2 * 4 + g % 2 * 2 : g;
}
template <class C>
__device__ __forceinline__ int tile_row(int warp, int staged) {
  if (!C::kLeft) return warp * 16 + staged;
  return warp / 2 * 32 + staged / 4 % 2 * 16 + warp % 2 * 8 + staged / 8 * 4 + staged % 4;
}

// Moves the warp's 16 rows of sums from registers to C, or only into shared memory.
template <class C, bool kFinish>
__device__ __forceinline__ void store_rows(typename C::Shared& shared, const WgmmaProblem& p,
                                           const Place& place, const float (&d)[C::kBN / 2]) {
  constexpr int kPerStore = 16 / static_cast<int>(sizeof(typename C::T));
  constexpr int kStoresPerRow = C::kStaged / kPerStore;
  constexpr int kBetween = C::kLeft ? 1 : 8;  // rows g and g + 8 of a fragment
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32, t = lane % 4, mine = staged_row<C>(lane / 4);
  float* const row_of_sums = shared.sums[kFinish ? warp * 16 + mine : tile_row<C>(warp, mine)];
#pragma unroll
  for (int first = 0; first < C::kBN; first += C::kStaged) {
#pragma unroll
    for (int j = 0; j < C::kStaged / 8; ++j) {
      const float* from = d + (first / 8 + j) * 4;
      float* to = row_of_sums + 8 * j + 2 * t;
      store_vector(to, Vector<float, 2>{from[0], from[1]});
      store_vector(to + kBetween * (C::kStaged + 8), Vector<float, 2>{from[2], from[3]});
    }
    if constexpr (!kFinish) continue;
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * kStoresPerRow; i += 32) {
      const int row = tile_row<C>(warp, i / kStoresPerRow), column = i % kStoresPerRow * kPerStore;
      if (place.m + row >= p.m || place.n + first + column >= p.n) continue;
      float v[kPerStore];
#pragma unroll
      for (int j = 0; j < kPerStore; j += 4) {
        const auto four = load_vector<4>(&shared.sums[warp * 16 + i / kStoresPerRow][column + j]);
#pragma unroll
        for (int x = 0; x < 4; ++x) v[j + x] = four[x];
      }
      finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + first + column,
                                    p.n, v);
    }
    __syncwarp();
  }
}

// The same where C is `plain`: what is due is done in registers, and the rounded sums cross shared
// memory in lines of 64 columns, 16 bytes of which are in the place of their number xor the row's.
template <class C>
__device__ __forceinline__ void store_plain_rows(typename C::Shared& shared, const WgmmaProblem& p,
                                                 const Place& place, const float (&d)[C::kBN / 2]) {
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
                                             const Place& place, const float (&d)[C::kBN / 2]) {
  constexpr int kLines = 32, kLength = 16 + 4;
  static_assert(kLines * kLength <= 16 * (C::kStaged + 8));
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32, t = lane % 4, mine = staged_row<C>(lane / 4);
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
      const int row = tile_row<C>(warp, i % 4 * 4), column = i / 4;
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
                                               const Place& place, const float (&sums)[4]) {
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
  if (thread % 4 != 0) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * i;
    if constexpr (kFinish) {
      if (place.m + row < p.m) finish_sum<typename C::T>(p.out, place.m + row, sums[2 * i]);
    } else {
      shared.row_sums[row] = sums[2 * i];
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
                                           const Place& place, uint32_t rank) {
  constexpr int kPerStore = 16 / static_cast<int>(sizeof(typename C::T));
  constexpr int kStoresPerRow = C::kBN / kPerStore;
  const int blocks = p.cluster, rows = (C::kBM / 4 + blocks - 1) / blocks * 4;
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
    const int row = first + i / kStoresPerRow, column = i % kStoresPerRow * kPerStore;
    if (place.m + row >= p.m || place.n + column >= p.n) continue;
    float v[kPerStore] = {};
    add_slices(&shared.sums[row][column], 1, blocks, v);
    finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + column, p.n, v);
  }
  if (!p.out.a_sums || place.n != 0) return;
  for (int row = first + thread; row < last && place.m + row < p.m; row += kWarpgroup) {
    float sum = 0;
    for (int slice = 0; slice < blocks; ++slice) {
      sum += *cluster_peer(&shared.row_sums[row], static_cast<uint32_t>(slice));
    }
    finish_sum<typename C::T>(p.out, place.m + row, sum);
  }
}

// The reads of a stage by this warp are over: every block that fills it learns so.
[[maybe_unused]] __device__ __forceinline__ void release_stage(Mbarrier* empty,
                                                               const WgmmaProblem& p) {
  const uint32_t lane = threadIdx.x % 32;
  if (p.multicast) {
    if (lane < p.cluster) mbarrier_arrive_at(empty, lane);
  } else if (lane == 0) {
    mbarrier_arrive(empty);
  }
}

// A tile's sums, over the block's share of K, and with kSums those of the rows of A.
template <class C, bool kAK, bool kBK, bool kSums>
__device__ __forceinline__ void multiply_tile(typename C::Shared& shared, const WgmmaProblem& p,
                                              const Range& range, Ring<C::kStages>& ring,
                                              float (&d)[C::kBN / 2], float (&row_sums)[4]) {
  constexpr int kSteps = kLine / 32, kGroupBytes = C::kGroup * kLine;
  // From one step of K to the next, in 16 bytes; with lines of K a step is 16 of them.
  constexpr uint64_t kAStep = kAK ? 2 : 16 * kLine / 16, kBStep = kBK ? 2 : 16 * kLine / 16;
  const int consumer = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  int previous = 0;
  for (int32_t block = range.begin; block < range.end; ++block) {
    mbarrier_wait(&shared.full[ring.stage], ring.parity);
    const uint64_t a = wgmma_descriptor(shared.a[ring.stage] + consumer * 64 * kLine,
                                        kAK ? 16 : kGroupBytes, kPeriod);
    const uint64_t b = wgmma_descriptor(shared.b[ring.stage], kBK ? 16 : kGroupBytes, kPeriod);
    wgmma_touch(d);
    if constexpr (kSums) wgmma_touch(row_sums);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const bool add = step > 0 || block > range.begin;
      wgmma<C::kType, C::kBN, !kAK, !kBK>(d, a + step * kAStep, b + step * kBStep, add);
      if constexpr (kSums) {
        wgmma<C::kType, 8, !kAK, false>(row_sums, a + step * kAStep,
                                        wgmma_descriptor(shared.ones, 16, 512, 64), add);
      }
    }
    wgmma_commit();
    wgmma_touch(d);
    if constexpr (kSums) wgmma_touch(row_sums);
    if (block > range.begin) {
      wgmma_wait<1>();
      release_stage(&shared.empty[previous], p);
    }
    previous = ring.stage;
    ring.advance();
  }
  wgmma_wait<0>();
  wgmma_touch(d);
  if constexpr (kSums) wgmma_touch(row_sums);
  release_stage(&shared.empty[previous], p);
}

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
