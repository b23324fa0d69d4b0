// The weight gradient of images whose channels lie together, by mma.sync: for each group
//   dW[o, (tap, c)] = Σ_place dy[place, o] · x[place + tap, c]
// K runs over places, whose channels are read in runs of 16 bytes of both operands: a run of
// columns belongs to one tap, which the thread that loads it keeps. What the places of a stage add
// is worked out once for the block, in a table. cp.async fills a ring of 4 stages of 32 places (16
// of float32) while earlier ones are multiplied. Shared memory has [place][channels], read
// transposed: chunks of 16 bytes lie where the place says, free of bank conflicts. Blocks of 8
// warps make 64 or 128 rows by 128 columns; K is cut into slices, whose sums a second kernel adds
// in order and writes as [o][c][kh][kw]. Cost: 2·n·o·oh·ow·c/groups·kh·kw operations, bound by the
// tensor cores, and 8 bytes for every sum of a slice.
#include "async.h"
#include "conv_tile.h"
#include "core/error.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256, kStages = 4, kColumns = 128;
constexpr int kWarpRows = 32, kDown = 2;
constexpr int64_t kLeastSlice = 256;  // of K

struct WeightRuns {
  ConvProblem p;
  float* sums;  // [slice][group][row][tap][channel]
};

template <int kRows, int kDepth>
struct alignas(128) WeightShared {
  unsigned char a[kStages][kRows * kRowBytes];
  unsigned char b[kStages][kColumns * kRowBytes];
  Share table[kStages][kDepth];
};

// Where a place's chunk of channels lies in an operand's stage of so many channels. ldmatrix reads
// 8 places of one chunk at once; TF32 reads 4 places of 2 neighbouring ones.
template <class T, int kSide>
__device__ __forceinline__ int place_offset(int place, int chunk) {
  const int turn = is_half<T> ? place & 7 : (place & 3) * 2;
  return place * kSide * static_cast<int>(sizeof(T)) + (chunk ^ turn) * 16;
}

// sums += Aᵀ·B of the 16 places from k on, of the warp's part.
template <int kRows, int kAcross, class T>
__device__ __forceinline__ void multiply_places(HalfProduct<T>, const unsigned char* a,
                                                const unsigned char* b, int half, int row0,
                                                int column0, float (&sums)[kDown][kAcross][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, k = 16 * half + lane % 8;
  uint32_t x[kDown][4];
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
    const int chunk = row0 / 8 + 2 * i + lane / 8 % 2;
    ldmatrix_x4_trans(x[i], a + place_offset<T, kRows>(k + lane / 16 * 8, chunk));
  }
#pragma unroll
  for (int j = 0; j < kAcross; j += 2) {
    uint32_t y[4];
    const int chunk = column0 / 8 + j + lane / 16;
    ldmatrix_x4_trans(y, b + place_offset<T, kColumns>(k + lane / 8 % 2 * 8, chunk));
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
      mma_half(sums[i][j], x[i], {y[0], y[1]}, T{});
      mma_half(sums[i][j + 1], x[i], {y[2], y[3]}, T{});
    }
  }
}

// The same of 8 places. One read gives a lane four neighbours: rows 4g + 2i and 4g + 2i + 1 stand
// where instruction i has g and g + 8, columns 32·(j/4) + 4n + j%4 where instruction j has n.
template <int kRows, int kAcross>
__device__ __forceinline__ void multiply_places(Tf32Product, const unsigned char* a,
                                                const unsigned char* b, int half, int row0,
                                                int column0, float (&sums)[kDown][kAcross][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, k = 8 * half + lane % 4;
  const auto read = [](const unsigned char* from) {
    auto x = load_vector<4>(reinterpret_cast<const uint32_t*>(from));
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e] = to_tf32(__uint_as_float(x[e]));
    return x;
  };
  const auto low = read(a + place_offset<float, kRows>(k, row0 / 4 + g));
  const auto high = read(a + place_offset<float, kRows>(k + 4, row0 / 4 + g));
#pragma unroll
  for (int j = 0; j < kAcross; j += 4) {
    const int chunk = (column0 + 8 * j) / 4 + g;
    const auto first = read(b + place_offset<float, kColumns>(k, chunk));
    const auto second = read(b + place_offset<float, kColumns>(k + 4, chunk));
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
      const uint32_t x[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
#pragma unroll
      for (int e = 0; e < 4; ++e) mma_m16n8k8_tf32(sums[i][j + e], x, {first[e], second[e]});
    }
  }
}

