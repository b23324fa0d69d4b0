// How a layer is cut for the persistent kernels. Rows of the batch (of each direction apart) form
// groups; the blocks of a group own a slice of the hidden units each, with all their gates, and
// keep these weights in shared memory from the first step to the last. Groups beyond what is
// resident at once go into further launches.
#pragma once

#include "cluster.h"
#include "cooperative.h"
#include "core/backend.h"
#include "rnn_cell.h"
#include "rnn_cluster_product.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct RnnPlan {
  int log_units, columns;   // of a block: hidden units (8 to 64) and rows of the batch (8, 16, 32)
  int slices;               // blocks of a group
  int row_groups, groups;   // of a direction, of all
  int most_groups;          // of one launch
  int gates, words_hidden;  // gates of the cell; units rounded up to 8
  ProductShape product;
  int sums_stride;                                 // forward: from row to row of the sums
  int splits, sources;                             // backward: readers of a sum, slices of each
  int b_offset, sums_offset, bias_offset, shared;  // bytes of shared memory
  int64_t group_words;                             // of exchanged words, for one round
  int first_group;                                 // of this launch
  uint32_t first_round;                            // rounds of earlier launches
  uint64_t* words;                                 // [2][groups of the launch][group_words]
};

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Shapes and shared memory of blocks of `units` by `columns`.
template <class Product>
RnnPlan make_rnn_plan(const RnnArgs& a, bool backward, int log_units, int columns,
                      int64_t resident) {
  constexpr int64_t kItem = sizeof(typename Product::Shared);
  RnnPlan p{};
  const int64_t units = int64_t{1} << log_units;
  p.log_units = log_units;
  p.columns = columns;
  p.gates = rnn_gates(a.mode);
  p.slices = static_cast<int>((a.hidden + units - 1) / units);
  p.row_groups = static_cast<int>((a.batch + columns - 1) / columns);
  p.groups = static_cast<int>(p.row_groups * a.directions);
  p.most_groups = static_cast<int>(std::min<int64_t>(p.groups, resident / p.slices));
  p.words_hidden = static_cast<int>(round_up(a.hidden, 8));
  const int64_t own = p.gates * units, all = p.slices * units;
  p.product.rows = static_cast<int>(backward ? all : own);
  p.product.depth = static_cast<int>(round_up(backward ? own : p.words_hidden, Product::kDepth));
  p.product.stride = Product::stride(p.product.depth);
  const int tile = Product::tile_rows(p.product.rows);
  const int tiles = (p.product.rows + tile - 1) / tile;
  const int steps_of_k = p.product.depth / Product::kDepth;
  p.product.parts = backward ? 1 : std::max(1, std::min(kRnnWarps / tiles, steps_of_k));
  int64_t at = round_up(p.product.rows, 16) * p.product.stride * kItem;
  p.b_offset = static_cast<int>(at);
  at = round_up(at + columns * p.product.stride * kItem, 16);
  p.sums_offset = static_cast<int>(at);
  if (backward) {
    const int64_t pairs = units * columns / 2;
    p.splits =
        static_cast<int>(std::min<int64_t>(std::max<int64_t>(1, kRnnThreads / pairs), p.slices));
    p.sources = (p.slices + p.splits - 1) / p.splits;
    at += p.splits * units * columns * 4;
    p.group_words = p.slices * p.slices * units * columns;
  } else {
    p.sums_stride = static_cast<int>(round_up(own, 16) + 4);
    at += p.product.parts * columns * p.sums_stride * 4;
    p.bias_offset = static_cast<int>(at);
    at += own * 4;
    p.group_words = columns * p.words_hidden / (4 / kItem);
  }
  p.shared = static_cast<int>(std::min<int64_t>(at, INT32_MAX));
  return p;
}

// Of a multiprocessor, a cycle.
template <class Product>
constexpr double kMultiplyAdds = Product::kDepth == 4                    ? 100
                                 : sizeof(typename Product::Shared) == 4 ? 600
                                                                         : 1200;

// Cycles of a step, roughly: the way of a word through L2, what arrives there, and the product,
// bound by shared memory or by the multipliers; only ratios matter.
template <class Product>
double rnn_step_cycles(const RnnPlan& p, bool backward) {
  constexpr double kExchange = 1200, kBytesPerCycle = 32, kSharedBytesPerCycle = 128;
  const double a_bytes =
      double(p.product.rows) * p.product.depth * sizeof(typename Product::Shared);
  const double work = double(p.product.rows) * p.product.depth * p.columns;
  const double received = 8.0 * p.group_words / (backward ? p.slices / 2.0 : 1.0);
  const double product = std::max(a_bytes / kSharedBytesPerCycle, work / kMultiplyAdds<Product>);
  const double rounds = (p.groups + p.most_groups - 1) / p.most_groups;
  return rounds * (kExchange + product + received / kBytesPerCycle);
}

