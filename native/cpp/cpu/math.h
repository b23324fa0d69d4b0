// The m_* functions of core/elementwise.h for float and double.
// float: branch-free (range reduction, polynomial, selects), so that GCC vectorises any loop that
// calls them, and without contraction the bits are the same on every instruction set. Polynomials
// are minimax fits of ours with coefficients rounded to float32.
// Largest error in units in the last place against double libm, over every 101st float:
// exp 0.95, expm1 1.41, log 0.79, log1p 1.44, tanh 1.29, erf 1.23; of the others, beside each.
// sin, cos, tan, erfc, pow and atan2 compute in double through libm; double is libm throughout.
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

// 0.94 ulp.
NODEGRAD_MATH float m_exp2(float x) {
  const float c = blend(x > 129.0f, 129.0f, blend(x < -151.0f, -151.0f, x));
  const float shifted = c + kRoundToInt;
  const uint32_t n = float_bits(shifted) - float_bits(kRoundToInt);
  const float r = (c - (shifted - kRoundToInt)) * 0x1.62e43p-1f;
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(n) >> 1);
  return (1.0f + expm1_reduced(r)) * power_of_two(half) * power_of_two(n - half);
}

NODEGRAD_MATH float m_expm1(float x) {
  const float c = blend(x > 89.0f, 89.0f, blend(x < -20.0f, -20.0f, x));
  const ExpReduction e = reduce_exp(c);
  const float scale = power_of_two(e.n - 1u);
  const float y = 2.0f * (scale * expm1_reduced(e.r) + (scale - 0.5f));
  return blend(x == 0.0f, x, y);
}

// x = 2^e · (1 + f) with 1 + f in [√½, √2), for x > 0; log1p(f) = f - tail.
struct LogReduction {
  float e, f, half_square, rest;
};

