// Transposed copies of float32 operands (gemm_transpose.cu).
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct TransposeProblem {
  const float* from;  // [batch, k, from_ld], the first `rows` of each line
  float* to;          // [batch, rows, to_ld]
  int64_t rows, k, batch;
  int64_t from_ld, from_batch, to_ld, to_batch;
};

// False where it is too large for one launch.
bool launch_gemm_transpose(Stream& stream, const TransposeProblem& p);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
