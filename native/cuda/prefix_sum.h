// The sum of what a block's threads hold, up to each of them.
#pragma once

#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// The sum of `mine` of all threads before this one; `total` of all the block's. All threads call
// it; before `warps` serves again there must be a barrier.
template <int Warps, class T>
__device__ __forceinline__ T sum_before(T (&warps)[Warps], T mine, T& total) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  T upto = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_up_sync(0xffffffffu, upto, step);
    if (lane >= step) upto += other;
  }
  if (lane == 31) warps[warp] = upto;
  __syncthreads();
  T before = upto - mine;
  total = 0;
#pragma unroll
  for (int w = 0; w < Warps; ++w) {
    if (w < warp) before += warps[w];
    total += warps[w];
  }
  return before;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
