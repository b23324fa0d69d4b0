// The emulated device's memory: a reserved range of addresses, with guard zones around every
// allocation, and host memory that is pinned. Freed addresses are reused late.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace nodegrad::emulation {

// Null where the device's total would be passed.
void* arena_allocate(size_t bytes);
bool arena_release(void* memory);  // false: no such allocation

// The reserved range; empty before the first allocation.
extern uintptr_t arena_base;
extern size_t arena_span;
inline bool in_arena(const void* p) {
  return reinterpret_cast<uintptr_t>(p) - arena_base < arena_span;
}

// Whether all of [p, p + bytes) lies in one allocation.
bool arena_contains(const void* p, size_t bytes);
// The same, quickly, for the running thread's accesses of at most 16 bytes.
constexpr size_t kGranule = 256;
extern uint16_t* arena_valid_bytes;  // of each granule of the range, from the granule's start
inline bool arena_permits(const void* p, size_t bytes) {
  const size_t offset = reinterpret_cast<uintptr_t>(p) - arena_base;
  const size_t end = offset % kGranule + bytes;
  const uint16_t* valid = arena_valid_bytes + offset / kGranule;
  if (end <= kGranule) return end <= valid[0];
  return valid[0] == kGranule && end - kGranule <= valid[1];
}
// Where an address outside lies, for people.
struct PlaceText {
  char chars[128];
};
PlaceText arena_describe(const void* p);
// Checks the guard zones; what was written over, or empty.
std::string arena_damage();

void* pinned_allocate(size_t bytes);
bool pinned_release(void* memory);
bool is_pinned(const void* p, size_t bytes);

}  // namespace nodegrad::emulation
