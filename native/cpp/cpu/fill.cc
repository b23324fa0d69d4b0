// Constants and ranges: out[i] = value, out[i] = start + i·step (in double, or int64, then rounded
// to out's dtype). Outputs are contiguous.
// Cost: N·4 bytes written: bandwidth-bound.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct FillArgs {
  void* out;
  int64_t size;
  uint64_t value;  // the element's bits, from the lowest byte on
};

template <class T>
void fill_kernel(const void* raw, int64_t chunk) {
  const FillArgs& a = *static_cast<const FillArgs*>(raw);
  const int64_t begin = chunk * kChunk, n = min_of(kChunk, a.size - begin);
  T* out = static_cast<T*>(a.out) + begin;
  const T value = static_cast<T>(a.value);
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

template <class T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  return bits;
}

void fill(Stream& stream, const View& out, Scalar value) {
  FillArgs args;
  args.out = out.data;
  args.size = element_count(out);
  if (args.size == 0) return;
  const float real = static_cast<float>(value.real);
  Kernel kernel = fill_kernel<uint32_t>;
  switch (out.dtype) {
    case DType::float32:
      args.value = bits_of(real);
      break;
    case DType::float64:
      args.value = bits_of(value.real);
      kernel = fill_kernel<uint64_t>;
      break;
    case DType::bfloat16:
      args.value = to_bfloat16(real).bits;
      kernel = fill_kernel<uint16_t>;
      break;
    case DType::float16:
      args.value = to_float16(real).bits;
      kernel = fill_kernel<uint16_t>;
      break;
    case DType::int32:
      args.value = static_cast<uint32_t>(value.integer);
      break;
    case DType::int64:
      args.value = static_cast<uint64_t>(value.integer);
      kernel = fill_kernel<uint64_t>;
      break;
    case DType::uint8:
      args.value = static_cast<uint8_t>(value.integer);
      kernel = fill_kernel<uint8_t>;
      break;
    case DType::boolean:
      args.value = value.integer != 0;
      kernel = fill_kernel<uint8_t>;
      break;
  }
  launch(stream, "fill", kernel, &args, sizeof args, chunk_count(args.size));
}

struct RangeArgs {
  void* out;
  int64_t size;
  Scalar start, step;
};

template <class T>
void range_kernel(const void* raw, int64_t chunk) {
  const RangeArgs& a = *static_cast<const RangeArgs*>(raw);
  const int64_t begin = chunk * kChunk, end = min_of(a.size, begin + kChunk);
  T* out = static_cast<T*>(a.out);
  for (int64_t i = begin; i < end; ++i) {
    if constexpr (kIsFloating<typename Stored<T>::Arithmetic>) {
      out[i] = Conversion<T, double>::convert(a.start.real + static_cast<double>(i) * a.step.real);
    } else {
      const uint64_t offset = static_cast<uint64_t>(i) * static_cast<uint64_t>(a.step.integer);
      const uint64_t value = static_cast<uint64_t>(a.start.integer) + offset;
      out[i] = Conversion<T, int64_t>::convert(static_cast<int64_t>(value));
    }
  }
}

constexpr Kernel kRange[kDTypes] = {
    range_kernel<float>,   range_kernel<double>,  range_kernel<BFloat16>, range_kernel<Float16>,
    range_kernel<int32_t>, range_kernel<int64_t>, range_kernel<uint8_t>,  range_kernel<Bool>};

void arange(Stream& stream, const View& out, Scalar start, Scalar step) {
  RangeArgs args;
  args.out = out.data;
  args.size = element_count(out);
  args.start = start;
  args.step = step;
  if (args.size == 0) return;
  launch(stream, "arange", kRange[static_cast<int>(out.dtype)], &args, sizeof args,
         chunk_count(args.size));
}

}  // namespace

extern const FillFamily fill_family;
const FillFamily fill_family = {fill, arange};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
