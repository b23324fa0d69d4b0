// Running sums and products along an axis of [outer, n, inner].
//
// A line (inner = 1) runs element by element, a wider inner axis in tiles of columns, row by row.
// Accumulators are double, or int64, so that long sums of float32 round only when they are stored.
// Cost: 2N·4 bytes; a line is bound by the latency of one addition an element (about 1 ns), and
// lines run in parallel, not the parts of one.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTile = 256;  // columns that accumulate together
constexpr int64_t kElementsPerChunk = 16384;

struct ScanArgs {
  const void* x;
  void* out;
  LoadRow load;
  StoreRow store;  // null where elements are stored as they compute
  int64_t bytes;
  int64_t outer, n, inner, tiles;
  int64_t units, units_per_chunk;  // a unit: a line, or a tile of columns
  bool reverse;
};

template <class W, bool product>
W join(W a, W b) {
  if constexpr (__is_same(W, int64_t)) {
    const uint64_t u = static_cast<uint64_t>(a), v = static_cast<uint64_t>(b);
    return static_cast<int64_t>(product ? u * v : u + v);
  } else {
    return product ? a * b : a + b;
  }
}

// T: arithmetic type of the elements; W: of the accumulators.
template <class T, class W, bool product>
void scan_line(const ScanArgs& a, int64_t line) {
  alignas(64) T values[kBlock];
  W total = W(product ? 1 : 0);
  const int64_t first = line * a.n;
  for (int64_t done = 0; done < a.n;) {
    const int64_t count = min_of(kBlock, a.n - done);
    const int64_t at = first + (a.reverse ? a.n - done - count : done);
    a.load(advance_by(a.x, at * a.bytes), 1, values, count);
    for (int64_t i = 0; i < count; ++i) {
      T& value = values[a.reverse ? count - 1 - i : i];
      total = join<W, product>(total, static_cast<W>(value));
      value = static_cast<T>(total);
    }
    void* const to = advance_by(a.out, at * a.bytes);
    if (a.store) {
      a.store(values, to, count);
    } else {
      __builtin_memcpy(to, values, static_cast<size_t>(count) * sizeof(T));
    }
    done += count;
  }
}

template <class T, class W, bool product>
void scan_columns(const ScanArgs& a, int64_t unit) {
  alignas(64) T values[kTile];
  alignas(64) W totals[kTile];
  const int64_t column = unit % a.tiles * kTile, count = min_of(kTile, a.inner - column);
  const int64_t first = unit / a.tiles * a.n * a.inner + column;
  for (int64_t j = 0; j < count; ++j) totals[j] = W(product ? 1 : 0);
  for (int64_t i = 0; i < a.n; ++i) {
    const int64_t at = first + (a.reverse ? a.n - 1 - i : i) * a.inner;
    a.load(advance_by(a.x, at * a.bytes), 1, values, count);
    for (int64_t j = 0; j < count; ++j) {
      totals[j] = join<W, product>(totals[j], static_cast<W>(values[j]));
      values[j] = static_cast<T>(totals[j]);
    }
    void* const to = advance_by(a.out, at * a.bytes);
    if (a.store) {
      a.store(values, to, count);
    } else {
      __builtin_memcpy(to, values, static_cast<size_t>(count) * sizeof(T));
    }
  }
}

template <class T, class W, bool product>
void scan_kernel(const void* raw, int64_t chunk) {
  const ScanArgs& a = *static_cast<const ScanArgs*>(raw);
  const int64_t last = min_of(a.units, (chunk + 1) * a.units_per_chunk);
  for (int64_t unit = chunk * a.units_per_chunk; unit < last; ++unit) {
    if (a.inner == 1) {
      scan_line<T, W, product>(a, unit);
    } else {
      scan_columns<T, W, product>(a, unit);
    }
  }
}

template <bool product>
Kernel kernel_of(DType dtype) {
  switch (arithmetic_of(dtype)) {
    case kDouble:
      return scan_kernel<double, double, product>;
    case kInt64:
      return scan_kernel<int64_t, int64_t, product>;
    default:
      return scan_kernel<float, double, product>;
  }
}

void scan(Stream& stream, ScanOp op, bool reverse, const View& x, const View& out) {
  ScanArgs a;
  a.outer = x.shape[0];
  a.n = x.shape[1];
  a.inner = x.shape[2];
  if (a.outer == 0 || a.n == 0 || a.inner == 0) return;
  a.x = x.data;
  a.out = out.data;
  a.load = row_loader(x.dtype);
  a.store = row_storer(x.dtype);
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.reverse = reverse;
  a.tiles = chunk_count(a.inner, kTile);
  a.units = a.outer * a.tiles;
  a.units_per_chunk = max_of(1, kElementsPerChunk / (a.n * min_of(a.inner, kTile)));
  const bool product = op == ScanOp::product;
  launch(stream, product ? "cumprod" : "cumsum",
         product ? kernel_of<true>(x.dtype) : kernel_of<false>(x.dtype), &a, sizeof a,
         chunk_count(a.units, a.units_per_chunk));
}

}  // namespace

extern const ScanFamily scan_family;
const ScanFamily scan_family = {scan};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
