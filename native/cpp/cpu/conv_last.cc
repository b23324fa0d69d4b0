// Convolutions of images whose channels lie together, [n,h,w,c]: products with positions as rows,
//   out[n, position, m] = activation(Σ_k patch[position, k] · weight[k, m] + bias[m]),  k = (tap,
//   c) dWᵀ[k, o] = Σ_{n, position} patch[position, k] · dy[n, position, o], in parts added in
//   order,
// so that a tap of a position is a run of memory, and so is a row of sums. Where an image's rows
// are the patches (1 x 1, stride 1) nothing is gathered. Weights are packed once for a launch. All
// cuts follow from the sizes. 16-bit types go through float32. Cost: 2·positions·m·k operations.
#include "cpu/conv_parts.h"
#include "cpu/gemm_pack.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kDepth = 192;      // of K in a slice: a panel of weights stays in L1
constexpr int64_t kPositions = 224;  // of a block, which stays in L2
constexpr int64_t kManyChunks = 16;
constexpr int64_t kChunkWork = 1 << 20;     // multiplications worth a chunk of their own
constexpr int64_t kPartElements = 1 << 23;  // of all partial sums

// K cut into slices of whole taps, or of parts of one tap's channels.
struct Slices {
  int64_t count, taps, channels, parts;  // of a slice; parts of a tap
};
struct Slice {
  int64_t tap, taps, channel, channels;
};

Slices slices_of(int64_t taps, int64_t channels) {
  Slices s;
  s.parts = larger(1, divide_up(channels, kDepth));
  s.channels = divide_up(channels, s.parts);
  if (s.channels > 0) s.parts = divide_up(channels, s.channels);
  s.taps = s.parts > 1 ? 1 : larger(1, smaller(taps, kDepth / larger(1, channels)));
  s.count = larger(1, divide_up(taps, s.taps) * s.parts);
  return s;
}

Slice slice_at(const Slices& s, int64_t at, int64_t taps, int64_t channels) {
  const int64_t tap = at / s.parts * s.taps, channel = at % s.parts * s.channels;
  return {tap, smaller(s.taps, taps - tap), channel, smaller(s.channels, channels - channel)};
}

template <class T, class S>
NODEGRAD_INLINE void copy_run(const S* from, T* to, int64_t n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    constexpr int kL = kLanes<T>;
    int64_t i = 0;
    for (; i + kL <= n; i += kL) store(to + i, load(from + i));
    if (const int left = static_cast<int>(n - i))
      store_part(to + i, load_part(from + i, left), left);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i]);
  }
}

// Rows of a matrix: where the first one is, and how far apart they are.
template <class T>
struct Rows {
  const T* first;
  int64_t pitch;
};

// Are the rows of the image the patches?
bool lies_ready(const Patches& p) {
  return tap_count(p) == 1 && p.stride_h == 1 && p.stride_w == 1 && p.base_h == 0 &&
         p.base_w == 0 && p.columns == p.width;
}

// The patches of `count` positions from `first` on, of one slice of K. `image` is the first of the
// group's channels, `to` has room for count · round_up(depth) elements.
template <class T, class S>
Rows<T> gather(const Patches& p, const S* image, int64_t pixel, const Slice& slice, int64_t first,
               int64_t count, T* to) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (lies_ready(p)) return {image + first * pixel + slice.channel, pixel};
  }
  const int64_t n = slice.channels, pitch = round_up(slice.taps * n, kLanes<T>) + kLanes<T>;
  int64_t i = first / p.columns, j = first % p.columns;
  for (int64_t position = 0; position < count; ++position) {
    T* target = to + position * pitch;
    for (int64_t tap = slice.tap; tap < slice.tap + slice.taps; ++tap, target += n) {
      const int64_t row = i * p.stride_h + p.base_h + tap / p.taps_w * p.step_h;
      const int64_t column = j * p.stride_w + p.base_w + tap % p.taps_w * p.step_w;
      if (row >= 0 && row < p.height && column >= 0 && column < p.width) {
        copy_run(image + (row * p.width + column) * pixel + slice.channel, target, n);
      } else {
        for (int64_t c = 0; c < n; ++c) target[c] = T(0);
      }
    }
    if (++j == p.columns) {
      j = 0;
      ++i;
    }
  }
  return {to, pitch};
}

