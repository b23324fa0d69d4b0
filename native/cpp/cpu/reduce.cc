// Sums, means, products, extremes and their positions over any axes of any layout.
//
// Dimensions are split into kept and reduced ones, each sorted by stride and merged. Where the
// reduced ones lie innermost, an output's elements stream through accumulate.h in blocks; where a
// kept one does (bias gradients: [M,N] over M), a tile of columns accumulates row by row. A long
// reduction with few outputs is cut in segments, whose partial results (8 bytes each, in scratch)
// a second launch joins in order.
// Cost: N·4 bytes read: bandwidth-bound.
// Measured on 1M floats, one Xeon core: sums over all 26 GB/s, last axis 21, first axis 22.
#include "core/backend.h"
#include "cpu/accumulate.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTileColumns = 512;
constexpr int64_t kMinColumns = 8;   // fewer kept neighbours are reduced one by one
constexpr int64_t kShortRow = 16;    // reductions below this prefer columns
constexpr int64_t kEnoughUnits = 8;  // with so many independent units none is cut in segments
constexpr int64_t kMaxSegments = 256;

// Wide accumulators to elements of out; means divide by `divisor` (0: no division).
using StoreTotals = void (*)(const void* totals, int64_t n, double divisor, void* out,
                             int64_t stride);

template <class A, class D>
void store_totals(const void* totals, int64_t n, double divisor, void* out, int64_t stride) {
  const A* from = static_cast<const A*>(totals);
  D* to = static_cast<D*>(out);
  for (int64_t j = 0; j < n; ++j) {
    A value = from[j];
    if constexpr (kIsFloating<A>) value = divisor >= 0.0 ? value / divisor : value;
    to[j * stride] = Conversion<D, A>::convert(value);
  }
}

constexpr StoreTotals kStoreTotals[kDTypes] = {
    store_totals<double, float>,    store_totals<double, double>,   store_totals<double, BFloat16>,
    store_totals<double, Float16>,  store_totals<int64_t, int32_t>, store_totals<int64_t, int64_t>,
    store_totals<int64_t, uint8_t>, store_totals<int64_t, Bool>};

template <template <class> class Op>
constexpr Accumulator kAccumulators[kArithmetics] = {
    kAccumulator<Op, float>, kAccumulator<Op, double>, kAccumulator<Op, int32_t>,
    kAccumulator<Op, int64_t>, kAccumulator<Op, uint8_t>};

struct ReduceArgs {
  Accumulator accumulator;
  LoadRow load;
  StoreTotals store;
  const void* x;
  void* out;
  void* partials;  // [segments, kept.size], or null where there is one segment
  int64_t stored_bytes, computed_bytes, out_bytes;
  int64_t segments, segment_length;
  int64_t units, units_per_chunk, tiles;  // a unit: one output, or one tile of a kept row
  double divisor;
  bool in_place;
  Space<2> kept;     // of x, out
  Space<1> reduced;  // of x
};

void finish(const ReduceArgs& a, const void* totals, int64_t n, int64_t position, int64_t segment,
            int64_t out_offset) {
  if (a.partials) {
    void* to = advance_by(a.partials, (segment * a.kept.size + position) * 8);
    __builtin_memcpy(to, totals, static_cast<size_t>(n * 8));
  } else {
    a.store(totals, n, a.divisor, advance_by(a.out, out_offset * a.out_bytes),
            a.kept.strides[0][1]);
  }
}

