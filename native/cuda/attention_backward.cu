// dQ, dK and dV of attention on tensor cores, from lse and delta = Σ dO·O per query.
//
// P = exp(scores - lse), dS = P·(dO·Vᵀ - delta), dV = Pᵀ·dO, dK = scale·dSᵀ·Q, dQ = scale·dS·K.
// Two launches of one kernel: a block holds a tile of keys (K, V) and walks the queries of all
// heads that share it, summing dK and dV; or holds a tile of queries (Q, dO) and walks the keys,
// summing dQ. Scores are computed with the held rows on the left, so that P and dS stay in
// registers as left operands of the next product; only walked tiles pass through shared memory,
// two in flight. No atomics, one fixed order.
// Cost: 14·T·S·D operations. One launch with all three sums would do 10, and add dQ in order in
// float32: 8·T·D bytes per tile of keys, T·S·D/16 for tiles of 128, whose way through L2
// (some 5 TB/s) takes as long as the 4·T·S·D operations saved (some 350 TFLOP/s), and waits
// besides.
#include "attention_mma.h"
#include "attention_tile.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;

struct BackwardTiles {
  int row_tiles;  // of 16 held rows, per group of `split` warps
  int columns;    // walked rows of a tile
  int split;      // warps that share held rows and have a part of the sums' columns each
};

// By the head's width and the element's bytes. Registers: 4·row_tiles·(columns/8·2 + sums) where
// dK and dV are 2·width/8/split sums and dQ width/8; shared memory: at most 97 KiB.
constexpr BackwardTiles backward_tiles(int width, int bytes, bool keys_are_held) {
  if (keys_are_held) {
    if (width * bytes <= 128) return {2, 32, 1};
    if (width <= 128) return {1, width * bytes <= 256 ? 32 : 16, 1};
    return {1, 16, 2};
  }
  if (width * bytes <= 128) return {2, 32, 1};
  return {1, width * bytes <= 256 ? 32 : 16, 1};
}

template <class T, int kWidth, bool kKeysAreHeld>
struct BackwardMemory {
  static constexpr BackwardTiles kTiles = backward_tiles(kWidth, sizeof(T), kKeysAreHeld);
  static constexpr int kRows = 16 * kTiles.row_tiles * kWarps / kTiles.split;
  using Held = AttentionTile<T, kRows, kWidth>;
  using Walked = AttentionTile<T, kTiles.columns, kWidth>;
  Held a, b;  // K and V, or Q and dO
  struct {
    Walked a, b;  // Q and dO, or K and V
  } stages[2];
  struct {
    float lse[kTiles.columns], delta[kTiles.columns];
  } statistics[2];  // of walked queries
};

// What a lane knows of its pieces' queries: two rows of each row tile, or two columns of a piece.
struct Statistics {
  float lse, delta;  // lse times log2 e
};

