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

// Elements that a thread moves at once: 16 bytes of what it computes in.
template <class S>
inline constexpr int kWidth = kPerVector<Arith<S>>;

template <class S>
inline constexpr int kChunk = kBlock * kVectorsPerThread * kWidth<S>;

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

template <int V, class S, class Rule>
__device__ __forceinline__ void update_part(const Scalars<Arith<S>>& s, const OptimTensor& t,
                                            int64_t i) {
  using T = Arith<S>;
  S* const param = static_cast<S*>(t.param) + i;
  Vector<S, V> p = load_vector<V>(param);
  const Vector<S, V> g = load_vector<V>(static_cast<const S*>(t.grad) + i);
  Vector<T, V> m = load_state<V, T>(t.first, i), v = load_state<V, T>(t.second, i);
  Vector<T, V> u = load_state<V, T>(t.third, i), master{};
  if constexpr (is_half<S>) master = load_state<V, T>(t.master, i);
  const Present has{t.first != nullptr, t.third != nullptr};
#pragma unroll
  for (int j = 0; j < V; ++j) {
    State<T> x{to_arith(p[j]), to_arith(g[j]), m[j], v[j], u[j]};
    if constexpr (is_half<S>) {
      if (to_arith(from_arith<S>(master[j])) == x.param) x.param = master[j];
    }
    Rule::update(s, has, x);
    p[j] = from_arith<S>(x.param);
    if constexpr (is_half<S>) master[j] = x.param;
    m[j] = x.first;
    v[j] = x.second;
    u[j] = x.third;
  }
  store_global(param, p);
  store_state<V, T>(t.first, i, m);
  store_state<V, T>(t.second, i, v);
  store_state<V, T>(t.third, i, u);
  if constexpr (is_half<S>) store_state<V, T>(t.master, i, master);
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

template <class S, class Rule>
__global__ void __launch_bounds__(kBlock)
    update_kernel(const __grid_constant__ Table table, const double* hyper, const int options) {
  using Shared = Scalars<Arith<S>>;
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
  visit_chunk<kWidth<S>>(tensor, blockIdx.x - table.first_chunk[which], [&](auto width, int64_t i) {
    update_part<decltype(width)::value, S, Rule>(scalars, tensor, i);
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
  const bool served = with_float_type(dtype, [&](auto zero) {
    using S = decltype(zero);
    for_tables(tensors, count, kChunk<S>, [&](const Table& table, int64_t chunks) {
      launch(stream, "optimizer", update_kernel<S, Rule>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), sizeof(Scalars<Arith<S>>), table, static_cast<const double*>(hyper.data),
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

  __device__ __forceinline__ double term(double x) const {
    if (p == 2.0) return x * x;
    const double size = x < 0.0 ? -x : x;
    return infinite || p == 1.0 ? size : m_pow(size, p);
  }
  __device__ __forceinline__ void operator()(double& into, const double& from) const {
    if (!infinite) {
      into += from;
    } else if (from > into || from != from) {
      into = from;
    }
  }
};

template <class S>
__global__ void __launch_bounds__(kReduceBlock)
    norm_partials_kernel(const __grid_constant__ Table table, const Norm norm, double* partials) {
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor& tensor = table.tensors[which];
  const S* const x = static_cast<const S*>(tensor.grad);
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.first_chunk[which]) * kNormChunk;
  const int64_t end = begin + kNormChunk < tensor.n ? begin + kNormChunk : tensor.n;
  double total = 0.0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kReduceBlock) {
    norm(total, norm.term(static_cast<double>(to_arith(x[i]))));
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
  with_float_type(dtype, [&](auto zero) {
    using S = decltype(zero);
    for_tables(tensors, count, kNormChunk, [&](const Table& table, int64_t chunks) {
      launch(stream, "norm_partials", norm_partials_kernel<S>, dim3(static_cast<unsigned>(chunks)),
             dim3(kReduceBlock), sizeof(GroupSlots<double>), table, norm_of(p), next);
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

template <class S, class F>
__device__ __forceinline__ void change_chunk(const Table& table, const F& f) {
  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor& tensor = table.tensors[which];
  visit_chunk<kWidth<S>>(tensor, blockIdx.x - table.first_chunk[which], [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    S* const at = static_cast<S*>(tensor.param) + i;
    Vector<S, V> x = load_vector<V>(at);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] = from_arith<S>(f(to_arith(x[j])));
    store_global(at, x);
  });
}

template <class S>
__global__ void __launch_bounds__(kBlock)
    scale_kernel(const __grid_constant__ Table table, const void* norm, const bool wide,
                 const double limit) {
  const double size = wide ? *static_cast<const double*>(norm)
                           : static_cast<double>(*static_cast<const float*>(norm));
  const double ratio = limit / (size + 1e-6);
  change_chunk<S>(table, Scaling<Arith<S>>{static_cast<Arith<S>>(ratio > 1.0 ? 1.0 : ratio)});
}

template <class S>
__global__ void __launch_bounds__(kBlock)
    clamp_kernel(const __grid_constant__ Table table, const double limit) {
  change_chunk<S>(table, Clamping<Arith<S>>{static_cast<Arith<S>>(limit)});
}

void scale(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& norm,
           double limit) {
  with_float_type(dtype, [&](auto zero) {
    using S = decltype(zero);
    for_tables(tensors, count, kChunk<S>, [&](const Table& table, int64_t chunks) {
      launch(stream, "scale_gradients", scale_kernel<S>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), 0, table, norm.data, norm.dtype == DType::float64, limit);
    });
  });
}

void clamp(Stream& stream, const OptimTensor* tensors, int count, DType dtype, double limit) {
  with_float_type(dtype, [&](auto zero) {
    using S = decltype(zero);
    for_tables(tensors, count, kChunk<S>, [&](const Table& table, int64_t chunks) {
      launch(stream, "clamp_gradients", clamp_kernel<S>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), 0, table, limit);
    });
  });
}

}  // namespace

const OptimFamily optim_family = {update, advance, norm_partials, norm_total, scale, clamp};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
