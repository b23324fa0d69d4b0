// Rotary positions: pairs of columns, half a row apart, turned by the angle of their position;
// core/families/rotary.h has the formula. Source: Su et al., "RoFormer", 2021.
// A row lies as the last axis of x does; which row is next is for a cursor over the other axes.
// Arithmetic in float32 or float64. Backward is the same kernel with the sines negated.
// Cost: x read and y written once, the tables from cache: bandwidth-bound.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct RotaryArgs {
  const void* x;
  void* y;
  const void* cosines;
  const void* sines;
  LoadRow load;
  StoreRow store;         // null where elements are stored as they compute
  int64_t bytes, stride;  // of an element, and in elements along the last axis of x
  int64_t length, half;   // positions, and pairs of a row
  int64_t rows_per_chunk;
  bool inverse;
  Space<1> rows;
};

template <class T>
const T* read(const RotaryArgs& a, int64_t at, int64_t n, T* buffer) {
  const void* from = advance_by(a.x, at * a.bytes);
  if (!a.store && a.stride == 1) return static_cast<const T*>(from);
  a.load(from, a.stride, buffer, n);
  return buffer;
}

template <class T>
void turn(const T* x1, const T* x2, const T* c, const T* s, T sign, T* y1, T* y2, int64_t n) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T sine = sign * s[j], low = x1[j], high = x2[j];
    y1[j] = low * c[j] - high * sine;
    y2[j] = high * c[j] + low * sine;
  }
}

template <class T>
void rotary_kernel(const void* raw, int64_t chunk) {
  const RotaryArgs& a = *static_cast<const RotaryArgs*>(raw);
  alignas(64) T lows[kBlock], highs[kBlock], results[2][kBlock];
  const T sign = a.inverse ? T(-1) : T(1);
  const int64_t first = chunk * a.rows_per_chunk;
  const int64_t last = min_of(a.rows.size, first + a.rows_per_chunk);
  Cursor<1> cursor;
  seek(a.rows, first, cursor);
  int64_t position = first % a.length;
  for (int64_t r = first; r < last; ++r) {
    for (int64_t i = 0; i < a.half; i += kBlock) {
      const int64_t n = min_of(kBlock, a.half - i), entry = position * a.half + i;
      const T* x1 = read(a, cursor.offset[0] + i * a.stride, n, lows);
      const T* x2 = read(a, cursor.offset[0] + (a.half + i) * a.stride, n, highs);
      void* const to = advance_by(a.y, (r * 2 * a.half + i) * a.bytes);
      void* const beyond = advance_by(to, a.half * a.bytes);
      turn(x1, x2, static_cast<const T*>(a.cosines) + entry, static_cast<const T*>(a.sines) + entry,
           sign, a.store ? results[0] : static_cast<T*>(to),
           a.store ? results[1] : static_cast<T*>(beyond), n);
      if (!a.store) continue;
      a.store(results[0], to, n);
      a.store(results[1], beyond, n);
    }
    advance(a.rows, 1, cursor);
    if (++position == a.length) position = 0;
  }
}

void rotate(Stream& stream, const View& x, const View& cosines, const View& sines, bool inverse,
            const View& y) {
  if (element_count(y) == 0) return;
  RotaryArgs a;
  a.x = x.data;
  a.y = y.data;
  a.cosines = cosines.data;
  a.sines = sines.data;
  a.load = row_loader(x.dtype);
  a.store = row_storer(x.dtype);
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.stride = x.strides[x.rank - 1];
  a.length = cosines.shape[0];
  a.half = cosines.shape[1];
  a.rows_per_chunk = max_of(1, kChunk / (2 * a.half));
  a.inverse = inverse;
  View rows = x;
  --rows.rank;
  const View* const operands[1] = {&rows};
  make_space(a.rows, operands, rows);
  launch(stream, "rotary", x.dtype == DType::float64 ? rotary_kernel<double> : rotary_kernel<float>,
         &a, sizeof a, chunk_count(a.rows.size, a.rows_per_chunk));
}

}  // namespace

extern const RotaryFamily rotary_family;
const RotaryFamily rotary_family = {rotate};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
