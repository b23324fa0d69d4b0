// Sums, products, extremes and their positions over any axes. The K kept and R reduced dimensions
// are coalesced apart; then
//   rows     a group of 1 to 32 lanes, or a block, walks one output's elements (accesses of 16
//            bytes where they are contiguous, two to four of them at once)
//   columns  where outputs are contiguous and reduced elements are not: lanes across columns (for
//            sums of eight neighbours each), rows over the rest of the block, joined in shared
//            memory
// Where K gives too few blocks, R is cut into splits by size alone; their partial results go to
// scratch [K, splits] and a second launch combines them in order: deterministic, no atomics.
// float32 inside for 16-bit types; integers in int64; dtypes are told apart at run time. NaN wins
// in max, min and their positions.
// Cost: K·R·size bytes read: bandwidth-bound, floor K·R·size / bandwidth.
#include <cmath>

#include "core/error.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int64_t kBlocksWanted = 1024;
constexpr int64_t kRowSplit = 8192;  // elements that are worth a block of their own
constexpr int64_t kColumnSplit = 8;  // elements that are worth a thread of a column
constexpr int kEightBlocks = 3;     // on a multiprocessor: eight sums and four loads need registers
constexpr int64_t kLongRow = 1024;  // beyond, a block rather than a warp walks a row

// The rules. `flag` is "mean" for sums and "smallest" for extremes.
template <class A>
struct Sum {
  A value;
  static __device__ __forceinline__ Sum identity(bool) { return {A(0)}; }
  __device__ __forceinline__ void add(A x, int64_t, bool) { value += x; }
  __device__ __forceinline__ void merge(const Sum& other, bool) { value += other.value; }
  __device__ __forceinline__ void write(void* out, int64_t k, DType dtype, int64_t n,
                                        bool mean) const {
    store_as<A>(out, k, dtype, mean ? value / static_cast<A>(n) : value);
  }
};

template <class A>
struct Product {
  A value;
  static __device__ __forceinline__ Product identity(bool) { return {A(1)}; }
  __device__ __forceinline__ void add(A x, int64_t, bool) { value *= x; }
  __device__ __forceinline__ void merge(const Product& other, bool) { value *= other.value; }
  __device__ __forceinline__ void write(void* out, int64_t k, DType dtype, int64_t, bool) const {
    store_as<A>(out, k, dtype, value);
  }
};

template <class A>
__device__ __forceinline__ A worst(bool smallest) {
  if constexpr (is_real<A>) {
    return smallest ? A(INFINITY) : A(-INFINITY);
  } else {
    return smallest ? INT64_MAX : INT64_MIN;
  }
}

template <class A>
__device__ __forceinline__ bool beats(A x, A best, bool smallest) {
  return (smallest ? x < best : x > best) || (x != x && best == best);
}

template <class A>
struct Extreme {
  A value;
  static __device__ __forceinline__ Extreme identity(bool smallest) { return {worst<A>(smallest)}; }
  __device__ __forceinline__ void add(A x, int64_t, bool smallest) {
    if (beats(x, value, smallest)) value = x;
  }
  __device__ __forceinline__ void merge(const Extreme& other, bool smallest) {
    add(other.value, 0, smallest);
  }
  __device__ __forceinline__ void write(void* out, int64_t k, DType dtype, int64_t, bool) const {
    store_as<A>(out, k, dtype, value);
  }
};

template <class A>
struct Position {
  A value;
  int64_t index;
  static __device__ __forceinline__ Position identity(bool smallest) {
    return {worst<A>(smallest), INT64_MAX};
  }
  __device__ __forceinline__ void add(A x, int64_t i, bool smallest) {
    const bool equal = x == value || (x != x && value != value);
    if (beats(x, value, smallest) || (equal && i < index)) {
      value = x;
      index = i;
    }
  }
  __device__ __forceinline__ void merge(const Position& other, bool smallest) {
    add(other.value, other.index, smallest);
  }
  __device__ __forceinline__ void write(void* out, int64_t k, DType, int64_t, bool) const {
    static_cast<int64_t*>(out)[k] = index;
  }
};

