// Runs one kernel launch: blocks in a seeded order, the threads of a block as fibers, one of the
// ready ones chosen at random at every rendezvous. A cooperative launch has all its blocks side by
// side, any other those of one cluster. The first misuse ends the launch: its fibers are left where
// they stand, which is sound because device code owns nothing that needs a destructor.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "emulation/fiber.h"
#include "emulation/hopper.h"
#include "emulation/random.h"
#include "emulation/runtime_api.h"
#include "emulation/shadow.h"

namespace nodegrad::emulation {

struct Block;

constexpr size_t kRedZone = 1024;  // on either side of a block's shared memory
// Shared windows do not start at 0 on a device either: the system keeps the first kilobyte.
constexpr uint32_t kWindowStart = 1024;

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

enum class Wait : uint8_t { none, block, warp, named, cluster, mbarrier, product, exited };

// Registers of A that a product may still read, and what they held when it was issued.
struct LeftRegisters {
  uint64_t product;
  const uint32_t* registers;
  uint32_t at_issue[4];
};

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
  bool at_cluster;          // has arrived at the cluster's barrier, which is not complete
  int bulk_group;           // of its cp.async.bulk stores
  uint32_t proxy_fence;     // time of its last fence.proxy.async
  uint32_t mbarrier_fence;  // of its last fence.mbarrier_init
  bool product_fence;       // since its last wait for products
  uint64_t products;        // issued
  unsigned register_changes;
  std::vector<uint64_t> product_groups;  // products issued at each commit
  std::vector<LeftRegisters> left;       // of products not yet waited for
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

// An mbarrier's state, kept beside the 8 bytes that stand for it.
struct Mbarrier {
  unsigned count, pending;
  int64_t bytes;  // expected less arrived
  uint64_t phase;
  Thread* initializer;
  uint32_t init_time;
  std::vector<Thread*> waiters;
  ActorClock arriving, completed;  // what arrivals of this and the last phase knew
  std::vector<std::pair<uint32_t, uint32_t>> landed;  // offset and bytes, not yet waited for
};

// A product of a warpgroup: runs once all its threads have issued it.
struct IssuedProduct {
  Product product;
  unsigned issued;
  float* d[128];
  uint32_t left[128][4];  // A, where it is in registers
};

struct Warpgroup {
  std::vector<IssuedProduct> pending;
  uint64_t done;  // products before the first of `pending`
  int registers;  // of a thread
  unsigned register_changes;
  std::vector<Thread*> waiters;
};

// A copy of the asynchronous engine on its way: to shared memory of the blocks named, or from it.
struct BulkCopy {
  enum class Kind : uint8_t { tensor_load, tensor_store, bytes } kind;
  char map[128];
  int coordinates[5];
  uint16_t offsets[3];         // im2col mode
  std::vector<char> value;     // bytes
  ActorClock known;            // bytes: what their sender had done, as its value depends on it
  std::vector<Block*> blocks;  // destinations, or the source
  uint32_t offset, barrier, size;
  Thread* thread;
  int group;
};

struct Cluster {
  std::vector<Block*> blocks;
  unsigned live, arrived;  // threads
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
  Cluster* cluster;
  unsigned rank;
  std::map<uint32_t, Mbarrier> mbarriers;  // by offset
  std::vector<Warpgroup> warpgroups;
  int spare_registers;  // given back, times 128 threads
};

struct Launch {
  const KernelCall* call;
  const char* name;
  api::dim3 grid, block;
  size_t shared_bytes;
  bool cooperative;
  unsigned cluster;  // blocks, along x
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
// Ends the launch from outside its threads.
void fail_engine(const std::string& text);
std::vector<BulkCopy>& bulk_copies();

// rendezvous.cc: describes who waits for what in a block that cannot go on.
std::string describe_deadlock(const Block& block);
// async.cc
void land_some_copies(Thread& thread);
void land_all_copies(Thread& thread);
// tensor.cc: carries out the copy at this place of the list, and drops it.
void land_bulk_copy(size_t at);
// cluster.cc
void leave_cluster(Thread& thread);
Block* block_of(const Thread& thread, const void* p);  // whose shared memory holds p, or null
// mbarrier.cc: the copy's bytes have landed in the block.
void mbarrier_complete_bytes(Block&, const BulkCopy&);

}  // namespace nodegrad::emulation
