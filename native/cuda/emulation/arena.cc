#include "emulation/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "emulation/control.h"
#include "emulation/shadow.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace nodegrad::emulation {

uintptr_t arena_base = 0;
size_t arena_span = 0;
uint16_t* arena_valid_bytes = nullptr;

namespace {

constexpr size_t kSpan = size_t(16) << 30;
constexpr size_t kLargestTotal = kSpan / 4 * 3;  // the rest is guard zones and fragments
constexpr size_t kGuard = 512;
constexpr size_t kPoisonLimit = size_t(64) << 20;  // bytes of an allocation that are poisoned
constexpr unsigned char kPoison = 0xff;            // a NaN in every floating type, -1 in integers
constexpr unsigned char kGuardByte = 0xa5;

struct Arena {
  std::mutex mutex;
  std::map<char*, size_t> live;  // start, bytes asked for
  std::map<char*, size_t> free;  // start, bytes, guards included
  size_t total = size_t(4) << 30;
  size_t used = 0;
  char* next = nullptr;  // where the search for free addresses goes on
};

Arena& arena() {
  static Arena& instance = *[] {
    auto* arena = new Arena;
    if (const char* text = std::getenv("NODEGRAD_EMULATION_MEMORY")) {
      arena->total = std::strtoull(text, nullptr, 10);
    }
    return arena;
  }();
  return instance;
}

void* reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

size_t padded(size_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }
// Guard, data, guard.
size_t footprint(size_t bytes) { return 2 * kGuard + std::max(padded(bytes), kGranule); }

bool open(Arena& a) {
  if (arena_base) return true;
  void* base = reserve(kSpan);
  void* valid = reserve(kSpan / kGranule * sizeof(uint16_t));
  if (!base || !valid) return false;
  arena_valid_bytes = static_cast<uint16_t*>(valid);
  a.next = static_cast<char*>(base);
  a.free[a.next] = kSpan;
  arena_base = reinterpret_cast<uintptr_t>(base);
  arena_span = kSpan;
  return true;
}

void mark(char* start, size_t bytes, bool valid) {
  const size_t first = (reinterpret_cast<uintptr_t>(start) - arena_base) / kGranule;
  const size_t granules = padded(bytes) / kGranule;
  for (size_t i = 0; i < granules; ++i) {
    const size_t left = bytes - i * kGranule;
    arena_valid_bytes[first + i] = valid ? static_cast<uint16_t>(std::min(left, kGranule)) : 0;
  }
}

size_t tail_bytes(size_t bytes) { return footprint(bytes) - kGuard - bytes; }

// `bytes` is at most that of a guard and a granule.
[[maybe_unused]] bool intact(const char* guard, size_t bytes) {
  static const std::string expected(kGuard + kGranule, static_cast<char>(kGuardByte));
  return std::memcmp(guard, expected.data(), bytes) == 0;
}

}  // namespace

void* arena_allocate(size_t bytes) {
  Arena& a = arena();
  std::lock_guard lock(a.mutex);
  const size_t total = std::min(a.total, kLargestTotal);
  if (bytes > total || a.used + padded(bytes) > total || !open(a)) return nullptr;
  const size_t need = footprint(bytes);
  auto at = a.free.lower_bound(a.next);
  for (size_t tried = 0; tried <= a.free.size(); ++tried) {
    if (at == a.free.end()) at = a.free.begin();
    if (at == a.free.end()) return nullptr;
    if (at->second >= need) break;
    ++at;
  }
  if (at == a.free.end() || at->second < need) return nullptr;
  char* zone = at->first;
  const size_t room = at->second;
  a.free.erase(at);
  if (room > need) a.free[zone + need] = room - need;
  a.next = zone + need;
  char* start = zone + kGuard;
  std::memset(zone, kGuardByte, kGuard);
  std::memset(start, kPoison, std::min(bytes, kPoisonLimit));
  std::memset(start + bytes, kGuardByte, tail_bytes(bytes));
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(zone, kGuard);
  __asan_poison_memory_region(start + bytes, tail_bytes(bytes));
#endif
  mark(start, bytes, true);
  a.live[start] = bytes;
  a.used += padded(bytes);
  return start;
}

