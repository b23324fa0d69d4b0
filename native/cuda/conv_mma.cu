// Convolutions as implicit matrix products (conv.cu) by mma.sync. A block of 8 warps makes a tile
// of 32, 64 or 128 rows by 128 columns of C; K runs in stages of 64 bytes (32 16-bit or 16 float32
// elements), of which the next is loaded into registers while this one is multiplied.
// A place of an image and a tap of a channel each have an offset and a row and column: their sums
// say where an element lies and whether it is inside. Those of a stage's k are worked out once for
// the block, in a table; a thread keeps those of its columns. (Channel, row, column of a tap are
// one K axis, so that a first layer of 3 channels wastes only the end of the last stage.) Shared
// memory: [row][4 chunks of 16 bytes], chunk ^ ((row/2)%4), free of bank conflicts. Cost:
// 2·n·o·oh·ow·c/groups·kh·kw operations; a load and a test for every 2·rows of these.
#include <cmath>

#include "conv_tile.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kColumns = 128;
constexpr int kPasses = kColumns * kChunks / kThreads;  // chunks of B that a thread loads: 2

template <int kRows>
struct TileShape {
  static constexpr int kWarpsDown = kRows == 32 ? 1 : 2, kWarpsAcross = kWarps / kWarpsDown;
  static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;
  static constexpr int kStride = kWarpColumns + 8;  // of staged sums
};

template <int kRows, int kDepth>
struct alignas(128) ConvShared {
  union {
    struct {
      unsigned char a[2][kRows * kRowBytes];
      unsigned char b[2][kColumns * kRowBytes];
    } tiles;
    float sums[kWarps][16][TileShape<kRows>::kStride];
  };
  Share table[2][kDepth];
};

// The element that a place and a tap meet at.
template <class T, ConvMode kMode>
__device__ __forceinline__ T meet(const ConvProblem& p, const T* data, const Share& x,
                                  const Share& y) {
  const int64_t h = kMode == ConvMode::data ? p.s.oh : p.s.h;
  const int64_t w = kMode == ConvMode::data ? p.s.ow : p.s.w;
  const bool inside = static_cast<uint32_t>(x.i + y.i) < static_cast<uint32_t>(h) &&
                      static_cast<uint32_t>(x.j + y.j) < static_cast<uint32_t>(w);
  return inside ? data[x.offset + y.offset] : T{};
}

template <class Product, ConvMode kMode, int kRows>
class Loader {
  using T = typename Product::Element;
  static constexpr int kPer = 16 / sizeof(T);
  static constexpr int kLeftPasses = (kRows * kChunks + kThreads - 1) / kThreads;

 public:
  static constexpr int kDepth = kRowBytes / sizeof(T);

  __device__ __forceinline__ Loader(const ConvProblem& p, int group, int row0, int column0)
      : p_(p), group_(group) {
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t stride = kMode == ConvMode::forward ? p.k
                           : kMode == ConvMode::data  ? p.weight_plane
                                                      : p.y.channel;
    left_ = static_cast<const T*>(p.left);
    left_stride_ = static_cast<int>(stride);
    left_row0_ = static_cast<int>((kMode == ConvMode::data ? 0 : group * p.rows) + row0);
    left_rows_ = static_cast<int>(p.rows) - row0;
    const bool runs =
        kMode == ConvMode::forward || (kMode == ConvMode::weight && !p.s.channels_last);
    wide_ = runs && stride % kPer == 0 && is_aligned_on_device(p.left);
    if constexpr (kMode == ConvMode::weight) {
#pragma unroll
      for (int i = 0; i < kPasses; ++i) {
        columns_[i] = column_share(column0 + thread / kChunks + i * (kThreads / kChunks));
      }
    } else {
      columns_[0] = column_share(column0 + thread % kColumns);
    }
  }

