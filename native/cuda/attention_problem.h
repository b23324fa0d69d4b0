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

// The order of a launch's tiles. Sections of heads follow each other; in a causal section all
// heads' longest tiles are first, so that the shortest even out when the blocks end, and what the
// section walks stays in L2. Where tiles take equally long, a section is one head.
struct AttentionOrder {
  uint32_t all, tiles, heads;  // tiles of all heads, of one head; heads of a section
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
  AttentionOrder order;
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

// The place of tile `index` of an order, of `tile` queries or keys.
struct AttentionPlace {
  int64_t batch, head, first;
};

__device__ __forceinline__ AttentionPlace attention_place(const Attention& a, uint32_t index,
                                                          int tile, bool of_keys) {
  const AttentionOrder& order = a.order;
  const uint32_t of_section = order.heads * order.tiles, section = index / of_section;
  const uint32_t first_head = section * order.heads, in_section = index % of_section;
  const uint32_t heads = min(order.heads, order.all / order.tiles - first_head);
  const uint32_t of_head = in_section / heads, head = first_head + in_section % heads;
  const uint32_t count = static_cast<uint32_t>(of_keys ? a.kv_heads : a.heads);
  // The last queries see most keys, the first keys are seen by most queries.
  const bool backwards = a.causal && !of_keys;
  return {head / count, head % count,
          static_cast<int64_t>(backwards ? order.tiles - 1 - of_head : of_head) * tile};
}

// The problem with the order of a launch over tiles of queries, or of keys, of type `dtype`. An
// error where there are too many, or where 32 bits would not hold a row's index. None is legal.
Attention ordered(Stream& stream, DType dtype, const Attention& a, int tile, bool of_keys);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
