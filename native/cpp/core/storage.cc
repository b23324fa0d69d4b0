#include "core/storage.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "core/error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace nodegrad {

namespace {

// Under the address sanitizer a block on the CPU is open to the bytes that were asked for, and
// closed while it is cached. Where work is still to run, which may use what is freed in the order
// of the stream, it stays open as a whole.
void open_block([[maybe_unused]] Device& device, [[maybe_unused]] void* block,
                [[maybe_unused]] size_t bytes, [[maybe_unused]] size_t block_bytes) {
#ifdef __SANITIZE_ADDRESS__
  if (device.type() != DeviceType::cpu) return;
  const size_t open = device.stream().idle() ? bytes : block_bytes;
  ASAN_UNPOISON_MEMORY_REGION(block, open);
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(block) + open, block_bytes - open);
#endif
}

}  // namespace

Arena::~Arena() {
  for (auto [block, bytes] : blocks_) device_->allocator().release(block, bytes);
}

void* Arena::from_device(size_t bytes, size_t& block_bytes) {
  void* const block = device_->allocator().allocate(bytes, block_bytes);
  if (!block) return nullptr;
  blocks_.emplace_back(block, block_bytes);
  bytes_ += block_bytes;
  return block;
}

void Arena::reserve(size_t bytes) {
  // What eager runs left in the cache, in parts, would be held beside this.
  device_->synchronize();
  device_->allocator().release_cached();
  size_t taken = 0;
  if (void* const block = from_device(bytes, taken)) ranges_.add(block, taken);
}

void* Arena::take(size_t bytes, size_t& block_bytes) {
  void* block = nullptr;
  if (bytes > kLargeRequest) {
    block_bytes = FreeRanges::rounded(bytes);
    block = ranges_.take(block_bytes);
    if (!block) {
      size_t taken = 0;
      void* const more = from_device(bytes, taken);
      if (!more) return nullptr;
      ranges_.add(more, taken);
      block = ranges_.take(block_bytes);
    }
  } else {
    block_bytes = size_class(bytes);
    auto& free = free_[block_bytes];
    if (!free.empty()) {
      block = free.back();
      free.pop_back();
    } else {
      block = from_device(bytes, block_bytes);
    }
  }
  if (block) ++in_use_;
  return block;
}

void Arena::give_back(void* block, size_t block_bytes) {
  if (block_bytes > kLargeRequest)
    ranges_.give_back(block, block_bytes);
  else
    free_[block_bytes].push_back(block);
  --in_use_;
}

Storage::Storage(Ref<Device> device, Ref<Arena> arena, void* data, size_t block_bytes,
                 const char* op)
    : device_(std::move(device)),
      arena_(std::move(arena)),
      data_(data),
      block_bytes_(block_bytes),
      op_(op) {
  std::lock_guard lock(device_->live_mutex_);
  next_ = device_->live_;
  if (next_) next_->previous_ = this;
  device_->live_ = this;
}

Storage::Storage(Ref<Device> device, Ref<Storage> lender, const char* op)
    : Storage(std::move(device), {}, lender->data(), lender->block_bytes(), op) {
  lender_ = std::move(lender);
}

Storage::~Storage() {
  {
    std::lock_guard lock(device_->live_mutex_);
    if (previous_) previous_->next_ = next_;
    if (next_) next_->previous_ = previous_;
    if (device_->live_ == this) device_->live_ = next_;
  }
  if (lender_) {
    device_->stream().notify([lender = std::move(lender_)] {});
  } else if (arena_) {
    arena_->give_back(data_, block_bytes_);
  } else {
    open_block(*device_, data_, 0, block_bytes_);
    device_->allocator().release(data_, block_bytes_);
  }
}

void Device::make_way(size_t bytes) {
  if (!allocator_.outgrown(bytes)) return;
  synchronize();
  allocator_.release_cached();
}

Ref<Storage> Device::allocate(size_t bytes, const char* op) {
  size_t block_bytes = 0;
  auto take = [&] {
    return arena ? arena->take(bytes, block_bytes) : allocator_.allocate(bytes, block_bytes);
  };
  const bool capturing = stream_->capturing();
  if (!arena && !capturing) make_way(bytes);
  void* block = take();
  if (!block && !capturing) {
    // Cached blocks of other sizes may be all that stands in the way.
    synchronize();
    allocator_.release_cached();
    block = take();
  }
  if (!block) {
    const MemoryStats held = allocator_.stats();
    const int64_t limit = physical_.account.limit.load();
    char limit_text[64] = "no limit set";
    if (limit > 0) std::snprintf(limit_text, sizeof limit_text, "limit %lld", (long long)limit);
    fail("%s: out of memory on %s: asked for %zu bytes, %lld held by %lld tensors (%s), %s", op,
         name().c_str(), bytes, (long long)held.allocated, (long long)held.blocks,
         holders().c_str(), limit_text);
  }
  open_block(*this, block, arena ? block_bytes : bytes, block_bytes);
  return Ref<Storage>(new Storage(Ref<Device>(this), Ref<Arena>(arena), block, block_bytes, op));
}

std::string Device::holders() const {
  std::map<std::string, int64_t> bytes_by_op;
  {
    std::lock_guard lock(live_mutex_);
    for (const Storage* s = live_; s; s = s->next_) {
      bytes_by_op[s->op_] += static_cast<int64_t>(s->block_bytes_);
    }
  }
  std::vector<std::pair<int64_t, std::string>> largest;
  for (auto& [op, bytes] : bytes_by_op) largest.emplace_back(bytes, op);
  std::sort(largest.rbegin(), largest.rend());
  if (largest.size() > 3) largest.resize(3);
  std::string text;
  for (auto& [bytes, op] : largest) {
    text += (text.empty() ? "" : ", ") + op + " " + std::to_string(bytes);
  }
  return text.empty() ? "none" : text;
}

void Device::capture_uses(Storage& storage) {
  if (storage.capture_serial_ == capture_serial) return;
  storage.capture_serial_ = capture_serial;
  captured.emplace_back(&storage);
}

}  // namespace nodegrad
