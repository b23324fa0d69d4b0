// Attention on tensor cores by mma.sync (sm_80 and later): bfloat16 and float16, and float32
// through TF32. Sums and softmax are float32.
#pragma once

#include "attention_problem.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int64_t kMostTf32Width = 128;  // wider heads would not fit shared memory

void launch_attention_mma_forward(Stream& stream, DType dtype, const Attention& a);
// dQ, dK and dV, given delta = Σ dO·O per query.
void launch_attention_mma_backward(Stream& stream, DType dtype, const Attention& a);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
