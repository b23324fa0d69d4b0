// Products by NVIDIA's cuBLASLt, where it is installed: found at run time, never needed.
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Null where cuBLASLt can be used, else why it cannot. The first call looks for it.
const char* cublaslt_missing();

// Enqueues the product, all sizes above 0. False where cuBLASLt has no algorithm for it; nothing
// is enqueued then.
bool cublaslt_gemm(Stream& stream, const GemmArgs& args);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
