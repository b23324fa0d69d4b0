// Products on the ordinary arithmetic units: full float32, float64 and integers.
#pragma once

#include "gemm_tile.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Enqueues the tiles of a float32 problem; `tile` is 128, 64 or 32, the side of the square tile.
void launch_gemm_simt(Stream& stream, int tile, const GemmProblem& problem, int64_t blocks);

// A whole product of float64 or integers.
void launch_gemm_plain(Stream& stream, const GemmArgs& args);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
