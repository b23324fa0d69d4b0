// Elements in other places: padding, flips, rolls and repetition as one map per axis
// (core/axis_map.h), their gradient, and triangles of matrices.
//
// remap walks the output in order. Along the innermost axis a map is a few runs, each of which is
// a copy, a reversed copy or one value repeated; inner axes that stay as they are form one axis.
// fold sums, for each element, its places in ascending order.
// Cost: bytes of output written and as many read.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kFewRepeats = 16;  // below, runs of one value are too short to be worth it

struct RemapArgs {
  const void* x;
  const void* fill;
  void* out;
  int64_t size;
  int32_t rank;  // at least 1; innermost first
  AxisMap maps[kMaxRank];
  int64_t from[kMaxRank], to[kMaxRank], strides[kMaxRank];
};

template <class Raw>
void move_run(const Raw* from, int64_t stride, Raw* to, int64_t n) {
  if (stride == 1) {
    __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(Raw));
  } else if (stride == 0) {
    const Raw value = *from;
    for (int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  }
}

// n places from i on of an axis whose elements stand `repeat` times each.
template <class Raw>
void repeat_run(const Raw* from, int64_t stride, int64_t repeat, int64_t i, Raw* to, int64_t n) {
  const Raw* source = from + i / repeat * stride;
  int64_t k = i % repeat;
  for (int64_t j = 0; j < n; ++j) {
    to[j] = *source;
    const bool next = ++k == repeat;
    k = next ? 0 : k;
    source += next ? stride : 0;
  }
}

template <class Raw>
void remap_kernel(const void* raw, int64_t chunk) {
  const RemapArgs& a = *static_cast<const RemapArgs*>(raw);
  const Raw* const x = static_cast<const Raw*>(a.x);
  const Raw* const fill = static_cast<const Raw*>(a.fill);
  Raw* const out = static_cast<Raw*>(a.out);
  const int64_t end = min_of(a.size, (chunk + 1) * kChunk);
  for (int64_t at = chunk * kChunk; at < end;) {
    int64_t rest = at / a.to[0], offset = 0, i = at % a.to[0];
    bool inside = true;
    for (int d = 1; d < a.rank; ++d) {
      const int64_t source = axis_source(a.maps[d], a.from[d], rest % a.to[d]);
      rest /= a.to[d];
      inside &= source >= 0;
      offset += source * a.strides[d];
    }
    const int64_t row_end = min_of(end, at - i + a.to[0]);
    if (inside && a.maps[0].mode == AxisMode::each && a.maps[0].repeat < kFewRepeats) {
      repeat_run(x + offset, a.strides[0], a.maps[0].repeat, i, out + at, row_end - at);
      at = row_end;
      continue;
    }
    while (at < row_end) {
      AxisRun run = {-1, 0, a.to[0] - i};
      if (inside) run = axis_run(a.maps[0], a.from[0], a.to[0], i);
      const int64_t n = min_of(run.length, row_end - at);
      if (run.source < 0) {
        move_run(fill, 0, out + at, n);
      } else {
        move_run(x + offset + run.source * a.strides[0], run.step * a.strides[0], out + at, n);
      }
      at += n;
      i += n;
    }
  }
}

bool keeps(const AxisMap& map, int64_t from, int64_t to) {
  return map.mode == AxisMode::pad && map.before == 0 && from == to;
}

