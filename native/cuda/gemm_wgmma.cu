// C = A·B on sm_90a, bfloat16, float16 and TF32. One producer thread brings tiles by tensor copies
// into a ring of stages of 128 bytes of K; one or two consumer warpgroups of 64 rows each multiply
// them by wgmma. Blocks are persistent and walk over tiles in bands. Two blocks of a cluster, one
// tile of rows apart, fetch half of their common tile of B each, for both. Small products slice K
// over a cluster, whose blocks add the partial sums in their order through distributed shared
// memory. Tails are zeros that the copies fill in, and are not stored. TF32 needs operands that are
// contiguous along K: large products transpose others first, small ones are not for this kernel.
//
// A stage holds 128-byte lines under the 128-byte swizzle (wgmma.h): rows of M or N where K is
// contiguous, else for each 64 of M or N 64 lines of K. Cost: 2·M·N·K operations, floor
// 2MNK / 989e12 s on H100 (TF32: 495e12); a tile of 128x256 moves 1 byte per 85 operations.
#include <algorithm>

#include "gemm_tile.h"
#include "gemm_transpose.h"
#include "gemm_wgmma.h"
#include "tensor_copy.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kWarpgroup = 128;
constexpr int kGroup = 64;  // rows of M or N in a line, where they are contiguous
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
  bool a_k_contiguous, b_k_contiguous;  // else M, N are; always for TF32
};

template <WgmmaType kType_, int kBM_, int kBN_>
struct Config {
  static constexpr WgmmaType kType = kType_;
  using T = std::conditional_t<kType == WgmmaType::tf32, float,
                               std::conditional_t<kType == WgmmaType::float16, Float16, BFloat16>>;
  static constexpr int kBM = kBM_, kBN = kBN_;
  static constexpr int kTileK = kLine / static_cast<int>(sizeof(T));
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
        for (int i = 0; i < C::kBM; i += kGroup) {
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
          const int line = half * (kGroup / 2);
#pragma unroll
          for (int i = 0; i < C::kBN; i += kGroup) {
            load_box_multicast(b + (i + line) * kLine, b_map, place.n + i, k + line, b_batch, full,
                               3);
          }
        }
      } else if (p.b_k_contiguous) {
        load_box(b, b_map, k, place.n, b_batch, full);
      } else {
#pragma unroll
        for (int i = 0; i < C::kBN; i += kGroup) {
          load_box(b + i * kLine, b_map, place.n + i, k, b_batch, full);
        }
      }
      ring.advance();
    }
  }
}

// Moves the warp's 16 rows of sums from registers to C, or only into shared memory.
template <class C, bool kFinish>
__device__ __forceinline__ void store_rows(typename C::Shared& shared, const WgmmaProblem& p,
                                           const Place& place, const float (&d)[C::kBN / 2]) {
  constexpr int kPerStore = 16 / static_cast<int>(sizeof(typename C::T));
  constexpr int kStoresPerRow = C::kStaged / kPerStore;
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp_row = thread / 32 * 16, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int first = 0; first < C::kBN; first += C::kStaged) {
#pragma unroll
    for (int j = 0; j < C::kStaged / 8; ++j) {
      const float* from = d + (first / 8 + j) * 4;
      float* to = &shared.sums[warp_row + g][8 * j + 2 * t];
      store_vector(to, Vector<float, 2>{from[0], from[1]});
      store_vector(to + 8 * (C::kStaged + 8), Vector<float, 2>{from[2], from[3]});
    }
    if constexpr (!kFinish) continue;
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * kStoresPerRow; i += 32) {
      const int row = warp_row + i / kStoresPerRow, column = i % kStoresPerRow * kPerStore;
      if (place.m + row >= p.m || place.n + first + column >= p.n) continue;
      float v[kPerStore];
#pragma unroll
      for (int j = 0; j < kPerStore; j += 4) {
        const auto four = load_vector<4>(&shared.sums[row][column + j]);
#pragma unroll
        for (int x = 0; x < 4; ++x) v[j + x] = four[x];
      }
      finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + first + column,
                                    p.n, v);
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

