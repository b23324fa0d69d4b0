// Convolutions as matrix products whose right operand is read from the image (conv_gather.h), and
// never lies in memory as a whole.
//   forward:  y[n]  = W · patches(x[n])      M = o, K = (c, a, b), positions of y
//   data:     dx[n] = Wᵀ · patches(dy[n])    M = c, K = (o, a, b), positions of dx; with a stride,
//             one such product for each phase (h mod stride, w mod stride), over the taps it has
// conv_weight.cc has the gradient of the weight, conv_depthwise.cc what has few channels a group,
// conv_last.cc images whose channels lie together, conv_depthwise_last.cc what has both, by one
// channel a group; other groups of few channels are copied to planes, which took a tenth of the
// time. Weights are packed once for a launch; a chunk gathers a block of positions and multiplies
// tiles (gemm_kernel.h), then adds bias and applies ReLU while the tile is in cache. All cuts
// follow from the sizes. 16-bit types go through float32. Cost: 2·n·o·oh·ow·c/groups·kh·kw
// operations each; measured (AVX-512, one core, 3 x 3 of 32 to 128 channels) 83 to 99% of a 512³
// product's rate.
#include "cpu/conv_gather.h"
#include "cpu/conv_product.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

extern const CopyFamily copy_family;

namespace {

constexpr int64_t kDepth = 160;              // of a slice of K: a panel of it stays in L1
constexpr int64_t kBlockElements = 1 << 16;  // of C in a block: its sums stay in L2
constexpr int64_t kMostColumns = 1024;       // of a block of positions
constexpr int64_t kManyChunks = 16;
constexpr int64_t kChunkWork = 1 << 20;  // multiplications worth a chunk of their own
constexpr int64_t kFewChannels = 32;     // of a group whose image is better copied to planes

template <class T>
NODEGRAD_INLINE T* packed_block(const Product& p, int64_t group, int64_t slice, int64_t block) {
  const int64_t size =
      tiles_of(p.block_rows).count * kPackedRows<T> * p.slice * tap_count(p.patches);
  return static_cast<T*>(p.packed) + ((group * p.slices + slice) * p.row_blocks + block) * size;
}

template <class T, class S>
void pack_weights_kernel(const void* args, int64_t chunk) {
  const Product& p = *static_cast<const Product*>(args);
  const int64_t block = chunk % p.row_blocks, slice = chunk / p.row_blocks % p.slices;
  const int64_t group = chunk / p.row_blocks / p.slices;
  T* to = packed_block<T>(p, group, slice, block);
  const int64_t q0 = slice * p.slice, channels = smaller(p.slice, p.channels - q0);
  int64_t row = block * p.block_rows;
  const Tiles tiles = tiles_of(smaller(p.block_rows, p.m - row));
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int64_t height = tiles.height + (t < tiles.taller);
    const S* from = static_cast<const S*>(p.weight) + group * p.weight_group + row * p.weight_m +
                    q0 * p.weight_q + p.tap;
    for (int64_t q = 0; q < channels; ++q) {
      for (int64_t a = 0; a < p.patches.taps_h; ++a) {
        for (int64_t b = 0; b < p.patches.taps_w; ++b) {
          const S* const w = from + q * p.weight_q + a * p.tap_h + b * p.tap_w;
          for (int64_t i = 0; i < height; ++i) to[i] = Stored<S>::load(w[i * p.weight_m]);
          to += kPackedRows<T>;
        }
      }
    }
    row += height;
  }
}

