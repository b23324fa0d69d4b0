// Convolutions of images whose channels lie together, by mma.sync: C[place, m] = Σ_k patch · weight
// with k = (tap, channel). A step of K is one tap and 64 bytes of its channels, so that every load
// is a run of 16 bytes, copied by cp.async into a ring of 4 stages while earlier ones are
// multiplied: a thread keeps the offsets, rows and columns of its two places and adds the tap's,
// which are the block's. Weights are packed first (conv_pack.cu). Blocks of 8 warps make 128 places
// by 64 or 128 channels of C; sums reach memory by way of shared memory, in runs of channels, or of
// places where the channels of the result lie apart (conv_copies.cu). Layouts of shared memory:
// conv_tile.h.
// Cost: 2·n·o·oh·ow·c/groups·kh·kw operations, bound by the tensor cores.
#include "async.h"
#include "conv_tile.h"
#include "core/error.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256, kStages = 4, kPlaces = 128;
constexpr int kLines = kThreads / kChunks;  // rows of a stage that are loaded at once
constexpr int kWarpPlaces = 32, kDown = 2;  // 4 warps down, 2 across
constexpr int kPlacePasses = kPlaces / kLines;
constexpr int kPlaneStride = 34;  // of staged sums: pairs of 16 lanes meet 32 banks

struct Runs {
  ConvProblem p;
  const void* weights;  // packed
  int64_t image_channels;
  int64_t place_tiles, tiles;  // tiles of channels
};

template <int kColumns>
struct alignas(128) RunsShared {
  static constexpr int kStride = kColumns / 2 + 8;
  union {
    struct {
      unsigned char a[kStages][kPlaces * kRowBytes];
      unsigned char b[kStages][kColumns * kRowBytes];
    } stages;
    float sums[8][16][kStride];
    float planes[8][32][kPlaneStride];
  };
};

// The sum of a channel, with bias and ReLU.
template <class T>
__device__ __forceinline__ T finished(const ConvProblem& p, int64_t channel, float sum) {
  if (p.bias) sum += to_arith(static_cast<const T*>(p.bias)[channel]);
  return from_arith<T>(p.relu && sum < 0.0f ? 0.0f : sum);
}

// To an image whose channels lie together: 16 places of a warp's part at a time, a lane stores a
// run of channels.
template <class T, ConvMode kMode, int kStride, int kAcross>
__device__ __forceinline__ void store_runs(const ConvProblem& p, int64_t group, int64_t place0,
                                           int column0, float (&staged)[16][kStride],
                                           const float (&sums)[kDown][kAcross][4]) {
  constexpr int kPer = 16 / sizeof(T), kRunsAcross = 8 * kAcross / kPer;
  const bool aligned = p.rows % kPer == 0 && reinterpret_cast<uintptr_t>(p.out) % 16 == 0;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
#pragma unroll
    for (int j = 0; j < kAcross; ++j) {
      const int at = 8 * j + lane % 4 * 2;
      store_vector(&staged[lane / 4][at], Vector<float, 2>{sums[i][j][0], sums[i][j][1]});
      store_vector(&staged[lane / 4 + 8][at], Vector<float, 2>{sums[i][j][2], sums[i][j][3]});
    }
    __syncwarp();
#pragma unroll 1
    for (int item = lane; item < 16 * kRunsAcross; item += 32) {
      const int row = item / kRunsAcross, at = item % kRunsAcross * kPer;
      const int64_t place = place0 + 16 * i + row;
      const int m = column0 + at;
      if (place >= p.columns || m >= p.rows) continue;
      Vector<T, kPer> values{};
#pragma unroll
      for (int e = 0; e < kPer; ++e) {
        if (m + e < p.rows) {
          values[e] = finished<T>(p, group * p.rows + m + e, staged[row][at + e]);
        }
      }
      T* const to = static_cast<T*>(p.out) + conv_out_offset<kMode>(p, group, m, place);
      if (aligned) {
        store_vector(to, values);
      } else {
#pragma unroll
        for (int e = 0; e < kPer; ++e) {
          if (m + e < p.rows) to[e] = values[e];
        }
      }
    }
    __syncwarp();
  }
}

