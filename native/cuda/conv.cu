// Convolutions as implicit matrix products C = A·B, per group, whose right operand is read from the
// image element by element and never lies in memory as a whole.
//   forward:  y  = W · patches(x)         rows o, columns (n, i, j), K = (c, a, b)
//   data:     dx = Wᵀ · patches(dy)       rows c, columns (n, h, w), K = (o, a, b)
//   weight:   dW = dy · patches(x)ᵀ       rows o, columns (c, a, b), K = (n, i, j)
// Tensor cores take 16-bit types, and float32 where TF32 is allowed (conv_mma.cu; conv_last*.cu
// where channels lie together, in copies if need be); the rest a block of 256 threads that computes
// 64 x 64 of C, 4 x 4 a thread, from shared a and b of 16 k each. The weight gradient cuts K in
// slices whose sums a second kernel adds in order. float32 inside for 16-bit types; sums run in the
// order of k. Cost: 2·n·o·oh·ow·c/groups·kh·kw operations, bound by the FP32 units and the index
// arithmetic of loads (one per 16 multiply-adds).
#include <numeric>

#include "conv_mma.h"
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256, kSide = 64, kDepth = 16, kEach = 4;
constexpr int64_t kSliceLength = 2048;  // of K, at least
constexpr int64_t kWantedBlocks = 1024;

template <class A>
struct Tiles {
  A a[kDepth][kSide + 1];
  A b[kDepth][kSide + 1];
};

// Element of A.
template <class A, ConvMode kMode>
__device__ __forceinline__ A left_element(const ConvProblem& p, int64_t group, int64_t row,
                                          int64_t k) {
  const ConvShape& s = p.s;
  if (row >= p.rows || k >= p.k) return A(0);
  int64_t at;
  if constexpr (kMode == ConvMode::forward) {
    at = (group * p.rows + row) * p.k + k;
  } else if constexpr (kMode == ConvMode::data) {
    const ConvIndex i = split_tap(p, k);
    at = ((group * p.out_channels + i.outer) * p.rows + row) * s.kh * s.kw + i.high * s.kw + i.low;
  } else {
    const ConvIndex i = split_place(p, k);
    at = i.outer * s.o * s.oh * s.ow + (group * p.rows + row) * p.y.channel + i.high * p.y.row +
         i.low * p.y.column;
  }
  return load_as<A>(p.left, at, s.dtype);
}

// Element of B: a tap of a channel, at a place of an image.
template <class A, ConvMode kMode>
__device__ __forceinline__ A right_element(const ConvProblem& p, int64_t group,
                                           const ConvIndex& tap, const ConvIndex& place) {
  const ConvShape& s = p.s;
  if constexpr (kMode == ConvMode::data) {
    int64_t i = place.high + s.pad_h - tap.high * s.dilation_h;
    int64_t j = place.low + s.pad_w - tap.low * s.dilation_w;
    if (i < 0 || j < 0) return A(0);
    if (s.stride_h > 1) {
      const int64_t quotient = i / s.stride_h;
      if (quotient * s.stride_h != i) return A(0);
      i = quotient;
    }
    if (s.stride_w > 1) {
      const int64_t quotient = j / s.stride_w;
      if (quotient * s.stride_w != j) return A(0);
      j = quotient;
    }
    if (i >= s.oh || j >= s.ow) return A(0);
    const int64_t image = place.outer * s.o * s.oh * s.ow;
    const int64_t channel = (group * p.out_channels + tap.outer) * p.y.channel;
    return load_as<A>(p.right, image + channel + i * p.y.row + j * p.y.column, s.dtype);
  } else {
    const int64_t i = place.high * s.stride_h + tap.high * s.dilation_h - s.pad_h;
    const int64_t j = place.low * s.stride_w + tap.low * s.dilation_w - s.pad_w;
    if (i < 0 || j < 0 || i >= s.h || j >= s.w) return A(0);
    const int64_t image = place.outer * s.c * s.h * s.w;
    const int64_t channel = (group * p.in_channels + tap.outer) * p.x.channel;
    return load_as<A>(p.right, image + channel + i * p.x.row + j * p.x.column, s.dtype);
  }
}

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// Fills the shared tiles with k from k0 on. Where K runs over positions, neighbouring threads take
// neighbouring k of B; else neighbouring columns.
template <class A, ConvMode kMode>
__device__ __forceinline__ void load_tiles(const ConvProblem& p, int64_t group, int64_t row0,
                                           int64_t column0, int64_t k0, int64_t k_end,
                                           Tiles<A>& tiles) {
  constexpr int kLoads = kSide * kDepth / kThreads;
  const int thread = static_cast<int>(threadIdx.x);
  {
    const int k = thread % kDepth;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int row = thread / kDepth + i * (kThreads / kDepth);
      tiles.a[k][row] =
          k0 + k < k_end ? left_element<A, kMode>(p, group, row0 + row, k0 + k) : A(0);
    }
  }
  if constexpr (kMode == ConvMode::weight) {
    const int k = thread % kDepth;
    const bool there = k0 + k < k_end;
    const ConvIndex place = split_place(p, there ? k0 + k : 0);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int column = thread / kDepth + i * (kThreads / kDepth);
      A value = A(0);
      if (there && column0 + column < p.columns) {
        value = right_element<A, kMode>(p, group, split_tap(p, column0 + column), place);
      }
      tiles.b[k][column] = value;
    }
  } else {
    const int column = thread % kSide;
    const bool there = column0 + column < p.columns;
    const ConvIndex place = split_place(p, there ? column0 + column : 0);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int k = thread / kSide + i * (kThreads / kSide);
      A value = A(0);
      if (there && k0 + k < k_end) {
        value = right_element<A, kMode>(p, group, split_tap(p, k0 + k), place);
      }
      tiles.b[k][column] = value;
    }
  }
}

