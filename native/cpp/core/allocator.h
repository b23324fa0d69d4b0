// A caching allocator, one per stream: a freed block is reused by later work of the same stream,
// which runs after everything that used it, so that no wait and no driver call is needed in a
// steady loop. Small requests are rounded to size classes (at most 1/8 waste above 4 KiB) and kept
// by class; large ones are cut from blocks, of which a loop over changing sizes needs no more than
// over its largest.
//
// What all streams of a device hold is counted in its MemoryAccount, which also keeps the limit.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/ranges.h"
#include "core/stream.h"

namespace nodegrad {

// Bytes of one device, over every stream of the process.
struct MemoryAccount {
  std::atomic<int64_t> reserved{0};  // taken from the driver, used or cached
  std::atomic<int64_t> limit{0};     // 0: whatever the driver gives
};

struct MemoryStats {
  int64_t allocated = 0;       // held by tensors now
  int64_t peak_allocated = 0;  // the most since the start or the last reset
  int64_t reserved = 0;        // allocated + cached for reuse
  int64_t blocks = 0;          // held by tensors now
  int64_t driver_calls = 0;    // allocations that the cache could not serve
};

size_t size_class(size_t bytes);

class CachingAllocator {
 public:
  CachingAllocator(DeviceDriver& driver, MemoryAccount& account)
      : driver_(driver), account_(account) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Null where neither the cache, nor the driver, nor the limit has room; `block_bytes` receives
  // the block's true size.
  void* allocate(size_t bytes, size_t& block_bytes);
  void release(void* block, size_t block_bytes);
  void release_cached();  // back to the driver; the stream must be idle
  // Whether blocks that nobody uses, each too small, could make way for one of this size.
  bool outgrown(size_t bytes) const;
  MemoryStats stats() const;
  void reset_peak();
  // Between them: the most that was held at once, less what is still held at the end.
  void begin_measure();
  int64_t end_measure();

 private:
  void* from_driver(size_t bytes);
  void* take_small(size_t block_bytes);
  void* take_large(size_t block_bytes);

  DeviceDriver& driver_;
  MemoryAccount& account_;
  mutable std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> cached_;  // small blocks by class
  FreeRanges ranges_;
  MemoryStats stats_;
  int64_t measured_peak_ = 0;
};

}  // namespace nodegrad