struct ReduceShape {
  Dims<1> kept_dims, reduced_dims;
  int64_t kept, reduced;
  int64_t chunk;  // reduced elements per split
  Divider split_divider;
  int32_t splits;     // 1: results are written at once
  int32_t lanes;      // rows: of a group; columns: across columns
  bool narrow_items;  // fewer than 2^31 outputs times splits
  bool contiguous;    // an output's elements are neighbours
  bool eight;         // columns: a thread has eight
  bool flag;
  DType x_dtype, out_dtype;
};

template <class S>
__device__ __forceinline__ void finish(const ReduceShape& shape, const S& state, int64_t k,
                                       int64_t split, void* out, void* partial) {
  if (shape.splits == 1) {
    state.write(out, k, shape.out_dtype, shape.reduced, shape.flag);
  } else {
    static_cast<S*>(partial)[k * shape.splits + split] = state;
  }
}

// Calls f(x, i) for a lane's share of the n neighbours from `first` on: eight at a time between the
// first and the last multiple of 16 bytes.
template <class F>
__device__ __forceinline__ void walk_floats(const void* data, int64_t first, int64_t n, DType dtype,
                                            int lane, int lanes, const F& f) {
  const unsigned item = dtype == DType::float32 ? 4 : 2;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data) + static_cast<uint64_t>(first) * item;
  const unsigned past = static_cast<unsigned>(address % 16);
  int64_t head = past == 0 ? 0 : (16 - past) / item;
  if (head > n) head = n;
  for (int64_t i = lane; i < head; i += lanes) f(load_as<float>(data, first + i, dtype), i);
  const int64_t body = head + (n - head) / 8 * 8;
  constexpr int kAhead = 2;
  for (int64_t i = head + lane * 8; i < body; i += kAhead * 8 * lanes) {
    Piece piece[kAhead][2];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (i + u * 8 * lanes < body) load_eight(data, first + i + u * 8 * lanes, dtype, piece[u]);
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (i + u * 8 * lanes >= body) break;
      float x[8];
      unpack(piece[u], dtype, x);
#pragma unroll
      for (int j = 0; j < 8; ++j) f(x[j], i + u * 8 * lanes + j);
    }
  }
  for (int64_t i = body + lane; i < n; i += lanes) f(load_as<float>(data, first + i, dtype), i);
}

template <class A, template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    rows_kernel(const __grid_constant__ ReduceShape shape, const void* x, void* out,
                void* partial) {
  using S = Rule<A>;
  const bool flag = shape.flag;
  const int lanes = shape.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                       static_cast<int>(threadIdx.x) / lanes;
  const int64_t k = static_cast<int64_t>(
      divide(static_cast<uint64_t>(item), shape.split_divider, shape.narrow_items));
  const int64_t split = item - k * shape.splits;
  S state = S::identity(flag);
  if (k < shape.kept) {
    const int64_t begin = split * shape.chunk;
    const int64_t left = shape.reduced - begin;
    const int64_t n = left < shape.chunk ? left : shape.chunk;
    const int64_t base = offsets_of(shape.kept_dims, k).at[0];
    if (same_type<A, float> && shape.contiguous) {
      walk_floats(x, base + begin, n, shape.x_dtype, lane, lanes,
                  [&](float value, int64_t i) { state.add(value, begin + i, flag); });
    } else {
#pragma unroll 2
      for (int64_t i = lane; i < n; i += lanes) {
        const int64_t at = base + offsets_of(shape.reduced_dims, begin + i).at[0];
        state.add(load_as<A>(x, at, shape.x_dtype), begin + i, flag);
      }
    }
  }
  state = reduce_group(state, lanes, shared_memory<GroupSlots<S>>(),
                       [&](S& into, const S& from) { into.merge(from, flag); });
  if (lane == 0 && k < shape.kept) finish(shape, state, k, split, out, partial);
}

