// Gradients of looked-up rows: dweight[index[i], :] = Σ dy[i, :], or added to what is there.
// Positions are sorted by row: counted per row, the counts summed up by one block, positions put in
// their row's stretch (in any order: integer atomics), and each then finds its rank there by
// counting the smaller ones. A group of 32 lanes walks the stretch of a row that has any, in the
// order of i: deterministic, no float atomics. float32 inside for 16-bit types, rounded once.
// Cost: dy read once and touched rows read and written; V + 3·I words of 4 bytes beside them (and
// Σ L² of them from cache for stretches of L). Written afresh, dweight is zeroed first.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kLanes = 32;
constexpr int kAhead = 4;  // rows of dy that a lane loads at once

struct Lookup {
  const int64_t* index;
  int64_t rows, padding;
  uint32_t count;
};

// The row of position i, or -1 where it counts nothing.
__device__ __forceinline__ int64_t row_of(const Lookup& lookup, uint32_t i) {
  const int64_t row = lookup.index[i];
  return row >= 0 && row < lookup.rows && row != lookup.padding ? row : -1;
}

__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
}

template <class T>
__global__ void __launch_bounds__(kBlock) zero_kernel(T* out, int64_t n) {
  const int64_t i = global_thread();
  if (i < n) out[i] = T{};
}

__global__ void __launch_bounds__(kBlock) count_kernel(const Lookup lookup, uint32_t* counts) {
  const int64_t i = global_thread();
  if (i >= lookup.count) return;
  const int64_t row = row_of(lookup, static_cast<uint32_t>(i));
  if (row >= 0) atomicAdd(&counts[row], 1u);
}

struct ScanSlots {
  uint32_t slot[kBlock];
};

// starts[r] = ends[r] = the counts of the rows before r; starts[rows] their total. One block.
__global__ void __launch_bounds__(kBlock)
    scan_kernel(const uint32_t* counts, int64_t rows, uint32_t* starts, uint32_t* ends) {
  ScanSlots& shared = shared_memory<ScanSlots>();
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t before = 0;
  for (int64_t base = 0; base < rows; base += kBlock) {
    const int64_t r = base + thread;
    const uint32_t own = r < rows ? counts[r] : 0;
    shared.slot[thread] = own;
    __syncthreads();
    uint32_t upto = own;
    for (int step = 1; step < kBlock; step *= 2) {
      const uint32_t other = thread >= step ? shared.slot[thread - step] : 0;
      __syncthreads();
      upto += other;
      shared.slot[thread] = upto;
      __syncthreads();
    }
    if (r < rows) starts[r] = ends[r] = before + upto - own;
    before += shared.slot[kBlock - 1];
    __syncthreads();
  }
  if (thread == 0) starts[rows] = before;
}

__global__ void __launch_bounds__(kBlock)
    scatter_kernel(const Lookup lookup, uint32_t* ends, uint32_t* unordered) {
  const int64_t i = global_thread();
  if (i >= lookup.count) return;
  const int64_t row = row_of(lookup, static_cast<uint32_t>(i));
  if (row >= 0) unordered[atomicAdd(&ends[row], 1u)] = static_cast<uint32_t>(i);
}

__global__ void __launch_bounds__(kBlock)
    order_kernel(const Lookup lookup, const uint32_t* starts, const uint32_t* unordered,
                 uint32_t* ordered) {
  const int64_t slot = global_thread();
  if (slot >= starts[lookup.rows]) return;
  const uint32_t i = unordered[slot];
  const int64_t row = row_of(lookup, i);
  const uint32_t start = starts[row], end = starts[row + 1];
  uint32_t rank = 0;
#pragma unroll 4
  for (uint32_t k = start; k < end; ++k) rank += unordered[k] < i;
  ordered[start + rank] = i;
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    sum_kernel(const Lookup lookup, const uint32_t* starts, const uint32_t* ordered, const T* dy,
               int64_t columns, T* out) {
  using A = Arith<T>;
  const int64_t slot = global_thread() / kLanes;
  if (slot >= starts[lookup.rows]) return;
  const int64_t row = row_of(lookup, ordered[slot]);
  const uint32_t start = starts[row], end = starts[row + 1];
  if (slot != start) return;
  for (int64_t c = static_cast<int>(threadIdx.x) % kLanes; c < columns; c += kLanes) {
    A sum = to_arith(out[row * columns + c]);
    uint32_t k = start;
    for (; k + kAhead <= end; k += kAhead) {
      A value[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        value[j] = to_arith(dy[static_cast<int64_t>(ordered[k + j]) * columns + c]);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) sum += value[j];
    }
    for (; k < end; ++k) sum += to_arith(dy[static_cast<int64_t>(ordered[k]) * columns + c]);
    out[row * columns + c] = from_arith<T>(sum);
  }
}

dim3 grid_of(int64_t threads) {
  const int64_t blocks = (threads + kBlock - 1) / kBlock;
  if (blocks > INT32_MAX) fail("embedding: the tensors are too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

void backward(Stream& stream, const View& dy, const View& index, int64_t padding, bool accumulate,
              const View& dweight) {
  const int64_t rows = dweight.shape[0], columns = dweight.shape[1], count = index.shape[0];
  const char* const name = "embedding";
  if (rows == 0 || columns == 0) return;
  if (count >= UINT32_MAX) {
    fail("embedding: takes fewer than 2^32 indices, got %lld", static_cast<long long>(count));
  }
  with_float_type(dweight.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* const out = static_cast<T*>(dweight.data);
    if (!accumulate) {
      launch(stream, name, zero_kernel<T>, grid_of(rows * columns), dim3(kBlock), 0, out,
             rows * columns);
    }
    if (count == 0) return;
    const Lookup lookup{static_cast<const int64_t*>(index.data), rows, padding,
                        static_cast<uint32_t>(count)};
    uint32_t* const counts = static_cast<uint32_t*>(
        acquire_scratch(stream, static_cast<size_t>(3 * rows + 1 + 2 * count) * sizeof(uint32_t)));
    uint32_t* const starts = counts + rows;
    uint32_t* const ends = starts + rows + 1;
    uint32_t* const unordered = ends + rows;
    uint32_t* const ordered = unordered + count;
    launch(stream, name, zero_kernel<uint32_t>, grid_of(rows), dim3(kBlock), 0, counts, rows);
    launch(stream, name, count_kernel, grid_of(count), dim3(kBlock), 0, lookup, counts);
    launch(stream, name, scan_kernel, dim3(1), dim3(kBlock), sizeof(ScanSlots), counts, rows,
           starts, ends);
    launch(stream, name, scatter_kernel, grid_of(count), dim3(kBlock), 0, lookup, ends, unordered);
    launch(stream, name, order_kernel, grid_of(count), dim3(kBlock), 0, lookup, starts, unordered,
           ordered);
    launch(stream, name, sum_kernel<T>, grid_of(count * kLanes), dim3(kBlock), 0, lookup, starts,
           ordered, static_cast<const T*>(dy.data), columns, out);
    release_scratch(stream, counts);
  });
}

}  // namespace

const EmbeddingFamily embedding_family = {backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
