// Free parts of large blocks. A request takes the smallest range that has room and leaves the rest;
// a range given back joins its free neighbours of the same block. So requests of one size are
// served from what requests of other sizes left, as with batches of changing lengths.
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <utility>

namespace nodegrad {

// Requests above this are cut from ranges; smaller ones are cheaper to keep by size class.
constexpr size_t kLargeRequest = size_t{1} << 20;

class FreeRanges {
 public:
  // The bytes that a request takes.
  static size_t rounded(size_t bytes) { return (bytes + kGrain - 1) / kGrain * kGrain; }

  // Adds a block, all of it free.
  void add(void* block, size_t bytes);
  // Null where no range has room; `bytes` is rounded.
  void* take(size_t bytes);
  bool has_room(size_t bytes) const {
    return by_size_.lower_bound({bytes, nullptr}) != by_size_.end();
  }
  void give_back(void* range, size_t bytes);
  // The bytes of the blocks that are free as a whole.
  size_t idle() const;
  // Takes out the blocks that are free as a whole.
  void remove_idle(const std::function<void(void* block, size_t bytes)>& removed);

 private:
  static constexpr size_t kGrain = size_t{64} << 10;

  void insert(char* begin, size_t bytes);
  void erase(std::map<char*, size_t>::iterator range);

  std::map<char*, size_t> blocks_;
  std::map<char*, size_t> free_;
  std::set<std::pair<size_t, char*>> by_size_;
};

}  // namespace nodegrad
