// The m_* functions that core/elementwise.h calls, for float and double: CUDA's own on the device,
// the C library's under emulation. No fast-math forms: full range, errors of a few ulp.
// (Not named math.h: with this folder on the include path, <math.h> would find it.)
#pragma once

#include "device.h"

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
#undef NODEGRAD_MATH_1

__device__ __forceinline__ float m_pow(float a, float b) { return ::powf(a, b); }
__device__ __forceinline__ double m_pow(double a, double b) { return ::pow(a, b); }

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