// To an image whose channels lie apart: 32 channels at a time, a lane stores those of its place.
template <class T, ConvMode kMode, int kAcross>
__device__ __forceinline__ void store_planes(const ConvProblem& p, int64_t group, int64_t place0,
                                             int column0, float (&staged)[32][kPlaneStride],
                                             const float (&sums)[kDown][kAcross][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool exists = place0 + lane < p.columns;
  const int64_t plane = conv_out_stride<kMode>(p);
  T* const out =
      static_cast<T*>(p.out) + (exists ? conv_out_offset<kMode>(p, group, 0, place0 + lane) : 0);
#pragma unroll
  for (int part = 0; part < kAcross; part += 4) {
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const auto& d = sums[i][part + j];
        const int row = 16 * i + lane / 4, at = 8 * j + lane % 4 * 2;
        store_vector(&staged[row][at], Vector<float, 2>{d[0], d[1]});
        store_vector(&staged[row + 8][at], Vector<float, 2>{d[2], d[3]});
      }
    }
    __syncwarp();
    const int64_t m0 = column0 + 8 * part;
#pragma unroll 4
    for (int at = 0; at < 32; at += 2) {
      const auto pair = load_vector<2>(&staged[lane][at]);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int64_t m = m0 + at + e;
        if (exists && m < p.rows) out[m * plane] = finished<T>(p, group * p.rows + m, pair[e]);
      }
    }
    __syncwarp();
  }
}

// Rounding to TF32 takes the registers of a second block from wide tiles.
template <class T, int kColumns>
constexpr int kBlocks = is_half<T> || kColumns == 64 ? 2 : 1;

template <class Product, ConvMode kMode, int kColumns>
__global__ void __launch_bounds__(kThreads, kBlocks<typename Product::Element, kColumns>)
    runs_kernel(const __grid_constant__ Runs r) {
  using T = typename Product::Element;
  constexpr int kPer = 16 / sizeof(T), kDepth = kRowBytes / sizeof(T);
  constexpr int kWarpColumns = kColumns / 2, kAcross = kWarpColumns / 8;
  auto& shared = shared_memory<RunsShared<kColumns>>();
  const ConvProblem& p = r.p;
  const ConvShape& s = p.s;
  int64_t block = blockIdx.x;
  const int column0 = static_cast<int>(block % r.tiles) * kColumns;
  block /= r.tiles;
  const int64_t place0 = block % r.place_tiles * kPlaces;
  const int group = static_cast<int>(block / r.place_tiles);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int line = thread / kChunks, chunk = thread % kChunks;
  const int channels = static_cast<int>(r.image_channels);
  const int kh = static_cast<int>(s.kh), kw = static_cast<int>(s.kw);
  const ConvStrides& strides = kMode == ConvMode::data ? p.y : p.x;
  const int row_step = static_cast<int>(strides.row),
            column_step = static_cast<int>(strides.column);
  const int sign = kMode == ConvMode::data ? -1 : 1;
  const int down = sign * static_cast<int>(s.dilation_h);
  const int across = sign * static_cast<int>(s.dilation_w);
  const uint32_t height = static_cast<uint32_t>(kMode == ConvMode::data ? s.oh : s.h);
  const uint32_t width = static_cast<uint32_t>(kMode == ConvMode::data ? s.ow : s.w);

  Share places[kPlacePasses];
#pragma unroll
  for (int i = 0; i < kPlacePasses; ++i) {
    const int64_t place = place0 + line + i * kLines;
    places[i] = place < p.columns ? place_share<kMode>(p, place) : Share{0, kOutside, kOutside, 0};
  }
  const T* const image = static_cast<const T*>(p.right) + group * channels + chunk * kPer;
  const int k = kh * kw * channels;
  const T* const weights =
      static_cast<const T*>(r.weights) + static_cast<int64_t>(group) * p.rows * k + chunk * kPer;

  TapWalk next;
  const auto load_stage = [&](int stage) {
    const bool there = next.i < kh && next.channel + chunk * kPer < channels;
    const int di = next.i * down, dj = next.j * across;
    const int offset = di * row_step + dj * column_step + next.channel;
#pragma unroll
    for (int i = 0; i < kPlacePasses; ++i) {
      const bool inside = there && static_cast<uint32_t>(places[i].i + di) < height &&
                          static_cast<uint32_t>(places[i].j + dj) < width;
      const T* const from = inside ? image + (places[i].offset + offset) : image;
      cp_async_16(shared.stages.a[stage] + chunk_offset(line + i * kLines, chunk), from,
                  inside ? 16 : 0);
    }
    const int from_k = (next.i * kw + next.j) * channels + next.channel;
#pragma unroll
    for (int i = 0; i < kColumns / kLines; ++i) {
      const int m = column0 + line + i * kLines;
      const bool inside = there && m < p.rows;
      const T* const from = inside ? weights + (static_cast<int64_t>(m) * k + from_k) : weights;
      cp_async_16(shared.stages.b[stage] + chunk_offset(line + i * kLines, chunk), from,
                  inside ? 16 : 0);
    }
    cp_async_commit();
    next.advance(kDepth, channels, kw);
  };

  float sums[kDown][kAcross][4] = {};
  const int steps = kh * kw * ((channels + kDepth - 1) / kDepth);
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) load_stage(i);
  const int warp_place = warp / 2 * kWarpPlaces, warp_column = warp % 2 * kWarpColumns;
