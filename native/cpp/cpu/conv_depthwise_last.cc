// Depthwise convolutions, one channel a group, of images whose channels lie together, [n,h,w,c]:
//   y[i, j, c] = Σ_{a,b} w[c, a, b] · x[i·stride + base + a·step, …, c],   dw[c, a, b] = Σ dy · x
// by vectors of channels, read where they lie: a tile of positions and vectors stays in registers
// while all taps go by. Taps outside the image are left out of a position's list, which is the same
// for all positions of a row but those at its ends. Weights are turned to [tap][channel] once for a
// launch. The gradient of the data is such a product too (conv.cc); that of the weight keeps a
// vector per tap while a row goes by, and adds parts of the rows in order. All cuts follow from the
// sizes. Cost: a load for each multiplication of a vector.
#include "cpu/conv_parts.h"
#include "cpu/gemm_kernel.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kTileVectors = 4;
constexpr int kSumVectors = 2;  // of the gradient of the weight, for each tap
#else
constexpr int kTileVectors = 2;
constexpr int kSumVectors = 1;
#endif
constexpr int kTilePositions = 4;
constexpr int kTaps = 9;                 // that the gradient of the weight takes at once
constexpr int64_t kMostTaps = 1 << 10;   // of a list
constexpr int64_t kChunkWork = 1 << 18;  // multiplications worth a chunk of their own
constexpr int64_t kManyChunks = 32;

// Reads up to a vector of another type's elements.
template <class T, class S>
NODEGRAD_INLINE Vector<T> read(const S* p) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load(p);
  } else {
    alignas(64) T lanes[kLanes<T>];
#pragma GCC ivdep
    for (int i = 0; i < kLanes<T>; ++i) lanes[i] = Stored<S>::load(p[i]);
    return load(lanes);
  }
}
template <class T, class S>
NODEGRAD_INLINE Vector<T> read_part(const S* p, int n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load_part(p, n);
  } else {
    alignas(64) T lanes[kLanes<T>] = {};
    for (int i = 0; i < n; ++i) lanes[i] = Stored<S>::load(p[i]);
    return load(lanes);
  }
}
template <class T, class S>
NODEGRAD_INLINE void write(S* p, Vector<T> v, int n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (n == kLanes<T>) {
      store(p, v);
    } else {
      store_part(p, v, n);
    }
  } else {
    alignas(64) T lanes[kLanes<T>];
    store(lanes, v);
    for (int i = 0; i < n; ++i) p[i] = Stored<S>::store(lanes[i]);
  }
}

// The taps of a position that lie in the image: how far from its base in the image, and which.
struct TapList {
  int64_t count;
  int64_t* offsets;
  int64_t* taps;
};

// Of one axis: the taps [first, end) of position `at` that are in an image of `size`.
struct Reach {
  int64_t first, end;
};
Reach reach_of(int64_t at, int64_t taps, int64_t stride, int64_t base, int64_t step, int64_t size) {
  Reach r = {taps, 0};
  for (int64_t k = 0; k < taps; ++k) {
    const int64_t place = at * stride + base + k * step;
    if (place < 0 || place >= size) continue;
    if (r.first > k) r.first = k;
    r.end = k + 1;
  }
  if (r.end == 0) r.first = 0;
  return r;
}

void list_taps(const Patches& p, int64_t pixel, Reach rows, Reach columns, TapList& list) {
  list.count = 0;
  for (int64_t a = rows.first; a < rows.end; ++a) {
    for (int64_t b = columns.first; b < columns.end; ++b) {
      list.offsets[list.count] = (a * p.step_h * p.width + b * p.step_w) * pixel;
      list.taps[list.count++] = a * p.taps_w + b;
    }
  }
}

// Positions [first, end) of a row have all taps of the axis in the image.
Reach whole_columns(const Patches& p) {
  Reach r = {0, p.columns};
  const auto inside = [&](int64_t j) {
    const Reach taps = reach_of(j, p.taps_w, p.stride_w, p.base_w, p.step_w, p.width);
    return taps.end - taps.first == p.taps_w;
  };
  while (r.first < p.columns && !inside(r.first)) ++r.first;
  while (r.end > r.first && !inside(r.end - 1)) --r.end;
  return r;
}

template <class T, class S>
struct TileArgs {
  const S* from;  // the base of the first position, and channel
  int64_t step;   // between the bases of positions
  TapList list;
  const T* weights;  // [tap][pitch], then a row of biases
  int64_t pitch;
  const T* bias;
  bool relu;
  S* to;
  int64_t to_step;
  int last;  // elements of the last vector
};