template <class T>
int64_t gathered_size(const Slices& s, int64_t count) {
  return count * (round_up(s.taps * s.channels, kLanes<T>) + kLanes<T>);
}

struct Launch {
  Product p;
  Slices slices;
  int64_t k, blocks, block;  // positions in a block
  int64_t stride;            // outputs, rounded to whole vectors
};

// Weights as panels of columns: [group][panel][k][width].
template <class T, class S>
void pack_kernel(const void* args, int64_t chunk) {
  const Launch& l = *static_cast<const Launch*>(args);
  const Product& p = l.p;
  const int64_t panels = divide_up(p.m, kColumns<T>), group = chunk / panels;
  const int64_t j = chunk % panels * kColumns<T>;
  const int64_t there = smaller(kColumns<T>, p.m - j), width = round_up(there, kLanes<T>);
  T* to = static_cast<T*>(p.packed) + (group * l.stride + j) * l.k;
  const S* const from =
      static_cast<const S*>(p.weight) + group * p.weight_group + j * p.weight_m + p.tap;
  for (int64_t a = 0; a < p.patches.taps_h; ++a) {
    for (int64_t b = 0; b < p.patches.taps_w; ++b) {
      for (int64_t q = 0; q < p.channels; ++q, to += width) {
        const S* const w = from + q * p.weight_q + a * p.tap_h + b * p.tap_w;
        for (int64_t i = 0; i < there; ++i) to[i] = Stored<S>::load(w[i * p.weight_m]);
        for (int64_t i = there; i < width; ++i) to[i] = T(0);
      }
    }
  }
}

// Rows of sums to places of `out` of another type, or that are not evenly apart.
template <class T, class S>
void scatter_rows(const Product& p, const T* sums, int64_t stride, const T* bias, S* out,
                  int64_t first, int64_t count) {
  int64_t i = first / p.patches.columns, j = first % p.patches.columns;
  for (int64_t position = 0; position < count; ++position) {
    const T* const from = sums + position * stride;
    S* const to = out + i * p.out_row + j * p.out_column;
#pragma GCC ivdep
    for (int64_t m = 0; m < p.m; ++m) {
      const T x = bias ? from[m] + bias[m] : from[m];
      to[m] = Stored<S>::store(p.relu && x < T(0) ? T(0) : x);  // NaN stays
    }
    if (++j == p.patches.columns) {
      j = 0;
      ++i;
    }
  }
}

template <class T, class S>
void product_kernel(const void* args, int64_t chunk) {
  const Launch& l = *static_cast<const Launch*>(args);
  const Product& p = l.p;
  const int64_t first = chunk % l.blocks * l.block;
  chunk /= l.blocks;
  const int64_t group = chunk % p.groups, image = chunk / p.groups;
  const int64_t count = smaller(l.block, p.positions - first);
  const int64_t taps = tap_count(p.patches), gathered = gathered_size<T>(l.slices, l.block);
  const int64_t sums_size = p.direct ? 0 : l.block * l.stride;
  T* const memory =
      static_cast<T*>(thread_scratch(sizeof(T) * (gathered + sums_size + l.stride) + 64));
  if (!memory) fail("conv2d: out of memory for patches");
  T* const sums = memory + gathered;
  T* const bias = p.bias ? sums + sums_size : nullptr;
  if (bias) copy_run(static_cast<const S*>(p.bias) + group * p.m, bias, p.m);
  const S* const source =
      static_cast<const S*>(p.image) + image * p.image_size + group * p.channels;
  S* const out = static_cast<S*>(p.out) + image * p.out_size + group * p.m + p.out_first;
  T* const target = p.direct ? reinterpret_cast<T*>(out) + first * p.out_column : sums;
  const int64_t target_stride = p.direct ? p.out_column : l.stride;
  const T* const packed = static_cast<const T*>(p.packed) + group * l.stride * l.k;
  alignas(64) T tile[kRows * kColumns<T>];
  for (int64_t at = 0; at < l.slices.count; ++at) {
    const Slice slice = slice_at(l.slices, at, taps, p.channels);
    const int64_t depth = slice.taps * slice.channels;
    const int64_t k0 = slice.tap * p.channels + slice.channel;
    const bool add = at > 0, last = at + 1 == l.slices.count;
    const Rows<T> rows = gather(p.patches, source, p.pixel, slice, first, count, memory);
    for (int64_t j = 0; j < p.m; j += kColumns<T>) {
      const int64_t there = smaller(kColumns<T>, p.m - j), width = round_up(there, kLanes<T>);
      const T* const b = packed + j * l.k + k0 * width;
      const Finish<T> finish = {last && p.direct && bias ? bias + j : nullptr, false,
                                last && p.direct && p.relu};
      const Tiles tiles = tiles_of(count);
      int64_t row = 0;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t height = tiles.height + (t < tiles.taller);
        const MicroKernel<T> kernel =
            kKernels<T>.get(true, static_cast<int>(width / kLanes<T>), static_cast<int>(height));
        const T* const a = rows.first + row * rows.pitch;
        T* const to = target + row * target_stride + j;
        if (!p.direct || there == width) {
          kernel(depth, a, rows.pitch, b, width, to, target_stride, add);
          if (finish.bias || finish.relu) {
            finish_tile(to, target_stride, to, target_stride, height, there, finish);
          }
        } else {
          kernel(depth, a, rows.pitch, b, width, tile, kColumns<T>, false);
          finish_tile(tile, kColumns<T>, to, target_stride, height, there,
                      Finish<T>{finish.bias, add, finish.relu});
        }
        row += height;
      }
    }
  }
  if (!p.direct) scatter_rows(p, sums, l.stride, bias, out, first, count);
}

