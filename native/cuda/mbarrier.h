// mbarriers (sm_90): a phase ends when `count` arrivals have come and as many bytes as were
// announced; waiting takes the parity of the phase, 0 for the first. Source: PTX ISA, "mbarrier".
#pragma once

#include "cluster.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct alignas(8) Mbarrier {
  uint64_t opaque;
};

// Which of a ring's stages comes next, and the parity of the phase in which it is full.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#ifdef NODEGRAD_EMULATED

inline void mbarrier_init(Mbarrier* b, unsigned count) { emulation::mbarrier_init(b, count); }
inline void fence_mbarrier_init() { emulation::fence_mbarrier_init(); }
inline void fence_proxy_async() { emulation::fence_proxy_async(); }
inline void mbarrier_expect_and_arrive(Mbarrier* b, unsigned bytes) {
  emulation::mbarrier_arrive(b, 1, bytes);
}
inline void mbarrier_arrive(Mbarrier* b) { emulation::mbarrier_arrive(b, 1, 0); }
inline void mbarrier_arrive_at(Mbarrier* b, uint32_t rank) {
  emulation::mbarrier_arrive(emulation::map_shared(b, rank), 1, 0);
}
inline void mbarrier_wait(Mbarrier* b, unsigned parity, NODEGRAD_SITE) {
  emulation::mbarrier_wait(b, parity, file, line);
}
inline bool mbarrier_done(Mbarrier* b, unsigned parity) {
  return emulation::mbarrier_test(b, parity);
}
inline void store_async(uint32_t* peer, uint32_t value, Mbarrier* peer_barrier) {
  emulation::store_async(peer, &value, sizeof(value), peer_barrier);
}
template <int N>
void store_async(uint32_t* peer, const Vector<uint32_t, N>& value, Mbarrier* peer_barrier) {
  emulation::store_async(peer, &value, sizeof(value), peer_barrier);
}

#else

__device__ __forceinline__ void mbarrier_init(Mbarrier* b, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count)
               : "memory");
}

// Makes initialised barriers known to asynchronous copies and, after a barrier, to the cluster.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Between the threads' own writes to shared memory and its use by wgmma or bulk copies.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Arrives once, and announces bytes that asynchronous copies will bring in this phase.
__device__ __forceinline__ void mbarrier_expect_and_arrive(Mbarrier* b, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(Mbarrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

// Arrives once at the same barrier of block `rank` of the cluster. In the default form, as
// CUTLASS's ClusterBarrier has it: `.release.cluster` would cost a memory fence at each, and what a
// wait for wgmma has ended needs none.
__device__ __forceinline__ void mbarrier_arrive_at(Mbarrier* b, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(b)),
      "r"(rank)
      : "memory");
}

// Of the block's own scope, which is enough for its own shared memory, whoever filled it; the
// cluster's scope would empty the L1 cache at each wait.
__device__ __forceinline__ void mbarrier_wait(Mbarrier* b, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}

// Whether a phase has ended, without waiting.
__device__ __forceinline__ bool mbarrier_done(Mbarrier* b, unsigned parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.b32 %0, 1, 0, done;\n}"
      : "=r"(done)
      : "r"(shared_address(b)), "r"(parity)
      : "memory");
  return done != 0;
}

// Stores into a block of the cluster without waiting; counts 4 bytes at that block's barrier. Both
// addresses are cluster_peer's.
__device__ __forceinline__ void store_async(uint32_t* peer, uint32_t value,
                                            Mbarrier* peer_barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
          shared_address(peer)),
      "r"(value), "r"(shared_address(peer_barrier))
      : "memory");
}

// The same for 8 or 16 bytes, aligned to their size.
template <int N>
__device__ __forceinline__ void store_async(uint32_t* peer, const Vector<uint32_t, N>& value,
                                            Mbarrier* peer_barrier) {
  static_assert(N == 2 || N == 4);
  if constexpr (N == 2) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%0], {%1, %2}, "
        "[%3];" ::"r"(shared_address(peer)),
        "r"(value[0]), "r"(value[1]), "r"(shared_address(peer_barrier))
        : "memory");
  } else {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.u32 [%0], {%1, %2, %3, "
        "%4}, [%5];" ::"r"(shared_address(peer)),
        "r"(value[0]), "r"(value[1]), "r"(value[2]), "r"(value[3]),
        "r"(shared_address(peer_barrier))
        : "memory");
  }
}

#endif

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
