// What attention's two directions share: operands, a chunk's memory and tiles, products of tiles,
// masks, dropout, and the launches.
#pragma once

#include "core/backend.h"
#include "core/error.h"
#include "core/philox.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tiles.h"
#include "cpu/launch.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

void attention_backward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse,
                        const View& dout, const View& dq, const View& dk,
                        const View& dv);  // attention_backward.cc

namespace {

constexpr int64_t kTile = 64;  // queries, and keys, of a tile

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
void run(Stream& stream, const char* name, const Kernels& kernels, DType dtype, const Attention& a,
         int64_t chunks) {
  if (chunks == 0 || a.width == 0) return;
  launch(stream, name, kernels.kernels[static_cast<int>(dtype)], &a, sizeof a, chunks);
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
