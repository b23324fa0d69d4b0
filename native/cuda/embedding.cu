// Gradients of looked-up rows: dweight[index[i], :] = Σ dy[i, :], or added to what is there.
// Positions are sorted by row, stably (radix_sort.h). In the sorted list a row has a run, which is
// cut where chunks of the list end, of some √I positions: for each piece and each 256 columns (32
// where rows are not whole vectors) a warp sums its rows of dy in the order of i. A run of one
// piece goes straight to dweight; the sums of others wait in scratch, two of each chunk at most (of
// the run that reaches into it, of the one that goes on behind it), and are joined in order. So no
// walk is longer than √I, however few rows are hit, and no atomics are needed. float32 inside for
// 16-bit types, rounded once. Cost: dy read once and touched rows read and written, beside the
// sort; 8·√I rows of float32 at most where runs are cut. Written afresh, dweight is zeroed first.
#include "core/error.h"
#include "families.h"
#include "radix_sort.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kLanes = 32;
constexpr int kAhead = 4;              // rows of dy that a lane loads at once
constexpr int64_t kMostTiles = 65535;  // of a grid's second dimension
constexpr int64_t kShortestChunk = 64;

// Entry i: its row, or the number of rows where it counts nothing.
struct Lookup {
  const int64_t* index;
  int64_t padding;
  uint32_t rows;
  __device__ __forceinline__ Entry operator()(int64_t i) const {
    const int64_t row = index[i];
    const bool counts = row >= 0 && row < rows && row != padding;
    return {counts ? static_cast<uint32_t>(row) : rows, static_cast<uint32_t>(i)};
  }
};

// The sorted list.
struct Sorted {
  const Entry* entries;
  int64_t count, chunk;
  uint32_t rows;
  __device__ __forceinline__ bool has(int64_t at, uint32_t row) const {
    return at >= 0 && at < count && entries[at].key == row;
  }
};

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

// sum += rows `position` of dy of the first `found` lanes, in their order. Lanes load kAhead rows
// at once, the last one again where there are fewer.
template <class A, int V>
__device__ __forceinline__ void add_rows(const void* dy, DType dtype, uint32_t position, int found,
                                         int64_t columns, int64_t column, A (&sum)[V]) {
  for (int j = 0; j < found; j += kAhead) {
    int64_t at[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int lane = j + a < found ? j + a : found - 1;
      at[a] = static_cast<int64_t>(__shfl_sync(0xffffffffu, position, lane)) * columns + column;
    }
    if constexpr (V == 8) {
      Piece piece[kAhead][2];
      A value[V];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) load_eight(dy, at[a], dtype, piece[a]);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (j + a >= found) break;
        unpack(piece[a], dtype, value);
#pragma unroll
        for (int e = 0; e < V; ++e) sum[e] += value[e];
      }
    } else {
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const A value = load_as<A>(dy, at[a], dtype);
        if (j + a < found) sum[0] += value;
      }
    }
  }
}

template <class A, int V>
__device__ __forceinline__ void add_to_row(void* out, int64_t at, DType dtype, A (&sum)[V]) {
  A old[V];
  load_values<V>(out, at, dtype, old);
#pragma unroll
  for (int e = 0; e < V; ++e) sum[e] += old[e];
  store_values<V>(out, at, dtype, sum);
}

template <class A>
inline constexpr DType kSumType = same_type<A, double> ? DType::float64 : DType::float32;

// A warp for each position of the list where a piece may begin; V columns a lane.
template <class A, int V>
__global__ void __launch_bounds__(kBlock)
    sum_kernel(const Sorted sorted, const void* dy, const int64_t columns, void* out, A* cut,
               const DType dtype) {
  const int64_t slot = global_thread() / kLanes;
  if (slot >= sorted.count) return;
  const uint32_t row = sorted.entries[slot].key;
  const bool continued = sorted.has(slot - 1, row);
  if (row == sorted.rows || (continued && slot % sorted.chunk != 0)) return;
  const int64_t chunk = slot / sorted.chunk, end = (chunk + 1) * sorted.chunk;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kLanes + lane) * V;
  const bool inside = column < columns;
  A sum[V] = {};
  int64_t next = slot;
  int found = kLanes;
  while (found == kLanes && next < end) {
    const bool has = next + lane < end && sorted.has(next + lane, row);
    found = __popc(__ballot_sync(0xffffffffu, has));
    const uint32_t position = has ? sorted.entries[next + lane].position : 0;
    add_rows(dy, dtype, position, found, columns, inside ? column : 0, sum);
    next += found;
  }
  if (!inside) return;
  if (continued || (next == end && sorted.has(end, row))) {
    const int64_t at = (2 * chunk + (continued ? 0 : 1)) * columns + column;
    store_values<V>(cut, at, kSumType<A>, sum);
  } else {
    add_to_row(out, static_cast<int64_t>(row) * columns + column, dtype, sum);
  }
}

