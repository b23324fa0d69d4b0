// The gemm family: C = activation(scale·A·B + bias) + residual, or C += scale·A·B. Chooses the
// library, the kernel by dtype and precision, the tile and the slices of K, and adds the slices up.
//   float32   highest: gemm_simt.cu; high: TF32, medium: bfloat16, gemm_mma.cu (sm_90: TF32)
//   bfloat16, float16: gemm_mma.cu; float64, integers: a plain kernel
//   16 bits and TF32 on sm_90, where strides allow: gemm_wgmma.cu, gemm_wgmma_tf32.cu
// Every choice follows from sizes and the chip alone, and slices are added in their order, so the
// same product gives the same bits each time.
#include "core/error.h"
#include "core/families/gemm_sums.h"
#include "cublaslt.h"
#include "families.h"
#include "gemm_mma.h"
#include "gemm_simt.h"
#include "gemm_wgmma.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kSumThreads = 256;
constexpr int64_t kMostBlocks = INT32_MAX;

// C = the slices' sums added in order, four columns a thread, then as finish_columns says.
template <class T>
__global__ void __launch_bounds__(kSumThreads)
    sum_slices_kernel(const GemmOutput out, int64_t m, int64_t n, int64_t batch, int slices) {
  // Sliced products have few tiles, so 32 bits hold the index.
  const uint32_t groups = static_cast<uint32_t>((n + 3) / 4), rows = static_cast<uint32_t>(m);
  const uint32_t index = blockIdx.x * kSumThreads + threadIdx.x;
  if (index >= groups * rows * batch) return;
  const int64_t column = int64_t{index % groups} * 4;
  const int64_t row = index / groups % rows, b = index / groups / rows;
  const float* from = out.partial + (b * slices * m + row) * out.partial_ld + column;
  float v[4] = {};
  for (int s = 0; s < slices; ++s) {
    const auto part = load_vector<4>(from + s * m * out.partial_ld);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += part[i];
  }
  finish_columns<T>(out, b, row, column, n, v);
  if (!out.a_sums || column != 0) return;
  float sum = 0;
  for (int s = 0; s < slices; ++s) sum += out.partial_a_sums[s * m + row];
  finish_sum<T>(out, row, sum);
}

// A kernel's tiles and the multiply-adds that one multiprocessor does with each in a microsecond:
// rough figures of an H100, of which only the ratios matter.
struct TileRate {
  int side;
  double rate;
};
constexpr TileRate kSimtTiles[] = {{128, 2.0e5}, {64, 1.4e5}, {32, 0.5e5}};
constexpr TileRate kMmaTiles[] = {{128, 1.5e6}, {64, 0.7e6}};
constexpr double kAlone = 0.75;  // of the rate: a block alone on its multiprocessor hides less
constexpr double kLaunchMicroseconds = 2;
constexpr double kBytesPerMicrosecond = 2.5e6;
constexpr int64_t kLeastSlice = 128;  // shorter slices of K do not pay
constexpr int64_t kSliceMultiple = 32;

struct Plan {
  int tile;
  int slices;
  int64_t slice_k;
};

// Waves of blocks over the chip, and where K is sliced one more launch and the way of the partial
// sums through memory.
double estimated_microseconds(const TileRate& tile, const GemmArgs& args, int64_t blocks,
                              const Plan& plan, int processors) {
  const double waves = static_cast<double>(divide_up(blocks * plan.slices, processors));
  const double rate = waves == 1 ? tile.rate * kAlone : tile.rate;
  const double time = waves * tile.side * tile.side * plan.slice_k / rate;
  if (plan.slices == 1) return time;
  const double partial = static_cast<double>(args.m) * args.n * args.batch * plan.slices;
  return time + kLaunchMicroseconds + partial * 2 * sizeof(float) / kBytesPerMicrosecond;
}

// The quickest by that estimate, of every tile with K whole or in slices that fill the chip once
// or twice.
template <size_t kTiles>
Plan choose_plan(const TileRate (&tiles)[kTiles], const GemmArgs& args, int processors) {
  Plan best{};
  double least = 0;
  for (const TileRate& tile : tiles) {
    const int64_t blocks = divide_up(args.m, tile.side) * divide_up(args.n, tile.side) * args.batch;
    for (int64_t fill : {int64_t{0}, processors / blocks, 2 * processors / blocks}) {
      const int64_t wanted = std::max<int64_t>(1, std::min(fill, args.k / kLeastSlice));
      const int64_t slice_k =
          std::max<int64_t>(1, divide_up(args.k, wanted * kSliceMultiple)) * kSliceMultiple;
      const int64_t slices = std::max<int64_t>(1, divide_up(args.k, slice_k));
      const Plan plan{tile.side, static_cast<int>(slices), slice_k};
      const double time = estimated_microseconds(tile, args, blocks, plan, processors);
      if (best.tile == 0 || time < least) {
        least = time;
        best = plan;
      }
    }
  }
  return best;
}

