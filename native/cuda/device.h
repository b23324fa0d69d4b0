// What every kernel file includes: the namespace, the block's shared memory, conversions of the
// 16-bit types, vector loads and named barriers. The same source serves nvcc and, with
// NODEGRAD_EMULATED, the host compiler against cuda/emulation.
//
// Conversions round to nearest even; a NaN becomes 0x7fff, as the hardware's cvt instructions do.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

#ifdef NODEGRAD_EMULATED
#define NODEGRAD_CUDA_NAMESPACE emulated
#include "emulation/half.h"
#include "emulation/warp.h"
#else
#define NODEGRAD_CUDA_NAMESPACE cuda
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
#if defined(__CUDACC__) || defined(NODEGRAD_EMULATED)  // else the host code of this folder
// The block's dynamic shared memory as one struct at its base, 1024-byte aligned.
template <class T>
__device__ __forceinline__ T& shared_memory() {
#ifdef NODEGRAD_EMULATED
  return *static_cast<T*>(emulation::shared_base(sizeof(T)));
#else
  extern __shared__ __align__(1024) unsigned char nodegrad_shared_base[];
  return *reinterpret_cast<T*>(nodegrad_shared_base);
#endif
}

__device__ __forceinline__ float to_float(float x) { return x; }

__device__ __forceinline__ float to_float(BFloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

__device__ __forceinline__ float to_float(Float16 x) {
#ifdef NODEGRAD_EMULATED
  return emulation::half_to_float(x.bits);
#else
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
  return f;
#endif
}

template <class T>
__device__ __forceinline__ T from_float(float f);

template <>
__device__ __forceinline__ float from_float<float>(float f) {
  return f;
}

template <>
__device__ __forceinline__ double from_float<double>(float f) {
  return f;
}

template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float f) {
#ifdef NODEGRAD_EMULATED
  return {emulation::float_to_bfloat(f)};
#else
  BFloat16 x;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
  return x;
#endif
}

template <>
__device__ __forceinline__ Float16 from_float<Float16>(float f) {
#ifdef NODEGRAD_EMULATED
  return {emulation::float_to_half(f)};
#else
  Float16 x;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
  return x;
#endif
}

// N consecutive elements that move as one access: N·sizeof(T) is 2, 4, 8 or 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T data[N];
  __device__ __forceinline__ T& operator[](int i) { return data[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return data[i]; }
};

// `p` must be aligned to N·sizeof(T).
template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_vector(const T* p) {
#ifdef NODEGRAD_EMULATED
  emulation::check_aligned(p, sizeof(T) * N);
#endif
  return *reinterpret_cast<const Vector<T, N>*>(p);
}

template <class T, int N>
__device__ __forceinline__ void store_vector(T* p, const Vector<T, N>& v) {
#ifdef NODEGRAD_EMULATED
  emulation::check_aligned(p, sizeof(T) * N);
#endif
  *reinterpret_cast<Vector<T, N>*>(p) = v;
}

// Barriers 1 to 15 among `threads` threads (a multiple of 32) of whole warps; 0 is __syncthreads.
// `arrive` counts the thread in and goes on.
#ifdef NODEGRAD_EMULATED
using emulation::named_barrier_arrive;
using emulation::named_barrier_sync;
#else
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
#endif
#endif
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
