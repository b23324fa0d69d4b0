// Gradients of looked-up rows: dweight[index[i], :] = Σ dy[i, :], or added to what is there.
// Positions are sorted by row: counted per row, the counts summed up by one block, positions put in
// their row's stretch (in any order: integer atomics), and each then finds its rank there by
// counting the smaller ones. For each 256 columns (32 where rows are not whole vectors) a warp
// walks the stretch of a row that has any, in the order of i: deterministic, no float atomics.
// float32 inside for 16-bit types, rounded once. Cost: dy read once and touched rows read and
// written; V + 3·I words of 4 bytes beside them (and Σ L² of them from cache for stretches of L).
// Written afresh, dweight is zeroed first.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kLanes = 32;
constexpr int kAhead = 4;              // rows of dy that a lane loads at once
constexpr int64_t kMostTiles = 65535;  // of a grid's second dimension
constexpr int kScanned = 16;           // counts of a thread, each round of the scan

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

// 16 bytes a thread, where `out` allows.
__global__ void __launch_bounds__(kBlock)
    zero_kernel(uint8_t* out, const bool vector, int64_t bytes) {
  const int64_t first = global_thread() * 16;
  if (vector && first + 16 <= bytes) {
    store_global(reinterpret_cast<uint32_t*>(out + first), Vector<uint32_t, 4>{});
    return;
  }
  for (int64_t i = first; i < first + 16 && i < bytes; ++i) out[i] = 0;
}

__global__ void __launch_bounds__(kBlock) count_kernel(const Lookup lookup, uint32_t* counts) {
  const int64_t i = global_thread();
  if (i >= lookup.count) return;
  const int64_t row = row_of(lookup, static_cast<uint32_t>(i));
  if (row >= 0) atomicAdd(&counts[row], 1u);
}

struct ScanSlots {
  uint32_t warps[kBlock / kLanes];
};

