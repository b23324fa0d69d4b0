// The gradients of attention (attention.cc): weights are computed anew from lse, tile by tile.
// Cost: 10·T·S·D flops, 14 where few heads are cut into tiles of keys and tiles of queries.
#include "cpu/attention_tile.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kFewHeads = 16;  // fewer pairs of batch and key head are cut further
constexpr int64_t kManyTiles = 4;  // where there are so many tiles

// What backward computes in a chunk: tiles of queries of some heads against tiles of keys.
struct Range {
  int64_t batch, kv_head, first_head, last_head;
  int64_t first_query, last_query, first_key, last_key;
  bool queries, keys;  // which gradients are stored
};

// P^T (after dropout) in scores, dS^T·scale in slopes.
template <class T>
void slopes_of(const Attention& a, const Place& at, const Workspace<T>& w, Rows<T> k, Rows<T> v) {
  const Cut cut = diagonal(a, at) ? Cut::rows_after : Cut::none;
  product(k.data, k.stride, true, at.keys, w.turned_q, kTile, at.lanes, a.width, w.scores, kTile,
          false, cut);
  product(v.data, v.stride, true, at.keys, w.turned_dout, kTile, at.lanes, a.width, w.slopes, kTile,
          false, cut);
  mask_scores(a, at, w);
  if (a.state) draw_kept(a, at, w);
  const T scale = static_cast<T>(a.scale);
  const T *lse = w.max, *delta = w.delta;
  for (int64_t j = 0; j < at.keys; ++j) {
    T* p = w.scores + j * kTile;
    T* ds = w.slopes + j * kTile;
    const T* kept = w.turned + j * kTile;
    const int64_t start = first_lane<T>(a, at, j);
    for (int64_t i = 0; i < start; ++i) p[i] = ds[i] = T(0);
    if (a.state) {
#pragma GCC ivdep
      for (int64_t i = start; i < at.lanes; ++i) {
        const T e = weight_of(p[i] - lse[i]);
        ds[i] = e * (ds[i] * kept[i] - delta[i]) * scale;
        p[i] = e * kept[i];
      }
    } else {
#pragma GCC ivdep
      for (int64_t i = start; i < at.lanes; ++i) {
        const T e = weight_of(p[i] - lse[i]);
        ds[i] = e * (ds[i] - delta[i]) * scale;
        p[i] = e;
      }
    }
  }
}

// Σ dO·O per query, and its lse; no weight for lanes beyond the last query.
template <class T, class S>
void load_statistics(const Attention& a, const Place& at, const Workspace<T>& w, Rows<T> dout) {
  const Rows<T> out = rows_of<T, S>(a, a.out, at.batch, at.head, at.first, at.count, w.out);
  const T* lse =
      static_cast<const T*>(a.lse) + (at.batch * a.heads + at.head) * a.queries + at.first;
  const int64_t padded = round_up(a.width, kLanes<T>);
  for (int64_t i = 0; i < kTile; ++i) {
    w.max[i] = i < at.count ? lse[i] : -kLowest<T>;
    Vector<T> sums = {};
    if (i < at.count) {
      for (int64_t d = 0; d < padded; d += kLanes<T>) {
        sums += load(out.data + i * out.stride + d) * load(dout.data + i * dout.stride + d);
      }
    }
    T total = T(0);
    for (int n = 0; n < kLanes<T>; ++n) total += sums[n];
    w.delta[i] = total;
  }
}

