// Element types in kernels: which C++ type stores a dtype, which one computes it, and how values
// and rows pass between them.
//
// bfloat16 and float16 compute in float32 (conversions round halves to even, in integer code that
// vectorises, so that the bits are the same on every instruction set). Floats convert to integers
// by truncation, saturating at the ends of the range, NaN to 0; wide integers to narrow ones
// modulo 2^n; anything to bool is x != 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/error.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

#define NODEGRAD_CONVERT static inline __attribute__((always_inline, unused))

// A bool in storage: one byte, 0 or 1. (Reading a wild byte as C++ bool would be undefined.)
struct Bool {
  uint8_t byte;
};

NODEGRAD_CONVERT float to_float(BFloat16 x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16);
}

NODEGRAD_CONVERT float to_float(Float16 x) {
  constexpr uint32_t rebias = 112u << 23;
  const uint32_t shifted = (x.bits & 0x7fffu) << 13;
  const float subnormal = __builtin_bit_cast(float, shifted + rebias + 0x800000u) - 0x1p-14f;
  const uint32_t special = shifted >= 0x0f800000u ? rebias : 0u;
  const uint32_t magnitude =
      shifted < 0x800000u ? __builtin_bit_cast(uint32_t, subnormal) : shifted + rebias + special;
  return __builtin_bit_cast(float, magnitude | (x.bits & 0x8000u) << 16);
}

NODEGRAD_CONVERT BFloat16 to_bfloat16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const uint32_t quiet = bits >> 16 | 0x40u;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return BFloat16{static_cast<uint16_t>(nan ? quiet : rounded)};
}

NODEGRAD_CONVERT Float16 to_float16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1u)) >> 13;
  // Adding 0.5 leaves the subnormal's bits, rounded, at the end of the sum.
  const float shifted = __builtin_bit_cast(float, a) + 0.5f;
  const uint32_t subnormal = __builtin_bit_cast(uint32_t, shifted) - 0x3f000000u;
  const uint32_t special = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = a < 0x38800000u ? subnormal : normal;
  return Float16{
      static_cast<uint16_t>((a >= 0x47800000u ? special : finite) | (bits >> 16 & 0x8000u))};
}

namespace {

// How a storage type is loaded into, and stored from, the type it computes in.
template <class S>
struct Stored {
  using Arithmetic = S;
  static S load(S x) { return x; }
  static S store(S x) { return x; }
};
template <>
struct Stored<BFloat16> {
  using Arithmetic = float;
  static float load(BFloat16 x) { return to_float(x); }
  static BFloat16 store(float x) { return to_bfloat16(x); }
};
template <>
struct Stored<Float16> {
  using Arithmetic = float;
  static float load(Float16 x) { return to_float(x); }
  static Float16 store(float x) { return to_float16(x); }
};
template <>
struct Stored<Bool> {
  using Arithmetic = uint8_t;
  static uint8_t load(Bool x) { return x.byte != 0; }
  static Bool store(uint8_t x) { return Bool{static_cast<uint8_t>(x != 0)}; }
};

// Calls f(T{}, S{}) with the types of arithmetic and storage of a floating dtype.
template <class F>
void with_floats(const char* op, DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{}, float{});
    case DType::float64:
      return f(double{}, double{});
    case DType::bfloat16:
      return f(float{}, BFloat16{});
    case DType::float16:
      return f(float{}, Float16{});
    default:
      fail("%s: dtype must be floating, got %s", op, dtype_name(dtype));
  }
}

template <class T>
struct IntegerRange;
template <>
struct IntegerRange<int32_t> {
  static constexpr double low = -0x1p31, above = 0x1p31;
  static constexpr int32_t min = INT32_MIN, max = INT32_MAX;
};
template <>
struct IntegerRange<int64_t> {
  static constexpr double low = -0x1p63, above = 0x1p63;
  static constexpr int64_t min = INT64_MIN, max = INT64_MAX;
};
template <>
struct IntegerRange<uint8_t> {
  static constexpr double low = 0, above = 256;
  static constexpr uint8_t min = 0, max = 255;
};

template <class T>
constexpr bool kIsFloating = T(0.5) != T(0);

