// The engine of elementwise kernels: out[i] = f(in_0[i], …) for N inputs of one dtype, strided; the
// output is contiguous. Kernels are compiled per op only where that pays, and never per dtype:
//   vector_kernel  float32, bfloat16, float16 for one common op; 32 bytes of the longest operands a
//                  thread, in accesses of 16, or 16 bytes of 16-bit types
//   any_kernel     the same dtypes for every op and layout: eight elements wait in shared memory,
//                  each in a place of its thread alone, so that the op is compiled once
//   single_kernel  float64, and the integers in int64: an element per thread
// A functor F has `template <class A> static A apply(int op, const A (&x)[N])`, and where it serves
// every op, kIntegers.
// Cost: (Σ inputs' sizes + output's size) bytes per element, floor N·bytes / bandwidth.
#pragma once

#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kPointwiseBlock = 256;
constexpr int kPointwiseBlocks = 5;  // per multiprocessor: up to 48 registers, so that none spill
constexpr int kAnyBlocks = 4;
constexpr int kPerThread = 8;
constexpr int kPointwiseElements = kPointwiseBlock * kPerThread;  // of a block

template <int N>
struct Inputs {
  const void* data[N];  // null: the constant
  bool one[N];          // a single value, in memory or the constant
  Scalar constant;
};

// The place of inputs that are all laid out like the output.
struct Linear {};
template <int N>
__device__ __forceinline__ Offsets<N> offsets_in(Linear, int64_t i) {
  Offsets<N> r;
#pragma unroll
  for (int k = 0; k < N; ++k) r.at[k] = i;
  return r;
}
template <int N>
__device__ __forceinline__ Offsets<N> offsets_in(const Dims<N>& dims, int64_t i) {
  return offsets_of(dims, i);
}

template <class A, int N>
__device__ __forceinline__ void load_ones(const Inputs<N>& inputs, DType dtype, A (&one)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    one[k] = A(0);
    if (inputs.one[k]) {
      one[k] =
          inputs.data[k] ? load_as<A>(inputs.data[k], 0, dtype) : scalar_as<A>(inputs.constant);
    }
  }
}

// Where piece u of this thread starts within the block: pieces of a warp are neighbours.
__device__ __forceinline__ int piece_start(int u, bool wide) {
  const int thread = static_cast<int>(threadIdx.x);
  return wide ? (u * kPointwiseBlock + thread) * 4 : thread * kPerThread;
}

// Writes those of the thread's pieces that begin before `end`.
__device__ __forceinline__ void store_pieces(void* out, int64_t base, int64_t end, DType dtype,
                                             const float (&y)[kPerThread]) {
  if (dtype == DType::float32) {
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const int64_t i = base + piece_start(u, true);
      if (i >= end) continue;
      store_global(static_cast<float*>(out) + i,
                   Vector<float, 4>{y[4 * u], y[4 * u + 1], y[4 * u + 2], y[4 * u + 3]});
    }
    return;
  }
  const int64_t i = base + piece_start(0, false);
  if (i >= end) return;
  const Piece piece = dtype == DType::bfloat16 ? pack_halves<BFloat16>(y) : pack_halves<Float16>(y);
  store_global(reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(out) + i), piece);
}

// The same of bools, whether or not the elements are zero.
__device__ __forceinline__ void store_bools(uint8_t* out, int64_t base, int64_t end, bool wide,
                                            const float (&y)[kPerThread]) {
#pragma unroll
  for (int u = 0; u < 2; ++u) {
    const int64_t i = base + (wide ? piece_start(u, true) : piece_start(0, false) + 4 * u);
    if (i >= end) continue;
    Vector<uint8_t, 4> bools;
#pragma unroll
    for (int j = 0; j < 4; ++j) bools[j] = y[4 * u + j] != 0.0f;
    store_vector(out + i, bools);
  }
}

// Operands are aligned, and along rows contiguous or one value; rows are whole pieces unless the
// place is Linear, where the last few elements take a thread each.
template <class F, int N, class Place>
__global__ void __launch_bounds__(kPointwiseBlock, kPointwiseBlocks)
    vector_kernel(const Inputs<N> inputs, const __grid_constant__ Place place, void* out,
                  const DType dtype, int64_t n) {
  const bool wide = dtype == DType::float32;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPointwiseElements;
  const int64_t end = n - n % (wide ? 4 : 8);
  float one[N];
  load_ones<float>(inputs, dtype, one);
  Piece piece[N][2] = {};
#pragma unroll
  for (int u = 0; u < 2; ++u) {
    const int64_t i = base + piece_start(u, wide);
    if (i >= end || (u == 1 && !wide)) continue;
    const Offsets<N> at = offsets_in<N>(place, i);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (inputs.one[k]) continue;
      if constexpr (!same_type<Place, Linear>) {
        if (place.stride[k][0] == 0) {
          const uint32_t bits =
              wide ? static_cast<const uint32_t*>(inputs.data[k])[at.at[k]]
                   : static_cast<const uint16_t*>(inputs.data[k])[at.at[k]] * uint32_t{0x10001};
          piece[k][u] = Piece{bits, bits, bits, bits};
          continue;
        }
      }
      piece[k][u] = load_piece(inputs.data[k], at.at[k], wide);
    }
  }
  float x[N][kPerThread];
