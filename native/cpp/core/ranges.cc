#include "core/ranges.h"

namespace nodegrad {

void FreeRanges::insert(char* begin, size_t bytes) {
  free_.emplace(begin, bytes);
  by_size_.emplace(bytes, begin);
}

void FreeRanges::erase(std::map<char*, size_t>::iterator range) {
  by_size_.erase({range->second, range->first});
  free_.erase(range);
}

void FreeRanges::add(void* block, size_t bytes) {
  char* const begin = static_cast<char*>(block);
  blocks_.emplace(begin, bytes);
  insert(begin, bytes);
}

void* FreeRanges::take(size_t bytes) {
  const auto best = by_size_.lower_bound({bytes, nullptr});
  if (best == by_size_.end()) return nullptr;
  const auto [size, begin] = *best;
  erase(free_.find(begin));
  if (size > bytes) insert(begin + bytes, size - bytes);
  return begin;
}

void FreeRanges::give_back(void* range, size_t bytes) {
  char* begin = static_cast<char*>(range);
  char* end = begin + bytes;
  const auto next = free_.lower_bound(begin);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin && !blocks_.contains(begin)) {
      begin = before->first;
      erase(before);
    }
  }
  if (next != free_.end() && next->first == end && !blocks_.contains(end)) {
    end += next->second;
    erase(next);
  }
  insert(begin, static_cast<size_t>(end - begin));
}

size_t FreeRanges::idle() const {
  size_t total = 0;
  for (const auto& [block, bytes] : blocks_) {
    const auto range = free_.find(block);
    if (range != free_.end() && range->second == bytes) total += bytes;
  }
  return total;
}

void FreeRanges::remove_idle(const std::function<void(void*, size_t)>& removed) {
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto range = free_.find(block->first);
    if (range == free_.end() || range->second != block->second) {
      ++block;
      continue;
    }
    erase(range);
    removed(block->first, block->second);
    block = blocks_.erase(block);
  }
}

}  // namespace nodegrad
