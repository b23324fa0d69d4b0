// What the kernels of the attention family share: the problem as they receive it, a block's place
// in it, and which (query, key) pairs count and are kept.
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr const char* kAttentionName = "scaledDotProductAttention";
constexpr size_t kAttentionMostShared =
    99 * 1024;  // what a block of sm_86, sm_89 or sm_120 may have

// Rows of [batch][head][row][width], contiguous.
struct AttentionOperand {
  const void* data;
  int64_t batch, head, row;
  bool aligned;  // every row begins at a multiple of 16 bytes
};

struct Attention {
  AttentionOperand q, k, v, out, dout, dq, dk, dv;
  AttentionOperand mask;  // and the stride of its columns
  const uint8_t* padding;
  const int32_t* lengths;
  const int64_t* state;
  void* lse;
  void* delta;
  double scale, keep;
  // On tensor cores scores are multiplied by `factor` (log2 e·scale) before exp2, or, where a mask
  // is added to them or the scale is not positive, when masks are applied; `factor` is 1 then.
  float log2_scale, factor;
  float inverse_keep;       // 1 / keep where there is dropout, 0 where keep is 0
  uint32_t keep_threshold;  // a weight is kept where its word's upper 24 bits are below
  int64_t mask_column, padding_batch, padding_key;
  int64_t heads, kv_heads, queries, keys, width;
  int64_t batches;
  bool causal, mask_is_bool, mask_scales;
};

template <class T>
__device__ __forceinline__ const T* row_of(const AttentionOperand& x, int64_t batch, int64_t head,
                                           int64_t row) {
  return static_cast<const T*>(x.data) + batch * x.batch + head * x.head + row * x.row;
}

// How many keys of a sample are seen. Tiles of keys behind them are not walked.
__device__ __forceinline__ int keys_of(const Attention& a, int64_t batch) {
  const int keys = static_cast<int>(a.keys);
  return a.lengths ? max(min(a.lengths[batch], keys), 0) : keys;
}

// A block's tile of rows: tiles of a head follow each other, the last first where `backwards`.
struct AttentionPlace {
  int64_t batch, head, first;
};

__device__ __forceinline__ AttentionPlace attention_place(int64_t heads, int64_t length, int tile,
                                                          bool backwards) {
  const uint32_t tiles = static_cast<uint32_t>((length + tile - 1) / tile);
  const uint32_t of_head = blockIdx.x % tiles, head = blockIdx.x / tiles;
  const uint32_t count = static_cast<uint32_t>(heads);
  return {head / count, head % count,
          static_cast<int64_t>(backwards ? tiles - 1 - of_head : of_head) * tile};
}

// Blocks of a launch over the tiles of all heads; an error where there are too many, or where 32
// bits would not hold a row's index. 0 is legal.
unsigned attention_blocks(int64_t heads, int64_t length, int tile);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
