#include "emulation/shadow.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "emulation/arena.h"
#include "emulation/control.h"
#include "emulation/executor.h"

namespace nodegrad::emulation {

bool kernels_report = false;

namespace {

constexpr uint32_t kSeveral = 0x80000000u;  // flag of GlobalCell::reader

// Serial numbers of the blocks that touched a byte; one of an earlier launch means nothing.
struct GlobalCell {
  uint32_t writer, reader;
};

bool enabled = [] {
  const char* text = std::getenv("NODEGRAD_EMULATION_CHECK");
  return !text || std::string(text) != "0";
}();

uint32_t now = 1;  // time of shared accesses
uint32_t next_serial = 1, launch_serial = 1;
GlobalCell* global_cells = nullptr;
bool saw_global = false;
std::atomic<bool> host_access{false};

const char* verb(Access access) { return access == Access::read ? "reads" : "writes"; }

Text actor_name(const Block& block, unsigned actor) {
  const unsigned per_block = static_cast<unsigned>(block.threads.size()) + 1;
  Text name;
  if (actor % per_block == per_block - 1) {
    std::snprintf(name.chars, sizeof name.chars, "the asynchronous engine");
    return name;
  }
  const Block& home = *block.cluster->blocks[actor / per_block];
  const api::uint3 t = home.threads[actor % per_block].index;
  int length = std::snprintf(name.chars, sizeof name.chars, "thread (%u,%u,%u)", t.x, t.y, t.z);
  if (&home != &block) {
    std::snprintf(name.chars + length, sizeof name.chars - static_cast<size_t>(length),
                  " of the cluster's block %u", home.rank);
  }
  return name;
}

// Where the access stands in the code: what addr2line takes.
Text code_at(const void* pc) {
  Dl_info info{};
  Text code;
  if (!dladdr(pc, &info)) info.dli_fname = "?";
  std::snprintf(
      code.chars, sizeof code.chars, "addr2line -Cife %s %#zx", info.dli_fname,
      static_cast<size_t>(static_cast<const char*>(pc) - static_cast<const char*>(info.dli_fbase)) -
          1);
  return code;
}

bool happened_before(const Thread& thread, unsigned other, uint32_t time) {
  const Block& block = *thread.block;
  const SharedShadow& s = block.shadow;
  if (time < s.cluster_floor) return true;
  const unsigned me = thread.linear, local = other - s.first_actor;
  if (local <= block.threads.size()) {
    if (time < s.floor || me == local) return true;
    if (me / 32 == local / 32 && time < s.warp_floors[me / 32]) return true;
  }
  return s.partial && time < s.known[me * s.actors + other];
}

unsigned actor_of(const Thread& thread) { return thread.block->shadow.first_actor + thread.linear; }
unsigned engine_of(const Block& block) {
  return block.shadow.first_actor + static_cast<unsigned>(block.threads.size());
}

// Two readers are kept: the first since the block last met, and the last one.
void note_reader(SharedCell& cell, unsigned me, uint32_t floor) {
  const bool first = cell.readers[0] == me || cell.read_times[0] < floor;
  cell.readers[!first] = static_cast<uint16_t>(me);
  cell.read_times[!first] = now;
}

// One byte, every case; the loops below have already let the usual ones pass.
__attribute__((noinline)) void check_shared_byte(Block& block, const Thread& thread, size_t i,
                                                 Access access, const void* pc) {
  SharedShadow& shadow = block.shadow;
  const unsigned me = actor_of(thread);
  SharedCell& cell = shadow.cells[i];
  const bool written = cell.write_time >= shadow.start;
  if (written && cell.in_flight) {
    fail_thread(
        "%s shared memory at offset %zu, which an asynchronous copy of %s is still to fill [%s]",
        verb(access), i, actor_name(block, cell.writer).chars, code_at(pc).chars);
  }
  if (!written && access != Access::write) {
    fail_thread("reads shared memory at offset %zu, which no thread has written [%s]", i,
                code_at(pc).chars);
  }
  const bool both_atomic = access == Access::atomic && cell.atomic;
  if (written && !both_atomic && !happened_before(thread, cell.writer, cell.write_time)) {
    fail_thread("%s shared memory at offset %zu, which %s wrote with no barrier in between [%s]",
                verb(access), i, actor_name(block, cell.writer).chars, code_at(pc).chars);
  }
  if (access == Access::read) {
    note_reader(cell, me, block.cluster->blocks.size() > 1 ? shadow.cluster_floor : shadow.floor);
    return;
  }
  for (int r = 0; r < 2; ++r) {
    if (cell.read_times[r] >= shadow.start &&
        !happened_before(thread, cell.readers[r], cell.read_times[r])) {
      fail_thread(
          "writes shared memory at offset %zu, which %s read with no barrier in between [%s]", i,
          actor_name(block, cell.readers[r]).chars, code_at(pc).chars);
    }
  }
  cell.writer = static_cast<uint16_t>(me);
  cell.write_time = now;
  cell.atomic = access == Access::atomic;
  cell.in_flight = false;
}

[[noreturn]] void fail_outside_shared(const Block& block, size_t offset, size_t bytes,
                                      Access access, const void* pc) {
  fail_thread("%s %zu bytes at offset %zd of the block's %zu bytes of shared memory [%s]",
              verb(access), bytes, static_cast<ptrdiff_t>(offset), block.shared_bytes,
              code_at(pc).chars);
}

// Apart from check_access, which must stay small: most accesses are to the thread's own stack.
__attribute__((noinline)) void check_shared(Block& block, const Thread& thread, size_t offset,
                                            size_t bytes, Access access, const void* pc) {
  if (offset > block.shared_bytes || block.shared_bytes - offset < bytes) {
    fail_outside_shared(block, offset, bytes, access, pc);
  }
  const unsigned me = actor_of(thread);
  // Of a cluster's blocks each byte is looked at closely: others' threads may have touched it.
  const bool alone = block.cluster->blocks.size() == 1;
  const uint32_t start = block.shadow.start, floor = alone ? block.shadow.floor : 0, time = now;
  SharedCell* cells = block.shadow.cells.data();
  for (size_t i = offset; i < offset + bytes; ++i) {
    SharedCell& cell = cells[i];
    const bool settled = cell.write_time < floor && !cell.in_flight;
    if (access == Access::read && settled && cell.write_time >= start) {
      note_reader(cell, me, floor);
    } else if (access == Access::write && settled && cell.read_times[0] < floor &&
               cell.read_times[1] < floor) {
      cell.writer = static_cast<uint16_t>(me);
      cell.write_time = time;
      cell.atomic = false;
    } else {
      check_shared_byte(block, thread, i, access, pc);
    }
  }
}

[[noreturn]] void fail_global(const void* p, size_t bytes, Access access, const char* why,
                              const void* pc) {
  fail_thread("%s %zu bytes of global memory %s%s [%s]", verb(access), bytes,
              arena_describe(p).chars, why, code_at(pc).chars);
}

__attribute__((noinline)) void check_global(Block& block, const void* p, size_t bytes,
                                            Access access, const void* pc) {
  if (bytes <= 16 ? !arena_permits(p, bytes) : !arena_contains(p, bytes)) {
    fail_global(p, bytes, access, "", pc);
  }
  saw_global = true;
  if (!global_cells) return;
  SharedShadow& shadow = block.shadow;
  if (access == Access::atomic) {
    shadow.acquired = true;
    return;
  }
  GlobalCell* cells = global_cells + (reinterpret_cast<uintptr_t>(p) - arena_base);
  const uint32_t me = shadow.serial, first = launch_serial;
  const bool acquired = shadow.acquired;
  for (GlobalCell* cell = cells; cell != cells + bytes; ++cell) {
    const uint32_t reader = cell->reader & ~kSeveral;
    const bool others_wrote = cell->writer >= first && cell->writer != me;
    const bool others_read = reader >= first && cell->reader != me;
    if (!acquired && (others_wrote || (access == Access::write && others_read))) {
      fail_global(p, bytes, access,
                  others_wrote ? ", which another block of the launch writes"
                               : ", which another block of the launch reads",
                  pc);
    }
    if (access == Access::write) {
      cell->writer = me;
    } else if (reader < first) {
      cell->reader = me;
    } else if (reader != me) {
      cell->reader |= kSeveral;
    }
  }
}

// Constants and code of the loaded objects, which kernels may read.
bool in_loaded_object(uintptr_t at) {
  struct Range {
    uintptr_t low, high;
  };
  static auto& ranges = *new std::vector<Range>;
  const auto inside = [at](const Range& r) { return at - r.low < r.high - r.low; };
  if (std::any_of(ranges.begin(), ranges.end(), inside)) return true;
  ranges.clear();
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const uintptr_t low = info->dlpi_addr + header.p_vaddr;
          ranges.push_back({low, low + header.p_memsz});
        }
        return 0;
      },
      nullptr);
  return std::any_of(ranges.begin(), ranges.end(), inside);
}