template <class M, int kWidth, bool kKeysAreHeld>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_kernel(const Attention a) {
  using T = typename M::Element;
  using Memory = BackwardMemory<T, kWidth, kKeysAreHeld>;
  constexpr BackwardTiles kTiles = Memory::kTiles;
  constexpr int R = kTiles.row_tiles, kColumns = kTiles.columns, C = kColumns / 8;
  constexpr int W = kWidth / 8 / kTiles.split, kRows = Memory::kRows;

  auto& memory = shared_memory<Memory>();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int warp_row = warp / kTiles.split * 16 * R;
  const int first_sum = warp % kTiles.split * W * 8;  // the warp's columns of the sums
  const int width = static_cast<int>(a.width);

  const int queries = static_cast<int>(a.queries), keys = static_cast<int>(a.keys);
  const int held_end = kKeysAreHeld ? keys : queries, walked_end = kKeysAreHeld ? queries : keys;
  const AttentionPlace at = attention_place(a, blockIdx.x, kRows, kKeysAreHeld);
  const int batch = static_cast<int>(at.batch), held_head = static_cast<int>(at.head);
  const int first = static_cast<int>(at.first), row = first + warp_row;  // of the block, the warp
  const int group = static_cast<int>(a.heads / a.kv_heads);
  const int first_walked = kKeysAreHeld ? held_head * group : held_head / group;

  const AttentionOperand& held_a = kKeysAreHeld ? a.k : a.q;
  const AttentionOperand& held_b = kKeysAreHeld ? a.v : a.dout;
  const AttentionOperand& walked_a = kKeysAreHeld ? a.q : a.k;
  const AttentionOperand& walked_b = kKeysAreHeld ? a.dout : a.v;

  // Queries before the first key, and keys after the last query or behind the sample's length, are
  // not walked; for keys behind it, nothing is.
  const int seen = keys_of(a, at.batch);
  const int used_end = kKeysAreHeld ? seen : queries;
  const int begin = kKeysAreHeld && a.causal ? first / kColumns * kColumns : 0;
  const int end = kKeysAreHeld ? queries : a.causal ? min(first + kRows, seen) : seen;
  const bool walks = end > begin && first < used_end;
  const int tiles = walks ? (end - begin + kColumns - 1) / kColumns : 0;
  const int steps = tiles * (kKeysAreHeld ? group : 1);

  const auto load_stage = [&](int stage, int head, int column) {
    auto& to = memory.stages[stage];
    load_rows<kThreads>(to.a, walked_a, row_of<T>(walked_a, batch, head, 0), column, walked_end,
                        width);
    load_rows<kThreads>(to.b, walked_b, row_of<T>(walked_b, batch, head, 0), column, walked_end,
                        width);
    if constexpr (kKeysAreHeld) {
      const int thread = computed_here(static_cast<int>(threadIdx.x));
      if (thread < 2 * kColumns) {
        const int c = thread % kColumns;
        const bool of_lse = thread < kColumns;
        auto& statistics = memory.statistics[stage];
        const float* const from = static_cast<const float*>(of_lse ? a.lse : a.delta) +
                                  (batch * a.heads + head) * a.queries + column + c;
        cp_async_4(of_lse ? &statistics.lse[c] : &statistics.delta[c], from,
                   column + c < queries ? 4 : 0);
      }
    }
  };

  if (steps > 0) {
    load_rows<kThreads>(memory.a, held_a, row_of<T>(held_a, batch, held_head, 0), first, held_end,
                        width);
    load_rows<kThreads>(memory.b, held_b, row_of<T>(held_b, batch, held_head, 0), first, held_end,
                        width);
    load_stage(0, first_walked, begin);
  }
  cp_async_commit();

  float sums[R][W][4] = {};                               // dK or dQ
  float sums_of_values[kKeysAreHeld ? R : 1][W][4] = {};  // dV
  Statistics of_rows[R][2];
  if constexpr (!kKeysAreHeld) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int i = row + 16 * r + g + 8 * h;
        const int64_t from = (batch * a.heads + held_head) * a.queries + i;
        const bool inside = i < queries;
        of_rows[r][h].lse = inside ? static_cast<const float*>(a.lse)[from] * kLog2E : INFINITY;
        of_rows[r][h].delta = inside ? static_cast<const float*>(a.delta)[from] : 0.0f;
      }
    }
  }
  const bool used = row < used_end;
  int head = first_walked, column = begin;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    __syncthreads();
    const bool last = column + kColumns >= end;  // of the head
    if (step + 1 < steps) {
      load_stage((step + 1) % 2, last ? head + 1 : head, last ? begin : column + kColumns);
    }
    cp_async_commit();
    auto& stage = memory.stages[step % 2];
    const bool counts =
        !a.causal || (kKeysAreHeld ? column + kColumns > row : column < row + 16 * R);
    if (counts && used) {
      const ScorePlace place = {batch, kKeysAreHeld ? head : held_head, row, column};
      float p[R][C][4];
      multiply_rows<M>(memory.a, warp_row, stage.a, 0, p);
      // Queries beyond the last have zeros in Q, dO and delta; keys beyond the last need a mask
      // where sums run over them.
      const bool below =
          !a.causal || (kKeysAreHeld ? column >= row + 16 * R - 1 : column + kColumns <= row + 1);
      const bool whole = kKeysAreHeld || column + kColumns <= seen;
      if (!below || !whole || a.mask.data || a.padding || a.mask_scales) {
        mask_scores<T, kKeysAreHeld>(a, place, p);
      }
      uint32_t kept[R];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        kept[r] = a.state
                      ? kept_scores<kKeysAreHeld, C>(Dropout(a, place.batch, place.head), place, r)
                      : 0xffffffffu;
      }
      const auto& walked = memory.statistics[step % 2];
      const int t = computed_here(static_cast<int>(threadIdx.x) % 4);
      for_scores(p, [&](int r, int c, int e, float& score) {
        const float lse =
            kKeysAreHeld ? walked.lse[8 * c + 2 * t + e % 2] * kLog2E : of_rows[r][e / 2].lse;
        score = exp2_fast(fmaf(score, a.factor, -lse));
      });
      // In parts of 16 columns, for want of registers.
