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
// (some 5 TB/s) takes as long as the 4·T·S·D operations saved (some 350 TFLOP/s), and waits besides.
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
  if (width * bytes <= 192) return {2, 32, 1};
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
  const int g = lane / 4, t = lane % 4;
  const int warp_row = warp / kTiles.split * 16 * R;
  const int first_sum = warp % kTiles.split * W * 8;  // the warp's columns of the sums
  const int width = static_cast<int>(a.width);

  const int64_t held_heads = kKeysAreHeld ? a.kv_heads : a.heads;
  const int64_t held_end = kKeysAreHeld ? a.keys : a.queries;
  const int64_t walked_end = kKeysAreHeld ? a.queries : a.keys;
  // The longest tiles of a causal head start first.
  const AttentionPlace at =
      attention_place(held_heads, held_end, kRows, a.causal && !kKeysAreHeld);
  const int64_t row = at.first + warp_row;
  const int64_t group = a.kv_heads == 0 ? 0 : a.heads / a.kv_heads;
  const int64_t walked_heads = kKeysAreHeld ? group : 1;
  const int64_t first_walked = kKeysAreHeld ? at.head * group : at.head / group;

  const AttentionOperand& held_a = kKeysAreHeld ? a.k : a.q;
  const AttentionOperand& held_b = kKeysAreHeld ? a.v : a.dout;
  const AttentionOperand& walked_a = kKeysAreHeld ? a.q : a.k;
  const AttentionOperand& walked_b = kKeysAreHeld ? a.dout : a.v;

  // Queries before the first key, and keys after the last query, are not walked.
  const int64_t begin = kKeysAreHeld && a.causal ? at.first / kColumns * kColumns : 0;
  const int64_t seen = at.first + kRows;
  const int64_t end = !kKeysAreHeld && a.causal && seen < walked_end ? seen : walked_end;
  const int64_t tiles = end > begin ? (end - begin + kColumns - 1) / kColumns : 0;
  const int64_t steps = tiles * walked_heads;

  int64_t next_head = first_walked, next_column = begin;
  const auto load_next = [&](int64_t step) {
    const int stage = static_cast<int>(step % 2);
    if (step < steps) {
      auto& to = memory.stages[stage];
      load_rows<kThreads>(to.a, walked_a, row_of<T>(walked_a, at.batch, next_head, 0), next_column,
                          walked_end, width);
      load_rows<kThreads>(to.b, walked_b, row_of<T>(walked_b, at.batch, next_head, 0), next_column,
                          walked_end, width);
      if constexpr (kKeysAreHeld) {
        if (static_cast<int>(threadIdx.x) < 2 * kColumns) {
          const int c = static_cast<int>(threadIdx.x) % kColumns;
          const bool of_lse = static_cast<int>(threadIdx.x) < kColumns;
          auto& statistics = memory.statistics[stage];
          const int64_t i = next_column + c;
          const auto* from = static_cast<const float*>(of_lse ? a.lse : a.delta) +
                             (at.batch * a.heads + next_head) * a.queries + i;
          cp_async_4(of_lse ? &statistics.lse[c] : &statistics.delta[c], from,
                     i < a.queries ? 4 : 0);
        }
      }
      next_column += kColumns;
      if (next_column >= end) {
        next_column = begin;
        ++next_head;
      }
    }
    cp_async_commit();
  };

  load_rows<kThreads>(memory.a, held_a, row_of<T>(held_a, at.batch, at.head, 0), at.first,
                      held_end, width);
  load_rows<kThreads>(memory.b, held_b, row_of<T>(held_b, at.batch, at.head, 0), at.first,
                      held_end, width);
  load_next(0);

  const float factor = exponent_factor(a);
  const float inverse_keep = a.keep > 0 ? static_cast<float>(1.0 / a.keep) : 0.0f;
  float sums[R][W][4] = {};                       // dK or dQ
  float sums_of_values[kKeysAreHeld ? R : 1][W][4] = {};  // dV
  Statistics of_rows[R][2];
  if constexpr (!kKeysAreHeld) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int64_t i = row + 16 * r + g + 8 * h;
        const int64_t from = (at.batch * a.heads + at.head) * a.queries + i;
        const bool inside = i < a.queries;
        of_rows[r][h].lse = inside ? static_cast<const float*>(a.lse)[from] * kLog2E : INFINITY;
        of_rows[r][h].delta = inside ? static_cast<const float*>(a.delta)[from] : 0.0f;
      }
    }
  }
  const auto left_a = [&](int step, uint32_t(&x)[R][4]) {
    read_left<M>(memory.a, warp_row, step, x);
  };
  const auto left_b = [&](int step, uint32_t(&x)[R][4]) {
    read_left<M>(memory.b, warp_row, step, x);
  };

  int64_t head = first_walked, column = begin;
  for (int64_t step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    __syncthreads();
    load_next(step + 1);
    auto& stage = memory.stages[step % 2];
    const bool used =
        !a.causal || (kKeysAreHeld ? column + kColumns > row : column < row + 16 * R);
    if (used) {
      const ScorePlace place = {at.batch, kKeysAreHeld ? head : at.head, row, column};
      float p[R][C][4], ds[R][C][4];
      multiply_rows<M>(left_a, stage.a, p);
      multiply_rows<M>(left_b, stage.b, ds);
      // Queries beyond the last have zeros in Q, dO and delta; keys beyond the last need a mask
      // where sums run over them.
      const bool below = !a.causal || (kKeysAreHeld ? column >= row + 16 * R - 1
                                                    : column + kColumns <= row + 1);
      const bool whole = kKeysAreHeld || column + kColumns <= a.keys;
      if (!below || !whole || a.mask.data || a.padding || mask_scales(a)) {
        mask_scores<T, kKeysAreHeld>(a, place, p);
      }
      const auto& walked = memory.statistics[step % 2];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        uint32_t kept = 0xffffffffu;
        if (a.state) {
          kept = kept_scores<kKeysAreHeld, C>(Dropout(a, place.batch, place.head), place, r);
        }
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float lse, delta;
            if constexpr (kKeysAreHeld) {
              lse = walked.lse[8 * c + 2 * t + e % 2] * kLog2E;
              delta = walked.delta[8 * c + 2 * t + e % 2];
            } else {
              lse = of_rows[r][e / 2].lse;
              delta = of_rows[r][e / 2].delta;
            }
            const float weight = exp2_fast(fmaf(p[r][c][e], factor, -lse));
            const bool stays = kept >> (4 * c + e) & 1;
            if (a.state) ds[r][c][e] = stays ? ds[r][c][e] * inverse_keep : 0.0f;
            ds[r][c][e] = weight * (ds[r][c][e] - delta);
            p[r][c][e] = stays ? weight : 0.0f;
          }
        }
      }
      if constexpr (kKeysAreHeld) add_product<M>(p, stage.b, first_sum, sums_of_values);
      add_product<M>(ds, stage.a, first_sum, sums);
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
      scale_of_values[r][h] = a.state ? inverse_keep : 1.0f;
    }
  }
  const AttentionOperand& to = kKeysAreHeld ? a.dk : a.dq;
  store_rows<T>(memory.a, warp_row, first_sum, sums, scale, to,
                row_of<T>(to, at.batch, at.head, 0), row, held_end, width);
  if constexpr (kKeysAreHeld) {
    store_rows<T>(memory.b, warp_row, first_sum, sums_of_values, scale_of_values, a.dv,
                  row_of<T>(a.dv, at.batch, at.head, 0), row, held_end, width);
  }
}

