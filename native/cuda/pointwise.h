// The engine of elementwise kernels: out[i] = f(in_0[i], …) for N inputs of one storage type.
// A functor F says: `In`, `Out` (storage), `kInputs`, `kSingle` (an element per thread, which keeps
// functors of many ops small), and
//   template <int V> void apply(const Arith<In> (&x)[kInputs][V], Out (&y)[V]) const.
// linear_kernel serves inputs laid out like the output, or one value (in memory or given by the
// host); strided_kernel the rest, and single elements: where rows are a multiple of the vector, a
// vector per thread with one index decomposition, else element by element. The output is
// contiguous. Cost: (Σ inputs' sizes + output's size) bytes per element, floor N·bytes / bandwidth.
#pragma once

#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kPointwiseBlock = 256;
constexpr int kPointwiseBlocks = 5;  // per multiprocessor: up to 48 registers, so that none spill

template <int N>
struct Inputs {
  const void* data[N];
  int64_t stride[N];   // linear_kernel: 1, or 0 for one value
  Scalar constant;     // in place of input `constant_input`
  int constant_input;  // -1 where there is none
  bool vector;         // a thread's elements are neighbours, moved as vectors
};

// Element j of group u of this thread, within the block: V neighbours, or interleaved over lanes.
template <int V>
__device__ __forceinline__ int pointwise_index(int u, int j, bool vector) {
  const int thread = static_cast<int>(threadIdx.x);
  return vector ? (u * kPointwiseBlock + thread) * V + j : (u * V + j) * kPointwiseBlock + thread;
}

template <class F>
struct PointwiseShape {
  static constexpr int kSize = sizeof(typename F::In) > sizeof(typename F::Out)
                                   ? sizeof(typename F::In)
                                   : sizeof(typename F::Out);
  static constexpr int kVector = F::kSingle ? 1 : 16 / kSize;
  static constexpr int kUnroll = kVector >= 8 ? 1 : 2;
};

// Applies f to a group as it was loaded: conversion comes last, so that 16-bit values wait packed.
template <class F, int V>
__device__ __forceinline__ void apply_group(const F& f, const Inputs<F::kInputs>& inputs,
                                            const Vector<typename F::In, V> (&x)[F::kInputs],
                                            typename F::Out (&y)[V]) {
  using A = Arith<typename F::In>;
  A value[F::kInputs][V];
#pragma unroll
  for (int k = 0; k < F::kInputs; ++k) {
    const bool constant = k == inputs.constant_input;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      value[k][j] = constant ? scalar_as<A>(inputs.constant) : to_arith(x[k][j]);
    }
  }
  f.template apply<V>(value, y);
}

// Whole blocks move vectors where they may; the last one, and all where they may not, elements.
template <class F>
__global__ void __launch_bounds__(kPointwiseBlock, kPointwiseBlocks)
    linear_kernel(const F f, const Inputs<F::kInputs> inputs, typename F::Out* out, int64_t n) {
  using In = typename F::In;
  constexpr int V = PointwiseShape<F>::kVector, U = PointwiseShape<F>::kUnroll, N = F::kInputs;
  constexpr int kPerBlock = kPointwiseBlock * V * U;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPerBlock;
  const bool vector = inputs.vector && base + kPerBlock <= n;
  Vector<In, V> x[U][N] = {};
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (k == inputs.constant_input) continue;
    const bool splat = inputs.stride[k] == 0;
    const In* const data = static_cast<const In*>(inputs.data[k]) + (splat ? 0 : base);
    if (vector && !splat) {
#pragma unroll
      for (int u = 0; u < U; ++u) {
        x[u][k] = load_vector<V>(data + pointwise_index<V>(u, 0, true));
      }
      continue;
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const int i = pointwise_index<V>(u, j, false);
        if (base + i < n) x[u][k][j] = data[splat ? 0 : i];
      }
    }
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    Vector<typename F::Out, V> y = {};
    apply_group(f, inputs, x[u], y.data);
    if (vector) {
      store_global(out + base + pointwise_index<V>(u, 0, true), y);
      continue;
    }
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const int i = pointwise_index<V>(u, j, false);
      if (base + i < n) out[base + i] = y[j];
    }
  }
}

