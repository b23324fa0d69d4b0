// C = A·B in full float32 by fused multiply-adds, and a plain form for float64 and integers.
//
// A block makes a kBM x kBN tile; a thread makes kTM x kTN of it, as groups of 4x4 that lie
// kBM·4/kTM rows and kBN·4/kTN columns apart, so that a warp's 16-byte shared reads touch
// neighbouring chunks. K runs in steps of kBK: the next step's operands travel through registers
// into the other of two shared buffers while this one is multiplied. Shared: a [kBK][kBM + 4],
// b [kBK][kBN + 4]; a K-contiguous operand is transposed on its way in (the 4 keep those stores
// apart). Cost: 2·M·N·K operations, bound by the FP32 units once a tile does kTM·kTN/(kTM+kTN) = 4
// multiply-adds per shared float; floor 2MNK / 67e12 s on H100. Sums run in the order of k.
#include <type_traits>

#include "gemm_simt.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <int kBM_, int kBN_, int kBK_, int kTM_, int kTN_>
struct SimtShape {
  static constexpr int kBM = kBM_, kBN = kBN_, kBK = kBK_, kTM = kTM_, kTN = kTN_;
  static constexpr int kThreads = kBM / kTM * (kBN / kTN);
  struct Shared {
    float a[2][kBK][kBM + 4];
    float b[2][kBK][kBN + 4];
    float row_sums[kBM];  // not in registers, which are short
  };
};
using SimtLarge = SimtShape<128, 128, 8, 8, 8>;
using SimtMedium = SimtShape<64, 64, 16, 4, 4>;
using SimtSmall = SimtShape<32, 32, 16, 4, 4>;

// One operand's way from global memory through a thread's registers to shared [kBK][kRows + 4].
template <int kRows, int kBK, int kThreads>
class SimtLoader {
  static constexpr int kLoads = kRows * kBK / 4 / kThreads;
  static_assert(kLoads * 4 * kThreads == kRows * kBK, "every thread loads the same");

 public:
  __device__ __forceinline__ SimtLoader(const float* source, int64_t ld, int64_t rows,
                                        bool k_contiguous, bool vector)
      : source_(source),
        ld_(ld),
        rows_(clamp_count(rows, kRows)),
        k_contiguous_(k_contiguous),
        vector_(vector) {}

  __device__ __forceinline__ void fetch(int64_t k_left) {
    const int k_count = clamp_count(k_left, kBK);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int line = line_of(i), first = first_of(i);
      const int lines = k_contiguous_ ? rows_ : k_count, along = k_contiguous_ ? k_count : rows_;
      const int count = line < lines ? along - first : 0;
      const float* from = source_ + line * ld_ + first;
      if (vector_ && count >= 4) {
        held_[i] = load_vector<4>(from);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) held_[i][j] = j < count ? from[j] : 0.0f;
      }
    }
    source_ += k_contiguous_ ? kBK : kBK * ld_;
  }

  __device__ __forceinline__ void store(float (&to)[kBK][kRows + 4]) const {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int line = line_of(i), first = first_of(i);
      if (k_contiguous_) {
#pragma unroll
        for (int j = 0; j < 4; ++j) to[first + j][line] = held_[i][j];
      } else {
        store_vector(&to[line][first], held_[i]);
      }
    }
  }

 private:
  __device__ __forceinline__ int line_of(int i) const {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    return k_contiguous_ ? index / (kBK / 4) : index / (kRows / 4);
  }
  __device__ __forceinline__ int first_of(int i) const {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    return (k_contiguous_ ? index % (kBK / 4) : index % (kRows / 4)) * 4;
  }

  const float* source_;
  int64_t ld_;
  int rows_;
  bool k_contiguous_, vector_;
  Vector<float, 4> held_[kLoads];
};