bool arena_release(void* memory) {
  Arena& a = arena();
  std::lock_guard lock(a.mutex);
  auto found = a.live.find(static_cast<char*>(memory));
  if (found == a.live.end()) return false;
  const size_t bytes = found->second;
  char* zone = found->first - kGuard;
  size_t room = footprint(bytes);
  a.live.erase(found);
  a.used -= padded(bytes);
  mark(zone + kGuard, bytes, false);
  shadow_release(zone + kGuard, bytes);
  // Whole pages go back to the system; the rest keeps what it holds.
  const uintptr_t first = (reinterpret_cast<uintptr_t>(zone) + 4095) & ~uintptr_t(4095);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(zone) + room) & ~uintptr_t(4095);
  if (last >= first + (1 << 16)) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(zone, room);
#endif
  auto after = a.free.lower_bound(zone);
  if (after != a.free.end() && zone + room == after->first) {
    room += after->second;
    after = a.free.erase(after);
  }
  if (after != a.free.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == zone) {
      before->second += room;
      return true;
    }
  }
  a.free[zone] = room;
  return true;
}

bool arena_contains(const void* p, size_t bytes) {
  Arena& a = arena();
  std::lock_guard lock(a.mutex);
  auto* start = static_cast<char*>(const_cast<void*>(p));
  auto after = a.live.upper_bound(start);
  if (after == a.live.begin()) return false;
  const auto& [first, size] = *std::prev(after);
  return bytes <= size && static_cast<size_t>(start - first) <= size - bytes;
}

PlaceText arena_describe(const void* p) {
  Arena& a = arena();
  std::lock_guard lock(a.mutex);
  char* at = static_cast<char*>(const_cast<void*>(p));
  PlaceText place = {"in device memory that is not allocated"};
  const auto after = a.live.upper_bound(at);
  if (after != a.live.end() && after->first - at <= static_cast<ptrdiff_t>(kGuard)) {
    std::snprintf(place.chars, sizeof place.chars, "%td bytes before an allocation of %zu",
                  after->first - at, after->second);
  }
  if (after != a.live.begin()) {
    const auto& [start, bytes] = *std::prev(after);
    const size_t distance = static_cast<size_t>(at - start);
    if (distance < bytes + kGuard) {
      std::snprintf(place.chars, sizeof place.chars, "%zu bytes into an allocation of %zu",
                    distance, bytes);
    }
  }
  return place;
}

std::string arena_damage() {
#ifdef __SANITIZE_ADDRESS__
  return {};  // the sanitizer watches the guards, and forbids reading them
#else
  Arena& a = arena();
  std::lock_guard lock(a.mutex);
  for (const auto& [start, bytes] : a.live) {
    if (intact(start - kGuard, kGuard) && intact(start + bytes, tail_bytes(bytes))) continue;
    const char* side = intact(start - kGuard, kGuard) ? "past the end" : "before the start";
    // Restored, so that one fault is reported once.
    std::memset(start - kGuard, kGuardByte, kGuard);
    std::memset(start + bytes, kGuardByte, tail_bytes(bytes));
    return std::string("memory ") + side + " of an allocation of " + std::to_string(bytes) +
           " bytes was written";
  }
  return {};
#endif
}

namespace {
struct Pinned {
  std::mutex mutex;
  std::map<char*, size_t> live;
};
Pinned& pinned() {
  static Pinned& instance = *new Pinned;
  return instance;
}
}  // namespace

void* pinned_allocate(size_t bytes) {
  void* memory = std::aligned_alloc(256, std::max(padded(bytes), kGranule));
  if (!memory) return nullptr;
  std::lock_guard lock(pinned().mutex);
  pinned().live[static_cast<char*>(memory)] = bytes;
  return memory;
}

bool pinned_release(void* memory) {
  {
    std::lock_guard lock(pinned().mutex);
    if (pinned().live.erase(static_cast<char*>(memory)) == 0) return false;
  }
  std::free(memory);
  return true;
}

bool is_pinned(const void* p, size_t bytes) {
  std::lock_guard lock(pinned().mutex);
  char* at = static_cast<char*>(const_cast<void*>(p));
  auto after = pinned().live.upper_bound(at);
  if (after == pinned().live.begin()) return false;
  const auto& [start, size] = *std::prev(after);
  return bytes <= size && static_cast<size_t>(at - start) <= size - bytes;
}

void set_total_memory(size_t bytes) {
  std::lock_guard lock(arena().mutex);
  arena().total = bytes;
}

size_t total_memory() {
  std::lock_guard lock(arena().mutex);
  return arena().total;
}

size_t used_memory() {
  std::lock_guard lock(arena().mutex);
  return arena().used;
}

}  // namespace nodegrad::emulation