// to = activation([to +] sums + bias of the row).
template <class T>
void finish_rows(const T* sums, int64_t stride, T* to, int64_t to_stride, int64_t rows,
                 int64_t columns, const T* bias, bool add, bool relu) {
  constexpr int kL = kLanes<T>;
  for (int64_t i = 0; i < rows; ++i) {
    const T* const from = sums + i * stride;
    T* const y = to + i * to_stride;
    const Vector<T> more = bias ? broadcast(bias[i]) : Vector<T>{};
    const auto finish = [&](Vector<T> x, Vector<T> before) __attribute__((always_inline)) {
      if (add) x += before;
      if (bias) x += more;
      return relu ? (x < Vector<T>{} ? Vector<T>{} : x) : x;  // NaN stays
    };
    int64_t j = 0;
    for (; j + kL <= columns; j += kL) {
      store(y + j, finish(load(from + j), add ? load(y + j) : Vector<T>{}));
    }
    if (const int left = static_cast<int>(columns - j)) {
      const Vector<T> before = add ? load_part(y + j, left) : Vector<T>{};
      store_part(y + j, finish(load_part(from + j, left), before), left);
    }
  }
}

// One tile of rows times one panel of positions, into `target`.
template <class T>
void multiply_tile(const T* a, const T* b, int64_t width, int64_t depth, int64_t height,
                   int64_t columns, T* target, int64_t stride, bool padded, bool add, const T* bias,
                   bool finish, bool relu) {
  const int vectors = static_cast<int>(width / kLanes<T>);
  const MicroKernel<T> kernel = kKernels<T>.get(false, vectors, static_cast<int>(height));
  if (padded || columns == width) {
    kernel(depth, a, kPackedRows<T>, b, width, target, stride, add);
    if (finish && (bias || relu)) {
      finish_rows(target, stride, target, stride, height, columns, bias, false, relu);
    }
  } else {
    alignas(64) T tile[kRows * kColumns<T>];
    kernel(depth, a, kPackedRows<T>, b, width, tile, kColumns<T>, false);
    finish_rows(tile, kColumns<T>, target, stride, height, columns, finish ? bias : nullptr, add,
                finish && relu);
  }
}

// Rows of sums to positions of `out` that are not next to each other, or of another type.
template <class T, class S>
void scatter_rows(const Product& p, const T* sums, int64_t stride, S* out, const S* bias,
                  int64_t rows, const Run* runs, int64_t run_count) {
  for (int64_t i = 0; i < rows; ++i) {
    const T more = bias ? Stored<S>::load(bias[i]) : T(0);
    for (int64_t r = 0; r < run_count; ++r) {
      const Run& run = runs[r];
      if (run.i < 0) continue;
      const T* const from = sums + i * stride + run.panel + run.lane;
      S* const to = out + i * p.out_plane + run.i * p.out_row + run.j * p.out_column;
      const int64_t apart = p.out_column;
      for (int64_t j = 0; j < run.length; ++j) {
        const T x = from[j] + more;
        to[j * apart] = Stored<S>::store(p.relu && x < T(0) ? T(0) : x);
      }
    }
  }
}