// A lane's sums, as the product above leaves them, each run of columns at once.
template <int kAcross, class T, class Store>
__device__ __forceinline__ void for_each_run(HalfProduct<T>, const float (&sums)[kDown][kAcross][4],
                                             const Store& store) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        store(16 * i + 8 * upper + lane / 4, 8 * j + lane % 4 * 2,
              Vector<float, 2>{sums[i][j][2 * upper], sums[i][j][2 * upper + 1]});
      }
    }
  }
}

template <int kAcross, class Store>
__device__ __forceinline__ void for_each_run(Tf32Product, const float (&sums)[kDown][kAcross][4],
                                             const Store& store) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int j = 0; j < kAcross; j += 4) {
        store(lane / 4 * 4 + 2 * i + e / 2, 8 * j + 4 * (lane % 4 * 2 + e % 2),
              Vector<float, 4>{sums[i][j][e], sums[i][j + 1][e], sums[i][j + 2][e],
                               sums[i][j + 3][e]});
      }
    }
  }
}

// Rounding to TF32 takes the registers of a second block from wide tiles.
template <class T, int kRows>
constexpr int kBlocks = is_half<T> || kRows == 64 ? 2 : 1;

template <class Product, int kRows>
__global__ void __launch_bounds__(kThreads, kBlocks<typename Product::Element, kRows>)
    weight_runs_kernel(const __grid_constant__ WeightRuns r) {
  using T = typename Product::Element;
  constexpr int kPer = 16 / sizeof(T), kDepth = kRowBytes / sizeof(T);
  constexpr int kWarpsDown = kRows / kWarpRows, kWarpColumns = kColumns * kWarpsDown / 8;
  constexpr int kRowChunks = kRows / kPer, kColumnChunks = kColumns / kPer;
  constexpr auto kMode = ConvMode::weight;
  auto& shared = shared_memory<WeightShared<kRows, kDepth>>();
  const ConvProblem& p = r.p;
  int64_t block = blockIdx.x;
  const int row0 = static_cast<int>(block % p.row_tiles) * kRows;
  block /= p.row_tiles;
  const int column0 = static_cast<int>(block % p.column_tiles) * kColumns;
  block /= p.column_tiles;
  const int group = static_cast<int>(block % p.s.groups);
  const int slice = static_cast<int>(block / p.s.groups);
  const int k_begin = static_cast<int>(slice * p.slice_k);
  const int k_end = static_cast<int>(min(k_begin + p.slice_k, p.k));
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;

  const int row = row0 + thread % kRowChunks * kPer;
  const bool row_exists = row < p.rows;
  const T* const dy = static_cast<const T*>(p.left) + group * p.rows + row;
  const int column = column0 + thread % kColumnChunks * kPer;
  Share tap{0, kOutside, kOutside, 0};
  if (column < p.columns) {
    const int64_t taps = p.s.kh * p.s.kw;
    const int64_t channel = column % p.in_channels;
    tap = tap_share<kMode>(p, group, channel * taps + column / p.in_channels);
  }
  const T* const x = static_cast<const T*>(p.right);
  const uint32_t height = static_cast<uint32_t>(p.s.h), width = static_cast<uint32_t>(p.s.w);

  const auto fill_table = [&](int stage, int at) {
    const int place = k_begin + stage * kDepth + at;
    shared.table[stage % kStages][at] =
        place < k_end ? place_share<kMode>(p, place) : Share{0, kOutside, kOutside, -1};
  };
  const auto load_stage = [&](int stage) {
    const auto& table = shared.table[stage % kStages];
    unsigned char* const a = shared.a[stage % kStages];
    unsigned char* const b = shared.b[stage % kStages];
#pragma unroll
    for (int place = thread / kRowChunks; place < kDepth; place += kThreads / kRowChunks) {
      const int32_t at = table[place].left;
      const bool exists = row_exists && at >= 0;
      cp_async_16(a + place_offset<T, kRows>(place, thread % kRowChunks),
                  exists ? dy + at : static_cast<const T*>(p.left), exists ? 16 : 0);
    }
#pragma unroll
    for (int place = thread / kColumnChunks; place < kDepth; place += kThreads / kColumnChunks) {
      const Share share = table[place];
      const bool inside = static_cast<uint32_t>(share.i + tap.i) < height &&
                          static_cast<uint32_t>(share.j + tap.j) < width;
      cp_async_16(b + place_offset<T, kColumns>(place, thread % kColumnChunks),
                  inside ? x + (share.offset + tap.offset) : x, inside ? 16 : 0);
    }
    cp_async_commit();
  };

  if (thread < kStages * kDepth) fill_table(thread / kDepth, thread % kDepth);
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) load_stage(i);
  float sums[kDown][kWarpColumns / 8][4] = {};
  const int warp_row = warp % kWarpsDown * kWarpRows;
  const int warp_column = warp / kWarpsDown * kWarpColumns;
  const int steps = (k_end - k_begin + kDepth - 1) / kDepth;
