// Sorts rows of pairs by key, then by value, ascending: a bitonic network (Batcher, "Sorting
// networks and their applications", 1968). Rows hold 2^k pairs; the caller fills them up with the
// largest keys. All pairs of a row differ, so that the order is the same on every device.
// Stages within 1024 neighbours run in shared memory; wider ones take a pass over memory each.
// Cost for N pairs of 16 bytes a row, L = log2 N: about (L - 10)(L - 9)/2 + L passes.
#pragma once

#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct alignas(16) Pair {
  uint64_t key;
  int64_t value;
};

constexpr int kSortPairs = 1024;  // a block's, two for each thread
constexpr int kSortThreads = kSortPairs / 2;
constexpr Pair kLastPair = {~uint64_t{0}, INT64_MAX};

struct SortShared {
  Pair pair[kSortPairs];
};

__device__ __forceinline__ void order_pairs(Pair& a, Pair& b, bool ascending) {
  const bool above = a.key > b.key || (a.key == b.key && a.value > b.value);
  if (above != ascending) return;
  const Pair keep = a;
  a = b;
  b = keep;
}

// Stages `first` … `last` (lengths of sorted runs) as far as they stay within the block.
__global__ void __launch_bounds__(kSortThreads)
    sort_block_kernel(Pair* pairs, int64_t first, int64_t last, int64_t row, int64_t n) {
  SortShared& shared = shared_memory<SortShared>();
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kSortPairs;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = thread; i < kSortPairs; i += kSortThreads) {
    shared.pair[i] = base + i < n ? pairs[base + i] : kLastPair;
  }
  for (int64_t k = first; k <= last; k *= 2) {
    for (int j = static_cast<int>(k < kSortPairs ? k : kSortPairs) / 2; j > 0; j /= 2) {
      __syncthreads();
      const int i = thread / j * (2 * j) + thread % j;
      order_pairs(shared.pair[i], shared.pair[i + j], ((base + i) & (row - 1) & k) == 0);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = thread; i < kSortPairs; i += kSortThreads) {
    if (base + i < n) pairs[base + i] = shared.pair[i];
  }
}

__global__ void __launch_bounds__(kSortThreads)
    sort_step_kernel(Pair* pairs, int64_t k, int64_t j, int64_t row, int64_t steps) {
  const int64_t at =
      static_cast<int64_t>(blockIdx.x) * kSortThreads + static_cast<int>(threadIdx.x);
  if (at >= steps) return;
  const int64_t i = (at & ~(j - 1)) * 2 + (at & (j - 1));
  Pair a = pairs[i], b = pairs[i + j];
  order_pairs(a, b, (i & (row - 1) & k) == 0);
  pairs[i] = a;
  pairs[i + j] = b;
}

inline int64_t sorted_row(int64_t n) {
  int64_t row = 1;
  while (row < n) row *= 2;
  return row;
}

// `rows` rows of `row` pairs, a power of two.
inline void sort_pairs(Stream& stream, Pair* pairs, int64_t rows, int64_t row) {
  if (row < 2) return;
  const int64_t n = rows * row;
  const auto grid = [](int64_t count, int64_t per_block) {
    return dim3(static_cast<unsigned>((count + per_block - 1) / per_block));
  };
  const int64_t inner = row < kSortPairs ? row : kSortPairs;
  launch(stream, "sort", sort_block_kernel, grid(n, kSortPairs), dim3(kSortThreads),
         sizeof(SortShared), pairs, 2, inner, row, n);
  for (int64_t k = 2 * kSortPairs; k <= row; k *= 2) {
    for (int64_t j = k / 2; j >= kSortPairs; j /= 2) {
      launch(stream, "sort", sort_step_kernel, grid(n / 2, kSortThreads), dim3(kSortThreads), 0,
             pairs, k, j, row, n / 2);
    }
    launch(stream, "sort", sort_block_kernel, grid(n, kSortPairs), dim3(kSortThreads),
           sizeof(SortShared), pairs, k, k, row, n);
  }
}

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