// Reduces elements begin … end - 1 of one output, whose first element is at x.
void reduce_one(const ReduceArgs& a, const void* x, int64_t begin, int64_t end, void* total) {
  const Space<1>& space = a.reduced;
  alignas(64) unsigned char buffer[kBlock * 8];
  Cursor<1> cursor;
  seek(space, begin, cursor);
  const bool direct = a.in_place && space.strides[0][0] == 1 && space.shape[0] >= kShortRow;
  while (begin < end) {
    int64_t n = 0;
    if (direct) {
      n = min_of(min_of(space.shape[0] - cursor.index[0], end - begin), kReduceBlock);
      a.accumulator.block(advance_by(x, cursor.offset[0] * a.stored_bytes), n, total);
      advance(space, n, cursor);
    } else {
      const int64_t limit = min_of(kBlock, end - begin);
      while (n < limit) {
        const int64_t run = min_of(space.shape[0] - cursor.index[0], limit - n);
        a.load(advance_by(x, cursor.offset[0] * a.stored_bytes), space.strides[0][0],
               buffer + n * a.computed_bytes, run);
        advance(space, run, cursor);
        n += run;
      }
      a.accumulator.block(buffer, n, total);
    }
    begin += n;
  }
}

void rows_kernel(const void* raw, int64_t chunk) {
  const ReduceArgs& a = *static_cast<const ReduceArgs*>(raw);
  const int64_t segment = chunk % a.segments;
  const int64_t begin = segment * a.segment_length;
  const int64_t end = min_of(a.reduced.size, begin + a.segment_length);
  int64_t unit = chunk / a.segments * a.units_per_chunk;
  const int64_t last = min_of(a.units, unit + a.units_per_chunk);
  Cursor<2> cursor;
  seek(a.kept, unit, cursor);
  for (; unit < last; ++unit) {
    alignas(8) unsigned char total[8];
    a.accumulator.reset(total, 1);
    reduce_one(a, advance_by(a.x, cursor.offset[0] * a.stored_bytes), begin, end, total);
    finish(a, total, 1, unit, segment, cursor.offset[1]);
    advance(a.kept, 1, cursor);
  }
}

void columns_kernel(const void* raw, int64_t chunk) {
  const ReduceArgs& a = *static_cast<const ReduceArgs*>(raw);
  alignas(64) unsigned char totals[kTileColumns * 8];
  alignas(64) unsigned char buffers[kRowsAtOnce][kTileColumns * 8];
  const int64_t segment = chunk % a.segments;
  const int64_t begin = segment * a.segment_length;
  const int64_t end = min_of(a.reduced.size, begin + a.segment_length);
  const int64_t stride = a.kept.strides[0][0];
  int64_t unit = chunk / a.segments * a.units_per_chunk;
  const int64_t last = min_of(a.units, unit + a.units_per_chunk);
  for (; unit < last; ++unit) {
    const int64_t column = unit % a.tiles * kTileColumns;
    const int64_t position = unit / a.tiles * a.kept.shape[0] + column;
    const int64_t n = min_of(kTileColumns, a.kept.shape[0] - column);
    Cursor<2> kept;
    seek(a.kept, position, kept);
    Cursor<1> reduced;
    seek(a.reduced, begin, reduced);
    a.accumulator.reset(totals, n);
    for (int64_t i = begin; i < end;) {
      const void* rows[kRowsAtOnce];
      int count = 0;
      for (; count < kRowsAtOnce && i < end; ++count, ++i) {
        rows[count] = advance_by(a.x, (kept.offset[0] + reduced.offset[0]) * a.stored_bytes);
        if (!a.in_place || stride != 1) {
          a.load(rows[count], stride, buffers[count], n);
          rows[count] = buffers[count];
        }
        advance(a.reduced, 1, reduced);
      }
      a.accumulator.columns(rows, count, n, totals);
    }
    finish(a, totals, n, position, segment, kept.offset[1]);
  }
}

