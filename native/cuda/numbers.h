// Storage and arithmetic types on the device. A kernel loads a storage type T (as many at a time
// as fill 16 bytes), computes in Arith<T> and stores T:
//   float32, bfloat16, float16 -> float; float64 -> double; int64 -> int64; the rest -> int32.
#pragma once

#include "core/view.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// bool's storage: one byte, 0 or 1. A type of its own, so that stores can normalise.
struct Bool8 {
  uint8_t bits;
};

template <class T>
struct ArithOf {
  using type = int32_t;
};
template <>
struct ArithOf<float> {
  using type = float;
};
template <>
struct ArithOf<BFloat16> {
  using type = float;
};
template <>
struct ArithOf<Float16> {
  using type = float;
};
template <>
struct ArithOf<double> {
  using type = double;
};
template <>
struct ArithOf<int64_t> {
  using type = int64_t;
};
template <class T>
using Arith = typename ArithOf<T>::type;

template <class A>
inline constexpr bool is_real = false;
template <>
inline constexpr bool is_real<float> = true;
template <>
inline constexpr bool is_real<double> = true;

template <class A, class B>
inline constexpr bool same_type = false;
template <class A>
inline constexpr bool same_type<A, A> = true;

template <class T>
inline constexpr bool is_half = same_type<T, BFloat16> || same_type<T, Float16>;

template <class T>
__device__ __forceinline__ Arith<T> to_arith(T x) {
  if constexpr (is_half<T>) {
    return to_float(x);
  } else if constexpr (same_type<T, Bool8>) {
    return x.bits != 0;
  } else {
    return static_cast<Arith<T>>(x);
  }
}

// Towards zero; NaN becomes 0 and values out of range the nearest bound, as on the CPU.
template <class T, class A>
__device__ __forceinline__ T to_integer(A x) {
  constexpr bool is_signed = T(-1) < T(0);
  constexpr int bits = 8 * sizeof(T) - is_signed;
  constexpr A above = A(uint64_t{1} << (bits - 1)) * A(2);
  constexpr A low = is_signed ? -above : A(0);
  constexpr T min = is_signed ? T(uint64_t{1} << bits % 64) : T(0);
  constexpr T max = T((uint64_t{1} << bits) - 1);
  if (x >= above) return max;
  if (x <= low) return min;
  return x == x ? static_cast<T>(x) : T(0);
}

// Rounds once; a double becomes a 16-bit type through float, as on the CPU. All but zero is true.
template <class T, class A>
__device__ __forceinline__ T from_arith(A x) {
  if constexpr (is_half<T>) {
    return from_float<T>(static_cast<float>(x));
  } else if constexpr (same_type<T, Bool8>) {
    return Bool8{static_cast<uint8_t>(x != A(0))};
  } else if constexpr (is_real<A> && !is_real<T>) {
    return to_integer<T>(x);
  } else {
    return static_cast<T>(x);
  }
}

template <class A>
__host__ __device__ __forceinline__ A scalar_as(Scalar s) {
  if constexpr (is_real<A>) {
    return static_cast<A>(s.real);
  } else {
    return static_cast<A>(s.integer);
  }
}

template <class T>
inline constexpr int kPerVector = 16 / static_cast<int>(sizeof(T));

// store_vector to global memory as one instruction, whatever the compiler makes of the branches
// around it: it tends to merge and split stores that also stand in a scalar path.
template <class T, int N>
__device__ __forceinline__ void store_global(T* p, const Vector<T, N>& v) {
#ifdef NODEGRAD_EMULATED
  store_vector(p, v);
#else
  if constexpr (sizeof(v) < 8) {
    store_vector(p, v);
  } else {
    constexpr int words = sizeof(v) / 4;
    uint32_t word[words];
    __builtin_memcpy(word, &v, sizeof(v));
    const size_t address = __cvta_generic_to_global(p);
    if constexpr (words == 4) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(word[0]),
                   "r"(word[1]), "r"(word[2]), "r"(word[3])
                   : "memory");
    } else {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(word[0]), "r"(word[1])
                   : "memory");
    }
  }
#endif
}

inline bool is_aligned(const void* p, size_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// Calls f(T{}) with the storage type of `dtype`; one instance of f per type.
template <class F>
inline void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float16:
      return f(Float16{});
    case DType::int32:
      return f(int32_t{});
    case DType::int64:
      return f(int64_t{});
    case DType::uint8:
      return f(uint8_t{});
    case DType::boolean:
      return f(Bool8{});
  }
}

// The same inside kernels.
template <class F>
__device__ __forceinline__ void with_stored_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float16:
      return f(Float16{});
    case DType::int32:
      return f(int32_t{});
    case DType::int64:
      return f(int64_t{});
    case DType::uint8:
      return f(uint8_t{});
    case DType::boolean:
      return f(Bool8{});
  }
}

// with_type for floating types only; false, and no call, for the others.
template <class F>
inline bool with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{}), true;
    case DType::float64:
      return f(double{}), true;
    case DType::bfloat16:
      return f(BFloat16{}), true;
    case DType::float16:
      return f(Float16{}), true;
    default:
      return false;
  }
}

// Calls f(U{}) with an unsigned type of the dtype's size, for kernels that only move.
template <class F>
inline void with_size_of(DType dtype, F&& f) {
  switch (item_size(dtype)) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
