// C = A·B by mma.sync. A block of 4 warps (2x2) makes a tile of C; K runs in stages of 64 bytes
// (32 16-bit or 16 float32 elements), three in flight through cp.async; fragments are double
// buffered. Cost: 2·M·N·K operations; operands are read N/tile and M/tile times, 64 operations per
// byte of 16-bit elements with a tile of 128; floor 2MNK / 989e12 s on H100 (TF32: 495e12), of
// which mma.sync can reach some 60%.
//
// Shared memory, 16-byte chunks: a K-contiguous operand [row][4 chunks], chunk ^ ((row/2)%4)
// (float32: row&2); a row-contiguous one [k][rows], chunk ^ (k%8) (float32: 2·((k/2)%4)). Both keep
// ldmatrix, and the float32 reads of 8 or 16 bytes, free of bank conflicts.
// float32 has no transposing load, so its tiles permute rows: fragment row s of 32 is row
// 4·(s%8) + s/8 of the operand, and one 16-byte read gives four fragments; K pairs (2t, 2t+1)
// stand where the instruction has (t, t+4), in both operands, which leaves the sum as it is.
#include "async.h"
#include "gemm_mma.h"
#include "launch.h"
#include "ptx.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 128;
constexpr int kStages = 3;
constexpr int kStageBytesPerRow = 64;

// add_rows adds up the rows of A: in 16 bits by a product with ones, each lane then having the sums
// of rows g and g+8 in s[0] and s[2]; in float32 each lane adds what it holds of them.
struct Bfloat16Mma {
  using Element = BFloat16;
  static __device__ __forceinline__ void add_rows(float (&s)[4], const uint32_t (&a)[4]) {
    constexpr uint32_t kOnes[2] = {0x3f803f80, 0x3f803f80};
    multiply(s, a, kOnes);
  }
  static __device__ __forceinline__ void prepare_a(uint32_t (&)[4]) {}
  static __device__ __forceinline__ void prepare_b(uint32_t (&)[2]) {}
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
};

struct Float16Mma {
  using Element = Float16;
  static __device__ __forceinline__ void add_rows(float (&s)[4], const uint32_t (&a)[4]) {
    constexpr uint32_t kOnes[2] = {0x3c003c00, 0x3c003c00};
    multiply(s, a, kOnes);
  }
  static __device__ __forceinline__ void prepare_a(uint32_t (&)[4]) {}
  static __device__ __forceinline__ void prepare_b(uint32_t (&)[2]) {}
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
};

struct FloatRows {
  static __device__ __forceinline__ void add_rows(float (&s)[4], const uint32_t (&a)[4]) {
    s[0] += __uint_as_float(a[0]) + __uint_as_float(a[2]);
    s[2] += __uint_as_float(a[1]) + __uint_as_float(a[3]);
  }
};

struct Tf32Mma : FloatRows {
  using Element = float;
  static __device__ __forceinline__ void prepare_a(uint32_t (&a)[4]) {
#pragma unroll
    for (uint32_t& x : a) x = to_tf32(__uint_as_float(x));
  }
  static __device__ __forceinline__ void prepare_b(uint32_t (&b)[2]) {
#pragma unroll
    for (uint32_t& x : b) x = to_tf32(__uint_as_float(x));
  }
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k8_tf32(d, a, b);
  }
};

struct RoundedFloatMma : FloatRows {
  using Element = float;
  static __device__ __forceinline__ void prepare_a(uint32_t (&a)[4]) {
    a[0] = pack_bfloat16(__uint_as_float(a[0]), __uint_as_float(a[2]));
    a[1] = pack_bfloat16(__uint_as_float(a[1]), __uint_as_float(a[3]));
  }
  static __device__ __forceinline__ void prepare_b(uint32_t (&b)[2]) {
    b[0] = pack_bfloat16(__uint_as_float(b[0]), __uint_as_float(b[1]));
  }
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k8_bf16(d, a[0], a[1], b[0]);
  }
};

