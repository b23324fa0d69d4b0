// Convolutions of few channels a group, depthwise above all: sums of shifted rows, where a product
// per group would have too few rows to pay for its patches.
//   y[m, i, j] = Σ_{q,a,b} w[m, q, a, b] · x[q, i·stride + base + a·step, …]
// A chunk gathers a band of each input plane with its zeros around it, columns sorted by their
// remainder modulo the stride, so that every tap is a whole run; a tile of 4 rows of some vectors
// of outputs then stays in registers while all taps go by. The gradient of the data is such a
// product too (conv.cc); that of the weight keeps a vector per tap while a band goes by, and adds
// parts of the images in order. All cuts follow from the sizes.
// Cost: a load of a row for each multiplication of a vector; from 3 x 3 taps on about as much time
// as reading the image and writing the result.
#include "cpu/conv_gather.h"
#include "cpu/conv_product.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif
constexpr int kTileRows = 4;
constexpr int kTaps = 9;                    // that the gradient of the weight takes at once
constexpr int64_t kBandElements = 1 << 14;  // of the gathered planes
constexpr int64_t kMostElements = 1 << 17;  // likewise, where a row alone needs more
constexpr int64_t kChunkWork = 1 << 18;     // multiplications worth a chunk of their own
constexpr int64_t kManyChunks = 32;
constexpr int64_t kFewChannels = 4;

// Where the gathered planes lie: [q][row][column mod stride_w][phase_pitch].
struct Gathered {
  Patches patches;
  int64_t channels, rows;  // rows of positions
  int64_t low_h, low_w;    // the first row and column that a tap of position 0 reaches, less base
  int64_t band, bands;     // rows of positions in a band
  int64_t phase_pitch, row_pitch, plane;
};

// Plans bands; false where taps lie so far apart that planes would be mostly zeros.
template <class T>
bool plan_bands(const Patches& p, int64_t channels, int64_t positions, Gathered& g) {
  g = {};
  g.patches = p;
  g.channels = channels;
  if (channels * p.taps_h * p.taps_w * positions == 0) return false;
  const int64_t reach_h = (p.taps_h - 1) * p.step_h, reach_w = (p.taps_w - 1) * p.step_w;
  const int64_t span_h = reach_h < 0 ? -reach_h : reach_h,
                span_w = reach_w < 0 ? -reach_w : reach_w;
  if (span_h > kMostElements || span_w > kMostElements || p.columns > kMostElements ||
      p.stride_h > kMostElements || p.stride_w > kMostElements) {
    return false;
  }
  g.low_h = smaller(0, reach_h);
  g.low_w = smaller(0, reach_w);
  g.rows = positions / p.columns;
  // Tiles read whole vectors.
  g.phase_pitch = round_up(span_w / p.stride_w + 1 + round_up(p.columns, kLanes<T>), kLanes<T>);
  g.row_pitch = p.stride_w * g.phase_pitch;
  const int64_t line = channels * g.row_pitch;
  if (line > kMostElements || (span_h + 1) * line > kMostElements) return false;
  const int64_t fitting = (kBandElements / line - span_h - 1) / p.stride_h + 1;
  g.band = smaller(g.rows, larger(kTileRows, fitting / kTileRows * kTileRows));
  g.bands = divide_up(g.rows, g.band);
  g.plane = ((g.band - 1) * p.stride_h + span_h + 1) * g.row_pitch;
  return g.plane * channels <= 4 * kMostElements;
}

// `count` rows of every stride-th element.
template <class T, class S>
NODEGRAD_INLINE void copy_lines(const S* from, int64_t from_step, int64_t stride, T* to,
                                int64_t to_step, int64_t n, int64_t count) {
  if (stride != 2) {
    gather_rows(from, from_step, stride, to, to_step, n, count);
    return;
  }
  for (int64_t r = 0; r < count; ++r, from += from_step, to += to_step) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[2 * i]);
  }
}

// Zeros around all planes of a band, and in them.
template <class T>
void clear_band(const Gathered& g, T* to) {
  __builtin_memset(to, 0, sizeof(T) * static_cast<size_t>(g.channels * g.plane));
}

