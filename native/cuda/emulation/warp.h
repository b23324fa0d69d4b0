// The device side that kernels see: indices, shared memory, rendezvous of a block and of a warp,
// asynchronous copies. A thread that misuses one ends its launch with a failure that names it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulation/vector_types.h"

// For the emulation's own inline code, which is no access of the kernel.
#define NODEGRAD_UNCHECKED __attribute__((no_sanitize("thread")))
#define NODEGRAD_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace nodegrad::emulation {

// Constant for the running thread, hence the attribute.
api::uint3 thread_index() __attribute__((const));
api::uint3 block_index() __attribute__((const));
api::dim3 block_shape() __attribute__((const));
api::dim3 grid_shape() __attribute__((const));

// The block's shared memory; a failure where the launch gave it less than `bytes`.
void* shared_base(size_t bytes);

[[noreturn]] void fail_thread(const char* format, ...) __attribute__((format(printf, 1, 2)));
void check_aligned(const void* p, size_t bytes);

// What a block-wide barrier tells of its threads' predicates.
struct Votes {
  int count, all, any;
};
Votes block_barrier(int predicate, NODEGRAD_SITE);
void named_barrier_sync(int id, int threads, NODEGRAD_SITE);
void named_barrier_arrive(int id, int threads, NODEGRAD_SITE);
void warp_barrier(unsigned mask, NODEGRAD_SITE);

// Each lane of `mask` publishes 8 bytes and gets the record of lane `source`.
enum class WarpKind : uint8_t { barrier, shuffle, vote, match, gather };
uint64_t warp_shuffle(unsigned mask, uint64_t mine, int source, const char* file, int line);
// The lanes of `mask` whose predicate is true.
unsigned warp_vote(unsigned mask, bool predicate, const char* file, int line);
// The lanes of `mask` that hold the same value.
unsigned warp_match(unsigned mask, uint64_t value, NODEGRAD_SITE);
// All 32 lanes publish `bytes` and each receives all 32 records, in lane order.
void warp_gather(const void* mine, size_t bytes, void* all, NODEGRAD_SITE);

unsigned lane_index() __attribute__((const));

// Asynchronous copies of the calling thread: the bytes land at some moment before the wait.
void async_copy(void* shared_dst, const void* global_src, int bytes, int valid_bytes);
void async_commit();
void async_wait(int groups_in_flight);

// An atomic access of `bytes`: checked, ordered among atomics, no race with them.
void atomic_access(const void* p, size_t bytes);
// Lets other threads run, and fails where all of them do nothing else.
void yield();
// An access that may be the body of a loop that waits: an atomic that changes nothing, a volatile
// read. Yields now and then.
void poll();

}  // namespace nodegrad::emulation
