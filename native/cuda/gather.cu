// Elements by index along one axis: out[c] = x[c'], and out[c'] = or += src[c], where c' is c but
// index[c] on the axis; and the coordinates of what is set.
// gather: a thread per element. scatter, deterministic and without atomics: where there are many
// lines (elements that differ on the axis alone) or short ones, a thread goes along each line in
// order; otherwise pairs of (destination, position) are sorted and a thread sums each run of one
// destination, in order of position.
// nonzero: counts of blocks, their running sum, then each block writes its own, in order.
// Cost: I elements and indices read, I elements written; the sort as sort_pairs.h says.
#include <cstring>

#include "core/error.h"
#include "core/families/gather.h"
#include "core/missing.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"
#include "prefix_sum.h"
#include "sort_pairs.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kShortLine = 64;
constexpr int64_t kManyLines = 16384;

dim3 grid_of(const char* name, int64_t threads) {
  const int64_t blocks = (threads + kBlock - 1) / kBlock;
  if (blocks > INT32_MAX) fail("%s: the tensors are too large for one launch", name);
  return dim3(static_cast<unsigned>(blocks));
}

template <class U>
__global__ void __launch_bounds__(kBlock)
    gather_kernel(const __grid_constant__ Dims<2> dims, const U* x, const int64_t* index, U* out,
                  int64_t axis_size, int64_t axis_stride, const U missing, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const Offsets<2> at = offsets_of(dims, i);
  const int64_t place = index[at.at[0]];
  const bool inside = place >= 0 && place < axis_size;
  out[i] = inside ? x[at.at[1] + place * axis_stride] : missing;
}

void gather(Stream& stream, const View& x, const View& index, int axis, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  View moved = x;
  moved.strides[axis] = 0;
  const Dims<2> dims = make_dims<2>(out.rank, out.shape, {index.strides, moved.strides});
  with_size_of(x.dtype, [&](auto zero) {
    using U = decltype(zero);
    launch(stream, "gather", gather_kernel<U>, grid_of("gather", n), dim3(kBlock), 0, dims,
           static_cast<const U*>(x.data), static_cast<const int64_t*>(index.data),
           static_cast<U*>(out.data), x.shape[axis], x.strides[axis],
           static_cast<U>(missing_bits(x.dtype)), n);
  });
}

// Along the axis.
struct Line {
  int64_t length, out_size;
  int64_t index_stride, src_stride, out_stride;
};

template <class T, bool add>
__device__ __forceinline__ void put(T& to, T from) {
  if constexpr (add) {
    to = from_arith<T>(to_arith(to) + to_arith(from));
  } else {
    to = from;
  }
}

template <class T, bool add>
__global__ void __launch_bounds__(kBlock)
    scatter_lines_kernel(const __grid_constant__ Dims<3> lines, const Line line, const T* src,
                         const int64_t* index, T* out, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const Offsets<3> at = offsets_of(lines, i);
  for (int64_t k = 0; k < line.length; ++k) {
    const int64_t place = index[at.at[0] + k * line.index_stride];
    if (place < 0 || place >= line.out_size) continue;
    put<T, add>(out[at.at[2] + place * line.out_stride], src[at.at[1] + k * line.src_stride]);
  }
}

// (destination, position): positions count along the axis within each line, line by line.
__global__ void __launch_bounds__(kBlock)
    scatter_pairs_kernel(const __grid_constant__ Dims<3> lines, const Line line,
                         const Divider length, const int64_t* index, Pair* pairs, int64_t n,
                         int64_t all) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= all) return;
  Pair pair = kLastPair;
  if (i < n) {
    const uint64_t which = divide(static_cast<uint64_t>(i), length, lines.narrow);
    const int64_t k = i - static_cast<int64_t>(which * length.divisor);
    const Offsets<3> at = offsets_of(lines, static_cast<int64_t>(which));
    const int64_t place = index[at.at[0] + k * line.index_stride];
    pair.value = i;
    if (place >= 0 && place < line.out_size) {
      pair.key = static_cast<uint64_t>(at.at[2] + place * line.out_stride);
    }
  }
  pairs[i] = pair;
}