template <class S>
struct ColumnSlots {
  S slot[kReduceBlock];
};

template <class A, template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    columns_kernel(const __grid_constant__ ReduceShape shape, const void* x, void* out,
                   void* partial) {
  using S = Rule<A>;
  const bool flag = shape.flag;
  const int columns = shape.lanes, rows = kReduceBlock / columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % columns, row = thread / columns;
  const int64_t k = static_cast<int64_t>(blockIdx.x) * columns + column;
  const int64_t split = blockIdx.y;
  S state = S::identity(flag);
  if (k < shape.kept) {
    const int64_t begin = split * shape.chunk;
    const int64_t end = begin + shape.chunk < shape.reduced ? begin + shape.chunk : shape.reduced;
    const int64_t base = offsets_of(shape.kept_dims, k).at[0];
#pragma unroll 2
    for (int64_t r = begin + row; r < end; r += rows) {
      const int64_t at = base + offsets_of(shape.reduced_dims, r).at[0];
      state.add(load_as<A>(x, at, shape.x_dtype), r, flag);
    }
  }
  ColumnSlots<S>& shared = shared_memory<ColumnSlots<S>>();
  shared.slot[thread] = state;
  __syncthreads();
  for (int half = rows / 2; half > 0; half /= 2) {
    if (row < half) {
      state.merge(shared.slot[thread + half * columns], flag);
      shared.slot[thread] = state;
    }
    __syncthreads();
  }
  if (row == 0 && k < shape.kept) finish(shape, state, k, split, out, partial);
}

struct EightSlots {
  float slot[8][kReduceBlock];
};

// Sums of eight neighbouring columns a thread, which lie at multiples of 16 bytes in every row.
__global__ void __launch_bounds__(kReduceBlock, kEightBlocks)
    sum_columns_kernel(const __grid_constant__ ReduceShape shape, const void* x, void* out,
                       void* partial) {
  constexpr int kAhead = 4;
  const int columns = shape.lanes, rows = kReduceBlock / columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % columns, row = thread / columns;
  const int64_t k = (static_cast<int64_t>(blockIdx.x) * columns + column) * 8;
  const int64_t split = blockIdx.y;
  float sums[8] = {};
  if (k < shape.kept) {
    const int64_t begin = split * shape.chunk;
    const int64_t end = begin + shape.chunk < shape.reduced ? begin + shape.chunk : shape.reduced;
    const int64_t base = offsets_of(shape.kept_dims, k).at[0];
    for (int64_t first = begin + row; first < end; first += kAhead * rows) {
      Piece piece[kAhead][2] = {};  // all bits 0: the float 0 of every dtype
#pragma unroll
      for (int u = 0; u < kAhead; ++u) {
        const int64_t r = first + u * rows;
        if (r >= end) break;
        load_eight(x, base + offsets_of(shape.reduced_dims, r).at[0], shape.x_dtype, piece[u]);
      }
#pragma unroll
      for (int u = 0; u < kAhead; ++u) {
        float value[8];
        unpack(piece[u], shape.x_dtype, value);
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[j] += value[j];
      }
    }
  }
  EightSlots& shared = shared_memory<EightSlots>();
#pragma unroll
  for (int j = 0; j < 8; ++j) shared.slot[j][thread] = sums[j];
  __syncthreads();
  for (int half = rows / 2; half > 0; half /= 2) {
    if (row < half) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        sums[j] += shared.slot[j][thread + half * columns];
        shared.slot[j][thread] = sums[j];
      }
    }
    __syncthreads();
  }
  if (row > 0 || k >= shape.kept) return;
#pragma unroll
  for (int j = 0; j < 8; ++j) finish(shape, Sum<float>{sums[j]}, k + j, split, out, partial);
}

