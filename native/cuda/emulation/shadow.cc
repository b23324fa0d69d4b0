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

Text thread_name(const Block& block, unsigned linear) {
  const api::uint3 t = block.threads[linear].index;
  Text name;
  std::snprintf(name.chars, sizeof name.chars, "thread (%u,%u,%u)", t.x, t.y, t.z);
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

bool happened_before(const Block& block, unsigned thread, unsigned other, uint32_t time) {
  const SharedShadow& s = block.shadow;
  if (time < s.floor || thread == other) return true;
  if (thread / 32 == other / 32 && time < s.warp_floors[thread / 32]) return true;
  return s.partial && time < s.known[thread * block.threads.size() + other];
}

// Two readers are kept: the first since the block last met, and the last one.
void note_reader(SharedCell& cell, unsigned me, uint32_t floor) {
  const bool first = cell.readers[0] == me || cell.read_times[0] < floor;
  cell.readers[!first] = static_cast<uint16_t>(me);
  cell.read_times[!first] = now;
}

// One byte, every case; the loops below have already let the usual ones pass.
__attribute__((noinline)) void check_shared_byte(Block& block, unsigned me, size_t i, Access access,
                                                 const void* pc) {
  SharedShadow& shadow = block.shadow;
  SharedCell& cell = shadow.cells[i];
  const bool written = cell.write_time >= shadow.start;
  if (written && cell.in_flight) {
    fail_thread(
        "%s shared memory at offset %zu, which an asynchronous copy of %s is still to fill [%s]",
        verb(access), i, thread_name(block, cell.writer).chars, code_at(pc).chars);
  }
  if (!written && access != Access::write) {
    fail_thread("reads shared memory at offset %zu, which no thread has written [%s]", i,
                code_at(pc).chars);
  }
  const bool both_atomic = access == Access::atomic && cell.atomic;
  if (written && !both_atomic && !happened_before(block, me, cell.writer, cell.write_time)) {
    fail_thread("%s shared memory at offset %zu, which %s wrote with no barrier in between [%s]",
                verb(access), i, thread_name(block, cell.writer).chars, code_at(pc).chars);
  }
  if (access == Access::read) {
    note_reader(cell, me, shadow.floor);
    return;
  }
  for (int r = 0; r < 2; ++r) {
    if (cell.read_times[r] >= shadow.start &&
        !happened_before(block, me, cell.readers[r], cell.read_times[r])) {
      fail_thread(
          "writes shared memory at offset %zu, which %s read with no barrier in between [%s]", i,
          thread_name(block, cell.readers[r]).chars, code_at(pc).chars);
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
__attribute__((noinline)) void check_shared(Block& block, unsigned me, size_t offset, size_t bytes,
                                            Access access, const void* pc) {
  if (offset > block.shared_bytes || block.shared_bytes - offset < bytes) {
    fail_outside_shared(block, offset, bytes, access, pc);
  }
  const uint32_t start = block.shadow.start, floor = block.shadow.floor, time = now;
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
      check_shared_byte(block, me, i, access, pc);
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
    check_shared(block, thread->linear, offset, bytes, access, pc);
  } else if (in_arena(p)) {
    check_global(block, p, bytes, access, pc);
  } else {
    check_other(p, bytes, access, pc);
  }
}

static void join(std::vector<uint32_t>& into, const SharedShadow& s, size_t threads,
                 unsigned member) {
  const uint32_t* row = &s.known[member * threads];
  for (size_t other = 0; other < threads; ++other) into[other] = std::max(into[other], row[other]);
  // What the whole warp knows of itself.
  for (size_t lane = 0; lane < 32 && member / 32 * 32 + lane < threads; ++lane) {
    uint32_t& entry = into[member / 32 * 32 + lane];
    entry = std::max(entry, s.warp_floors[member / 32]);
  }
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
  s.warp_floors.assign(block.warps.size(), 0);
  s.partial = false;
  s.serial = next_serial++;
  s.acquired = false;
}

uint32_t shadow_tick() { return ++now; }

void shadow_block_met(Block& block) { block.shadow.floor = ++now; }

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
  const size_t threads = block.threads.size();
  if (!s.partial) {
    s.known.assign(threads * threads, 0);
    s.partial = true;
  }
  ++now;
  std::vector<uint32_t> joint(threads, 0);
  for (const BarrierMember& m : members) join(joint, s, threads, m.thread->linear);
  for (const BarrierMember& m : members) joint[m.thread->linear] = m.waits ? now : m.time;
  for (const BarrierMember& m : members) {
    if (m.waits) std::copy(joint.begin(), joint.end(), &s.known[m.thread->linear * threads]);
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

void shadow_read(const void* p, size_t bytes) {
  check_access(p, bytes, Access::read, __builtin_return_address(0));
}

void atomic_access(const void* p, size_t bytes) {
  check_aligned(p, bytes);
  check_access(p, bytes, Access::atomic, __builtin_return_address(0));
}

}  // namespace nodegrad::emulation
