// Values for tests, as bits and bytes of a dtype and back.
#pragma once

#include <cstring>

#include "emulation/half.h"
#include "harness.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

inline size_t bytes_of(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

// For products: small multiples of 1/4 are exact in every type, and so are their products; sums
// round.
inline float value_of(size_t i, size_t salt) {
  return static_cast<float>(static_cast<int>((i * 2654435761u + salt * 97) >> 7 & 15) - 8) / 4;
}

inline uint16_t packed_half(DType dtype, float x) {
  return dtype == DType::float16 ? emulation::float_to_half(x) : emulation::float_to_bfloat(x);
}
inline float unpacked_half(DType dtype, uint16_t bits) {
  return dtype == DType::float16 ? emulation::half_to_float(bits) : to_float(BFloat16{bits});
}

inline std::vector<unsigned char> packed(DType dtype, const std::vector<float>& values) {
  std::vector<unsigned char> bytes(values.size() * bytes_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::float32) {
      std::memcpy(&bytes[i * 4], &values[i], 4);
    } else {
      const uint16_t bits = packed_half(dtype, values[i]);
      std::memcpy(&bytes[i * 2], &bits, 2);
    }
  }
  return bytes;
}

inline float unpacked(DType dtype, const unsigned char* p) {
  if (dtype == DType::float32) {
    float f;
    std::memcpy(&f, p, 4);
    return f;
  }
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return unpacked_half(dtype, bits);
}

// Between 1 and the next number.
inline double unit_of(DType dtype) {
  return dtype == DType::float32 ? 0x1p-23 : dtype == DType::float16 ? 0x1p-10 : 0x1p-7;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