  // The table of the stage of k from k0 on.
  __device__ __forceinline__ void fill(Share (&table)[kDepth], int k0, int k_end) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= kDepth) return;
    Share share{0, kOutside, kOutside, -1};
    if (k0 + thread < k_end) {
      share = kMode == ConvMode::weight ? place_share<kMode>(p_, k0 + thread)
                                        : tap_share<kMode>(p_, group_, k0 + thread);
    }
    table[thread] = share;
  }

  // Begin to load A's part of a stage, and one pass of B's.
  __device__ __forceinline__ void load_left(const Share (&table)[kDepth]) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kLeftPasses; ++i) {
      const int line = thread / kChunks + i * (kThreads / kChunks), k = thread % kChunks * kPer;
      if (line >= kRows) continue;
      const bool exists = line < left_rows_;
      const int row = (left_row0_ + line) * left_stride_;
      if (wide_) {
        const int32_t at = table[k].left;
        a_[i] = exists && at >= 0 ? load_vector<kPer>(left_ + (row + at)) : Vector<T, kPer>{};
      } else {
#pragma unroll
        for (int e = 0; e < kPer; ++e) {
          const int32_t at = table[k + e].left;
          a_[i][e] = exists && at >= 0 ? left_[row + at] : T{};
        }
      }
    }
  }
  __device__ __forceinline__ void load_right(const Share (&table)[kDepth], int pass) {
    const T* const right = static_cast<const T*>(p_.right);
    const int k = chunk_of(pass) * kPer;
#pragma unroll
    for (int e = 0; e < kPer; ++e) {
      b_[pass][e] =
          meet<T, kMode>(p_, right, columns_[kMode == ConvMode::weight ? pass : 0], table[k + e]);
    }
  }

  // Put what was loaded into shared memory.
  __device__ __forceinline__ void store_left(unsigned char* a) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kLeftPasses; ++i) {
      const int line = thread / kChunks + i * (kThreads / kChunks);
      if (line < kRows) put(a + chunk_offset(line, thread % kChunks), a_[i]);
    }
  }
  __device__ __forceinline__ void store_right(unsigned char* b, int pass) {
    const int thread = static_cast<int>(threadIdx.x);
    const int column = kMode == ConvMode::weight ? thread / kChunks + pass * (kThreads / kChunks)
                                                 : thread % kColumns;
    put(b + chunk_offset(column, chunk_of(pass)), b_[pass]);
  }

 private:
  static __device__ __forceinline__ bool is_aligned_on_device(const void* p) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
  }
  static __device__ __forceinline__ int chunk_of(int pass) {
    const int thread = static_cast<int>(threadIdx.x);
    return kMode == ConvMode::weight ? thread % kChunks : thread / kColumns * kPasses + pass;
  }
  static __device__ __forceinline__ void put(unsigned char* to, Vector<T, kPer> values) {
#pragma unroll
    for (int e = 0; e < kPer; ++e) values[e] = Product::prepare(values[e]);
    store_vector(reinterpret_cast<T*>(to), values);
  }
  __device__ __forceinline__ Share column_share(int column) const {
    if (column >= p_.columns) return {0, kOutside, kOutside, 0};
    if constexpr (kMode == ConvMode::weight) {
      return tap_share<kMode>(p_, group_, column);
    } else if (kMode == ConvMode::forward && p_.index) {
      const ConvIndex window = split_place(p_, column / 4);
      return share_of_place<kMode>(
          p_, {window.outer, window.high * 2 + column % 4 / 2, window.low * 2 + column % 2});
    } else {
      return place_share<kMode>(p_, column);
    }
  }

  const ConvProblem& p_;
  int group_, left_row0_, left_rows_, left_stride_;
  const T* left_;
  bool wide_;
  Share columns_[kMode == ConvMode::weight ? kPasses : 1];
  Vector<T, kPer> a_[kLeftPasses], b_[kPasses];
};

// The ending with maxima, of 16 rows of a warp's part: four columns are a window. As max_kernel of
// pool.cu finds them, of sums that are rounded first.
template <class T, int kWarpColumns, int kStride>
__device__ __forceinline__ void store_maxima(const ConvProblem& p, int64_t group, int64_t row0,
                                             int64_t column0, const float (&staged)[16][kStride]) {
  constexpr int kWindows = kWarpColumns / 4;
  const int lane = static_cast<int>(threadIdx.x) % 32, window = lane % kWindows;
  const int64_t column = column0 / 4 + window;
  if (4 * column >= p.columns) return;
  const ConvIndex at = split_place(p, column);
  const int64_t out = conv_out_offset<ConvMode::forward>(p, group, 0, column);
#pragma unroll 4
  for (int line = lane / kWindows; line < 16; line += 32 / kWindows) {
    const int64_t row = row0 + line;
    if (row >= p.rows) break;
    const auto sums = load_vector<4>(&staged[line][4 * window]);
    const float bias = p.bias ? to_arith(static_cast<const T*>(p.bias)[group * p.rows + row]) : 0;
    float best = -INFINITY;
    int found = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float v = to_arith(from_arith<T>(sums[e] + bias));
      if (v > best || v != v) {
        best = v;
        found = e;
      }
    }
    const bool cut = best <= 0.0f;  // NaN stays
    const int64_t to = out + row * conv_out_stride<ConvMode::forward>(p);
    static_cast<T*>(p.out)[to] = from_arith<T>(cut ? 0.0f : best);
    const int64_t place = (2 * at.high + found / 2) * p.s.ow + 2 * at.low + found % 2;
    p.index[to] = cut ? -1 : static_cast<int32_t>(place);
  }
}

