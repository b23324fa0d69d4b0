// The functions that code compiled with -fsanitize=thread calls, made to check kernels of the
// emulated device. libtsan is not linked: what stands here is the whole of it, and plain host code
// pays one test per access. Hidden, so that they serve this binary alone.
#include <cstddef>
#include <cstdint>

#include "emulation/arena.h"
#include "emulation/shadow.h"
#include "emulation/warp.h"

using nodegrad::emulation::Access;

[[maybe_unused]] static const bool reporting = nodegrad::emulation::kernels_report = true;

#define NODEGRAD_HOOK extern "C" __attribute__((visibility("hidden")))
#define NODEGRAD_CHECK(p, bytes, access) \
  nodegrad::emulation::check_access(p, bytes, Access::access, __builtin_return_address(0))

#define NODEGRAD_ACCESS(bytes)                                                                 \
  NODEGRAD_HOOK void __tsan_read##bytes(void* p) { NODEGRAD_CHECK(p, bytes, read); }           \
  NODEGRAD_HOOK void __tsan_write##bytes(void* p) { NODEGRAD_CHECK(p, bytes, write); }         \
  NODEGRAD_HOOK void __tsan_unaligned_read##bytes(void* p) { NODEGRAD_CHECK(p, bytes, read); } \
  NODEGRAD_HOOK void __tsan_unaligned_write##bytes(void* p) { NODEGRAD_CHECK(p, bytes, write); }

// With --param tsan-distinguish-volatile=1: in global memory these talk to other blocks.
static Access volatile_access(const void* p, Access plain) {
  return nodegrad::emulation::in_arena(p) ? Access::atomic : plain;
}
#define NODEGRAD_VOLATILE_ACCESS(bytes)                                            \
  NODEGRAD_HOOK void __tsan_volatile_read##bytes(void* p) {                        \
    nodegrad::emulation::check_access(p, bytes, volatile_access(p, Access::read),  \
                                      __builtin_return_address(0));                \
    nodegrad::emulation::poll();                                                   \
  }                                                                                \
  NODEGRAD_HOOK void __tsan_volatile_write##bytes(void* p) {                       \
    nodegrad::emulation::check_access(p, bytes, volatile_access(p, Access::write), \
                                      __builtin_return_address(0));                \
  }

NODEGRAD_VOLATILE_ACCESS(1)
NODEGRAD_VOLATILE_ACCESS(2)
NODEGRAD_VOLATILE_ACCESS(4)
NODEGRAD_VOLATILE_ACCESS(8)
NODEGRAD_VOLATILE_ACCESS(16)

NODEGRAD_ACCESS(1)
NODEGRAD_ACCESS(2)
NODEGRAD_ACCESS(4)
NODEGRAD_ACCESS(8)
NODEGRAD_ACCESS(16)

NODEGRAD_HOOK void __tsan_read_range(void* p, size_t bytes) { NODEGRAD_CHECK(p, bytes, read); }
NODEGRAD_HOOK void __tsan_write_range(void* p, size_t bytes) { NODEGRAD_CHECK(p, bytes, write); }
NODEGRAD_HOOK void __tsan_init() {}
NODEGRAD_HOOK void __tsan_func_entry(void*) {}
NODEGRAD_HOOK void __tsan_func_exit() {}
NODEGRAD_HOOK void __tsan_vptr_update(void**, void*) {}
NODEGRAD_HOOK void __tsan_vptr_read(void**) {}
NODEGRAD_HOOK void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
NODEGRAD_HOOK void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

// C++ atomics, of host code in the main: carried out with the strongest order.
#define NODEGRAD_ATOMIC_UPDATE(bits, name)                                              \
  NODEGRAD_HOOK uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t* p, \
                                                            uint##bits##_t v, int) {    \
    return __atomic_##name(p, v, __ATOMIC_SEQ_CST);                                     \
  }
#define NODEGRAD_ATOMIC_EXCHANGE(bits, name, weak)                                                \
  NODEGRAD_HOOK int __tsan_atomic##bits##_compare_exchange_##name(                                \
      volatile uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t v, int, int) {         \
    return __atomic_compare_exchange_n(p, expected, v, weak, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define NODEGRAD_ATOMICS(bits)                                                                     \
  NODEGRAD_HOOK uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* p, int) { \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  NODEGRAD_HOOK void __tsan_atomic##bits##_store(volatile uint##bits##_t* p, uint##bits##_t v,     \
                                                 int) {                                            \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  NODEGRAD_HOOK uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t* p,          \
                                                              uint##bits##_t v, int) {             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  NODEGRAD_ATOMIC_UPDATE(bits, fetch_add)                                                          \
  NODEGRAD_ATOMIC_UPDATE(bits, fetch_sub)                                                          \
  NODEGRAD_ATOMIC_UPDATE(bits, fetch_and)                                                          \
  NODEGRAD_ATOMIC_UPDATE(bits, fetch_or)                                                           \
  NODEGRAD_ATOMIC_UPDATE(bits, fetch_xor)                                                          \
  NODEGRAD_ATOMIC_EXCHANGE(bits, strong, false)                                                    \
  NODEGRAD_ATOMIC_EXCHANGE(bits, weak, true)

NODEGRAD_ATOMICS(8)
NODEGRAD_ATOMICS(16)
NODEGRAD_ATOMICS(32)
NODEGRAD_ATOMICS(64)
