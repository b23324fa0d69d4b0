// What kernels share that bring tiles by tensor copies into a ring of stages of 128 bytes of K and
// multiply them by warpgroups (gemm_wgmma_kernel.h, conv_wgmma.cu): one producer thread, one or two
// consumer warpgroups of 64 rows each, persistent blocks that walk over tiles in bands, sums that
// reach memory by way of shared memory. Stages lie under the swizzle of their lines (wgmma.h).
#pragma once

#include "gemm_tile.h"
#include "gemm_wgmma.h"
#include "tensor_copy.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kWarpgroup = 128;
constexpr int kGroup = 64;  // rows of M or N in a line, where they are contiguous
constexpr int kPeriod = 8 * kLine;
constexpr int kMostShared = 227 * 1024;  // bytes of a block

// How an operand lies in a stage, which has 128 bytes of K of each row (of M or N):
//   k            lines of 128 bytes of K, a row each
//   k_halves     the same in lines of 64 bytes, the second halves behind all the first
//   outer        for each 64 rows 64 lines, a place of K each; 16-bit types alone
//   outer_short  the same for each 32 rows
enum class Lines { k, k_halves, outer, outer_short };

template <Lines kLines, int kRows>
struct StageOperand {
  static constexpr bool kOuter = kLines == Lines::outer || kLines == Lines::outer_short;
  static constexpr int kBytes =
      kLines == Lines::k_halves || kLines == Lines::outer_short ? kLine / 2 : kLine;

  // Of the rows from row0 on, a multiple of 64.
  __device__ static uint64_t descriptor(const unsigned char* tile, int row0) {
    return wgmma_descriptor(tile + row0 * (kOuter ? kLine : kBytes), kOuter ? 64 * kBytes : 16,
                            8 * kBytes, kBytes);
  }
  // From it to that of the stage's step i of 32 bytes of K.
  __device__ static constexpr uint64_t step(int i) {
    const int per_line = kBytes / 32;
    return static_cast<uint64_t>(kOuter ? i * 16 * kBytes / 16
                                        : (i / per_line * kRows * kBytes + i % per_line * 32) / 16);
  }
};

// How C is cut.
struct WgmmaTiles {
  int32_t units;             // tiles, or pairs of them that a cluster makes together
  int32_t units_m, tiles_n;  // of one batch
  uint8_t cluster;           // blocks
  bool multicast;            // the cluster shares tiles of B; else slices of K, where cluster > 1
};

struct NothingMore {};

// More: what else a kernel keeps in shared memory.
template <WgmmaType kType_, int kBM_, int kBN_, class More = NothingMore>
struct WgmmaConfig {
  static constexpr WgmmaType kType = kType_;
  using T = std::conditional_t<kType == WgmmaType::tf32, float,
                               std::conditional_t<kType == WgmmaType::float16, Float16, BFloat16>>;
  static constexpr int kBM = kBM_, kBN = kBN_;
  static constexpr int kTileK = kLine / static_cast<int>(sizeof(T));
  static constexpr int kConsumers = kBM / 64;
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr bool kSlices = kBM == 64;
  static constexpr int kStaged = kSlices ? kBN : 32;  // columns of C on their way out
  static constexpr int kPerStore = 16 / static_cast<int>(sizeof(T));
  static constexpr int kStageBytes = (kBM + kBN) * kLine;
  static constexpr int kFitting = (kMostShared - kBM * (kStaged + 8) * 4 - kPeriod) / kStageBytes;
  static constexpr int kStages = kFitting < 8 ? kFitting : 8;

  struct alignas(1024) Shared {
    unsigned char a[kStages][kBM * kLine];
    unsigned char b[kStages][kBN * kLine];
    float sums[kBM][kStaged + 8];  // 16 rows for each warp; 8 keep reads off each other's banks
    More more;
    Mbarrier full[kStages], empty[kStages];
  };
  static_assert(sizeof(Shared) <= kMostShared);

  // Of a warp's 16 rows: the place in staging memory of its fragment's row g, how far behind it
  // that of row g + 8 is, and the tile's row at a place.
  static constexpr int kBetween = 8;
  __device__ static int staged_row(int g) { return g; }
  __device__ static int tile_row(int warp, int staged) { return warp * 16 + staged; }
};

struct WgmmaPlace {
  int32_t batch, m, n;  // m, n: the tile's first row and column
};

template <class C>
__device__ __forceinline__ WgmmaPlace unit_place(const WgmmaTiles& t, uint32_t unit,
                                                 uint32_t rank) {
  const uint32_t tiles = static_cast<uint32_t>(t.units_m) * t.tiles_n;
  const uint32_t tile = unit % tiles, per_band = static_cast<uint32_t>(kBandOfTiles) * t.tiles_n;
  const uint32_t first = tile / per_band * kBandOfTiles, in_band = tile % per_band;
  const uint32_t rows = min(static_cast<uint32_t>(t.units_m) - first, uint32_t{kBandOfTiles});
  const uint32_t row = first + in_band % rows;
  WgmmaPlace place;
  place.batch = static_cast<int32_t>(unit / tiles);
  place.m = static_cast<int32_t>(t.multicast ? row * t.cluster + rank : row) * C::kBM;
  place.n = static_cast<int32_t>(in_band / rows) * C::kBN;
  return place;
}

// The blocks of K that a block multiplies.
struct WgmmaRange {
  int32_t begin, end;
};

// Of `blocks` in `slices`, which differ by one block at most; none is empty.
[[maybe_unused]] __device__ __forceinline__ WgmmaRange slice_of(uint32_t blocks, uint32_t slices,
                                                                uint32_t slice) {
  const uint32_t whole = blocks / slices, longer = blocks % slices;
  const uint32_t begin = slice * whole + min(slice, longer);
  return {static_cast<int32_t>(begin),
          static_cast<int32_t>(begin + whole + (slice < longer ? 1 : 0))};
}