template <class T, class S>
void launch_product(Stream& stream, const Product& p) {
  Launch l = {};
  l.p = p;
  const int64_t taps = tap_count(p.patches);
  l.slices = slices_of(taps, p.channels);
  l.k = taps * p.channels;
  l.stride = round_up(p.m, kLanes<T>);
  int64_t block = kPositions;
  while (block > 2 * kRows && block * p.m * l.k > kChunkWork &&
         p.images * p.groups * divide_up(p.positions, block) < kManyChunks) {
    block /= 2;
  }
  l.blocks = divide_up(p.positions, block);
  l.block = divide_up(p.positions, l.blocks);
  l.p.direct = sizeof(T) == sizeof(S) && p.out_row == p.patches.columns * p.out_column;
  const int64_t packed_size = larger(1, p.groups * l.stride * l.k);
  const Scratch packed(stream, sizeof(T) * static_cast<size_t>(packed_size));
  l.p.packed = packed.data();
  const int64_t panels = p.groups * divide_up(p.m, kColumns<T>);
  launch(stream, "conv_pack", pack_kernel<T, S>, &l, sizeof l, panels);
  launch(stream, "conv", product_kernel<T, S>, &l, sizeof l, p.images * p.groups * l.blocks);
}

void product(Stream& stream, const Product& p, DType dtype) {
  with_floats("conv2d", dtype, [&](auto t, auto stored) {
    launch_product<decltype(t), decltype(stored)>(stream, p);
  });
}

// Gradient of the weight ------------------------------------------------------------------------

struct WeightLaunch {
  const void* x;
  const void* dy;
  void* sums;  // [part][group][(tap, channel)][stride]
  Patches patches;
  Slices slices;  // of K
  int64_t images, groups, channels, outputs, positions;
  int64_t block, blocks;       // positions in a block; blocks in an image
  int64_t parts, part_blocks;  // of all images' blocks
  int64_t stride;              // outputs, rounded to whole vectors
};