__attribute__((noinline)) void check_other(const void* p, size_t bytes, Access access,
                                           const void* pc) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  const Thread& thread = *current_thread;
  if (Block* peer = thread.block->cluster->blocks.size() > 1 ? block_of(thread, p) : nullptr) {
    if (peer->live == 0) {
      fail_thread("%s shared memory of the cluster's block %u, which has exited [%s]", verb(access),
                  peer->rank, code_at(pc).chars);
    }
    check_shared(*peer, thread, static_cast<size_t>(static_cast<const char*>(p) - peer->shared),
                 bytes, access, pc);
    return;
  }
  const KernelCall& call = *current_launch().call;
  const bool parameter = at - reinterpret_cast<uintptr_t>(&call) < call.bytes;
  if (access == Access::read && (parameter || in_loaded_object(at))) return;
  if (is_pinned(p, bytes)) return;
  fail_thread("%s %zu bytes at %p, which is no address of the device [%s]", verb(access), bytes, p,
              code_at(pc).chars);
}

}  // namespace

void check_access(const void* p, size_t bytes, Access access, const void* pc) {
  const Thread* thread = current_thread;
  if (!enabled) return;
  if (!thread) {
    if (in_arena(p)) host_access.store(true, std::memory_order_relaxed);
    return;
  }
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  if (at - thread->stack_low < thread->stack_bytes) return;
  Block& block = *thread->block;
  const size_t offset = at - reinterpret_cast<uintptr_t>(block.shared);
  if (offset + kRedZone < kSharedOptin + 2 * kRedZone) {
    check_shared(block, *thread, offset, bytes, access, pc);
  } else if (in_arena(p)) {
    check_global(block, p, bytes, access, pc);
  } else {
    check_other(p, bytes, access, pc);
  }
}

