// dQ, dK and dV of attention on sm_90a by wgmma and tensor copies, from lse and delta = Σ dO·O.
//
// P = exp(scores - lse), dS = P·(dO·Vᵀ - delta), dV = Pᵀ·dO, dK = scale·dSᵀ·Q, dQ = scale·dS·K.
// Two launches of one kernel, as in attention_backward.cu: a block holds 128 keys (K, V) and walks
// the queries of all heads that share them, for dK and dV; or holds 128 queries (Q, dO) and walks
// the keys, for dQ. The held rows, 64 for each of two warpgroups, are on the left, so that P and dS
// stay in registers as left operands of the next product. One thread of a third warpgroup brings
// tiles into a ring of stages, a warp what is known of walked queries. dO·Vᵀ runs under the
// exponentials, the product for dV under dS. No atomics, one fixed order.
// Cost: 14·T·S·D operations (half of it where causal), floor 14·T·S·D / 989e12 s on H100; a
// warpgroup reads 12·D bytes of shared memory for 512·D operations, in tiles of 64 walked rows.
#include "attention_wgmma.h"
#include "attention_wgmma_tile.h"
#include "launch.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// Walked rows of a tile, and whether all products end with it. Registers: sums take width/2, twice
// for keys, scores and slopes columns/2 each, and both as operands half of that; operands of
// products that run on into the next tile add to its scores.
struct Walk {
  int columns;
  bool drains;
};

constexpr Walk walk_of(int width, bool keys_are_held, bool special) {
  if (keys_are_held) return {special && width > 96 ? 32 : 64, !special && width > 96};
  return {special ? 64 : 128, !special && width > 64};
}

template <class M_, int kWidth_, bool kKeysAreHeld_, bool kSpecial_>
struct Config {
  using M = M_;
  using T = typename M::Element;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kKeysAreHeld = kKeysAreHeld_;
  static constexpr bool kSpecial = kSpecial_;  // masks, padding, dropout, scales not above 0
  static constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr RegisterShares kRegisters = register_shares(kConsumers);
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kColumns = walk_of(kWidth, kKeysAreHeld, kSpecial).columns;
  static constexpr bool kDrains = walk_of(kWidth, kKeysAreHeld, kSpecial).drains;
  static constexpr int C = kColumns / 8, W = kWidth / 8;

  using Held = WgmmaTile<T, kRows, kWidth>;
  using Walked = WgmmaTile<T, kColumns, kWidth>;
  static constexpr int kFitting = static_cast<int>((kMostHopperShared - 2 * sizeof(Held) - 4096) /
                                                   (2 * sizeof(Walked) + 8 * kColumns));
  static constexpr int kStages = kFitting < 3 ? kFitting : 3;

  struct Shared {
    Held a, b;  // K and V, or Q and dO
    struct {
      Walked a, b;  // Q and dO, or K and V
    } stages[kStages];
    struct {
      float lse[kColumns], delta[kColumns];  // lse times log2 e
    } queries[kStages];                      // that are walked
    Mbarrier held_full, full[kStages], empty[kStages];
  };
  static_assert(kStages >= 2 && sizeof(Shared) <= kMostHopperShared);
  static_assert(C % 2 == 0 && W % 4 == 0 && kRegisters.load < kRegisters.multiply);
  static_assert(!kDrains || kWidth > 64);
};

struct Maps {
  CUtensorMap held_a, held_b, walked_a, walked_b;
};

// A block's work: held rows from `first` to `held_end` - 1, of which those from `used_end` are keys
// behind the sample's length; walked rows from `begin` to `end` - 1 of some heads.
struct Work {
  int batch, held_head, first, held_end, used_end;
  int first_head, heads;
  int begin, end;
};

template <class C>
__device__ __forceinline__ Work work_of_block(const Attention& a) {
  const int queries = static_cast<int>(a.queries), keys = static_cast<int>(a.keys);
  const int group = static_cast<int>(a.heads / a.kv_heads);
  Work work;
  work.held_end = C::kKeysAreHeld ? keys : queries;
  const AttentionPlace at = attention_place(a, blockIdx.x, C::kRows, C::kKeysAreHeld);
  work.batch = static_cast<int>(at.batch);
  work.held_head = static_cast<int>(at.head);
  work.first = static_cast<int>(at.first);
  work.first_head = C::kKeysAreHeld ? work.held_head * group : work.held_head / group;
  work.heads = C::kKeysAreHeld ? group : 1;
  const int seen = keys_of(a, at.batch);
  work.used_end = C::kKeysAreHeld ? seen : queries;
  // Queries before the first key, and keys after the last query, are not walked.
  work.begin = C::kKeysAreHeld && a.causal ? work.first / C::kColumns * C::kColumns : 0;
  if (work.first >= work.used_end) {
    work.end = work.begin;
  } else if (C::kKeysAreHeld) {
    work.end = queries;
  } else {
    work.end = a.causal ? min(work.first + C::kRows, seen) : seen;
  }
  return work;
}

