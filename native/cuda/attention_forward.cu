// O = softmax(scale·Q·Kᵀ + mask)·V on tensor cores, and lse = ln Σ exp(scores) per query (Milakov
// and Gimelshein 2018; Dao, "FlashAttention-2", 2023). A block of 4 warps takes a tile of queries,
// each warp 16 or 32 rows, and walks the keys; scores never leave registers.
//
// Tiles of K and V pass through a ring of three buffers: while one is multiplied, the next two are
// on their way. Causal tiles beyond the diagonal are skipped by the block, or by the warp.
// Cost: 4·T·S·D operations (half of it where causal); a block reads 2·S·D elements for its rows,
// so 128 rows do 128 operations per byte of 16-bit elements, beyond what L2 or memory asks for.
// Shared memory gives 16·C bytes of K or V per 32·R·C operations of a warp: R = 2 keeps the
// tensor cores of sm_80 and sm_90 fed, and registers allow it up to heads of 128.
#include "attention_mma.h"
#include "attention_tile.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBuffers = 3;

struct ForwardTiles {
  int row_tiles;  // of 16 queries, per warp
  int keys;       // of a tile
};

// By the head's width and the element's bytes. Registers: row_tiles·(keys + width)/2 sums; shared
// memory: at most 80 KiB, so that two blocks fit a multiprocessor of sm_80.
constexpr ForwardTiles forward_tiles(int width, int bytes) {
  if (width * bytes <= 128) return {2, 64};
  if (width * bytes <= 256) return {2, 32};
  return {1, 32};
}

template <class T, int kWidth>
struct ForwardMemory {
  static constexpr ForwardTiles kTiles = forward_tiles(kWidth, sizeof(T));
  AttentionTile<T, 16 * kTiles.row_tiles * kWarps, kWidth> queries;
  AttentionTile<T, kTiles.keys, kWidth> ring[kBuffers];
};

// The running maximum, in the scores' own scale, and this lane's part of the sum, per row.
template <int R>
struct Softmax {
  float max[R][2], sum[R][2];
};

// Scores to exp(score - max), and what was summed before to the new maximum.
template <int R, int C, int W>
__device__ __forceinline__ void exponentiate(Softmax<R>& softmax, float factor,
                                             float (&scores)[R][C][4], float (&out)[R][W][4]) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = softmax.max[r][h];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        top = fmaxf(top, fmaxf(scores[r][c][2 * h], scores[r][c][2 * h + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float base = top == -INFINITY ? 0.0f : top * factor;
      const float shrink = exp2_fast(fmaf(softmax.max[r][h], factor, -base));
      softmax.max[r][h] = top;
      float part = 0.0f;
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          scores[r][c][e] = exp2_fast(fmaf(scores[r][c][e], factor, -base));
          part += scores[r][c][e];
        }
      }
      softmax.sum[r][h] = fmaf(softmax.sum[r][h], shrink, part);
#pragma unroll
      for (int w = 0; w < W; ++w) {
        out[r][w][2 * h] *= shrink;
        out[r][w][2 * h + 1] *= shrink;
      }
    }
  }
}