static void join(ActorClock& into, const SharedShadow& s, size_t threads, unsigned member) {
  const uint32_t* row = &s.known[member * s.actors];
  for (size_t other = 0; other < s.actors; ++other) into[other] = std::max(into[other], row[other]);
  // What the whole warp knows of itself.
  for (size_t lane = 0; lane < 32 && member / 32 * 32 + lane < threads; ++lane) {
    uint32_t& entry = into[s.first_actor + member / 32 * 32 + lane];
    entry = std::max(entry, s.warp_floors[member / 32]);
  }
}

static void begin_partial(Block& block) {
  SharedShadow& s = block.shadow;
  if (s.partial) return;
  s.known.assign(block.threads.size() * s.actors, 0);
  s.partial = true;
}

void set_checks(bool on) { enabled = on; }
bool checks() { return enabled; }
bool take_host_access() { return host_access.exchange(false); }

bool shadow_saw_global() { return saw_global; }

void shadow_launch_begin() {
  saw_global = false;
  if (!enabled) return;
  if (!global_cells && arena_span) {
    void* cells = mmap(nullptr, arena_span * sizeof(GlobalCell), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells != MAP_FAILED) global_cells = static_cast<GlobalCell*>(cells);
  }
  if (next_serial > kSeveral / 2) {
    next_serial = 1;
    if (global_cells) madvise(global_cells, arena_span * sizeof(GlobalCell), MADV_DONTNEED);
  }
  launch_serial = next_serial;
}

