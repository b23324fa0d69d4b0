// The tables that the kernel files of this folder define, one per family of core/backend.h.
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

extern const FillFamily fill_family;
extern const RandomFamily random_family;
extern const CopyFamily copy_family;
extern const UnaryFamily unary_family;
extern const BinaryFamily binary_family;
extern const ReduceFamily reduce_family;
extern const GemmFamily gemm_family;
extern const SoftmaxFamily softmax_family;
extern const IndexFamily index_family;
extern const OptimFamily optim_family;

extern const Backend backend;

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