template <class Product, ConvMode kMode, int kRows>
__global__ void __launch_bounds__(kThreads, kRows == 128 ? 1 : 2)
    conv_mma_kernel(const __grid_constant__ ConvProblem p) {
  using T = typename Product::Element;
  using Shape = TileShape<kRows>;
  using Stages = Loader<Product, kMode, kRows>;
  constexpr int kDepth = Stages::kDepth;
  // Where two blocks share a multiprocessor, B comes in two passes, which takes fewer registers.
  constexpr bool kApart = kRows == 64 && is_half<T>;
  auto& shared = shared_memory<ConvShared<kRows, kDepth>>();
  int64_t block = blockIdx.x;
  const int64_t row0 = block % p.row_tiles * kRows;
  block /= p.row_tiles;
  const int64_t column0 = block % p.column_tiles * kColumns;
  block /= p.column_tiles;
  const int64_t group = block % p.s.groups, slice = block / p.s.groups;
  const int k_begin = static_cast<int>(slice * p.slice_k);
  const int k_end = static_cast<int>(min(k_begin + p.slice_k, p.k));
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows;
  const int warp_column = warp % Shape::kWarpsAcross * Shape::kWarpColumns;

  Stages stages(p, static_cast<int>(group), static_cast<int>(row0), static_cast<int>(column0));
  float sums[Shape::kDown][Shape::kAcross][4] = {};
  stages.fill(shared.table[0], k_begin, k_end);
  stages.fill(shared.table[1], k_begin + kDepth, k_end);
  __syncthreads();
  stages.load_left(shared.table[0]);
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    stages.load_right(shared.table[0], pass);
    stages.store_right(shared.tiles.b[0], pass);
  }
  stages.store_left(shared.tiles.a[0]);
  __syncthreads();
  int now = 0;
#pragma unroll 1
  for (int k = k_begin; k < k_end; k += kDepth) {
    const bool more = k + kDepth < k_end;
    const auto& table = shared.table[1 - now];
    unsigned char* const next_b = shared.tiles.b[1 - now];
    if (more) {
      stages.load_left(table);
      stages.load_right(table, 0);
      if (!kApart) stages.load_right(table, 1);
    }
    multiply_half<false>(Product{}, 0, shared.tiles.a[now], shared.tiles.b[now], warp_row,
                         warp_column, sums);
    if (kApart && more) {
      stages.store_right(next_b, 0);
      stages.load_right(table, 1);
    }
    multiply_half<false>(Product{}, 1, shared.tiles.a[now], shared.tiles.b[now], warp_row,
                         warp_column, sums);
    if (more) {
      if (!kApart) stages.store_right(next_b, 0);
      stages.store_right(next_b, 1);
      stages.store_left(shared.tiles.a[1 - now]);
      stages.fill(shared.table[now], k + 2 * kDepth, k_end);
    }
    __syncthreads();
    now = 1 - now;
  }

  // 16 rows of each warp's part at a time, so that lanes store neighbouring columns.
  const int column = lane % Shape::kWarpColumns;
  const int64_t out_column = column0 + warp_column + column;
  const bool exists = out_column < p.columns;
  const int64_t out = p.partial || !exists ? 0 : conv_out_offset<kMode>(p, group, 0, out_column);
  const int64_t out_row = conv_out_stride<kMode>(p);
#pragma unroll
  for (int i = 0; i < Shape::kDown; ++i) {
    auto& staged = shared.sums[warp];
#pragma unroll
    for (int j = 0; j < Shape::kAcross; ++j) {
      const int at = 8 * j + lane % 4 * 2;
      store_vector(&staged[lane / 4][at], Vector<float, 2>{sums[i][j][0], sums[i][j][1]});
      store_vector(&staged[lane / 4 + 8][at], Vector<float, 2>{sums[i][j][2], sums[i][j][3]});
    }
    __syncwarp();
    if (kMode == ConvMode::forward && p.index) {
      store_maxima<T, Shape::kWarpColumns>(p, group, row0 + warp_row + 16 * i,
                                           column0 + warp_column, staged);
      __syncwarp();
      continue;
    }
#pragma unroll 4
    for (int line = lane / Shape::kWarpColumns; line < 16; line += 32 / Shape::kWarpColumns) {
      const int64_t row = row0 + warp_row + 16 * i + line;
      if (!exists || row >= p.rows) continue;
      float sum = staged[line][column];
      if (p.partial) {
        static_cast<float*>(
            p.partial)[((slice * p.s.groups + group) * p.rows + row) * p.columns + out_column] =
            sum;
        continue;
      }
      if (p.bias) sum += to_arith(static_cast<const T*>(p.bias)[group * p.rows + row]);
      if (p.relu && sum < 0.0f) sum = 0.0f;
      static_cast<T*>(p.out)[out + row * out_row] = from_arith<T>(sum);
    }
    __syncwarp();
  }
}

