// The m_* functions that core/elementwise.h calls, for float and double: CUDA's own on the device,
// the C library's under emulation. No fast-math forms: full range, errors of a few ulp.
// (Not named math.h: with this folder on the include path, <math.h> would find it.)
#pragma once

#include "device.h"
#include "numbers.h"

#ifdef NODEGRAD_EMULATED
#include <cmath>
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

#define NODEGRAD_MATH_1(name, float_form, double_form)                       \
  __device__ __forceinline__ float name(float x) { return ::float_form(x); } \
  __device__ __forceinline__ double name(double x) { return ::double_form(x); }

NODEGRAD_MATH_1(m_exp, expf, exp)
NODEGRAD_MATH_1(m_expm1, expm1f, expm1)
NODEGRAD_MATH_1(m_log, logf, log)
NODEGRAD_MATH_1(m_log1p, log1pf, log1p)
NODEGRAD_MATH_1(m_sqrt, sqrtf, sqrt)
NODEGRAD_MATH_1(m_tanh, tanhf, tanh)
NODEGRAD_MATH_1(m_sin, sinf, sin)
NODEGRAD_MATH_1(m_cos, cosf, cos)
NODEGRAD_MATH_1(m_erf, erff, erf)
NODEGRAD_MATH_1(m_floor, floorf, floor)
NODEGRAD_MATH_1(m_ceil, ceilf, ceil)
NODEGRAD_MATH_1(m_round, rintf, rint)
NODEGRAD_MATH_1(m_trunc, truncf, trunc)
NODEGRAD_MATH_1(m_exp2, exp2f, exp2)
NODEGRAD_MATH_1(m_log2, log2f, log2)
NODEGRAD_MATH_1(m_log10, log10f, log10)
NODEGRAD_MATH_1(m_tan, tanf, tan)
NODEGRAD_MATH_1(m_asin, asinf, asin)
NODEGRAD_MATH_1(m_acos, acosf, acos)
NODEGRAD_MATH_1(m_atan, atanf, atan)
NODEGRAD_MATH_1(m_sinh, sinhf, sinh)
NODEGRAD_MATH_1(m_cosh, coshf, cosh)
NODEGRAD_MATH_1(m_asinh, asinhf, asinh)
NODEGRAD_MATH_1(m_acosh, acoshf, acosh)
NODEGRAD_MATH_1(m_atanh, atanhf, atanh)
NODEGRAD_MATH_1(m_erfc, erfcf, erfc)
#undef NODEGRAD_MATH_1

__device__ __forceinline__ float m_pow(float a, float b) { return ::powf(a, b); }
__device__ __forceinline__ double m_pow(double a, double b) { return ::pow(a, b); }
__device__ __forceinline__ float m_atan2(float y, float x) { return ::atan2f(y, x); }
__device__ __forceinline__ double m_atan2(double y, double x) { return ::atan2(y, x); }
__device__ __forceinline__ float m_hypot(float x, float y) { return ::hypotf(x, y); }
__device__ __forceinline__ double m_hypot(double x, double y) { return ::hypot(x, y); }

// Remainders and quotients. Integers divided by 0 give 0, and the smallest one divided by -1
// wraps.
__device__ __forceinline__ float m_fmod(float a, float b) { return ::fmodf(a, b); }
__device__ __forceinline__ double m_fmod(double a, double b) { return ::fmod(a, b); }
template <class I>
__device__ __forceinline__ I m_fmod(I a, I b) {
  const bool trivial = b == I(0) || b == static_cast<I>(-1);
  return trivial ? I(0) : static_cast<I>(a % b);
}

// By squaring, wrapping; a negative power of 1 or -1 is one of them, of others 0.
template <class I>
__device__ __forceinline__ I m_pow(I a, I b) {
  const bool odd = b % 2 != 0;
  if (b < I(0)) {
    return a == I(1) || (a == static_cast<I>(-1) && !odd) ? I(1)
           : a == static_cast<I>(-1)                      ? a
                                                          : I(0);
  }
  uint64_t product = 1, factor = static_cast<uint64_t>(a);
  for (uint64_t rest = static_cast<uint64_t>(b); rest != 0; rest >>= 1) {
    if (rest & 1) product *= factor;
    factor *= factor;
  }
  return static_cast<I>(product);
}

// With the sign of b.
template <class T>
__device__ __forceinline__ T m_remainder(T a, T b) {
  const T rest = m_fmod(a, b);
  return rest != T(0) && (rest < T(0)) != (b < T(0)) ? static_cast<T>(rest + b) : rest;
}

// floor(a / b) from the exact remainder, as PyTorch has it.
template <class T>
__device__ __forceinline__ T m_floor_divide(T a, T b) {
  if constexpr (is_real<T>) {
    if (b == T(0)) return a / b;
    const T rest = m_fmod(a, b);
    T quotient = (a - rest) / b;
    if (rest != T(0) && (rest < T(0)) != (b < T(0))) quotient -= T(1);
    const T down = m_floor(quotient);
    return quotient - down > T(0.5) ? down + T(1) : down;
  } else {
    if (b == T(0)) return T(0);
    if (b == static_cast<T>(-1)) return static_cast<T>(T(0) - a);
    const T quotient = static_cast<T>(a / b);
    return a % b != 0 && (a < T(0)) != (b < T(0)) ? static_cast<T>(quotient - 1) : quotient;
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
