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

void* CachingAllocator::take_small(size_t block_bytes) {
  auto found = cached_.find(block_bytes);
  if (found == cached_.end() || found->second.empty()) return from_driver(block_bytes);
  void* const block = found->second.back();
  found->second.pop_back();
  return block;
}

void* CachingAllocator::take_large(size_t block_bytes) {
  if (void* range = ranges_.take(block_bytes)) return range;
  // By class, so that requests that grow little by little find room.
  const size_t bytes = FreeRanges::rounded(size_class(block_bytes));
  void* const block = from_driver(bytes);
  if (!block) return nullptr;
  ranges_.add(block, bytes);
  return ranges_.take(block_bytes);
}

void* CachingAllocator::allocate(size_t bytes, size_t& block_bytes) {
  std::lock_guard lock(mutex_);
  const bool large = bytes > kLargeRequest;
  block_bytes = large ? FreeRanges::rounded(bytes) : size_class(bytes);
  void* const block = large ? take_large(block_bytes) : take_small(block_bytes);
  if (!block) return nullptr;
  stats_.allocated += static_cast<int64_t>(block_bytes);
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  measured_peak_ = std::max(measured_peak_, stats_.allocated);
  ++stats_.blocks;
  return block;
}

void CachingAllocator::release(void* block, size_t block_bytes) {
  std::lock_guard lock(mutex_);
  if (block_bytes > kLargeRequest)
    ranges_.give_back(block, block_bytes);
  else
    cached_[block_bytes].push_back(block);
  stats_.allocated -= static_cast<int64_t>(block_bytes);
  --stats_.blocks;
}

bool CachingAllocator::outgrown(size_t bytes) const {
  if (bytes <= kLargeRequest) return false;
  std::lock_guard lock(mutex_);
  const size_t needed = FreeRanges::rounded(bytes);
  return !ranges_.has_room(needed) && ranges_.idle() >= needed;
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  auto release = [this](void* block, size_t bytes) {
    driver_.release(block);
    account_.reserved -= static_cast<int64_t>(bytes);
    stats_.reserved -= static_cast<int64_t>(bytes);
  };
  for (auto& [bytes, blocks] : cached_) {
    for (void* block : blocks) release(block, bytes);
    blocks.clear();
  }
  ranges_.remove_idle(release);
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
}

void CachingAllocator::begin_measure() {
  std::lock_guard lock(mutex_);
  measured_peak_ = stats_.allocated;
}

int64_t CachingAllocator::end_measure() {
  std::lock_guard lock(mutex_);
  return measured_peak_ - stats_.allocated;
}

}  // namespace nodegrad
