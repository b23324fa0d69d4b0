// Gradient scaling: x ← x·(1/scale) with a flag for what is not finite, and copies that the flag
// decides. 16-bit gradients compute in float32. The flag is set by an integer atomic, once a block.
// Cost: unscale N·size bytes read + written: bandwidth-bound. copy_if reads 4 bytes a block where
// the flag is not set.
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kVectors = 2;  // of 16 bytes, per thread

// x/scale as it is stored, and whether that is not finite.
template <class T>
__device__ __forceinline__ T unscaled(T x, Arith<T> inverse, bool& wild) {
  const T y = from_arith<T>(to_arith(x) * inverse);
  const Arith<T> stored = to_arith(y);
  wild = wild || !(stored - stored == Arith<T>(0));
  return y;
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    unscale_kernel(T* x, const bool vector, int64_t n, const float* scale, int32_t* found) {
  constexpr int V = kPerVector<T>;
  const Arith<T> inverse = Arith<T>(1) / static_cast<Arith<T>>(*scale);
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kBlock * V * kVectors);
  bool wild = false;
#pragma unroll
  for (int u = 0; u < kVectors; ++u) {
    const int64_t first = base + (u * kBlock + static_cast<int>(threadIdx.x)) * V;
    if (vector && first + V <= n) {
      Vector<T, V> packed = load_vector<V>(static_cast<const T*>(x) + first);
#pragma unroll
      for (int j = 0; j < V; ++j) packed[j] = unscaled<T>(packed[j], inverse, wild);
      store_global(x + first, packed);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if (first + j < n) x[first + j] = unscaled<T>(x[first + j], inverse, wild);
      }
    }
  }
  const int any = __syncthreads_or(wild ? 1 : 0);
  if (any && threadIdx.x == 0) atomicOr(found, 1);
}

__global__ void __launch_bounds__(kBlock)
    copy_if_kernel(char* out, const char* x, const bool vector, int64_t bytes,
                   const int32_t* found) {
  if (*found == 0) return;
  const int64_t base = static_cast<int64_t>(blockIdx.x) * (kBlock * 16 * kVectors);
#pragma unroll
  for (int u = 0; u < kVectors; ++u) {
    const int64_t first = base + (u * kBlock + static_cast<int>(threadIdx.x)) * 16;
    if (vector && first + 16 <= bytes) {
      store_global(out + first, load_vector<16>(x + first));
    } else {
      for (int j = 0; j < 16; ++j) {
        if (first + j < bytes) out[first + j] = x[first + j];
      }
    }
  }
}

dim3 blocks(int64_t n, int64_t per_block) {
  return dim3(static_cast<unsigned>((n + per_block - 1) / per_block));
}

void unscale(Stream& stream, const View& x, const View& scale, const View& found) {
  const int64_t n = element_count(x);
  if (n == 0) return;
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "unscale", unscale_kernel<T>, blocks(n, kBlock * kVectors * kPerVector<T>),
           dim3(kBlock), 0, static_cast<T*>(x.data), is_aligned(x.data, 16), n,
           static_cast<const float*>(scale.data), static_cast<int32_t*>(found.data));
  });
}

void copy_if(Stream& stream, const View& out, const View& x, const View& found) {
  const int64_t bytes = element_count(x) * static_cast<int64_t>(item_size(x.dtype));
  if (bytes == 0) return;
  launch(stream, "copy_if", copy_if_kernel, blocks(bytes, kBlock * 16 * kVectors), dim3(kBlock), 0,
         static_cast<char*>(out.data), static_cast<const char*>(x.data),
         is_aligned(out.data, 16) && is_aligned(x.data, 16), bytes,
         static_cast<const int32_t*>(found.data));
}

}  // namespace

const ScalerFamily scaler_family = {unscale, copy_if};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