// Where a chunk of an operand's tile lies in its stage, in bytes.
template <class T, int kRows, bool kKContiguous>
struct StageLayout {
  static constexpr int kPerChunk = 16 / sizeof(T);
  static constexpr int kTileK = kStageBytesPerRow / sizeof(T);
  static constexpr bool kWide = sizeof(T) == 4;

  static __device__ __forceinline__ int row_chunk(int row, int chunk) {
    const int swizzle = kWide ? row & 2 : (row >> 1) & 3;
    return (row * 4 + (chunk ^ swizzle)) * 16;
  }
  static __device__ __forceinline__ int k_chunk(int k, int chunk) {
    const int swizzle = kWide ? ((k >> 1) & 3) * 2 : k & 7;
    return (k * (kRows / kPerChunk) + (chunk ^ swizzle)) * 16;
  }
};

// Brings one operand's tiles, kRows rows by kTileK, from global memory into stages.
template <class T, int kRows, bool kKContiguous>
class TileLoader {
  using Layout = StageLayout<T, kRows, kKContiguous>;
  static constexpr int kPerChunk = Layout::kPerChunk;
  static constexpr int kChunksPerLine = kKContiguous ? 4 : kRows / kPerChunk;
  static constexpr int kLinesPerPass = kThreads / kChunksPerLine;
  static constexpr int kPasses = kRows * 4 / kThreads;

 public:
  // `source` is the element at the tile's first row and the slice's first k.
  __device__ __forceinline__ TileLoader(const T* source, int64_t ld, int64_t rows, int access)
      : line_(static_cast<int>(threadIdx.x) / kChunksPerLine),
        first_(static_cast<int>(threadIdx.x) % kChunksPerLine * kPerChunk),
        rows_(clamp_count(rows, kRows)),
        access_(access),
        inside_(access == 16 && rows >= kRows),
        pass_stride_(kLinesPerPass * ld),
        tile_stride_(kKContiguous ? Layout::kTileK : Layout::kTileK * ld) {
    // Permuted rows keep the 32 rows of a pass together.
    const int line = kKContiguous && Layout::kWide ? 4 * (line_ % 8) + line_ / 8 : line_;
    source_ = source + line * ld + first_;
    operand_line_ = line;
  }

  // Loads the next tile, of which `k_left` (or more) values of k exist.
  __device__ __forceinline__ void load(unsigned char* stage, int64_t k_left) {
    if (inside_ && k_left >= Layout::kTileK) {
#pragma unroll
      for (int i = 0; i < kPasses; ++i) {
        cp_async_16(stage + position(i), source_ + i * pass_stride_);
      }
    } else if (access_ >= 4) {
      const int k_count = clamp_count(k_left, Layout::kTileK);
#pragma unroll 1
      for (int i = 0; i < kPasses; ++i) {
        unsigned char* to = stage + position(i);
        const auto* from = reinterpret_cast<const unsigned char*>(source_ + i * pass_stride_);
        const int bytes = valid(i, k_count) * static_cast<int>(sizeof(T));
        if (access_ == 16) {
          cp_async_16(to, from, bytes);
        } else {
#pragma unroll
          for (int j = 0; j < 16; j += 4) cp_async_4(to + j, from + j, min(max(bytes - j, 0), 4));
        }
      }
    } else if constexpr (!Layout::kWide) {
      load_through_registers(stage, clamp_count(k_left, Layout::kTileK));
    }
    source_ += tile_stride_;
  }

 private:
  // For 16-bit elements at odd addresses: two chunks' loads are under way before a store waits.
  __device__ __forceinline__ void load_through_registers(unsigned char* stage, int k_count) const {
#pragma unroll 1
    for (int i = 0; i < kPasses; i += 2) {
      Vector<T, kPerChunk> chunks[2];
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int count = valid(i + x, k_count);
        const T* from = source_ + (i + x) * pass_stride_;
#pragma unroll
        for (int j = 0; j < kPerChunk; ++j) chunks[x][j] = j < count ? from[j] : T{};
      }
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        store_vector(reinterpret_cast<T*>(stage + position(i + x)), chunks[x]);
      }
    }
  }
  __device__ __forceinline__ int position(int pass) const {
    const int line = line_ + pass * kLinesPerPass, chunk = first_ / kPerChunk;
    return kKContiguous ? Layout::row_chunk(line, chunk) : Layout::k_chunk(line, chunk);
  }
  // How many of the chunk's elements exist.
  __device__ __forceinline__ int valid(int pass, int k_count) const {
    const int line = operand_line_ + pass * kLinesPerPass;
    const int lines = kKContiguous ? rows_ : k_count, along = kKContiguous ? k_count : rows_;
    return line < lines ? min(max(along - first_, 0), kPerChunk) : 0;
  }

  int line_, operand_line_, first_, rows_, access_;
  bool inside_;
  int64_t pass_stride_, tile_stride_;
  const T* source_;
};

