#include "emulation/executor.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>

#include "core/error.h"
#include "emulation/arena.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace nodegrad::emulation {

thread_local Thread* current_thread __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

constexpr unsigned char kRedByte = 0xa5;
constexpr unsigned char kSharedPoisons[] = {0xff, 0xfe, 0x7f, 0xcb};
// Rounds of yields of all threads, without any rendezvous or exit, after which they are stuck.
constexpr uint64_t kYieldRounds = 10'000;

// What the running launch needs. Reused from launch to launch, never destroyed.
struct Executor {
  Fiber scheduler;
  FiberPool pool;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Thread*> ready;
  std::vector<Thread*> idle;  // threads that yielded: ready again when no other is
  const Launch* launch = nullptr;
  Random random{0};
  size_t window = 1;  // how many of the threads made ready last the choice is among
  std::vector<BulkCopy> bulk;
  std::vector<Cluster> clusters;
  uint64_t yields = 0;
  uint64_t side_by_side = 0;  // threads of the blocks that run together
  bool failed = false;
  std::string failure;
};

Executor& executor() {
  static Executor& instance = *new Executor;
  return instance;
}

Thread* take_ready(Executor& e) {
  // The asynchronous engine works at seeded moments, and where nothing else can go on.
  while (!e.failed && !e.bulk.empty() && (e.ready.empty() || e.random.below(4) == 0)) {
    land_bulk_copy(e.random.below(static_cast<uint32_t>(e.bulk.size())));
  }
  if (e.ready.empty()) e.ready.swap(e.idle);
  if (e.ready.empty() || e.failed) return nullptr;
  const size_t window = std::min(e.window, e.ready.size());
  const size_t at = e.ready.size() - 1 - e.random.below(static_cast<uint32_t>(window));
  Thread* next = e.ready[at];
  e.ready[at] = e.ready.back();
  e.ready.pop_back();
  return next;
}

void run_thread(void* argument) {
  Executor& e = executor();
  current_thread = static_cast<Thread*>(argument);
  e.launch->call->run();
  Thread& thread = *current_thread;
  land_all_copies(thread);
  thread.wait = Wait::exited;
  --thread.block->live;
  leave_cluster(thread);
  e.yields = 0;
  Thread* next = take_ready(e);
  switch_fiber(*thread.fiber, next ? *next->fiber : e.scheduler, true);
}

char* shared_buffer() {
  void* memory = std::aligned_alloc(1024, kRedZone + kSharedOptin + kRedZone);
  if (!memory) throw std::bad_alloc();
  return static_cast<char*>(memory) + kRedZone;
}

Block& block_at(Executor& e, size_t slot) {
  while (e.blocks.size() <= slot) {
    e.blocks.push_back(std::make_unique<Block>());
    e.blocks.back()->shared = shared_buffer();
  }
  return *e.blocks[slot];
}