template <class T, class S>
void weight_kernel(const void* args, int64_t chunk) {
  const WeightLaunch& l = *static_cast<const WeightLaunch*>(args);
  const int64_t taps = tap_count(l.patches), k = taps * l.channels;
  const Slice slice = slice_at(l.slices, chunk % l.slices.count, taps, l.channels);
  chunk /= l.slices.count;
  const int64_t group = chunk % l.groups, part = chunk / l.groups;
  const int64_t gathered = gathered_size<T>(l.slices, l.block);
  const int64_t panels_size = l.stride * l.block;
  const int64_t buffer_size = sizeof(S) == sizeof(T) ? 0 : kColumns<T> * l.block;
  T* const memory =
      static_cast<T*>(thread_scratch(sizeof(T) * (gathered + panels_size + buffer_size) + 64));
  if (!memory) fail("conv2d: out of memory for patches");
  T* const panels = memory + gathered;
  T* const buffer = panels + panels_size;
  const int64_t pixel = l.groups * l.channels, dy_pixel = l.groups * l.outputs;
  T* const sums =
      static_cast<T*>(l.sums) +
      ((part * l.groups + group) * k + slice.tap * l.channels + slice.channel) * l.stride;
  const int64_t begin = part * l.part_blocks;
  const int64_t end = smaller(begin + l.part_blocks, l.images * l.blocks);
  for (int64_t at = begin; at < end; ++at) {
    const int64_t image = at / l.blocks, first = at % l.blocks * l.block;
    const int64_t count = smaller(l.block, l.positions - first);
    const S* const dy =
        static_cast<const S*>(l.dy) + (image * l.positions + first) * dy_pixel + group * l.outputs;
    for (int64_t j = 0; j < l.outputs; j += kColumns<T>) {
      const int64_t there = smaller(kColumns<T>, l.outputs - j);
      pack_panel(dy + j, 1, dy_pixel, there, count, panels + j * count, round_up(there, kLanes<T>),
                 buffer);
    }
    const S* const x = static_cast<const S*>(l.x) +
                       image * l.patches.height * l.patches.width * pixel + group * l.channels;
    const Rows<T> rows = gather(l.patches, x, pixel, slice, first, count, memory);
    const Tiles tiles = tiles_of(slice.taps * slice.channels);
    int64_t row = 0;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t height = tiles.height + (t < tiles.taller);
      for (int64_t j = 0; j < l.outputs; j += kColumns<T>) {
        const int64_t width = round_up(smaller(kColumns<T>, l.outputs - j), kLanes<T>);
        const MicroKernel<T> kernel =
            kKernels<T>.get(false, static_cast<int>(width / kLanes<T>), static_cast<int>(height));
        kernel(count, rows.first + row, rows.pitch, panels + j * count, width,
               sums + row * l.stride + j, l.stride, at > begin);
      }
      row += height;
    }
  }
}

template <class T, class S>
void launch_weight(Stream& stream, WeightLaunch l, void* dw) {
  const int64_t taps = tap_count(l.patches), k = taps * l.channels;
  l.slices = slices_of(taps, l.channels);
  l.stride = round_up(l.outputs, kLanes<T>);
  l.blocks = divide_up(l.positions, kPositions);
  l.block = divide_up(l.positions, larger(1, l.blocks));
  const int64_t all = l.images * l.blocks, chunks = l.groups * l.slices.count;
  const int64_t work = l.slices.taps * l.slices.channels * l.outputs * l.block;
  const int64_t useful = divide_up(2 * kManyChunks, chunks);
  const int64_t fitting = larger(1, kPartElements / larger(1, l.groups * k * l.stride));
  l.parts = smaller(smaller(useful, fitting), larger(1, all * work / kChunkWork));
  l.part_blocks = larger(1, divide_up(all, l.parts));
  l.parts = divide_up(all, l.part_blocks);
  const int64_t count = l.parts * l.groups * k * l.stride;
  const Scratch sums(stream, sizeof(T) * static_cast<size_t>(larger(1, count)));
  l.sums = sums.data();
  if (count > 0) launch(stream, "conv_weight", weight_kernel<T, S>, &l, sizeof l, l.parts * chunks);
  add_parts<T, S>(stream,
                  {l.sums, dw, l.parts, l.groups, l.outputs, l.channels, taps, l.stride, true});
}

void weight(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw) {
  WeightLaunch l = {};
  l.x = x;
  l.dy = dy;
  l.patches = patches_of(s);
  l.images = s.n;
  l.groups = s.groups;
  l.channels = s.c / s.groups;
  l.outputs = s.o / s.groups;
  l.positions = s.oh * s.ow;
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    launch_weight<decltype(t), decltype(stored)>(stream, l, dw);
  });
}

}  // namespace

extern const ChannelsLastConv channels_last_conv;
const ChannelsLastConv channels_last_conv = {product, weight};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
