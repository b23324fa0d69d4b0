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

// 16 bytes of storage: four float32, or eight of a 16-bit type.
using Piece = Vector<uint32_t, 4>;

__device__ __forceinline__ Piece load_piece(const void* data, int64_t i, bool wide) {
  return load_vector<4>(
      reinterpret_cast<const uint32_t*>(static_cast<const char*>(data) + i * (wide ? 4 : 2)));
}

__device__ __forceinline__ float low_half(uint32_t word, bool brain) {
  return brain ? __uint_as_float(word << 16)
               : to_float(Float16{static_cast<uint16_t>(word & 0xffff)});
}
__device__ __forceinline__ float high_half(uint32_t word, bool brain) {
  return brain ? __uint_as_float(word & 0xffff0000u)
               : to_float(Float16{static_cast<uint16_t>(word >> 16)});
}

// Eight elements from two pieces of float32, or one of a 16-bit type.
__device__ __forceinline__ void unpack(const Piece (&piece)[2], DType dtype, float (&x)[8]) {
  if (dtype == DType::float32) {
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = __uint_as_float(piece[j / 4][j % 4]);
    return;
  }
  const bool brain = dtype == DType::bfloat16;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    x[2 * j] = low_half(piece[0][j], brain);
    x[2 * j + 1] = high_half(piece[0][j], brain);
  }
}

// Eight neighbours as they lie in memory, for unpack; their address is a multiple of 16.
__device__ __forceinline__ void load_eight(const void* data, int64_t i, DType dtype,
                                           Piece (&piece)[2]) {
  const bool wide = dtype == DType::float32;
  piece[0] = load_piece(data, i, wide);
  if (wide) piece[1] = load_piece(data, i + 4, true);
}

template <class T>
__device__ __forceinline__ Piece pack_halves(const float (&x)[8]) {
  Piece piece;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint32_t low = from_float<T>(x[2 * j]).bits, high = from_float<T>(x[2 * j + 1]).bits;
    piece[j] = low | high << 16;
  }
  return piece;
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

// Element i of an array whose dtype is known at run time only, in its wide arithmetic A: float for
// the types up to 32 bits, double, or int64 for all integers. Kernels that are bound by memory take
// dtypes so, and are compiled once for each A.
template <class A>
__device__ __forceinline__ A load_as(const void* data, int64_t i, DType dtype) {
  if constexpr (same_type<A, float>) {
    if (dtype == DType::float32) return static_cast<const float*>(data)[i];
    const uint16_t bits = static_cast<const uint16_t*>(data)[i];
    return dtype == DType::bfloat16 ? to_float(BFloat16{bits}) : to_float(Float16{bits});
  } else if constexpr (same_type<A, double>) {
    return static_cast<const double*>(data)[i];
  } else {
    if (dtype == DType::int64) return static_cast<const int64_t*>(data)[i];
    if (dtype == DType::int32) return static_cast<const int32_t*>(data)[i];
    const uint8_t byte = static_cast<const uint8_t*>(data)[i];
    return dtype == DType::boolean ? byte != 0 : byte;
  }
}

template <class A>
__device__ __forceinline__ void store_as(void* data, int64_t i, DType dtype, A value) {
  if (dtype == DType::boolean) {
    static_cast<uint8_t*>(data)[i] = value != A(0);
  } else if constexpr (same_type<A, float>) {
    if (dtype == DType::float32) {
      static_cast<float*>(data)[i] = value;
    } else if (dtype == DType::bfloat16) {
      static_cast<BFloat16*>(data)[i] = from_float<BFloat16>(value);
    } else {
      static_cast<Float16*>(data)[i] = from_float<Float16>(value);
    }
  } else if constexpr (same_type<A, double>) {
    static_cast<double*>(data)[i] = value;
  } else if (dtype == DType::int64) {
    static_cast<int64_t*>(data)[i] = value;
  } else if (dtype == DType::int32) {
    static_cast<int32_t*>(data)[i] = static_cast<int32_t>(value);
  } else {
    static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(value);
  }
}

// Calls f(A{}) with that arithmetic of a floating dtype; false, and no call, for the others.
template <class F>
inline bool with_float_arith(DType dtype, F&& f) {
  if (!is_float(dtype)) return false;
  dtype == DType::float64 ? f(double{}) : f(float{});
  return true;
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
