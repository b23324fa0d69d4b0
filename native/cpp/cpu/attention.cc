// Scaled dot-product attention by tiles of 64 queries and 64 keys: O = softmax(scale·Q·Kᵀ +
// mask)·V.
//
// Forward keeps a running maximum and sum per query (Milakov and Gimelshein 2018; Dao et al.,
// "FlashAttention", 2022) and saves lse = max + ln Σ; backward computes P = exp(S - lse) anew.
// Scores lie transposed, [key][query]: K is the left operand of S^T = K·Q^T as it lies, softmax
// runs along whole vectors of queries, and S^T is the left operand of both P·V (by columns) and
// P^T·dO (by rows). Only Q and dO are transposed, once per tile.
// Rows are read where they lie if they are whole vectors of the type of arithmetic, else copied.
// Cost: 4·T·S·D flops forward, 10 backward (14 where few heads are cut into tiles of keys and tiles
// of queries); memory O(T·D) per head. Sums run in an order that the sizes decide.
#include "core/backend.h"
#include "core/error.h"
#include "core/philox.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tiles.h"
#include "cpu/launch.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTile = 64;      // queries, and keys, of a tile
constexpr int64_t kFewHeads = 16;  // fewer pairs of batch and key head are cut further
constexpr int64_t kManyTiles = 4;  // where there are so many tiles

// A [batch][head][row][D] tensor whose rows are contiguous.
struct Operand {
  void* data;
  int64_t batch, head, row;
};

struct Attention {
  Operand q, k, v, out, dout, dq, dk, dv;
  const void* mask;
  LoadRow load_mask;
  int64_t mask_bytes, mask_strides[4];
  const uint8_t* padding;
  int64_t padding_batch, padding_key;
  const int32_t* lengths;
  const int64_t* state;
  void* lse;
  int64_t batch, heads, kv_heads, queries, keys, width;
  int64_t query_tiles, key_tiles;
  double scale, keep;
  bool causal, mask_is_bool;
};

// How many keys of a sample are seen.
int64_t keys_of(const Attention& a, int64_t batch) {
  if (!a.lengths) return a.keys;
  const int64_t length = a.lengths[batch];
  return length < 0 ? 0 : smaller(length, a.keys);
}

template <class T>
constexpr T kLowest = -static_cast<T>(__builtin_inff());

// Rows of T, each followed by zeros up to a whole vector.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
};

template <class T, class S>
Rows<T> rows_of(const Attention& a, const Operand& from, int64_t batch, int64_t head, int64_t first,
                int64_t count, T* buffer) {
  const S* p =
      static_cast<const S*>(from.data) + batch * from.batch + head * from.head + first * from.row;
  const int64_t padded = round_up(a.width, kLanes<T>);
  if constexpr (sizeof(S) == sizeof(T)) {
    if (padded == a.width) return {p, from.row};
  }
  for (int64_t i = 0; i < count; ++i) {
    load_row<S, T>(p + i * from.row, 1, buffer + i * padded, a.width);
    for (int64_t d = a.width; d < padded; ++d) buffer[i * padded + d] = T(0);
  }
  return {buffer, padded};
}

// Rows of T, each times factor[i] where given, to where they belong.
template <class T, class S>
void store_rows(const Attention& a, const T* rows, const T* factor, const Operand& to,
                int64_t batch, int64_t head, int64_t first, int64_t count) {
  const int64_t padded = round_up(a.width, kLanes<T>);
  S* p = static_cast<S*>(to.data) + batch * to.batch + head * to.head + first * to.row;
  for (int64_t i = 0; i < count; ++i) {
    const T scale = factor ? factor[i] : T(1);
#pragma GCC ivdep
    for (int64_t d = 0; d < a.width; ++d) {
      p[i * to.row + d] = Stored<S>::store(rows[i * padded + d] * scale);
    }
  }
}

// What a product leaves out in a causal tile on the diagonal, where keys after the query weigh 0:
// rows (keys) after a panel's queries; what follows a row (a query) in k; what comes before it.
enum class Cut { none, rows_after, after_row, before_row };

// c[rows][columns] = [c +] A·B over k; columns is a whole number of vectors.
template <class T>
void product(const T* a, int64_t a_stride, bool by_rows, int64_t rows, const T* b, int64_t b_stride,
             int64_t columns, int64_t k, T* c, int64_t c_stride, bool add, Cut cut) {
  for (int64_t j = 0; j < columns; j += kColumns<T>) {
    const int vectors = static_cast<int>(smaller(kColumns<T>, columns - j) / kLanes<T>);
    const int64_t used = cut == Cut::rows_after ? smaller(rows, j + kColumns<T>) : rows;
    const int64_t tiles = divide_up(used, kRows), height = used / tiles, taller = used % tiles;
    int64_t row = 0;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t count = height + (t < taller);
      const int64_t from = cut == Cut::before_row ? row : 0;
      const int64_t to = cut == Cut::after_row ? smaller(k, row + count) : k;
      const T* const left = by_rows ? a + row * a_stride + from : a + row + from * a_stride;
      kKernels<T>.get(by_rows, vectors, static_cast<int>(count))(
          to - from, left, a_stride, b + from * b_stride + j, b_stride, c + row * c_stride + j,
          c_stride, add);
      row += count;
    }
  }
}

