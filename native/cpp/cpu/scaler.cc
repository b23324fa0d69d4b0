// Gradient scaling: x ← x·(1/scale) with a flag for what is not finite, and copies that the flag
// decides. 16-bit gradients compute in float32.
// Cost: unscale N·size bytes read + written: bandwidth-bound. copy_if reads 4 bytes where the flag
// is not set.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct UnscaleArgs {
  void* x;
  int64_t size;
  const float* scale;
  int32_t* found;
};

template <class S>
void unscale_kernel(const void* raw, int64_t chunk) {
  using T = typename Stored<S>::Arithmetic;
  const UnscaleArgs& a = *static_cast<const UnscaleArgs*>(raw);
  const int64_t begin = chunk * kChunk, n = min_of(kChunk, a.size - begin);
  S* const x = static_cast<S*>(a.x) + begin;
  const T inverse = T(1) / static_cast<T>(*a.scale);
  // 0·y is 0 for a finite y and NaN for any other.
  T zero = T(0);
  for (int64_t i = 0; i < n; ++i) {
    const S stored = Stored<S>::store(Stored<S>::load(x[i]) * inverse);
    x[i] = stored;
    zero = zero + Stored<S>::load(stored) * T(0);
  }
  if (!(zero == T(0))) __atomic_store_n(a.found, 1, __ATOMIC_RELAXED);
}

void unscale(Stream& stream, const View& x, const View& scale, const View& found) {
  const UnscaleArgs args{x.data, element_count(x), static_cast<const float*>(scale.data),
                         static_cast<int32_t*>(found.data)};
  Kernel kernel = unscale_kernel<float>;
  if (x.dtype == DType::float64) kernel = unscale_kernel<double>;
  if (x.dtype == DType::bfloat16) kernel = unscale_kernel<BFloat16>;
  if (x.dtype == DType::float16) kernel = unscale_kernel<Float16>;
  launch(stream, "unscale", kernel, &args, sizeof args, chunk_count(args.size));
}

struct CopyArgs {
  char* out;
  const char* x;
  int64_t bytes;
  const int32_t* found;
};
constexpr int64_t kCopyBytes = 256 * 1024;

void copy_if_kernel(const void* raw, int64_t chunk) {
  const CopyArgs& a = *static_cast<const CopyArgs*>(raw);
  if (*a.found == 0) return;
  const int64_t begin = chunk * kCopyBytes;
  const int64_t n = min_of(kCopyBytes, a.bytes - begin);
  __builtin_memcpy(a.out + begin, a.x + begin, static_cast<size_t>(n));
}

void copy_if(Stream& stream, const View& out, const View& x, const View& found) {
  const CopyArgs args{static_cast<char*>(out.data), static_cast<const char*>(x.data),
                      element_count(x) * static_cast<int64_t>(item_size(x.dtype)),
                      static_cast<const int32_t*>(found.data)};
  launch(stream, "copy_if", copy_if_kernel, &args, sizeof args,
         chunk_count(args.bytes, kCopyBytes));
}

}  // namespace

extern const ScalerFamily scaler_family;
const ScalerFamily scaler_family = {unscale, copy_if};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