template <class T, class S>
void convolve_kernel(const void* args, int64_t chunk) {
  const Product& p = *static_cast<const Product*>(args);
  const int64_t block = chunk % p.row_blocks, row = block * p.block_rows;
  chunk /= p.row_blocks;
  const int64_t column = chunk % p.column_blocks * p.block_columns;
  chunk /= p.column_blocks;
  const int64_t group = chunk % p.groups, image = chunk / p.groups;
  const int64_t rows = smaller(p.block_rows, p.m - row);
  const int64_t columns = smaller(p.block_columns, p.positions - column);
  const int64_t taps = tap_count(p.patches);

  const int64_t stride = round_up(p.block_columns, kColumns<T>);
  const int64_t panel_size = kColumns<T> * p.slice * taps, sums_size = p.direct ? 0 : rows * stride;
  T* const gathered = static_cast<T*>(thread_scratch(sizeof(T) * (panel_size + sums_size + rows) +
                                                     sizeof(Run) * (p.block_columns + 2) + 64));
  if (!gathered) fail("conv2d: out of memory for packing");
  T* const sums = gathered + panel_size;
  T* const bias = sums + sums_size;
  Run* const runs = reinterpret_cast<Run*>(gathered + round_up(panel_size + sums_size + rows, 8));
  const int64_t run_count = make_runs<T>(p.patches, column, columns, kColumns<T>, 0, runs);

  const S* const source =
      static_cast<const S*>(p.image) + (image * p.groups + group) * p.channels * p.patches.plane;
  const S* const added = p.bias ? static_cast<const S*>(p.bias) + group * p.m + row : nullptr;
  S* const out =
      static_cast<S*>(p.out) + ((image * p.groups + group) * p.m + row) * p.out_plane + p.out_first;
  if (added) {
    for (int64_t i = 0; i < rows; ++i) bias[i] = Stored<S>::load(added[i]);
  }
  T* const target = p.direct ? reinterpret_cast<T*>(out) + column : sums;
  const int64_t target_stride = p.direct ? p.out_plane : stride;
  const Tiles tiles = tiles_of(rows);
  for (int64_t slice = 0; slice < p.slices; ++slice) {
    const int64_t q0 = slice * p.slice, channels = smaller(p.slice, p.channels - q0);
    const int64_t depth = channels * taps;
    const bool last = slice + 1 == p.slices;
    const Run* run = runs;
    for (int64_t j = 0; j < columns; j += kColumns<T>) {
      const int64_t there = smaller(kColumns<T>, columns - j), width = round_up(there, kLanes<T>);
      const Run* next = run;
      while (next < runs + run_count && next->panel == j) ++next;
      gather<T, S>(p.patches, source + q0 * p.patches.plane, channels, run, next - run, gathered);
      run = next;
      const T* a = packed_block<T>(p, group, slice, block);
      int64_t done = 0;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t height = tiles.height + (t < tiles.taller);
        multiply_tile<T>(a, gathered, width, depth, height, there,
                         target + done * target_stride + j, target_stride, !p.direct, slice > 0,
                         added ? bias + done : nullptr, last && p.direct, p.relu);
        a += kPackedRows<T> * depth;
        done += height;
      }
    }
  }
  if (!p.direct) {
    scatter_rows<T, S>(p, sums, stride, out, added, rows, runs, run_count);
  }
}

template <class T, class S>
void convolve(Stream& stream, Product p, DType dtype) {
  if (p.images * p.groups * p.m * p.positions == 0) return;
  if (p.pixel > 0) {
    if (p.groups > 1 && depthwise_last_conv.product(stream, p, dtype)) return;
    return channels_last_conv.product(stream, p, dtype);
  }
  if (p.groups > 1 && depthwise_conv.product(stream, p, dtype)) return;
  const int64_t taps = tap_count(p.patches);
  const int64_t whole = larger(1, p.channels * taps);
  p.slices = larger(1, smaller(p.channels, divide_up(whole, kDepth)));
  p.slice = larger(1, divide_up(p.channels, p.slices));
  p.slices = larger(1, divide_up(p.channels, p.slice));

  const int64_t depth = larger(1, p.slice * taps);
  int64_t columns = smaller(kMostColumns, larger(2 * kColumns<T>, kBlockElements / p.m));
  columns = smaller(p.positions, columns / kColumns<T> * kColumns<T>);
  int64_t rows = p.m;
  const auto chunks = [&] {
    return p.images * p.groups * divide_up(p.m, rows) * divide_up(p.positions, columns);
  };
  while (chunks() < kManyChunks && rows * columns * whole > kChunkWork) {
    if (columns >= 4 * kColumns<T>) {
      columns = round_up(columns / 2, kColumns<T>);
    } else if (rows >= 4 * kRows) {
      rows /= 2;
    } else {
      break;
    }
  }
  p.row_blocks = divide_up(p.m, rows);
  p.block_rows = divide_up(p.m, p.row_blocks);
  p.column_blocks = divide_up(p.positions, columns);
  p.block_columns = round_up(divide_up(p.positions, p.column_blocks), kColumns<T>);
  p.column_blocks = divide_up(p.positions, p.block_columns);
  p.direct = sizeof(T) == sizeof(S) && p.out_column == 1 && p.out_row == p.patches.columns;

  const int64_t packs = p.groups * p.slices * p.row_blocks;
  const Scratch packed(stream,
                       sizeof(T) * packs * tiles_of(p.block_rows).count * kPackedRows<T> * depth);
  p.packed = packed.data();
  launch(stream, "conv_pack", pack_weights_kernel<T, S>, &p, sizeof p, packs);
  launch(stream, "conv", convolve_kernel<T, S>, &p, sizeof p,
         p.images * p.groups * p.row_blocks * p.column_blocks);
}

