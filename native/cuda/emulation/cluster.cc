// Clusters of the emulated device: ranks, the cluster's barrier, addresses in other blocks.
#include <algorithm>

#include "emulation/control.h"
#include "emulation/executor.h"

namespace nodegrad::emulation {

uint32_t shared_address(const void* p) {
  const Block& block = *current_thread->block;
  const ptrdiff_t offset = static_cast<const char*>(p) - block.shared;
  if (offset < 0 || static_cast<size_t>(offset) > block.shared_bytes) {
    fail_thread("a shared address was expected, got %p", p);
  }
  return static_cast<uint32_t>(offset) + kWindowStart;
}

unsigned cluster_rank() { return current_thread->block->rank; }
unsigned cluster_size() { return current_launch().cluster; }

Block* block_of(const Thread& thread, const void* p) {
  for (Block* block : thread.block->cluster->blocks) {
    const ptrdiff_t offset = static_cast<const char*>(p) - block->shared;
    if (offset >= 0 && static_cast<size_t>(offset) < block->shared_bytes) return block;
  }
  return nullptr;
}

void* map_shared(const void* own, unsigned rank) {
  const Block& block = *current_thread->block;
  if (rank >= block.cluster->blocks.size()) {
    fail_thread("mapa: rank below %zu, got %u", block.cluster->blocks.size(), rank);
  }
  const ptrdiff_t offset = static_cast<const char*>(own) - block.shared;
  if (offset < 0 || static_cast<size_t>(offset) >= block.shared_bytes) {
    fail_thread("mapa: an address of the block's shared memory, got %p", own);
  }
  return block.cluster->blocks[rank]->shared + offset;
}

// All threads that have not exited have arrived.
static void complete(Cluster& cluster) {
  if (cluster.arrived == 0 || cluster.arrived < cluster.live) return;
  cluster.arrived = 0;
  shadow_cluster_met(cluster.blocks);
  for (Block* block : cluster.blocks) {
    for (Thread& thread : block->threads) {
      thread.at_cluster = false;
      if (thread.wait == Wait::cluster) release(thread);
    }
  }
}

void cluster_arrive(const char* file, int line) {
  Thread& thread = *current_thread;
  if (thread.at_cluster) {
    fail_thread("barrier.cluster.arrive at %s:%d, with no wait after the one before", file, line);
  }
  thread.at_cluster = true;
  ++thread.block->cluster->arrived;
  complete(*thread.block->cluster);
}

void cluster_wait(const char* file, int line) {
  Thread& thread = *current_thread;
  if (thread.at_cluster) suspend(thread, Wait::cluster, {file, line});
}

void leave_cluster(Thread& thread) {
  Cluster& cluster = *thread.block->cluster;
  --cluster.live;
  if (thread.at_cluster) --cluster.arrived;
  complete(cluster);
}

bool elect_lane(const char* file, int line) {
  uint64_t drawn = launch_random().next();
  drawn = warp_shuffle(0xffffffffu, drawn, 0, file, line);
  return lane_index() == drawn % 32;
}

void set_max_registers(int count) {
  if (count < 24 || count > 256 || count % 8 != 0) {
    fail_thread("setmaxnreg: a multiple of 8 from 24 to 256, got %d", count);
  }
  Thread& thread = *current_thread;
  Block& block = *thread.block;
  Warpgroup& group = block.warpgroups[thread.linear / 128];
  const unsigned change = ++thread.register_changes;
  // One thread acts for its warpgroup, and the others wait until it has.
  constexpr int kRounds = 500;
  for (int round = 0; group.register_changes < change; ++round) {
    if (round == kRounds) {
      fail_thread("setmaxnreg: waits without end for %d registers a thread, %d are given back",
                  count - group.registers, block.spare_registers);
    }
    if (block.spare_registers >= count - group.registers) {
      block.spare_registers -= count - group.registers;
      group.registers = count;
      group.register_changes = change;
    } else {
      yield();
    }
  }
}

}  // namespace nodegrad::emulation