template <int kCount, int kRows>
__device__ __forceinline__ void read_fragment(const float (&line)[kRows], int lane_group,
                                              float (&to)[kCount]) {
  constexpr int kApart = (kRows - 4) * 4 / kCount;
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const auto four = load_vector<4>(&line[i / 4 * kApart + lane_group * 4]);
#pragma unroll
    for (int j = 0; j < 4; ++j) to[i + j] = four[j];
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kThreads == 256 ? 2 : 8)
    gemm_simt_kernel(const GemmProblem p) {
  constexpr int kBM = Shape::kBM, kBN = Shape::kBN, kBK = Shape::kBK;
  constexpr int kTM = Shape::kTM, kTN = Shape::kTN;
  constexpr int kWarpsAcross = kBN / kTN / 8;  // a warp is 4 threads down, 8 across

  auto& shared = shared_memory<typename Shape::Shared>();
  const TilePlace place = tile_place<kBM, kBN>(p);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int down = warp / kWarpsAcross * 4 + lane / 8;
  const int across = warp % kWarpsAcross * 8 + lane % 8;

  const auto operand = [&](const void* data, int64_t batch_stride, int64_t ld, int64_t row,
                           bool k_contiguous) {
    return static_cast<const float*>(data) + place.batch * batch_stride +
           (k_contiguous ? row * ld + place.k_begin : place.k_begin * ld + row);
  };
  SimtLoader<kBM, kBK, Shape::kThreads> a_loader(
      operand(p.a, p.a_batch, p.a_ld, place.m, p.a_k_contiguous), p.a_ld, p.m - place.m,
      p.a_k_contiguous, p.a_access == 16);
  SimtLoader<kBN, kBK, Shape::kThreads> b_loader(
      operand(p.b, p.b_batch, p.b_ld, place.n, p.b_k_contiguous), p.b_ld, p.n - place.n,
      p.b_k_contiguous, p.b_access == 16);

  float sums[kTM][kTN] = {};
  const auto adds_row = [&] { return p.out.a_sums && place.n == 0 && threadIdx.x < kBM; };
  if (adds_row()) shared.row_sums[threadIdx.x] = 0;
  int64_t k_left = place.k_count;
  if (k_left > 0) {
    a_loader.fetch(k_left);
    b_loader.fetch(k_left);
    a_loader.store(shared.a[0]);
    b_loader.store(shared.b[0]);
  }
  __syncthreads();
  for (int buffer = 0; k_left > 0; buffer ^= 1) {
    k_left -= kBK;
    if (k_left > 0) {
      a_loader.fetch(k_left);
      b_loader.fetch(k_left);
    }
    float a[2][kTM], b[2][kTN];
    read_fragment(shared.a[buffer][0], down, a[0]);
    read_fragment(shared.b[buffer][0], across, b[0]);
#pragma unroll
    for (int k = 0; k < kBK; ++k) {
      if (k + 1 < kBK) {
        read_fragment(shared.a[buffer][k + 1], down, a[(k + 1) % 2]);
        read_fragment(shared.b[buffer][k + 1], across, b[(k + 1) % 2]);
      }
#pragma unroll
      for (int i = 0; i < kTM; ++i) {
#pragma unroll
        for (int j = 0; j < kTN; ++j) sums[i][j] = fmaf(a[k % 2][i], b[k % 2][j], sums[i][j]);
      }
    }
    if (adds_row()) {
      float part = 0;
#pragma unroll 2
      for (int k = 0; k < kBK; ++k) part += shared.a[buffer][k][threadIdx.x];
      shared.row_sums[threadIdx.x] += part;
    }
    if (k_left > 0) {
      a_loader.store(shared.a[buffer ^ 1]);
      b_loader.store(shared.b[buffer ^ 1]);
    }
    __syncthreads();
  }

  if (adds_row()) {
    store_sum<float>(p, place, place.m + threadIdx.x, shared.row_sums[threadIdx.x]);
  }
#pragma unroll
  for (int i = 0; i < kTM; ++i) {
    const int64_t row = place.m + i / 4 * (kBM * 4 / kTM) + 4 * down + i % 4;
#pragma unroll
    for (int j = 0; j < kTN; j += 4) {
      float v[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) v[x] = sums[i][j + x];
      store_columns<float>(p, place, row, place.n + j / 4 * (kBN * 4 / kTN) + 4 * across, v);
    }
  }
}

constexpr int kPlainSide = 16;  // a plain block: one thread per element of C

template <class T>
struct PlainShared {
  T a[kPlainSide][kPlainSide + 1];
  T b[kPlainSide][kPlainSide + 1];
};