// starts[r] = ends[r] = the counts of the rows before r; starts[rows] their total. One block.
__global__ void __launch_bounds__(kBlock)
    scan_kernel(const uint32_t* counts, int64_t rows, uint32_t* starts, uint32_t* ends) {
  ScanSlots& shared = shared_memory<ScanSlots>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  uint32_t before = 0;
  for (int64_t base = 0; base < rows; base += kBlock * kScanned) {
    const int64_t first = base + thread * kScanned;
    uint32_t own[kScanned];
    uint32_t total = 0;
#pragma unroll
    for (int j = 0; j < kScanned; ++j) own[j] = first + j < rows ? counts[first + j] : 0;
#pragma unroll
    for (int j = 0; j < kScanned; ++j) total += own[j];
    uint32_t upto = total;
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      const uint32_t other = __shfl_up_sync(0xffffffffu, upto, step);
      if (lane >= step) upto += other;
    }
    if (lane == kLanes - 1) shared.warps[warp] = upto;
    __syncthreads();
    uint32_t next = before + upto - total;
#pragma unroll
    for (int w = 0; w < kBlock / kLanes; ++w) {
      const uint32_t of_warp = shared.warps[w];
      if (w < warp) next += of_warp;
      before += of_warp;
    }
#pragma unroll
    for (int j = 0; j < kScanned; ++j) {
      if (first + j < rows) starts[first + j] = ends[first + j] = next;
      next += own[j];
    }
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

// A row of dweight, at a lane's columns. `eight` neighbours a lane, or one.
template <class A>
__global__ void __launch_bounds__(kBlock)
    sum_kernel(const Lookup lookup, const uint32_t* starts, const uint32_t* ordered, const void* dy,
               int64_t columns, void* out, const DType dtype, [[maybe_unused]] const bool eight) {
  const int64_t slot = global_thread() / kLanes;
  if (slot >= starts[lookup.rows]) return;
  const int64_t row = row_of(lookup, ordered[slot]);
  const uint32_t start = starts[row], end = starts[row + 1];
  if (slot != start) return;
  const int64_t lane = static_cast<int64_t>(blockIdx.y) * kLanes + threadIdx.x % kLanes;
  if constexpr (same_type<A, float>) {
    if (eight) {
      const int64_t c = lane * 8;
      if (c >= columns) return;
      Piece piece[kAhead][2];
      float sum[8], value[8];
      load_eight(out, row * columns + c, dtype, piece[0]);
      unpack(piece[0], dtype, sum);
      for (uint32_t k = start; k < end; k += kAhead) {
#pragma unroll
        for (uint32_t j = 0; j < kAhead; ++j) {
          if (k + j < end) {
            load_eight(dy, static_cast<int64_t>(ordered[k + j]) * columns + c, dtype, piece[j]);
          }
        }
#pragma unroll
        for (uint32_t j = 0; j < kAhead; ++j) {
          if (k + j >= end) break;
          unpack(piece[j], dtype, value);
#pragma unroll
          for (int e = 0; e < 8; ++e) sum[e] += value[e];
        }
      }
      store_eight(out, row * columns + c, dtype, sum);
      return;
    }
  }
  if (lane >= columns) return;
  A sum = load_as<A>(out, row * columns + lane, dtype);
#pragma unroll 4
  for (uint32_t k = start; k < end; ++k) {
    sum += load_as<A>(dy, static_cast<int64_t>(ordered[k]) * columns + lane, dtype);
  }
  store_as(out, row * columns + lane, dtype, sum);
}

dim3 grid_of(int64_t threads) {
  const int64_t blocks = (threads + kBlock - 1) / kBlock;
  if (blocks > INT32_MAX) fail("embedding: the tensors are too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

void zero(Stream& stream, void* out, int64_t bytes) {
  launch(stream, "embedding", zero_kernel, grid_of((bytes + 15) / 16), dim3(kBlock), 0,
         static_cast<uint8_t*>(out), is_aligned(out, 16), bytes);
}

void backward(Stream& stream, const View& dy, const View& index, int64_t padding, bool accumulate,
              const View& dweight) {
  const int64_t rows = dweight.shape[0], columns = dweight.shape[1], count = index.shape[0];
  const char* const name = "embedding";
  if (rows == 0 || columns == 0) return;
  if (count >= UINT32_MAX) {
    fail("embedding: takes fewer than 2^32 indices, got %lld", static_cast<long long>(count));
  }
  const DType dtype = dweight.dtype;
  if (!accumulate) {
    zero(stream, dweight.data, rows * columns * static_cast<int64_t>(item_size(dtype)));
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
  zero(stream, counts, rows * static_cast<int64_t>(sizeof(uint32_t)));
  launch(stream, name, count_kernel, grid_of(count), dim3(kBlock), 0, lookup, counts);
  launch(stream, name, scan_kernel, dim3(1), dim3(kBlock), sizeof(ScanSlots), counts, rows, starts,
         ends);
  launch(stream, name, scatter_kernel, grid_of(count), dim3(kBlock), 0, lookup, ends, unordered);
  launch(stream, name, order_kernel, grid_of(count), dim3(kBlock), 0, lookup, starts, unordered,
         ordered);
  with_float_arith(dtype, [&](auto zero_of) {
    using A = decltype(zero_of);
    const bool eight = same_type<A, float> && columns % 8 == 0 && is_aligned(dweight.data, 16) &&
                       is_aligned(dy.data, 16);
    const int64_t per_warp = kLanes * (eight ? 8 : 1), tiles = (columns + per_warp - 1) / per_warp;
    if (tiles > kMostTiles) {
      fail("embedding: rows are too long, got %lld", static_cast<long long>(columns));
    }
    const dim3 grid(grid_of(count * kLanes).x, static_cast<unsigned>(tiles));
    launch(stream, name, sum_kernel<A>, grid, dim3(kBlock), 0, lookup, starts, ordered, dy.data,
           columns, dweight.data, dtype, eight);
  });
  release_scratch(stream, counts);
}

}  // namespace

const EmbeddingFamily embedding_family = {backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
