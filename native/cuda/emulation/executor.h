// Runs one kernel launch: blocks in a seeded order, the threads of a block as fibers, one of the
// ready ones chosen at random at every rendezvous. A cooperative launch has all its blocks side by
// side. The first misuse ends the launch: its fibers are left where they stand, which is sound
// because device code owns nothing that needs a destructor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "emulation/fiber.h"
#include "emulation/random.h"
#include "emulation/runtime_api.h"
#include "emulation/shadow.h"

namespace nodegrad::emulation {

struct Block;

constexpr size_t kRedZone = 1024;  // on either side of a block's shared memory

// A piece of a message. No std::string: a failing thread's stack is never unwound.
struct Text {
  char chars[512];
};

struct Site {
  const char* file = nullptr;
  int line = 0;
};

// One lane's arrival at a rendezvous of its warp; lives on the lane's stack.
struct WarpArrival {
  WarpKind kind;
  unsigned mask;
  Site site;
  int source = 0;            // shuffle
  uint64_t value = 0;        // shuffle, vote, match: what the lane gives, then what it gets
  const void* in = nullptr;  // gather
  void* out = nullptr;
  size_t bytes = 0;
};

struct AsyncCopy {
  char* dst;
  const char* src;
  int bytes, valid_bytes;
  int group;
  bool landed;
};

enum class Wait : uint8_t { none, block, warp, named, exited };

struct Thread {
  Fiber* fiber;
  uintptr_t stack_low;
  size_t stack_bytes;
  Block* block;
  api::uint3 index;
  unsigned linear;
  Wait wait;
  Site site;
  std::vector<AsyncCopy> copies;
  int copy_group;
  unsigned polls;
};

struct Warp {
  unsigned waiting;  // lanes
  bool uniform;      // all waiting lanes agree on mask, kind and site
  WarpArrival* arrivals[32];
};

struct NamedBarrier {
  int expected, arrived;
  std::vector<BarrierMember> members;
};

struct Block {
  api::uint3 index;
  char* shared;
  size_t shared_bytes;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  NamedBarrier named[16];
  unsigned live;
  unsigned arrived;  // at the block's barrier
  Site site;
  Votes votes, result;
  SharedShadow shadow;
};

struct Launch {
  const KernelCall* call;
  const char* name;
  api::dim3 grid, block;
  size_t shared_bytes;
  bool cooperative;
};

// Runs the launch on the calling thread; one at a time in the process. Returns what went wrong,
// or nothing. `random` orders it.
std::string run_launch(const Launch& launch, Random random);

// The thread that runs now, null outside kernels.
extern thread_local Thread* current_thread __attribute__((tls_model("initial-exec")));
const Launch& current_launch();
Random& launch_random();

// Waits as `wait` says: returns once another thread has released this one.
void suspend(Thread& thread, Wait wait, Site site);
void release(Thread& thread);

// rendezvous.cc: describes who waits for what in a block that cannot go on.
std::string describe_deadlock(const Block& block);
// async.cc
void land_some_copies(Thread& thread);
void land_all_copies(Thread& thread);

}  // namespace nodegrad::emulation