template <class C>
__device__ __forceinline__ void produce(typename C::Shared& shared, const Maps& maps,
                                        const Work& work) {
  if (work.begin >= work.end) return;
  load_tile(shared.a, &maps.held_a, work.first, work.held_head, work.batch, &shared.held_full);
  load_tile(shared.b, &maps.held_b, work.first, work.held_head, work.batch, &shared.held_full);
  Ring<C::kStages> ring;
  for (int head = work.first_head; head < work.first_head + work.heads; ++head) {
    for (int column = work.begin; column < work.end; column += C::kColumns) {
      Mbarrier* const full = &shared.full[ring.stage];
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      load_tile(shared.stages[ring.stage].a, &maps.walked_a, column, head, work.batch, full);
      load_tile(shared.stages[ring.stage].b, &maps.walked_b, column, head, work.batch, full);
      ring.advance();
    }
  }
}

// A warp brings lse and delta of walked queries; those beyond the last have no weight.
template <class C>
__device__ __forceinline__ void produce_statistics(typename C::Shared& shared, const Attention& a,
                                                   const Work& work) {
  Ring<C::kStages> ring;
  for (int head = work.first_head; head < work.first_head + work.heads; ++head) {
    const int64_t of_head = (static_cast<int64_t>(work.batch) * a.heads + head) * a.queries;
    for (int column = work.begin; column < work.end; column += C::kColumns) {
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      auto& to = shared.queries[ring.stage];
#pragma unroll
      for (int i = static_cast<int>(threadIdx.x) % 32; i < C::kColumns; i += 32) {
        const bool inside = column + i < work.end;
        const int64_t from = of_head + column + i;
        to.lse[i] = inside ? static_cast<const float*>(a.lse)[from] * kLog2E : INFINITY;
        to.delta[i] = inside ? static_cast<const float*>(a.delta)[from] : 0.0f;
      }
      mbarrier_arrive(&shared.full[ring.stage]);
      ring.advance();
    }
  }
}

// What a lane knows of two of its pieces' queries: rows g and g+8, or columns 2t and 2t+1.
struct Statistics {
  Vector<float, 2> lse, delta;
};

template <class C>
struct Sums {
  Pieces<C::W> a;                        // dK or dQ
  Pieces<C::kKeysAreHeld ? C::W : 1> b;  // dV
  uint32_t slopes[C::C / 2][4];          // dS, of products that may run
  uint32_t weights[C::C / 2][4];         // P, the same
};

// One tile of walked rows.
template <class C>
__device__ __forceinline__ void add_tile(typename C::Shared& shared, const Attention& a,
                                         const ScorePlace& place, int group_row, int stage_index,
                                         const Statistics& of_rows, Sums<C>& sums,
                                         Mbarrier* previous) {
  using M = typename C::M;
  constexpr bool kKeysAreHeld = C::kKeysAreHeld;
  const int t = static_cast<int>(threadIdx.x) % 4;
  auto& stage = shared.stages[stage_index];
  const auto& walked = shared.queries[stage_index];
  Pieces<C::C> p, ds;
  wgmma_touch(registers_of(p));
  wgmma_touch(registers_of(ds));
  wgmma_fence();
  begin_scores<M>(shared.a, group_row, stage.a, p);
  wgmma_commit();
  begin_scores<M>(shared.b, group_row, stage.b, ds);
  wgmma_commit();
  wgmma_wait<1>();
  wgmma_touch(registers_of(p));
  if constexpr (!C::kDrains) {
    keep_weights(sums.slopes);
    if constexpr (kKeysAreHeld) keep_weights(sums.weights);
    if (previous) release(previous);
  }

  // Keys beyond the last need a mask where sums run over them.
  const bool below = !a.causal || (kKeysAreHeld ? place.column >= place.row + 15
                                                : place.column + C::kColumns <= place.row + 1);
  const bool whole = kKeysAreHeld || place.column + C::kColumns <= keys_of(a, place.batch);
  if constexpr (C::kSpecial) {
    if (!below || !whole || a.mask.data || a.padding || a.mask_scales) {
      mask_scores<typename C::T, kKeysAreHeld>(a, place, p);
    }
  } else {
    if (!below || !whole) {
      hide_unseen<kKeysAreHeld>(a, place, p, [](int) { return false; });
    }
  }
#pragma unroll
  for (int c = 0; c < C::C; ++c) {
    const auto lse = kKeysAreHeld ? load_vector<2>(walked.lse + 8 * c + 2 * t) : of_rows.lse;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      p[0][c][e] = exp2_fast(fmaf(p[0][c][e], a.factor, -lse[kKeysAreHeld ? e % 2 : e / 2]));
    }
  }
  uint32_t kept[(C::C + 7) / 8];
