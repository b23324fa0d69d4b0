// Tensor-core products (sm_80 and later): bfloat16 and float16, and float32 through TF32 or
// bfloat16. Accumulation is float32.
#pragma once

#include "gemm_tile.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

enum class MmaMode : uint8_t { bfloat16, float16, tf32, float32_as_bfloat16 };

// Enqueues the tiles of `problem`; `tile` is 128 or 64, the side of the square tile.
void launch_gemm_mma(Stream& stream, MmaMode mode, int tile, const GemmProblem& problem,
                     int64_t blocks);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
