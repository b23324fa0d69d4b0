// Device functions of CUDA as ordinary C++: barriers, warp exchanges, integer atomics, bit
// operations, conversions and the mathematical functions that the C library lacks.
// Floating atomics are left out on purpose: kernels are deterministic.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <type_traits>

#include "emulation/warp.h"

namespace nodegrad::emulation::api {

constexpr int warpSize = 32;

// Barriers and fences.
inline void __syncthreads(NODEGRAD_SITE) { block_barrier(0, file, line); }
inline int __syncthreads_count(int p, NODEGRAD_SITE) { return block_barrier(p, file, line).count; }
inline int __syncthreads_and(int p, NODEGRAD_SITE) { return block_barrier(p, file, line).all; }
inline int __syncthreads_or(int p, NODEGRAD_SITE) { return block_barrier(p, file, line).any; }
inline void __syncwarp(unsigned mask = 0xffffffffu, NODEGRAD_SITE) {
  warp_barrier(mask, file, line);
}
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { yield(); }
[[noreturn]] inline void __trap() { fail_thread("__trap was called"); }

// Warp exchanges.
template <class T>
T exchange(unsigned mask, T value, int source, const char* file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_shuffle(mask, bits, source, file, line);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, NODEGRAD_SITE) {
  const int lane = static_cast<int>(lane_index());
  return exchange(mask, value, (lane & -width) | (source & (width - 1)), file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, NODEGRAD_SITE) {
  const int lane = static_cast<int>(lane_index());
  const int source = lane ^ bits;
  return exchange(mask, value, source < (lane & -width) + width ? source : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, NODEGRAD_SITE) {
  const int lane = static_cast<int>(lane_index());
  const int source = lane + static_cast<int>(delta);
  return exchange(mask, value, source < (lane & -width) + width ? source : lane, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, NODEGRAD_SITE) {
  const int lane = static_cast<int>(lane_index());
  const int source = lane - static_cast<int>(delta);
  return exchange(mask, value, source >= (lane & -width) ? source : lane, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, NODEGRAD_SITE) {
  return warp_vote(mask, predicate != 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, NODEGRAD_SITE) {
  return warp_vote(mask, predicate != 0, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, NODEGRAD_SITE) {
  return warp_vote(mask, predicate != 0, file, line) == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, NODEGRAD_SITE) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return warp_match(mask, bits, file, line);
}

// Integer atomics. One thread runs at a time, so a plain update is atomic.
template <class T>
concept AtomicInteger =
    std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;

template <AtomicInteger T, class F>
NODEGRAD_UNCHECKED T atomic_update(T* p, F f) {
  atomic_access(p, sizeof(T));
  const T old = *p;
  const T updated = f(old);
  *p = updated;
  if (updated == old) poll();
  return old;
}

template <AtomicInteger T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  using U = std::make_unsigned_t<T>;  // wraps, as the hardware does
  return atomic_update(p, [v](T old) { return static_cast<T>(U(old) + U(v)); });
}
template <AtomicInteger T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  using U = std::make_unsigned_t<T>;
  return atomic_update(p, [v](T old) { return static_cast<T>(U(old) - U(v)); });
}
template <AtomicInteger T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old > v ? old : v; });
}
template <AtomicInteger T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old < v ? old : v; });
}
template <AtomicInteger T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T) { return v; });
}
template <AtomicInteger T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return atomic_update(p, [=](T old) { return old == expected ? v : old; });
}
template <AtomicInteger T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old | v; });
}
template <AtomicInteger T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old & v; });
}
template <AtomicInteger T>
T atomicXor(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old ^ v; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return atomic_update(p, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// Loads with cache hints.
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}

// Bits.
constexpr unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
constexpr int __float_as_int(float f) { return std::bit_cast<int>(f); }
constexpr float __uint_as_float(unsigned u) { return std::bit_cast<float>(u); }
constexpr float __int_as_float(int i) { return std::bit_cast<float>(i); }
constexpr long long __double_as_longlong(double d) { return std::bit_cast<long long>(d); }
constexpr double __longlong_as_double(long long i) { return std::bit_cast<double>(i); }
constexpr int __popc(unsigned u) { return std::popcount(u); }
constexpr int __popcll(unsigned long long u) { return std::popcount(u); }
constexpr int __clz(int i) { return std::countl_zero(static_cast<unsigned>(i)); }
constexpr int __clzll(long long i) { return std::countl_zero(static_cast<uint64_t>(i)); }
constexpr int __ffs(int i) { return __builtin_ffs(i); }
constexpr int __ffsll(long long i) { return __builtin_ffsll(i); }
constexpr unsigned __brev(unsigned u) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (u >> i & 1u) << (31 - i);
  return r;
}
constexpr unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
constexpr int __mulhi(int a, int b) { return static_cast<int>(int64_t(a) * b >> 32); }
constexpr unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
constexpr unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((uint64_t(high) << 32 | low) << (shift & 31)) >> 32);
}
constexpr unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t(high) << 32 | low) >> (shift & 31));
}

// Arithmetic. Rounding functions keep multiply and add apart: build with -ffp-contract=off.
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return a != a ? T(b) : T(b) < T(a) ? T(b) : T(a);
  return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return a != a ? T(b) : T(a) < T(b) ? T(b) : T(a);
  return T(a) < T(b) ? T(b) : T(a);
}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __int2float_rn(int i) { return static_cast<float>(i); }
inline float __uint2float_rn(unsigned u) { return static_cast<float>(u); }
inline int __float2int_rn(float f) { return static_cast<int>(rintf(f)); }
inline int __float2int_rz(float f) { return static_cast<int>(f); }

}  // namespace nodegrad::emulation::api