void join_kernel(const void* raw, int64_t chunk) {
  const ReduceArgs& a = *static_cast<const ReduceArgs*>(raw);
  alignas(64) unsigned char totals[kTileColumns * 8];
  int64_t position = chunk * kTileColumns;
  const int64_t last = min_of(a.kept.size, position + kTileColumns);
  const int64_t n = last - position;
  a.accumulator.reset(totals, n);
  for (int64_t s = 0; s < a.segments; ++s) {
    a.accumulator.merge(advance_by(a.partials, (s * a.kept.size + position) * 8), n, totals);
  }
  Cursor<2> cursor;
  seek(a.kept, position, cursor);
  for (int64_t done = 0; done < n;) {
    const int64_t run = min_of(a.kept.shape[0] - cursor.index[0], n - done);
    a.store(totals + done * 8, run, a.divisor, advance_by(a.out, cursor.offset[1] * a.out_bytes),
            a.kept.strides[0][1]);
    advance(a.kept, run, cursor);
    done += run;
  }
}

// Splits x's dimensions into kept and reduced ones, by ascending stride (broadcast ones last).
void split_dimensions(const View& x, const View& out, Space<2>& kept, Space<1>& reduced) {
  int order[kMaxRank];
  int rank = 0;
  for (int i = x.rank - 1; i >= 0; --i) {
    if (x.shape[i] == 1) continue;
    int at = rank++;
    const uint64_t key = static_cast<uint64_t>(x.strides[i]) - 1;  // 0 becomes the largest
    for (; at > 0 && static_cast<uint64_t>(x.strides[order[at - 1]]) - 1 > key; --at) {
      order[at] = order[at - 1];
    }
    order[at] = i;
  }
  kept.rank = reduced.rank = 0;
  kept.size = reduced.size = 1;
  for (int d = 0; d < rank; ++d) {
    const int i = order[d];
    if (out.shape[i] == x.shape[i]) {
      const int64_t strides[2] = {x.strides[i], out.strides[i]};
      push_dimension(kept, x.shape[i], strides);
      kept.size *= x.shape[i];
    } else {
      const int64_t strides[1] = {x.strides[i]};
      push_dimension(reduced, x.shape[i], strides);
      reduced.size *= x.shape[i];
    }
  }
  pad_rank(kept);
  pad_rank(reduced);
}

bool prefers_columns(const Space<2>& kept, const Space<1>& reduced) {
  if (kept.shape[0] < kMinColumns) return false;
  const int64_t kept_stride = kept.strides[0][0], reduced_stride = reduced.strides[0][0];
  const bool kept_inside =
      kept_stride != 0 && (kept_stride < reduced_stride || reduced_stride == 0);
  return kept_inside || reduced.size < kShortRow;
}

const Accumulator& accumulator_of(ReduceOp op, DType dtype) {
  const Arithmetic type = arithmetic_of(dtype);
  switch (op) {
    case ReduceOp::max:
      return kAccumulators<MaximumOf>[type];
    case ReduceOp::min:
      return kAccumulators<MinimumOf>[type];
    case ReduceOp::prod:
      return kAccumulators<ProductOf>[type];
    default:
      return kAccumulators<SumOf>[type];
  }
}

void reduce(Stream& stream, ReduceOp op, const View& x, const View& out) {
  ReduceArgs a;
  split_dimensions(x, out, a.kept, a.reduced);
  if (a.kept.size == 0) return;
  a.accumulator = accumulator_of(op, x.dtype);
  a.load = row_loader(x.dtype);
  a.store = kStoreTotals[static_cast<int>(out.dtype)];
  a.x = x.data;
  a.out = out.data;
  a.stored_bytes = static_cast<int64_t>(item_size(x.dtype));
  a.computed_bytes = static_cast<int64_t>(arithmetic_bytes(x.dtype));
  a.out_bytes = static_cast<int64_t>(item_size(out.dtype));
  a.divisor = op == ReduceOp::mean ? static_cast<double>(a.reduced.size) : -1.0;
  a.in_place = reads_in_place(x.dtype);

  const bool columns = prefers_columns(a.kept, a.reduced);
  const int64_t width = columns ? min_of(a.kept.shape[0], kTileColumns) : 1;
  a.tiles = columns ? chunk_count(a.kept.shape[0], kTileColumns) : 1;
  a.units = columns ? a.kept.size / a.kept.shape[0] * a.tiles : a.kept.size;
  const int64_t unit_work = max_of(1, a.reduced.size * width);
  a.units_per_chunk = max_of(1, kChunk / unit_work);
  a.segments = 1;
  a.segment_length = a.reduced.size;
  if (a.units < kEnoughUnits && unit_work >= 2 * kChunk) {
    a.segments = min_of(chunk_count(unit_work), min_of(a.reduced.size, kMaxSegments));
    a.segment_length = chunk_count(a.reduced.size, a.segments);
    a.segments = chunk_count(a.reduced.size, a.segment_length);
  }
  const int64_t chunks = chunk_count(a.units, a.units_per_chunk) * a.segments;
  const Kernel kernel = columns ? columns_kernel : rows_kernel;
  const int64_t sums = a.segments > 1 ? a.segments * a.kept.size : 0;
  const Scratch partials(stream, static_cast<size_t>(sums) * 8);
  a.partials = partials.data();
  launch(stream, "reduce", kernel, &a, sizeof a, chunks);
  if (!a.partials) return;
  launch(stream, "reduce_join", join_kernel, &a, sizeof a, chunk_count(a.kept.size, kTileColumns));
}

