// Random draws. Element i of a draw takes word i%4 of Philox4x32-10 (core/philox.h) with key =
// seed and counter = offset + i/4; `state` is int64[2] {seed, offset}, read when the kernel runs.
// One thread per counter, four elements. Draws are made in float32, then take out's dtype.
// uniform: low + (high - low)·u in float32, two roundings, u in [0,1): the same bits as the CPU.
// bernoulli: u < p, compared in double. normal: Box-Muller on word pairs (0,1) and (2,3), in
// double: r = √(-2 ln u1), angle 2π·u2, u1 in (0,1]; r·cos, r·sin. (Box and Muller, 1958.)
// Cost: size bytes per element written; about 30 integer instructions per element. Normals are
// bound by double arithmetic where a chip has little of it.
#include "core/philox.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

struct Uniform {
  float low, width;
  __device__ __forceinline__ void draw(const Philox4& r, float (&y)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      y[j] = __fadd_rn(low, __fmul_rn(width, uniform_from_bits(r.word[j])));
    }
  }
};

struct Normal {
  double mean, deviation;
  __device__ __forceinline__ void draw(const Philox4& r, float (&y)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
      const double u1 = static_cast<double>((r.word[j] >> 8) + 1u) * 0x1p-24;
      const double angle =
          6.283185307179586477 * static_cast<double>(uniform_from_bits(r.word[j + 1]));
      const double radius = m_sqrt(-2.0 * m_log(u1));
      y[j] = static_cast<float>(mean + deviation * (radius * m_cos(angle)));
      y[j + 1] = static_cast<float>(mean + deviation * (radius * m_sin(angle)));
    }
  }
};

struct Bernoulli {
  double probability;
  __device__ __forceinline__ void draw(const Philox4& r, float (&y)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      y[j] = static_cast<double>(uniform_from_bits(r.word[j])) < probability ? 1.0f : 0.0f;
    }
  }
};

template <class T>
__device__ __forceinline__ void store_four(void* out, int64_t i, int64_t n, bool vector,
                                           const float (&y)[4]) {
  constexpr int V = sizeof(T) == 8 ? 2 : 4;
  T* const to = static_cast<T*>(out) + i;
  if (vector && i + 4 <= n) {
#pragma unroll
    for (int part = 0; part < 4; part += V) {
      Vector<T, V> packed;
#pragma unroll
      for (int j = 0; j < V; ++j) packed[j] = from_arith<T>(y[part + j]);
      store_global(to + part, packed);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (i + j < n) to[j] = from_arith<T>(y[j]);
  }
}

template <class Draw>
__global__ void __launch_bounds__(kBlock)
    draw_kernel(const Draw source, const int64_t* state, void* out, const DType dtype,
                const bool vector, int64_t n) {
  const int64_t quad = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  const int64_t i = quad * 4;
  if (i >= n) return;
  const uint64_t counter = static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(quad);
  float y[4];
  source.draw(philox(static_cast<uint64_t>(state[0]), counter), y);
  with_stored_type(dtype, [&](auto zero) { store_four<decltype(zero)>(out, i, n, vector, y); });
}

__global__ void __launch_bounds__(1) advance_kernel(int64_t* state, int64_t counters) {
  state[1] =
      static_cast<int64_t>(static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(counters));
}

template <class Draw>
void draw(Stream& stream, const char* name, const Draw& source, const View& out,
          const View& state) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  constexpr int64_t per_block = kBlock * 4;
  const size_t alignment = 4 * item_size(out.dtype);
  launch(stream, name, draw_kernel<Draw>,
         dim3(static_cast<unsigned>((n + per_block - 1) / per_block)), dim3(kBlock), 0, source,
         static_cast<const int64_t*>(state.data), out.data, out.dtype,
         is_aligned(out.data, alignment < 16 ? alignment : 16), n);
}

void uniform(Stream& stream, const View& out, const View& state, double low, double high) {
  const Uniform source{static_cast<float>(low), static_cast<float>(high - low)};
  draw(stream, "uniform", source, out, state);
}

void normal(Stream& stream, const View& out, const View& state, double mean, double std) {
  draw(stream, "normal", Normal{mean, std}, out, state);
}

void bernoulli(Stream& stream, const View& out, const View& state, double probability) {
  draw(stream, "bernoulli", Bernoulli{probability}, out, state);
}

void advance(Stream& stream, const View& state, int64_t counters) {
  launch(stream, "random_advance", advance_kernel, dim3(1), dim3(1), 0,
         static_cast<int64_t*>(state.data), counters);
}

}  // namespace

const RandomFamily random_family = {uniform, normal, bernoulli, advance};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
