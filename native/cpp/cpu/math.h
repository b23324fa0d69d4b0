// The m_* functions of core/elementwise.h for float and double.
// float: branch-free (range reduction, polynomial, selects), so that GCC vectorises any loop that
// calls them, and without contraction the bits are the same on every instruction set. Polynomials
// are minimax fits of ours with coefficients rounded to float32.
// Largest error in units in the last place against double libm, over every 101st float:
// exp 0.95, expm1 1.41, log 0.79, log1p 1.44, tanh 1.29, erf 1.23.
// sin, cos and pow compute in double through libm; double is libm throughout.
#pragma once

#include <cstdint>

namespace nodegrad::cpu::NODEGRAD_ISA {

#define NODEGRAD_MATH static inline __attribute__((always_inline, unused))

constexpr float kInfinity = __builtin_inff();
constexpr float kNaN = __builtin_nanf("");
constexpr float kLn2High = 0x1.62e4p-1f;  // 15 bits: n·kLn2High is exact
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kRoundToInt = 0x1.8p23f;  // x + this - this rounds x to an integer
constexpr uint32_t kSignBit = 0x80000000u;

NODEGRAD_MATH uint32_t float_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
NODEGRAD_MATH float bits_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
NODEGRAD_MATH float power_of_two(uint32_t n) { return bits_float((n + 127u) << 23); }
NODEGRAD_MATH float with_sign_of(float magnitude, float x) {
  return bits_float(float_bits(magnitude) | (float_bits(x) & kSignBit));
}

// condition ? a : b. Written with masks, since GCC may thread a path through several conditionals
// and then leaves the loop scalar.
NODEGRAD_MATH float blend(bool condition, float a, float b) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return bits_float((float_bits(a) & mask) | (float_bits(b) & ~mask));
}

// exp(r) - 1 for |r| <= ln(2)/2.
NODEGRAD_MATH float expm1_reduced(float r) {
  float q = 0x1.9e75f2p-13f;
  q = q * r + 0x1.6d3d42p-10f;
  q = q * r + 0x1.1112d8p-7f;
  q = q * r + 0x1.5554f6p-5f;
  q = q * r + 0x1.555554p-3f;
  q = q * r + 0.5f;
  return q * (r * r) + r;
}

// x = n·ln2 + r.
struct ExpReduction {
  uint32_t n;
  float r;
};

NODEGRAD_MATH ExpReduction reduce_exp(float x) {
  const float shifted = x * kLog2E + kRoundToInt;
  const float n = shifted - kRoundToInt;
  ExpReduction out;
  out.n = float_bits(shifted) - float_bits(kRoundToInt);
  out.r = (x - n * kLn2High) - n * kLn2Low;
  return out;
}

NODEGRAD_MATH float m_exp(float x) {
  // Beyond these the result is 0 or inf; NaN passes both tests.
  const float c = blend(x > 89.0f, 89.0f, blend(x < -104.0f, -104.0f, x));
  const ExpReduction e = reduce_exp(c);
  // Two factors, so that results near the ends of the range neither overflow early nor round twice.
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(e.n) >> 1);
  return (1.0f + expm1_reduced(e.r)) * power_of_two(half) * power_of_two(e.n - half);
}

NODEGRAD_MATH float m_expm1(float x) {
  const float c = blend(x > 89.0f, 89.0f, blend(x < -20.0f, -20.0f, x));
  const ExpReduction e = reduce_exp(c);
  const float scale = power_of_two(e.n - 1u);
  const float y = 2.0f * (scale * expm1_reduced(e.r) + (scale - 0.5f));
  return blend(x == 0.0f, x, y);
}