template <class T, class S, int Positions, int Vectors>
void tile_kernel(const TileArgs<T, S>& t) {
  constexpr int kL = kLanes<T>;
  Vector<T> sums[Positions][Vectors];
#pragma GCC unroll 4
  for (int i = 0; i < Positions; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[i][v] = Vector<T>{};
  }
  const bool whole = t.last == kL;
  for (int64_t k = 0; k < t.list.count; ++k) {
    const S* const from = t.from + t.list.offsets[k];
    const T* const weights = t.weights + t.list.taps[k] * t.pitch;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const Vector<T> w = load(weights + v * kL);
#pragma GCC unroll 4
      for (int i = 0; i < Positions; ++i) {
        const S* const x = from + i * t.step + v * kL;
        multiply_add<T>(sums[i][v],
                        v + 1 < Vectors || whole ? read<T, S>(x) : read_part<T, S>(x, t.last), w);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < Positions; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      Vector<T> x = sums[i][v] + load(t.bias + v * kL);
      if (t.relu) x = x < Vector<T>{} ? Vector<T>{} : x;  // NaN stays
      write<T, S>(t.to + i * t.to_step + v * kL, x, v + 1 < Vectors ? kL : t.last);
    }
  }
}

template <class T, class S>
using TileKernel = void (*)(const TileArgs<T, S>&);
template <class T, class S, int Positions>
constexpr TileKernel<T, S> kTileKernels[] = {
    tile_kernel<T, S, Positions, 1>,
    tile_kernel<T, S, Positions, 2>,
#if defined(__AVX512F__)
    tile_kernel<T, S, Positions, 3>,
    tile_kernel<T, S, Positions, 4>,
#endif
};

struct Launch {
  Product p;
  int64_t taps, pitch;        // rows of packed weights, and the one of biases behind them
  int64_t rows, band, bands;  // rows of positions; of a chunk; chunks of an image
  Reach whole;
};

// Weights as [tap][pitch], then biases: a chunk a row.
template <class T, class S>
void pack_kernel(const void* args, int64_t row) {
  const Launch& l = *static_cast<const Launch*>(args);
  const Product& p = l.p;
  T* const to = static_cast<T*>(p.packed) + row * l.pitch;
  for (int64_t c = p.groups; c < l.pitch; ++c) to[c] = T(0);
  if (row == l.taps) {
    const S* const bias = static_cast<const S*>(p.bias);
    for (int64_t c = 0; c < p.groups; ++c) to[c] = bias ? Stored<S>::load(bias[c]) : T(0);
    return;
  }
  const S* const from = static_cast<const S*>(p.weight) + p.tap + row / p.patches.taps_w * p.tap_h +
                        row % p.patches.taps_w * p.tap_w;
  for (int64_t c = 0; c < p.groups; ++c) to[c] = Stored<S>::load(from[c * p.weight_group]);
}

template <class T, class S>
void product_kernel(const void* args, int64_t chunk) {
  const Launch& l = *static_cast<const Launch*>(args);
  const Product& p = l.p;
  const Patches& patches = p.patches;
  constexpr int kL = kLanes<T>;
  int64_t* const memory = static_cast<int64_t*>(
      thread_scratch(sizeof(int64_t) * static_cast<size_t>(2 * larger(1, l.taps))));
  if (!memory) fail("conv2d: out of memory for taps");
  const int64_t image = chunk / l.bands, first = chunk % l.bands * l.band;
  const S* const x = static_cast<const S*>(p.image) + image * p.image_size;
  S* const out = static_cast<S*>(p.out) + image * p.out_size + p.out_first;
  const T* const weights = static_cast<const T*>(p.packed);
  const Reach all = {0, patches.taps_w};
  TileArgs<T, S> t;
  t.list = {0, memory, memory + larger(1, l.taps)};
  t.step = patches.stride_w * p.pixel;
  t.pitch = l.pitch;
  t.relu = p.relu;
  t.to_step = p.out_column;
  const unsigned before = ignore_subnormals();
  for (int64_t i = first; i < smaller(first + l.band, l.rows); ++i) {
    const Reach rows = reach_of(i, patches.taps_h, patches.stride_h, patches.base_h, patches.step_h,
                                patches.height);
    const S* const line =
        x + ((i * patches.stride_h + patches.base_h) * patches.width + patches.base_w) * p.pixel;
    const auto positions = [&](int64_t begin, int64_t end) {
      for (int64_t c = 0; c < p.groups; c += kTileVectors * kL) {
        const int64_t width = smaller(kTileVectors * kL, p.groups - c);
        const int vectors = static_cast<int>(divide_up(width, kL));
        t.last = static_cast<int>(width - (vectors - 1) * kL);
        t.weights = weights + c;
        t.bias = weights + l.taps * l.pitch + c;
        for (int64_t j = begin; j < end;) {
          const bool four = end - j >= kTilePositions;
          t.from = line + j * t.step + c;
          t.to = out + i * p.out_row + j * p.out_column + c;
          (four ? kTileKernels<T, S, kTilePositions> : kTileKernels<T, S, 1>)[vectors - 1](t);
          j += four ? kTilePositions : 1;
        }
      }
    };
    for (int64_t j = 0; j < patches.columns; ++j) {
      if (j == l.whole.first && l.whole.end > j) {
        list_taps(patches, p.pixel, rows, all, t.list);
        positions(j, l.whole.end);
        j = l.whole.end - 1;
        continue;
      }
      const Reach columns = reach_of(j, patches.taps_w, patches.stride_w, patches.base_w,
                                     patches.step_w, patches.width);
      list_taps(patches, p.pixel, rows, columns, t.list);
      positions(j, j + 1);
    }
  }
  restore_subnormals(before);
}