template <class T, bool add>
__global__ void __launch_bounds__(kBlock)
    scatter_runs_kernel(const __grid_constant__ Dims<3> lines, const Line line,
                        const Divider length, const Pair* pairs, const T* src, T* out, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const uint64_t key = pairs[i].key;
  if (key == kLastPair.key || (i > 0 && pairs[i - 1].key == key)) return;
  T& to = out[key];
  Arith<T> sum = to_arith(to);
  for (int64_t p = i; p < n && pairs[p].key == key; ++p) {
    const bool last = p + 1 == n || pairs[p + 1].key != key;
    if (!add && !last) continue;
    const int64_t position = pairs[p].value;
    const uint64_t which = divide(static_cast<uint64_t>(position), length, lines.narrow);
    const int64_t k = position - static_cast<int64_t>(which * length.divisor);
    const T from = src[offsets_of(lines, static_cast<int64_t>(which)).at[1] + k * line.src_stride];
    if constexpr (add) {
      sum += to_arith(from);
    } else {
      to = from;
    }
  }
  if constexpr (add) to = from_arith<T>(sum);
}

template <class T, bool add>
void launch_scatter(Stream& stream, const char* name, const View& src, const View& index, int axis,
                    const View& out) {
  const Line line = {index.shape[axis], out.shape[axis], index.strides[axis], src.strides[axis],
                     out.strides[axis]};
  int64_t shape[kMaxRank] = {}, strides[3][kMaxRank] = {};
  int rank = 0;
  for (int d = 0; d < index.rank; ++d) {
    if (d == axis) continue;
    shape[rank] = index.shape[d];
    strides[0][rank] = index.strides[d];
    strides[1][rank] = src.strides[d];
    strides[2][rank] = out.strides[d];
    ++rank;
  }
  Dims<3> lines = make_dims<3>(rank, shape, {strides[0], strides[1], strides[2]});
  const int64_t n = element_count(index), count = n / line.length;
  const T* const from = static_cast<const T*>(src.data);
  const int64_t* const places = static_cast<const int64_t*>(index.data);
  T* const to = static_cast<T*>(out.data);
  if (line.length <= kShortLine || count >= kManyLines) {
    launch(stream, name, scatter_lines_kernel<T, add>, grid_of(name, count), dim3(kBlock), 0, lines,
           line, from, places, to, count);
    return;
  }
  lines.narrow = n < (int64_t{1} << 31);
  const Divider length = make_divider(line.length);
  const int64_t row = sorted_row(n);
  void* const scratch = acquire_scratch(stream, static_cast<size_t>(row) * sizeof(Pair));
  Pair* const pairs = static_cast<Pair*>(scratch);
  launch(stream, name, scatter_pairs_kernel, grid_of(name, row), dim3(kBlock), 0, lines, line,
         length, places, pairs, n, row);
  sort_pairs(stream, pairs, 1, row);
  launch(stream, name, scatter_runs_kernel<T, add>, grid_of(name, n), dim3(kBlock), 0, lines, line,
         length, pairs, from, to, n);
  release_scratch(stream, scratch);
}

void scatter(Stream& stream, const View& src, const View& index, int axis, bool add,
             const View& out) {
  if (element_count(index) == 0) return;
  if (!add) {
    with_size_of(out.dtype, [&](auto zero) {
      launch_scatter<decltype(zero), false>(stream, "scatter", src, index, axis, out);
    });
    return;
  }
  switch (out.dtype) {
    case DType::float32:
      return launch_scatter<float, true>(stream, "scatterAdd", src, index, axis, out);
    case DType::float64:
      return launch_scatter<double, true>(stream, "scatterAdd", src, index, axis, out);
    case DType::int32:
      return launch_scatter<int32_t, true>(stream, "scatterAdd", src, index, axis, out);
    case DType::int64:
      return launch_scatter<int64_t, true>(stream, "scatterAdd", src, index, axis, out);
    default:
      return launch_scatter<uint8_t, true>(stream, "scatterAdd", src, index, axis, out);
  }
}

constexpr int kPerThread = static_cast<int>(kNonzeroBlock) / kBlock;

struct CountShared {
  int warp[kBlock / 32];
};

