// What the emulated driver puts into a tensor map's 128 bytes.
#pragma once

#include <cstdint>

namespace nodegrad::emulation {

struct TensorMap {
  static constexpr uint64_t kMagic = 0x70616d726f736e65u;
  uint64_t magic;
  const void* address;
  uint64_t strides[4];                 // bytes, of dimensions 1 and up
  uint32_t last[5];                    // sizes less one
  uint16_t box[5];                     // in im2col mode only the first: channels
  uint8_t rank, item, swizzle_chunks;  // 16-byte pieces of a swizzled line; 1: none
  bool to_tf32;
  // im2col mode, of dimensions 1 to rank - 2; otherwise 0.
  uint16_t pixels;
  int16_t lower[3], upper[3];
  uint8_t steps[3];
};
static_assert(sizeof(TensorMap) <= 128);

}  // namespace nodegrad::emulation