// Where every stride-th position of `out`, of so many channels, rows and columns, lies.
void place_out(Product& p, bool channels_last, int64_t channels, int64_t h, int64_t w,
               int64_t stride_h, int64_t stride_w) {
  const int64_t place = channels_last ? channels : 1;
  p.out_plane = channels_last ? 1 : h * w;
  p.out_row = stride_h * w * place;
  p.out_column = stride_w * place;
  p.out_size = channels * h * w;
}

template <class T, class S>
void forward_as(Stream& stream, const ConvShape& s, const void* x, const void* w, const void* bias,
                void* y, bool relu) {
  Product p = {};
  p.image = x;
  p.weight = w;
  p.bias = bias;
  p.out = y;
  p.patches = patches_of(s);
  p.images = s.n;
  p.groups = s.groups;
  p.m = s.o / s.groups;
  p.channels = s.c / s.groups;
  p.positions = s.oh * s.ow;
  p.weight_q = s.kh * s.kw;
  p.weight_m = p.channels * p.weight_q;
  p.weight_group = p.m * p.weight_m;
  p.tap_h = s.kw;
  p.tap_w = 1;
  place_out(p, s.channels_last, s.o, s.oh, s.ow, 1, 1);
  if (s.channels_last) p.pixel = s.c;
  p.image_size = s.c * s.h * s.w;
  p.relu = relu;
  convolve<T, S>(stream, p, s.dtype);
}

// The taps that reach positions at `phase` of one axis: every so many from `first` on, and which
// element of dy the first position takes at the first of them.
struct PhaseTaps {
  int64_t count, first, apart, base, step;
};
PhaseTaps phase_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  int64_t a = dilation, apart = stride;  // stride / gcd(stride, dilation)
  for (int64_t b = stride; b != 0;) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  apart /= a;
  for (int64_t k = 0; k < smaller(kernel, apart); ++k) {
    const int64_t reach = phase + pad - k * dilation;
    if (reach % stride != 0) continue;
    return {(kernel - k - 1) / apart + 1, k, apart, reach / stride, -(dilation / a)};
  }
  return {0, 0, 0, 0, 0};
}

template <class T, class S>
void backward_data_as(Stream& stream, const ConvShape& s, const void* dy, const void* w,
                      const void* bias, void* dx, bool relu) {
  Product p = {};
  p.image = dy;
  p.weight = w;
  p.bias = bias;
  p.out = dx;
  p.images = s.n;
  p.groups = s.groups;
  p.m = s.c / s.groups;
  p.channels = s.o / s.groups;
  p.weight_m = s.kh * s.kw;
  p.weight_q = p.m * p.weight_m;
  p.weight_group = p.channels * p.weight_q;
  place_out(p, s.channels_last, s.c, s.h, s.w, s.stride_h, s.stride_w);
  if (s.channels_last) p.pixel = s.o;
  p.image_size = s.o * s.oh * s.ow;
  p.relu = relu;
  for (int64_t h = 0; h < smaller(s.stride_h, s.h); ++h) {
    const PhaseTaps rows = phase_taps(h, s.kh, s.stride_h, s.pad_h, s.dilation_h);
    for (int64_t v = 0; v < smaller(s.stride_w, s.w); ++v) {
      const PhaseTaps columns = phase_taps(v, s.kw, s.stride_w, s.pad_w, s.dilation_w);
      const int64_t wide = divide_up(s.w - v, s.stride_w);
      p.patches = {s.oh, s.ow, s.oh * s.ow, wide,         rows.count, columns.count,
                   1,    1,    rows.base,   columns.base, rows.step,  columns.step};
      p.positions = divide_up(s.h - h, s.stride_h) * wide;
      p.tap = rows.first * s.kw + columns.first;
      p.tap_h = rows.apart * s.kw;
      p.tap_w = columns.apart;
      p.out_first = (h * s.w + v) * (s.channels_last ? s.c : 1);
      convolve<T, S>(stream, p, s.dtype);
    }
  }
}

