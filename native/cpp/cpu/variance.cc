// Variance and mean over the middle axis of [outer, n, inner].
//
// With d = x - p, p being the first element of the line: mean = p + Σd/n and
// Σ(x - mean)² = Σd² - (Σd)²/n, in double; since p is one of the elements, what cancels is at most
// n times the result. Columns accumulate in tiles, row by row; a line in 8 lanes. Long axes are
// cut in parts, whose sums (in scratch) a second launch joins in order.
// Cost: N·4 bytes read: bandwidth-bound.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTile = 256;  // columns that accumulate together
constexpr int64_t kLanes = 8;
constexpr int64_t kElementsPerChunk = 32768;
constexpr int64_t kMaxParts = 64;

struct Sums {
  double first[kTile], second[kTile];  // of d and of d²
};

struct VarianceArgs {
  const void* x;
  void* variance;
  void* mean;
  LoadRow load;
  StoreRow store;  // null where elements are stored as they compute
  Sums* partial;   // [units, parts], or null where there is one part
  int64_t bytes, n, inner, tiles, units, units_per_chunk, parts, part_length;
  double freedom;
};

// The first element of a unit, and how many columns it has.
int64_t place(const VarianceArgs& a, int64_t unit, int64_t& count) {
  const int64_t column = unit % a.tiles * kTile;
  count = min_of(kTile, a.inner - column);
  return unit / a.tiles * a.n * a.inner + column;
}

template <class T>
void accumulate_line(const VarianceArgs& a, int64_t first, int64_t begin, int64_t end, T pivot,
                     Sums& sums) {
  alignas(64) T values[kBlock];
  double s[kLanes] = {}, q[kLanes] = {};
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = min_of(kBlock, end - i);
    a.load(advance_by(a.x, (first + i) * a.bytes), 1, values, count);
    const int64_t whole = count / kLanes * kLanes;
    for (int64_t j = 0; j < whole; j += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) {
        const double d = static_cast<double>(values[j + l]) - static_cast<double>(pivot);
        s[l] += d;
        q[l] += d * d;
      }
    }
    for (int64_t j = whole; j < count; ++j) {
      const double d = static_cast<double>(values[j]) - static_cast<double>(pivot);
      s[j - whole] += d;
      q[j - whole] += d * d;
    }
  }
  sums.first[0] = sums.second[0] = 0.0;
  for (int64_t l = 0; l < kLanes; ++l) {
    sums.first[0] += s[l];
    sums.second[0] += q[l];
  }
}

template <class T>
void accumulate_columns(const VarianceArgs& a, int64_t first, int64_t begin, int64_t end,
                        int64_t count, const T* pivots, Sums& sums) {
  alignas(64) T values[kTile];
  for (int64_t j = 0; j < count; ++j) sums.first[j] = sums.second[j] = 0.0;
  for (int64_t i = begin; i < end; ++i) {
    a.load(advance_by(a.x, (first + i * a.inner) * a.bytes), 1, values, count);
    for (int64_t j = 0; j < count; ++j) {
      const double d = static_cast<double>(values[j]) - static_cast<double>(pivots[j]);
      sums.first[j] += d;
      sums.second[j] += d * d;
    }
  }
}

template <class T>
void finish(const VarianceArgs& a, int64_t unit, const T* pivots, const Sums& sums) {
  alignas(64) T variance[kTile], mean[kTile];
  int64_t count;
  place(a, unit, count);
  const double n = static_cast<double>(a.n);
  for (int64_t j = 0; j < count; ++j) {
    const double average = sums.first[j] / n;
    const double squares = sums.second[j] - sums.first[j] * average;
    variance[j] = static_cast<T>((squares < 0.0 ? 0.0 : squares) / a.freedom);
    mean[j] = static_cast<T>(static_cast<double>(pivots[j]) + average);
  }
  const int64_t at = (unit / a.tiles * a.inner + unit % a.tiles * kTile) * a.bytes;
  void* const to[2] = {advance_by(a.variance, at), advance_by(a.mean, at)};
  if (a.store) {
    a.store(variance, to[0], count);
    a.store(mean, to[1], count);
  } else {
    __builtin_memcpy(to[0], variance, static_cast<size_t>(count) * sizeof(T));
    __builtin_memcpy(to[1], mean, static_cast<size_t>(count) * sizeof(T));
  }
}

