#include "core/allocator.h"

#include <algorithm>
#include <bit>

namespace nodegrad {

size_t size_class(size_t bytes) {
  constexpr size_t kSmallest = 256;
  if (bytes <= kSmallest) return kSmallest;
  // Eight classes between consecutive powers of two, never finer than kSmallest.
  const size_t step = std::max(kSmallest, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

CachingAllocator::~CachingAllocator() { release_cached(); }

void* CachingAllocator::from_driver(size_t bytes) {
  const int64_t limit = account_.limit.load();
  if (limit > 0 && account_.reserved.load() + static_cast<int64_t>(bytes) > limit) return nullptr;
  void* block = driver_.allocate(bytes);
  if (block) {
    account_.reserved += static_cast<int64_t>(bytes);
    stats_.reserved += static_cast<int64_t>(bytes);
    ++stats_.driver_calls;
  }
  return block;
}

void* CachingAllocator::allocate(size_t bytes, size_t& block_bytes) {
  std::lock_guard lock(mutex_);
  block_bytes = size_class(bytes);
  void* block = nullptr;
  auto found = cached_.find(block_bytes);
  if (found != cached_.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
  } else {
    block = from_driver(block_bytes);
  }
  if (!block) return nullptr;
  stats_.allocated += static_cast<int64_t>(block_bytes);
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  ++stats_.blocks;
  return block;
}

void CachingAllocator::release(void* block, size_t block_bytes) {
  std::lock_guard lock(mutex_);
  cached_[block_bytes].push_back(block);
  stats_.allocated -= static_cast<int64_t>(block_bytes);
  --stats_.blocks;
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  for (auto& [bytes, blocks] : cached_) {
    for (void* block : blocks) driver_.release(block);
    const int64_t total = static_cast<int64_t>(bytes * blocks.size());
    account_.reserved -= total;
    stats_.reserved -= total;
    blocks.clear();
  }
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
}

}  // namespace nodegrad