// The rows of one plane that `rows` rows of positions from `first` on reach, into a cleared band.
template <class T, class S>
void gather_band(const Gathered& g, const S* image, int64_t first, int64_t rows, T* to) {
  const Patches& p = g.patches;
  const int64_t top = first * p.stride_h + p.base_h + g.low_h, left = p.base_w + g.low_w;
  const int64_t reach = (p.taps_h - 1) * p.step_h;
  const int64_t count = (rows - 1) * p.stride_h + (reach < 0 ? -reach : reach) + 1;
  const int64_t begin_row = larger(0, -top), end_row = smaller(count, p.height - top);
  for (int64_t phase = 0; phase < p.stride_w; ++phase) {
    const int64_t column = left + phase;
    const int64_t begin = column < 0 ? divide_up(-column, p.stride_w) : 0;
    const int64_t inside = column < p.width ? divide_up(p.width - column, p.stride_w) : 0;
    const int64_t end = smaller(inside, g.phase_pitch);
    if (begin >= end || begin_row >= end_row) continue;
    const S* const from = image + (top + begin_row) * p.width + column + begin * p.stride_w;
    copy_lines(from, p.width, p.stride_w,
               to + begin_row * g.row_pitch + phase * g.phase_pitch + begin, g.row_pitch,
               end - begin, end_row - begin_row);
  }
}

// From a position's place in the gathered planes to each of its taps.
void tap_offsets(const Gathered& g, int64_t* offsets) {
  const Patches& p = g.patches;
  for (int64_t q = 0; q < g.channels; ++q) {
    for (int64_t a = 0; a < p.taps_h; ++a) {
      for (int64_t b = 0; b < p.taps_w; ++b) {
        const int64_t row = a * p.step_h - g.low_h, column = b * p.step_w - g.low_w;
        *offsets++ = q * g.plane + row * g.row_pitch + column % p.stride_w * g.phase_pitch +
                     column / p.stride_w;
      }
    }
  }
}

template <class T>
struct TileArgs {
  const T* from;
  int64_t row_step;  // between rows of positions, in the gathered plane
  const int64_t* offsets;
  const T* weights;
  int64_t taps;
  T bias;
  bool relu;
  T* to;
  int64_t to_row;
  int last;  // elements of the last vector
};

template <class T, int Rows, int Vectors>
void tile_kernel(const TileArgs<T>& t) {
  constexpr int kL = kLanes<T>;
  Vector<T> sums[Rows][Vectors];
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[i][v] = Vector<T>{};
  }
  for (int64_t k = 0; k < t.taps; ++k) {
    const T* const from = t.from + t.offsets[k];
    const Vector<T> w = broadcast(t.weights[k]);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        multiply_add<T>(sums[i][v], load(from + i * t.row_step + v * kL), w);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      Vector<T> x = sums[i][v] + broadcast(t.bias);
      if (t.relu) x = x < Vector<T>{} ? Vector<T>{} : x;  // NaN stays
      T* const to = t.to + i * t.to_row + v * kL;
      if (v + 1 < Vectors || t.last == kL) {
        store(to, x);
      } else {
        store_part(to, x, t.last);
      }
    }
  }
}

template <class T>
using TileKernel = void (*)(const TileArgs<T>&);
template <class T, int Rows>
constexpr TileKernel<T> kTileKernels[] = {
    tile_kernel<T, Rows, 1>,
    tile_kernel<T, Rows, 2>,
#if defined(__AVX512F__)
    tile_kernel<T, Rows, 3>,
    tile_kernel<T, Rows, 4>,
#endif
};

struct Launch {
  Product p;
  Gathered g;
  int64_t planes;  // pairs of image and group in a chunk
};