#pragma unroll
  for (uint32_t& word : kept) word = 0xffffffffu;
  const bool drops = C::kSpecial && a.state;
  if constexpr (C::kSpecial) {
    if (drops) kept_words<kKeysAreHeld, C::C>(a, place, kept);
  }
  const auto stays = [&](int c, int e) {
    return !C::kSpecial || (kept[c / 8] >> (4 * (c % 8) + e) & 1);
  };

  if constexpr (kKeysAreHeld) {
    Pieces<C::C> weights;
    for_scores(weights,
               [&](int, int c, int e, float& weight) { weight = stays(c, e) ? p[0][c][e] : 0.0f; });
    scores_as_weights<M>(weights, sums.weights);
    keep_weights(sums.weights);
    wgmma_fence();
    begin_sums<M>(sums.weights, stage.b, sums.b);
    wgmma_commit();
    wgmma_wait<1>();
  } else {
    wgmma_wait<0>();
  }
  wgmma_touch(registers_of(ds));
#pragma unroll
  for (int c = 0; c < C::C; ++c) {
    const auto delta = kKeysAreHeld ? load_vector<2>(walked.delta + 8 * c + 2 * t) : of_rows.delta;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& slope = ds[0][c][e];
      if (drops) slope = stays(c, e) ? slope * a.inverse_keep : 0.0f;
      slope = p[0][c][e] * (slope - delta[kKeysAreHeld ? e % 2 : e / 2]);
    }
  }
  scores_as_weights<M>(ds, sums.slopes);
  keep_weights(sums.slopes);
  wgmma_fence();
  begin_sums<M>(sums.slopes, stage.a, sums.a);
  wgmma_commit();
  if constexpr (C::kDrains) {
    wgmma_wait<0>();
    keep_weights(sums.slopes);
    if constexpr (kKeysAreHeld) keep_weights(sums.weights);
    release(&shared.empty[stage_index]);
  }
}

