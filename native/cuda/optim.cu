// Updates of many tensors a launch (multi_tensor.h), by the rules of optim_rules.h; norms and
// bounds of gradients. Hyper-parameters and the flag that skips an update are read from device
// memory when the kernel runs; scalars are formed in double, once a block, and rounded once to the
// type of arithmetic. 16-bit parameters are updated in float32 and kept so beside (`master`). Cost:
// SGD 3N·4 bytes, with momentum 5N·4, Adam 7N·4 read and written: bandwidth-bound. Norms read N·4,
// in double sums per chunk that one block joins in order.
#include <cmath>

#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "multi_tensor.h"
#include "optim_rules.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <int V, class T>
__device__ __forceinline__ Vector<T, V> load_state(const void* data, int64_t i) {
  if (!data) return Vector<T, V>{};
  return load_vector<V>(static_cast<const T*>(data) + i);
}

template <int V, class T>
__device__ __forceinline__ void store_state(void* data, int64_t i, const Vector<T, V>& v) {
  if (data) store_global(static_cast<T*>(data) + i, v);
}

template <int V, class A, class Rule>
__device__ __forceinline__ void update_part(const Scalars<A>& s, const OptimTensor& t, DType dtype,
                                            int64_t i) {
  A p[V], g[V];
  load_elements<V>(t.param, i, dtype, p);
  load_elements<V>(t.grad, i, dtype, g);
  Vector<A, V> m = load_state<V, A>(t.first, i), v = load_state<V, A>(t.second, i);
  Vector<A, V> u = load_state<V, A>(t.third, i), master = load_state<V, A>(t.master, i);
  const Present has{t.first != nullptr, t.third != nullptr};
#pragma unroll
  for (int j = 0; j < V; ++j) {
    State<A> x{p[j], g[j], m[j], v[j], u[j]};
    if constexpr (same_type<A, float>) {
      if (t.master && rounded(master[j], dtype) == x.param) x.param = master[j];
    }
    Rule::update(s, has, x);
    p[j] = master[j] = x.param;
    m[j] = x.first;
    v[j] = x.second;
    u[j] = x.third;
  }
  store_elements<V>(t.param, i, dtype, p);
  store_state<V, A>(t.first, i, m);
  store_state<V, A>(t.second, i, v);
  store_state<V, A>(t.third, i, u);
  store_state<V, A>(t.master, i, master);
}

// What a block finds out once.
template <class A>
struct Prepared {
  Scalars<A> scalars;
  bool skipped;
};

__device__ __forceinline__ bool is_set(const int32_t* flag) { return flag && *flag != 0; }

template <class A, class Rule>
__global__ void __launch_bounds__(kBlock)
    update_kernel(const __grid_constant__ Table table, const DType dtype, const double* hyper,
                  const int options, const int32_t* found) {
  Prepared<A>& shared = shared_memory<Prepared<A>>();
  if (threadIdx.x == 0) {
    Scalars<A> made(hyper, options);
    Rule::prepare(made, hyper, options);
    shared.scalars = made;
    shared.skipped = is_set(found);
  }
  __syncthreads();
  if (shared.skipped) return;
  const Scalars<A> scalars = shared.scalars;
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor tensor = table.tensors[which];
  visit_chunk<kWidth<A>>(tensor, blockIdx.x - table.first_chunk[which], [&](auto width, int64_t i) {
    update_part<decltype(width)::value, A, Rule>(scalars, tensor, dtype, i);
  });
}

__global__ void __launch_bounds__(1) advance_kernel(double* hyper, const int32_t* found) {
  if (!is_set(found)) hyper[kStep] += 1.0;
}

template <class Rule>
void launch_updates(Stream& stream, const OptimTensor* tensors, int count, DType dtype,
                    const View& hyper, int options, const int32_t* found) {
  const bool served = with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kChunk<A>, [&](const Table& table, int64_t chunks) {
      launch(stream, "optimizer", update_kernel<A, Rule>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), sizeof(Prepared<A>), table, dtype,
             static_cast<const double*>(hyper.data), options, found);
    });
  });
  if (!served) fail("optimizer: takes floating dtypes, got %s", dtype_name(dtype));
}

void update(Stream& stream, UpdateRule rule, const OptimTensor* tensors, int count, DType dtype,
            const View& hyper, int options, const int32_t* found) {
  switch (rule) {
    case UpdateRule::sgd:
      if (options & kClassical) {
        return launch_updates<ClassicalSgd>(stream, tensors, count, dtype, hyper, options, found);
      }
      return launch_updates<Sgd>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::adam:
      return launch_updates<Adam>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::rmsprop:
      return launch_updates<RmsProp>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::adagrad:
      return launch_updates<Adagrad>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::adadelta:
      return launch_updates<Adadelta>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::lion:
      return launch_updates<Lion>(stream, tensors, count, dtype, hyper, options, found);
    case UpdateRule::average:
      return launch_updates<Average>(stream, tensors, count, dtype, hyper, options, found);
  }
}

void advance(Stream& stream, const View& hyper, const int32_t* found) {
  launch(stream, "optim_advance", advance_kernel, dim3(1), dim3(1), 0,
         static_cast<double*>(hyper.data), found);
}