// The reads of a stage by this warp are over: every block that fills it learns so.
[[maybe_unused]] __device__ __forceinline__ void release_stage(Mbarrier* empty,
                                                               const WgmmaTiles& t) {
  const uint32_t lane = threadIdx.x % 32;
  if (t.multicast) {
    if (lane < t.cluster) mbarrier_arrive_at(empty, lane);
  } else if (lane == 0) {
    mbarrier_arrive(empty);
  }
}

// What a kernel multiplies beside a tile's product: nothing. `a` describes a step's rows of A.
struct NothingBeside {
  __device__ __forceinline__ void touch() {}
  __device__ __forceinline__ void multiply(uint64_t /*a*/, bool /*add*/) {}
};

// A tile's sums, over the block's share of K.
template <class C, Lines kALines, Lines kBLines, class Beside = NothingBeside>
__device__ __forceinline__ void multiply_tile(typename C::Shared& shared, const WgmmaTiles& t,
                                              const WgmmaRange& range, Ring<C::kStages>& ring,
                                              float (&d)[C::kBN / 2], Beside beside = {}) {
  using A = StageOperand<kALines, C::kBM>;
  using B = StageOperand<kBLines, C::kBN>;
  const int consumer = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  int previous = 0;
  for (int32_t block = range.begin; block < range.end; ++block) {
    mbarrier_wait(&shared.full[ring.stage], ring.parity);
    const uint64_t a = A::descriptor(shared.a[ring.stage], consumer * 64);
    const uint64_t b = B::descriptor(shared.b[ring.stage], 0);
    wgmma_touch(d);
    beside.touch();
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kLine / 32; ++step) {
      const bool add = step > 0 || block > range.begin;
      wgmma<C::kType, C::kBN, A::kOuter, B::kOuter>(d, a + A::step(step), b + B::step(step), add);
      beside.multiply(a + A::step(step), add);
    }
    wgmma_commit();
    wgmma_touch(d);
    beside.touch();
    if (block > range.begin) {
      wgmma_wait<1>();
      release_stage(&shared.empty[previous], t);
    }
    previous = ring.stage;
    ring.advance();
  }
  wgmma_wait<0>();
  wgmma_touch(d);
  beside.touch();
  release_stage(&shared.empty[previous], t);
}

// Moves kStaged columns of the thread's two rows of sums from registers into shared memory, of
// which the first row is at `row`.
template <class C>
__device__ __forceinline__ void stage_columns(float* row, int first, const float (&d)[C::kBN / 2]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < C::kStaged / 8; ++j) {
    const float* from = d + (first / 8 + j) * 4;
    float* to = row + 8 * j + 2 * t;
    store_vector(to, Vector<float, 2>{from[0], from[1]});
    store_vector(to + C::kBetween * (C::kStaged + 8), Vector<float, 2>{from[2], from[3]});
  }
}

// All columns, each row at its place in the tile: for the blocks of a cluster to add up.
template <class C>
__device__ __forceinline__ void stage_rows(typename C::Shared& shared,
                                           const float (&d)[C::kBN / 2]) {
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int row = C::tile_row(thread / 32, C::staged_row(lane / 4));
  stage_columns<C>(shared.sums[row], 0, d);
}

// Gives the warp's 16 rows of sums to finish(row, column, sums), kPerStore columns at a time;
// rows and columns are those of the tile, of which `exists` says whether they are in C.
template <class C, class E, class F>
__device__ __forceinline__ void store_rows(typename C::Shared& shared, const float (&d)[C::kBN / 2],
                                           const E& exists, const F& finish) {
  constexpr int kStoresPerRow = C::kStaged / C::kPerStore;
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32;
#pragma unroll
  for (int first = 0; first < C::kBN; first += C::kStaged) {
    stage_columns<C>(shared.sums[warp * 16 + C::staged_row(lane / 4)], first, d);
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * kStoresPerRow; i += 32) {
      const int staged = i / kStoresPerRow, column = i % kStoresPerRow * C::kPerStore;
      const int row = C::tile_row(warp, staged);
      if (!exists(row, first + column)) continue;
      float v[C::kPerStore];
      load_columns(&shared.sums[warp * 16 + staged][column], true, C::kPerStore, v);
      finish(row, first + column, v);
    }
    __syncwarp();
  }
}

// The block's roles: `produce` runs on one thread, `consume` on the consumers' warpgroups. Ends
// once every block of the cluster is done with its peers' shared memory.
template <class C, class P, class Q>
__device__ __forceinline__ void run_pipeline(typename C::Shared& shared, const WgmmaTiles& t,
                                             const CUtensorMap* a_map, const CUtensorMap* b_map,
                                             const P& produce, const Q& consume) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < C::kStages; ++i) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], C::kConsumers * 4 * (t.multicast ? t.cluster : 1));
    }
    fence_mbarrier_init();
    prefetch_tensor_map(a_map);
    prefetch_tensor_map(b_map);
  }
  if (t.cluster > 1) {
    cluster_sync();
  } else {
    __syncthreads();
  }
  // Shuffled, so that the compiler knows it to be the same in the whole warp.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < kWarpgroup / 32) {
    // Only blocks of two consumers are short of registers.
    if constexpr (C::kConsumers == 2) lower_registers<56>();
    if (warp == 0) {
      if (elect_one()) produce();
      __syncwarp();
    }
  } else {
    if constexpr (C::kConsumers == 2) raise_registers<224>();
    consume();
  }
  if (t.cluster > 1) cluster_sync();
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