#pragma unroll
  for (int k = 0; k < N; ++k) {
    unpack(piece[k], dtype, x[k]);
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) x[k][j] = inputs.one[k] ? one[k] : x[k][j];
  }
  float y[kPerThread];
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    float operand[N];
#pragma unroll
    for (int k = 0; k < N; ++k) operand[k] = x[k][j];
    y[j] = F::template apply<float>(0, operand);
  }
  store_pieces(out, base, end, dtype, y);
  if constexpr (same_type<Place, Linear>) {
    const int64_t i = end + static_cast<int>(threadIdx.x);
    if (blockIdx.x + 1 < gridDim.x || i >= n) return;
    float operand[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      operand[k] = inputs.one[k] ? one[k] : load_as<float>(inputs.data[k], i, dtype);
    }
    store_as(out, i, dtype, F::template apply<float>(0, operand));
  }
}

template <int N>
struct PointwiseSlots {
  float at[N][kPerThread][kPointwiseBlock];
};

// The element of the block that is number j of this thread.
__device__ __forceinline__ int any_place(int j, bool vector, bool wide) {
  return vector ? piece_start(wide ? j / 4 : 0, wide) + (wide ? j % 4 : j)
                : j * kPointwiseBlock + static_cast<int>(threadIdx.x);
}

// `vector`: rows are whole pieces, contiguous operands and the output aligned.
template <class F, int N>
__global__ void __launch_bounds__(kPointwiseBlock, kAnyBlocks)
    any_kernel(const int op, const Inputs<N> inputs, const __grid_constant__ Dims<N> dims,
               void* out, const DType dtype, const DType out_dtype, const bool vector, int64_t n) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool wide = dtype == DType::float32;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPointwiseElements;
  PointwiseSlots<N>& slots = shared_memory<PointwiseSlots<N>>();
  float one[N];
  load_ones<float>(inputs, dtype, one);
  if (vector) {
    Piece piece[N][2] = {};
    Offsets<N> at[2] = {};
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const int64_t i = base + piece_start(u, wide);
      if (i >= n || (u == 1 && !wide)) continue;
      at[u] = offsets_of(dims, i);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (inputs.one[k] || dims.stride[k][0] != 1) continue;
        piece[k][u] = load_piece(inputs.data[k], at[u].at[k], wide);
      }
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const int64_t stride = dims.stride[k][0];
      if (inputs.one[k] || stride == 1) {
        float x[kPerThread];
        unpack(piece[k], dtype, x);
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          slots.at[k][j][thread] = inputs.one[k] ? one[k] : x[j];
        }
        continue;
      }
#pragma unroll 2
      for (int j = 0; j < kPerThread; ++j) {
        if (base + any_place(j, true, wide) >= n) break;
        const int u = wide ? j / 4 : 0;
        const int64_t from = (u == 0 ? at[0].at[k] : at[1].at[k]) + (wide ? j % 4 : j) * stride;
        slots.at[k][j][thread] = load_as<float>(inputs.data[k], from, dtype);
      }
    }
  } else {
#pragma unroll 2
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = base + any_place(j, false, wide);
      if (i >= n) break;
      const Offsets<N> at = offsets_of(dims, i);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        slots.at[k][j][thread] =
            inputs.one[k] ? one[k] : load_as<float>(inputs.data[k], at.at[k], dtype);
      }
    }
  }
#pragma unroll 1
  for (int j = 0; j < kPerThread; ++j) {
    if (base + any_place(j, vector, wide) >= n) break;
    float x[N];
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] = slots.at[k][j][thread];
    slots.at[0][j][thread] = F::template apply<float>(op, x);
  }
  if (vector) {
    float y[kPerThread];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      y[j] = base + any_place(j, true, wide) < n ? slots.at[0][j][thread] : 0.0f;
    }
    if (out_dtype == dtype) {
      store_pieces(out, base, n, dtype, y);
    } else {
      store_bools(static_cast<uint8_t*>(out), base, n, wide, y);
    }
    return;
  }
