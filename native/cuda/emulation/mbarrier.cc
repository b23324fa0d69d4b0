// mbarrier objects of the emulated device (PTX ISA, "Parallel Synchronization and Communication
// Instructions: mbarrier"). A phase is complete when no arrival is pending and the expected bytes
// have come; the next one begins at once.
#include <algorithm>
#include <cstring>

#include "emulation/executor.h"

namespace nodegrad::emulation {

namespace {

constexpr int64_t kMostBytes = (1 << 20) - 1;
constexpr unsigned kMostArrivals = (1 << 20) - 1;

struct Found {
  Block* block;
  uint32_t offset;
  Mbarrier* barrier;
};

Found place_of(const void* p, bool may_be_remote) {
  Thread& thread = *current_thread;
  check_aligned(p, 8);
  Block* block = block_of(thread, p);
  if (!block || (!may_be_remote && block != thread.block)) {
    fail_thread("mbarrier: an address of %s shared memory, got %p",
                may_be_remote ? "the cluster's" : "the block's", p);
  }
  if (block->live == 0) fail_thread("mbarrier: block %u of the cluster has exited", block->rank);
  const auto offset = static_cast<uint32_t>(static_cast<const char*>(p) - block->shared);
  auto found = block->mbarriers.find(offset);
  return {block, offset, found == block->mbarriers.end() ? nullptr : &found->second};
}

Found find(const void* p, bool may_be_remote) {
  const Found found = place_of(p, may_be_remote);
  if (!found.barrier) fail_thread("mbarrier at offset %u was not initialised", found.offset);
  const Mbarrier& b = *found.barrier;
  if (!shadow_knows(*current_thread, *b.initializer, b.init_time)) {
    fail_thread("mbarrier at offset %u: its initialisation may come later, no barrier in between",
                found.offset);
  }
  return found;
}

void learn(ActorClock& into, const ActorClock& from) {
  if (into.size() < from.size()) into.resize(from.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

void advance(Mbarrier& b) {
  if (b.pending > 0 || b.bytes != 0) return;
  ++b.phase;
  b.pending = b.count;
  b.completed = b.arriving;
  for (Thread* waiter : b.waiters) release(*waiter);
  b.waiters.clear();
}

// The phase of this parity is complete: the current one has the other parity.
bool complete(const Mbarrier& b, unsigned parity) { return (b.phase & 1) != (parity & 1); }

void observe(const Found& found) {
  Mbarrier& b = *found.barrier;
  shadow_learn(*current_thread, b.completed);
  for (const auto& [offset, bytes] : b.landed) shadow_bulk_observed(*found.block, offset, bytes);
  b.landed.clear();
}

}  // namespace

void mbarrier_init(void* p, unsigned count) {
  const Found found = place_of(p, false);
  if (found.barrier) fail_thread("mbarrier at offset %u is initialised already", found.offset);
  if (count < 1 || count > kMostArrivals) {
    fail_thread("mbarrier: 1 to %u arrivals, got %u", kMostArrivals, count);
  }
  shadow_write(p, 8);
  std::memset(p, 0, 8);
  Mbarrier& b = found.block->mbarriers[found.offset];
  b = {};
  b.count = b.pending = count;
  b.initializer = current_thread;
  b.init_time = shadow_tick();
}

void mbarrier_expect(void* p, unsigned bytes) {
  const Found found = find(p, true);
  found.barrier->bytes += bytes;
  if (found.barrier->bytes > kMostBytes) {
    fail_thread("mbarrier at offset %u expects more than %lld bytes", found.offset,
                static_cast<long long>(kMostBytes));
  }
}

void mbarrier_arrive(void* p, unsigned count, unsigned expected_bytes) {
  if (expected_bytes > 0) mbarrier_expect(p, expected_bytes);
  const Found found = find(p, true);
  Mbarrier& b = *found.barrier;
  if (count < 1 || count > b.pending) {
    fail_thread("mbarrier at offset %u: %u arrivals, %u are pending", found.offset, count,
                b.pending);
  }
  learn(b.arriving, shadow_clock(*current_thread));
  b.pending -= count;
  advance(b);
}

bool mbarrier_test(void* p, unsigned parity) {
  const Found found = find(p, false);
  if (!complete(*found.barrier, parity)) {
    yield();
    return false;
  }
  observe(found);
  return true;
}

void mbarrier_wait(void* p, unsigned parity, const char* file, int line) {
  const Found found = find(p, false);
  while (!complete(*found.barrier, parity)) {
    found.barrier->waiters.push_back(current_thread);
    suspend(*current_thread, Wait::mbarrier, {file, line});
  }
  observe(found);
}

void mbarrier_complete_bytes(Block& block, const BulkCopy& copy) {
  auto found = block.mbarriers.find(copy.barrier);
  if (found == block.mbarriers.end()) {
    return fail_engine("an asynchronous copy completes an mbarrier that is not initialised, at " +
                       std::to_string(copy.barrier));
  }
  Mbarrier& b = found->second;
  ActorClock clock = copy.known;
  shadow_bulk_landed(block, copy.offset, copy.size, clock);
  learn(b.arriving, clock);
  b.landed.emplace_back(copy.offset, copy.size);
  b.bytes -= copy.size;
  if (b.bytes < -kMostBytes) return fail_engine("an mbarrier's bytes go below their range");
  advance(b);
}

// Of the barriers initialised before, to the asynchronous engine and the cluster.
void fence_mbarrier_init() { current_thread->mbarrier_fence = shadow_tick(); }

void fence_proxy_async() { current_thread->proxy_fence = shadow_tick(); }

}  // namespace nodegrad::emulation
