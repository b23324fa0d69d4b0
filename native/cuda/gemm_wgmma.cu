// C = A·B on sm_90a, bfloat16, float16 and TF32, in tiles by the pipeline of wgmma_pipeline.h. Two
// blocks of a cluster, one tile of rows apart, fetch half of their common tile of B each, for both.
// Small products slice K over a cluster, whose blocks add the partial sums in their order through
// distributed shared memory. Tails are zeros that the copies fill in, and are not stored. TF32
// needs operands that are contiguous along K: large products transpose others first, small ones
// are not for this kernel. Cost: 2·M·N·K operations, floor 2MNK / 989e12 s on H100 (TF32: 495e12);
// a tile of 128x256 moves 1 byte per 85 operations.
#include <algorithm>

#include "gemm_transpose.h"
#include "wgmma_pipeline.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct WgmmaProblem {
  GemmOutput out;
  int64_t m, n;
  int32_t k_blocks;  // stages of K of the whole product
  WgmmaTiles tiles;
  bool a_batched, b_batched;
  bool a_k_contiguous, b_k_contiguous;  // else M, N are; always for TF32
};

[[maybe_unused]] __device__ __forceinline__ WgmmaRange range_of(const WgmmaProblem& p,
                                                                uint32_t rank) {
  if (p.tiles.multicast) return {0, p.k_blocks};
  // Slices differ by one block at most, and none is empty.
  const uint32_t blocks = static_cast<uint32_t>(p.k_blocks), slices = p.tiles.cluster;
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
        for (int i = 0; i < C::kBM; i += kGroup) {
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

// Adds the cluster's partial sums in the order of the slices; each block does its share of the
// rows.
template <class C>
__device__ __forceinline__ void sum_slices(typename C::Shared& shared, const WgmmaProblem& p,
                                           const WgmmaPlace& place, uint32_t rank) {
  constexpr int kStoresPerRow = C::kBN / C::kPerStore;
  const int blocks = p.tiles.cluster, rows = (C::kBM + blocks - 1) / blocks;
  const int first = static_cast<int>(rank) * rows, last = min(first + rows, C::kBM);
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
#pragma unroll 1
  for (int i = thread; i < (last - first) * kStoresPerRow; i += C::kThreads - kWarpgroup) {
    const int row = first + i / kStoresPerRow, column = i % kStoresPerRow * C::kPerStore;
    if (place.m + row >= p.m || place.n + column >= p.n) continue;
    float v[C::kPerStore] = {};
    for (int slice = 0; slice < blocks; ++slice) {
      float part[C::kPerStore];
      load_columns(cluster_peer(&shared.sums[row][column], static_cast<uint32_t>(slice)), true,
                   C::kPerStore, part);
#pragma unroll
      for (int x = 0; x < C::kPerStore; ++x) v[x] += part[x];
    }
    finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + column, p.n, v);
  }
}

template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const WgmmaProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const WgmmaRange range = range_of(p, rank);
  float d[C::kBN / 2];
  for (uint32_t unit = blockIdx.x / p.tiles.cluster; unit < static_cast<uint32_t>(p.tiles.units);
       unit += gridDim.x / p.tiles.cluster) {
    if constexpr (C::kType == WgmmaType::tf32) {
      multiply_tile<C, Lines::k, Lines::k>(shared, p.tiles, range, ring, d);
    } else if (p.a_k_contiguous && p.b_k_contiguous) {
      multiply_tile<C, Lines::k, Lines::k>(shared, p.tiles, range, ring, d);
    } else if (p.a_k_contiguous) {
      multiply_tile<C, Lines::k, Lines::outer>(shared, p.tiles, range, ring, d);
    } else if (p.b_k_contiguous) {
      multiply_tile<C, Lines::outer, Lines::k>(shared, p.tiles, range, ring, d);
    } else {
      multiply_tile<C, Lines::outer, Lines::outer>(shared, p.tiles, range, ring, d);
    }

    const WgmmaPlace place = unit_place<C>(p.tiles, unit, rank);
    if constexpr (C::kSlices) {
      if (p.tiles.cluster > 1 && !p.tiles.multicast) {
        stage_columns<C>(shared, 0, d);
        break;  // one tile a cluster: the kernel goes on with sum_slices
      }
    }
    store_rows<C>(
        shared, d,
        [&](int row, int column) { return place.m + row < p.m && place.n + column < p.n; },
        [&](int row, int column, float(&v)[C::kPerStore]) {
          finish_columns<typename C::T>(p.out, place.batch, place.m + row, place.n + column, p.n,
                                        v);
        });
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    gemm_wgmma_kernel(const __grid_constant__ CUtensorMap a_map,
                      const __grid_constant__ CUtensorMap b_map, const WgmmaProblem p) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  const uint32_t rank = cluster_rank();
  run_pipeline<C>(
      shared, p.tiles, &a_map, &b_map, [&] { produce<C>(shared, &a_map, &b_map, p, rank); },
      [&] { consume<C>(shared, p, rank); });
  if constexpr (C::kSlices) {
    if (p.tiles.cluster > 1 && !p.tiles.multicast) {
      const WgmmaPlace place = unit_place<C>(p.tiles, blockIdx.x / p.tiles.cluster, rank);
      if (threadIdx.x >= kWarpgroup) sum_slices<C>(shared, p, place, rank);
      cluster_sync();
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
  p.tiles.multicast = multicast;
  p.tiles.cluster =
      static_cast<uint8_t>(multicast ? plan.cluster : std::min(plan.slices, p.k_blocks));
  p.tiles.units_m = static_cast<int32_t>(divide_up(args.m, int64_t{C::kBM} * plan.cluster));
  p.tiles.tiles_n = static_cast<int32_t>(divide_up(args.n, C::kBN));
  const int64_t units = int64_t{p.tiles.units_m} * p.tiles.tiles_n * args.batch;
  if (units * p.tiles.cluster >= int64_t{1} << 31) return false;
  p.tiles.units = static_cast<int32_t>(units);
  p.a_batched = args.batch > 1 && args.a_batch != 0;
  p.b_batched = args.batch > 1 && args.b_batch != 0;
  p.a_k_contiguous = a_k;
  p.b_k_contiguous = b_k;
  // A cluster that slices K makes one tile; others walk on.
  const bool sliced = p.tiles.cluster > 1 && !multicast;
  const int64_t clusters = sliced ? units : std::min<int64_t>(units, room.of(p.tiles.cluster));
  launch_clusters(stream, "gemm_wgmma", gemm_wgmma_kernel<C>,
                  dim3(static_cast<unsigned>(clusters * p.tiles.cluster)), dim3(C::kThreads),
                  p.tiles.cluster, sizeof(typename C::Shared), a_map, b_map, p);
  return true;
}

template <WgmmaType kType>
bool launch_shape(Stream& stream, const GemmArgs& args, const WgmmaPlan& plan,
                  const WgmmaRoom& room) {
  if (plan.bm == 64) return launch_config<WgmmaConfig<kType, 64, 128>>(stream, args, plan, room);
  switch (plan.bn) {
    case 64:
      return launch_config<WgmmaConfig<kType, 128, 64>>(stream, args, plan, room);
    case 128:
      return launch_config<WgmmaConfig<kType, 128, 128>>(stream, args, plan, room);
    case 192:
      return launch_config<WgmmaConfig<kType, 128, 192>>(stream, args, plan, room);
    default:
      return launch_config<WgmmaConfig<kType, 128, 256>>(stream, args, plan, room);
  }
}

}  // namespace

bool has_wgmma(Stream& stream) {
  return compiled_for(stream, gemm_wgmma_kernel<WgmmaConfig<WgmmaType::bfloat16, 128, 128>>, 90);
}

// Of the kernel of small tiles; the others fill a multiprocessor, too.
WgmmaRoom wgmma_room(Stream& stream) {
  using C = WgmmaConfig<WgmmaType::bfloat16, 64, 128>;
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
  const WgmmaRoom room = wgmma_room(stream);
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