// A warp for each chunk, which joins the run that begins in it and goes on behind it.
template <class A, int V>
__global__ void __launch_bounds__(kBlock)
    join_kernel(const Sorted sorted, const A* cut, const int64_t columns, void* out,
                const DType dtype) {
  const int64_t chunk = global_thread() / kLanes, end = (chunk + 1) * sorted.chunk;
  if (end >= sorted.count) return;
  const uint32_t row = sorted.entries[end].key;
  if (row == sorted.rows || !sorted.has(end - 1, row)) return;
  if (sorted.has(chunk * sorted.chunk - 1, row)) return;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kLanes + lane) * V;
  const bool inside = column < columns;
  const A* const from = cut + (inside ? column : 0);
  A sum[V];
  load_values<V>(from, (2 * chunk + 1) * columns, kSumType<A>, sum);
  int64_t next = chunk + 1;
  int found = kLanes;
  while (found == kLanes) {
    const bool has = sorted.has((next + lane) * sorted.chunk, row);
    found = __popc(__ballot_sync(0xffffffffu, has));
#pragma unroll 4
    for (int j = 0; j < found; ++j) {
      A value[V];
      load_values<V>(from, 2 * (next + j) * columns, kSumType<A>, value);
#pragma unroll
      for (int e = 0; e < V; ++e) sum[e] += value[e];
    }
    next += found;
  }
  if (inside) add_to_row(out, static_cast<int64_t>(row) * columns + column, dtype, sum);
}

dim3 grid_of(int64_t threads) {
  const int64_t blocks = divide_up(threads, kBlock);
  if (blocks > INT32_MAX) fail("embedding: the tensors are too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

void zero(Stream& stream, void* out, int64_t bytes) {
  launch(stream, "embedding", zero_kernel, grid_of(divide_up(bytes, 16)), dim3(kBlock), 0,
         static_cast<uint8_t*>(out), is_aligned(out, 16), bytes);
}

template <class A, int V>
void sum_rows(Stream& stream, const Lookup& lookup, int64_t count, const View& dy,
              const View& dweight) {
  const char* const name = "embedding";
  const int64_t columns = dweight.shape[1], tiles = divide_up(columns, kLanes * V);
  if (tiles > kMostTiles) {
    fail("embedding: rows are too long, got %lld", static_cast<long long>(columns));
  }
  int64_t chunk = kShortestChunk;
  while (2 * chunk * chunk < count) chunk *= 2;
  const int64_t chunks = divide_up(count, chunk);
  const size_t sort_bytes = radix_bytes(count);
  const size_t cut_bytes =
      chunks > 1 ? static_cast<size_t>(2 * chunks * columns) * sizeof(A) : size_t{0};
  char* const scratch = static_cast<char*>(acquire_scratch(stream, sort_bytes + cut_bytes));
  A* const cut = reinterpret_cast<A*>(scratch + sort_bytes);
  const Entry* const entries = radix_sort(stream, name, lookup, count, lookup.rows, scratch);
  const Sorted sorted{entries, count, chunk, lookup.rows};
  const auto grid = [&](int64_t warps) {
    return dim3(grid_of(warps * kLanes).x, static_cast<unsigned>(tiles));
  };
  launch(stream, name, sum_kernel<A, V>, grid(count), dim3(kBlock), 0, sorted, dy.data, columns,
         dweight.data, cut, dweight.dtype);
  if (chunks > 1) {
    launch(stream, name, join_kernel<A, V>, grid(chunks), dim3(kBlock), 0, sorted, cut, columns,
           dweight.data, dweight.dtype);
  }
  release_scratch(stream, scratch);
}

void backward(Stream& stream, const View& dy, const View& index, int64_t padding, bool accumulate,
              const View& dweight) {
  const int64_t rows = dweight.shape[0], columns = dweight.shape[1], count = index.shape[0];
  if (rows == 0 || columns == 0) return;
  if (count >= UINT32_MAX || rows >= UINT32_MAX) {
    fail("embedding: takes fewer than 2^32 indices and rows, got %lld and %lld",
         static_cast<long long>(count), static_cast<long long>(rows));
  }
  const DType dtype = dweight.dtype;
  if (!accumulate) {
    zero(stream, dweight.data, rows * columns * static_cast<int64_t>(item_size(dtype)));
  }
  if (count == 0) return;
  const Lookup lookup{static_cast<const int64_t*>(index.data), padding,
                      static_cast<uint32_t>(rows)};
  if (dtype == DType::float64) return sum_rows<double, 1>(stream, lookup, count, dy, dweight);
  const bool eight = columns % 8 == 0 && is_aligned(dweight.data, 16) && is_aligned(dy.data, 16);
  if (eight) return sum_rows<float, 8>(stream, lookup, count, dy, dweight);
  sum_rows<float, 1>(stream, lookup, count, dy, dweight);
}

}  // namespace

const EmbeddingFamily embedding_family = {backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
