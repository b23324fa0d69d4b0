// O = softmax(scale·Q·Kᵀ + mask)·V on sm_90a, and lse per query, by wgmma and tensor copies (after
// Shah et al., "FlashAttention-3", 2024). A block has tiles of queries in turn, 64 for each of two
// or three warpgroups; one thread of another warpgroup brings tiles of keys and values into two
// rings, and goes on to the next queries while these end.
//
// A warpgroup begins the scores of the next tile before the product with the values of this one,
// which runs while it weighs them, and warpgroups take turns, so that one weighs while another
// multiplies. Scores and weights, the left operand of the second product, never leave registers.
// Tiles are walked from the last, so that only a warpgroup's first can hold keys that some query
// does not see for its place. Masks, padding, dropout and scales not above 0 take other kernels.
// Cost: 4·T·S·D operations (half of it where causal), floor 4·T·S·D / 989e12 s on H100; a
// warpgroup reads 5·D bytes of shared memory for 256·D operations.
#include <algorithm>

#include "attention_wgmma.h"
#include "attention_wgmma_tile.h"
#include "cooperative.h"
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
    WgmmaTile<T, kRows, kWidth> queries[2];
    WgmmaTile<T, kKeys, kWidth> keys[kStages], values[kStages];
    uint32_t index[2];  // in the order of tiles
    Mbarrier queries_full[2], queries_empty[2];
    Mbarrier keys_full[kStages], keys_empty[kStages];
    Mbarrier values_full[kStages], values_empty[kStages];
  };
  static_assert(sizeof(Shared) <= kMostHopperShared && C % 2 == 0 && W % 4 == 0);
  static_assert(kRegisters.load < kRegisters.multiply);
};

struct Maps {
  CUtensorMap q, k, v;
};

struct Work {
  int batch, head, kv_head;
  int first;  // query
  int tiles;  // of keys
};

template <class C>
__device__ __forceinline__ Work work_of(const Attention& a, uint32_t index) {
  const AttentionPlace at = attention_place(a, index, C::kRows, false);
  const int keys = keys_of(a, at.batch), first = static_cast<int>(at.first);
  const int end = a.causal ? min(first + C::kRows, keys) : keys;
  return {static_cast<int>(at.batch), static_cast<int>(at.head),
          static_cast<int>(at.head * a.kv_heads / a.heads), first, (end + C::kKeys - 1) / C::kKeys};
}

template <class C>
__device__ __forceinline__ void load_work(typename C::Shared& shared, const Maps& maps,
                                          const Work& work, int slot, Ring<C::kStages>& ring) {
  load_tile(shared.queries[slot], &maps.q, work.first, work.head, work.batch,
            &shared.queries_full[slot]);
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

// `taken` counts the tiles that were taken beyond each block's first; where it is null, a block
// takes every gridDim.x-th.
template <class C>
__device__ __forceinline__ void produce(typename C::Shared& shared, const Maps& maps,
                                        const Attention& a, uint32_t* taken) {
  Ring<C::kStages> ring;
  Ring<2> slots;
  uint32_t index = blockIdx.x;
  for (;;) {
    mbarrier_wait(&shared.queries_empty[slots.stage], slots.parity ^ 1);
    shared.index[slots.stage] = index;
    if (index >= a.order.all) break;
    // Asked for before it is needed, as it takes its time.
    const uint32_t next = taken ? atomicAdd(taken, 1u) : index;
    load_work<C>(shared, maps, work_of<C>(a, index), slots.stage, ring);
    index = next + gridDim.x;
    slots.advance();
  }
  mbarrier_arrive(&shared.queries_full[slots.stage]);
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
      : consumer_(consumer), next_((consumer + 1) % kConsumers) {
    if (next_ == 0 && count > 0) pass();
  }
  __device__ __forceinline__ void wait() { named_barrier_sync(kFirst + consumer_, 2 * kWarpgroup); }
  // `left` turns of each are to come.
  __device__ __forceinline__ void end(int left) {
    if (next_ != 0 || left > 0) pass();
  }

 private:
  static constexpr int kFirst = 4;  // after the warpgroups' own
  __device__ __forceinline__ void pass() { named_barrier_arrive(kFirst + next_, 2 * kWarpgroup); }
  int consumer_, next_;
};

// The warpgroup's sums over tiles `tiles` - 1 … 0, of which the ring has the first; there is one.
template <class C>
__device__ __forceinline__ void walk(typename C::Shared& shared, const Attention& a,
                                     const Work& work, int slot, int consumer, int tiles,
                                     Turns<C::kConsumers>& turns, Ring<C::kStages>& ring,
                                     Softmax& softmax, Pieces<C::W>& out) {
  using M = typename C::M;
  const int group_row = 64 * consumer;
  const int thread = computed_here(static_cast<int>(threadIdx.x));
  const int row = work.first + group_row + thread / 32 % 4 * 16;
  int tile = tiles - 1;
  Pieces<C::C> scores;
  uint32_t weights[C::C / 2][4];
  mbarrier_wait(&shared.keys_full[ring.stage], ring.parity);
  wgmma_touch(registers_of(scores));
  wgmma_fence();
  begin_scores<M>(shared.queries[slot], group_row, shared.keys[ring.stage], scores);
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
    begin_scores<M>(shared.queries[slot], group_row, shared.keys[ring.stage], scores);
    wgmma_commit();
    mbarrier_wait(&shared.values_full[of_values.stage], of_values.parity);
    wgmma_fence();
    begin_sums<M>(weights, shared.values[of_values.stage], out);
    wgmma_commit();
    turns.end(tile);
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
  release(&shared.values_empty[ring.stage]);
  ring.advance();
}

// Writes the warpgroup's sums over their weights' sums, and lse.
template <class C>
__device__ __forceinline__ void finish(typename C::Shared& shared, const Attention& a,
                                       const Work& work, int slot, int consumer,
                                       const Softmax& softmax, const Pieces<C::W>& out) {
  using T = typename C::T;
  const int thread = computed_here(static_cast<int>(threadIdx.x)), g = thread % 32 / 4;
  const int t = thread % 4, warp_row = 64 * consumer + thread / 32 % 4 * 16;
  const int row = work.first + warp_row, count = static_cast<int>(a.queries);
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
  store_rows<T>(shared.queries[slot], warp_row, 0, out, scale, a.out,
                row_of<T>(a.out, work.batch, work.head, 0), row, count, static_cast<int>(a.width));
}

template <class C>
__device__ __forceinline__ void attend(typename C::Shared& shared, const Attention& a,
                                       const Work& work, int slot, int consumer,
                                       Ring<C::kStages>& ring) {
  const int first = work.first + 64 * consumer, count = static_cast<int>(a.queries);
  // Tiles that the warpgroup's queries do not see are let by.
  const int tiles = first >= count ? 0
                    : a.causal     ? min((first + 63) / C::kKeys + 1, work.tiles)
                                   : work.tiles;
  Turns<C::kConsumers> turns(consumer, work.tiles - 1);
  for (int tile = work.tiles - 1; tile >= tiles; --tile) {
    if (tile > 0) {
      turns.wait();
      turns.end(tile - 1);
    }
    mbarrier_wait(&shared.keys_full[ring.stage], ring.parity);
    release(&shared.keys_empty[ring.stage]);
    mbarrier_wait(&shared.values_full[ring.stage], ring.parity);
    release(&shared.values_empty[ring.stage]);
    ring.advance();
  }
  if (first >= count) return;

  Softmax softmax = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {0.0f, 0.0f}};
  Pieces<C::W> out = {};
  if (tiles > 0) walk<C>(shared, a, work, slot, consumer, tiles, turns, ring, softmax, out);
  finish<C>(shared, a, work, slot, consumer, softmax, out);
}

