// Storage: a reference-counted block of device memory. Arena: the blocks of captured steps, which
// are reused from one recording to the next because replays run one after another.
#pragma once

#include <unordered_map>
#include <vector>

#include "core/device.h"

namespace nodegrad {

class Arena : public RefCounted<Arena> {
 public:
  explicit Arena(Ref<Device> device) : device_(std::move(device)) {}
  ~Arena();
  void* take(size_t bytes, size_t& block_bytes);
  void give_back(void* block, size_t block_bytes);
  // One block for all of a recording, from which parts of any size can be cut; before recording.
  void reserve(size_t bytes);
  size_t bytes() const { return bytes_; }
  int64_t in_use() const { return in_use_; }  // blocks that tensors hold now

 private:
  void* from_device(size_t bytes, size_t& block_bytes);

  Ref<Device> device_;
  std::unordered_map<size_t, std::vector<void*>> free_;  // small blocks by class
  FreeRanges ranges_;
  std::vector<std::pair<void*, size_t>> blocks_;
  size_t bytes_ = 0;  // of all blocks
  int64_t in_use_ = 0;
};

class Storage : public RefCounted<Storage> {
 public:
  Storage(Ref<Device> device, Ref<Arena> arena, void* data, size_t block_bytes, const char* op);
  // Another environment's block: released to where it is from once this device is done with it.
  Storage(Ref<Device> device, Ref<Storage> lender, const char* op);
  ~Storage();

  Device& device() const { return *device_; }
  void* data() const { return data_; }
  size_t block_bytes() const { return block_bytes_; }
  bool from_arena() const { return static_cast<bool>(arena_); }
  // Whether the memory is another environment's, whose tensors references() does not count.
  bool borrowed() const { return static_cast<bool>(lender_); }

 private:
  friend class Device;
  Ref<Device> device_;
  Ref<Arena> arena_;
  Ref<Storage> lender_;
  void* data_;
  size_t block_bytes_;
  const char* op_;  // a registered op's name: who made it
  uint64_t capture_serial_ = 0;
  Storage* previous_ = nullptr;
  Storage* next_ = nullptr;
};

}  // namespace nodegrad