// How a norm joins its terms.
struct Norm {
  double p;
  bool infinite;

  __device__ __forceinline__ bool has_powers() const { return !infinite && p != 1.0 && p != 2.0; }
  // Of a norm without powers.
  __device__ __forceinline__ double term(double x) const {
    return p == 2.0 ? x * x : x < 0.0 ? -x : x;
  }
  __device__ __forceinline__ void operator()(double& into, const double& from) const {
    if (!infinite) {
      into += from;
    } else if (from > into || from != from) {
      into = from;
    }
  }
};

template <class A>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    norm_partials_kernel(const __grid_constant__ Table table, const DType dtype, const Norm norm,
                         double* partials) {
  constexpr int V = kWidth<A>;
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor& tensor = table.tensors[which];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.first_chunk[which]) * kNormChunk;
  const int64_t end = begin + kNormChunk < tensor.n ? begin + kNormChunk : tensor.n;
  const bool vector = reinterpret_cast<uintptr_t>(tensor.grad) % 16 == 0;
  double total = 0.0;
  if (norm.has_powers()) {
#pragma unroll 1
    for (int64_t i = begin + threadIdx.x; i < end; i += kReduceBlock) {
      const double x = static_cast<double>(load_as<A>(tensor.grad, i, dtype));
      norm(total, m_pow(x < 0.0 ? -x : x, norm.p));
    }
  } else {
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x * V; i < end; i += kReduceBlock * V) {
      A x[V] = {};
      if (vector && i + V <= end) {
        load_elements<V>(tensor.grad, i, dtype, x);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          if (i + j < end) x[j] = load_as<A>(tensor.grad, i + j, dtype);
        }
      }
#pragma unroll
      for (int j = 0; j < V; ++j) norm(total, norm.term(static_cast<double>(x[j])));
    }
  }
  total = reduce_group(total, kReduceBlock, shared_memory<GroupSlots<double>>(), norm);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock, kReduceBlocks)
    norm_total_kernel(const double* partials, int64_t count, const Norm norm, T* result) {
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kReduceBlock) norm(total, partials[i]);
  total = reduce_group(total, kReduceBlock, shared_memory<GroupSlots<double>>(), norm);
  if (threadIdx.x != 0) return;
  if (!norm.infinite && norm.p != 1.0) {
    total = norm.p == 2.0 ? m_sqrt(total) : m_pow(total, 1.0 / norm.p);
  }
  *result = static_cast<T>(total);
}

Norm norm_of(double p) { return {p, p > 1e300}; }

void norm_partials(Stream& stream, const OptimTensor* tensors, int count, DType dtype, double p,
                   double* partials) {
  double* next = partials;
  with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kNormChunk, [&](const Table& table, int64_t chunks) {
      launch(stream, "norm_partials", norm_partials_kernel<A>, dim3(static_cast<unsigned>(chunks)),
             dim3(kReduceBlock), sizeof(GroupSlots<double>), table, dtype, norm_of(p), next);
      next += chunks;
    });
  });
}

void norm_total(Stream& stream, const double* partials, int64_t count, double p, const View& norm) {
  const auto total = [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "norm_total", norm_total_kernel<T>, dim3(1), dim3(kReduceBlock),
           sizeof(GroupSlots<double>), partials, count, norm_of(p), static_cast<T*>(norm.data));
  };
  norm.dtype == DType::float64 ? total(double{}) : total(float{});
}

template <class A>
struct Scaling {
  A factor;
  __device__ __forceinline__ A operator()(A x) const { return x * factor; }
};

template <class A>
struct Clamping {
  A limit;
  __device__ __forceinline__ A operator()(A x) const {
    const A below = x > limit ? limit : x;
    return below < -limit ? -limit : below;
  }
};

template <class A>
__global__ void __launch_bounds__(kBlock)
    scale_kernel(const __grid_constant__ Table table, const DType dtype, const void* norm,
                 const bool wide, const double limit) {
  const double size = wide ? *static_cast<const double*>(norm)
                           : static_cast<double>(*static_cast<const float*>(norm));
  const double ratio = limit / (size + 1e-6);
  change_chunk<A>(table, dtype, Scaling<A>{static_cast<A>(ratio > 1.0 ? 1.0 : ratio)});
}

template <class A>
__global__ void __launch_bounds__(kBlock)
    clamp_kernel(const __grid_constant__ Table table, const DType dtype, const double limit) {
  change_chunk<A>(table, dtype, Clamping<A>{static_cast<A>(limit)});
}

void scale(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& norm,
           double limit) {
  with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kChunk<A>, [&](const Table& table, int64_t chunks) {
      launch(stream, "scale_gradients", scale_kernel<A>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), 0, table, dtype, norm.data, norm.dtype == DType::float64, limit);
    });
  });
}

void clamp(Stream& stream, const OptimTensor* tensors, int count, DType dtype, double limit) {
  with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kChunk<A>, [&](const Table& table, int64_t chunks) {
      launch(stream, "clamp_gradients", clamp_kernel<A>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), 0, table, dtype, limit);
    });
  });
}

}  // namespace

const OptimFamily optim_family = {update, advance, norm_partials, norm_total, scale, clamp};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