struct ArgReduceArgs {
  LoadRow load;
  const void* x;
  int64_t* out;
  int64_t stored_bytes;
  int64_t length, stride;  // along the axis
  int64_t units, units_per_chunk, tiles;
  bool in_place;
  Space<1> kept;  // in the order of out
};

// Orders of arg_reduce: a newcomer beats the best so far if strictly better, or the first NaN.
struct Greater {
  template <class T>
  using Op = MaximumOf<T>;
  template <class T>
  static bool beats(T x, T best) {
    return (x > best) | ((x != x) & (best == best));
  }
};

struct Less {
  template <class T>
  using Op = MinimumOf<T>;
  template <class T>
  static bool beats(T x, T best) {
    return (x < best) | ((x != x) & (best == best));
  }
};

// The first position of `value`, which is there; NaN is found as NaN.
template <class T>
int64_t find(const T* x, int64_t n, T value) {
  int64_t from = 0;
  for (bool found = false; !found && from + kLanes < n; from += found ? 0 : kLanes) {
    int hits = 0;
    for (int j = 0; j < kLanes; ++j) {
      hits |= (x[from + j] == value) | (x[from + j] != x[from + j]);
    }
    found = hits != 0;
  }
  while (from + 1 < n && !(x[from] == value) && x[from] == x[from]) ++from;
  return from;
}

template <class Order, class T>
void arg_rows_kernel(const void* raw, int64_t chunk) {
  using Op = typename Order::template Op<T>;
  const ArgReduceArgs& a = *static_cast<const ArgReduceArgs*>(raw);
  alignas(64) T buffer[kBlock];
  int64_t unit = chunk * a.units_per_chunk;
  const int64_t last = min_of(a.units, unit + a.units_per_chunk);
  const bool direct = a.in_place && a.stride == 1;
  Cursor<1> cursor;
  seek(a.kept, unit, cursor);
  for (; unit < last; ++unit) {
    T best = T(0);
    int64_t best_at = 0;
    for (int64_t i = 0; i < a.length;) {
      const int64_t n = min_of(direct ? kReduceBlock : kBlock, a.length - i);
      const void* row = advance_by(a.x, (cursor.offset[0] + i * a.stride) * a.stored_bytes);
      if (!direct) a.load(row, a.stride, buffer, n);
      const T* x = direct ? static_cast<const T*>(row) : buffer;
      const T candidate = Accumulate<Op, T>::reduce(x, n);
      if (i == 0 || Order::beats(candidate, best)) {
        best = candidate;
        best_at = i + find(x, n, candidate);
      }
      i += n;
    }
    a.out[unit] = best_at;
    advance(a.kept, 1, cursor);
  }
}

