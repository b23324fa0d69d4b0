// Products on sm_90 by warpgroups (gemm_wgmma.cu), for gemm.cu and tests.
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct WgmmaPlan {
  int bm, bn;   // rows and columns of a tile: one of the shapes of gemm_wgmma.cu
  int cluster;  // blocks that share a tile of B by multicast: 1 or 2
  int slices;   // of K, summed within a cluster: 1, or 2, 4, 8 with bm = 64 and cluster = 1
};

// What is resident at once, a block taking a multiprocessor: clusters of 1, 2, 4 and 8 blocks.
struct WgmmaRoom {
  int clusters[4];
  int of(int blocks) const;  // clusters of so many blocks
};

WgmmaRoom wgmma_room(Stream& stream);

// Bytes of K that a stage holds of each row and column.
constexpr int kLine = 128;

// What a stage of a tile takes, roughly: its products, or the way of its operands from L2.
double wgmma_stage_cycles(const WgmmaPlan& plan);

// The quickest of all shapes by an estimate, or of those of 128 rows, which do not slice K.
WgmmaPlan choose_wgmma_plan(const GemmArgs& args, const WgmmaRoom& room, bool whole = false);

// The plan of NODEGRAD_WGMMA_PLAN, "rows,columns,cluster,slices", null where there is none or it is
// none of the kernel's. Read once.
const WgmmaPlan* asked_wgmma_plan();

// Which float32 operands are copied with their lines along K, and whether wgmma gains more over
// mma.sync than that costs: one operand along M or N is taken as it lies, where it is aligned.
struct Turning {
  bool copies_a, copies_b, pays;
};
Turning choose_turning(const GemmArgs& args);

// Enqueues the product and returns true, or false where it is not one for this kernel: another
// chip, dtype or precision, float32 operands that do not pay to be turned, addresses or strides
// that are no multiples of 16 bytes. `plan` null: NODEGRAD_WGMMA_PLAN's (CONTRIBUTING.md), else
// chosen.
bool launch_gemm_wgmma(Stream& stream, const GemmArgs& args, const WgmmaPlan* plan = nullptr);

// Its part for TF32 (gemm_wgmma_tf32.cu).
bool launch_gemm_wgmma_tf32(Stream& stream, const GemmArgs& args, const WgmmaPlan* plan,
                            const WgmmaRoom& room);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