// Adds the cluster's partial sums in the order of the slices; each block does its share of the
// rows.
template <class C>
__device__ __forceinline__ void sum_slices(typename C::Shared& shared, const WgmmaProblem& p,
                                           const Place& place, uint32_t rank) {
  constexpr int kPerStore = 16 / static_cast<int>(sizeof(typename C::T));
  constexpr int kStoresPerRow = C::kBN / kPerStore;
  const int blocks = p.cluster, rows = (C::kBM + blocks - 1) / blocks;
  const int first = static_cast<int>(rank) * rows, last = min(first + rows, C::kBM);
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
#pragma unroll 1
  for (int i = thread; i < (last - first) * kStoresPerRow; i += C::kThreads - kWarpgroup) {
    const int row = first + i / kStoresPerRow, column = i % kStoresPerRow * kPerStore;
    if (place.m + row >= p.m || place.n + column >= p.n) continue;
    float v[kPerStore] = {};
    for (int slice = 0; slice < blocks; ++slice) {
      const float* from = cluster_peer(&shared.sums[row][column], static_cast<uint32_t>(slice));
#pragma unroll
      for (int j = 0; j < kPerStore; j += 4) {
        const auto four = load_vector<4>(from + j);
#pragma unroll
        for (int x = 0; x < 4; ++x) v[j + x] += four[x];
      }
    }
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
  constexpr int kSteps = kLine / 32;
  // From one step of K to the next, in 16 bytes; with lines of K a step is 16 of them.
  constexpr uint64_t kAStep = kAK ? 2 : 16 * kLine / 16, kBStep = kBK ? 2 : 16 * kLine / 16;
  const int consumer = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  int previous = 0;
  for (int32_t block = range.begin; block < range.end; ++block) {
    mbarrier_wait(&shared.full[ring.stage], ring.parity);
    const uint64_t a = wgmma_descriptor(shared.a[ring.stage] + consumer * 64 * kLine,
                                        kAK ? 16 : kGroup * kLine, kPeriod);
    const uint64_t b = wgmma_descriptor(shared.b[ring.stage], kBK ? 16 : kGroup * kLine, kPeriod);
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

template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const WgmmaProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const Range range = range_of(p, rank);
  float d[C::kBN / 2], row_sums[4] = {};
  for (uint32_t unit = blockIdx.x / p.cluster; unit < static_cast<uint32_t>(p.units);
       unit += gridDim.x / p.cluster) {
    const Place place = unit_place<C>(p, unit, rank);
    // Asked for with weights' gradients alone, whose operands both run along M and N.
    const bool adds_rows = p.out.a_sums && place.n == 0;
    if constexpr (C::kType == WgmmaType::tf32) {
      multiply_tile<C, true, true, false>(shared, p, range, ring, d, row_sums);
    } else if (p.a_k_contiguous && p.b_k_contiguous) {
      multiply_tile<C, true, true, false>(shared, p, range, ring, d, row_sums);
    } else if (p.a_k_contiguous) {
      multiply_tile<C, true, false, false>(shared, p, range, ring, d, row_sums);
    } else if (p.b_k_contiguous) {
      multiply_tile<C, false, true, false>(shared, p, range, ring, d, row_sums);
    } else if (adds_rows) {
      multiply_tile<C, false, false, true>(shared, p, range, ring, d, row_sums);
    } else {
      multiply_tile<C, false, false, false>(shared, p, range, ring, d, row_sums);
    }

    if constexpr (C::kSlices) {
      if (p.cluster > 1 && !p.multicast) {
        if (adds_rows) store_row_sums<C, false>(shared, p, place, row_sums);
        store_rows<C, false>(shared, p, place, d);
        break;  // one tile a cluster: the kernel goes on with sum_slices
      }
    }
    if (adds_rows) store_row_sums<C, true>(shared, p, place, row_sums);
    store_rows<C, true>(shared, p, place, d);
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    gemm_wgmma_kernel(const __grid_constant__ CUtensorMap a_map,
                      const __grid_constant__ CUtensorMap b_map, const WgmmaProblem p) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  const uint32_t rank = cluster_rank();
  if (threadIdx.x == 0) {
    for (int i = 0; i < C::kStages; ++i) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], C::kConsumers * 4 * (p.multicast ? p.cluster : 1));
    }
    fence_mbarrier_init();
    prefetch_tensor_map(&a_map);
    prefetch_tensor_map(&b_map);
  }
  if (p.out.a_sums && threadIdx.x < kWarpgroup) {
    shared.ones[threadIdx.x] = C::kOnes;
    fence_proxy_async();
  }
  if (p.cluster > 1) {
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
      if (elect_one()) produce<C>(shared, &a_map, &b_map, p, rank);
      __syncwarp();
    }
  } else {
    if constexpr (C::kConsumers == 2) raise_registers<224>();
    consume<C>(shared, p, rank);
  }
  if (p.cluster > 1) {
    cluster_sync();
    if constexpr (C::kSlices) {
      if (!p.multicast) {
        const Place place = unit_place<C>(p, blockIdx.x / p.cluster, rank);
        if (warp >= kWarpgroup / 32) sum_slices<C>(shared, p, place, rank);
        cluster_sync();
      }
    }
  }