// The widest of 16, 4 and 2 bytes that divides the address and the steps between lines.
uint8_t access_of(const void* p, int64_t stride, int64_t batch_stride, size_t bytes) {
  const uint64_t all = reinterpret_cast<uintptr_t>(p) | stride * bytes | batch_stride * bytes;
  return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 2;
}

GemmProblem make_problem(const GemmArgs& args, const Plan& plan) {
  const size_t bytes = item_size(args.dtype);
  const bool one_batch = args.batch == 1;
  GemmProblem p{};
  p.a = args.a;
  p.b = args.b;
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.slice_k = plan.slice_k;
  p.slices = plan.slices;
  p.a_k_contiguous = args.a_col == 1;
  p.b_k_contiguous = args.b_row == 1;
  p.a_ld = p.a_k_contiguous ? args.a_row : args.a_col;
  p.b_ld = p.b_k_contiguous ? args.b_col : args.b_row;
  p.a_batch = one_batch ? 0 : args.a_batch;
  p.b_batch = one_batch ? 0 : args.b_batch;
  p.tiles_m = static_cast<int32_t>(divide_up(args.m, plan.tile));
  p.tiles_n = static_cast<int32_t>(divide_up(args.n, plan.tile));
  p.a_access = access_of(args.a, p.a_ld, p.a_batch, bytes);
  p.b_access = access_of(args.b, p.b_ld, p.b_batch, bytes);
  p.out = make_output(args);
  return p;
}

void launch_sum(Stream& stream, const GemmArgs& args, const GemmProblem& p) {
  const int64_t blocks = divide_up(divide_up(p.n, 4) * p.m * args.batch, kSumThreads);
  auto kernel = args.dtype == DType::bfloat16  ? sum_slices_kernel<BFloat16>
                : args.dtype == DType::float16 ? sum_slices_kernel<Float16>
                                               : sum_slices_kernel<float>;
  launch(stream, "gemm_sum_slices", kernel, dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads),
         0, p.out, p.m, p.n, args.batch, p.slices);
}

// One launch's worth of a product by our own kernels.
void gemm_own(Stream& stream, const GemmArgs& args) {
  if (args.dtype == DType::float64 || !is_float(args.dtype)) {
    return launch_gemm_plain(stream, args);
  }
  const bool simt = args.dtype == DType::float32 && args.precision == Precision::highest;
  const int processors = multiprocessors(stream);
  const Plan plan =
      simt ? choose_plan(kSimtTiles, args, processors) : choose_plan(kMmaTiles, args, processors);
  GemmProblem p = make_problem(args, plan);
  if (plan.slices > 1) {
    p.out.partial_ld = divide_up(args.n, 8) * 8;
    const int64_t rows = args.batch * plan.slices * args.m;
    const int64_t sums = args.a_sums ? rows : 0;
    p.out.partial = static_cast<float*>(
        acquire_scratch(stream, sizeof(float) * (rows * p.out.partial_ld + sums)));
    p.out.partial_a_sums = p.out.partial + rows * p.out.partial_ld;
  }
  const int64_t blocks = int64_t{p.tiles_m} * p.tiles_n * plan.slices * args.batch;
  if (simt) {
    launch_gemm_simt(stream, plan.tile, p, blocks);
  } else {
    const MmaMode mode = args.dtype == DType::bfloat16       ? MmaMode::bfloat16
                         : args.dtype == DType::float16      ? MmaMode::float16
                         : args.precision == Precision::high ? MmaMode::tf32
                                                             : MmaMode::float32_as_bfloat16;
    launch_gemm_mma(stream, mode, plan.tile, p, blocks);
  }
  if (plan.slices > 1) {
    launch_sum(stream, args, p);
    release_scratch(stream, p.out.partial);
  }
}

// cuBLASLt's kernels for large products beat mma.sync on some chips; small ones are decided
// by launches, and there ours fuse and split as well.
bool is_large(const GemmArgs& args) {
  constexpr double kLargeMultiplyAdds = 1 << 27;
  return args.m >= 128 && args.n >= 128 && args.k >= 128 &&
         static_cast<double>(args.m) * args.n * args.k * args.batch >= kLargeMultiplyAdds;
}

// What its epilogues do, too. Its GELU is slow on some chips and differs in digits.
bool is_plain(const GemmArgs& args) {
  const bool usual = args.activation == Activation::none || args.activation == Activation::relu;
  return usual && !args.residual && !args.before;
}