template <class A, template <class> class Rule>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    combine_kernel(const int64_t kept, const int64_t reduced, const int splits, const int lanes,
                   const bool flag, const void* partial, void* out, const DType out_dtype) {
  using S = Rule<A>;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t k = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                    static_cast<int>(threadIdx.x) / lanes;
  S state = S::identity(flag);
  if (k < kept) {
    const S* const row = static_cast<const S*>(partial) + k * splits;
#pragma unroll 2
    for (int s = lane; s < splits; s += lanes) state.merge(row[s], flag);
  }
  state = reduce_group(state, lanes, shared_memory<GroupSlots<S>>(),
                       [&](S& into, const S& from) { into.merge(from, flag); });
  if (lane == 0 && k < kept) state.write(out, k, out_dtype, reduced, flag);
}

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// Splits a reduction of `reduced` elements so that about kBlocksWanted blocks have work, each
// split at least `worth` elements. Depends on sizes alone.
void split_reduction(ReduceShape& shape, int64_t blocks, int64_t worth) {
  const int64_t most = divide_up(shape.reduced, worth);
  const int64_t wanted = divide_up(kBlocksWanted, blocks);
  const int64_t splits = clamp(wanted < most ? wanted : most, 1, kBlocksWanted);
  shape.chunk = clamp(divide_up(shape.reduced, splits), 1, INT64_MAX);
  shape.splits = static_cast<int32_t>(clamp(divide_up(shape.reduced, shape.chunk), 1, splits));
  shape.split_divider = make_divider(shape.splits);
  shape.narrow_items = shape.kept < (int64_t{1} << 31) / shape.splits - kReduceBlock;
}

template <class A, template <class> class Rule>
void run(Stream& stream, const char* name, ReduceShape& shape, bool columns, const View& x,
         const View& out) {
  using S = Rule<A>;
  const dim3 block(kReduceBlock);
  int64_t blocks;
  if (columns) {
    const int64_t inner = shape.kept_dims.inner(), width = shape.eight ? 8 : 1;
    shape.lanes = group_lanes(inner / width);
    blocks = divide_up(shape.kept, shape.lanes * width);
    split_reduction(shape, blocks, kReduceBlock / shape.lanes * kColumnSplit);
  } else {
    const int64_t width = shape.contiguous && same_type<A, float> ? 8 : 1;
    shape.lanes =
        shape.reduced > kLongRow ? kReduceBlock : group_lanes(divide_up(shape.reduced, width));
    split_reduction(shape, divide_up(shape.kept, kReduceBlock / shape.lanes), kRowSplit);
    blocks = divide_up(shape.kept * shape.splits, kReduceBlock / shape.lanes);
  }
  if (blocks > INT32_MAX) fail("%s: the tensor is too large for one launch", name);
  void* partial = nullptr;
  if (shape.splits > 1) {
    partial = acquire_scratch(stream, static_cast<size_t>(shape.kept * shape.splits) * sizeof(S));
  }
  const void* const data = x.data;
  if (columns) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.splits));
    launch(stream, name, shape.eight ? sum_columns_kernel : columns_kernel<A, Rule>, grid, block,
           shape.eight ? sizeof(EightSlots) : sizeof(ColumnSlots<S>), shape, data, out.data,
           partial);
  } else {
    launch(stream, name, rows_kernel<A, Rule>, dim3(static_cast<unsigned>(blocks)), block,
           sizeof(GroupSlots<S>), shape, data, out.data, partial);
  }
  if (!partial) return;
  const int lanes = shape.splits > 64 ? kReduceBlock : group_lanes(shape.splits);
  const int64_t groups = divide_up(shape.kept, kReduceBlock / lanes);
  launch(stream, name, combine_kernel<A, Rule>, dim3(static_cast<unsigned>(groups)), block,
         sizeof(GroupSlots<S>), shape.kept, shape.reduced, shape.splits, lanes, shape.flag,
         static_cast<const void*>(partial), out.data, shape.out_dtype);
  release_scratch(stream, partial);
}

