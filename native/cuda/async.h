// Asynchronous copies from global to shared memory (cp.async, sm_80 and later). A thread's copies
// since its last commit form a group; cp_async_wait<N> waits until at most the N youngest groups
// are still in flight. Other threads see the bytes after a barrier that follows the wait.
#pragma once

#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Copies the first `valid_bytes` (0 to 16) and zero-fills the rest of the 16; both addresses are
// 16-byte aligned. `global_src` is not read where `valid_bytes` is 0.
__device__ __forceinline__ void cp_async_16(void* shared_dst, const void* global_src,
                                            int valid_bytes = 16) {
#ifdef NODEGRAD_EMULATED
  emulation::async_copy(shared_dst, global_src, 16, valid_bytes);
#else
  const unsigned dst = static_cast<unsigned>(__cvta_generic_to_shared(shared_dst));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(global_src),
               "r"(valid_bytes)
               : "memory");
#endif
}

// The same for 4 bytes, 4-byte aligned: for operands whose rows are not 16-byte aligned.
__device__ __forceinline__ void cp_async_4(void* shared_dst, const void* global_src,
                                           int valid_bytes = 4) {
#ifdef NODEGRAD_EMULATED
  emulation::async_copy(shared_dst, global_src, 4, valid_bytes);
#else
  const unsigned dst = static_cast<unsigned>(__cvta_generic_to_shared(shared_dst));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(global_src),
               "r"(valid_bytes)
               : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifdef NODEGRAD_EMULATED
  emulation::async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N>
__device__ __forceinline__ void cp_async_wait() {
#ifdef NODEGRAD_EMULATED
  emulation::async_wait(N);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
