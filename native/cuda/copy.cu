// dst = src, converting between any two dtypes, both strided. Three kernels:
//   move      same dtype, bits moved, compiled per size; 16-byte accesses along shared rows
//   transpose same dtype, where src and dst are contiguous along different dimensions: tiles of
//             32x32 (64x64 for small types) through padded shared memory, batched over the rest
//   convert   compiled per arithmetic of the source (float, double, int64); both dtypes are
//             branched on once per eight elements
// Float to integer truncates towards zero and saturates; anything to bool is x != 0.
// Cost: (size of src + size of dst) bytes per element: bandwidth-bound, floor N·bytes / bandwidth.
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kMoveVectors = 2;
constexpr int kConvertWidth = 8;

// Whole blocks move vectors where `vector` allows; the last one, or all, single elements.
template <class U>
__global__ void __launch_bounds__(kBlock)
    move_kernel(const __grid_constant__ Dims<2> dims, const U* src, U* dst, const bool vector,
                int64_t n) {
  constexpr int V = kPerVector<U>, kPerBlock = kBlock * V * kMoveVectors;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPerBlock;
  const int thread = static_cast<int>(threadIdx.x);
  if (!vector || base + kPerBlock > n) {
#pragma unroll 4
    for (int j = 0; j < V * kMoveVectors; ++j) {
      const int64_t i = base + j * kBlock + thread;
      if (i >= n) break;
      const Offsets<2> offsets = offsets_of(dims, i);
      dst[offsets.at[1]] = src[offsets.at[0]];
    }
    return;
  }
  Vector<U, V> packed[kMoveVectors];
  int64_t to[kMoveVectors];
#pragma unroll
  for (int u = 0; u < kMoveVectors; ++u) {
    const Offsets<2> offsets = offsets_of(dims, base + (u * kBlock + thread) * V);
    to[u] = offsets.at[1];
    packed[u] = load_vector<V>(src + offsets.at[0]);
  }
#pragma unroll
  for (int u = 0; u < kMoveVectors; ++u) store_global(dst + to[u], packed[u]);
}

// src[batch][q][p] with p contiguous to dst[batch][p][q] with q contiguous.
struct TransposeShape {
  int64_t p, q;
  int64_t src_q, dst_p;  // strides
  Divider p_tiles, q_tiles;
  Dims<2> batch;
};

template <class U>
inline constexpr int kTile = sizeof(U) <= 2 ? 64 : 32;

template <class U>
struct TransposeTile {
  U at[kTile<U>][kTile<U> + (sizeof(U) < 4 ? 4 / sizeof(U) : 1)];
};

