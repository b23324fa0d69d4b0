// Rows by index: select out[i,:] = x[index[i],:] and add out[index[i],:] += src[i,:].
// Select moves bits: units of 16 bytes where rows allow, else elements; rows outside [0,R) become
// NaN, or zeros for integers.
// Add sums in the order of i, one thread per destination element and no atomics: a block owns some
// destination rows and columns, scans the index list for its rows (a block-wide prefix sum keeps
// the order), stages the rows it found through shared memory, all threads loading, and adds them
// in registers: float32 inside for 16-bit types, one rounding at the end.
// Cost: select 2·I·W·size bytes; add I·W·size read, touched rows read and written, and 8·I bytes
// of indices for each of at most some 2,000 blocks, from L2.
#include <cstring>

#include "core/error.h"
#include "core/missing.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"
#include "prefix_sum.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kWarps = kBlock / 32;

template <class U>
__global__ void __launch_bounds__(kBlock)
    select_kernel(const U* x, int64_t x_stride, int64_t rows, const int64_t* index,
                  int64_t index_stride, U* out, const U outside, const Divider width,
                  const bool narrow, int64_t n) {
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (unit >= n) return;
  const uint64_t i = divide(static_cast<uint64_t>(unit), width, narrow);
  const int64_t column = unit - static_cast<int64_t>(i * width.divisor);
  const int64_t row = index[static_cast<int64_t>(i) * index_stride];
  out[unit] = row >= 0 && row < rows ? x[row * x_stride + column] : outside;
}

constexpr int kScan = 2;  // indices per thread and step
constexpr int kListCapacity = 2 * kBlock * kScan;
constexpr int kMaxRows = 32;  // per block: one bit each in a thread's mask
constexpr int kSumBytes = 32768, kTileBytes = 8192;

template <class A>
struct AddShared {
  A sum[kSumBytes / sizeof(A)];    // [row][column], each touched by one thread only
  A tile[kTileBytes / sizeof(A)];  // [entry][column]
  uint32_t source[kListCapacity];  // found: i, and its row in the block
  uint8_t row[kListCapacity];
  int32_t found[kWarps];
};

struct AddShape {
  int64_t rows, width;
  int64_t src_row;
  Dims<1> src_columns;
  uint32_t indices;
  int64_t index_stride;
  int32_t block_rows, block_columns, column_blocks;
};

