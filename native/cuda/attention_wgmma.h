// Attention on sm_90 by warpgroups and tensor copies: bfloat16 and float16, heads of up to 128.
#pragma once

#include "attention_problem.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Each enqueues its part and returns true, or false where it is not for these kernels: another
// chip or dtype, wider heads, no keys, addresses or strides that are no multiples of 16 bytes.
bool launch_attention_wgmma_forward(Stream& stream, DType dtype, const Attention& a);
// dQ, dK and dV, given delta = Σ dO·O per query.
bool launch_attention_wgmma_backward(Stream& stream, DType dtype, const Attention& a);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