// Reads the warp's fragments of one step (two per stage): kRowTiles tiles of 16 rows of A.
template <class T, int kRows, bool kKContiguous, int kRowTiles>
__device__ __forceinline__ void read_a(const unsigned char* stage, int warp_row, int step,
                                       uint32_t (&a)[kRowTiles][4]) {
  using Layout = StageLayout<T, kRows, kKContiguous>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if constexpr (!Layout::kWide) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const int row = warp_row + 16 * i;
      if constexpr (kKContiguous) {
        ldmatrix_x4(a[i], stage + Layout::row_chunk(row + lane % 16, 2 * step + lane / 16));
      } else {
        ldmatrix_x4_trans(a[i], stage + Layout::k_chunk(16 * step + lane % 8 + lane / 16 * 8,
                                                        row / 8 + lane / 8 % 2));
      }
    }
  } else if constexpr (kKContiguous) {
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      const int at = Layout::row_chunk(warp_row + 8 * i + g, 2 * step + t / 2) + t % 2 * 8;
      const auto pair = load_vector<2>(reinterpret_cast<const uint32_t*>(stage + at));
      a[i / 2][i % 2] = pair[0];
      a[i / 2][i % 2 + 2] = pair[1];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const int upper = i % 2, at = Layout::k_chunk(8 * step + 2 * t + upper,
                                                    (warp_row + 16 * (i - upper)) / 4 + g);
      const auto rows = load_vector<4>(reinterpret_cast<const uint32_t*>(stage + at));
#pragma unroll
      for (int j = 0; j < 4; ++j) a[i - upper + j / 2][j % 2 + 2 * upper] = rows[j];
    }
  }
}