// Appends to the list the indices of this step that fall on the block's rows, in order; returns
// the list's new length, the same in all threads.
template <class A>
__device__ __forceinline__ int scan_indices(AddShared<A>& shared, const AddShape& shape,
                                            const int64_t* index, int64_t row0, int64_t start,
                                            int length) {
  const int thread = static_cast<int>(threadIdx.x);
  int64_t local[kScan];
  int mine = 0;
#pragma unroll
  for (int j = 0; j < kScan; ++j) {
    const int64_t i = start + thread * kScan + j;
    const int64_t row = i < shape.indices ? index[i * shape.index_stride] : -1;
    const bool hit = row >= row0 && row < row0 + shape.block_rows && row < shape.rows;
    local[j] = hit ? row - row0 : -1;
    mine += hit;
  }
  int all;
  int at = length + sum_before(shared.found, mine, all);
  length += all;
#pragma unroll
  for (int j = 0; j < kScan; ++j) {
    if (local[j] < 0) continue;
    shared.source[at] = static_cast<uint32_t>(start + thread * kScan + j);
    shared.row[at] = static_cast<uint8_t>(local[j]);
    ++at;
  }
  __syncthreads();
  return length;
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    add_kernel(const __grid_constant__ AddShape shape, const T* src, const int64_t* index, T* out) {
  using A = Arith<T>;
  constexpr int kLoads = kTileBytes / static_cast<int>(sizeof(A)) / kBlock;
  AddShared<A>& shared = shared_memory<AddShared<A>>();
  const int columns = shape.block_columns;
  const int64_t row0 = static_cast<int64_t>(blockIdx.x / shape.column_blocks) * shape.block_rows;
  const int thread = static_cast<int>(threadIdx.x);
  const int slot = thread % columns, entry = thread / columns, entries = kBlock / columns;
  const int64_t column = static_cast<int64_t>(blockIdx.x % shape.column_blocks) * columns + slot;
  const bool inside = column < shape.width;
  const T* const from = src + (inside ? offsets_of(shape.src_columns, column).at[0] : 0);
  T* const to = out + row0 * shape.width + column;
  const bool adds = thread < columns && inside;

  uint32_t touched = 0;
  int current = -1, length = 0;
  A sum = A(0);
  for (int64_t start = 0; start < shape.indices; start += kBlock * kScan) {
    length = scan_indices(shared, shape, index, row0, start, length);
    const bool last = start + kBlock * kScan >= shape.indices;
    if (!last && length + kBlock * kScan <= kListCapacity) continue;
    for (int base = 0; base < length; base += entries * kLoads) {
      A value[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int e = base + j * entries + entry;
        value[j] = A(0);
        if (inside && e < length) {
          value[j] = to_arith(from[static_cast<int64_t>(shared.source[e]) * shape.src_row]);
        }
      }
#pragma unroll
      for (int j = 0; j < kLoads; ++j) shared.tile[j * kBlock + thread] = value[j];
      __syncthreads();
      const int count = length - base < entries * kLoads ? length - base : entries * kLoads;
      for (int e = 0; adds && e < count; ++e) {
        const int row = shared.row[base + e];
        if (row != current) {
          if (current >= 0) shared.sum[current * columns + slot] = sum;
          sum = touched >> row & 1 ? shared.sum[row * columns + slot]
                                   : to_arith(to[row * shape.width]);
          touched |= 1u << row;
          current = row;
        }
        sum += shared.tile[e * columns + slot];
      }
      __syncthreads();
    }
    length = 0;
  }
  if (current >= 0) shared.sum[current * columns + slot] = sum;
  for (int row = 0; row < shape.block_rows; ++row) {
    if (touched >> row & 1) {
      to[row * shape.width] = from_arith<T>(shared.sum[row * columns + slot]);
    }
  }
}

dim3 grid_of(const char* name, int64_t blocks) {
  if (blocks > INT32_MAX) fail("%s: the tensors are too large for one launch", name);
  return dim3(static_cast<unsigned>(blocks));
}

template <class U>
void launch_select(Stream& stream, const View& x, const View& index, const View& out,
                   const unsigned char* outside_bytes) {
  const int64_t units = element_count(out) * static_cast<int64_t>(item_size(out.dtype)) /
                        static_cast<int64_t>(sizeof(U));
  const int64_t width = units / index.shape[0];
  const int64_t stride =
      x.strides[0] * static_cast<int64_t>(item_size(x.dtype)) / static_cast<int64_t>(sizeof(U));
  U outside;
  std::memcpy(&outside, outside_bytes, sizeof outside);
  launch(stream, "indexSelect", select_kernel<U>, grid_of("indexSelect", divide_up(units, kBlock)),
         dim3(kBlock), 0, static_cast<const U*>(x.data), stride, x.shape[0],
         static_cast<const int64_t*>(index.data), index.strides[0], static_cast<U*>(out.data),
         outside, make_divider(width), units < (int64_t{1} << 31), units);
}

void select(Stream& stream, const View& x, const View& index, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  const size_t item = item_size(x.dtype);
  const uint64_t missing = missing_bits(x.dtype);
  unsigned char outside[16];
  for (size_t at = 0; at < sizeof outside; at += item) std::memcpy(outside + at, &missing, item);
  const size_t row_bytes = static_cast<size_t>(n / index.shape[0]) * item;
  const size_t stride_bytes = static_cast<size_t>(x.strides[0]) * item;
  if (row_bytes % 16 == 0 && stride_bytes % 16 == 0 && is_aligned(x.data, 16) &&
      is_aligned(out.data, 16)) {
    launch_select<Vector<uint64_t, 2>>(stream, x, index, out, outside);
    return;
  }
  with_size_of(x.dtype,
               [&](auto zero) { launch_select<decltype(zero)>(stream, x, index, out, outside); });
}

// Blocks of more columns read rows in longer runs; fewer give more blocks where rows are few.
template <class T>
void launch_add(Stream& stream, const View& src, const View& index, const View& out) {
  using A = Arith<T>;
  constexpr int64_t kBlocksWanted = 2048;
  AddShape shape{};
  shape.rows = out.shape[0];
  shape.width = element_count(out) / shape.rows;
  shape.src_row = src.strides[0];
  shape.src_columns = make_dims<1>(src.rank - 1, src.shape + 1, {src.strides + 1});
  shape.indices = static_cast<uint32_t>(index.shape[0]);
  shape.index_stride = index.strides[0];
  int columns = 1;
  while (columns < kBlock && columns < shape.width) columns *= 2;
  while (columns > 32 && shape.rows * divide_up(shape.width, columns) < kBlocksWanted / 2) {
    columns /= 2;
  }
  shape.block_columns = columns;
  shape.column_blocks = static_cast<int32_t>(divide_up(shape.width, columns));
  const int64_t fits = kSumBytes / static_cast<int64_t>(sizeof(A)) / columns;
  const int64_t most = fits < kMaxRows ? fits : kMaxRows;
  const int64_t wanted = divide_up(shape.rows * shape.column_blocks, kBlocksWanted);
  shape.block_rows = static_cast<int32_t>(wanted < most ? wanted : most);
  const int64_t blocks = divide_up(shape.rows, shape.block_rows) * shape.column_blocks;
  launch(stream, "indexAdd", add_kernel<T>, grid_of("indexAdd", blocks), dim3(kBlock),
         sizeof(AddShared<A>), shape, static_cast<const T*>(src.data),
         static_cast<const int64_t*>(index.data), static_cast<T*>(out.data));
}

void add(Stream& stream, const View& src, const View& index, const View& out) {
  if (element_count(out) == 0 || index.shape[0] == 0) return;
  if (index.shape[0] > UINT32_MAX - kBlock * kScan) {
    fail("indexAdd: takes fewer than 2^32 indices, got %lld",
         static_cast<long long>(index.shape[0]));
  }
  with_type(out.dtype, [&](auto zero) { launch_add<decltype(zero)>(stream, src, index, out); });
}

}  // namespace

const IndexFamily index_family = {select, add};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