// The quickest by that estimate; false where nothing fits.
template <class Product>
bool choose_rnn_plan(Stream& stream, const RnnArgs& a, bool backward, RnnPlan& best) {
  const int64_t resident = resident_blocks(stream), limit = shared_memory_limit(stream);
  if (a.hidden > 1 << 16 || a.batch > 1 << 20) return false;
  double least = 0;
  for (int columns = 8; columns <= 32; columns *= 2) {
    if (columns > 8 && columns / 2 >= a.batch) continue;
    for (int log_units = 3; log_units <= 6; ++log_units) {
      if (log_units > 3 && (1 << (log_units - 1)) >= a.hidden) continue;
      if (columns << log_units > 4 * kRnnThreads) continue;
      if (((a.hidden - 1) >> log_units) + 1 > resident) continue;
      const RnnPlan p = make_rnn_plan<Product>(a, backward, log_units, columns, resident);
      if (p.shared > limit) continue;
      const double cycles = rnn_step_cycles<Product>(p, backward);
      if (least > 0 && cycles >= least) continue;
      least = cycles;
      best = p;
    }
  }
  return least > 0;
}

// The same for clusters (rnn_cluster.cu): one of `blocks` blocks, with 32 units each, takes
// `row_groups` groups of 8 rows of a direction from the first step to the last.
struct RnnClusterPlan {
  int blocks, row_groups;
  int clusters;  // of a direction
  int gates;     // of the cell
  int shared;    // bytes
};

// A block's slice of weights on its way to registers, in kernels for clusters of at most kBlocks;
// elements from row to row, and bytes, which are more than the steps need.
template <class Product, int kBlocks>
constexpr int kRnnStageStride = Product::stride(kBlocks * kClusterUnits);
template <class Product, int kBlocks>
constexpr int kRnnStageBytes = kShareDepth * kRnnStageStride<Product, kBlocks> *
                               static_cast<int>(sizeof(typename Product::Shared));

// A float32 product takes longer than words' ways, so that a second group would gain nothing.
template <class Product>
constexpr int64_t kMostRowGroups = Product::kDepth == 4 ? 1 : 2;

// False where the weights do not fit: of a multiprocessor's 256 KiB of registers 128 may hold them,
// which 256 units do in float32; a cluster has 8 blocks. More groups of rows where one each would
// take more clusters than are resident at once, of which `resident(blocks)` tells the number: a
// group's product runs while another one's words are on their way.
template <class Product, class Resident>
bool choose_rnn_cluster_plan(const Resident& resident, const RnnArgs& a, RnnClusterPlan& best) {
  constexpr int64_t kRegisterBytes = 128 * 1024;
  constexpr double kExchange = 700, kCells = 150;  // cycles: of a word's way, of a group's cells
  const int64_t blocks = (a.hidden + kClusterUnits - 1) / kClusterUnits;
  const int64_t multiply_adds = kShareDepth * blocks * kClusterUnits;  // of a row, in a block
  if (blocks > kLargestCluster || a.batch > 1 << 20 || a.steps > INT32_MAX ||
      multiply_adds * static_cast<int64_t>(sizeof(typename Product::Shared)) > kRegisterBytes) {
    return false;
  }
  const double product = double(multiply_adds) * kClusterRows / kMultiplyAdds<Product>;
  const int64_t at_once = resident(static_cast<int>(blocks));
  double least = 0;
  for (int64_t groups = 1; groups <= kMostRowGroups<Product>; ++groups) {
    const int64_t rows = groups * kClusterRows, clusters = (a.batch + rows - 1) / rows;
    const double rounds = double((a.directions * clusters + at_once - 1) / at_once);
    const double cycles =
        rounds * std::max(kExchange + kCells + product, double(groups) * (kCells + product));
    if (least > 0 && cycles >= least) continue;
    least = cycles;
    best = {static_cast<int>(blocks), static_cast<int>(groups), static_cast<int>(clusters),
            rnn_gates(a.mode),
            blocks <= 4 ? kRnnStageBytes<Product, 4> : kRnnStageBytes<Product, 8>};
  }
  return true;
}

// What its cells compute with.
template <class Product>
using RnnMath = std::conditional_t<Product::kDepth == 4, ExactMath, QuickMath>;

// Calls f with the layer's product, where there is one: none for a sequence of one step.
template <class F>
inline bool with_rnn_product(const RnnArgs& a, const F& f) {
  if (a.steps < 2) return false;
  switch (a.dtype) {
    case DType::bfloat16:
      return f(HalfProduct<BFloat16>{});
    case DType::float16:
      return f(HalfProduct<Float16>{});
    case DType::float32:
      return a.precision == Precision::highest ? f(FloatProduct{}) : f(Tf32Product{});
    default:
      return false;
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
