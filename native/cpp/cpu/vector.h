// Integer arithmetic that wraps, for the formulas of core/elementwise.h, and the loops that run a
// formula over contiguous arrays. Sums and products of int32 and int64 wrap modulo 2^n, as on every
// other device; in C++ that overflow would be undefined.
#pragma once

#include "cpu/convert.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

template <class T>
struct UnsignedOf;
template <>
struct UnsignedOf<int32_t> {
  using Type = uint32_t;
};
template <>
struct UnsignedOf<int64_t> {
  using Type = uint64_t;
};
template <>
struct UnsignedOf<uint8_t> {
  using Type = uint32_t;
};

template <class T>
struct Wrapping {
  using U = typename UnsignedOf<T>::Type;
  T value;

  Wrapping() = default;
  template <class V>
  explicit Wrapping(V v) : value(static_cast<T>(v)) {}

  friend Wrapping operator+(Wrapping a, Wrapping b) { return Wrapping(U(a.value) + U(b.value)); }
  friend Wrapping operator-(Wrapping a, Wrapping b) { return Wrapping(U(a.value) - U(b.value)); }
  friend Wrapping operator*(Wrapping a, Wrapping b) { return Wrapping(U(a.value) * U(b.value)); }
  friend Wrapping operator-(Wrapping a) { return Wrapping(U(0) - U(a.value)); }
  friend bool operator==(Wrapping a, Wrapping b) { return a.value == b.value; }
  friend bool operator!=(Wrapping a, Wrapping b) { return a.value != b.value; }
  friend bool operator<(Wrapping a, Wrapping b) { return a.value < b.value; }
  friend bool operator<=(Wrapping a, Wrapping b) { return a.value <= b.value; }
  friend bool operator>(Wrapping a, Wrapping b) { return a.value > b.value; }
  friend bool operator>=(Wrapping a, Wrapping b) { return a.value >= b.value; }
};

// What a formula computes with, and how a result becomes an element again.
template <class T>
struct Number {
  using Type = Wrapping<T>;
  static T unwrap(Type x) { return x.value; }
};
template <>
struct Number<float> {
  using Type = float;
  static float unwrap(float x) { return x; }
};
template <>
struct Number<double> {
  using Type = double;
  static double unwrap(double x) { return x; }
};

// Loops over arrays of T; F::apply is the formula. An output may be an input's own array, which
// carries no dependence from one element to the next: hence ivdep.
template <class F, class T>
struct Loops {
  using N = typename Number<T>::Type;

  static void unary(const void* const* in, void* out, int64_t n) {
    const T* x = static_cast<const T*>(in[0]);
    T* y = static_cast<T*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = Number<T>::unwrap(F::apply(N(x[i])));
  }

  static void unary_predicate(const void* const* in, void* out, int64_t n) {
    const T* x = static_cast<const T*>(in[0]);
    uint8_t* y = static_cast<uint8_t*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = F::apply(N(x[i]));
  }

  // y = b · f'(a): the chain rule.
  static void chain(const void* const* in, void* out, int64_t n) {
    const T* saved = static_cast<const T*>(in[0]);
    const T* dout = static_cast<const T*>(in[1]);
    T* dx = static_cast<T*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = dout[i] * F::derivative(saved[i]);
  }

  static void binary(const void* const* in, void* out, int64_t n) {
    const T* a = static_cast<const T*>(in[0]);
    const T* b = static_cast<const T*>(in[1]);
    T* y = static_cast<T*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = Number<T>::unwrap(F::apply(N(a[i]), N(b[i])));
  }

  static void binary_predicate(const void* const* in, void* out, int64_t n) {
    const T* a = static_cast<const T*>(in[0]);
    const T* b = static_cast<const T*>(in[1]);
    uint8_t* y = static_cast<uint8_t*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = F::apply(N(a[i]), N(b[i]));
  }
};

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
