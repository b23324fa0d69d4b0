// Updates of many tensors a launch, by the rules of optim_rules.h; norms and bounds of gradients.
// The tensors' table travels in the kernel's parameters, and blocks take chunks of equal size
// across them. Hyper-parameters are read from device memory when the kernel runs; scalars are
// formed in double, once a block, and rounded once to the type of arithmetic. 16-bit parameters are
// updated in float32 and kept so beside (`master`). Cost: SGD 3N·4 bytes, with momentum 5N·4, Adam
// 7N·4 read and written: bandwidth-bound. Norms read N·4, in double sums per chunk that one block
// joins in order.
#include <cmath>

#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "optim_rules.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kVectorsPerThread = 4;
constexpr int kTensorsPerLaunch = 60;

struct Table {
  OptimTensor tensors[kTensorsPerLaunch];
  uint32_t first_chunk[kTensorsPerLaunch];
  int32_t count;
};
static_assert(sizeof(Table) + 64 <= 4096, "kernel parameters hold 4 KB");

// Elements that a thread moves at once: 16 bytes of what it computes in (A: float, or double).
template <class A>
inline constexpr int kWidth = kPerVector<A>;

template <class A>
inline constexpr int kChunk = kBlock * kVectorsPerThread * kWidth<A>;

// V neighbours of a parameter or its gradient, whose dtype is known at run time only.
template <int V, class A>
__device__ __forceinline__ void load_elements(const void* data, int64_t i, DType dtype, A (&x)[V]) {
  if constexpr (same_type<A, float>) {
    if (dtype != DType::float32) {
      const auto bits = load_vector<V>(static_cast<const uint16_t*>(data) + i);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        x[j] = dtype == DType::bfloat16 ? to_float(BFloat16{bits[j]}) : to_float(Float16{bits[j]});
      }
      return;
    }
  }
  const auto loaded = load_vector<V>(static_cast<const A*>(data) + i);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] = loaded[j];
}

template <int V, class A>
__device__ __forceinline__ void store_elements(void* data, int64_t i, DType dtype,
                                               const A (&x)[V]) {
  if constexpr (same_type<A, float>) {
    if (dtype != DType::float32) {
      Vector<uint16_t, V> bits;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        bits[j] = dtype == DType::bfloat16 ? from_float<BFloat16>(x[j]).bits
                                           : from_float<Float16>(x[j]).bits;
      }
      store_global(static_cast<uint16_t*>(data) + i, bits);
      return;
    }
  }
  Vector<A, V> packed;
#pragma unroll
  for (int j = 0; j < V; ++j) packed[j] = x[j];
  store_global(static_cast<A*>(data) + i, packed);
}

// x as the dtype has it.
__device__ __forceinline__ float rounded(float x, DType dtype) {
  return dtype == DType::bfloat16 ? to_float(from_float<BFloat16>(x))
                                  : to_float(from_float<Float16>(x));
}

