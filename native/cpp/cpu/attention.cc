// Scaled dot-product attention by tiles of 64 queries and 64 keys: O = softmax(scale·Q·Kᵀ +
// mask)·V.
//
// Forward keeps a running maximum and sum per query (Milakov and Gimelshein 2018; Dao et al.,
// "FlashAttention", 2022) and saves lse = max + ln Σ; backward computes P = exp(S - lse) anew.
// Scores lie transposed, [key][query]: K is the left operand of S^T = K·Q^T as it lies, softmax
// runs along whole vectors of queries, and S^T is the left operand of both P·V (by columns) and
// P^T·dO (by rows). Only Q and dO are transposed, once per tile.
// Rows are read where they lie if they are whole vectors of the type of arithmetic, else copied.
// Cost: 4·T·S·D flops; memory O(T·D) per head. Sums run in an order that the sizes decide.
#include "cpu/attention_tile.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

// Scores to exp(S - max), with sum and maximum brought up to date; base[i] becomes the factor that
// what was summed before must take.
template <class T>
void exponentiate(const Attention& a, const Place& at, const Workspace<T>& w) {
  const int64_t lanes = at.lanes;
  T *max = w.max, *part = w.part, *base = w.base;
  for (int64_t i = 0; i < lanes; ++i) part[i] = max[i];
  for (int64_t j = 0; j < at.keys; ++j) {
    const T* s = w.scores + j * kTile;
#pragma GCC ivdep
    for (int64_t i = first_lane<T>(a, at, j); i < lanes; ++i)
      part[i] = s[i] > part[i] ? s[i] : part[i];
  }
  for (int64_t i = 0; i < lanes; ++i) {
    const T top = part[i] == kLowest<T> ? T(0) : part[i];
    base[i] = weight_of(max[i] - top);
    max[i] = part[i];
    w.delta[i] = top;
    part[i] = T(0);
  }
  const T* top = w.delta;
  for (int64_t j = 0; j < at.keys; ++j) {
    T* s = w.scores + j * kTile;
    const int64_t start = first_lane<T>(a, at, j);
    for (int64_t i = 0; i < start; ++i) s[i] = T(0);
#pragma GCC ivdep
    for (int64_t i = start; i < lanes; ++i) {
      const T e = weight_of(s[i] - top[i]);
      s[i] = e;
      part[i] += e;
    }
  }
  for (int64_t i = 0; i < lanes; ++i) w.sum[i] = w.sum[i] * base[i] + part[i];
}

template <class T, class S>
void forward_kernel(const void* raw, int64_t chunk) {
  const Attention& a = *static_cast<const Attention*>(raw);
  Workspace<T> w;
  if (!w.acquire(a, false, 0)) fail("scaledDotProductAttention: out of memory for a tile");
  const int64_t padded = round_up(a.width, kLanes<T>);
  Place at;
  at.first = chunk % a.query_tiles * kTile;
  at.head = chunk / a.query_tiles % a.heads;
  at.batch = chunk / a.query_tiles / a.heads;
  at.count = smaller(kTile, a.queries - at.first);
  at.lanes = round_up(at.count, kLanes<T>);
  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  turn_rows(rows_of<T, S>(a, a.q, at.batch, at.head, at.first, at.count, w.q), at.count, a.width,
            static_cast<T>(a.scale), w.turned_q);
  for (int64_t i = 0; i < kTile; ++i) {
    w.max[i] = kLowest<T>;
    w.sum[i] = T(0);
  }
  for (int64_t i = 0; i < at.count * padded; ++i) w.out[i] = T(0);
  const int64_t keys = keys_of(a, at.batch);
  const int64_t end = a.causal ? smaller(keys, at.first + at.count) : keys;
  for (at.key0 = 0; at.key0 < end; at.key0 += kTile) {
    at.keys = smaller(kTile, end - at.key0);
    const Rows<T> k = rows_of<T, S>(a, a.k, at.batch, kv_head, at.key0, at.keys, w.k);
    product(k.data, k.stride, true, at.keys, w.turned_q, kTile, at.lanes, a.width, w.scores, kTile,
            false, diagonal(a, at) ? Cut::rows_after : Cut::none);
    mask_scores(a, at, w);
    exponentiate(a, at, w);
    if (a.state) {
      draw_kept(a, at, w);
      for (int64_t j = 0; j < at.keys; ++j) {
#pragma GCC ivdep
        for (int64_t i = 0; i < at.lanes; ++i) w.scores[j * kTile + i] *= w.turned[j * kTile + i];
      }
    }
    if (at.key0 > 0) {
      for (int64_t i = 0; i < at.count; ++i) {
#pragma GCC ivdep
        for (int64_t d = 0; d < padded; ++d) w.out[i * padded + d] *= w.base[i];
      }
    }
    const Rows<T> v = rows_of<T, S>(a, a.v, at.batch, kv_head, at.key0, at.keys, w.v);
    product(w.scores, kTile, false, at.count, v.data, v.stride, padded, at.keys, w.out, padded,
            at.key0 > 0, diagonal(a, at) ? Cut::after_row : Cut::none);
  }
  T* lse = static_cast<T*>(a.lse) + (at.batch * a.heads + at.head) * a.queries + at.first;
  for (int64_t i = 0; i < at.count; ++i) {
    const bool empty = w.max[i] == kLowest<T>;
    lse[i] = empty ? -kLowest<T> : w.max[i] + m_log(w.sum[i]);
    w.part[i] = empty ? T(0) : T(1) / w.sum[i];
  }
  store_rows<T, S>(a, w.out, w.part, a.out, at.batch, at.head, at.first, at.count);
}

constexpr Kernels kForward = NODEGRAD_KERNELS(forward_kernel);

void forward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse) {
  Attention a = attention_of(args, lse);
  a.out = operand_of(out);
  run(stream, "attention", kForward, args.q.dtype, a, a.batch * a.heads * a.query_tiles);
}

}  // namespace

extern const AttentionFamily attention_family;
const AttentionFamily attention_family = {forward, attention_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