template <class T, class S>
void launch_product(Stream& stream, const Product& p) {
  Launch l = {};
  l.p = p;
  l.taps = tap_count(p.patches);
  l.pitch = round_up(p.groups, kLanes<T>);
  l.rows = p.positions / p.patches.columns;
  l.whole = whole_columns(p.patches);
  const int64_t row_work = p.patches.columns * p.groups * larger(1, l.taps);
  l.band = larger(1, smaller(l.rows, kChunkWork / row_work));
  l.bands = divide_up(l.rows, l.band);
  const Scratch packed(stream, sizeof(T) * static_cast<size_t>((l.taps + 1) * l.pitch));
  l.p.packed = packed.data();
  launch(stream, "conv_pack", pack_kernel<T, S>, &l, sizeof l, l.taps + 1);
  launch(stream, "conv", product_kernel<T, S>, &l, sizeof l, p.images * l.bands);
}

bool product(Stream& stream, const Product& p, DType dtype) {
  if (p.m != 1 || p.channels != 1 || tap_count(p.patches) > kMostTaps) return false;
  with_floats("conv2d", dtype, [&](auto t, auto stored) {
    launch_product<decltype(t), decltype(stored)>(stream, p);
  });
  return true;
}

// Gradient of the weight ------------------------------------------------------------------------

struct WeightLaunch {
  const void* x;
  const void* dy;
  void* sums;  // [part][tap][pitch]
  Patches patches;
  int64_t channels, taps, pitch;
  int64_t rows, all;  // rows of positions in an image, and in all
  int64_t parts, part_rows;
  Reach whole;
};

template <class T, class S>
struct AddArgs {
  const S* x;  // the base of the first position, and channel
  const S* dy;
  int64_t x_step, dy_step, count;  // between positions, and how many
  const int64_t* offsets;
  const int64_t* taps;
  T* sums;
  int64_t pitch;
  int last;  // elements of the last vector
};

// sums[tap] += Σ dy · x over some positions.
template <class T, class S, int Taps, int Vectors>
void add_taps(const AddArgs<T, S>& t) {
  constexpr int kL = kLanes<T>;
  Vector<T> sum[Vectors][Taps];
  const S* at[Taps];
#pragma GCC unroll 9
  for (int k = 0; k < Taps; ++k) {
    at[k] = t.x + t.offsets[k];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[v][k] = load(t.sums + t.taps[k] * t.pitch + v * kL);
  }
  const bool whole = t.last == kL;
  for (int64_t j = 0; j < t.count; ++j) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      const bool all = v + 1 < Vectors || whole;
      const S* const dy = t.dy + j * t.dy_step + v * kL;
      const Vector<T> y = all ? read<T, S>(dy) : read_part<T, S>(dy, t.last);
#pragma GCC unroll 9
      for (int k = 0; k < Taps; ++k) {
        const S* const x = at[k] + j * t.x_step + v * kL;
        multiply_add<T>(sum[v][k], all ? read<T, S>(x) : read_part<T, S>(x, t.last), y);
      }
    }
  }
#pragma GCC unroll 9
  for (int k = 0; k < Taps; ++k) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) store(t.sums + t.taps[k] * t.pitch + v * kL, sum[v][k]);
  }
}

template <class T, class S>
using AddTaps = void (*)(const AddArgs<T, S>&);
template <class T, class S, int Vectors>
constexpr AddTaps<T, S> kAddTaps[kTaps] = {
    add_taps<T, S, 1, Vectors>, add_taps<T, S, 2, Vectors>, add_taps<T, S, 3, Vectors>,
    add_taps<T, S, 4, Vectors>, add_taps<T, S, 5, Vectors>, add_taps<T, S, 6, Vectors>,
    add_taps<T, S, 7, Vectors>, add_taps<T, S, 8, Vectors>, add_taps<T, S, 9, Vectors>};

