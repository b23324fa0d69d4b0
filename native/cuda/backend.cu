// The CUDA backend: the table of its families' tables (core/backend.h).
#include "families.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

const Backend backend = {
    .fill = &fill_family,
    .random = &random_family,
    .copy = &copy_family,
    .unary = &unary_family,
    .binary = &binary_family,
    .reduce = &reduce_family,
    .gemm = &gemm_family,
    .softmax = &softmax_family,
    .index = &index_family,
    .optim = &optim_family,
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