// The memory of a chunk, cut from one piece.
template <class T>
struct Workspace {
  T *scores, *slopes;              // [key][kTile]: S^T, P^T; dP^T, dS^T
  T *turned_q, *turned_dout;       // [D][kTile]
  T *loaded, *turned;              // [kTile][kTile]: the mask or what dropout keeps
  T *q, *k, *v, *out, *dout, *dq;  // [kTile][padded D]
  T *dk, *dv;                      // [keys][padded D]
  T *max, *sum, *base, *part, *delta;

  bool acquire(const Attention& a, bool backward, int64_t keys) {
    const int64_t tile = kTile * kTile, rows = kTile * round_up(a.width, kLanes<T>);
    const int64_t turned_rows = kTile * a.width + kTile;
    const int64_t gradients = backward ? keys * round_up(a.width, kLanes<T>) : 0;
    const int64_t total = 4 * tile + 2 * turned_rows + 6 * rows + 2 * gradients + 5 * kTile;
    T* at = static_cast<T*>(thread_scratch(sizeof(T) * static_cast<size_t>(total)));
    if (!at) return false;
    T** const tiles[] = {&scores, &slopes, &loaded, &turned};
    T** const columns[] = {&turned_q, &turned_dout};
    T** const lines[] = {&q, &k, &v, &out, &dout, &dq};
    T** const sums[] = {&dk, &dv};
    T** const lists[] = {&max, &sum, &base, &part, &delta};
    for (T** p : tiles) take(p, &at, tile);
    for (T** p : columns) take(p, &at, turned_rows);
    for (T** p : lines) take(p, &at, rows);
    for (T** p : sums) take(p, &at, gradients);
    for (T** p : lists) take(p, &at, kTile);
    return true;
  }
  static void take(T** p, T** at, int64_t size) {
    *p = *at;
    *at += size;
  }
};

// A tile's place: queries first … of one head against keys key0 … .
struct Place {
  int64_t batch, head, first, count, lanes, key0, keys;  // lanes: count in whole vectors
};

// Tiles of queries and keys start alike, so that a causal tile is on the diagonal or below it.
NODEGRAD_INLINE bool diagonal(const Attention& a, const Place& at) {
  return a.causal && at.key0 == at.first;
}

// The first whole vector of queries that has any which see key j of the tile.
template <class T>
NODEGRAD_INLINE int64_t first_lane(const Attention& a, const Place& at, int64_t j) {
  return diagonal(a, at) ? j / kLanes<T> * kLanes<T> : 0;
}

template <class T>
void turn_rows(Rows<T> rows, int64_t count, int64_t width, T scale, T* to) {
  transpose_panel(rows.data, rows.stride, count, width, to, kTile);
  const int64_t lanes = round_up(count, kLanes<T>);
  if (scale == T(1)) return;
  for (int64_t d = 0; d < width; ++d) {
#pragma GCC ivdep
    for (int64_t i = 0; i < lanes; ++i) to[d * kTile + i] *= scale;
  }
}

// Adds the mask to the scores, and takes out keys that a query must not see.
template <class T>
void mask_scores(const Attention& a, const Place& at, const Workspace<T>& w) {
  if (a.mask) {
    const int64_t* strides = a.mask_strides;
    for (int64_t i = 0; i < at.count; ++i) {
      const int64_t offset = at.batch * strides[0] + at.head * strides[1] +
                             (at.first + i) * strides[2] + at.key0 * strides[3];
      T* row = w.loaded + i * kTile;
      if (a.mask_is_bool) {
        const uint8_t* from = static_cast<const uint8_t*>(a.mask) + offset;
        for (int64_t j = 0; j < at.keys; ++j) row[j] = from[j * strides[3]] ? T(0) : kLowest<T>;
      } else {
        const char* from = static_cast<const char*>(a.mask) + offset * a.mask_bytes;
        a.load_mask(from, strides[3], row, at.keys);
      }
    }
    transpose_panel(w.loaded, kTile, at.count, at.keys, w.turned, kTile);
    for (int64_t j = 0; j < at.keys; ++j) {
      T* s = w.scores + j * kTile;
      const T* m = w.turned + j * kTile;
#pragma GCC ivdep
      for (int64_t i = 0; i < at.lanes; ++i) s[i] = m[i] == kLowest<T> ? m[i] : s[i] + m[i];
    }
  }
  if (a.padding) {
    for (int64_t j = 0; j < at.keys; ++j) {
      if (!a.padding[at.batch * a.padding_batch + (at.key0 + j) * a.padding_key]) continue;
      for (int64_t i = 0; i < at.lanes; ++i) w.scores[j * kTile + i] = kLowest<T>;
    }
  }
  if (diagonal(a, at)) {
    for (int64_t j = 0; j < at.keys; ++j) {
      for (int64_t i = first_lane<T>(a, at, j); i < j; ++i) w.scores[j * kTile + i] = kLowest<T>;
    }
  }
}