__device__ __forceinline__ int count_own(const uint8_t* mask, int64_t begin, int64_t size) {
  int mine = 0;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) mine += begin + j < size && mask[begin + j] != 0;
  return mine;
}

__global__ void __launch_bounds__(kBlock)
    count_kernel(const uint8_t* mask, int64_t* offsets, int64_t size) {
  CountShared& shared = shared_memory<CountShared>();
  const int64_t begin =
      static_cast<int64_t>(blockIdx.x) * kNonzeroBlock + static_cast<int>(threadIdx.x) * kPerThread;
  int total;
  sum_before(shared.warp, count_own(mask, begin, size), total);
  if (threadIdx.x == 0) offsets[blockIdx.x + 1] = total;
}

__global__ void __launch_bounds__(kBlock) running_sum_kernel(int64_t* offsets, int64_t blocks) {
  CountShared& shared = shared_memory<CountShared>();
  const int thread = static_cast<int>(threadIdx.x);
  int64_t sum = 0;
  if (thread == 0) offsets[0] = 0;
  for (int64_t base = 0; base < blocks; base += kBlock) {
    const bool inside = base + thread < blocks;
    const int mine = inside ? static_cast<int>(offsets[base + thread + 1]) : 0;
    int total;
    const int before = sum_before(shared.warp, mine, total);
    if (inside) offsets[base + thread + 1] = sum + before + mine;
    sum += total;
    __syncthreads();
  }
}

struct MaskShape {
  Divider size[kMaxRank];  // outermost first
  int32_t rank;
  bool narrow;
};

__global__ void __launch_bounds__(kBlock)
    nonzero_kernel(const __grid_constant__ MaskShape shape, const uint8_t* mask,
                   const int64_t* offsets, int64_t* out, int64_t size) {
  CountShared& shared = shared_memory<CountShared>();
  const int64_t begin =
      static_cast<int64_t>(blockIdx.x) * kNonzeroBlock + static_cast<int>(threadIdx.x) * kPerThread;
  int total;
  const int before = sum_before(shared.warp, count_own(mask, begin, size), total);
  int64_t* to = out + (offsets[blockIdx.x] + before) * shape.rank;
#pragma unroll 1
  for (int j = 0; j < kPerThread; ++j) {
    if (begin + j >= size || mask[begin + j] == 0) continue;
    uint64_t rest = static_cast<uint64_t>(begin + j);
#pragma unroll 1
    for (int d = shape.rank - 1; d >= 0; --d) {
      const uint64_t quotient = divide(rest, shape.size[d], shape.narrow);
      to[d] = static_cast<int64_t>(rest - quotient * shape.size[d].divisor);
      rest = quotient;
    }
    to += shape.rank;
  }
}

int64_t mask_blocks(int64_t size) { return (size + kNonzeroBlock - 1) / kNonzeroBlock; }

void count(Stream& stream, const View& mask, const View& offsets) {
  const int64_t size = element_count(mask), blocks = mask_blocks(size);
  int64_t* const to = static_cast<int64_t*>(offsets.data);
  if (blocks > 0) {
    launch(stream, "count", count_kernel, grid_of("nonzero", blocks * kBlock), dim3(kBlock),
           sizeof(CountShared), static_cast<const uint8_t*>(mask.data), to, size);
  }
  launch(stream, "running_sum", running_sum_kernel, dim3(1), dim3(kBlock), sizeof(CountShared), to,
         blocks);
}

void nonzero(Stream& stream, const View& mask, const View& offsets, const View& out) {
  const int64_t size = element_count(mask), blocks = mask_blocks(size);
  if (blocks == 0) return;
  MaskShape shape{};
  shape.rank = mask.rank;
  shape.narrow = size < (int64_t{1} << 31);
  for (int d = 0; d < mask.rank; ++d) shape.size[d] = make_divider(mask.shape[d]);
  launch(stream, "nonzero", nonzero_kernel, grid_of("nonzero", blocks * kBlock), dim3(kBlock),
         sizeof(CountShared), shape, static_cast<const uint8_t*>(mask.data),
         static_cast<const int64_t*>(offsets.data), static_cast<int64_t*>(out.data), size);
}

}  // namespace

const GatherFamily gather_family = {gather, scatter, count, nonzero};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
