// Dropout: y = x·scale where element i of a uniform draw is below `keep`, else 0; backward
// dx = dy·scale by the same choice, kept as a byte per element. Draws as in random.cu, so that the
// mask is the same on every device: one thread per Philox counter, four elements.
// Cost: forward 2·size + 1 bytes per element and about 30 integer instructions, backward the same
// bytes: bandwidth-bound, floor bytes / bandwidth.
#include "core/error.h"
#include "core/philox.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

constexpr int kEach = 8;  // elements of a thread: two Philox counters

// Vectors where addresses allow, but for float64; else, and at the end, one element after another.
template <class A, bool draws>
__global__ void __launch_bounds__(kBlock)
    dropout_kernel(const void* in, const DType dtype, const int64_t* state,
                   const uint32_t threshold, const A scale, void* out, uint8_t* mask,
                   const bool vector, int64_t n) {
  const int64_t i =
      (static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x)) * kEach;
  if (i >= n) return;
  if (same_type<A, float> && vector && i + kEach <= n) {
    float x[kEach];
    load_values<kEach>(in, i, dtype, x);
    Vector<uint8_t, kEach> kept;
    if constexpr (draws) {
      const uint64_t counter = static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(i / 4);
#pragma unroll
      for (int quad = 0; quad < kEach / 4; ++quad) {
        const Philox4 r = philox(static_cast<uint64_t>(state[0]), counter + quad);
#pragma unroll
        for (int j = 0; j < 4; ++j) kept[4 * quad + j] = r.word[j] >> 8 < threshold;
      }
      store_vector(mask + i, kept);
    } else {
      kept = load_vector<kEach>(mask + i);
    }
#pragma unroll
    for (int j = 0; j < kEach; ++j) x[j] = kept[j] ? x[j] * static_cast<float>(scale) : 0.0f;
    store_eight(out, i, dtype, x);
    return;
  }
#pragma unroll 1
  for (int64_t at = i; at < i + kEach && at < n; ++at) {
    bool kept;
    if constexpr (draws) {
      const Philox4 r = philox(static_cast<uint64_t>(state[0]),
                               static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(at / 4));
      const uint32_t low = at % 2 == 0 ? r.word[0] : r.word[1];
      const uint32_t high = at % 2 == 0 ? r.word[2] : r.word[3];
      kept = (at % 4 < 2 ? low : high) >> 8 < threshold;
      mask[at] = kept;
    } else {
      kept = mask[at];
    }
    store_as(out, at, dtype, kept ? load_as<A>(in, at, dtype) * scale : A(0));
  }
}

template <bool draws>
void run(Stream& stream, const View& in, const int64_t* state, uint32_t threshold, double scale,
         const View& out, const View& mask) {
  const int64_t n = element_count(in);
  if (n == 0) return;
  const int64_t blocks = (n + kBlock * kEach - 1) / (kBlock * kEach);
  if (blocks > INT32_MAX) fail("dropout: the tensor is too large for one launch");
  with_float_arith(in.dtype, [&](auto zero) {
    using A = decltype(zero);
    const bool vector = same_type<A, float> && is_aligned(in.data, 16) &&
                        is_aligned(out.data, 16) && is_aligned(mask.data, kEach);
    launch(stream, "dropout", dropout_kernel<A, draws>, dim3(static_cast<unsigned>(blocks)),
           dim3(kBlock), 0, static_cast<const void*>(in.data), in.dtype, state, threshold,
           static_cast<A>(scale), out.data, static_cast<uint8_t*>(mask.data), vector, n);
  });
}

void forward(Stream& stream, const View& x, const View& state, double keep, double scale,
             const View& y, const View& mask) {
  const double upper = keep * 0x1p24;
  const uint32_t whole = static_cast<uint32_t>(upper);
  const uint32_t threshold = whole + (static_cast<double>(whole) < upper ? 1 : 0);
  run<true>(stream, x, static_cast<const int64_t*>(state.data), threshold, scale, y, mask);
}

void backward(Stream& stream, const View& mask, const View& dy, double scale, const View& dx) {
  run<false>(stream, dy, nullptr, 0, scale, dx, mask);
}

}  // namespace

const DropoutFamily dropout_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