template <class U>
__global__ void __launch_bounds__(kBlock)
    transpose_kernel(const __grid_constant__ TransposeShape shape, const U* src, U* dst) {
  constexpr int kRows = kBlock / 32;
  TransposeTile<U>& tile = shared_memory<TransposeTile<U>>();
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32;
  const uint64_t rest = divide(blockIdx.x, shape.p_tiles, true);
  const uint64_t batch = divide(rest, shape.q_tiles, true);
  const int64_t p0 = static_cast<int64_t>(blockIdx.x - rest * shape.p_tiles.divisor) * kTile<U>;
  const int64_t q0 = static_cast<int64_t>(rest - batch * shape.q_tiles.divisor) * kTile<U>;
  const Offsets<2> base = offsets_of(shape.batch, static_cast<int64_t>(batch));
#pragma unroll
  for (int r = 0; r < kTile<U>; r += kRows) {
#pragma unroll
    for (int c = 0; c < kTile<U>; c += 32) {
      const int64_t q = q0 + r + row, p = p0 + c + lane;
      if (q < shape.q && p < shape.p) {
        tile.at[r + row][c + lane] = src[base.at[0] + q * shape.src_q + p];
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kTile<U>; r += kRows) {
#pragma unroll
    for (int c = 0; c < kTile<U>; c += 32) {
      const int64_t p = p0 + r + row, q = q0 + c + lane;
      if (q < shape.q && p < shape.p) {
        dst[base.at[1] + p * shape.dst_p + q] = tile.at[c + lane][r + row];
      }
    }
  }
}

// Eight neighbours, as many at a time as fill 16 bytes.
template <class T, class A>
__device__ __forceinline__ void read_eight(const void* src, int64_t at, A (&x)[kConvertWidth]) {
  constexpr int V = kPerVector<T> < kConvertWidth ? kPerVector<T> : kConvertWidth;
#pragma unroll
  for (int part = 0; part < kConvertWidth; part += V) {
    const Vector<T, V> loaded = load_vector<V>(static_cast<const T*>(src) + at + part);
#pragma unroll
    for (int j = 0; j < V; ++j) x[part + j] = static_cast<A>(to_arith(loaded[j]));
  }
}

template <class T, class A>
__device__ __forceinline__ void write_eight(void* dst, int64_t at, const A (&x)[kConvertWidth]) {
  constexpr int V = kPerVector<T> < kConvertWidth ? kPerVector<T> : kConvertWidth;
#pragma unroll
  for (int part = 0; part < kConvertWidth; part += V) {
    Vector<T, V> packed;
#pragma unroll
    for (int j = 0; j < V; ++j) packed[j] = from_arith<T>(x[part + j]);
    store_global(static_cast<T*>(dst) + at + part, packed);
  }
}

// f(T{}) for the dtypes whose arithmetic A carries: float, double, or int64 for all integers.
template <class A, class F>
__device__ __forceinline__ void with_source(DType dtype, const F& f) {
  if constexpr (same_type<A, double>) {
    f(double{});
  } else if constexpr (same_type<A, float>) {
    switch (dtype) {
      case DType::bfloat16:
        return f(BFloat16{});
      case DType::float16:
        return f(Float16{});
      default:
        return f(float{});
    }
  } else {
    switch (dtype) {
      case DType::int32:
        return f(int32_t{});
      case DType::int64:
        return f(int64_t{});
      case DType::uint8:
        return f(uint8_t{});
      default:
        return f(Bool8{});
    }
  }
}

template <class A>
__global__ void __launch_bounds__(kBlock)
    convert_kernel(const __grid_constant__ Dims<2> dims, const void* src, const DType src_dtype,
                   void* dst, const DType dst_dtype, const bool vector, int64_t n) {
  constexpr int kPerBlock = kBlock * kConvertWidth;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPerBlock;
  const int thread = static_cast<int>(threadIdx.x);
  if (vector && base + kPerBlock <= n) {
    const Offsets<2> at = offsets_of(dims, base + thread * kConvertWidth);
    A x[kConvertWidth];
    with_source<A>(src_dtype, [&](auto zero) { read_eight<decltype(zero)>(src, at.at[0], x); });
    with_stored_type(dst_dtype, [&](auto zero) { write_eight<decltype(zero)>(dst, at.at[1], x); });
    return;
  }
#pragma unroll 1
  for (int j = 0; j < kConvertWidth; ++j) {
    const int64_t i = base + j * kBlock + thread;
    if (i >= n) break;
    const Offsets<2> at = offsets_of(dims, i);
    A x;
    with_source<A>(src_dtype, [&](auto zero) {
      x = static_cast<A>(to_arith(static_cast<const decltype(zero)*>(src)[at.at[0]]));
    });
    with_stored_type(dst_dtype, [&](auto zero) {
      static_cast<decltype(zero)*>(dst)[at.at[1]] = from_arith<decltype(zero)>(x);
    });
  }
}

// May `width` neighbours move at once, on both sides?
bool moves_rows(const Dims<2>& dims, const View& src, const View& dst, int width) {
  if (dims.rank > 0 && (dims.stride[0][0] != 1 || dims.stride[1][0] != 1)) return false;
  if (dims.rank > 1 && dims.inner() % width != 0) return false;
  const View* const views[2] = {&src, &dst};
  for (int k = 0; k < 2; ++k) {
    const size_t bytes = item_size(views[k]->dtype) * static_cast<size_t>(width);
    if (!is_aligned(views[k]->data, bytes < 16 ? bytes : 16)) return false;
    for (int d = 1; d < dims.rank; ++d) {
      if (dims.stride[k][d] % width != 0) return false;
    }
  }
  return true;
}

// Fills `shape` and the number of blocks where a tiled transpose serves.
bool plan_transpose(const Dims<2>& dims, int tile, int64_t n, TransposeShape& shape,
                    int64_t& blocks) {
  int p = -1, q = -1;
  for (int d = 0; d < dims.rank; ++d) {
    if (dims.stride[0][d] == 1) p = d;
    if (dims.stride[1][d] == 1) q = d;
  }
  if (p < 0 || q < 0 || p == q) return false;
  shape.p = static_cast<int64_t>(dims.size[p].divisor);
  shape.q = static_cast<int64_t>(dims.size[q].divisor);
  if (shape.p < tile / 4 || shape.q < tile / 4) return false;
  shape.src_q = dims.stride[0][q];
  shape.dst_p = dims.stride[1][p];
  const int64_t p_tiles = (shape.p + tile - 1) / tile, q_tiles = (shape.q + tile - 1) / tile;
  shape.p_tiles = make_divider(p_tiles);
  shape.q_tiles = make_divider(q_tiles);
  shape.batch = Dims<2>{};
  for (int d = 0; d < dims.rank; ++d) {
    if (d == p || d == q) continue;
    const int to = shape.batch.rank++;
    shape.batch.size[to] = dims.size[d];
    shape.batch.stride[0][to] = dims.stride[0][d];
    shape.batch.stride[1][to] = dims.stride[1][d];
  }
  blocks = p_tiles * q_tiles * (n / (shape.p * shape.q));
  shape.batch.narrow = true;
  return blocks < (int64_t{1} << 31);
}

dim3 grid_for(int64_t n, int64_t per_block) {
  return dim3(static_cast<unsigned>((n + per_block - 1) / per_block));
}

template <class U>
void move(Stream& stream, const Dims<2>& dims, const View& src, const View& dst, int64_t n) {
  const U* const from = static_cast<const U*>(src.data);
  U* const to = static_cast<U*>(dst.data);
  TransposeShape shape;
  int64_t blocks;
  if (plan_transpose(dims, kTile<U>, n, shape, blocks)) {
    launch(stream, "copy", transpose_kernel<U>, dim3(static_cast<unsigned>(blocks)), dim3(kBlock),
           sizeof(TransposeTile<U>), shape, from, to);
    return;
  }
  launch(stream, "copy", move_kernel<U>, grid_for(n, kBlock * kPerVector<U> * kMoveVectors),
         dim3(kBlock), 0, dims, from, to, moves_rows(dims, src, dst, kPerVector<U>), n);
}

template <class A>
void convert(Stream& stream, const Dims<2>& dims, const View& src, const View& dst, int64_t n) {
  launch(stream, "copy", convert_kernel<A>, grid_for(n, kBlock * kConvertWidth), dim3(kBlock), 0,
         dims, static_cast<const void*>(src.data), src.dtype, dst.data, dst.dtype,
         moves_rows(dims, src, dst, kConvertWidth), n);
}

void copy(Stream& stream, const View& src, const View& dst) {
  const int64_t n = element_count(dst);
  if (n == 0) return;
  const Dims<2> dims = make_dims<2>(dst.rank, dst.shape, {src.strides, dst.strides});
  if (src.dtype == dst.dtype) {
    with_size_of(src.dtype, [&](auto zero) { move<decltype(zero)>(stream, dims, src, dst, n); });
  } else if (src.dtype == DType::float64) {
    convert<double>(stream, dims, src, dst, n);
  } else if (is_float(src.dtype)) {
    convert<float>(stream, dims, src, dst, n);
  } else {
    convert<int64_t>(stream, dims, src, dst, n);
  }
}

}  // namespace

const CopyFamily copy_family = {copy};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