#pragma unroll 1
  for (int i = 0; i < steps; ++i) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    load_stage(i + kStages - 1);
    if (thread < kDepth) fill_table(i + kStages, thread);
    const unsigned char* const a = shared.a[i % kStages];
    const unsigned char* const b = shared.b[i % kStages];
    multiply_places<kRows>(Product{}, a, b, 0, warp_row, warp_column, sums);
    multiply_places<kRows>(Product{}, a, b, 1, warp_row, warp_column, sums);
  }
  cp_async_wait<0>();

  float* const to = r.sums + (int64_t{slice} * p.s.groups + group) * p.rows * p.columns;
  for_each_run(Product{}, sums, [&](int down, int across, const auto& run) {
    const int64_t at_row = row0 + warp_row + down, at_column = column0 + warp_column + across;
    if (at_row < p.rows && at_column < p.columns) {
      store_vector(to + (at_row * p.columns + at_column), run);
    }
  });
}

// Slices of K that fill the chip once to four times, the quickest by an estimate: waves of blocks
// and the way of the sums through memory, which for a wave takes as long as some 600 terms of K
// (both by the rates of an H100 in gemm.cu).
int64_t choose_slices(int64_t tiles, int64_t k, int64_t at_once) {
  constexpr double kTermsPerWave = 600;
  int64_t best = 1;
  double least = 0;
  for (int64_t waves = 1; waves <= 4; ++waves) {
    const int64_t most = std::min(waves * at_once / tiles, k / kLeastSlice);
    const int64_t slices = std::max<int64_t>(1, most);
    const double blocks = static_cast<double>(tiles) * slices;
    const double time =
        static_cast<double>(divide_up(tiles * slices, at_once)) * divide_up(k, slices) +
        kTermsPerWave * blocks / at_once;
    if (waves == 1 || time < least) {
      least = time;
      best = slices;
    }
  }
  return best;
}

template <class Product, int kRows>
void launch_tile(Stream& stream, WeightRuns r) {
  using T = typename Product::Element;
  constexpr int kDepth = kRowBytes / sizeof(T);
  ConvProblem& p = r.p;
  p.row_tiles = divide_up(p.rows, kRows);
  p.column_tiles = divide_up(p.columns, kColumns);
  const int64_t tiles = p.row_tiles * p.column_tiles * p.s.groups;
  const int64_t slices = choose_slices(tiles, p.k, multiprocessors(stream) * kBlocks<T, kRows>);
  p.slice_k = divide_up(divide_up(p.k, slices), kDepth) * kDepth;
  p.slices = divide_up(p.k, p.slice_k);
  const int64_t n = p.s.groups * p.rows * p.columns, blocks = tiles * p.slices;
  if (blocks > INT32_MAX) fail("conv2d: too many elements for one launch");
  r.sums = static_cast<float*>(
      acquire_scratch(stream, sizeof(float) * static_cast<size_t>(n * p.slices)));
  launch(stream, "conv2d_weight_runs", weight_runs_kernel<Product, kRows>,
         dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(WeightShared<kRows, kDepth>),
         r);
  sum_conv_gradients(stream, p, r.sums, p.slices, p.in_channels);
  release_scratch(stream, r.sums);
}

template <class Product>
void launch_product(Stream& stream, const WeightRuns& r) {
  if (r.p.rows <= 64) {
    launch_tile<Product, 64>(stream, r);
  } else {
    launch_tile<Product, 128>(stream, r);
  }
}

}  // namespace

void launch_conv_weight_runs(Stream& stream, const ConvProblem& p) {
  const WeightRuns r = {p, nullptr};
  if (p.s.dtype == DType::bfloat16) {
    launch_product<HalfProduct<BFloat16>>(stream, r);
  } else if (p.s.dtype == DType::float16) {
    launch_product<HalfProduct<Float16>>(stream, r);
  } else {
    launch_product<Tf32Product>(stream, r);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