// The same for kColumnTiles tiles of 8 columns of B.
template <class T, int kRows, bool kKContiguous, int kColumnTiles>
__device__ __forceinline__ void read_b(const unsigned char* stage, int warp_column, int step,
                                       uint32_t (&b)[kColumnTiles][2]) {
  using Layout = StageLayout<T, kRows, kKContiguous>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if constexpr (!Layout::kWide) {
#pragma unroll
    for (int i = 0; i < kColumnTiles; i += 2) {
      const int column = warp_column + 8 * i;
      uint32_t r[4];
      if constexpr (kKContiguous) {
        ldmatrix_x4(r, stage + Layout::row_chunk(column + lane % 8 + lane / 16 * 8,
                                                 2 * step + lane / 8 % 2));
      } else {
        ldmatrix_x4_trans(r,
                          stage + Layout::k_chunk(16 * step + lane % 16, column / 8 + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) b[i + j / 2][j % 2] = r[j];
    }
  } else if constexpr (kKContiguous) {
#pragma unroll
    for (int i = 0; i < kColumnTiles; ++i) {
      const int at = Layout::row_chunk(warp_column + 8 * i + g, 2 * step + t / 2) + t % 2 * 8;
      const auto pair = load_vector<2>(reinterpret_cast<const uint32_t*>(stage + at));
      b[i][0] = pair[0];
      b[i][1] = pair[1];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kColumnTiles; i += 4) {
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const int at = Layout::k_chunk(8 * step + 2 * t + upper, (warp_column + 8 * i) / 4 + g);
        const auto columns = load_vector<4>(reinterpret_cast<const uint32_t*>(stage + at));
#pragma unroll
        for (int j = 0; j < 4; ++j) b[i + j][upper] = columns[j];
      }
    }
  }
}

template <int kBM, int kBN>
union alignas(128) MmaShared {
  struct {
    unsigned char a[kStages][kBM * kStageBytesPerRow];
    unsigned char b[kStages][kBN * kStageBytesPerRow];
  } stages;
  float sums[kThreads / 32][32][kBN / 2 + 8];  // 32 rows of each warp's part of C, on their way out
};

template <class Mode, int kBM, int kBN, bool kAK, bool kBK>
__global__ void __launch_bounds__(kThreads, kBM* kBN >= 128 * 128 ? 2 : 4)
    gemm_mma_kernel(const GemmProblem p) {
  using T = typename Mode::Element;
  constexpr bool kWide = sizeof(T) == 4;
  constexpr int kTileK = kStageBytesPerRow / sizeof(T);
  constexpr int kRowTiles = kBM / 32, kColumnTiles = kBN / 16;
  static_assert(kBM % 64 == 0 && kBN % 64 == 0, "a warp takes groups of 32 rows and columns");
  constexpr bool kSumsRows = !kAK && !kBK;  // as a weight's gradient has its operands

  auto& shared = shared_memory<MmaShared<kBM, kBN>>();
  const TilePlace place = tile_place<kBM, kBN>(p);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int warp_row = warp / 2 * (kBM / 2), warp_column = warp % 2 * (kBN / 2);

  TileLoader<T, kBM, kAK> a_loader(
      static_cast<const T*>(p.a) + place.batch * p.a_batch +
          (kAK ? place.m * p.a_ld + place.k_begin : place.k_begin * p.a_ld + place.m),
      p.a_ld, p.m - place.m, p.a_access);
  TileLoader<T, kBN, kBK> b_loader(
      static_cast<const T*>(p.b) + place.batch * p.b_batch +
          (kBK ? place.n * p.b_ld + place.k_begin : place.k_begin * p.b_ld + place.n),
      p.b_ld, p.n - place.n, p.b_access);

  const int tiles = static_cast<int>((place.k_count + kTileK - 1) / kTileK);
  int64_t k_left = place.k_count;
  const auto load_stage = [&](int stage) {
    if (k_left > 0) {
      a_loader.load(shared.stages.a[stage], k_left);
      b_loader.load(shared.stages.b[stage], k_left);
      k_left -= kTileK;
    }
    cp_async_commit();
  };

  float sums[kRowTiles][kColumnTiles][4] = {};
  float row_sums[kRowTiles][4] = {};
  const bool adds_rows = kSumsRows && p.out.a_sums && place.n == 0 && warp_column == 0;
  uint32_t a[2][kRowTiles][4], b[2][kColumnTiles][2];

  for (int stage = 0; stage < kStages - 1; ++stage) load_stage(stage);
  cp_async_wait<kStages - 2>();
  __syncthreads();
  if (tiles > 0) {
    read_a<T, kBM, kAK>(shared.stages.a[0], warp_row, 0, a[0]);
    read_b<T, kBN, kBK>(shared.stages.b[0], warp_column, 0, b[0]);
  }

  int read_stage = 0, write_stage = kStages - 1;
  for (int tile = 0; tile < tiles; ++tile) {
    // The stage written here was last read before the barrier of the previous tile.
    load_stage(write_stage);
    write_stage = write_stage + 1 == kStages ? 0 : write_stage + 1;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      if (step == 1) {
        cp_async_wait<kStages - 2>();
        __syncthreads();
      }
      const int next = 1 - step;
      if (step == 0 || tile + 1 < tiles) {
        const int from = step == 0 ? read_stage : (read_stage + 1 == kStages ? 0 : read_stage + 1);
        read_a<T, kBM, kAK>(shared.stages.a[from], warp_row, next, a[next]);
        read_b<T, kBN, kBK>(shared.stages.b[from], warp_column, next, b[next]);
      }
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) Mode::prepare_b(b[step][j]);
      if constexpr (kSumsRows) {
        if (adds_rows) {
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) Mode::add_rows(row_sums[i], a[step][i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        Mode::prepare_a(a[step][i]);
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          Mode::multiply(sums[i][j], a[step][i], b[step][j]);
        }
      }
    }
    read_stage = read_stage + 1 == kStages ? 0 : read_stage + 1;
  }
  // The last barrier followed the last read of a stage, and no copy is in flight.
  constexpr int kPerStore = 16 / sizeof(T), kStoresPerRow = kBN / 2 / kPerStore;
  if constexpr (kSumsRows) {
    if (adds_rows) {
#pragma unroll
      for (int i = 0; i < 2 * kRowTiles; ++i) {
        float sum = row_sums[i / 2][i % 2 * 2];
        if constexpr (kWide) {
          sum += __shfl_xor_sync(0xffffffffu, sum, 1);
          sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        }
        const int row = warp_row + i / 4 * 32 + (kWide ? 4 * g + i % 4 : i % 4 * 8 + g);
        if (t == 0) store_sum<T>(p, place, place.m + row, sum);
      }
    }
  }
  auto& staged = shared.sums[warp];
#pragma unroll
  for (int part = 0; part < kRowTiles / 2; ++part) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto& from = sums[2 * part + i / 2];
      float* to = staged[kWide ? 4 * g + i : 8 * i + g];
      const int e = i % 2 * 2;
#pragma unroll
      for (int j = 0; j < kColumnTiles; j += kWide ? 4 : 1) {
        if constexpr (kWide) {
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            store_vector(to + 8 * (j + t) + 4 * side,
                         Vector<float, 4>{from[j][e + side], from[j + 1][e + side],
                                          from[j + 2][e + side], from[j + 3][e + side]});
          }
        } else {
          store_vector(to + 8 * j + 2 * t, Vector<float, 2>{from[j][e], from[j][e + 1]});
        }
      }
    }
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 32 * kStoresPerRow; i += 32) {
      const int row = i / kStoresPerRow, column = i % kStoresPerRow * kPerStore;
      float v[kPerStore];
#pragma unroll
      for (int j = 0; j < kPerStore; j += 4) {
        const auto four = load_vector<4>(&staged[row][column + j]);
#pragma unroll
        for (int x = 0; x < 4; ++x) v[j + x] = four[x];
      }
      store_columns<T>(p, place, place.m + warp_row + 32 * part + row,
                       place.n + warp_column + column, v);
    }
    __syncwarp();
  }
}