#pragma unroll
      for (int part = 0; part < C; part += 2) {
        float ds[R][2][4];
        multiply_rows<M>(memory.b, warp_row, stage.b, 8 * part, ds);
        for_scores(ds, [&](int r, int c, int e, float& slope) {
          const int piece = part + c;
          const float delta =
              kKeysAreHeld ? walked.delta[8 * piece + 2 * t + e % 2] : of_rows[r][e / 2].delta;
          const bool stays = kept[r] >> (4 * piece + e) & 1;
          if (a.state) slope = stays ? slope * a.inverse_keep : 0.0f;
          float& weight = p[r][piece][e];
          slope = weight * (slope - delta);
          weight = stays ? weight : 0.0f;
        });
        add_product<M>(ds, stage.a, 8 * part, first_sum, sums);
      }
      if constexpr (kKeysAreHeld) add_product<M>(p, stage.b, 0, first_sum, sums_of_values);
    }
    column += kColumns;
    if (column >= end) {
      column = begin;
      ++head;
    }
  }

  cp_async_wait<0>();
  __syncthreads();
  float scale[R][2], scale_of_values[R][2];
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      scale[r][h] = static_cast<float>(a.scale);
      scale_of_values[r][h] = a.inverse_keep;
    }
  }
  if constexpr (kKeysAreHeld) {
    const int held_keys = keys_of(a, batch);  // read again: a register less over the walk
    clear_unseen(sums, row, held_keys);
    clear_unseen(sums_of_values, row, held_keys);
  }
  const AttentionOperand& to = kKeysAreHeld ? a.dk : a.dq;
  store_rows<T>(memory.a, warp_row, first_sum, sums, scale, to, row_of<T>(to, batch, held_head, 0),
                row, held_end, width);
  if constexpr (kKeysAreHeld) {
    store_rows<T>(memory.b, warp_row, first_sum, sums_of_values, scale_of_values, a.dv,
                  row_of<T>(a.dv, batch, held_head, 0), row, held_end, width);
  }
}

template <class M, int kWidth, bool kKeysAreHeld>
void launch_pass(Stream& stream, DType dtype, const Attention& a) {
  using Memory = BackwardMemory<typename M::Element, kWidth, kKeysAreHeld>;
  static_assert(sizeof(Memory) <= kAttentionMostShared);
  const Attention problem = ordered(stream, dtype, a, Memory::kRows, kKeysAreHeld);
  if (problem.order.all == 0) return;
  launch(stream, kAttentionName, attention_backward_kernel<M, kWidth, kKeysAreHeld>,
         dim3(problem.order.all), dim3(kThreads), sizeof(Memory), problem);
}

template <class M, int kWidth>
void launch_backward(Stream& stream, DType dtype, const Attention& a) {
  launch_pass<M, kWidth, true>(stream, dtype, a);
  launch_pass<M, kWidth, false>(stream, dtype, a);
}

template <class M>
void launch_by_width(Stream& stream, DType dtype, const Attention& a) {
  if (a.width <= 32) return launch_backward<M, 32>(stream, dtype, a);
  if (a.width <= 64) return launch_backward<M, 64>(stream, dtype, a);
  if (a.width <= 128) return launch_backward<M, 128>(stream, dtype, a);
  if constexpr (M::kDepth == 16) launch_backward<M, 256>(stream, dtype, a);
}

}  // namespace

void launch_attention_mma_backward(Stream& stream, DType dtype, const Attention& a) {
  if (dtype == DType::bfloat16) return launch_by_width<BFloat16Products>(stream, dtype, a);
  if (dtype == DType::float16) return launch_by_width<Float16Products>(stream, dtype, a);
  launch_by_width<Tf32Products>(stream, dtype, a);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