void begin_block(Executor& e, size_t slot, uint64_t number, Cluster& cluster) {
  const Launch& launch = *e.launch;
  Block& block = block_at(e, slot);
  const unsigned count = launch.block.x * launch.block.y * launch.block.z;
  block.index = {static_cast<unsigned>(number % launch.grid.x),
                 static_cast<unsigned>(number / launch.grid.x % launch.grid.y),
                 static_cast<unsigned>(number / launch.grid.x / launch.grid.y)};
  block.shared_bytes = launch.shared_bytes;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(block.shared - kRedZone, kRedZone + kSharedOptin + kRedZone);
#endif
  std::memset(block.shared, kSharedPoisons[e.random.below(4)], launch.shared_bytes);
  std::memset(block.shared - kRedZone, kRedByte, kRedZone);
  std::memset(block.shared + launch.shared_bytes, kRedByte, kRedZone);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(block.shared - kRedZone, kRedZone);
  __asan_poison_memory_region(block.shared + launch.shared_bytes,
                              kSharedOptin + kRedZone - launch.shared_bytes);
#endif
  block.live = count;
  block.arrived = 0;
  block.cluster = &cluster;
  block.rank = static_cast<unsigned>(cluster.blocks.size());
  cluster.blocks.push_back(&block);
  cluster.live += count;
  block.mbarriers.clear();
  block.warpgroups.assign((count + 127) / 128, Warpgroup{});
  block.spare_registers = 0;
  // As a kernel that changes them is compiled for: all that its block can have.
  const int registers = std::min(255, 65536 / static_cast<int>(count) / 8 * 8);
  for (Warpgroup& group : block.warpgroups) group.registers = registers;
  block.warps.assign((count + 31) / 32, Warp{});
  for (NamedBarrier& barrier : block.named) {
    barrier.expected = barrier.arrived = 0;
    barrier.members.clear();
  }
  if (block.threads.size() != count) block.threads.resize(count);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = block.threads[i];
    thread.fiber = &e.pool.at(slot * count + i);
    thread.stack_low = reinterpret_cast<uintptr_t>(thread.fiber->low);
    thread.stack_bytes = thread.fiber->bytes;
    thread.block = &block;
    thread.index = {i % launch.block.x, i / launch.block.x % launch.block.y,
                    i / launch.block.x / launch.block.y};
    thread.linear = i;
    thread.wait = Wait::none;
    thread.copies.clear();
    thread.copy_group = 0;
    thread.polls = 0;
    thread.at_cluster = false;
    thread.bulk_group = 0;
    thread.proxy_fence = thread.mbarrier_fence = 0;
    thread.product_fence = false;
    thread.products = 0;
    thread.register_changes = 0;
    thread.product_groups.clear();
    thread.left.clear();
    start_fiber(*thread.fiber, run_thread, &thread);
    e.ready.push_back(&thread);
  }
}

bool red_zones_intact([[maybe_unused]] const Block& block) {
#ifndef __SANITIZE_ADDRESS__
  static const std::string red(kRedZone, static_cast<char>(kRedByte));
  return std::memcmp(block.shared - kRedZone, red.data(), kRedZone) == 0 &&
         std::memcmp(block.shared + block.shared_bytes, red.data(), kRedZone) == 0;
#else
  return true;
#endif
}

void fail_launch(Executor& e, const std::string& text) {
  if (!e.failed) e.failure = text;
  e.failed = true;
}

// Runs `count` blocks, numbered by `number_of`, side by side; they are one cluster, or each alone.
template <class NumberOf>
void run_blocks(Executor& e, size_t count, NumberOf number_of) {
  e.ready.clear();
  e.bulk.clear();
  e.idle.clear();
  e.yields = 0;
  const size_t per_cluster = e.launch->cluster;
  e.clusters.assign(count / per_cluster, Cluster{});
  for (size_t slot = 0; slot < count; ++slot) {
    begin_block(e, slot, number_of(slot), e.clusters[slot / per_cluster]);
  }
  for (size_t slot = 0; slot < count; ++slot) shadow_block_begin(*e.blocks[slot]);
  e.side_by_side = e.ready.size();
  while (!e.failed) {
    Thread* next = take_ready(e);
    if (!next) break;
    switch_fiber(e.scheduler, *next->fiber, false);
  }
  current_thread = nullptr;
  for (size_t slot = 0; slot < count && !e.failed; ++slot) {
    Block& block = *e.blocks[slot];
    char where[96];
    std::snprintf(where, sizeof where, "block (%u,%u,%u): ", block.index.x, block.index.y,
                  block.index.z);
    if (block.live > 0) {
      fail_launch(e, where + describe_deadlock(block));
    } else if (!red_zones_intact(block)) {
      fail_launch(e, std::string(where) + "memory beside the block's shared memory was written");
    }
  }
}

}  // namespace

