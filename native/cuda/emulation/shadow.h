// What is known of every byte that kernels touch, for the checks. Kernels compiled with
// -fsanitize=thread call __tsan_read4 and its like before each access; shadow.cc defines these.
//
// Shared memory, per byte: the last writer and two last readers with the time of each access.
// Time counts rendezvous; an access happened before another if a chain of barriers lies between
// (Fidge's and Mattern's clocks, kept as one floor per cluster, block and warp, and a matrix of
// thread by actor where only some threads met). Actors are the threads of all blocks of the cluster
// and, after those of each block, the asynchronous engine that fills its shared memory. Global
// memory, per byte: which blocks of this launch wrote and read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nodegrad::emulation {

struct Block;
struct Thread;

// A thread at a named barrier: it waits there, or has only announced itself.
struct BarrierMember {
  Thread* thread;
  bool waits;
  uint32_t time;  // of an announcement: what the thread does later is not covered
};

// By actor, the time before which its accesses are known.
using ActorClock = std::vector<uint32_t>;

struct SharedCell {
  uint32_t write_time;
  uint32_t read_times[2];
  uint16_t writer;  // actors
  uint16_t readers[2];
  uint8_t atomic;     // the last write was one
  uint8_t in_flight;  // an asynchronous copy of `writer` is to fill it
};

struct SharedShadow {
  std::vector<SharedCell> cells;
  uint32_t start = 0;                 // cells with older times are of earlier blocks
  uint32_t floor = 0;                 // accesses before this time are known to all
  std::vector<uint32_t> warp_floors;  // the same among the threads of a warp
  uint32_t cluster_floor = 0;         // and this one to all of the cluster
  uint32_t first_actor = 0;           // the block's first thread
  uint32_t actors = 0;                // of the cluster
  std::vector<uint32_t> known;        // [thread][of actor], where some threads met apart
  bool partial = false;               // `known` is in use
  uint32_t serial = 0;                // numbers the blocks of the process
  bool acquired = false;              // has used a global atomic, so may know other blocks' work
};

// Whether kernels tell of their accesses: not in builds where another sanitizer checks them.
extern bool kernels_report;

enum class Access { read, write, atomic };
// Checks and records an access of the running thread; `pc` is the code that does it.
void check_access(const void* p, size_t bytes, Access access, const void* pc);
// Whether host code that was compiled with the checks has touched device memory since last asked.
bool take_host_access();

void shadow_launch_begin();
// Whether the launch's accesses of global memory were checked, so that the guards need no look.
bool shadow_saw_global();
void shadow_release(const void* p, size_t bytes);  // device memory that is freed
void shadow_block_begin(Block&);
uint32_t shadow_tick();
void shadow_block_met(Block&);
void shadow_warp_met(Block&, unsigned warp, unsigned mask);
// The members' accesses so far become known to those that waited.
void shadow_some_met(Block&, const std::vector<BarrierMember>& members);

// The running thread's clock as others may learn it; what it does later is not covered.
ActorClock shadow_clock(Thread&);
void shadow_learn(Thread&, const ActorClock& clock);
bool shadow_knows(const Thread&, const Thread& other, uint32_t time);
void shadow_cluster_met(const std::vector<Block*>& blocks);

void shadow_async_begin(void* dst, size_t bytes);
void shadow_async_end(void* dst, size_t bytes);
// The same for the asynchronous engine: the running thread lets it fill part of a block's shared
// memory; the bytes land, to the engine's clock; and some thread has waited for them.
void shadow_bulk_begin(Block&, uint32_t offset, uint32_t bytes);
void shadow_bulk_landed(Block&, uint32_t offset, uint32_t bytes, ActorClock& clock);
void shadow_bulk_observed(Block&, uint32_t offset, uint32_t bytes);
// A read by the asynchronous proxy: what threads wrote must have passed a proxy fence.
void shadow_proxy_read(const void* p, size_t bytes);
void shadow_read(const void* p, size_t bytes);
void shadow_write(const void* p, size_t bytes);
void shadow_atomic(const void* p, size_t bytes);

}  // namespace nodegrad::emulation
