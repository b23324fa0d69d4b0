// The inverse of the error function, for draws: a start by Winitzki's formula (2008), then Halley's
// steps on erf(x) = y in double. Backends give their own log, exp, erf and sqrt.
#pragma once

#ifdef __CUDACC__
#define NODEGRAD_ERFINV_FN static __host__ __device__ __forceinline__
#else
#define NODEGRAD_ERFINV_FN static inline __attribute__((always_inline, unused))
#endif

namespace nodegrad {

template <class Math>
NODEGRAD_ERFINV_FN double erfinv(double y, const Math& m) {
  constexpr double limit = 1.0 - 1e-15;
  y = y < -limit ? -limit : y > limit ? limit : y;
  constexpr double a = 0.147, pi = 3.14159265358979323846;
  const double l = m.log((1.0 - y) * (1.0 + y));
  const double b = 2.0 / (pi * a) + 0.5 * l;
  const double square = m.sqrt(b * b - l / a) - b;
  const double magnitude = square > 0.0 ? m.sqrt(square) : 0.0;
  double x = y < 0.0 ? -magnitude : magnitude;
  for (int step = 0; step < 3; ++step) {
    const double error = (m.erf(x) - y) * 0.88622692545275801365 * m.exp(x * x);  // ·√π/2
    x -= error / (1.0 + x * error);
  }
  return x;
}

}  // namespace nodegrad