bool gemm_by_cublaslt(Stream& stream, const GemmArgs& args) {
  if (args.library == MatmulBackend::own || args.k == 0 || !is_plain(args)) return false;
  const bool demanded = args.library == MatmulBackend::cublas;
  if (!demanded && !is_large(args)) return false;
  if (const char* reason = cublaslt_missing()) {
    if (demanded) fail("matmul: the backend 'cublas' needs cuBLASLt, but %s", reason);
    return false;
  }
  if (cublaslt_gemm(stream, args)) return true;
  if (demanded) {
    fail(
        "matmul: cuBLASLt has no algorithm for this product, got [%lld,%lld] and [%lld,%lld] of %s",
        static_cast<long long>(args.m), static_cast<long long>(args.k),
        static_cast<long long>(args.k), static_cast<long long>(args.n), dtype_name(args.dtype));
  }
  return false;
}

// Whether the kernels add up A's rows as they go by: in weights' gradients, where both operands run
// along M and N. TF32 on sm_90 would round what it adds, and float64's kernel is a plain one.
bool sums_rows(Stream& stream, const GemmArgs& args) {
  if (args.a_row != 1 || args.b_col != 1 || args.a_col == 1 || args.b_row == 1) return false;
  if (args.dtype == DType::float32) {
    return args.precision == Precision::highest || compute_capability(stream) != 90;
  }
  return args.dtype != DType::float64;
}

void sum_rows(Stream& stream, const GemmArgs& args) {
  void* scratch = nullptr;
  if (args.accumulate) scratch = acquire_scratch(stream, item_size(args.dtype) * args.m);
  sum_rows_apart(stream, args, scratch, reduce_family, binary_family);
  if (scratch) release_scratch(stream, scratch);
}

void gemm(Stream& stream, const GemmArgs& given) {
  GemmArgs args = given;
  if ((args.a_row != 1 && args.a_col != 1) || (args.b_row != 1 && args.b_col != 1)) {
    fail("matmul: each operand needs one unit stride, got [%lld,%lld] and [%lld,%lld]",
         static_cast<long long>(args.a_row), static_cast<long long>(args.a_col),
         static_cast<long long>(args.b_row), static_cast<long long>(args.b_col));
  }
  if (args.a_sums && (args.n == 0 || !sums_rows(stream, args))) {
    sum_rows(stream, args);
    args.a_sums = nullptr;
  }
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  // Where both serve, `best` is ours.
  if (is_float(args.dtype)) {
    if (args.library != MatmulBackend::cublas && launch_gemm_wgmma(stream, args)) return;
    if (gemm_by_cublaslt(stream, args)) {
      if (args.a_sums) sum_rows(stream, args);
      return;
    }
  }

  // The smallest tile's blocks bound what one launch takes; 8 stands for slices of K.
  const int64_t per_batch = divide_up(args.m, 16) * divide_up(args.n, 16) * 8;
  const int64_t most = std::max<int64_t>(1, kMostBlocks / per_batch);
  const size_t bytes = item_size(args.dtype);
  for (int64_t first = 0; first < args.batch; first += most) {
    GemmArgs part = args;
    part.batch = std::min(most, args.batch - first);
    part.a = static_cast<const char*>(args.a) + first * args.a_batch * bytes;
    part.b = static_cast<const char*>(args.b) + first * args.b_batch * bytes;
    const int64_t offset = first * args.c_batch * bytes;
    part.c = static_cast<char*>(args.c) + offset;
    if (args.residual) part.residual = static_cast<const char*>(args.residual) + offset;
    if (args.before) part.before = static_cast<char*>(args.before) + offset;
    gemm_own(stream, part);
  }
}

}  // namespace

GemmOutput make_output(const GemmArgs& args) {
  const size_t bytes = item_size(args.dtype);
  GemmOutput out{};
  out.c = args.c;
  out.bias = args.accumulate ? nullptr : args.bias;
  out.ld = args.c_row;
  out.batch_stride = args.batch == 1 ? 0 : args.c_batch;
  out.residual = args.residual;
  out.before = args.before;
  out.a_sums = args.a_sums;
  out.scale = static_cast<float>(args.scale);
  out.vector = true;
  const void* const like_c[] = {args.c, args.before, args.residual};
  for (const void* tensor : like_c) {
    out.vector &= access_of(tensor, args.c_row, out.batch_stride, bytes) == 16;
  }
  out.vector &= access_of(out.bias, 0, 0, bytes) == 16;
  out.activation = args.accumulate ? Activation::none : args.activation;
  out.accumulate = args.accumulate;
  return out;
}

extern const GemmFamily gemm_family = {.gemm = gemm};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