template <class T, class S>
void weight_kernel(const void* args, int64_t part) {
  const WeightLaunch& l = *static_cast<const WeightLaunch*>(args);
  const Patches& patches = l.patches;
  constexpr int kL = kLanes<T>;
  int64_t* const memory =
      static_cast<int64_t*>(thread_scratch(sizeof(int64_t) * static_cast<size_t>(2 * l.taps)));
  if (!memory) fail("conv2d: out of memory for taps");
  TapList list = {0, memory, memory + l.taps};
  T* const sums = static_cast<T*>(l.sums) + part * l.taps * l.pitch;
  __builtin_memset(sums, 0, sizeof(T) * static_cast<size_t>(l.taps * l.pitch));
  const int64_t pixel = l.channels;
  const unsigned before = ignore_subnormals();
  for (int64_t row = part * l.part_rows; row < smaller((part + 1) * l.part_rows, l.all); ++row) {
    const int64_t image = row / l.rows, i = row % l.rows;
    const Reach rows = reach_of(i, patches.taps_h, patches.stride_h, patches.base_h, patches.step_h,
                                patches.height);
    const S* const line =
        static_cast<const S*>(l.x) +
        ((image * patches.height + i * patches.stride_h + patches.base_h) * patches.width +
         patches.base_w) *
            pixel;
    const S* const dy = static_cast<const S*>(l.dy) + row * patches.columns * pixel;
    const auto positions = [&](int64_t j, int64_t count) {
      AddArgs<T, S> t;
      t.x_step = patches.stride_w * pixel;
      t.dy_step = pixel;
      t.count = count;
      t.pitch = l.pitch;
      for (int64_t c = 0; c < l.channels; c += kSumVectors * kL) {
        const int64_t width = smaller(kSumVectors * kL, l.channels - c);
        const int64_t vectors = divide_up(width, kL);
        t.last = static_cast<int>(width - (vectors - 1) * kL);
        t.x = line + j * t.x_step + c;
        t.dy = dy + j * pixel + c;
        t.sums = sums + c;
        for (int64_t k = 0; k < list.count; k += kTaps) {
          t.offsets = list.offsets + k;
          t.taps = list.taps + k;
          const int64_t some = smaller(kTaps, list.count - k) - 1;
          (vectors == 1 ? kAddTaps<T, S, 1> : kAddTaps<T, S, kSumVectors>)[some](t);
        }
      }
    };
    for (int64_t j = 0; j < patches.columns; ++j) {
      const bool whole = j == l.whole.first && l.whole.end > j;
      const Reach columns = whole ? Reach{0, patches.taps_w}
                                  : reach_of(j, patches.taps_w, patches.stride_w, patches.base_w,
                                             patches.step_w, patches.width);
      list_taps(patches, pixel, rows, columns, list);
      positions(j, whole ? l.whole.end - j : 1);
      if (whole) j = l.whole.end - 1;
    }
  }
  restore_subnormals(before);
}

template <class T, class S>
void launch_weight(Stream& stream, WeightLaunch l, void* dw) {
  l.pitch = round_up(l.channels, kLanes<T>);
  const int64_t work = l.all * l.patches.columns * l.channels * l.taps;
  l.parts = larger(1, smaller(smaller(l.all, kManyChunks), work / kChunkWork));
  l.part_rows = larger(1, divide_up(l.all, l.parts));
  l.parts = larger(1, divide_up(l.all, l.part_rows));
  const Scratch sums(stream, sizeof(T) * static_cast<size_t>(l.parts * l.taps * l.pitch));
  l.sums = sums.data();
  launch(stream, "conv_weight", weight_kernel<T, S>, &l, sizeof l, l.parts);
  add_parts<T, S>(stream, {l.sums, dw, l.parts, 1, l.channels, 1, l.taps, l.pitch, true});
}

bool weight(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw) {
  if (s.c != s.groups || s.o != s.groups || s.kh * s.kw > kMostTaps) return false;
  WeightLaunch l = {};
  l.x = x;
  l.dy = dy;
  l.patches = patches_of(s);
  l.channels = s.c;
  l.taps = s.kh * s.kw;
  l.rows = s.oh;
  l.all = s.n * s.oh;
  l.whole = whole_columns(l.patches);
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    launch_weight<decltype(t), decltype(stored)>(stream, l, dw);
  });
  return true;
}

}  // namespace

extern const DepthwiseConv depthwise_last_conv;
const DepthwiseConv depthwise_last_conv = {product, weight};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