void shadow_release(const void* p, size_t bytes) {
  if (!global_cells) return;
  constexpr uintptr_t kPage = 4095;
  const auto* cells = global_cells + (reinterpret_cast<uintptr_t>(p) - arena_base);
  const uintptr_t first = (reinterpret_cast<uintptr_t>(cells) + kPage) & ~kPage;
  const uintptr_t last = reinterpret_cast<uintptr_t>(cells + bytes) & ~kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

void shadow_block_begin(Block& block) {
  SharedShadow& s = block.shadow;
  if (!enabled) return;
  if (s.cells.size() < block.shared_bytes) s.cells.resize(block.shared_bytes, SharedCell{});
  if (now > 0xf0000000u) {
    now = 1;
    std::fill(s.cells.begin(), s.cells.end(), SharedCell{});
    std::fill(s.known.begin(), s.known.end(), 0);
  }
  s.start = s.floor = ++now;
  s.cluster_floor = 0;
  s.first_actor = block.rank * (static_cast<uint32_t>(block.threads.size()) + 1);
  s.actors = static_cast<uint32_t>(block.cluster->blocks.size() * (block.threads.size() + 1));
  s.warp_floors.assign(block.warps.size(), 0);
  s.partial = false;
  s.serial = next_serial++;
  s.acquired = false;
}

uint32_t shadow_tick() { return ++now; }

void shadow_block_met(Block& block) {
  SharedShadow& s = block.shadow;
  s.floor = ++now;
  if (!enabled || !s.partial || block.cluster->blocks.size() == 1) return;
  // What each knew of other blocks.
  ActorClock joint(s.actors, 0);
  for (size_t at = 0; at < s.known.size(); ++at) {
    joint[at % s.actors] = std::max(joint[at % s.actors], s.known[at]);
  }
  for (size_t at = 0; at < s.known.size(); ++at) s.known[at] = joint[at % s.actors];
}

void shadow_cluster_met(const std::vector<Block*>& blocks) {
  ++now;
  for (Block* block : blocks) block->shadow.cluster_floor = block->shadow.floor = now;
}

ActorClock shadow_clock(Thread& thread) {
  SharedShadow& s = thread.block->shadow;
  ActorClock clock(s.actors, 0);
  if (!enabled) return clock;
  const size_t threads = thread.block->threads.size();
  begin_partial(*thread.block);
  join(clock, s, threads, thread.linear);
  for (size_t local = 0; local <= threads; ++local) {
    uint32_t& entry = clock[s.first_actor + local];
    entry = std::max(entry, s.floor);
  }
  clock[actor_of(thread)] = ++now;
  return clock;
}

void shadow_learn(Thread& thread, const ActorClock& clock) {
  if (!enabled || clock.empty()) return;
  begin_partial(*thread.block);
  SharedShadow& s = thread.block->shadow;
  uint32_t* row = &s.known[thread.linear * s.actors];
  for (size_t other = 0; other < s.actors; ++other) row[other] = std::max(row[other], clock[other]);
}

bool shadow_knows(const Thread& thread, const Thread& other, uint32_t time) {
  return !enabled || happened_before(thread, actor_of(other), time);
}

void shadow_warp_met(Block& block, unsigned warp, unsigned mask) {
  if (!enabled) return;
  const size_t first = warp * 32, lanes = std::min<size_t>(32, block.threads.size() - first);
  const unsigned whole = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  ++now;
  if (mask == whole && !block.shadow.partial) {
    block.shadow.warp_floors[warp] = now;
    return;
  }
  std::vector<BarrierMember> members;
  for (size_t lane = 0; lane < lanes; ++lane) {
    if (mask >> lane & 1) members.push_back({&block.threads[first + lane], true, 0});
  }
  shadow_some_met(block, members);
}

void shadow_some_met(Block& block, const std::vector<BarrierMember>& members) {
  if (!enabled) return;
  SharedShadow& s = block.shadow;
  begin_partial(block);
  ++now;
  ActorClock joint(s.actors, 0);
  for (const BarrierMember& m : members) join(joint, s, block.threads.size(), m.thread->linear);
  for (const BarrierMember& m : members) joint[actor_of(*m.thread)] = m.waits ? now : m.time;
  for (const BarrierMember& m : members) {
    if (m.waits) std::copy(joint.begin(), joint.end(), &s.known[m.thread->linear * s.actors]);
  }
}

void shadow_async_begin(void* dst, size_t bytes) {
  check_access(dst, bytes, Access::write, __builtin_return_address(0));
  if (!enabled) return;
  Block& block = *current_thread->block;
  SharedCell* cells =
      &block.shadow.cells[static_cast<size_t>(static_cast<char*>(dst) - block.shared)];
  for (size_t i = 0; i < bytes; ++i) cells[i].in_flight = true;
}

void shadow_async_end(void* dst, size_t bytes) {
  if (!enabled) return;
  Block& block = *current_thread->block;
  SharedCell* cells =
      &block.shadow.cells[static_cast<size_t>(static_cast<char*>(dst) - block.shared)];
  for (size_t i = 0; i < bytes; ++i) {
    cells[i].in_flight = false;
    cells[i].write_time = now;
  }
}

void shadow_bulk_begin(Block& block, uint32_t offset, uint32_t bytes) {
  if (!enabled) return;
  const void* pc = __builtin_return_address(0);
  check_shared(block, *current_thread, offset, bytes, Access::write, pc);
  for (uint32_t i = offset; i < offset + bytes; ++i) {
    SharedCell& cell = block.shadow.cells[i];
    cell.in_flight = true;
    cell.writer = static_cast<uint16_t>(engine_of(block));
  }
}

void shadow_bulk_landed(Block& block, uint32_t offset, uint32_t bytes, ActorClock& clock) {
  if (!enabled) return;
  for (uint32_t i = offset; i < offset + bytes; ++i) block.shadow.cells[i].write_time = now;
  clock.resize(block.shadow.actors, 0);
  clock[engine_of(block)] = ++now;
}

void shadow_bulk_observed(Block& block, uint32_t offset, uint32_t bytes) {
  if (!enabled) return;
  for (uint32_t i = offset; i < offset + bytes; ++i) block.shadow.cells[i].in_flight = false;
}

void shadow_proxy_read(const void* p, size_t bytes) {
  if (!kernels_report) return;
  const void* pc = __builtin_return_address(0);
  check_access(p, bytes, Access::read, pc);
  if (!enabled) return;
  const Block& block = *current_thread->block;
  const size_t offset = static_cast<size_t>(static_cast<const char*>(p) - block.shared);
  for (size_t i = offset; i < offset + bytes; ++i) {
    const SharedCell& cell = block.shadow.cells[i];
    const unsigned local = cell.writer - block.shadow.first_actor;
    if (local < block.threads.size() && cell.write_time >= block.threads[local].proxy_fence) {
      fail_thread(
          "reads shared memory at offset %zu through the asynchronous proxy, which %s wrote with "
          "no "
          "fence.proxy.async after it",
          i, actor_name(block, cell.writer).chars);
    }
  }
}

void shadow_read(const void* p, size_t bytes) {
  check_access(p, bytes, Access::read, __builtin_return_address(0));
}

void shadow_write(const void* p, size_t bytes) {
  check_access(p, bytes, Access::write, __builtin_return_address(0));
}

void atomic_access(const void* p, size_t bytes) {
  check_aligned(p, bytes);
  check_access(p, bytes, Access::atomic, __builtin_return_address(0));
}

}  // namespace nodegrad::emulation