template <class T, class S>
void product_kernel(const void* args, int64_t chunk) {
  const Launch& l = *static_cast<const Launch*>(args);
  const Product& p = l.p;
  const Gathered& g = l.g;
  constexpr int kL = kLanes<T>;
  const int64_t taps = g.channels * tap_count(p.patches), all = p.images * p.groups;
  const int64_t gathered_size = g.channels * g.plane, weights_size = round_up(taps, kL);
  T* const gathered = static_cast<T*>(
      thread_scratch(sizeof(T) * (gathered_size + weights_size) + sizeof(int64_t) * taps));
  if (!gathered) fail("conv2d: out of memory for a band");
  T* const weights = gathered + gathered_size;
  int64_t* const offsets = reinterpret_cast<int64_t*>(weights + weights_size);
  tap_offsets(g, offsets);
  const int64_t band = chunk % g.bands * g.band, rows = smaller(g.band, g.rows - band);
  const int64_t first = chunk / g.bands * l.planes;
  const int64_t columns = p.patches.columns;
  const bool direct = sizeof(T) == sizeof(S) && p.out_column == 1;
  const unsigned before = ignore_subnormals();
  clear_band(g, gathered);  // all planes of a chunk have their zeros at the same places
  for (int64_t pair = first; pair < smaller(first + l.planes, all); ++pair) {
    const int64_t group = pair % p.groups;
    const S* const image = static_cast<const S*>(p.image) + pair * p.channels * p.patches.plane;
    for (int64_t q = 0; q < g.channels; ++q) {
      gather_band(g, image + q * p.patches.plane, band, rows, gathered + q * g.plane);
    }
    for (int64_t m = 0; m < p.m; ++m) {
      const S* const w =
          static_cast<const S*>(p.weight) + group * p.weight_group + m * p.weight_m + p.tap;
      T* next = weights;
      for (int64_t q = 0; q < g.channels; ++q) {
        for (int64_t a = 0; a < p.patches.taps_h; ++a) {
          for (int64_t b = 0; b < p.patches.taps_w; ++b) {
            *next++ = Stored<S>::load(w[q * p.weight_q + a * p.tap_h + b * p.tap_w]);
          }
        }
      }
      S* const out = static_cast<S*>(p.out) + (pair * p.m + m) * p.out_plane + p.out_first;
      TileArgs<T> t;
      t.row_step = p.patches.stride_h * g.row_pitch;
      t.offsets = offsets;
      t.weights = weights;
      t.taps = taps;
      t.bias = p.bias ? Stored<S>::load(static_cast<const S*>(p.bias)[group * p.m + m]) : T(0);
      t.relu = p.relu;
      alignas(64) T tile[kTileRows * kTileVectors * kL];
      for (int64_t i = 0; i < rows;) {
        const int64_t height = rows - i >= 4 ? 4 : rows - i >= 2 ? 2 : 1;
        for (int64_t j = 0; j < columns; j += kTileVectors * kL) {
          const int64_t width = smaller(kTileVectors * kL, columns - j);
          const int vectors = static_cast<int>(divide_up(width, kL));
          S* const to = out + (band + i) * p.out_row + j * p.out_column;
          t.from = gathered + i * t.row_step + j;
          t.to = direct ? reinterpret_cast<T*>(to) : tile;
          t.to_row = direct ? p.out_row : kTileVectors * kL;
          t.last = static_cast<int>(width - (vectors - 1) * kL);
          (height == 4   ? kTileKernels<T, 4>
           : height == 2 ? kTileKernels<T, 2>
                         : kTileKernels<T, 1>)[vectors - 1](t);
          if (direct) continue;
          for (int64_t r = 0; r < height; ++r) {
            const T* const from = tile + r * t.to_row;
            S* const line = to + r * p.out_row;
            const int64_t apart = p.out_column;
#pragma GCC ivdep
            for (int64_t k = 0; k < width; ++k) line[k * apart] = Stored<S>::store(from[k]);
          }
        }
        i += height;
      }
    }
  }
  restore_subnormals(before);
}

template <class T, class S>
bool launch_product(Stream& stream, const Product& p) {
  Launch l = {};
  l.p = p;
  if (!plan_bands<T>(p.patches, p.channels, p.positions, l.g)) return false;
  const int64_t all = p.images * p.groups;
  const int64_t work = p.positions * p.m * p.channels * tap_count(p.patches);
  l.planes = larger(1, smaller(kChunkWork / work, all / kManyChunks));
  launch(stream, "conv", product_kernel<T, S>, &l, sizeof l, divide_up(all, l.planes) * l.g.bands);
  return true;
}

