// The sums of A's rows apart from the product, for kernels that do not add them up on their way.
#pragma once

#include "core/elementwise.h"
#include "core/families/binary.h"
#include "core/families/gemm.h"
#include "core/families/reduce.h"

namespace nodegrad {

// `scratch`: room for M elements where they are added to what is there.
[[maybe_unused]] static void sum_rows_apart(Stream& stream, const GemmArgs& g, void* scratch,
                                            const ReduceFamily& reduce,
                                            const BinaryFamily& binary) {
  const View a{const_cast<void*>(g.a), {g.k, g.m}, {g.a_col, g.a_row}, 2, g.dtype};
  const View sums{g.a_sums, {1, g.m}, {g.m, 1}, 2, g.dtype};
  View found = sums;
  if (g.accumulate) found.data = scratch;
  reduce.reduce(stream, ReduceOp::sum, a, found);
  if (g.accumulate) binary.forward(stream, BinaryOp::add, sums, found, sums);
}

}  // namespace nodegrad
