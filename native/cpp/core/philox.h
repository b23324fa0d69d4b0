// Philox4x32-10: a counter-based random generator, so that element i of a draw is the same bits on
// every device, in any order. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
// as 1, 2, 3" (SC 2011). Uniforms take 24 bits (float32) so that they agree everywhere.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define NODEGRAD_PHILOX_FN static __host__ __device__ __forceinline__
#else
#define NODEGRAD_PHILOX_FN static inline __attribute__((always_inline, unused))
#endif

namespace nodegrad {

struct Philox4 {
  uint32_t word[4];
};

// Four random words for one 64-bit counter under a 64-bit key.
NODEGRAD_PHILOX_FN Philox4 philox(uint64_t key, uint64_t counter) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  Philox4 r;
  r.word[0] = c0;
  r.word[1] = c1;
  r.word[2] = c2;
  r.word[3] = c3;
  return r;
}

// [0, 1): the top 24 bits, exact in float32.
NODEGRAD_PHILOX_FN float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 5.9604644775390625e-8f;
}

}  // namespace nodegrad