bool product(Stream& stream, const Product& p, DType dtype) {
  if (p.m > kFewChannels || p.channels > kFewChannels) return false;
  bool served = false;
  with_floats("conv2d", dtype, [&](auto t, auto stored) {
    served = launch_product<decltype(t), decltype(stored)>(stream, p);
  });
  return served;
}

// Gradient of the weight ------------------------------------------------------------------------

struct WeightLaunch {
  const void* x;
  const void* dy;
  void* dw;
  void* sums;  // [part][group][outputs][taps]
  Gathered g;
  int64_t images, groups, outputs, positions, taps;
  int64_t parts, part_images;
};

// sums[k] += Σ dy · x along the lanes, over a band.
template <class T, int Taps>
void add_taps(const T* x, int64_t x_row, const int64_t* offsets, const T* dy, int64_t dy_row,
              int64_t rows, int64_t columns, T* sums) {
  constexpr int kL = kLanes<T>;
  Vector<T> sum[Taps];
#pragma GCC unroll 9
  for (int k = 0; k < Taps; ++k) sum[k] = load(sums + k * kL);
  const int64_t whole = columns / kL * kL;
  const int left = static_cast<int>(columns - whole);
  for (int64_t i = 0; i < rows; ++i) {
    const T* at[Taps];
#pragma GCC unroll 9
    for (int k = 0; k < Taps; ++k) at[k] = x + offsets[k];
    for (int64_t j = 0; j < whole; j += kL) {
      const Vector<T> y = load(dy + j);
#pragma GCC unroll 9
      for (int k = 0; k < Taps; ++k) multiply_add<T>(sum[k], load(at[k] + j), y);
    }
    if (left) {
      // Both in part: an infinity beyond the row must not meet the zeros.
      const Vector<T> y = load_part(dy + whole, left);
#pragma GCC unroll 9
      for (int k = 0; k < Taps; ++k) multiply_add<T>(sum[k], load_part(at[k] + whole, left), y);
    }
    x += x_row;
    dy += dy_row;
  }
#pragma GCC unroll 9
  for (int k = 0; k < Taps; ++k) store(sums + k * kL, sum[k]);
}

template <class T>
using AddTaps = void (*)(const T*, int64_t, const int64_t*, const T*, int64_t, int64_t, int64_t,
                         T*);
template <class T>
constexpr AddTaps<T> kAddTaps[kTaps] = {add_taps<T, 1>, add_taps<T, 2>, add_taps<T, 3>,
                                        add_taps<T, 4>, add_taps<T, 5>, add_taps<T, 6>,
                                        add_taps<T, 7>, add_taps<T, 8>, add_taps<T, 9>};