// Between the arithmetic types float, double, int32_t, int64_t, uint8_t.
template <class To, class From>
struct Cast {
  static To cast(From x) {
    if constexpr (kIsFloating<From> && !kIsFloating<To>) {
      using Range = IntegerRange<To>;
      constexpr From low = static_cast<From>(Range::low), above = static_cast<From>(Range::above);
      const bool inside = (x > low) & (x < above);
      const To converted = static_cast<To>(inside ? x : From(0));
      const To clamped = x <= low ? Range::min : x >= above ? Range::max : converted;
      return clamped;
    } else {
      return static_cast<To>(x);
    }
  }
};

// Between storage types.
template <class To, class From>
struct Conversion {
  using FromArithmetic = typename Stored<From>::Arithmetic;
  using ToArithmetic = typename Stored<To>::Arithmetic;
  static To convert(From x) {
    return Stored<To>::store(Cast<ToArithmetic, FromArithmetic>::cast(Stored<From>::load(x)));
  }
};
template <class From>
struct Conversion<Bool, From> {
  static Bool convert(From x) { return Bool{static_cast<uint8_t>(Stored<From>::load(x) != 0)}; }
};

}  // namespace

// Arithmetic types, as an index into tables of kernels.
enum Arithmetic : int { kFloat, kDouble, kInt32, kInt64, kUInt8 };
constexpr int kArithmetics = 5;

static constexpr Arithmetic kArithmeticOf[kDTypes] = {kFloat, kDouble, kFloat, kFloat,
                                                      kInt32, kInt64,  kUInt8, kUInt8};
static constexpr size_t kArithmeticBytes[kArithmetics] = {4, 8, 4, 8, 1};

NODEGRAD_CONVERT Arithmetic arithmetic_of(DType dtype) {
  return kArithmeticOf[static_cast<int>(dtype)];
}
NODEGRAD_CONVERT size_t arithmetic_bytes(DType dtype) {
  return kArithmeticBytes[arithmetic_of(dtype)];
}
// True where kernels read elements as they are stored.
NODEGRAD_CONVERT bool reads_in_place(DType dtype) {
  return dtype != DType::bfloat16 && dtype != DType::float16;
}

// dst[i] = arithmetic value of src[i·stride]; strides count elements.
using LoadRow = void (*)(const void* src, int64_t stride, void* dst, int64_t n);
// dst[i] = src[i], from arithmetic values to storage, contiguous.
using StoreRow = void (*)(const void* src, void* dst, int64_t n);

template <class S, class D>
static void load_row(const void* src, int64_t stride, void* dst, int64_t n) {
  const S* from = static_cast<const S*>(src);
  D* to = static_cast<D*>(dst);
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i]);
  } else if (stride == 0) {
    const D value = n > 0 ? Stored<S>::load(from[0]) : D(0);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i * stride]);
  }
}

template <class S, class D>
static void store_row(const void* src, void* dst, int64_t n) {
  const S* from = static_cast<const S*>(src);
  D* to = static_cast<D*>(dst);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = Stored<D>::store(from[i]);
}

static inline __attribute__((unused)) LoadRow row_loader(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return load_row<float, float>;
    case DType::float64:
      return load_row<double, double>;
    case DType::bfloat16:
      return load_row<BFloat16, float>;
    case DType::float16:
      return load_row<Float16, float>;
    case DType::int32:
      return load_row<int32_t, int32_t>;
    case DType::int64:
      return load_row<int64_t, int64_t>;
    case DType::uint8:
      return load_row<uint8_t, uint8_t>;
    case DType::boolean:
      return load_row<Bool, uint8_t>;
  }
  return nullptr;
}

// Only for dtypes whose storage differs from their arithmetic type, and bool; else null.
static inline __attribute__((unused)) StoreRow row_storer(DType dtype) {
  switch (dtype) {
    case DType::bfloat16:
      return store_row<float, BFloat16>;
    case DType::float16:
      return store_row<float, Float16>;
    case DType::boolean:
      return store_row<uint8_t, Bool>;
    default:
      return nullptr;
  }
}

#undef NODEGRAD_CONVERT

}  // namespace nodegrad::cpu::NODEGRAD_ISA
