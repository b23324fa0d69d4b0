// Assembles the families of one instruction set; compiled once for each, like them.
#include "cpu/tables.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

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

const Backend backend = {
    &fill_family,   &random_family, &copy_family,    &unary_family, &binary_family,
    &reduce_family, &gemm_family,   &softmax_family, &index_family, &optim_family,
};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
