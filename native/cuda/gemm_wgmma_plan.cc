// Which tiles and clusters a product on sm_90 takes (gemm_wgmma.cu): the least of a rough estimate
// of cycles over the shapes that the kernel is compiled for.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "gemm_wgmma.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// Rough figures of an H100, per multiprocessor and cycle, of which only the ratios matter.
constexpr double kOperationsPerCycle = 32;  // products of a line of 128 bytes of K
constexpr double kBytesPerCycle = 40;       // from L2
constexpr double kStageCycles = 60;         // to hand over a stage
constexpr double kTileCycles = 1500;        // to fill the first stage and to end a tile
constexpr double kSumCycles = 1500;         // two barriers of a cluster and the sums' way
constexpr int kLeastSliceBlocks = 4;

double estimated_cycles(const GemmArgs& args, const WgmmaPlan& plan, const WgmmaRoom& room) {
  const double blocks =
      static_cast<double>(divide_up(args.k * static_cast<int64_t>(item_size(args.dtype)), kLine));
  const int64_t units =
      divide_up(args.m, plan.bm * plan.cluster) * divide_up(args.n, plan.bn) * args.batch;
  const double waves = static_cast<double>(divide_up(units, room.of(plan.cluster * plan.slices)));
  const double last = static_cast<double>(plan.bm) * plan.bn / kOperationsPerCycle;
  return waves * (blocks / plan.slices * wgmma_stage_cycles(plan) + kTileCycles + last) +
         (plan.slices > 1 ? kSumCycles : 0);
}

}  // namespace

int WgmmaRoom::of(int blocks) const { return clusters[std::bit_width(blocks - 1u)]; }

double wgmma_stage_cycles(const WgmmaPlan& plan) {
  const double area = static_cast<double>(plan.bm) * plan.bn;
  const double bytes = (plan.bm + static_cast<double>(plan.bn) / plan.cluster) * kLine;
  return std::max(area / kOperationsPerCycle, bytes / kBytesPerCycle) + kStageCycles;
}

// Tiles come in pairs where they fill the chip more than once,
// K sliced where they fill it once at most.
WgmmaPlan choose_wgmma_plan(const GemmArgs& args, const WgmmaRoom& room, bool whole) {
  constexpr WgmmaPlan kShapes[] = {
      {128, 256, 1, 1}, {128, 192, 1, 1}, {128, 128, 1, 1}, {128, 64, 1, 1}, {64, 128, 1, 1}};
  WgmmaPlan best = kShapes[0];
  double least = estimated_cycles(args, best, room);
  const auto consider = [&](const WgmmaPlan& plan) {
    const double cycles = estimated_cycles(args, plan, room);
    if (cycles >= least) return;
    least = cycles;
    best = plan;
  };
  const int64_t blocks = divide_up(args.k * static_cast<int64_t>(item_size(args.dtype)), kLine);
  for (const WgmmaPlan& shape : kShapes) {
    if (whole && shape.bm != 128) continue;
    consider(shape);
    const int64_t tiles = divide_up(args.m, shape.bm) * divide_up(args.n, shape.bn) * args.batch;
    if (shape.bm == 128) {
      if (tiles > room.of(1) && args.m > shape.bm) consider({shape.bm, shape.bn, 2, 1});
      continue;
    }
    for (int slices = 2; slices <= kLargestCluster; slices *= 2) {
      if (tiles > room.of(slices) || blocks < slices * kLeastSliceBlocks) break;
      consider({shape.bm, shape.bn, 1, slices});
    }
  }
  return best;
}

// By some 190 against 100 multiply-adds a picosecond on an H100, and one more read and write of
// what is copied.
Turning choose_turning(const GemmArgs& args) {
  constexpr double kLaunch = 3, kBytesPerMicrosecond = 2.5e6;  // each in microseconds
  constexpr double kGainPerMultiplyAdd = 1 / 1.0e8 - 1 / 1.9e8;
  const auto cost = [&](int64_t rows, int64_t batch_stride) {
    const int64_t copies = batch_stride == 0 ? 1 : args.batch;
    return kLaunch + 2.0 * sizeof(float) * double(rows * copies) * args.k / kBytesPerMicrosecond;
  };
  const auto aligned = [](const void* data, int64_t ld, int64_t batch_stride) {
    return (reinterpret_cast<uintptr_t>(data) | ld * sizeof(float) | batch_stride * sizeof(float)) %
               16 ==
           0;
  };
  const double a = args.a_col == 1 ? 0 : cost(args.m, args.a_batch);
  const double b = args.b_row == 1 ? 0 : cost(args.n, args.b_batch);
  bool a_stays = a > 0 && aligned(args.a, args.a_col, args.a_batch);
  bool b_stays = b > 0 && aligned(args.b, args.b_row, args.b_batch);
  if (a_stays && b_stays) (a < b ? a_stays : b_stays) = false;
  const Turning turning{a > 0 && !a_stays, b > 0 && !b_stays, true};
  const double all = (turning.copies_a ? a : 0) + (turning.copies_b ? b : 0);
  const double gain = double(args.m) * args.n * args.k * args.batch * kGainPerMultiplyAdd;
  return {turning.copies_a, turning.copies_b, all <= gain};
}

const WgmmaPlan* asked_wgmma_plan() {
  static const std::optional<WgmmaPlan> asked = []() -> std::optional<WgmmaPlan> {
    const char* text = std::getenv("NODEGRAD_WGMMA_PLAN");
    WgmmaPlan p{};
    if (!text || std::sscanf(text, "%d,%d,%d,%d", &p.bm, &p.bn, &p.cluster, &p.slices) != 4) {
      return std::nullopt;
    }
    const bool small = p.bm == 64 && p.bn == 128 && p.cluster == 1 && p.slices >= 1 &&
                       p.slices <= kLargestCluster && std::has_single_bit(unsigned(p.slices));
    const bool large = p.bm == 128 && p.bn >= 64 && p.bn <= 256 && p.bn % 64 == 0 &&
                       (p.cluster == 1 || p.cluster == 2) && p.slices == 1;
    if (!small && !large) return std::nullopt;
    return p;
  }();
  return asked ? &*asked : nullptr;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
