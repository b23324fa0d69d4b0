// Constants and ranges: out[i] = value, and out[i] = start + i·step (in double, or int64, then
// rounded to out's dtype).
// Cost: size bytes per element written: bandwidth-bound, floor N·size / bandwidth.
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kVectors = 2;  // of 16 bytes, per thread

template <class T>
__global__ void __launch_bounds__(kBlock)
    fill_kernel(const Scalar scalar, T* out, const bool vector, int64_t n) {
  constexpr int V = kPerVector<T>;
  const T value = from_arith<T>(scalar_as<Arith<T>>(scalar));
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kBlock * V * kVectors);
  Vector<T, V> packed;
#pragma unroll
  for (int j = 0; j < V; ++j) packed[j] = value;
#pragma unroll
  for (int u = 0; u < kVectors; ++u) {
    const int64_t first = base + (u * kBlock + static_cast<int>(threadIdx.x)) * V;
    if (vector && first + V <= n) {
      store_global(out + first, packed);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if (first + j < n) out[first + j] = value;
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    arange_kernel(const Scalar start, const Scalar step, T* out, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  if constexpr (is_real<Arith<T>>) {
    out[i] = from_arith<T>(start.real + static_cast<double>(i) * step.real);
  } else {
    const uint64_t offset = static_cast<uint64_t>(i) * static_cast<uint64_t>(step.integer);
    const uint64_t sum = static_cast<uint64_t>(start.integer) + offset;
    out[i] = from_arith<T>(static_cast<int64_t>(sum));
  }
}

dim3 blocks(int64_t n, int64_t per_block) {
  return dim3(static_cast<unsigned>((n + per_block - 1) / per_block));
}

void fill(Stream& stream, const View& out, Scalar value) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "fill", fill_kernel<T>, blocks(n, kBlock * kVectors * kPerVector<T>),
           dim3(kBlock), 0, value, static_cast<T*>(out.data), is_aligned(out.data, 16), n);
  });
}

void arange(Stream& stream, const View& out, Scalar start, Scalar step) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "arange", arange_kernel<T>, blocks(n, kBlock), dim3(kBlock), 0, start, step,
           static_cast<T*>(out.data), n);
  });
}

}  // namespace

const FillFamily fill_family = {fill, arange};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