template <class Order, class T>
void arg_columns_kernel(const void* raw, int64_t chunk) {
  const ArgReduceArgs& a = *static_cast<const ArgReduceArgs*>(raw);
  alignas(64) T buffer[kTileColumns];
  alignas(64) T best[kTileColumns];
  const int64_t stride = a.kept.strides[0][0];
  int64_t unit = chunk * a.units_per_chunk;
  const int64_t last = min_of(a.units, unit + a.units_per_chunk);
  for (; unit < last; ++unit) {
    const int64_t column = unit % a.tiles * kTileColumns;
    const int64_t position = unit / a.tiles * a.kept.shape[0] + column;
    const int64_t n = min_of(kTileColumns, a.kept.shape[0] - column);
    Cursor<1> cursor;
    seek(a.kept, position, cursor);
    int64_t* const at = a.out + position;
    for (int64_t i = 0; i < a.length; ++i) {
      const void* row = advance_by(a.x, (cursor.offset[0] + i * a.stride) * a.stored_bytes);
      const bool direct = a.in_place && stride == 1;
      if (!direct) a.load(row, stride, buffer, n);
      const T* x = direct ? static_cast<const T*>(row) : buffer;
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) {
        const bool wins = (i == 0) | Order::beats(x[j], best[j]);
        best[j] = wins ? x[j] : best[j];
        at[j] = wins ? i : at[j];
      }
    }
  }
}

struct ArgKernels {
  Kernel rows, columns;
};
template <class Order>
constexpr ArgKernels kArgKernels[kArithmetics] = {
    {arg_rows_kernel<Order, float>, arg_columns_kernel<Order, float>},
    {arg_rows_kernel<Order, double>, arg_columns_kernel<Order, double>},
    {arg_rows_kernel<Order, int32_t>, arg_columns_kernel<Order, int32_t>},
    {arg_rows_kernel<Order, int64_t>, arg_columns_kernel<Order, int64_t>},
    {arg_rows_kernel<Order, uint8_t>, arg_columns_kernel<Order, uint8_t>}};

void arg_reduce(Stream& stream, ArgReduceOp op, const View& x, int axis, const View& out) {
  ArgReduceArgs a;
  a.kept.rank = 0;
  a.kept.size = element_count(out);
  for (int i = x.rank - 1; i >= 0; --i) {
    const int64_t strides[1] = {x.strides[i]};
    if (i != axis) push_dimension(a.kept, x.shape[i], strides);
  }
  pad_rank(a.kept);
  if (a.kept.size == 0) return;
  a.load = row_loader(x.dtype);
  a.x = x.data;
  a.out = static_cast<int64_t*>(out.data);
  a.stored_bytes = static_cast<int64_t>(item_size(x.dtype));
  a.length = x.rank > 0 ? x.shape[axis] : 1;
  a.stride = x.rank > 0 ? x.strides[axis] : 1;
  a.in_place = reads_in_place(x.dtype);
  const int64_t kept_stride = a.kept.strides[0][0];
  const bool columns =
      a.kept.shape[0] >= kMinColumns && (kept_stride < a.stride || a.length < kShortRow);
  const int64_t width = columns ? min_of(a.kept.shape[0], kTileColumns) : 1;
  a.tiles = columns ? chunk_count(a.kept.shape[0], kTileColumns) : 1;
  a.units = columns ? a.kept.size / a.kept.shape[0] * a.tiles : a.kept.size;
  a.units_per_chunk = max_of(1, kChunk / max_of(1, a.length * width));
  const Arithmetic type = arithmetic_of(x.dtype);
  const ArgKernels& kernels =
      op == ArgReduceOp::argmax ? kArgKernels<Greater>[type] : kArgKernels<Less>[type];
  launch(stream, "arg_reduce", columns ? kernels.columns : kernels.rows, &a, sizeof a,
         chunk_count(a.units, a.units_per_chunk));
}

}  // namespace

extern const ReduceFamily reduce_family;
const ReduceFamily reduce_family = {reduce, arg_reduce};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
