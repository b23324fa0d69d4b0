// Tensor-core instructions of sm_80 and later as device functions. Each has a host body of the
// same meaning for the emulated device. All are collective: a whole warp calls them together.
//   ldmatrix  reads 8x8 matrices of 16-bit elements: lane 8i+r gives the address of row r of
//             matrix i; with g = lane/4, t = lane%4 a lane receives elements (g, 2t) and (g, 2t+1)
//             of each matrix, or (2t, g) and (2t+1, g) with `trans`.
//             The address is a pointer, or matrix_address of one, to compute with.
//   stmatrix  writes what ldmatrix without `trans` reads (sm_90).
//   mma       D += A·B. D[16,8]: d0 (g, 2t), d1 (g, 2t+1), d2 (g+8, 2t), d3 (g+8, 2t+1).
//             16-bit, A[16,16]: a0 (g, 2t..), a1 (g+8, 2t..), a2 (g, 2t+8..), a3 (g+8, 2t+8..);
//             B[16,8]: b0 (2t.., g), b1 (2t+8.., g); K = 8 has a0, a1 and b0 alone.
//             tf32, A[16,8]: a0 (g, t), a1 (g+8, t), a2 (g, t+4), a3 (g+8, t+4); B: (t, g), (t+4,
//             g).
// Source: PTX ISA, "Warp-level matrix instructions".
#pragma once

#include "device.h"

#ifdef NODEGRAD_EMULATED
#include <cstring>
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

#ifndef NODEGRAD_EMULATED

using SharedAddress = uint32_t;

__device__ inline SharedAddress matrix_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline uint32_t load_shared(SharedAddress address) {
  uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

__device__ inline void ldmatrix_x4(uint32_t (&r)[4], SharedAddress address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], SharedAddress address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  ldmatrix_x4(r, matrix_address(row));
}
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  ldmatrix_x4_trans(r, matrix_address(row));
}

__device__ inline void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(matrix_address(row)),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}

__device__ inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_m16n8k8_bf16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b0));
}

__device__ inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Rounds to 10 bits of mantissa, to nearest, ties away from zero.
__device__ inline uint32_t to_tf32(float x) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}

// Two floats rounded to bfloat16, `low` in the lower half.
__device__ inline uint32_t pack_bfloat16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// The same rounded to float16.
__device__ inline uint32_t pack_float16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// x itself. What is computed from it is computed here, and not ahead of a loop, where it would
// hold registers all along.
__device__ inline int computed_here(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// 2^x within 2^-22 of it, subnormal numbers as zeros.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1/x within 2^-23 of it, subnormal numbers as zeros.
__device__ inline float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

namespace host_body {

inline int lane() { return static_cast<int>(threadIdx.x % 32); }

template <bool kTrans>
void ldmatrix(uint32_t (&r)[4], const void* row) {
  struct Row {
    uint16_t element[8];
  };
  Row mine;
  std::memcpy(&mine, row, sizeof(mine));
  Row all[32];
  emulation::warp_gather(&mine, sizeof(mine), all);
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const Row* matrix = all + 8 * i;
    const uint32_t low = kTrans ? matrix[2 * t].element[g] : matrix[g].element[2 * t];
    const uint32_t high = kTrans ? matrix[2 * t + 1].element[g] : matrix[g].element[2 * t + 1];
    r[i] = low | high << 16;
  }
}

inline void stmatrix(void* row, const uint32_t (&r)[4]) {
  uint32_t all[32][4], mine[4];
  emulation::warp_gather(r, sizeof(r), all);
  for (int t = 0; t < 4; ++t) mine[t] = all[lane() % 8 * 4 + t][lane() / 8];
  std::memcpy(row, mine, sizeof(mine));
}

inline float bfloat16_half(uint32_t packed, int half) {
  return to_float(BFloat16{static_cast<uint16_t>(packed >> 16 * half)});
}
inline float float16_half(uint32_t packed, int half) {
  return to_float(Float16{static_cast<uint16_t>(packed >> 16 * half)});
}
// Tensor cores ignore the low 13 bits of a tf32 operand.
inline float tf32_value(uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); }

struct Fragments {
  uint32_t a[4], b[2];
};

// `value(register, half)` gives one operand; a register holds kPerRegister neighbours along K.
template <int kPerRegister, int kRegistersOfK, class Value>
void mma(float (&d)[4], const Fragments& mine, Value value) {
  Fragments all[32];
  emulation::warp_gather(&mine, sizeof(mine), all);
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g, upper = i / 2, column = 2 * t + i % 2;
    for (int r = 0; r < kRegistersOfK; ++r) {
      for (int lane_of_k = 0; lane_of_k < 4; ++lane_of_k) {
        const uint32_t x = all[row * 4 + lane_of_k].a[2 * r + upper];
        const uint32_t y = all[column * 4 + lane_of_k].b[r];
        for (int half = 0; half < kPerRegister; ++half) {
          d[i] = fmaf(value(x, half), value(y, half), d[i]);
        }
      }
    }
  }
}

inline Fragments pack(const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  return {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
}

}  // namespace host_body

using SharedAddress = uintptr_t;

inline SharedAddress matrix_address(const void* p) { return reinterpret_cast<uintptr_t>(p); }
inline uint32_t load_shared(SharedAddress address) {
  return *reinterpret_cast<const uint32_t*>(address);
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { host_body::ldmatrix<false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  host_body::ldmatrix<true>(r, row);
}
inline void stmatrix_x4(void* row, const uint32_t (&r)[4]) { host_body::stmatrix(row, r); }
inline void ldmatrix_x4(uint32_t (&r)[4], SharedAddress address) {
  ldmatrix_x4(r, reinterpret_cast<const void*>(address));
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], SharedAddress address) {
  ldmatrix_x4_trans(r, reinterpret_cast<const void*>(address));
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host_body::mma<2, 2>(d, host_body::pack(a, b), host_body::bfloat16_half);
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host_body::mma<2, 2>(d, host_body::pack(a, b), host_body::float16_half);
}
inline void mma_m16n8k8_bf16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  host_body::mma<2, 1>(d, {{a0, a1, 0, 0}, {b0, 0}}, host_body::bfloat16_half);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host_body::mma<1, 2>(d, host_body::pack(a, b),
                       [](uint32_t bits, int) { return host_body::tf32_value(bits); });
}

inline uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

inline uint32_t pack_bfloat16(float low, float high) {
  return from_float<BFloat16>(low).bits | static_cast<uint32_t>(from_float<BFloat16>(high).bits)
                                              << 16;
}

inline uint32_t pack_float16(float low, float high) {
  return from_float<Float16>(low).bits | static_cast<uint32_t>(from_float<Float16>(high).bits)
                                             << 16;
}

inline int computed_here(int x) { return x; }

inline float exp2_fast(float x) { return exp2f(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }

#endif

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
