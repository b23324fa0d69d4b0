// C = A·B on sm_90a in bfloat16 and float16, with every transposition: wgmma reads both operands
// from shared memory as they lie (wgmma_pipeline.h, gemm_wgmma_tile.h). A weight's gradient adds
// up the rows of A by one more, narrow product with ones.
//
// Cost: 2·M·N·K operations, floor 2MNK / 989e12 s on H100; a tile of 128x256 moves 1 byte per 85
// operations.
#include "gemm_wgmma_kernel.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <WgmmaType kType, int kBM, int kBN>
struct Tiles : Config<kType, kBM, kBN> {
  using Base = Config<kType, kBM, kBN>;

  static __device__ __forceinline__ void multiply(typename Base::Shared& shared,
                                                  const WgmmaProblem& p, const WgmmaRange& range,
                                                  Ring<Base::kStages>& ring, float (&d)[kBN / 2],
                                                  float (&row_sums)[4], bool adds_rows) {
    if (p.a_k_contiguous && p.b_k_contiguous) {
      multiply_tile<Base, Lines::k, Lines::k>(shared, p.tiles, range, ring, d);
    } else if (p.a_k_contiguous) {
      multiply_tile<Base, Lines::k, Lines::outer>(shared, p.tiles, range, ring, d);
    } else if (p.b_k_contiguous) {
      multiply_tile<Base, Lines::outer, Lines::k>(shared, p.tiles, range, ring, d);
    } else if (adds_rows) {
      multiply_tile<Base, Lines::outer, Lines::outer>(shared, p.tiles, range, ring, d,
                                                      AddRows<Base>{shared, row_sums});
    } else {
      multiply_tile<Base, Lines::outer, Lines::outer>(shared, p.tiles, range, ring, d);
    }
  }
};

}  // namespace

bool has_wgmma(Stream& stream) {
  return compiled_for(stream, gemm_wgmma_kernel<Tiles<WgmmaType::bfloat16, 128, 128>>, 90);
}

// Of the kernel of small tiles; the others fill a multiprocessor, too.
WgmmaRoom wgmma_room(Stream& stream) {
  using C = Tiles<WgmmaType::bfloat16, 64, 128>;
  const auto clusters = [&](unsigned blocks) {
    return resident_clusters(stream, gemm_wgmma_kernel<C>, blocks, C::kThreads,
                             sizeof(typename C::Shared));
  };
  return {{multiprocessors(stream), clusters(2), clusters(4), clusters(8)}};
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
  if (tf32) return launch_gemm_wgmma_tf32(stream, args, plan, room);
  const WgmmaPlan chosen = plan ? *plan : choose_wgmma_plan(args, room);
  return args.dtype == DType::bfloat16
             ? launch_shape<Tiles, WgmmaType::bfloat16>(stream, args, chosen, room)
             : launch_shape<Tiles, WgmmaType::float16>(stream, args, chosen, room);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