void remap(Stream& stream, const View& x, const AxisMap* maps, const View& fill, const View& out) {
  RemapArgs a;
  a.x = x.data;
  a.fill = fill.data;
  a.out = out.data;
  a.size = element_count(out);
  if (a.size == 0) return;
  a.rank = 0;
  bool kept = false;  // whether the axis before stays as it is
  for (int d = x.rank - 1; d >= 0; --d) {
    const bool keep = keeps(maps[d], x.shape[d], out.shape[d]);
    if (keep && x.shape[d] == 1) continue;
    const int last = a.rank - 1;
    if (keep && kept && x.strides[d] == a.strides[last] * a.from[last]) {
      a.from[last] *= x.shape[d];
      a.to[last] = a.from[last];
      continue;
    }
    a.maps[a.rank] = maps[d];
    a.from[a.rank] = x.shape[d];
    a.to[a.rank] = out.shape[d];
    a.strides[a.rank] = x.strides[d];
    ++a.rank;
    kept = keep;
  }
  if (a.rank == 0) {
    a.maps[0] = {AxisMode::pad, 0, 1};
    a.from[0] = a.to[0] = a.strides[0] = 1;
    a.rank = 1;
  }
  Kernel kernel = remap_kernel<uint64_t>;
  switch (item_size(x.dtype)) {
    case 1:
      kernel = remap_kernel<uint8_t>;
      break;
    case 2:
      kernel = remap_kernel<uint16_t>;
      break;
    case 4:
      kernel = remap_kernel<uint32_t>;
      break;
    default:
      break;
  }
  launch(stream, "remap", kernel, &a, sizeof a, chunk_count(a.size));
}

struct FoldArgs {
  const void* dout;
  void* dx;
  AxisMap map;
  int64_t rows;  // [o, j]
  int64_t n, m, inner, rows_per_chunk;
};

template <class S>
void fold_kernel(const void* raw, int64_t chunk) {
  using A = typename Stored<S>::Arithmetic;
  const FoldArgs& a = *static_cast<const FoldArgs*>(raw);
  A sums[kBlock];
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t r = chunk * a.rows_per_chunk; r < last; ++r) {
    const S* const from = static_cast<const S*>(a.dout) + r / a.n * a.m * a.inner;
    S* const to = static_cast<S*>(a.dx) + r * a.inner;
    const AxisPlaces places = axis_places(a.map, a.n, a.m, r % a.n);
    for (int64_t c = 0; c < a.inner; c += kBlock) {
      const int64_t width = min_of(kBlock, a.inner - c);
      for (int64_t k = 0; k < width; ++k) sums[k] = A(0);
      for (int q = 0; q < places.runs; ++q) {
        for (int64_t p = 0; p < places.count; ++p) {
          const int64_t i = places.first[q] + p * places.step;
          if (i < 0 || i >= a.m) continue;
          const S* const row = from + i * a.inner + c;
          for (int64_t k = 0; k < width; ++k) sums[k] += Stored<S>::load(row[k]);
        }
      }
      for (int64_t k = 0; k < width; ++k) to[c + k] = Stored<S>::store(sums[k]);
    }
  }
}

// The same for types that are stored as they compute: the runs of places add to dx where it lies,
// so that neighbours are added side by side. A unit is a block of columns of one o.
struct FoldRunsArgs {
  const void* dout;
  void* dx;
  AxisMap map;
  int64_t n, m, inner;
  int64_t width, column_blocks, units, units_per_chunk;
};

