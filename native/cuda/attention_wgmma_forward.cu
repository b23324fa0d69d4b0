// O = softmax(scale·Q·Kᵀ + mask)·V on sm_90a, and lse per query, by wgmma and tensor copies (after
// Shah et al., "FlashAttention-3", 2024). A block has a tile of queries, 64 for each of two or
// three warpgroups; one thread of another warpgroup brings tiles of keys and values into two rings.
//
// A warpgroup begins the scores of the next tile before the product with the values of this one,
// which runs while it weighs them, and warpgroups take turns, so that one weighs while another
// multiplies. Scores and weights, the left operand of the second product, never leave registers.
// Tiles are walked from the last, so that only a warpgroup's first can hold keys that some query
// does not see for its place. Masks, padding, dropout and scales not above 0 take other kernels.
// Cost: 4·T·S·D operations (half of it where causal), floor 4·T·S·D / 989e12 s on H100; a
// warpgroup reads 5·D bytes of shared memory for 256·D operations.
#include "attention_wgmma.h"
#include "attention_wgmma_tile.h"
#include "launch.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// By the head's width; the special kernels take the registers of a third warpgroup, or of half the
// keys.
template <class M_, int kWidth_, bool kSpecial_>
struct Config {
  using M = M_;
  using T = typename M::Element;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kSpecial = kSpecial_;
  static constexpr int kConsumers = kWidth <= 64 && !kSpecial ? 3 : 2;
  static constexpr RegisterShares kRegisters = register_shares(kConsumers);
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kRows = 64 * kConsumers, kKeys = kSpecial && kWidth > 96 ? 64 : 128;
  static constexpr int kStages = kWidth <= 64 ? 3 : 2;
  static constexpr int C = kKeys / 8, W = kWidth / 8;

  struct Shared {
    WgmmaTile<T, kRows, kWidth> queries;
    WgmmaTile<T, kKeys, kWidth> keys[kStages], values[kStages];
    Mbarrier queries_full;
    Mbarrier keys_full[kStages], keys_empty[kStages];
    Mbarrier values_full[kStages], values_empty[kStages];
  };
  static_assert(sizeof(Shared) <= kMostHopperShared && C % 2 == 0 && W % 4 == 0);
  static_assert(kRegisters.load < kRegisters.multiply);
};

struct Maps {
  CUtensorMap q, k, v;
};

// A block's work, or a warpgroup's.
struct Work {
  int batch, head, kv_head;
  int first;  // query
  int tiles;  // of keys
};

template <class C>
__device__ __forceinline__ Work work_of_block(const Attention& a) {
  // The last tiles of a causal head are the longest and start first.
  const AttentionPlace at = attention_place(a.heads, a.queries, C::kRows, a.causal);
  const int keys = keys_of(a, at.batch), first = static_cast<int>(at.first);
  const int end = a.causal ? min(first + C::kRows, keys) : keys;
  return {static_cast<int>(at.batch), static_cast<int>(at.head),
          static_cast<int>(at.head * a.kv_heads / a.heads), first, (end + C::kKeys - 1) / C::kKeys};
}

template <class C>
__device__ __forceinline__ void produce(typename C::Shared& shared, const Maps& maps,
                                        const Work& work) {
  load_tile(shared.queries, &maps.q, work.first, work.head, work.batch, &shared.queries_full);
  Ring<C::kStages> ring;
  for (int tile = work.tiles - 1; tile >= 0; --tile) {
    const int key = tile * C::kKeys, stage = ring.stage;
    mbarrier_wait(&shared.keys_empty[stage], ring.parity ^ 1);
    load_tile(shared.keys[stage], &maps.k, key, work.kv_head, work.batch, &shared.keys_full[stage]);
    mbarrier_wait(&shared.values_empty[stage], ring.parity ^ 1);
    load_tile(shared.values[stage], &maps.v, key, work.kv_head, work.batch,
              &shared.values_full[stage]);
    ring.advance();
  }
}

// Of a lane's two rows: the running maximum in the scores' own scale, its part of the sum, and what
// the last tile's new maximum makes of earlier sums.
struct Softmax {
  float max[2], sum[2], shrink[2];
};

// Scores to exp(score - max).
template <int C>
__device__ __forceinline__ void exponentiate(Softmax& softmax, float factor,
                                             float (&scores)[1][C][4]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float top = softmax.max[h];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      top = fmaxf(top, fmaxf(scores[0][c][2 * h], scores[0][c][2 * h + 1]));
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float base = top == -INFINITY ? 0.0f : top * factor;
    softmax.shrink[h] = exp2_fast(fmaf(softmax.max[h], factor, -base));
    softmax.max[h] = top;
    float part = 0.0f;
#pragma unroll
    for (int c = 0; c < C; ++c) {
#pragma unroll
      for (int e = 2 * h; e < 2 * h + 2; ++e) {
        scores[0][c][e] = exp2_fast(fmaf(scores[0][c][e], factor, -base));
        part += scores[0][c][e];
      }
    }
    softmax.sum[h] = fmaf(softmax.sum[h], softmax.shrink[h], part);
  }
}

