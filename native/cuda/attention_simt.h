// Attention without tensor cores, in the arithmetic of the type: float32 and float64.
#pragma once

#include "attention_problem.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

void launch_attention_simt_forward(Stream& stream, DType dtype, const Attention& a);
void launch_attention_simt_backward(Stream& stream, DType dtype, const Attention& a);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