template <class A, ConvMode kMode>
__global__ void __launch_bounds__(kThreads, 2) conv_kernel(const __grid_constant__ ConvProblem p) {
  auto& tiles = shared_memory<Tiles<A>>();
  int64_t block = blockIdx.x;
  const int64_t column0 = block % p.column_tiles * kSide;
  block /= p.column_tiles;
  const int64_t row0 = block % p.row_tiles * kSide;
  block /= p.row_tiles;
  const int64_t group = block % p.s.groups, slice = block / p.s.groups;
  const int64_t k_begin = slice * p.slice_k;
  const int64_t k_end = k_begin + p.slice_k < p.k ? k_begin + p.slice_k : p.k;
  const int across = static_cast<int>(threadIdx.x) % (kSide / kEach);
  const int down = static_cast<int>(threadIdx.x) / (kSide / kEach);

  A sums[kEach][kEach] = {};
  for (int64_t k0 = k_begin; k0 < k_end; k0 += kDepth) {
    load_tiles<A, kMode>(p, group, row0, column0, k0, k_end, tiles);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      A a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        a[i] = tiles.a[k][down + i * (kSide / kEach)];
        b[i] = tiles.b[k][across + i * (kSide / kEach)];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] = multiply_add(a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int64_t column = column0 + across + j * (kSide / kEach);
    if (column >= p.columns) continue;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int64_t row = row0 + down + i * (kSide / kEach);
      if (row >= p.rows) continue;
      A sum = sums[i][j];
      if (p.partial) {
        const int64_t at = ((slice * p.s.groups + group) * p.rows + row) * p.columns + column;
        static_cast<A*>(p.partial)[at] = sum;
        continue;
      }
      if (p.bias) sum += load_as<A>(p.bias, group * p.rows + row, p.s.dtype);
      if (p.relu && sum < A(0)) sum = A(0);
      store_as(p.out, conv_out_offset<kMode>(p, group, row, column), p.s.dtype, sum);
    }
  }
}

// C = the slices' sums added in order, then bias and ReLU.
template <class A, ConvMode kMode>
__global__ void __launch_bounds__(kThreads)
    add_slices_kernel(const __grid_constant__ ConvProblem p, const int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const A* const partial = static_cast<const A*>(p.partial);
  A sum = 0;
  for (int64_t slice = 0; slice < p.slices; ++slice) sum += partial[slice * n + i];
  const int64_t column = i % p.columns, line = i / p.columns;
  if (p.bias) sum += load_as<A>(p.bias, line, p.s.dtype);
  if (p.relu && sum < A(0)) sum = A(0);
  store_as(p.out, conv_out_offset<kMode>(p, line / p.rows, line % p.rows, column), p.s.dtype, sum);
}