// Where channels lie together, a group of few of them has short runs and products of few columns;
// copied to planes and back it took 3 ms for 59 (2 channels) and 5.5 for 16 (16 channels) of a
// layer of 64. A single channel has vectors of groups.
bool prefers_planes(const ConvShape& s) {
  const bool single = s.c == s.groups && s.o == s.groups;
  return s.channels_last && s.groups > 1 && !single && s.c <= kFewChannels * s.groups &&
         s.o <= kFewChannels * s.groups;
}

View image_view(const void* data, const ConvShape& s, bool output, bool channels_last) {
  const int64_t c = output ? s.o : s.c, h = output ? s.oh : s.h, w = output ? s.ow : s.w;
  View v = {};
  v.data = const_cast<void*>(data);
  v.rank = 4;
  v.dtype = s.dtype;
  const int64_t place = channels_last ? c : 1;
  const int64_t shape[] = {s.n, c, h, w};
  const int64_t strides[] = {c * h * w, channels_last ? 1 : h * w, w * place, place};
  for (int i = 0; i < 4; ++i) {
    v.shape[i] = shape[i];
    v.strides[i] = strides[i];
  }
  return v;
}

// Room for x (or y) in planes, for as long as a convolution of them takes.
class Planes {
 public:
  Planes(Stream& stream, const ConvShape& s, bool output)
      : stream_(stream),
        planes_(image_view(nullptr, s, output, false)),
        memory_(stream, item_size(s.dtype) * static_cast<size_t>(element_count(planes_))) {
    planes_.data = memory_.data();
  }

  void* data() const { return planes_.data; }
  void copy_from(const View& image) { copy_family.copy(stream_, image, planes_); }
  void copy_to(const View& image) { copy_family.copy(stream_, planes_, image); }

 private:
  Stream& stream_;
  View planes_;
  Scratch memory_;
};

ConvShape in_planes(ConvShape s) {
  s.channels_last = false;
  return s;
}

void forward(Stream& stream, const ConvShape& s, const void* x, const void* w, const void* bias,
             void* y, bool relu) {
  if (prefers_planes(s)) {
    Planes from(stream, s, false), to(stream, s, true);
    from.copy_from(image_view(x, s, false, true));
    forward(stream, in_planes(s), from.data(), w, bias, to.data(), relu);
    return to.copy_to(image_view(y, s, true, true));
  }
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    forward_as<decltype(t), decltype(stored)>(stream, s, x, w, bias, y, relu);
  });
}

void backward_data(Stream& stream, const ConvShape& s, const void* dy, const void* w,
                   const void* bias, void* dx, bool relu) {
  if (prefers_planes(s)) {
    Planes from(stream, s, true), to(stream, s, false);
    from.copy_from(image_view(dy, s, true, true));
    backward_data(stream, in_planes(s), from.data(), w, bias, to.data(), relu);
    return to.copy_to(image_view(dx, s, false, true));
  }
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    backward_data_as<decltype(t), decltype(stored)>(stream, s, dy, w, bias, dx, relu);
  });
}

void backward_weight(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw) {
  if (prefers_planes(s)) {
    Planes image(stream, s, false), gradient(stream, s, true);
    image.copy_from(image_view(x, s, false, true));
    gradient.copy_from(image_view(dy, s, true, true));
    return backward_weight(stream, in_planes(s), image.data(), gradient.data(), dw);
  }
  if (s.channels_last) {
    if (s.groups > 1 && depthwise_last_conv.weight(stream, s, x, dy, dw)) return;
    return channels_last_conv.weight(stream, s, x, dy, dw);
  }
  if (s.groups > 1 && depthwise_conv.weight(stream, s, x, dy, dw)) return;
  conv_weight_gradient(stream, s, x, dy, dw);
}

}  // namespace

extern const ConvFamily conv_family;
const ConvFamily conv_family = {forward, backward_data, backward_weight, nullptr};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