template <class T>
void add_run(const T* from, T* to, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

template <class T>
void fold_runs_kernel(const void* raw, int64_t chunk) {
  const FoldRunsArgs& a = *static_cast<const FoldRunsArgs*>(raw);
  const int64_t last = min_of(a.units, (chunk + 1) * a.units_per_chunk);
  for (int64_t u = chunk * a.units_per_chunk; u < last; ++u) {
    const int64_t o = u / a.column_blocks, c = u % a.column_blocks * a.width;
    const int64_t width = min_of(a.width, a.inner - c);
    const T* const from = static_cast<const T*>(a.dout) + o * a.m * a.inner + c;
    T* const to = static_cast<T*>(a.dx) + o * a.n * a.inner + c;
    for (int64_t j = 0; j < a.n; ++j) {
      for (int64_t k = 0; k < width; ++k) to[j * a.inner + k] = T(0);
    }
    for (int64_t i = 0; i < a.m;) {
      const AxisRun run = axis_run(a.map, a.n, a.m, i);
      if (run.source >= 0 && run.step == 1 && width == a.inner) {
        add_run(from + i * a.inner, to + run.source * a.inner, run.length * a.inner);
      } else if (run.source >= 0) {
        for (int64_t k = 0; k < run.length; ++k) {
          add_run(from + (i + k) * a.inner, to + (run.source + k * run.step) * a.inner, width);
        }
      }
      i += run.length;
    }
  }
}

void fold_runs(Stream& stream, const View& dout, AxisMap map, const View& dx) {
  FoldRunsArgs a;
  a.dout = dout.data;
  a.dx = dx.data;
  a.map = map;
  a.n = dx.shape[1];
  a.m = dout.shape[1];
  a.inner = dx.shape[2];
  const int64_t places = max_of(a.n, a.m);
  a.width = max_of(1, min_of(a.inner, kChunk / places));
  a.column_blocks = chunk_count(a.inner, a.width);
  a.units = dx.shape[0] * a.column_blocks;
  a.units_per_chunk = max_of(1, kChunk / (places * a.width));
  launch(stream, "fold",
         dx.dtype == DType::float64 ? fold_runs_kernel<double> : fold_runs_kernel<float>, &a,
         sizeof a, chunk_count(a.units, a.units_per_chunk));
}

void fold(Stream& stream, const View& dout, AxisMap map, const View& dx) {
  if (element_count(dx) == 0) return;
  if (dx.dtype == DType::float32 || dx.dtype == DType::float64) {
    fold_runs(stream, dout, map, dx);
    return;
  }
  FoldArgs a = {dout.data,   dx.data,       map,         dx.shape[0] * dx.shape[1],
                dx.shape[1], dout.shape[1], dx.shape[2], 0};
  a.rows_per_chunk = max_of(1, kChunk / max_of(1, a.inner * chunk_count(a.m, a.n)));
  const Kernel kernel = dx.dtype == DType::bfloat16 ? fold_kernel<BFloat16> : fold_kernel<Float16>;
  launch(stream, "fold", kernel, &a, sizeof a, chunk_count(a.rows, a.rows_per_chunk));
}

struct TriangleArgs {
  const void* x;
  void* out;
  int64_t lines, rows, columns, diagonal, lines_per_chunk, bytes;
  bool upper;
};

void triangle_kernel(const void* raw, int64_t chunk) {
  const TriangleArgs& a = *static_cast<const TriangleArgs*>(raw);
  const int64_t last = min_of(a.lines, (chunk + 1) * a.lines_per_chunk);
  for (int64_t line = chunk * a.lines_per_chunk; line < last; ++line) {
    const int64_t edge = line % a.rows + a.diagonal + (a.upper ? 0 : 1);
    const int64_t cut = max_of(0, min_of(edge, a.columns)) * a.bytes;
    const int64_t begin = line * a.columns * a.bytes, all = a.columns * a.bytes;
    const int64_t first = a.upper ? cut : 0, end = a.upper ? all : cut;  // of what is kept
    __builtin_memset(advance_by(a.out, begin + (a.upper ? 0 : cut)), 0,
                     static_cast<size_t>(a.upper ? cut : all - cut));
    __builtin_memcpy(advance_by(a.out, begin + first), advance_by(a.x, begin + first),
                     static_cast<size_t>(end - first));
  }
}

void triangle(Stream& stream, const View& x, int64_t diagonal, bool upper, const View& out) {
  const int64_t size = element_count(x);
  if (size == 0) return;
  TriangleArgs a;
  a.x = x.data;
  a.out = out.data;
  a.rows = x.shape[x.rank - 2];
  a.columns = x.shape[x.rank - 1];
  a.lines = size / a.columns;
  a.diagonal = diagonal;
  a.upper = upper;
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.lines_per_chunk = max_of(1, kChunk / a.columns);
  launch(stream, "triangle", triangle_kernel, &a, sizeof a,
         chunk_count(a.lines, a.lines_per_chunk));
}

}  // namespace

extern const MovementFamily movement_family;
const MovementFamily movement_family = {remap, fold, triangle};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