template <class M, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(const Attention a) {
  using T = typename M::Element;
  using Memory = ForwardMemory<T, kWidth>;
  constexpr int R = Memory::kTiles.row_tiles, kKeys = Memory::kTiles.keys;
  constexpr int C = kKeys / 8, W = kWidth / 8, kRows = 16 * R * kWarps;

  auto& memory = shared_memory<Memory>();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4, warp_row = warp * 16 * R;
  const int width = static_cast<int>(a.width);
  const AttentionPlace at = attention_place(a, blockIdx.x, kRows, false);
  const int batch = static_cast<int>(at.batch), head = static_cast<int>(at.head);
  const int first = static_cast<int>(at.first), row = first + warp_row;  // of the block, the warp
  const int count = static_cast<int>(a.queries), keys = static_cast<int>(a.keys);
  const int seen = keys_of(a, at.batch), end = a.causal ? min(first + kRows, seen) : seen;
  const int tiles = (end + kKeys - 1) / kKeys;

  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  const T* const k = row_of<T>(a.k, batch, kv_head, 0);
  const T* const v = row_of<T>(a.v, batch, kv_head, 0);
  const auto load_tile = [&](const AttentionOperand& x, const T* rows, int tile, int buffer) {
    if (tile < tiles) {
      load_rows<kThreads>(memory.ring[buffer], x, rows, tile * kKeys, keys, width);
    }
    cp_async_commit();
  };
  load_rows<kThreads>(memory.queries, a.q, row_of<T>(a.q, batch, head, 0), first, count, width);
  load_tile(a.k, k, 0, 0);
  load_tile(a.v, v, 0, 1);

  Softmax<R> softmax;
  float out[R][W][4] = {};
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      softmax.max[r][h] = -INFINITY;
      softmax.sum[r][h] = 0.0f;
    }
  }

  int of_key = 0;  // the buffer of the tile's keys; values are in the next, and the third is free
  const auto after = [](int buffer, int n) { return (buffer + n) % kBuffers; };
  for (int tile = 0; tile < tiles; ++tile) {
    const int key = tile * kKeys;
    const bool used = row < count && (!a.causal || key < row + 16 * R);
    const ScorePlace place = {batch, head, row, key};
    float scores[R][C][4];

    cp_async_wait<1>();
    __syncthreads();
    load_tile(a.k, k, tile + 1, after(of_key, 2));
    if (used) {
      multiply_rows<M>(memory.queries, warp_row, memory.ring[of_key], 0, scores);
      const bool whole = key + kKeys <= seen && !(a.causal && key + kKeys > row + 1);
      if (!whole || a.mask.data || a.padding || a.mask_scales) {
        mask_scores<T, false>(a, place, scores);
      }
      exponentiate(softmax, a.factor, scores, out);
      if (a.state) {
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const uint32_t kept =
              kept_scores<false, C>(Dropout(a, place.batch, place.head), place, r);
#pragma unroll
          for (int c = 0; c < C; ++c) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              scores[r][c][e] = kept >> (4 * c + e) & 1 ? scores[r][c][e] : 0.0f;
            }
          }
        }
      }
    }
    cp_async_wait<1>();
    __syncthreads();
    load_tile(a.v, v, tile + 1, of_key);
    if (used) add_product<M>(scores, memory.ring[after(of_key, 1)], 0, 0, out);
    of_key = after(of_key, 2);
  }

  // No copy is in flight, but the last tiles' buffers may still be read; queries are not.
  cp_async_wait<0>();
  __syncthreads();
  float scale[R][2];
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float sum = softmax.sum[r][h];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const bool empty = sum == 0.0f;
      scale[r][h] = empty ? 0.0f : a.inverse_keep / sum;
      const int i = row + 16 * r + g + 8 * h;
      if (t == 0 && i < count) {
        static_cast<float*>(a.lse)[(at.batch * a.heads + at.head) * a.queries + i] =
            empty ? INFINITY : fmaf(softmax.max[r][h], a.factor * kLn2, logf(sum));
      }
    }
  }
  store_rows<T>(memory.queries, warp_row, 0, out, scale, a.out, row_of<T>(a.out, batch, head, 0),
                row, count, width);
}

template <class M, int kWidth>
void launch_forward(Stream& stream, DType dtype, const Attention& a) {
  using Memory = ForwardMemory<typename M::Element, kWidth>;
  constexpr int kRows = 16 * Memory::kTiles.row_tiles * kWarps;
  static_assert(sizeof(Memory) <= kAttentionMostShared);
  const Attention problem = ordered(stream, dtype, a, kRows, false);
  launch(stream, kAttentionName, attention_forward_kernel<M, kWidth>, dim3(problem.order.all),
         dim3(kThreads), sizeof(Memory), problem);
}

template <class M>
void launch_by_width(Stream& stream, DType dtype, const Attention& a) {
  if (a.width <= 32) return launch_forward<M, 32>(stream, dtype, a);
  if (a.width <= 64) return launch_forward<M, 64>(stream, dtype, a);
  if (a.width <= 128) return launch_forward<M, 128>(stream, dtype, a);
  if constexpr (M::kDepth == 16) launch_forward<M, 256>(stream, dtype, a);
}

}  // namespace

void launch_attention_mma_forward(Stream& stream, DType dtype, const Attention& a) {
  if (dtype == DType::bfloat16) return launch_by_width<BFloat16Products>(stream, dtype, a);
  if (dtype == DType::float16) return launch_by_width<Float16Products>(stream, dtype, a);
  launch_by_width<Tf32Products>(stream, dtype, a);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