NODEGRAD_MATH float m_log(float x) {
  const bool subnormal = x < 0x1p-126f;
  const uint32_t bits = float_bits(subnormal ? x * 0x1p23f : x) - 0x3f3504f3u;  // √½
  const int32_t exponent = (static_cast<int32_t>(bits) >> 23) - (subnormal ? 23 : 0);
  const float e = static_cast<float>(exponent);
  const float f = bits_float((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;  // in [√½ - 1, √2 - 1)
  float p = 0x1.169934p-4f;
  p = p * f + -0x1.e03026p-4f;
  p = p * f + 0x1.e6e458p-4f;
  p = p * f + -0x1.fbbffep-4f;
  p = p * f + 0x1.2331cep-3f;
  p = p * f + -0x1.555f9p-3f;
  p = p * f + 0x1.99a53p-3f;
  p = p * f + -0x1.fffffap-3f;
  p = p * f + 0x1.555546p-2f;
  const float square = f * f;
  const float y = e * kLn2High + (f - (0.5f * square - (square * f * p + e * kLn2Low)));
  const float special = blend(x == 0.0f, -kInfinity, blend(x > 0.0f, x, kNaN));
  return blend((x > 0.0f) & (x < kInfinity), y, special);
}

// log(1 + x) = log(u) + (x - (u - 1)) / u with u = 1 + x rounded.
NODEGRAD_MATH float m_log1p(float x) {
  const float u = 1.0f + x;
  const float correction = (x - (u - 1.0f)) / u;
  const float y = m_log(u);
  const float corrected = blend(u == 1.0f, correction, y + correction);
  return blend((u > 0.0f) & (u < kInfinity), corrected, y);
}

NODEGRAD_MATH float m_tanh(float x) {
  const float a = __builtin_fabsf(x);
  const float s = a * a;
  float p = -0x1.756d14p-8f;
  p = p * s + 0x1.520a3ap-6f;
  p = p * s + -0x1.b83792p-5f;
  p = p * s + 0x1.1106fep-3f;
  p = p * s + -0x1.555532p-2f;
  const float small = p * s * a + a;
  const float large = 1.0f - 2.0f / (m_exp(a + a) + 1.0f);
  return with_sign_of(blend(a < 0.625f, small, large), x);
}

// |x| < 0.9: x + x·P(x²); beyond: 1 - exp(-G(|x|)) with G fitted to -log(erfc), constant from 4 on.
NODEGRAD_MATH float m_erf(float x) {
  const float a = __builtin_fabsf(x);
  const float s = a * a;
  float p = -0x1.3ca47p-11f;
  p = p * s + 0x1.47d4d2p-8f;
  p = p * s + -0x1.b6a412p-6f;
  p = p * s + 0x1.ce1c02p-4f;
  p = p * s + -0x1.8126eep-2f;
  p = p * s + 0x1.06eba6p-3f;
  const float small = p * a + a;
  const float t = blend(a > 4.0f, 4.0f, a);
  float g = -0x1.a458bcp-13f;
  g = g * t + 0x1.949d08p-9f;
  g = g * t + -0x1.6efe76p-6f;
  g = g * t + 0x1.ab279ap-4f;
  g = g * t + 0x1.460878p-1f;
  g = g * t + 0x1.20beaep+0f;
  g = g * t + 0x1.253642p-13f;
  const float large = 1.0f - m_exp(-g);
  return with_sign_of(blend(a < 0.9f, small, large), x);
}

NODEGRAD_MATH float m_sqrt(float x) { return __builtin_sqrtf(x); }
NODEGRAD_MATH float m_floor(float x) { return __builtin_floorf(x); }
NODEGRAD_MATH float m_ceil(float x) { return __builtin_ceilf(x); }
NODEGRAD_MATH float m_round(float x) { return __builtin_rintf(x); }
NODEGRAD_MATH float m_trunc(float x) { return __builtin_truncf(x); }
NODEGRAD_MATH float m_sin(float x) { return static_cast<float>(__builtin_sin(x)); }
NODEGRAD_MATH float m_cos(float x) { return static_cast<float>(__builtin_cos(x)); }
NODEGRAD_MATH float m_pow(float x, float y) { return static_cast<float>(__builtin_pow(x, y)); }

NODEGRAD_MATH double m_exp(double x) { return __builtin_exp(x); }
NODEGRAD_MATH double m_expm1(double x) { return __builtin_expm1(x); }
NODEGRAD_MATH double m_log(double x) { return __builtin_log(x); }
NODEGRAD_MATH double m_log1p(double x) { return __builtin_log1p(x); }
NODEGRAD_MATH double m_tanh(double x) { return __builtin_tanh(x); }
NODEGRAD_MATH double m_erf(double x) { return __builtin_erf(x); }
NODEGRAD_MATH double m_sqrt(double x) { return __builtin_sqrt(x); }
NODEGRAD_MATH double m_floor(double x) { return __builtin_floor(x); }
NODEGRAD_MATH double m_ceil(double x) { return __builtin_ceil(x); }
NODEGRAD_MATH double m_round(double x) { return __builtin_rint(x); }
NODEGRAD_MATH double m_trunc(double x) { return __builtin_trunc(x); }
NODEGRAD_MATH double m_sin(double x) { return __builtin_sin(x); }
NODEGRAD_MATH double m_cos(double x) { return __builtin_cos(x); }
NODEGRAD_MATH double m_pow(double x, double y) { return __builtin_pow(x, y); }

#undef NODEGRAD_MATH

}  // namespace nodegrad::cpu::NODEGRAD_ISA
