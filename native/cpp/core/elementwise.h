// Every elementwise op, one line each: the formula that all backends compile, its derivative, and
// from which value the derivative is computed. Adding an elementwise op is adding a line here, a
// row in lib/ops and a row in the tests.
//
// T is the type of arithmetic: float or double (integers for ops of kind `any`). Functions written
// m_* come from the backend (cpu/math.h, cuda/device_math.h) for float and double.
// Macros and enums only: included once per instruction set.
#pragma once

#include <cstdint>

// X(name, kind, saved, forward(x), derivative(s)); s is the saved value: `input` or `output`.
// kind `any`: every numeric dtype; `floating`: integers are converted to float32 first.
#define NODEGRAD_UNARY_OPS(X)                                                                    \
  X(neg, any, input, -x, T(-1))                                                                  \
  X(abs, any, input, x<T(0) ? -x : x, s> T(0) ? T(1) : s < T(0) ? T(-1) : T(0))                  \
  X(sign, any, input, x > T(0) ? T(1) : x < T(0) ? T(-1) : x, T(0))                              \
  X(square, any, input, x* x, T(2) * s)                                                          \
  X(relu, any, output, x > T(0) ? x : x != x ? x : T(0), s <= T(0) ? T(0) : T(1))                \
  X(exp, floating, output, m_exp(x), s)                                                          \
  X(expm1, floating, output, m_expm1(x), s + T(1))                                               \
  X(log, floating, input, m_log(x), T(1) / s)                                                    \
  X(log1p, floating, input, m_log1p(x), T(1) / (T(1) + s))                                       \
  X(sqrt, floating, output, m_sqrt(x), T(0.5) / s)                                               \
  X(rsqrt, floating, output, T(1) / m_sqrt(x), T(-0.5) * s * s * s)                              \
  X(reciprocal, floating, output, T(1) / x, -s * s)                                              \
  X(sigmoid, floating, output, T(1) / (T(1) + m_exp(-x)), s * (T(1) - s))                        \
  X(tanh, floating, output, m_tanh(x), T(1) - s * s)                                             \
  X(sin, floating, input, m_sin(x), m_cos(s))                                                    \
  X(cos, floating, input, m_cos(x), -m_sin(s))                                                   \
  X(erf, floating, input, m_erf(x), T(1.12837916709551257390) * m_exp(-s * s))                   \
  X(gelu, floating, input, T(0.5) * x * (T(1) + m_erf(x * T(0.70710678118654752440))),           \
    T(0.5) * (T(1) + m_erf(s * T(0.70710678118654752440))) +                                     \
        s * T(0.39894228040143267794) * m_exp(T(-0.5) * s * s))                                  \
  X(silu, floating, input, x / (T(1) + m_exp(-x)),                                               \
    (T(1) + s * (T(1) - T(1) / (T(1) + m_exp(-s)))) / (T(1) + m_exp(-s)))                        \
  X(softplus, floating, input, x > T(20) ? x : m_log1p(m_exp(x)),                                \
    s > T(20) ? T(1) : T(1) / (T(1) + m_exp(-s)))                                                \
  X(floor, floating, input, m_floor(x), T(0))                                                    \
  X(ceil, floating, input, m_ceil(x), T(0))                                                      \
  X(round, floating, input, m_round(x), T(0)) /* halves to even */                               \
  X(trunc, floating, input, m_trunc(x), T(0))                                                    \
  X(frac, floating, input, x - m_trunc(x), T(1))                                                 \
  X(exp2, floating, output, m_exp2(x), T(0.69314718055994530942) * s)                            \
  X(log2, floating, input, m_log2(x), T(1.44269504088896340736) / s)                             \
  X(log10, floating, input, m_log10(x), T(0.43429448190325182765) / s)                           \
  X(tan, floating, output, m_tan(x), T(1) + s * s)                                               \
  X(asin, floating, input, m_asin(x), T(1) / m_sqrt((T(1) - s) * (T(1) + s)))                    \
  X(acos, floating, input, m_acos(x), T(-1) / m_sqrt((T(1) - s) * (T(1) + s)))                   \
  X(atan, floating, input, m_atan(x), T(1) / (T(1) + s * s))                                     \
  X(sinh, floating, input, m_sinh(x), m_cosh(s))                                                 \
  X(cosh, floating, input, m_cosh(x), m_sinh(s))                                                 \
  X(asinh, floating, input, m_asinh(x), T(1) / m_sqrt(s * s + T(1)))                             \
  X(acosh, floating, input, m_acosh(x), T(1) / (m_sqrt(s - T(1)) * m_sqrt(s + T(1))))            \
  X(atanh, floating, input, m_atanh(x), T(1) / ((T(1) - s) * (T(1) + s)))                        \
  X(erfc, floating, input, m_erfc(x), T(-1.12837916709551257390) * m_exp(-s * s))                \
  X(logit, floating, input, m_log(x / (T(1) - x)), T(1) / (s * (T(1) - s)))                      \
  X(log_sigmoid, floating, input,                                                                \
    (x < T(0) ? x                                                                                \
     : x != x ? x                                                                                \
              : T(0)) -                                                                          \
        m_log1p(m_exp(x < T(0) ? x : -x)),                                                       \
    T(1) / (T(1) + m_exp(s)))                                                                    \
  X(relu6, any, output,                                                                          \
    x > T(6)   ? T(6)                                                                            \
    : x > T(0) ? x                                                                               \
    : x != x   ? x                                                                               \
               : T(0),                                                                             \
    (s > T(0)) & (s < T(6)) ? T(1) : T(0))                                                       \
  X(hardtanh, any, output,                                                                       \
    x > T(1)    ? T(1)                                                                           \
    : x < T(-1) ? T(-1)                                                                          \
                : x,                                                                             \
    (s > T(-1)) & (s < T(1)) ? T(1) : T(0))                                                      \
  X(hardsigmoid, floating, output,                                                               \
    x >= T(3)   ? T(1)                                                                           \
    : x > T(-3) ? (x + T(3)) / T(6)                                                              \
    : x != x    ? x                                                                              \
                : T(0),                                                                             \
    (s > T(0)) & (s < T(1)) ? T(1) / T(6) : T(0))                                                \
  X(hardswish, floating, input,                                                                  \
    x >= T(3)   ? x                                                                              \
    : x > T(-3) ? x * (x + T(3)) / T(6)                                                          \
    : x != x    ? x                                                                              \
                : T(0),                                                                             \
    s > T(3)     ? T(1)                                                                          \
    : s >= T(-3) ? s / T(3) + T(0.5)                                                             \
                 : T(0))                                                                         \
  X(elu, floating, output, x > T(0) ? x : m_expm1(x), s > T(0) ? T(1) : s + T(1))                \
  X(selu, floating, output,                                                                      \
    T(1.0507009873554804934) * (x > T(0) ? x : T(1.6732632423543772848) * m_expm1(x)),           \
    s > T(0) ? T(1.0507009873554804934) : s + T(1.7580993408473768599))                          \
  X(mish, floating, input, x* m_tanh(m_log1p(m_exp(x))),                                         \
    m_tanh(m_log1p(m_exp(s))) +                                                                  \
        s * (T(1) - m_tanh(m_log1p(m_exp(s))) * m_tanh(m_log1p(m_exp(s)))) / (T(1) + m_exp(-s))) \
  X(softsign, floating, input, x / (T(1) + (x < T(0) ? -x : x)),                                 \
    T(1) / ((T(1) + (s < T(0) ? -s : s)) * (T(1) + (s < T(0) ? -s : s))))                        \
  X(gelu_tanh, floating, input,                                                                  \
    T(0.5) * x * (T(1) + m_tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x))),     \
    T(0.5) * (T(1) + m_tanh(T(0.79788456080286535588) * (s + T(0.044715) * s * s * s))) *        \
        (T(1) + s * (T(1) - m_tanh(T(0.79788456080286535588) * (s + T(0.044715) * s * s * s))) * \
                    T(0.79788456080286535588) * (T(1) + T(0.134145) * s * s)))