// Scores of the warp's rows from `row` and a tile of keys to the weights of its values.
template <class C, bool kFirst>
__device__ __forceinline__ void weigh(const Attention& a, const Work& work, int row, int tile,
                                      Softmax& softmax, Pieces<C::C>& scores) {
  const int key = tile * C::kKeys;
  const ScorePlace place = {work.batch, work.head, row, key};
  if constexpr (C::kSpecial) {
    const bool whole = !kFirst || (key + C::kKeys <= keys_of(a, work.batch) &&
                                   !(a.causal && key + C::kKeys > row + 1));
    if (!whole || a.mask.data || a.padding || a.mask_scales) {
      mask_scores<typename C::T, false>(a, place, scores);
    }
  } else if constexpr (kFirst) {
    hide_unseen<false>(a, place, scores, [](int) { return false; });
  }
  exponentiate(softmax, a.factor, scores);
  if constexpr (C::kSpecial) {
    if (a.state) {
      uint32_t kept[C::kKeys / 64];
      kept_words<false, C::C>(a, place, kept);
      for_scores(scores, [&](int, int c, int e, float& weight) {
        weight = kept[c / 8] >> (4 * (c % 8) + e) & 1 ? weight : 0.0f;
      });
    }
  }
}

// Warpgroups begin the products of a tile in turns, each as many times.
template <int kConsumers>
class Turns {
 public:
  __device__ __forceinline__ Turns(int consumer, int count)
      : consumer_(consumer), next_((consumer + 1) % kConsumers), left_(count) {
    if (next_ == 0 && left_ > 0) pass();
  }
  __device__ __forceinline__ void wait() {
    named_barrier_sync(kFirst + consumer_, 2 * kWarpgroup);
    --left_;
  }
  __device__ __forceinline__ void end() {
    if (next_ != 0 || left_ > 0) pass();
  }

 private:
  static constexpr int kFirst = 4;  // after the warpgroups' own
  __device__ __forceinline__ void pass() { named_barrier_arrive(kFirst + next_, 2 * kWarpgroup); }
  int consumer_, next_, left_;
};

// The warpgroup's sums over tiles `tiles` - 1 … 0, of which the ring has the first; there is one.
template <class C>
__device__ __forceinline__ void walk(typename C::Shared& shared, const Attention& a,
                                     const Work& work, int consumer, int tiles,
                                     Turns<C::kConsumers>& turns, Ring<C::kStages>& ring,
                                     Softmax& softmax, Pieces<C::W>& out) {
  using M = typename C::M;
  const int group_row = 64 * consumer;
  const int row = work.first + group_row + static_cast<int>(threadIdx.x) / 32 % 4 * 16;
  int tile = tiles - 1;
  Pieces<C::C> scores;
  uint32_t weights[C::C / 2][4];
  mbarrier_wait(&shared.keys_full[ring.stage], ring.parity);
  wgmma_touch(registers_of(scores));
  wgmma_fence();
  begin_scores<M>(shared.queries, group_row, shared.keys[ring.stage], scores);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_touch(registers_of(scores));
  release(&shared.keys_empty[ring.stage]);
  weigh<C, true>(a, work, row, tile, softmax, scores);
  scores_as_weights<M>(scores, weights);

  while (--tile >= 0) {
    const Ring<C::kStages> of_values = ring;
    ring.advance();
    mbarrier_wait(&shared.keys_full[ring.stage], ring.parity);
    turns.wait();
    wgmma_touch(registers_of(scores));
    wgmma_touch(registers_of(out));
    keep_weights(weights);
    wgmma_fence();
    begin_scores<M>(shared.queries, group_row, shared.keys[ring.stage], scores);
    wgmma_commit();
    mbarrier_wait(&shared.values_full[of_values.stage], of_values.parity);
    wgmma_fence();
    begin_sums<M>(weights, shared.values[of_values.stage], out);
    wgmma_commit();
    turns.end();
    wgmma_wait<1>();
    wgmma_touch(registers_of(scores));
    release(&shared.keys_empty[ring.stage]);
    weigh<C, false>(a, work, row, tile, softmax, scores);
    wgmma_wait<0>();
    wgmma_touch(registers_of(out));
    keep_weights(weights);
    release(&shared.values_empty[of_values.stage]);
    for_scores(out, [&](int, int, int e, float& sum) { sum *= softmax.shrink[e / 2]; });
    scores_as_weights<M>(scores, weights);
  }
  mbarrier_wait(&shared.values_full[ring.stage], ring.parity);
  wgmma_touch(registers_of(out));
  keep_weights(weights);
  wgmma_fence();
  begin_sums<M>(weights, shared.values[ring.stage], out);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_touch(registers_of(out));
  keep_weights(weights);
}