NODEGRAD_MATH LogReduction reduce_log(float x) {
  const bool subnormal = x < 0x1p-126f;
  const uint32_t bits = float_bits(subnormal ? x * 0x1p23f : x) - 0x3f3504f3u;  // √½
  const int32_t exponent = (static_cast<int32_t>(bits) >> 23) - (subnormal ? 23 : 0);
  LogReduction out;
  out.e = static_cast<float>(exponent);
  const float f = bits_float((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
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
  out.f = f;
  out.half_square = 0.5f * square;
  out.rest = square * f * p;
  return out;
}

// y for positive finite x, else the limits of a logarithm.
NODEGRAD_MATH float log_or_limit(float x, float y) {
  const float special = blend(x == 0.0f, -kInfinity, blend(x > 0.0f, x, kNaN));
  return blend((x > 0.0f) & (x < kInfinity), y, special);
}

NODEGRAD_MATH float m_log(float x) {
  const LogReduction l = reduce_log(x);
  const float y = l.e * kLn2High + (l.f - (l.half_square - (l.rest + l.e * kLn2Low)));
  return log_or_limit(x, y);
}

// log1p(f) in a part of 12 bits and a rest: the products of the first with constants of 12 bits
// are exact, and powers of two give their exponent.
struct SplitLog {
  float high, low;
};

NODEGRAD_MATH SplitLog split_log1p(const LogReduction& l) {
  const float sum = l.f - l.half_square;
  SplitLog out;
  out.high = bits_float(float_bits(sum) & 0xfffff000u);
  out.low = ((l.f - out.high) - l.half_square) + l.rest;
  return out;
}

// 0.83 ulp.
NODEGRAD_MATH float m_log2(float x) {
  const LogReduction l = reduce_log(x);
  const SplitLog s = split_log1p(l);
  const float tail = s.low * 0x1.714p+0f + (s.high + s.low) * 0x1.47652cp-12f;
  return log_or_limit(x, l.e + (s.high * 0x1.714p+0f + tail));
}

// 0.81 ulp.
NODEGRAD_MATH float m_log10(float x) {
  const LogReduction l = reduce_log(x);
  const SplitLog s = split_log1p(l);
  const float tail = s.low * 0x1.bcap-2f + (s.high + s.low) * 0x1.7b1526p-14f;
  const float y = l.e * 0x1.344p-2f + (s.high * 0x1.bcap-2f + (tail + l.e * 0x1.3509f8p-18f));
  return log_or_limit(x, y);
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
  // m_exp(-g), which is far from the ends of the range.
  const ExpReduction e = reduce_exp(-g);
  const float large = 1.0f - (1.0f + expm1_reduced(e.r)) * power_of_two(e.n);
  return with_sign_of(blend(a < 0.9f, small, large), x);
}

// exp(a)/2 for a > 20, also where exp(a) is beyond the range.
NODEGRAD_MATH float half_exp(float a) {
  const float root = m_exp(0.5f * a);
  return 0.5f * root * root;
}

// (e + e/(e + 1))/2 with e = exp(|x|) - 1. 2.81 ulp.
NODEGRAD_MATH float m_sinh(float x) {
  const float a = __builtin_fabsf(x);
  const float e = m_expm1(blend(a > 20.0f, 20.0f, a));
  return with_sign_of(blend(a > 20.0f, half_exp(a), 0.5f * (e + e / (e + 1.0f))), x);
}

// 2.81 ulp.
NODEGRAD_MATH float m_cosh(float x) {
  const float a = __builtin_fabsf(x);
  const float e = m_exp(blend(a > 20.0f, 20.0f, a));
  return blend(a > 20.0f, half_exp(a), 0.5f * e + 0.5f / e);
}

constexpr float kLn2 = 0x1.62e43p-1f;

// log1p(a + a²/(1 + √(a² + 1))), and ln 2a where that is all. 1.97 ulp.
NODEGRAD_MATH float m_asinh(float x) {
  const float a = __builtin_fabsf(x);
  const float square = a * a;
  const float near = m_log1p(a + square / (1.0f + __builtin_sqrtf(square + 1.0f)));
  return with_sign_of(blend(a > 0x1p14f, m_log(a) + kLn2, near), x);
}

// log1p(t + √(2t + t²)) with t = x - 1; NaN below 1. 2.10 ulp.
NODEGRAD_MATH float m_acosh(float x) {
  const float t = x - 1.0f;
  const float near = m_log1p(t + __builtin_sqrtf(t + t + t * t));
  return blend(x < 1.0f, kNaN, blend(x > 0x1p14f, m_log(x) + kLn2, near));
}

// log1p(2a/(1 - a))/2. 2.33 ulp.
NODEGRAD_MATH float m_atanh(float x) {
  const float a = __builtin_fabsf(x);
  return with_sign_of(0.5f * m_log1p((a + a) / (1.0f - a)), x);
}

constexpr float kHalfPi = 0x1.921fb6p+0f;
constexpr float kHalfPiLow = -0x1.777a5cp-25f;

// t + t·s·P(s) with s = t², and pi/2 less that of 1/t beyond 1. 1.53 ulp.
NODEGRAD_MATH float m_atan(float x) {
  const float a = __builtin_fabsf(x);
  const float t = blend(a > 1.0f, 1.0f / a, a);
  const float s = t * t;
  float p = -0x1.d62fecp-10f;
  p = p * s + 0x1.65a65ap-7f;
  p = p * s + -0x1.fed15ep-6f;
  p = p * s + 0x1.dac9e2p-5f;
  p = p * s + -0x1.583490p-4f;
  p = p * s + 0x1.c099fep-4f;
  p = p * s + -0x1.2421b6p-3f;
  p = p * s + 0x1.9991fep-3f;
  p = p * s + -0x1.55553ep-2f;
  const float y = p * s * t + t;
  return with_sign_of(blend(a > 1.0f, kHalfPi - (y - kHalfPiLow), y), x);
}

// asin(t) - t for 0 <= t <= 1/2.
NODEGRAD_MATH float asin_excess(float t) {
  const float s = t * t;
  float p = 0x1.596d28p-5f;
  p = p * s + 0x1.8c283cp-6f;
  p = p * s + 0x1.747e4ap-5f;
  p = p * s + 0x1.3301e4p-4f;
  p = p * s + 0x1.5555c8p-3f;
  return p * s * t;
}

// Beyond 1/2: pi/2 - 2·asin(√((1 - a)/2)). 2.31 ulp.
NODEGRAD_MATH float m_asin(float x) {
  const float a = __builtin_fabsf(x);
  const bool outer = a > 0.5f;
  const float t = blend(outer, __builtin_sqrtf(0.5f - 0.5f * a), a);
  const float y = asin_excess(t) + t;
  return with_sign_of(blend(outer, kHalfPi - (2.0f * y - kHalfPiLow), y), x);
}

// pi/2 - asin(x), or twice the asin of √((1 - a)/2), taken from pi for negative x. 1.15 ulp.
NODEGRAD_MATH float m_acos(float x) {
  const float a = __builtin_fabsf(x);
  const bool outer = a > 0.5f;
  const float t = blend(outer, __builtin_sqrtf(0.5f - 0.5f * a), x);
  const float excess = asin_excess(t);
  const float inner = kHalfPi - (t - (kHalfPiLow - excess));
  const float far = 2.0f * (t + excess);
  const float mirrored = 2.0f * kHalfPi - (far - 2.0f * kHalfPiLow);
  return blend(outer, blend(x < 0.0f, mirrored, far), inner);
}

NODEGRAD_MATH float m_sqrt(float x) { return __builtin_sqrtf(x); }
NODEGRAD_MATH float m_floor(float x) { return __builtin_floorf(x); }
NODEGRAD_MATH float m_ceil(float x) { return __builtin_ceilf(x); }
NODEGRAD_MATH float m_round(float x) { return __builtin_rintf(x); }
NODEGRAD_MATH float m_trunc(float x) { return __builtin_truncf(x); }
NODEGRAD_MATH float m_sin(float x) { return static_cast<float>(__builtin_sin(x)); }
NODEGRAD_MATH float m_cos(float x) { return static_cast<float>(__builtin_cos(x)); }
NODEGRAD_MATH float m_tan(float x) { return static_cast<float>(__builtin_tan(x)); }
NODEGRAD_MATH float m_erfc(float x) { return static_cast<float>(__builtin_erfc(x)); }
NODEGRAD_MATH float m_pow(float x, float y) { return static_cast<float>(__builtin_pow(x, y)); }
NODEGRAD_MATH float m_atan2(float y, float x) { return static_cast<float>(__builtin_atan2(y, x)); }
// Squares of floats are exact in double. 0.51 ulp.
NODEGRAD_MATH float m_hypot(float x, float y) {
  const double a = x, b = y;
  const float h = static_cast<float>(__builtin_sqrt(a * a + b * b));
  return blend((__builtin_fabsf(x) == kInfinity) | (__builtin_fabsf(y) == kInfinity), kInfinity, h);
}

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
NODEGRAD_MATH double m_exp2(double x) { return __builtin_exp2(x); }
NODEGRAD_MATH double m_log2(double x) { return __builtin_log2(x); }
NODEGRAD_MATH double m_log10(double x) { return __builtin_log10(x); }
NODEGRAD_MATH double m_tan(double x) { return __builtin_tan(x); }
NODEGRAD_MATH double m_asin(double x) { return __builtin_asin(x); }
NODEGRAD_MATH double m_acos(double x) { return __builtin_acos(x); }
NODEGRAD_MATH double m_atan(double x) { return __builtin_atan(x); }
NODEGRAD_MATH double m_sinh(double x) { return __builtin_sinh(x); }
NODEGRAD_MATH double m_cosh(double x) { return __builtin_cosh(x); }
NODEGRAD_MATH double m_asinh(double x) { return __builtin_asinh(x); }
NODEGRAD_MATH double m_acosh(double x) { return __builtin_acosh(x); }
NODEGRAD_MATH double m_atanh(double x) { return __builtin_atanh(x); }
NODEGRAD_MATH double m_erfc(double x) { return __builtin_erfc(x); }
NODEGRAD_MATH double m_pow(double x, double y) { return __builtin_pow(x, y); }
NODEGRAD_MATH double m_atan2(double y, double x) { return __builtin_atan2(y, x); }
NODEGRAD_MATH double m_hypot(double x, double y) { return __builtin_hypot(x, y); }

// Remainders and quotients. Integers (Wrapping of vector.h) divided by 0 give 0, and the smallest
// one divided by -1 wraps: no division traps.
NODEGRAD_MATH float m_fmod(float a, float b) { return __builtin_fmodf(a, b); }
NODEGRAD_MATH double m_fmod(double a, double b) { return __builtin_fmod(a, b); }
template <class W>
NODEGRAD_MATH W m_fmod(W a, W b) {
  const bool trivial = b.value == 0 || b == W(-1);
  return W(trivial ? 0 : a.value % (trivial ? 1 : b.value));
}

// With the sign of b.
template <class T>
NODEGRAD_MATH T m_remainder(T a, T b) {
  const T rest = m_fmod(a, b);
  return rest != T(0) && (rest < T(0)) != (b < T(0)) ? rest + b : rest;
}

// floor(a / b) from the exact remainder, as PyTorch has it.
template <class T>
NODEGRAD_MATH T floor_quotient(T a, T b) {
  if (b == T(0)) return a / b;
  const T rest = m_fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != T(0) && (rest < T(0)) != (b < T(0))) quotient -= T(1);
  const T down = m_floor(quotient);
  return quotient - down > T(0.5) ? down + T(1) : down;
}
NODEGRAD_MATH float m_floor_divide(float a, float b) { return floor_quotient(a, b); }
NODEGRAD_MATH double m_floor_divide(double a, double b) { return floor_quotient(a, b); }
template <class W>
NODEGRAD_MATH W m_floor_divide(W a, W b) {
  if (b.value == 0) return W(0);
  if (b == W(-1)) return -a;
  const W quotient(a.value / b.value);
  const bool down = a.value % b.value != 0 && (a < W(0)) != (b < W(0));
  return down ? quotient - W(1) : quotient;
}

// Integers by squaring, wrapping; a negative power of 1 or -1 is one of them, of others 0.
template <class W>
NODEGRAD_MATH W m_pow(W a, W b) {
  const bool odd = b.value % 2 != 0;
  if (b < W(0)) return a == W(1) || (a == W(-1) && !odd) ? W(1) : a == W(-1) ? a : W(0);
  W product(1);
  for (uint64_t rest = static_cast<uint64_t>(b.value); rest != 0; rest >>= 1) {
    if (rest & 1) product = product * a;
    a = a * a;
  }
  return product;
}

#undef NODEGRAD_MATH

}  // namespace nodegrad::cpu::NODEGRAD_ISA