#pragma unroll 1
  for (int i = 0; i < steps; ++i) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    load_stage((i + kStages - 1) % kStages);
    const unsigned char* const a = shared.stages.a[i % kStages];
    const unsigned char* const b = shared.stages.b[i % kStages];
    multiply_half<true>(Product{}, 0, a, b, warp_place, warp_column, sums);
    multiply_half<true>(Product{}, 1, a, b, warp_place, warp_column, sums);
  }
  cp_async_wait<0>();
  __syncthreads();

  const int64_t place = place0 + warp_place;
  if (conv_out_stride<kMode>(p) == 1) {
    store_runs<T, kMode>(p, group, place, column0 + warp_column, shared.sums[warp], sums);
  } else {
    store_planes<T, kMode>(p, group, place, column0 + warp_column, shared.planes[warp], sums);
  }
}

template <class Product, ConvMode kMode, int kColumns>
void launch_tile(Stream& stream, Runs r) {
  r.tiles = (r.p.rows + kColumns - 1) / kColumns;
  const int64_t blocks = r.tiles * r.place_tiles * r.p.s.groups;
  launch(stream, "conv2d_runs", runs_kernel<Product, kMode, kColumns>,
         dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(RunsShared<kColumns>), r);
}

template <class Product, ConvMode kMode>
void launch_mode(Stream& stream, Runs r) {
  void* const packed = pack_conv_weights(stream, kMode, r.p);
  r.weights = packed;
  if (r.p.rows <= 64) {
    launch_tile<Product, kMode, 64>(stream, r);
  } else {
    launch_tile<Product, kMode, 128>(stream, r);
  }
  release_scratch(stream, packed);
}

template <class Product>
void launch_product(Stream& stream, ConvMode mode, const Runs& r) {
  if (mode == ConvMode::forward) {
    launch_mode<Product, ConvMode::forward>(stream, r);
  } else {
    launch_mode<Product, ConvMode::data>(stream, r);
  }
}

}  // namespace

bool conv_by_runs(Stream& stream, ConvMode mode, const ConvProblem& p) {
  const int64_t per = 16 / static_cast<int64_t>(item_size(p.s.dtype));
  const auto in_runs = [per](const ConvStrides& image, int64_t channels, const void* data) {
    return image.channel == 1 && channels % per == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  };
  if (mode == ConvMode::weight) {
    return in_runs(p.x, p.in_channels, p.right) && in_runs(p.y, p.out_channels, p.left);
  }
  if (p.k == 0) return false;
  // Few tiles do better where K is cut into slices (conv_mma.cu).
  const int64_t tiles = (p.columns + kPlaces - 1) / kPlaces * ((p.rows + 127) / 128) * p.s.groups;
  return in_runs(mode == ConvMode::data ? p.y : p.x, conv_channels(mode, p), p.right) &&
         2 * tiles >= multiprocessors(stream);
}

void launch_conv_runs(Stream& stream, ConvMode mode, const ConvProblem& p) {
  if (mode == ConvMode::weight) return launch_conv_weight_runs(stream, p);
  Runs r = {};
  r.p = p;
  r.image_channels = conv_channels(mode, p);
  r.place_tiles = (p.columns + kPlaces - 1) / kPlaces;
  if (p.s.dtype == DType::bfloat16) {
    launch_product<HalfProduct<BFloat16>>(stream, mode, r);
  } else if (p.s.dtype == DType::float16) {
    launch_product<HalfProduct<Float16>>(stream, mode, r);
  } else {
    launch_product<Tf32Product>(stream, mode, r);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
