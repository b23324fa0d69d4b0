// Asynchronous copies of the emulated device: kept by the thread that began them, landing at
// seeded moments, at the latest when it waits for them or exits.
#include <algorithm>
#include <cstring>

#include "emulation/executor.h"

namespace nodegrad::emulation {

static void land(AsyncCopy& copy) {
  if (copy.valid_bytes > 0) std::memcpy(copy.dst, copy.src, static_cast<size_t>(copy.valid_bytes));
  std::memset(copy.dst + copy.valid_bytes, 0, static_cast<size_t>(copy.bytes - copy.valid_bytes));
  copy.landed = true;
}

void land_some_copies(Thread& thread) {
  for (AsyncCopy& copy : thread.copies) {
    if (!copy.landed && launch_random().below(4) == 0) land(copy);
  }
}

void land_all_copies(Thread& thread) {
  for (AsyncCopy& copy : thread.copies) {
    if (!copy.landed) land(copy);
    shadow_async_end(copy.dst, static_cast<size_t>(copy.bytes));
  }
  thread.copies.clear();
}

void async_copy(void* shared_dst, const void* global_src, int bytes, int valid_bytes) {
  Thread& thread = *current_thread;
  const Block& block = *thread.block;
  if (valid_bytes < 0 || valid_bytes > bytes) {
    fail_thread("asynchronous copy: 0 to %d valid bytes, got %d", bytes, valid_bytes);
  }
  check_aligned(shared_dst, static_cast<size_t>(bytes));
  if (valid_bytes > 0) check_aligned(global_src, static_cast<size_t>(bytes));
  char* dst = static_cast<char*>(shared_dst);
  const size_t offset = static_cast<size_t>(dst - block.shared);
  if (offset > block.shared_bytes || block.shared_bytes - offset < static_cast<size_t>(bytes)) {
    fail_thread("asynchronous copy: to shared memory at offset %zd of %zu bytes",
                static_cast<ptrdiff_t>(offset), block.shared_bytes);
  }
  if (valid_bytes > 0) shadow_read(global_src, static_cast<size_t>(valid_bytes));
  shadow_async_begin(dst, static_cast<size_t>(bytes));
  thread.copies.push_back(
      {dst, static_cast<const char*>(global_src), bytes, valid_bytes, thread.copy_group, false});
  if (launch_random().below(4) == 0) land(thread.copies.back());
}

void async_commit() { ++current_thread->copy_group; }

void async_wait(int groups_in_flight) {
  Thread& thread = *current_thread;
  const int last = thread.copy_group - groups_in_flight;  // groups below have landed
  std::erase_if(thread.copies, [last](AsyncCopy& copy) {
    if (copy.group >= last) return false;
    if (!copy.landed) land(copy);
    shadow_async_end(copy.dst, static_cast<size_t>(copy.bytes));
    return true;
  });
}

}  // namespace nodegrad::emulation