void fail_engine(const std::string& text) { fail_launch(executor(), text); }
std::vector<BulkCopy>& bulk_copies() { return executor().bulk; }

const Launch& current_launch() { return *executor().launch; }
Random& launch_random() { return executor().random; }

void suspend(Thread& thread, Wait wait, Site site) {
  Executor& e = executor();
  thread.wait = wait;
  thread.site = site;
  if (!thread.copies.empty()) land_some_copies(thread);
  Thread* next = take_ready(e);
  if (next != &thread) switch_fiber(*thread.fiber, next ? *next->fiber : e.scheduler, false);
  current_thread = &thread;
}

void release(Thread& thread) {
  Executor& e = executor();
  thread.wait = Wait::none;
  e.ready.push_back(&thread);
  e.yields = 0;
}

void yield() {
  Thread* thread = current_thread;
  if (!thread) return;
  Executor& e = executor();
  if (++e.yields > kYieldRounds * e.side_by_side) {
    fail_thread("the launch waits without end: no thread makes progress");
  }
  e.idle.push_back(thread);
  suspend(*thread, Wait::none, {});
}

void poll() {
  if (current_thread && ++current_thread->polls % 8 == 0) yield();
}

void fail_thread(const char* format, ...) {
  char text[768];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  Thread* thread = current_thread;
  if (!thread) fail("emulation: outside a kernel: %s", text);
  char where[160];
  const api::uint3 t = thread->index, b = thread->block->index;
  std::snprintf(where, sizeof where, "thread (%u,%u,%u) of block (%u,%u,%u): ", t.x, t.y, t.z, b.x,
                b.y, b.z);
  Executor& e = executor();
  fail_launch(e, std::string(where) + text);
  current_thread = nullptr;
  switch_fiber(*thread->fiber, e.scheduler, true);
  __builtin_unreachable();
}

std::string run_launch(const Launch& launch, Random random) {
  Executor& e = executor();
  adopt_thread(e.scheduler);
  e.launch = &launch;
  e.random = random;
  e.failed = false;
  e.failure.clear();
  // From nearly one warp after the other, which is fast, to any thread next.
  constexpr size_t kWindows[] = {4, 32, 100'000};
  e.window = kWindows[e.random.below(3)];
  shadow_launch_begin();
  const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  const uint64_t count = blocks / launch.cluster;
  // Cluster i is number (first + i·stride) mod count: a seeded order that needs no table.
  const uint64_t first = e.random.next() % count;
  uint64_t stride = e.random.next() % count;
  while (std::gcd(stride, count) != 1) stride = (stride + 1) % count;
  if (launch.cooperative) {
    run_blocks(e, blocks, [](size_t slot) { return slot; });
  } else {
    for (uint64_t i = 0, number = first; i < count && !e.failed; ++i) {
      run_blocks(e, launch.cluster, [&](size_t slot) { return number * launch.cluster + slot; });
      number = (number + stride) % count;
    }
  }
  if (!e.failed && !shadow_saw_global()) {
    const std::string damage = arena_damage();
    if (!damage.empty()) fail_launch(e, damage);
  }
  e.launch = nullptr;
  return e.failed ? std::string(launch.name) + ": " + e.failure : std::string();
}

api::uint3 thread_index() { return current_thread->index; }
api::uint3 block_index() { return current_thread->block->index; }
api::dim3 block_shape() { return executor().launch->block; }
api::dim3 grid_shape() { return executor().launch->grid; }
unsigned lane_index() { return current_thread->linear % 32; }

void* shared_base(size_t bytes) {
  const Block& block = *current_thread->block;
  if (bytes > block.shared_bytes) {
    fail_thread("the kernel's shared memory takes %zu bytes, the launch gave %zu", bytes,
                block.shared_bytes);
  }
  return block.shared;
}

void check_aligned(const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    fail_thread("misaligned address: %p is no multiple of %zu", p, bytes);
  }
}

}  // namespace nodegrad::emulation