#else
  __trap();  // has_wgmma keeps launches away
#endif
}

// An operand as a tensor for its copies: lines along K, or along M or N.
struct OperandView {
  const void* data;
  int64_t rows, k;  // rows: of M or N
  int64_t ld, batch, batch_stride;
  bool k_contiguous;
  int item;
};

bool encode_operand(CUtensorMap* map, const OperandView& x, int box_rows, int box_lines) {
  const int64_t limit = int64_t{1} << 31;
  const bool batched = x.batch > 1 && x.batch_stride != 0;
  const int64_t inner = x.k_contiguous ? x.k : x.rows, outer = x.k_contiguous ? x.rows : x.k;
  const int64_t line = x.ld * x.item, step = x.batch_stride * x.item;
  // A dimension of one element has no stride of its own.
  const int64_t outer_stride = outer > 1 ? line : divide_up(inner * x.item, 16) * 16;
  const int64_t batch_stride = batched ? step : outer_stride;
  const auto usable = [](int64_t bytes) {
    return bytes > 0 && bytes % 16 == 0 && bytes < int64_t{1} << 40;
  };
  if (reinterpret_cast<uintptr_t>(x.data) % 16 != 0 || !usable(outer_stride) ||
      !usable(batch_stride) || inner >= limit || outer >= limit || x.batch >= limit) {
    return false;
  }
  TensorBox box{};
  box.data = x.data;
  box.item = static_cast<uint8_t>(x.item);
  box.to_tf32 = x.item == 4;
  box.sizes[0] = static_cast<uint64_t>(inner);
  box.sizes[1] = static_cast<uint64_t>(outer);
  box.sizes[2] = static_cast<uint64_t>(batched ? x.batch : 1);
  box.strides[0] = static_cast<uint64_t>(outer_stride);
  box.strides[1] = static_cast<uint64_t>(batch_stride);
  box.box[0] = static_cast<uint32_t>(kLine / x.item);
  box.box[1] = static_cast<uint32_t>(x.k_contiguous ? box_rows : box_lines);
  box.box[2] = 1;
  return encode_tensor_map(map, box);
}

template <class C>
bool launch_config(Stream& stream, const GemmArgs& args, const WgmmaPlan& plan,
                   const WgmmaRoom& room) {
  constexpr int kItem = static_cast<int>(sizeof(typename C::T));
  const bool multicast = plan.cluster > 1;
  const bool a_k = args.a_col == 1, b_k = args.b_row == 1;
  const OperandView a{args.a,     args.m,       args.k, a_k ? args.a_row : args.a_col,
                      args.batch, args.a_batch, a_k,    kItem};
  const OperandView b{args.b,     args.n,       args.k, b_k ? args.b_col : args.b_row,
                      args.batch, args.b_batch, b_k,    kItem};
  alignas(128) CUtensorMap a_map, b_map;
  if (!encode_operand(&a_map, a, C::kBM, kGroup) ||
      !encode_operand(&b_map, b, C::kBN / plan.cluster, kGroup / plan.cluster)) {
    return false;
  }
  WgmmaProblem p{};
  p.out = make_output(args);
  p.m = args.m;
  p.n = args.n;
  p.k_blocks = static_cast<int32_t>(divide_up(args.k, C::kTileK));
  p.multicast = multicast;
  p.cluster = static_cast<uint8_t>(multicast ? plan.cluster : std::min(plan.slices, p.k_blocks));
  p.units_m = static_cast<int32_t>(divide_up(args.m, int64_t{C::kBM} * plan.cluster));
  p.tiles_n = static_cast<int32_t>(divide_up(args.n, C::kBN));
  const int64_t units = int64_t{p.units_m} * p.tiles_n * args.batch;
  if (units * p.cluster >= int64_t{1} << 31) return false;
  p.units = static_cast<int32_t>(units);
  p.a_batched = args.batch > 1 && args.a_batch != 0;
  p.b_batched = args.batch > 1 && args.b_batch != 0;
  p.a_k_contiguous = a_k;
  p.b_k_contiguous = b_k;
  // A cluster that slices K makes one tile; others walk on.
  const bool sliced = p.cluster > 1 && !multicast;
  const int64_t clusters = sliced ? units : std::min<int64_t>(units, room.of(p.cluster));
  launch_clusters(stream, "gemm_wgmma", gemm_wgmma_kernel<C>,
                  dim3(static_cast<unsigned>(clusters * p.cluster)), dim3(C::kThreads), p.cluster,
                  sizeof(typename C::Shared), a_map, b_map, p);
  return true;
}