// X(name, forward(x)): the result is bool; no derivative.
#define NODEGRAD_UNARY_PREDICATES(X)   \
  X(isnan, x != x)                     \
  X(isfinite, x - x == T(0))           \
  X(isinf, (x == x) & (x - x != T(0))) \
  X(logical_not, x == T(0))

// X(name, kind, forward(a, b)). Kinds as above. Derivatives are composed in lib/ops/binary.ts.
#define NODEGRAD_BINARY_OPS(X)                                        \
  X(add, any, a + b)                                                  \
  X(sub, any, a - b)                                                  \
  X(mul, any, a* b)                                                   \
  X(div, floating, a / b)                                             \
  X(pow, any, m_pow(a, b))                                            \
  X(maximum, any, a != a ? a : b != b ? b : a > b ? a : b)            \
  X(minimum, any, a != a ? a : b != b ? b : a < b ? a : b)            \
  X(remainder, any, m_remainder(a, b)) /* with the sign of b */       \
  X(fmod, any, m_fmod(a, b))           /* with the sign of a */       \
  X(floor_divide, any, m_floor_divide(a, b))                          \
  X(atan2, floating, m_atan2(a, b))                                   \
  X(hypot, floating, m_hypot(a, b))                                   \
  X(logaddexp, floating,                                              \
    a == b ? a + T(0.69314718055994530942)                            \
           : (a > b ? a : b) + m_log1p(m_exp(a > b ? b - a : a - b))) \
  X(clamp_min, any, a != a ? a : b != b ? b : a < b ? b : a)          \
  X(clamp_max, any, a != a ? a : b != b ? b : a > b ? b : a)          \
  X(leaky_relu, floating, a > T(0) ? a : a * b)

// X(name, forward(a, b)): the result is bool.
#define NODEGRAD_BINARY_PREDICATES(X)       \
  X(eq, a == b)                             \
  X(ne, a != b)                             \
  X(lt, a < b)                              \
  X(le, a <= b)                             \
  X(gt, a > b)                              \
  X(ge, a >= b)                             \
  X(logical_and, (a != T(0)) & (b != T(0))) \
  X(logical_or, (a != T(0)) | (b != T(0)))  \
  X(logical_xor, (a != T(0)) != (b != T(0)))

namespace nodegrad {

#define NODEGRAD_NAME_1(name, ...) name,
enum class UnaryOp : uint8_t {
  NODEGRAD_UNARY_OPS(NODEGRAD_NAME_1) NODEGRAD_UNARY_PREDICATES(NODEGRAD_NAME_1)
};
enum class BinaryOp : uint8_t {
  NODEGRAD_BINARY_OPS(NODEGRAD_NAME_1) NODEGRAD_BINARY_PREDICATES(NODEGRAD_NAME_1)
};
#undef NODEGRAD_NAME_1

}  // namespace nodegrad