template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const Attention& a,
                                        int consumer) {
  Ring<C::kStages> ring;
  for (uint32_t turn = 0;; ++turn) {
    const int slot = static_cast<int>(turn % 2);
    mbarrier_wait(&shared.queries_full[slot], turn / 2 % 2);
    // Shuffled, so that the compiler knows it to be the same in the whole warp.
    const uint32_t index = __shfl_sync(0xffffffffu, shared.index[slot], 0);
    if (index >= a.order.all) return;
    attend<C>(shared, a, work_of<C>(a, index), slot, consumer, ring);
    // Copies will fill what was stored by way of the queries' rows.
    fence_proxy_async();
    release(&shared.queries_empty[slot]);
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attention_wgmma_forward_kernel(const __grid_constant__ Maps maps, const Attention a,
                                   uint32_t* const taken) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      mbarrier_init(&shared.queries_full[i], 1);
      mbarrier_init(&shared.queries_empty[i], 4 * C::kConsumers);
    }
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
  // Shuffled, so that the compiler knows it to be the same in the whole warp.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < kWarpgroup / 32) {
    lower_registers<C::kRegisters.load>();
    if (warp == 0) {
      if (elect_one()) produce<C>(shared, maps, a, taken);
      __syncwarp();
    }
  } else {
    raise_registers<C::kRegisters.multiply>();
    consume<C>(shared, a, warp / 4 - 1);
  }
#else
  __trap();  // has_wgmma keeps launches away
#endif
}

template <class C>
bool launch_config(Stream& stream, DType dtype, const Attention& a) {
  alignas(128) Maps maps;
  if (!encode_rows(&maps.q, a.q, a.batches, a.heads, a.queries, a.width, C::kRows) ||
      !encode_rows(&maps.k, a.k, a.batches, a.kv_heads, a.keys, a.width, C::kKeys) ||
      !encode_rows(&maps.v, a.v, a.batches, a.kv_heads, a.keys, a.width, C::kKeys)) {
    return false;
  }
  const Attention problem = ordered(stream, dtype, a, C::kRows, false);
  const uint32_t blocks =
      std::min(problem.order.all, static_cast<uint32_t>(multiprocessors(stream)));
  // Tiles that take equally long are dealt out in turn.
  uint32_t* taken = nullptr;
  if (problem.order.all > blocks && (a.causal || a.lengths)) {
    auto* const word = static_cast<uint64_t*>(acquire_scratch(stream, sizeof(uint64_t)));
    clear_words(stream, kAttentionName, word, 1);
    taken = reinterpret_cast<uint32_t*>(word);
  }
  launch(stream, kAttentionName, attention_wgmma_forward_kernel<C>, dim3(blocks), dim3(C::kThreads),
         sizeof(typename C::Shared), maps, problem, taken);
  if (taken) release_scratch(stream, taken);
  return true;
}

}  // namespace

bool launch_attention_wgmma_forward(Stream& stream, DType dtype, const Attention& a) {
  return with_wgmma_form(stream, dtype, a, [&]<class M, int kWidth, bool kSpecial>() {
    return launch_config<Config<M, kWidth, kSpecial>>(stream, dtype, a);
  });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