#pragma unroll 1
  for (int j = 0; j < kPerThread; ++j) {
    const int64_t i = base + any_place(j, vector, wide);
    if (i >= n) break;
    store_as(out, i, out_dtype, slots.at[0][j][thread]);
  }
}

template <class F, int N, class A>
__global__ void __launch_bounds__(kPointwiseBlock)
    single_kernel(const int op, const Inputs<N> inputs, const __grid_constant__ Dims<N> dims,
                  void* out, const DType dtype, const DType out_dtype, int64_t n) {
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kPointwiseBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  A x[N];
  load_ones<A>(inputs, dtype, x);
  const Offsets<N> at = offsets_of(dims, i);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (!inputs.one[k]) x[k] = load_as<A>(inputs.data[k], at.at[k], dtype);
  }
  store_as<A>(out, i, out_dtype, F::template apply<A>(op, x));
}

// An op's own kernels; null where it has none.
template <int N>
struct VectorKernels {
  void (*linear)(Inputs<N>, Linear, void*, DType, int64_t);
  void (*strided)(Inputs<N>, Dims<N>, void*, DType, int64_t);
};

inline dim3 pointwise_blocks(int64_t n, int64_t per_block) {
  return dim3(static_cast<unsigned>((n + per_block - 1) / per_block));
}

// May threads move 16 bytes of each operand that is contiguous along rows?
template <int N>
bool moves_pieces(const Dims<N>& dims, const Inputs<N>& inputs, const View& out, int per_piece) {
  if (!is_aligned(out.data, 16)) return false;
  for (int k = 0; k < N; ++k) {
    if (inputs.one[k] || dims.stride[k][0] != 1) continue;
    if (!is_aligned(inputs.data[k], 16)) return false;
    for (int d = 1; d < dims.rank; ++d) {
      if (dims.stride[k][d] % per_piece != 0) return false;
    }
  }
  return true;
}

// `views[k]` is null for the constant. F serves every op and dtype by its number; `own` the op's
// kernels for the 16- and 32-bit floats. The output has the inputs' dtype or is bool.
template <class F, int N>
void launch_pointwise(Stream& stream, const char* name, int op, const VectorKernels<N>& own,
                      const View* const (&views)[N], Scalar constant, const View& out) {
  static constexpr int64_t kZeros[kMaxRank] = {};
  const int64_t n = element_count(out);
  if (n == 0) return;
  DType dtype = out.dtype;
  const int64_t* strides[N];
  for (int k = 0; k < N; ++k) {
    strides[k] = views[k] ? views[k]->strides : kZeros;
    if (views[k]) dtype = views[k]->dtype;
  }
  const Dims<N> dims = make_dims<N>(out.rank, out.shape, strides);
  Inputs<N> inputs{};
  inputs.constant = constant;
  bool linear = true, rows = dims.rank > 0;
  for (int k = 0; k < N; ++k) {
    inputs.data[k] = views[k] ? views[k]->data : nullptr;
    inputs.one[k] = dims.splat(k);
    linear = linear && (inputs.one[k] || dims.linear(k));
    rows = rows && (inputs.one[k] || dims.stride[k][0] == 0 || dims.stride[k][0] == 1);
  }
  if (dtype == DType::float64) {
    launch(stream, name, single_kernel<F, N, double>, pointwise_blocks(n, kPointwiseBlock),
           dim3(kPointwiseBlock), 0, op, inputs, dims, out.data, dtype, out.dtype, n);
    return;
  }
  if constexpr (F::kIntegers) {
    if (!is_float(dtype)) {
      launch(stream, name, single_kernel<F, N, int64_t>, pointwise_blocks(n, kPointwiseBlock),
             dim3(kPointwiseBlock), 0, op, inputs, dims, out.data, dtype, out.dtype, n);
      return;
    }
  }
  const int per_piece = dtype == DType::float32 ? 4 : 8;
  const bool aligned = moves_pieces(dims, inputs, out, per_piece);
  const bool whole = aligned && dims.inner() % per_piece == 0;
  const dim3 grid = pointwise_blocks(n, kPointwiseElements), block(kPointwiseBlock);
  if (own.linear && linear && aligned) {
    launch(stream, name, own.linear, grid, block, 0, inputs, Linear{}, out.data, dtype, n);
  } else if (own.strided && rows && whole) {
    launch(stream, name, own.strided, grid, block, 0, inputs, dims, out.data, dtype, n);
  } else {
    launch(stream, name, any_kernel<F, N>, grid, block, sizeof(PointwiseSlots<N>), op, inputs, dims,
           out.data, dtype, out.dtype, whole, n);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