// Do eight neighbouring columns lie together, at multiples of 16 bytes in every row?
bool columns_by_eight(const ReduceShape& shape, const View& x) {
  if (!is_aligned(x.data, 16) || shape.kept_dims.inner() % 8 != 0) return false;
  for (int d = 1; d < shape.kept_dims.rank; ++d) {
    if (shape.kept_dims.stride[0][d] % 8 != 0) return false;
  }
  for (int d = 0; d < shape.reduced_dims.rank; ++d) {
    if (shape.reduced_dims.stride[0][d] % 8 != 0) return false;
  }
  return true;
}

// Divides x's dimensions into kept and reduced ones; the reduced in the order of their strides.
ReduceShape make_shape(const View& x, const View& out, bool flag) {
  int64_t kept_shape[kMaxRank], kept_strides[kMaxRank];
  int64_t reduced_shape[kMaxRank], reduced_strides[kMaxRank];
  int kept_rank = 0, reduced_rank = 0;
  ReduceShape shape{};
  shape.kept = shape.reduced = 1;
  for (int d = 0; d < x.rank; ++d) {
    if (x.shape[d] == out.shape[d]) {
      kept_shape[kept_rank] = x.shape[d];
      kept_strides[kept_rank++] = x.strides[d];
      shape.kept *= x.shape[d];
      continue;
    }
    shape.reduced *= x.shape[d];
    int at = reduced_rank++;
    for (; at > 0 && reduced_strides[at - 1] < x.strides[d]; --at) {
      reduced_shape[at] = reduced_shape[at - 1];
      reduced_strides[at] = reduced_strides[at - 1];
    }
    reduced_shape[at] = x.shape[d];
    reduced_strides[at] = x.strides[d];
  }
  shape.kept_dims = make_dims<1>(kept_rank, kept_shape, {kept_strides});
  shape.reduced_dims = make_dims<1>(reduced_rank, reduced_shape, {reduced_strides});
  shape.contiguous = shape.reduced_dims.linear(0);
  shape.flag = flag;
  shape.x_dtype = x.dtype;
  shape.out_dtype = out.dtype;
  return shape;
}

template <template <class> class Rule>
void reduce_with(Stream& stream, const char* name, const View& x, const View& out, bool flag) {
  ReduceShape shape = make_shape(x, out, flag);
  if (shape.kept == 0) return;
  const bool columns = !shape.contiguous && shape.kept_dims.rank > 0 &&
                       shape.kept_dims.stride[0][0] == 1 && shape.reduced_dims.stride[0][0] != 1;
  const bool served = with_float_arith(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    shape.eight = same_type<Rule<A>, Sum<float>> && columns && columns_by_eight(shape, x);
    run<A, Rule>(stream, name, shape, columns, x, out);
  });
  if (!served) run<int64_t, Rule>(stream, name, shape, columns, x, out);
}

void reduce(Stream& stream, ReduceOp op, const View& x, const View& out) {
  switch (op) {
    case ReduceOp::sum:
      return reduce_with<Sum>(stream, "sum", x, out, false);
    case ReduceOp::mean:
      return reduce_with<Sum>(stream, "mean", x, out, true);
    case ReduceOp::max:
      return reduce_with<Extreme>(stream, "max", x, out, false);
    case ReduceOp::min:
      return reduce_with<Extreme>(stream, "min", x, out, true);
    case ReduceOp::prod:
      return reduce_with<Product>(stream, "prod", x, out, false);
  }
}

void arg_reduce(Stream& stream, ArgReduceOp op, const View& x, int, const View& out) {
  const bool smallest = op == ArgReduceOp::argmin;
  reduce_with<Position>(stream, smallest ? "argmin" : "argmax", x, out, smallest);
}

}  // namespace

const ReduceFamily reduce_family = {reduce, arg_reduce};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