template <WgmmaType kType>
bool launch_shape(Stream& stream, const GemmArgs& args, const WgmmaPlan& plan,
                  const WgmmaRoom& room) {
  if (plan.bm == 64) return launch_config<Config<kType, 64, 128>>(stream, args, plan, room);
  switch (plan.bn) {
    case 64:
      return launch_config<Config<kType, 128, 64>>(stream, args, plan, room);
    case 128:
      return launch_config<Config<kType, 128, 128>>(stream, args, plan, room);
    case 192:
      return launch_config<Config<kType, 128, 192>>(stream, args, plan, room);
    default:
      return launch_config<Config<kType, 128, 256>>(stream, args, plan, room);
  }
}

}  // namespace

bool has_wgmma(Stream& stream) {
  return compiled_for(stream, gemm_wgmma_kernel<Config<WgmmaType::bfloat16, 128, 128>>, 90);
}

// Of the kernel of small tiles; the others fill a multiprocessor, too.
static WgmmaRoom room_on(Stream& stream) {
  using C = Config<WgmmaType::bfloat16, 64, 128>;
  const auto clusters = [&](unsigned blocks) {
    return resident_clusters(stream, gemm_wgmma_kernel<C>, blocks, C::kThreads,
                             sizeof(typename C::Shared));
  };
  return {{multiprocessors(stream), clusters(2), clusters(4), clusters(8)}};
}

static bool launch_float32(Stream& stream, const GemmArgs& args, const WgmmaPlan& plan,
                           const WgmmaRoom& room) {
  const bool a_turns = args.a_col != 1, b_turns = args.b_row != 1;
  const int64_t ld = divide_up(args.k, 4) * 4;
  GemmArgs turned = args;
  bool possible = true;
  const auto turn = [&](int64_t rows, const void*& data, int64_t from_ld, int64_t& batch_stride) {
    const int64_t copies = batch_stride == 0 ? 1 : args.batch;
    void* to = acquire_scratch(stream, sizeof(float) * static_cast<size_t>(copies * rows * ld));
    possible =
        launch_gemm_transpose(stream, {static_cast<const float*>(data), static_cast<float*>(to),
                                       rows, args.k, copies, from_ld, batch_stride, ld, rows * ld});
    data = to;
    batch_stride = batch_stride == 0 ? 0 : rows * ld;
    return to;
  };
  void *a = nullptr, *b = nullptr;
  if (a_turns) {
    a = turn(args.m, turned.a, args.a_col, turned.a_batch);
    turned.a_row = ld;
    turned.a_col = 1;
  }
  if (b_turns && possible) {
    b = turn(args.n, turned.b, args.b_row, turned.b_batch);
    turned.b_row = 1;
    turned.b_col = ld;
  }
  possible = possible && launch_shape<WgmmaType::tf32>(stream, turned, plan, room);
  if (a) release_scratch(stream, a);
  if (b) release_scratch(stream, b);
  return possible;
}

bool launch_gemm_wgmma(Stream& stream, const GemmArgs& args, const WgmmaPlan* plan) {
  // For medium, too: TF32 is more exact than bfloat16, and quicker than rounding to it here.
  const bool tf32 = args.dtype == DType::float32 && args.precision != Precision::highest;
  const bool half = args.dtype == DType::bfloat16 || args.dtype == DType::float16;
  if ((!tf32 && !half) || args.k == 0 || compute_capability(stream) != 90 || !has_wgmma(stream)) {
    return false;
  }
  const WgmmaRoom room = room_on(stream);
  if (!plan) plan = asked_wgmma_plan();
  const WgmmaPlan chosen = plan ? *plan : choose_wgmma_plan(args, room);
  if (tf32) {
    // What was asked for is done, for tests of small sizes.
    if (!plan && !worth_turning(args)) return false;
    return launch_float32(stream, args, chosen, room);
  }
  return args.dtype == DType::bfloat16
             ? launch_shape<WgmmaType::bfloat16>(stream, args, chosen, room)
             : launch_shape<WgmmaType::float16>(stream, args, chosen, room);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
