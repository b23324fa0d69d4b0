// Reductions: the contract of reduce.cc and reduce.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

enum class ReduceOp : uint8_t { sum, mean, max, min, prod };
enum class ArgReduceOp : uint8_t { argmax, argmin };

struct ReduceFamily {
  // out has x's rank, with size 1 where reduced. Floats accumulate in float32 or wider, integers
  // in int64. sum and prod of integers and bools give int64; mean is floating only. max and min
  // propagate NaN. An empty reduction gives the identity (ops refuse it for max and min).
  void (*reduce)(Stream&, ReduceOp, const View& x, const View& out);
  // out: int64, size 1 at `axis`; the first of equal values; NaN wins.
  void (*arg_reduce)(Stream&, ArgReduceOp, const View& x, int axis, const View& out);
};

}  // namespace nodegrad