// turned[key][query] = 1/keep where the weight is kept, else 0.
template <class T>
void draw_kept(const Attention& a, const Place& at, const Workspace<T>& w) {
  const T factor = static_cast<T>(1.0 / a.keep);
  const int64_t counters = divide_up(a.keys, 4);
  for (int64_t i = 0; i < at.count; ++i) {
    const int64_t row = (at.batch * a.heads + at.head) * a.queries + at.first + i;
    const uint64_t counter =
        static_cast<uint64_t>(a.state[1]) + static_cast<uint64_t>(row * counters + at.key0 / 4);
    alignas(64) uint32_t words[kTile];
    for (int64_t j = 0; j < divide_up(at.keys, 4); ++j) {
      const Philox4 r =
          philox(static_cast<uint64_t>(a.state[0]), counter + static_cast<uint64_t>(j));
      for (int64_t n = 0; n < 4; ++n) words[4 * j + n] = r.word[n];
    }
    for (int64_t j = 0; j < at.keys; ++j) {
      const double u = static_cast<double>(uniform_from_bits(words[j]));
      w.loaded[i * kTile + j] = u < a.keep ? factor : T(0);
    }
  }
  transpose_panel(w.loaded, kTile, at.count, at.keys, w.turned, kTile);
}

// exp(x), but 0 where it is below any that matters beside others: masked scores and far ones would
// take the slow path of subnormal numbers.
NODEGRAD_INLINE float weight_of(float x) {
  return blend(x < -87.0f, 0.0f, m_exp(blend(x < -87.0f, -87.0f, x)));
}
NODEGRAD_INLINE double weight_of(double x) { return m_exp(x); }

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

Operand operand_of(const View& v) { return {v.data, v.strides[0], v.strides[1], v.strides[2]}; }

Attention attention_of(const AttentionArgs& args, const View& lse) {
  Attention a;
  a.q = operand_of(args.q);
  a.k = operand_of(args.k);
  a.v = operand_of(args.v);
  a.out = a.dout = a.dq = a.dk = a.dv = {};
  a.mask = args.mask.data;
  a.mask_is_bool = args.mask.dtype == DType::boolean;
  a.load_mask = a.mask ? row_loader(args.mask.dtype) : nullptr;
  a.mask_bytes = static_cast<int64_t>(item_size(args.mask.dtype));
  for (int i = 0; i < 4; ++i) a.mask_strides[i] = args.mask.strides[i];
  a.padding = static_cast<const uint8_t*>(args.padding.data);
  a.lengths = static_cast<const int32_t*>(args.lengths.data);
  a.padding_batch = args.padding.strides[0];
  a.padding_key = args.padding.strides[1];
  a.state = static_cast<const int64_t*>(args.state.data);
  a.lse = lse.data;
  a.batch = args.q.shape[0];
  a.heads = args.q.shape[1];
  a.kv_heads = args.k.shape[1];
  a.queries = args.q.shape[2];
  a.keys = args.k.shape[2];
  a.width = args.q.shape[3];
  a.query_tiles = divide_up(a.queries, kTile);
  a.key_tiles = divide_up(a.keys, kTile);
  a.scale = args.scale;
  a.keep = args.keep;
  a.causal = args.causal;
  return a;
}

// The same kernel for every dtype.
struct Kernels {
  Kernel kernels[kDTypes];
};
#define NODEGRAD_KERNELS(kernel)                                             \
  {                                                                          \
    {                                                                        \
      kernel<float, float>, kernel<double, double>, kernel<float, BFloat16>, \
          kernel<float, Float16>                                             \
    }                                                                        \
  }
constexpr Kernels kForward = NODEGRAD_KERNELS(forward_kernel);
constexpr Kernels kBackward = NODEGRAD_KERNELS(backward_kernel);
constexpr Kernels kBackwardKeys = NODEGRAD_KERNELS(backward_keys_kernel);
constexpr Kernels kBackwardQueries = NODEGRAD_KERNELS(backward_queries_kernel);
#undef NODEGRAD_KERNELS

void run(Stream& stream, const char* name, const Kernels& kernels, DType dtype, const Attention& a,
         int64_t chunks) {
  if (chunks == 0 || a.width == 0) return;
  launch(stream, name, kernels.kernels[static_cast<int>(dtype)], &a, sizeof a, chunks);
}

void forward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse) {
  Attention a = attention_of(args, lse);
  a.out = operand_of(out);
  run(stream, "attention", kForward, args.q.dtype, a, a.batch * a.heads * a.query_tiles);
}

void backward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse,
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

}  // namespace

extern const AttentionFamily attention_family;
const AttentionFamily attention_family = {forward, backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