// The tensor whose chunks include `chunk`.
__device__ __forceinline__ int tensor_of(const Table& table, uint32_t chunk) {
  int low = 0;
  for (int high = table.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    if (table.first_chunk[middle] <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

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

// Calls f(Width<V>{}, i) for the elements of this block's chunk; `chunk` is its number in the
// tensor. Vectors where all addresses are multiples of 16 bytes.
template <int V, class F>
__device__ __forceinline__ void visit_chunk(const OptimTensor& t, uint32_t chunk, const F& f) {
  const uintptr_t addresses =
      reinterpret_cast<uintptr_t>(t.param) | reinterpret_cast<uintptr_t>(t.grad) |
      reinterpret_cast<uintptr_t>(t.first) | reinterpret_cast<uintptr_t>(t.second) |
      reinterpret_cast<uintptr_t>(t.third) | reinterpret_cast<uintptr_t>(t.master);
  const bool vector = addresses % 16 == 0;
  const int64_t base = static_cast<int64_t>(chunk) * (kBlock * kVectorsPerThread * V);
#pragma unroll 1
  for (int u = 0; u < kVectorsPerThread; ++u) {
    const int64_t first = base + (u * kBlock + static_cast<int>(threadIdx.x)) * V;
    if (vector && first + V <= t.n) {
      f(Width<V>{}, first);
    } else {
      for (int j = 0; j < V; ++j) {
        if (first + j < t.n) f(Width<1>{}, first + j);
      }
    }
  }
}

template <class A, class Rule>
__global__ void __launch_bounds__(kBlock)
    update_kernel(const __grid_constant__ Table table, const DType dtype, const double* hyper,
                  const int options) {
  using Shared = Scalars<A>;
  Shared& shared = shared_memory<Shared>();
  if (threadIdx.x == 0) {
    Shared made(hyper, options);
    Rule::prepare(made, hyper, options);
    shared = made;
  }
  __syncthreads();
  const Shared scalars = shared;
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor tensor = table.tensors[which];
  visit_chunk<kWidth<A>>(tensor, blockIdx.x - table.first_chunk[which], [&](auto width, int64_t i) {
    update_part<decltype(width)::value, A, Rule>(scalars, tensor, dtype, i);
  });
}

__global__ void __launch_bounds__(1) advance_kernel(double* hyper) { hyper[kStep] += 1.0; }

// Calls flush(table, chunks) with as many tensors as fit a launch.
template <class F>
void for_tables(const OptimTensor* tensors, int count, int64_t per_chunk, const F& flush) {
  Table table{};
  int64_t chunks = 0;
  const auto finish = [&] {
    if (table.count > 0) flush(table, chunks);
    table.count = 0;
    chunks = 0;
  };
  for (int i = 0; i < count; ++i) {
    if (tensors[i].n == 0) continue;
    const int64_t more = (tensors[i].n + per_chunk - 1) / per_chunk;
    if (table.count == kTensorsPerLaunch || chunks + more > INT32_MAX) finish();
    table.tensors[table.count] = tensors[i];
    table.first_chunk[table.count] = static_cast<uint32_t>(chunks);
    ++table.count;
    chunks += more;
  }
  finish();
}

template <class Rule>
void launch_updates(Stream& stream, const OptimTensor* tensors, int count, DType dtype,
                    const View& hyper, int options) {
  const bool served = with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kChunk<A>, [&](const Table& table, int64_t chunks) {
      launch(stream, "optimizer", update_kernel<A, Rule>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), sizeof(Scalars<A>), table, dtype, static_cast<const double*>(hyper.data),
             options);
    });
  });
  if (!served) fail("optimizer: takes floating dtypes, got %s", dtype_name(dtype));
}

void update(Stream& stream, UpdateRule rule, const OptimTensor* tensors, int count, DType dtype,
            const View& hyper, int options) {
  switch (rule) {
    case UpdateRule::sgd:
      if (options & kClassical) {
        return launch_updates<ClassicalSgd>(stream, tensors, count, dtype, hyper, options);
      }
      return launch_updates<Sgd>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::adam:
      return launch_updates<Adam>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::rmsprop:
      return launch_updates<RmsProp>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::adagrad:
      return launch_updates<Adagrad>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::adadelta:
      return launch_updates<Adadelta>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::lion:
      return launch_updates<Lion>(stream, tensors, count, dtype, hyper, options);
    case UpdateRule::average:
      return launch_updates<Average>(stream, tensors, count, dtype, hyper, options);
  }
}

void advance(Stream& stream, const View& hyper) {
  launch(stream, "optim_advance", advance_kernel, dim3(1), dim3(1), 0,
         static_cast<double*>(hyper.data));
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
__global__ void __launch_bounds__(kReduceBlock)
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
__global__ void __launch_bounds__(kReduceBlock)
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

template <class A, class F>
__device__ __forceinline__ void change_chunk(const Table& table, DType dtype, const F& f) {
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor& tensor = table.tensors[which];
  visit_chunk<kWidth<A>>(tensor, blockIdx.x - table.first_chunk[which], [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    A x[V];
    load_elements<V>(tensor.param, i, dtype, x);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] = f(x[j]);
    store_elements<V>(tensor.param, i, dtype, x);
  });
}

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
