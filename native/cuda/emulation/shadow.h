// What is known of every byte that kernels touch, for the checks. Kernels compiled with
// -fsanitize=thread call __tsan_read4 and its like before each access; shadow.cc defines these.
//
// Shared memory, per byte: the last writer and two last readers with the time of each access.
// Time counts rendezvous; an access happened before another if a chain of barriers lies between
// (Fidge's and Mattern's clocks, kept as one floor per block and per warp, and a matrix of
// thread by thread where only some threads met). Global memory, per byte: which blocks of this
// launch wrote and read it.
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

struct SharedCell {
  uint32_t write_time;
  uint32_t read_times[2];
  uint16_t writer;
  uint16_t readers[2];
  uint8_t atomic;     // the last write was one
  uint8_t in_flight;  // an asynchronous copy of `writer` is to fill it
};

struct SharedShadow {
  std::vector<SharedCell> cells;
  uint32_t start = 0;                 // cells with older times are of earlier blocks
  uint32_t floor = 0;                 // accesses before this time are known to all
  std::vector<uint32_t> warp_floors;  // the same among the threads of a warp
  std::vector<uint32_t> known;        // [thread][of thread], where some threads met apart
  bool partial = false;               // `known` is in use
  uint32_t serial = 0;                // numbers the blocks of the process
  bool acquired = false;              // has used a global atomic, so may know other blocks' work
};

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

void shadow_async_begin(void* dst, size_t bytes);
void shadow_async_end(void* dst, size_t bytes);
void shadow_read(const void* p, size_t bytes);
void shadow_atomic(const void* p, size_t bytes);

}  // namespace nodegrad::emulation
