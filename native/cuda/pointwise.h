// The engine of elementwise kernels: out[i] = f(in_0[i], …) for N inputs of one storage type.
// A functor F says: `In`, `Out` (storage), `kInputs`, `kSingle` (an element per thread, which keeps
// functors of many ops small), and
//   template <int V> void apply(const Arith<In> (&x)[kInputs][V], Out (&y)[V]) const.
// linear_kernel serves inputs laid out like the output, or one value (in memory or given by the
// host); strided_kernel the rest: where rows are a multiple of the vector, a vector per thread
// with one index decomposition, else element by element. The output is contiguous.
// Cost: (Σ inputs' sizes + output's size) bytes per element, floor N·bytes / bandwidth.
#pragma once

#include "indexing.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kPointwiseBlock = 256;

template <int N>
struct Inputs {
  const void* data[N];
  int64_t stride[N];   // linear_kernel: 1, or 0 for one value
  Scalar constant;     // in place of input `constant_input`
  int constant_input;  // -1 where there is none
  bool vector;         // a thread's elements are neighbours, moved as vectors
};

// Element j of group u of this thread: V neighbours, or lane-interleaved single elements.
template <int V>
__device__ __forceinline__ int64_t pointwise_index(int64_t block_base, int u, int j, bool vector) {
  return vector ? block_base + (u * kPointwiseBlock + static_cast<int>(threadIdx.x)) * V + j
                : block_base + (u * V + j) * kPointwiseBlock + static_cast<int>(threadIdx.x);
}

template <int V, class Out>
__device__ __forceinline__ void store_group(Out* out, const Out (&y)[V], int64_t n,
                                            int64_t block_base, int u, bool vector) {
  const int64_t first = pointwise_index<V>(block_base, u, 0, vector);
  if (vector && first + V <= n) {
    Vector<Out, V> packed;
#pragma unroll
    for (int j = 0; j < V; ++j) packed[j] = y[j];
    store_vector(out + first, packed);
    return;
  }
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const int64_t i = pointwise_index<V>(block_base, u, j, vector);
    if (i < n) out[i] = y[j];
  }
}

template <class F>
struct PointwiseShape {
  static constexpr int kSize =
      sizeof(typename F::In) > sizeof(typename F::Out) ? sizeof(typename F::In)
                                                       : sizeof(typename F::Out);
  static constexpr int kVector = F::kSingle ? 1 : 16 / kSize;
  static constexpr int kUnroll = F::kSingle || kVector >= 8 ? 1 : 2;
};

template <class F>
__global__ void __launch_bounds__(kPointwiseBlock)
    linear_kernel(const F f, const Inputs<F::kInputs> inputs, void* out, int64_t n) {
  using In = typename F::In;
  using Out = typename F::Out;
  using A = Arith<In>;
  constexpr int V = PointwiseShape<F>::kVector, U = PointwiseShape<F>::kUnroll, N = F::kInputs;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kPointwiseBlock * V * U);
  const bool vector = V == 1 || inputs.vector;
  A x[U][N][V];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const int64_t first = pointwise_index<V>(base, u, 0, vector);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const In* data = static_cast<const In*>(inputs.data[k]);
      if (inputs.stride[k] == 0) {
        const A value = k == inputs.constant_input ? scalar_as<A>(inputs.constant)
                                                   : to_arith(data[0]);
#pragma unroll
        for (int j = 0; j < V; ++j) x[u][k][j] = value;
      } else if (vector && first + V <= n) {
        const Vector<In, V> loaded = load_vector<V>(data + first);
#pragma unroll
        for (int j = 0; j < V; ++j) x[u][k][j] = to_arith(loaded[j]);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const int64_t i = pointwise_index<V>(base, u, j, vector);
          x[u][k][j] = i < n ? to_arith(data[i]) : A(0);
        }
      }
    }
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    Out y[V] = {};
    f.template apply<V>(x[u], y);
    store_group<V>(static_cast<Out*>(out), y, n, base, u, vector);
  }
}

template <class F>
__global__ void __launch_bounds__(kPointwiseBlock)
    strided_kernel(const F f, const Inputs<F::kInputs> inputs,
                   const __grid_constant__ Dims<F::kInputs> dims, void* out, int64_t n) {
  using In = typename F::In;
  using Out = typename F::Out;
  using A = Arith<In>;
  constexpr int V = PointwiseShape<F>::kVector, N = F::kInputs;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kPointwiseBlock * V);
  const bool vector = V == 1 || inputs.vector;
  A x[N][V];
#pragma unroll
  for (int k = 0; k < N; ++k) {
#pragma unroll
    for (int j = 0; j < V; ++j) x[k][j] = A(0);
  }
  const int64_t first = pointwise_index<V>(base, 0, 0, vector);
  if (vector) {
    if (first < n) {
      const Offsets<N> offsets = offsets_of(dims, first);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const In* data = static_cast<const In*>(inputs.data[k]) + offsets.at[k];
        const int64_t stride = dims.stride[k][0];
        if (k == inputs.constant_input) continue;
        if (stride == 1) {
          const Vector<In, V> loaded = load_vector<V>(data);
#pragma unroll
          for (int j = 0; j < V; ++j) x[k][j] = to_arith(loaded[j]);
        } else {
#pragma unroll
          for (int j = 0; j < V; ++j) x[k][j] = to_arith(data[j * stride]);
        }
      }
    }
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const int64_t i = pointwise_index<V>(base, 0, j, false);
      if (i >= n) continue;
      const Offsets<N> offsets = offsets_of(dims, i);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (k == inputs.constant_input) continue;
        x[k][j] = to_arith(static_cast<const In*>(inputs.data[k])[offsets.at[k]]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (k != inputs.constant_input) continue;
#pragma unroll
    for (int j = 0; j < V; ++j) x[k][j] = scalar_as<A>(inputs.constant);
  }
  Out y[V] = {};
  f.template apply<V>(x, y);
  store_group<V>(static_cast<Out*>(out), y, n, base, 0, vector);
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
  if (!plan.linear && dims.inner() % vector != 0) return false;
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
  if (plan.linear) {
    using Shape = PointwiseShape<F>;
    plan.inputs.vector = moves_vectors(plan, views, out, Shape::kVector);
    launch(stream, name, linear_kernel<F>,
           blocks(kPointwiseBlock * Shape::kVector * Shape::kUnroll), dim3(kPointwiseBlock), 0, f,
           plan.inputs, out.data, plan.n);
  } else {
    using Shape = PointwiseShape<G>;
    plan.inputs.vector = moves_vectors(plan, views, out, Shape::kVector);
    launch(stream, name, strided_kernel<G>, blocks(kPointwiseBlock * Shape::kVector),
           dim3(kPointwiseBlock), 0, g, plan.inputs, plan.dims, out.data, plan.n);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
