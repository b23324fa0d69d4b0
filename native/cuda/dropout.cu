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
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

// A thread's four elements as one access, or one by one: `whole` says which.
template <class T>
__device__ __forceinline__ void load_four(const T* p, int64_t left, bool whole, T (&x)[4]) {
  constexpr int V = sizeof(T) == 8 ? 2 : 4;
  if (whole) {
#pragma unroll
    for (int part = 0; part < 4; part += V) {
      const Vector<T, V> loaded = load_vector<V>(p + part);
#pragma unroll
      for (int j = 0; j < V; ++j) x[part + j] = loaded[j];
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < left) x[j] = p[j];
  }
}

template <class T>
__device__ __forceinline__ void store_four(T* p, int64_t left, bool whole, const T (&x)[4]) {
  constexpr int V = sizeof(T) == 8 ? 2 : 4;
  if (whole) {
#pragma unroll
    for (int part = 0; part < 4; part += V) {
      Vector<T, V> packed;
#pragma unroll
      for (int j = 0; j < V; ++j) packed[j] = x[part + j];
      store_global(p + part, packed);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < left) p[j] = x[j];
  }
}

template <class T, bool draws>
__global__ void __launch_bounds__(kBlock)
    dropout_kernel(const T* in, const int64_t* state, const uint32_t threshold,
                   const Arith<T> scale, T* out, uint8_t* mask, const bool vector, int64_t n) {
  using A = Arith<T>;
  const int64_t quad = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  const int64_t i = quad * 4;
  if (i >= n) return;
  const bool whole = vector && i + 4 <= n;
  T x[4] = {};
  uint8_t kept[4] = {};
  load_four(in + i, n - i, whole, x);
  if constexpr (draws) {
    const uint64_t counter = static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(quad);
    const Philox4 r = philox(static_cast<uint64_t>(state[0]), counter);
#pragma unroll
    for (int j = 0; j < 4; ++j) kept[j] = r.word[j] >> 8 < threshold;
    store_four(mask + i, n - i, whole, kept);
  } else {
    load_four<uint8_t>(mask + i, n - i, whole, kept);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = from_arith<T>(kept[j] ? to_arith(x[j]) * scale : A(0));
  store_four(out + i, n - i, whole, x);
}

template <bool draws>
void run(Stream& stream, const View& in, const int64_t* state, uint32_t threshold, double scale,
         const View& out, const View& mask) {
  const int64_t n = element_count(in);
  if (n == 0) return;
  const int64_t blocks = (n + kBlock * 4 - 1) / (kBlock * 4);
  if (blocks > INT32_MAX) fail("dropout: the tensor is too large for one launch");
  const bool vector =
      is_aligned(in.data, 16) && is_aligned(out.data, 16) && is_aligned(mask.data, 4);
  with_float_type(in.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(stream, "dropout", dropout_kernel<T, draws>, dim3(static_cast<unsigned>(blocks)),
           dim3(kBlock), 0, static_cast<const T*>(in.data), state, threshold,
           static_cast<Arith<T>>(scale), static_cast<T*>(out.data),
           static_cast<uint8_t*>(mask.data), vector, n);
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