template <class T, class S>
void weight_kernel(const void* args, int64_t chunk) {
  const WeightLaunch& l = *static_cast<const WeightLaunch*>(args);
  const Gathered& g = l.g;
  constexpr bool kNative = sizeof(T) == sizeof(S);
  constexpr int kL = kLanes<T>;
  const int64_t group = chunk % l.groups, part = chunk / l.groups;
  const int64_t columns = g.patches.columns, all = l.outputs * l.taps;
  const int64_t gathered_size = g.channels * g.plane;
  const int64_t read_size = kNative ? 0 : round_up(g.band * columns, kL);
  T* const gathered = static_cast<T*>(thread_scratch(
      sizeof(T) * (gathered_size + read_size + all * kL) + sizeof(int64_t) * l.taps));
  if (!gathered) fail("conv2d: out of memory for a band");
  T* const read = gathered + gathered_size;
  T* const sums = read + read_size;
  int64_t* const offsets = reinterpret_cast<int64_t*>(sums + all * kL);
  tap_offsets(g, offsets);
  clear_rows(sums, 0, all * kL, 1);
  clear_band(g, gathered);
  const unsigned before = ignore_subnormals();
  const int64_t first = part * l.part_images;
  for (int64_t image = first; image < smaller(first + l.part_images, l.images); ++image) {
    const int64_t pair = image * l.groups + group;
    const S* const x = static_cast<const S*>(l.x) + pair * g.channels * g.patches.plane;
    for (int64_t band = 0; band < g.rows; band += g.band) {
      const int64_t rows = smaller(g.band, g.rows - band);
      if (g.bands > 1) clear_band(g, gathered);
      for (int64_t q = 0; q < g.channels; ++q) {
        gather_band(g, x + q * g.patches.plane, band, rows, gathered + q * g.plane);
      }
      for (int64_t o = 0; o < l.outputs; ++o) {
        const S* const from =
            static_cast<const S*>(l.dy) + (pair * l.outputs + o) * l.positions + band * columns;
        const T* dy = read;
        if constexpr (kNative) {
          dy = from;
        } else {
          gather_rows(from, 0, 1, read, 0, rows * columns, 1);
        }
        for (int64_t k = 0; k < l.taps; k += kTaps) {
          kAddTaps<T>[smaller(kTaps, l.taps - k) - 1](gathered, g.patches.stride_h * g.row_pitch,
                                                      offsets + k, dy, columns, rows, columns,
                                                      sums + (o * l.taps + k) * kL);
        }
      }
    }
  }
  T* const to = static_cast<T*>(l.sums) + (part * l.groups + group) * all;
  for (int64_t k = 0; k < all; ++k) to[k] = sum_lanes<T>(load(sums + k * kL));
  restore_subnormals(before);
}

constexpr int64_t kPartChunk = 4096;

template <class T, class S>
void weight_parts_kernel(const void* args, int64_t chunk) {
  const WeightLaunch& l = *static_cast<const WeightLaunch*>(args);
  const int64_t all = l.groups * l.outputs * l.taps, begin = chunk * kPartChunk;
  for (int64_t i = begin; i < smaller(begin + kPartChunk, all); ++i) {
    T sum = 0;
    for (int64_t part = 0; part < l.parts; ++part) {
      sum += static_cast<const T*>(l.sums)[part * all + i];
    }
    static_cast<S*>(l.dw)[i] = Stored<S>::store(sum);
  }
}

template <class T, class S>
bool launch_weight(Stream& stream, const ConvShape& s, WeightLaunch l) {
  if (!plan_bands<T>(patches_of(s), s.c / s.groups, l.positions, l.g)) return false;
  const int64_t work = l.images * l.positions * l.outputs * l.taps;
  const int64_t useful = divide_up(kManyChunks, l.groups), worth = work / kChunkWork;
  l.parts = larger(1, smaller(l.images, smaller(useful, worth)));
  l.part_images = divide_up(l.images, l.parts);
  l.parts = divide_up(l.images, l.part_images);
  const int64_t all = l.groups * l.outputs * l.taps;
  const Scratch sums(stream, sizeof(T) * static_cast<size_t>(l.parts * all));
  l.sums = sums.data();
  launch(stream, "conv_weight", weight_kernel<T, S>, &l, sizeof l, l.parts * l.groups);
  launch(stream, "conv_parts", weight_parts_kernel<T, S>, &l, sizeof l, divide_up(all, kPartChunk));
  return true;
}

bool weight(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw) {
  if (s.c / s.groups > kFewChannels || s.o / s.groups > kFewChannels || s.n == 0) return false;
  WeightLaunch l = {};
  l.x = x;
  l.dy = dy;
  l.dw = dw;
  l.images = s.n;
  l.groups = s.groups;
  l.outputs = s.o / s.groups;
  l.positions = s.oh * s.ow;
  l.taps = s.c / s.groups * s.kh * s.kw;
  if (l.outputs * l.taps == 0) return false;
  bool served = false;
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    served = launch_weight<decltype(t), decltype(stored)>(stream, s, l);
  });
  return served;
}

}  // namespace

extern const DepthwiseConv depthwise_conv;
const DepthwiseConv depthwise_conv = {product, weight};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