template <class C>
__device__ __forceinline__ void consume(typename C::Shared& shared, const Attention& a,
                                        const Work& work, int consumer) {
  using T = typename C::T;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  const int group_row = 64 * consumer, first = work.first + group_row;
  const int warp_row = group_row + static_cast<int>(threadIdx.x) / 32 % 4 * 16;
  const int row = work.first + warp_row;
  // Of the block's walked rows, those that count for the warpgroup's own.
  int begin = work.begin, end = work.end;
  if (first >= work.used_end) {
    begin = end;
  } else if (a.causal && C::kKeysAreHeld) {
    begin = min(first / C::kColumns * C::kColumns, end);
  } else if (a.causal) {
    end = min(first + 64, end);
  }

  Statistics of_rows = {};
  if constexpr (!C::kKeysAreHeld) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int i = row + g + 8 * h;
      const int64_t from =
          (static_cast<int64_t>(work.batch) * a.heads + work.held_head) * a.queries + i;
      const bool inside = i < work.held_end;
      of_rows.lse[h] = inside ? static_cast<const float*>(a.lse)[from] * kLog2E : INFINITY;
      of_rows.delta[h] = inside ? static_cast<const float*>(a.delta)[from] : 0.0f;
    }
  }

  Sums<C> sums = {};
  Ring<C::kStages> ring;
  const auto pass_by = [&](int column, int until) {
    for (; column < until; column += C::kColumns) {
      mbarrier_wait(&shared.full[ring.stage], ring.parity);
      release(&shared.empty[ring.stage]);
      ring.advance();
    }
  };
  if (work.begin < work.end) mbarrier_wait(&shared.held_full, 0);
  for (int head = work.first_head; head < work.first_head + work.heads; ++head) {
    pass_by(work.begin, begin);
    Mbarrier* previous = nullptr;
    int column = begin;
    for (; column < end; column += C::kColumns) {
      mbarrier_wait(&shared.full[ring.stage], ring.parity);
      const ScorePlace place = {work.batch, C::kKeysAreHeld ? head : work.held_head, row, column};
      add_tile<C>(shared, a, place, group_row, ring.stage, of_rows, sums, previous);
      previous = &shared.empty[ring.stage];
      ring.advance();
    }
    if constexpr (!C::kDrains) {
      wgmma_wait<0>();
      keep_weights(sums.slopes);
      if constexpr (C::kKeysAreHeld) keep_weights(sums.weights);
      if (previous) release(previous);
    }
    pass_by(column, work.end);
  }
  wgmma_touch(registers_of(sums.a));
  if constexpr (C::kKeysAreHeld) {
    wgmma_touch(registers_of(sums.b));
    clear_unseen(sums.a, row, work.used_end);
    clear_unseen(sums.b, row, work.used_end);
  }

  // Sums leave by way of the held rows, once no warp of the warpgroup multiplies them.
  named_barrier_sync(1 + consumer, kWarpgroup);
  const auto store = [&](auto& tile, const auto& pieces, float factor, const AttentionOperand& to) {
    const float scale[1][2] = {{factor, factor}};
    store_rows<T>(tile, warp_row, 0, pieces, scale, to,
                  row_of<T>(to, work.batch, work.held_head, 0), row, work.held_end,
                  static_cast<int>(a.width));
  };
  store(shared.a, sums.a, static_cast<float>(a.scale), C::kKeysAreHeld ? a.dk : a.dq);
  if constexpr (C::kKeysAreHeld) store(shared.b, sums.b, a.inverse_keep, a.dv);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attention_wgmma_backward_kernel(const __grid_constant__ Maps maps, const Attention a) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.held_full, 2);
    for (int i = 0; i < C::kStages; ++i) {
      mbarrier_init(&shared.full[i], C::kKeysAreHeld ? 2 + 32 : 2);
      mbarrier_init(&shared.empty[i], 4 * C::kConsumers);
    }
    fence_mbarrier_init();
    prefetch_tensor_map(&maps.held_a);
    prefetch_tensor_map(&maps.held_b);
    prefetch_tensor_map(&maps.walked_a);
    prefetch_tensor_map(&maps.walked_b);
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
    } else if (C::kKeysAreHeld && warp == 1) {
      produce_statistics<C>(shared, a, work);
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
bool launch_pass(Stream& stream, DType dtype, const Attention& a) {
  const AttentionOperand& held_a = C::kKeysAreHeld ? a.k : a.q;
  const AttentionOperand& held_b = C::kKeysAreHeld ? a.v : a.dout;
  const AttentionOperand& walked_a = C::kKeysAreHeld ? a.q : a.k;
  const AttentionOperand& walked_b = C::kKeysAreHeld ? a.dout : a.v;
  const int64_t held_heads = C::kKeysAreHeld ? a.kv_heads : a.heads;
  const int64_t walked_heads = C::kKeysAreHeld ? a.heads : a.kv_heads;
  const int64_t held = C::kKeysAreHeld ? a.keys : a.queries;
  const int64_t walked = C::kKeysAreHeld ? a.queries : a.keys;
  alignas(128) Maps maps;
  if (!encode_rows(&maps.held_a, held_a, a.batches, held_heads, held, a.width, C::kRows) ||
      !encode_rows(&maps.held_b, held_b, a.batches, held_heads, held, a.width, C::kRows) ||
      !encode_rows(&maps.walked_a, walked_a, a.batches, walked_heads, walked, a.width,
                   C::kColumns) ||
      !encode_rows(&maps.walked_b, walked_b, a.batches, walked_heads, walked, a.width,
                   C::kColumns)) {
    return false;
  }
  const Attention problem = ordered(stream, dtype, a, C::kRows, C::kKeysAreHeld);
  launch(stream, kAttentionName, attention_wgmma_backward_kernel<C>, dim3(problem.order.all),
         dim3(C::kThreads), sizeof(typename C::Shared), maps, problem);
  return true;
}

}  // namespace

bool launch_attention_wgmma_backward(Stream& stream, DType dtype, const Attention& a) {
  return with_wgmma_form(stream, dtype, a, [&]<class M, int kWidth, bool kSpecial>() {
    return launch_pass<Config<M, kWidth, true, kSpecial>>(stream, dtype, a) &&
           launch_pass<Config<M, kWidth, false, kSpecial>>(stream, dtype, a);
  });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