__device__ __forceinline__ double multiply_add(double a, double b, double sum) {
  return fma(a, b, sum);
}
__device__ __forceinline__ uint64_t multiply_add(uint64_t a, uint64_t b, uint64_t sum) {
  return a * b + sum;
}
__device__ __forceinline__ uint32_t multiply_add(uint32_t a, uint32_t b, uint32_t sum) {
  return a * b + sum;
}

// S: as stored; T: as computed. Integers wrap, and end with the scale alone.
template <class S, class T>
__global__ void __launch_bounds__(kPlainSide* kPlainSide) gemm_plain_kernel(const GemmArgs p) {
  auto& shared = shared_memory<PlainShared<T>>();
  const int x = threadIdx.x % kPlainSide, y = threadIdx.x / kPlainSide;
  const int64_t tiles_n = (p.n + kPlainSide - 1) / kPlainSide;
  const int64_t tiles_m = (p.m + kPlainSide - 1) / kPlainSide;
  const int64_t tile = blockIdx.x % (tiles_m * tiles_n), batch = blockIdx.x / (tiles_m * tiles_n);
  const int64_t row = tile / tiles_n * kPlainSide + y, column = tile % tiles_n * kPlainSide + x;
  const S* a = static_cast<const S*>(p.a) + batch * p.a_batch;
  const S* b = static_cast<const S*>(p.b) + batch * p.b_batch;
  T sum = 0;
  for (int64_t k = 0; k < p.k; k += kPlainSide) {
    shared.a[y][x] = row < p.m && k + x < p.k ? T(a[row * p.a_row + (k + x) * p.a_col]) : T(0);
    shared.b[y][x] =
        column < p.n && k + y < p.k ? T(b[(k + y) * p.b_row + column * p.b_col]) : T(0);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPlainSide; ++i) {
      sum = multiply_add(shared.a[y][i], shared.b[i][x], sum);
    }
    __syncthreads();
  }
  if (row < p.m && column < p.n) {
    const int64_t at = batch * p.c_batch + row * p.c_row + column;
    S* c = static_cast<S*>(p.c) + at;
    if constexpr (std::is_same_v<T, double>) {
      sum *= p.scale;
      if (p.accumulate) {
        *c += sum;
        return;
      }
      if (p.bias) sum += static_cast<const double*>(p.bias)[column];
      if (p.before) static_cast<double*>(p.before)[at] = sum;
      double y[1] = {sum};
      activate(p.activation, y);
      *c = p.residual ? y[0] + static_cast<const double*>(p.residual)[at] : y[0];
    } else {
      *c = static_cast<S>(sum * static_cast<T>(static_cast<int64_t>(p.scale)));
    }
  }
}

template <class Shape>
void launch_shape(Stream& stream, const GemmProblem& problem, int64_t blocks) {
  launch(stream, "gemm_simt", gemm_simt_kernel<Shape>, dim3(static_cast<unsigned>(blocks)),
         dim3(Shape::kThreads), sizeof(typename Shape::Shared), problem);
}

}  // namespace

void launch_gemm_simt(Stream& stream, int tile, const GemmProblem& problem, int64_t blocks) {
  if (tile == 128) {
    launch_shape<SimtLarge>(stream, problem, blocks);
  } else if (tile == 64) {
    launch_shape<SimtMedium>(stream, problem, blocks);
  } else {
    launch_shape<SimtSmall>(stream, problem, blocks);
  }
}

void launch_gemm_plain(Stream& stream, const GemmArgs& args) {
  const int64_t blocks = (args.m + kPlainSide - 1) / kPlainSide *
                         ((args.n + kPlainSide - 1) / kPlainSide) * args.batch;
  const auto as = [&](auto stored, auto computed) {
    using S = decltype(stored);
    using T = decltype(computed);
    launch(stream, "gemm_plain", gemm_plain_kernel<S, T>, dim3(static_cast<unsigned>(blocks)),
           dim3(kPlainSide * kPlainSide), sizeof(PlainShared<T>), args);
  };
  switch (args.dtype) {
    case DType::int64:
      return as(uint64_t(), uint64_t());
    case DType::int32:
      return as(uint32_t(), uint32_t());
    case DType::uint8:
      return as(uint8_t(), uint32_t());
    default:
      return as(double(), double());
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