template <class F>
__global__ void __launch_bounds__(kPointwiseBlock)
    strided_kernel(const F f, const Inputs<F::kInputs> inputs,
                   const __grid_constant__ Dims<F::kInputs> dims, typename F::Out* out, int64_t n) {
  using In = typename F::In;
  constexpr int V = PointwiseShape<F>::kVector, N = F::kInputs;
  constexpr int kPerBlock = kPointwiseBlock * V;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kPerBlock;
  const bool vector = V > 1 && inputs.vector && base + kPerBlock <= n;
  Vector<In, V> x[N] = {};
  if (vector) {
    const Offsets<N> offsets = offsets_of(dims, base + pointwise_index<V>(0, 0, true));
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (k == inputs.constant_input) continue;
      const In* const data = static_cast<const In*>(inputs.data[k]) + offsets.at[k];
      const int64_t stride = dims.stride[k][0];
      if (stride == 1) {
        x[k] = load_vector<V>(data);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) x[k][j] = data[j * stride];
      }
    }
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const int64_t i = base + pointwise_index<V>(0, j, false);
      if (i >= n) continue;
      const Offsets<N> offsets = offsets_of(dims, i);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (k == inputs.constant_input) continue;
        x[k][j] = static_cast<const In*>(inputs.data[k])[offsets.at[k]];
      }
    }
  }
  Vector<typename F::Out, V> y = {};
  apply_group(f, inputs, x, y.data);
  if (vector) {
    store_global(out + base + pointwise_index<V>(0, 0, true), y);
    return;
  }
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const int64_t i = base + pointwise_index<V>(0, j, false);
    if (i < n) out[i] = y[j];
  }
}

// What the host decides once per call. `views[k]` is null for the constant input.
template <int N>
struct PointwisePlan {
  Inputs<N> inputs;
  Dims<N> dims;
  bool linear;
  int64_t n;
};

template <int N>
PointwisePlan<N> plan_pointwise(const View* const (&views)[N], Scalar constant, const View& out) {
  static constexpr int64_t kZeros[kMaxRank] = {};
  PointwisePlan<N> plan{};
  const int64_t* strides[N];
  for (int k = 0; k < N; ++k) strides[k] = views[k] ? views[k]->strides : kZeros;
  plan.dims = make_dims<N>(out.rank, out.shape, strides);
  plan.n = element_count(out);
  plan.linear = true;
  plan.inputs.constant = constant;
  plan.inputs.constant_input = -1;
  for (int k = 0; k < N; ++k) {
    plan.inputs.stride[k] = plan.dims.splat(k) ? 0 : 1;
    plan.linear = plan.linear && (plan.inputs.stride[k] == 0 || plan.dims.linear(k));
    if (views[k]) {
      plan.inputs.data[k] = views[k]->data;
    } else {
      plan.inputs.constant_input = k;
    }
  }
  return plan;
}

// May threads move `vector` neighbours at once?
template <int N>
bool moves_vectors(const PointwisePlan<N>& plan, const View* const (&views)[N], const View& out,
                   int vector) {
  const Dims<N>& dims = plan.dims;
  if (!is_aligned(out.data, item_size(out.dtype) * vector)) return false;
  for (int k = 0; k < N; ++k) {
    if (!views[k] || dims.rank == 0 || dims.stride[k][0] != 1) continue;
    if (!is_aligned(views[k]->data, item_size(views[k]->dtype) * vector)) return false;
    for (int d = 1; d < dims.rank; ++d) {
      if (dims.stride[k][d] % vector != 0) return false;
    }
  }
  return true;
}

// F has the op in its type and serves the linear case, G the strided one; both may be the same.
template <class F, class G, int N>
void launch_pointwise(Stream& stream, const char* name, const F& f, const G& g,
                      const View* const (&views)[N], Scalar constant, const View& out) {
  PointwisePlan<N> plan = plan_pointwise<N>(views, constant, out);
  if (plan.n == 0) return;
  const auto blocks = [&](int64_t per_block) {
    return dim3(static_cast<unsigned>((plan.n + per_block - 1) / per_block));
  };
  typename F::Out* const data = static_cast<typename F::Out*>(out.data);
  if constexpr (!F::kSingle) {
    if (plan.linear) {
      using Shape = PointwiseShape<F>;
      plan.inputs.vector = moves_vectors(plan, views, out, Shape::kVector);
      launch(stream, name, linear_kernel<F>,
             blocks(kPointwiseBlock * Shape::kVector * Shape::kUnroll), dim3(kPointwiseBlock), 0, f,
             plan.inputs, data, plan.n);
      return;
    }
  }
  using Shape = PointwiseShape<G>;
  plan.inputs.vector =
      moves_vectors(plan, views, out, Shape::kVector) && plan.dims.inner() % Shape::kVector == 0;
  launch(stream, name, strided_kernel<G>, blocks(kPointwiseBlock * Shape::kVector),
         dim3(kPointwiseBlock), 0, g, plan.inputs, plan.dims, data, plan.n);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
