// Element types: their codes (shared with lib/dtype.ts), sizes and storage forms.
// Plain data only: this header is also included by files that are compiled once per
// instruction set, where an inline function with external linkage would be shared.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nodegrad {

enum class DType : uint8_t {
  float32 = 0,
  float64 = 1,
  bfloat16 = 2,
  float16 = 3,
  int32 = 4,
  int64 = 5,
  uint8 = 6,
  boolean = 7,
};
constexpr int kDTypes = 8;

// Storage forms of the 16-bit types; arithmetic on them happens in float32.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

static constexpr size_t kDTypeBytes[kDTypes] = {4, 8, 2, 2, 4, 8, 1, 1};
static constexpr const char* kDTypeNames[kDTypes] = {"float32", "float64", "bfloat16", "float16",
                                                     "int32",   "int64",   "uint8",    "bool"};

static constexpr size_t item_size(DType dtype) { return kDTypeBytes[static_cast<int>(dtype)]; }
static constexpr const char* dtype_name(DType dtype) {
  return kDTypeNames[static_cast<int>(dtype)];
}
static constexpr bool is_float(DType dtype) { return dtype <= DType::float16; }

}  // namespace nodegrad
