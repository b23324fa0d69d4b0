// Transposed copies of float32 operands, for products that need them contiguous along K:
// to[row][k] = from[k][row], in tiles of 32x32 through shared memory. Bound by 8 bytes per element.
#include "gemm_transpose.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kSide = 32, kLines = 8;

struct TransposeTile {
  float v[kSide][kSide + 1];
};

__global__ void __launch_bounds__(kSide* kLines)
    gemm_transpose_kernel(const TransposeProblem p, int64_t tiles_rows, int64_t tiles_k) {
  auto& tile = shared_memory<TransposeTile>().v;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const int64_t in_batch = blockIdx.x % (tiles_rows * tiles_k);
  const int64_t batch = blockIdx.x / (tiles_rows * tiles_k);
  const int64_t row = in_batch % tiles_rows * kSide, k = in_batch / tiles_rows * kSide;
  const float* from = p.from + batch * p.from_batch;
  float* to = p.to + batch * p.to_batch;
#pragma unroll
  for (int i = y; i < kSide; i += kLines) {
    if (k + i < p.k && row + x < p.rows) tile[i][x] = from[(k + i) * p.from_ld + row + x];
  }
  __syncthreads();
#pragma unroll
  for (int i = y; i < kSide; i += kLines) {
    if (row + i < p.rows && k + x < p.k) to[(row + i) * p.to_ld + k + x] = tile[x][i];
  }
}

}  // namespace

bool launch_gemm_transpose(Stream& stream, const TransposeProblem& p) {
  const int64_t tiles_rows = (p.rows + kSide - 1) / kSide, tiles_k = (p.k + kSide - 1) / kSide;
  const int64_t blocks = tiles_rows * tiles_k * p.batch;
  if (blocks >= int64_t{1} << 31) return false;
  launch(stream, "gemm_transpose", gemm_transpose_kernel, dim3(static_cast<unsigned>(blocks)),
         dim3(kSide * kLines), sizeof(TransposeTile), p, tiles_rows, tiles_k);
  return true;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