template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const Attention& a,
                                        const Work& work, int consumer) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int group_row = 64 * consumer, first = work.first + group_row;
  const int warp_row = group_row + static_cast<int>(threadIdx.x) / 32 % 4 * 16;
  const int row = work.first + warp_row, count = static_cast<int>(a.queries);
  // Tiles that the warpgroup's queries do not see are let by.
  const int tiles = first >= count ? 0
                    : a.causal     ? min((first + 63) / C::kKeys + 1, work.tiles)
                                   : work.tiles;
  Turns<C::kConsumers> turns(consumer, work.tiles - 1);
  Ring<C::kStages> ring;
  for (int tile = work.tiles - 1; tile >= tiles; --tile) {
    if (tile > 0) {
      turns.wait();
      turns.end();
    }
    mbarrier_wait(&shared.keys_full[ring.stage], ring.parity);
    release(&shared.keys_empty[ring.stage]);
    mbarrier_wait(&shared.values_full[ring.stage], ring.parity);
    release(&shared.values_empty[ring.stage]);
    ring.advance();
  }
  mbarrier_wait(&shared.queries_full, 0);
  if (first >= count) return;

  Softmax softmax = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {0.0f, 0.0f}};
  Pieces<C::W> out = {};
  if (tiles > 0) walk<C>(shared, a, work, consumer, tiles, turns, ring, softmax, out);

  float scale[1][2];
  const int64_t of_head = (static_cast<int64_t>(work.batch) * a.heads + work.head) * a.queries;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float sum = softmax.sum[h];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const bool empty = sum == 0.0f;
    scale[0][h] = empty ? 0.0f : a.inverse_keep / sum;
    const int i = row + g + 8 * h;
    if (t == 0 && i < count) {
      static_cast<float*>(a.lse)[of_head + i] =
          empty ? INFINITY : fmaf(softmax.max[h], a.factor * kLn2, logf(sum));
    }
  }
  // Sums leave by way of the queries' rows, once no warp of the warpgroup multiplies them.
  named_barrier_sync(1 + consumer, kWarpgroup);
  using T = typename C::T;
  store_rows<T>(shared.queries, warp_row, 0, out, scale, a.out,
                row_of<T>(a.out, work.batch, work.head, 0), row, count, static_cast<int>(a.width));
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attention_wgmma_forward_kernel(const __grid_constant__ Maps maps, const Attention a) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.queries_full, 1);
    for (int i = 0; i < C::kStages; ++i) {
      mbarrier_init(&shared.keys_full[i], 1);
      mbarrier_init(&shared.values_full[i], 1);
      mbarrier_init(&shared.keys_empty[i], 4 * C::kConsumers);
      mbarrier_init(&shared.values_empty[i], 4 * C::kConsumers);
    }
    fence_mbarrier_init();
    prefetch_tensor_map(&maps.q);
    prefetch_tensor_map(&maps.k);
    prefetch_tensor_map(&maps.v);
  }
  __syncthreads();
  const Work work = work_of_block<C>(a);
  // Shuffled, so that the compiler knows it to be the same in the whole warp.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < kWarpgroup / 32) {
    lower_registers<C::kRegisters.load>();
    if (warp == 0) {
      if (elect_one()) produce<C>(shared, maps, work);
      __syncwarp();
    }
  } else {
    raise_registers<C::kRegisters.multiply>();
    consume<C>(shared, a, work, warp / 4 - 1);
  }
#else
  __trap();  // has_wgmma keeps launches away
#endif
}

template <class C>
bool launch_config(Stream& stream, const Attention& a) {
  alignas(128) Maps maps;
  if (!encode_rows(&maps.q, a.q, a.batches, a.heads, a.queries, a.width, C::kRows) ||
      !encode_rows(&maps.k, a.k, a.batches, a.kv_heads, a.keys, a.width, C::kKeys) ||
      !encode_rows(&maps.v, a.v, a.batches, a.kv_heads, a.keys, a.width, C::kKeys)) {
    return false;
  }
  launch(stream, kAttentionName, attention_wgmma_forward_kernel<C>,
         dim3(attention_blocks(a.batches * a.heads, a.queries, C::kRows)), dim3(C::kThreads),
         sizeof(typename C::Shared), maps, a);
  return true;
}

}  // namespace

bool launch_attention_wgmma_forward(Stream& stream, DType dtype, const Attention& a) {
  return with_wgmma_form(stream, dtype, a, [&]<class M, int kWidth, bool kSpecial>() {
    return launch_config<Config<M, kWidth, kSpecial>>(stream, a);
  });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