template <class T>
int64_t load_pivots(const VarianceArgs& a, int64_t unit, int64_t& count, T* pivots) {
  const int64_t first = place(a, unit, count);
  if (a.n > 0) {
    a.load(advance_by(a.x, first * a.bytes), 1, pivots, count);
  } else {
    for (int64_t j = 0; j < count; ++j) pivots[j] = T(0);
  }
  return first;
}

template <class T>
void accumulate_kernel(const void* raw, int64_t chunk) {
  const VarianceArgs& a = *static_cast<const VarianceArgs*>(raw);
  alignas(64) T pivots[kTile];
  Sums own;
  const int64_t part = chunk % a.parts, begin = part * a.part_length;
  const int64_t end = min_of(a.n, begin + a.part_length);
  int64_t unit = chunk / a.parts * a.units_per_chunk;
  const int64_t last = min_of(a.units, unit + a.units_per_chunk);
  for (; unit < last; ++unit) {
    int64_t count;
    const int64_t first = load_pivots(a, unit, count, pivots);
    Sums& sums = a.partial ? a.partial[unit * a.parts + part] : own;
    if (a.inner == 1) {
      accumulate_line(a, first, begin, end, pivots[0], sums);
    } else {
      accumulate_columns(a, first, begin, end, count, pivots, sums);
    }
    if (!a.partial) finish(a, unit, pivots, sums);
  }
}

template <class T>
void join_kernel(const void* raw, int64_t unit) {
  const VarianceArgs& a = *static_cast<const VarianceArgs*>(raw);
  alignas(64) T pivots[kTile];
  int64_t count;
  load_pivots(a, unit, count, pivots);
  Sums& sums = a.partial[unit * a.parts];
  for (int64_t part = 1; part < a.parts; ++part) {
    const Sums& more = a.partial[unit * a.parts + part];
    for (int64_t j = 0; j < count; ++j) {
      sums.first[j] += more.first[j];
      sums.second[j] += more.second[j];
    }
  }
  finish(a, unit, pivots, sums);
}

void variance(Stream& stream, const View& x, double freedom, const View& variance,
              const View& mean) {
  VarianceArgs a;
  const int64_t outer = x.shape[0];
  a.n = x.shape[1];
  a.inner = x.shape[2];
  if (outer == 0 || a.inner == 0) return;
  a.x = x.data;
  a.variance = variance.data;
  a.mean = mean.data;
  a.load = row_loader(x.dtype);
  a.store = row_storer(x.dtype);
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.freedom = freedom;
  a.tiles = chunk_count(a.inner, kTile);
  a.units = outer * a.tiles;
  const int64_t width = min_of(a.inner, kTile), most = chunk_count(a.n * width, kElementsPerChunk);
  a.parts = a.units < 8 ? max_of(1, min_of(most, kMaxParts)) : 1;
  a.part_length = chunk_count(a.n, a.parts);
  a.units_per_chunk = a.parts > 1 ? 1 : max_of(1, kElementsPerChunk / max_of(1, a.n * width));
  const bool wide = x.dtype == DType::float64;
  const size_t bytes = static_cast<size_t>(a.units * a.parts) * sizeof(Sums);
  const Scratch partial(stream, a.parts > 1 ? bytes : 0);
  a.partial = static_cast<Sums*>(partial.data());
  launch(stream, "variance", wide ? accumulate_kernel<double> : accumulate_kernel<float>, &a,
         sizeof a, chunk_count(a.units, a.units_per_chunk) * a.parts);
  if (!a.partial) return;
  launch(stream, "variance", wide ? join_kernel<double> : join_kernel<float>, &a, sizeof a,
         a.units);
}

}  // namespace

extern const VarianceFamily variance_family;
const VarianceFamily variance_family = {variance};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
