// The kernel of products by warpgroups and its launch, for the shapes of tiles of gemm_wgmma.cu and
// gemm_wgmma_tf32.cu. Blocks are persistent and walk over tiles in bands. Two blocks of a cluster,
// one tile of rows apart, fetch half of their common tile of B each, for both. Small products slice
// K over a cluster, whose blocks add the partial sums in their order through distributed shared
// memory. Tails are zeros that the copies fill in, and are not stored.
#pragma once

#include <algorithm>

#include "gemm_wgmma_tile.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// C::multiply makes a tile's sums, and where `adds_rows` those of the rows of A.
template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const WgmmaProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const WgmmaRange range = range_of(p, rank);
  float d[C::kBN / 2], row_sums[4] = {};
  for (uint32_t unit = blockIdx.x / p.tiles.cluster; unit < static_cast<uint32_t>(p.tiles.units);
       unit += gridDim.x / p.tiles.cluster) {
    const WgmmaPlace place = unit_place<C>(p.tiles, unit, rank);
    const bool adds_rows = p.out.a_sums && place.n == 0;
    C::multiply(shared, p, range, ring, d, row_sums, adds_rows);
    if constexpr (C::kSlices) {
      if (p.tiles.cluster > 1 && !p.tiles.multicast) {
        if (adds_rows) store_row_sums<C, false>(shared, p, place, row_sums);
        stage_rows<C>(shared, d);
        break;  // one tile a cluster: the kernel goes on with sum_slices
      }
    }
    if (adds_rows) store_row_sums<C, true>(shared, p, place, row_sums);
    if constexpr (C::kLeft) {
      if (p.turned) {
        store_turned<C>(shared, p, place, d);
        continue;
      }
    }
    if constexpr (sizeof(typename C::T) == 2) {
      if (p.plain) {
        store_plain_rows<C>(shared, p, place, d);
        continue;
      }
    }
    store_tile<C>(shared, p, place, d);
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    gemm_wgmma_kernel(const __grid_constant__ CUtensorMap a_map,
                      const __grid_constant__ CUtensorMap b_map, const WgmmaProblem p) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  const uint32_t rank = cluster_rank();
  if (p.out.a_sums && threadIdx.x < kWarpgroup) {
    shared.more.ones[threadIdx.x] = C::kOnes;
    fence_proxy_async();
  }
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
                   const WgmmaRoom& room, bool turned = false) {
  constexpr int kItem = static_cast<int>(sizeof(typename C::T));
  const bool multicast = plan.cluster > 1;
  const bool a_k = args.a_col == 1, b_k = args.b_row == 1;
  const OperandView a{args.a,     args.m,       args.k, a_k ? args.a_row : args.a_col,
                      args.batch, args.a_batch, a_k,    kItem};
  const OperandView b{args.b,     args.n,       args.k, b_k ? args.b_col : args.b_row,
                      args.batch, args.b_batch, b_k,    kItem};
  alignas(128) CUtensorMap a_map, b_map;
  if (!encode_operand(&a_map, a, C::kBM, C::kTileK) ||
      !encode_operand(&b_map, b, C::kBN / plan.cluster, C::kTileK / plan.cluster)) {
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
  p.turned = turned;
  const bool usual = p.out.activation == Activation::none || p.out.activation == Activation::relu;
  p.plain = kItem == 2 && usual && p.out.vector && args.n % 8 == 0 && !p.out.accumulate &&
            !p.out.residual && !p.out.before;
  // A cluster that slices K makes one tile; others walk on.
  const bool sliced = p.tiles.cluster > 1 && !multicast;
  const int64_t clusters = sliced ? units : std::min<int64_t>(units, room.of(p.tiles.cluster));
  launch_clusters(stream, "gemm_wgmma", gemm_wgmma_kernel<C>,
                  dim3(static_cast<unsigned>(clusters * p.tiles.cluster)), dim3(C::kThreads),
                  p.tiles.cluster, sizeof(typename C::Shared), a_map, b_map, p);
  return true;
}

// Tiles: the shapes of tiles, with how they are multiplied. `turned`: `args` has A and B, and M and
// N, in each other's place, all but C and what is of C's layout.
template <template <WgmmaType, int, int> class Tiles, WgmmaType kType>
bool launch_shape(Stream& stream, const GemmArgs& args, const WgmmaPlan& plan,
                  const WgmmaRoom& room, bool turned = false) {
  if (plan.bm == 64) return launch_config<Tiles<kType, 64, 128>>(stream, args, plan, room, turned);
  switch (plan.bn) {
    case 64:
      return launch_config<Tiles<kType, 128, 64>>(stream, args, plan, room, turned);
    case 128:
      return launch_config<Tiles<kType, 128, 128>>(stream, args, plan, room, turned);
    case 192:
      return launch_config<Tiles<kType, 128, 192>>(stream, args, plan, room, turned);
    default:
      return launch_config<Tiles<kType, 128, 256>>(stream, args, plan, room, turned);
  }
}

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