template <class T, class S>
void backward_range(const Attention& a, const Range& r) {
  Workspace<T> w;
  if (!w.acquire(a, true, r.last_key - r.first_key)) {
    fail("scaledDotProductAttention: out of memory for a tile");
  }
  const int64_t padded = round_up(a.width, kLanes<T>);
  if (r.keys) {
    for (int64_t i = 0; i < (r.last_key - r.first_key) * padded; ++i) w.dk[i] = w.dv[i] = T(0);
  }
  Place at;
  at.batch = r.batch;
  for (at.head = r.first_head; at.head < r.last_head; ++at.head) {
    // Queries before the first key see none of these.
    const int64_t start = a.causal && !r.queries ? r.first_key / kTile * kTile : 0;
    for (at.first = start > r.first_query ? start : r.first_query; at.first < r.last_query;
         at.first += kTile) {
      at.count = smaller(kTile, r.last_query - at.first);
      at.lanes = round_up(at.count, kLanes<T>);
      const Rows<T> q = rows_of<T, S>(a, a.q, at.batch, at.head, at.first, at.count, w.q);
      const Rows<T> dout = rows_of<T, S>(a, a.dout, at.batch, at.head, at.first, at.count, w.dout);
      turn_rows(q, at.count, a.width, static_cast<T>(a.scale), w.turned_q);
      turn_rows(dout, at.count, a.width, T(1), w.turned_dout);
      load_statistics<T, S>(a, at, w, dout);
      for (int64_t i = 0; i < at.count * padded; ++i) w.dq[i] = T(0);
      const int64_t seen = smaller(r.last_key, keys_of(a, r.batch));
      const int64_t end = a.causal ? smaller(seen, at.first + at.count) : seen;
      for (at.key0 = r.first_key; at.key0 < end; at.key0 += kTile) {
        at.keys = smaller(kTile, end - at.key0);
        const Rows<T> k = rows_of<T, S>(a, a.k, at.batch, r.kv_head, at.key0, at.keys, w.k);
        const Rows<T> v = rows_of<T, S>(a, a.v, at.batch, r.kv_head, at.key0, at.keys, w.v);
        slopes_of(a, at, w, k, v);
        const int64_t row = (at.key0 - r.first_key) * padded;
        const Cut over_queries = diagonal(a, at) ? Cut::before_row : Cut::none;
        if (r.keys) {
          product(w.scores, kTile, true, at.keys, dout.data, dout.stride, padded, at.count,
                  w.dv + row, padded, true, over_queries);
          product(w.slopes, kTile, true, at.keys, q.data, q.stride, padded, at.count, w.dk + row,
                  padded, true, over_queries);
        }
        if (r.queries) {
          product(w.slopes, kTile, false, at.count, k.data, k.stride, padded, at.keys, w.dq, padded,
                  true, diagonal(a, at) ? Cut::after_row : Cut::none);
        }
      }
      if (r.queries) {
        store_rows<T, S>(a, w.dq, nullptr, a.dq, at.batch, at.head, at.first, at.count);
      }
    }
  }
  if (r.keys) {
    const int64_t count = r.last_key - r.first_key;
    store_rows<T, S>(a, w.dk, nullptr, a.dk, r.batch, r.kv_head, r.first_key, count);
    store_rows<T, S>(a, w.dv, nullptr, a.dv, r.batch, r.kv_head, r.first_key, count);
  }
}

// All of a key head at once.
template <class T, class S>
void backward_kernel(const void* raw, int64_t chunk) {
  const Attention& a = *static_cast<const Attention*>(raw);
  const int64_t head = chunk % a.kv_heads, group = a.heads / a.kv_heads;
  backward_range<T, S>(a, {chunk / a.kv_heads, head, head * group, (head + 1) * group, 0, a.queries,
                           0, a.keys, true, true});
}

template <class T, class S>
void backward_keys_kernel(const void* raw, int64_t chunk) {
  const Attention& a = *static_cast<const Attention*>(raw);
  const int64_t head = chunk / a.key_tiles % a.kv_heads, group = a.heads / a.kv_heads;
  const int64_t key = chunk % a.key_tiles * kTile;
  backward_range<T, S>(a, {chunk / a.key_tiles / a.kv_heads, head, head * group, (head + 1) * group,
                           0, a.queries, key, smaller(key + kTile, a.keys), false, true});
}

template <class T, class S>
void backward_queries_kernel(const void* raw, int64_t chunk) {
  const Attention& a = *static_cast<const Attention*>(raw);
  const int64_t head = chunk / a.query_tiles % a.heads;
  const int64_t query = chunk % a.query_tiles * kTile;
  backward_range<T, S>(
      a, {chunk / a.query_tiles / a.heads, head * a.kv_heads / a.heads, head, head + 1, query,
          smaller(query + kTile, a.queries), 0, a.keys, true, false});
}

constexpr Kernels kBackward = NODEGRAD_KERNELS(backward_kernel);
constexpr Kernels kBackwardKeys = NODEGRAD_KERNELS(backward_keys_kernel);
constexpr Kernels kBackwardQueries = NODEGRAD_KERNELS(backward_queries_kernel);

}  // namespace

void attention_backward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse,
                        const View& dout, const View& dq, const View& dk, const View& dv) {
  Attention a = attention_of(args, lse);
  a.out = operand_of(out);
  a.dout = operand_of(dout);
  a.dq = operand_of(dq);
  a.dk = operand_of(dk);
  a.dv = operand_of(dv);
  const int64_t heads = a.batch * a.kv_heads;
  const DType dtype = args.q.dtype;
  if (heads >= kFewHeads || (a.query_tiles < kManyTiles && a.key_tiles < kManyTiles)) {
    run(stream, "attention_backward", kBackward, dtype, a, heads);
    return;
  }
  run(stream, "attention_backward_keys", kBackwardKeys, dtype, a, heads * a.key_tiles);
  run(stream, "attention_backward_queries", kBackwardQueries, dtype, a,
      a.batch * a.heads * a.query_tiles);
}

}  // namespace nodegrad::cpu::NODEGRAD_ISA