dim3 grid_of(int64_t blocks) {
  if (blocks > INT32_MAX) fail("conv2d: too many elements for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

template <class A, ConvMode kMode>
void convolve(Stream& stream, ConvProblem p, bool mma) {
  const ConvShape& s = p.s;
  const int64_t places = p.plane_h * p.plane_w;
  p.taps = make_divider(s.kh * s.kw);
  p.kernel_w = make_divider(s.kw);
  p.positions = make_divider(places);
  p.row = make_divider(p.plane_w);
  p.narrow = p.columns < INT32_MAX && p.k < INT32_MAX;
  if (places >= INT32_MAX || s.kh * s.kw >= INT32_MAX) fail("conv2d: an image is too large");
  if (mma && p.columns > 0 && launch_conv_wgmma(stream, kMode, p)) return;
  if (mma && p.columns > 0 && conv_by_runs(stream, kMode, p)) {
    launch_conv_runs(stream, kMode, p);
    return;
  }
  const ConvTile tile = mma ? conv_mma_tile(stream, kMode, p)
                            : ConvTile{kSide, kSide, kDepth, kSliceLength, kWantedBlocks};
  p.row_tiles = divide_up(p.rows, tile.rows);
  p.column_tiles = divide_up(p.columns, tile.columns);
  const int64_t tiles = p.row_tiles * p.column_tiles * s.groups;
  if (tiles == 0) return;
  p.slices = 1;
  if (kMode == ConvMode::weight || (mma && !p.index)) {
    // Whole products, where tiles alone nearly fill the chip, save the way of the sums.
    const int64_t wanted = kMode == ConvMode::weight ? divide_up(tile.wanted_blocks, tiles)
                                                     : tile.wanted_blocks / tiles;
    p.slices = std::max<int64_t>(1, std::min(wanted, p.k / tile.least_slice));
  }
  p.slice_k = divide_up(divide_up(p.k, p.slices), tile.depth) * tile.depth;
  if (p.slice_k > 0) p.slices = p.k > 0 ? divide_up(p.k, p.slice_k) : 1;
  const int64_t n = s.groups * p.rows * p.columns;
  if (p.slices > 1) {
    p.partial = acquire_scratch(stream, sizeof(A) * static_cast<size_t>(n * p.slices));
  }
  if (mma) {
    launch_conv_mma(stream, kMode, p, grid_of(tiles * p.slices));
  } else {
    launch(stream, "conv2d", conv_kernel<A, kMode>, grid_of(tiles * p.slices), dim3(kThreads),
           sizeof(Tiles<A>), p);
  }
  if (p.partial) {
    launch(stream, "conv2d", add_slices_kernel<A, kMode>, grid_of(divide_up(n, kThreads)),
           dim3(kThreads), 0, p, n);
    release_scratch(stream, p.partial);
  }
}

// Of the positions first, first + stride, … of an axis, those that residue r of the stride says:
// the taps that reach them, and the stride-1 problem that these make.
struct AxisClass {
  ConvAxis axis;
  int64_t positions, taps, pad, dilation;
};

AxisClass axis_class(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
                     int64_t r) {
  AxisClass c{};
  const int64_t common = std::gcd(stride, dilation), period = stride / common;
  c.axis = {((r - pad) % stride + stride) % stride, stride, 0, period};
  c.positions = c.axis.first < size ? divide_up(size - c.axis.first, stride) : 0;
  c.dilation = dilation / common;
  if (r % common != 0) return c;
  while (c.axis.tap * dilation % stride != r) ++c.axis.tap;
  c.taps = c.axis.tap < kernel ? (kernel - 1 - c.axis.tap) / period + 1 : 0;
  c.pad = (c.axis.first + pad - r) / stride - (c.axis.tap * dilation - r) / stride;
  return c;
}

// The data gradient of a strided convolution: positions of one residue are reached by their own
// taps alone, and are a problem of stride 1.
template <class F>
void for_each_class(const ConvProblem& p, const F& f) {
  const ConvShape& s = p.s;
  for (int64_t i = 0; i < s.stride_h; ++i) {
    const AxisClass down = axis_class(s.h, s.kh, s.stride_h, s.pad_h, s.dilation_h, i);
    for (int64_t j = 0; j < s.stride_w; ++j) {
      const AxisClass across = axis_class(s.w, s.kw, s.stride_w, s.pad_w, s.dilation_w, j);
      ConvProblem part = p;
      part.down = down.axis;
      part.across = across.axis;
      part.s.kh = down.taps;
      part.s.kw = across.taps;
      part.s.pad_h = down.pad;
      part.s.pad_w = across.pad;
      part.s.dilation_h = down.dilation;
      part.s.dilation_w = across.dilation;
      part.plane_h = down.positions;
      part.plane_w = across.positions;
      part.columns = s.n * part.plane_h * part.plane_w;
      part.k = p.out_channels * down.taps * across.taps;
      f(part);
    }
  }
}

// Fills in what follows from the shape.
template <ConvMode kMode>
void describe(ConvProblem& p) {
  const ConvShape& s = p.s;
  p.in_channels = s.c / s.groups;
  p.out_channels = s.o / s.groups;
  p.rows = kMode == ConvMode::data ? p.in_channels : p.out_channels;
  const int64_t taps = s.kh * s.kw, windows = p.index ? 2 : 1;
  p.plane_h = kMode == ConvMode::data ? s.h : s.oh / windows;
  p.plane_w = kMode == ConvMode::data ? s.w : s.ow / windows;
  p.x = conv_strides(s.channels_last, s.c, s.h, s.w);
  p.y = conv_strides(s.channels_last, s.o, s.oh / windows, s.ow / windows);
  p.down = p.across = {0, 1, 0, 1};
  p.weight_w = s.kw;
  p.weight_plane = taps;
  const int64_t places = s.n * p.plane_h * p.plane_w * windows * windows;
  switch (kMode) {
    case ConvMode::forward:
      p.columns = places;
      p.k = p.in_channels * taps;
      break;
    case ConvMode::data:
      p.columns = places;
      p.k = p.out_channels * taps;
      break;
    case ConvMode::weight:
      p.columns = p.in_channels * taps;
      p.k = places;
      break;
  }
}

template <ConvMode kMode>
void run(Stream& stream, ConvProblem p) {
  describe<kMode>(p);
  const ConvShape& s = p.s;
  const bool mma = conv_by_mma(kMode, p);
  ConvCopies copies(stream);
  if (mma) copies.take(kMode, p);
  const bool strided = s.stride_h > 1 || s.stride_w > 1;
  const bool served = with_float_arith(s.dtype, [&](auto zero) {
    const auto whole = [&](const ConvProblem& part) {
      convolve<decltype(zero), kMode>(stream, part, mma);
    };
    if (kMode == ConvMode::data && mma && strided) {
      for_each_class(p, whole);
    } else {
      whole(p);
    }
  });
  if (!served) fail("conv2d: dtype must be floating, got %s", dtype_name(s.dtype));
}

ConvProblem problem_of(const ConvShape& s, const void* left, const void* right, const void* bias,
                       void* out) {
  ConvProblem p = {};
  p.left = left;
  p.right = right;
  p.out = out;
  p.bias = bias;
  p.s = s;
  return p;
}

void forward(Stream& stream, const ConvShape& s, const void* x, const void* w, const void* bias,
             void* y, bool relu) {
  ConvProblem p = problem_of(s, w, x, bias, y);
  p.relu = relu;
  run<ConvMode::forward>(stream, p);
}

// The maxima of layers whose few channels the pipelines of conv_last.cu do not take: there the
// bytes of y cost more than its products. Problems of few tiles do better in slices.
bool forward_pooled(Stream& stream, const ConvShape& s, const void* x, const void* w,
                    const void* bias, void* y, int32_t* index) {
  ConvProblem p = problem_of(s, w, x, bias, y);
  p.index = index;
  describe<ConvMode::forward>(p);
  if (!conv_by_mma(ConvMode::forward, p)) return false;
  if (p.in_channels * static_cast<int64_t>(item_size(s.dtype)) % 16 == 0) return false;
  const ConvTile tile = conv_mma_tile(stream, ConvMode::forward, p);
  const int64_t tiles =
      divide_up(p.rows, tile.rows) * divide_up(p.columns, tile.columns) * s.groups;
  if (2 * tiles < tile.wanted_blocks) return false;
  convolve<float, ConvMode::forward>(stream, p, true);
  return true;
}

void backward_data(Stream& stream, const ConvShape& s, const void* dy, const void* w,
                   const void* bias, void* dx, bool relu) {
  ConvProblem p = problem_of(s, w, dy, bias, dx);
  p.relu = relu;
  run<ConvMode::data>(stream, p);
}

void backward_weight(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw) {
  ConvProblem p = problem_of(s, dy, x, nullptr, dw);
  run<ConvMode::weight>(stream, p);
}

}  // namespace

const ConvFamily conv_family = {forward, backward_data, backward_weight, forward_pooled};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