template <class M, int kWidth, bool kKeysAreHeld>
void launch_pass(Stream& stream, const Attention& a, int64_t heads, int64_t length) {
  using Memory = BackwardMemory<typename M::Element, kWidth, kKeysAreHeld>;
  static_assert(sizeof(Memory) <= 99 * 1024, "shared memory of sm_86, sm_89 and sm_120");
  const unsigned blocks = attention_blocks(a.batches * heads, length, Memory::kRows);
  if (blocks == 0) return;
  launch(stream, kAttentionName, attention_backward_kernel<M, kWidth, kKeysAreHeld>, dim3(blocks),
         dim3(kThreads), sizeof(Memory), a);
}

template <class M, int kWidth>
void launch_backward(Stream& stream, const Attention& a) {
  launch_pass<M, kWidth, true>(stream, a, a.kv_heads, a.keys);
  launch_pass<M, kWidth, false>(stream, a, a.heads, a.queries);
}

template <class M>
void launch_by_width(Stream& stream, const Attention& a) {
  if (a.width <= 32) return launch_backward<M, 32>(stream, a);
  if (a.width <= 64) return launch_backward<M, 64>(stream, a);
  if (a.width <= 96) return launch_backward<M, 96>(stream, a);
  if (a.width <= 128) return launch_backward<M, 128>(stream, a);
  if constexpr (M::kDepth == 16) launch_backward<M, 256>(stream, a);
}

}  // namespace

void launch_attention_mma_backward(Stream& stream, DType dtype, const Attention& a) {
  if (dtype == DType::bfloat16) return launch_by_width<BFloat16Products>(stream, a);
  if (dtype == DType::float16) return launch_by_width<Float16Products>(stream, a);
  launch_by_width<Tf32Products>(stream, a);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