using MmaKernel = void (*)(const GemmProblem);

template <class Mode, int kTile>
MmaKernel kernel_of_layout(const GemmProblem& p) {
  if (p.a_k_contiguous) {
    return p.b_k_contiguous ? gemm_mma_kernel<Mode, kTile, kTile, true, true>
                            : gemm_mma_kernel<Mode, kTile, kTile, true, false>;
  }
  return p.b_k_contiguous ? gemm_mma_kernel<Mode, kTile, kTile, false, true>
                          : gemm_mma_kernel<Mode, kTile, kTile, false, false>;
}

template <int kTile>
void launch_tiles(Stream& stream, MmaMode mode, const GemmProblem& p, int64_t blocks) {
  MmaKernel kernel = nullptr;
  switch (mode) {
    case MmaMode::bfloat16:
      kernel = kernel_of_layout<Bfloat16Mma, kTile>(p);
      break;
    case MmaMode::float16:
      kernel = kernel_of_layout<Float16Mma, kTile>(p);
      break;
    case MmaMode::tf32:
      kernel = kernel_of_layout<Tf32Mma, kTile>(p);
      break;
    case MmaMode::float32_as_bfloat16:
      kernel = kernel_of_layout<RoundedFloatMma, kTile>(p);
      break;
  }
  launch(stream, "gemm_mma", kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
         sizeof(MmaShared<kTile, kTile>), p);
}

}  // namespace

void launch_gemm_mma(Stream& stream, MmaMode mode, int tile, const GemmProblem& problem,
                     int64_t blocks) {
  if (tile == 128) {
    launch_tiles<128>(stream, mode, problem, blocks);
  } else {
    launch_tiles<64>(stream, mode, problem, blocks);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
