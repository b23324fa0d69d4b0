// Many tensors a launch: their table travels in the kernel's parameters, and blocks take chunks of
// equal size across them. A launch's tensors have one dtype, known at run time; 16-bit ones are
// loaded as float32, so that kernels are compiled once for each type of arithmetic A.
#pragma once

#include "core/families/optim.h"
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

// Changes the elements of `param` in this block's chunk by x = f(x).
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

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