int tile_rows(const ConvProblem& p) { return p.rows <= 32 ? 32 : p.rows <= 64 ? 64 : 128; }

template <class Product, ConvMode kMode, int kRows>
void launch_tile(Stream& stream, const ConvProblem& p, dim3 blocks) {
  constexpr int kDepth = kRowBytes / sizeof(typename Product::Element);
  launch(stream, "conv2d_mma", conv_mma_kernel<Product, kMode, kRows>, blocks, dim3(kThreads),
         sizeof(ConvShared<kRows, kDepth>), p);
}

template <class Product, ConvMode kMode>
void launch_mode(Stream& stream, const ConvProblem& p, dim3 blocks) {
  switch (tile_rows(p)) {
    case 32:
      return launch_tile<Product, kMode, 32>(stream, p, blocks);
    case 64:
      return launch_tile<Product, kMode, 64>(stream, p, blocks);
    default:
      return launch_tile<Product, kMode, 128>(stream, p, blocks);
  }
}

template <class Product>
void launch_product(Stream& stream, ConvMode mode, const ConvProblem& p, dim3 blocks) {
  switch (mode) {
    case ConvMode::forward:
      return launch_mode<Product, ConvMode::forward>(stream, p, blocks);
    case ConvMode::data:
      return launch_mode<Product, ConvMode::data>(stream, p, blocks);
    case ConvMode::weight:
      return launch_mode<Product, ConvMode::weight>(stream, p, blocks);
  }
}

}  // namespace

bool conv_by_mma(ConvMode mode, const ConvProblem& p) {
  const ConvShape& s = p.s;
  const bool dtype = s.dtype == DType::bfloat16 || s.dtype == DType::float16 ||
                     (s.dtype == DType::float32 && s.precision != Precision::highest);
  // Offsets, and rows and columns with the kernel's reach, are 32-bit numbers.
  constexpr int64_t kMost = 1 << 30, kMostClasses = 16;
  const int64_t reach_h = s.kh * s.dilation_h + s.pad_h, reach_w = s.kw * s.dilation_w + s.pad_w;
  const auto small = [](int64_t a, int64_t b, int64_t c, int64_t d) {
    return static_cast<double>(a) * b * c * d < kMost;
  };
  return dtype && p.rows >= 8 && p.columns >= 8 && p.k >= 8 && p.columns < kMost && p.k < kMost &&
         small(s.n, s.c, s.h + reach_h, s.w + reach_w) &&
         small(s.n, s.o, s.oh + reach_h, s.ow + reach_w) && small(s.o, p.in_channels, s.kh, s.kw) &&
         reach_h < kMost / 4 && reach_w < kMost / 4 && s.h < kMost / 4 && s.w < kMost / 4 &&
         s.stride_h < kMost && s.stride_w < kMost &&
         (mode != ConvMode::data || s.stride_h * s.stride_w <= kMostClasses);
}

ConvTile conv_mma_tile(Stream& stream, ConvMode mode, const ConvProblem& p) {
  const int depth = kRowBytes / static_cast<int>(item_size(p.s.dtype));
  const int64_t processors = multiprocessors(stream);
  return {tile_rows(p), kColumns, depth, 16 * depth,
          mode == ConvMode::weight ? 2 * processors : processors};
}

void launch_conv_mma(Stream& stream, ConvMode mode, const ConvProblem& p, dim3 blocks) {
  if (p.s.dtype == DType::bfloat16) {
    launch_product<HalfProduct<BFloat16>>(stream, mode, p, blocks);
  } else if (p.s.dtype == DType::float16) {
    launch_product<HalfProduct<Float16>>(stream, mode, p, blocks);
  } else {
    launch_product<Tf32Product>(stream, mode, p, blocks);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
