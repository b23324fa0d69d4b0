// Draws that need more than one number each: permutations, classes by weight, masks of their own
// probabilities, truncated normals. Numbers as core/families/sample.h has them, formulas as on the
// CPU (cpu/sample.cc).
// permutation: pairs of (64 random bits, i), sorted. multinomial with replacement: a block a row
// sums 256 parts, then a thread per draw walks one part. Without: (-log(u)/w, class), sorted by
// row. Cost: permutation and multinomial without replacement as sort_pairs.h says; the rest about
// 30 integer instructions an element, truncated normals some hundred of float64.
#include <cmath>

#include "core/erfinv.h"
#include "core/error.h"
#include "core/philox.h"
#include "device_math.h"
#include "families.h"
#include "indexing.h"
#include "launch.h"
#include "numbers.h"
#include "sort_pairs.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;  // also the parts of a row

dim3 grid_of(const char* name, int64_t threads) {
  const int64_t blocks = (threads + kBlock - 1) / kBlock;
  if (blocks > INT32_MAX) fail("%s: too many elements for one launch", name);
  return dim3(static_cast<unsigned>(blocks));
}

__device__ __forceinline__ uint64_t key_at(const int64_t* state, int64_t i) {
  const Philox4 r = philox(static_cast<uint64_t>(state[0]),
                           static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(i / 2));
  const uint64_t first = static_cast<uint64_t>(r.word[0]) << 32 | r.word[1];
  const uint64_t second = static_cast<uint64_t>(r.word[2]) << 32 | r.word[3];
  return i % 2 == 0 ? first : second;
}

__global__ void __launch_bounds__(kBlock)
    keys_kernel(const int64_t* state, Pair* pairs, int64_t n, int64_t all) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= all) return;
  Pair pair = kLastPair;
  if (i < n) {
    pair.key = key_at(state, i);
    pair.value = i;
  }
  pairs[i] = pair;
}

// out[r, s] = the value of pair s of row r.
__global__ void __launch_bounds__(kBlock)
    values_kernel(const Pair* pairs, int64_t row, const Divider samples, const bool narrow,
                  int64_t* out, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const int64_t r = static_cast<int64_t>(divide(static_cast<uint64_t>(i), samples, narrow));
  const Pair pair = pairs[r * row + i - r * static_cast<int64_t>(samples.divisor)];
  out[i] = pair.key == kLastPair.key ? -1 : pair.value;
}

void permutation(Stream& stream, const View& state, const View& out) {
  const int64_t n = out.shape[0];
  if (n == 0) return;
  const int64_t row = sorted_row(n);
  void* const scratch = acquire_scratch(stream, static_cast<size_t>(row) * sizeof(Pair));
  Pair* const pairs = static_cast<Pair*>(scratch);
  launch(stream, "randperm", keys_kernel, grid_of("randperm", row), dim3(kBlock), 0,
         static_cast<const int64_t*>(state.data), pairs, n, row);
  sort_pairs(stream, pairs, 1, row);
  launch(stream, "randperm", values_kernel, grid_of("randperm", n), dim3(kBlock), 0, pairs, row,
         make_divider(n), n < (int64_t{1} << 31), static_cast<int64_t*>(out.data), n);
  release_scratch(stream, scratch);
}

__device__ __forceinline__ double weight_of(double w) { return w > 0.0 ? w : 0.0; }

struct PartsShared {
  double upto[kBlock];
};

__global__ void __launch_bounds__(kBlock)
    with_replacement_kernel(const double* all_weights, const int64_t* state, int64_t* out,
                            int64_t classes, int64_t samples) {
  PartsShared& shared = shared_memory<PartsShared>();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const double* const weights = all_weights + row * classes;
  const int64_t length = (classes + kBlock - 1) / kBlock;
  double own = 0.0;
  for (int64_t c = thread * length; c < (thread + 1) * length && c < classes; ++c) {
    own += weight_of(weights[c]);
  }
  shared.upto[thread] = own;
  __syncthreads();
  if (thread == 0) {
    double sum = 0.0;
    for (int p = 0; p < kBlock; ++p) {
      sum += shared.upto[p];
      shared.upto[p] = sum;
    }
  }
  __syncthreads();
  const double total = shared.upto[kBlock - 1];
  for (int64_t s = thread; s < samples; s += kBlock) {
    const int64_t i = row * samples + s;
    const double wanted = static_cast<double>(key_at(state, i) >> 11) * 0x1p-53 * total;
    int64_t found = -1;
    int p = 0;
    while (p < kBlock && !(shared.upto[p] > wanted)) ++p;
    if (p < kBlock) {
      double sum = p > 0 ? shared.upto[p - 1] : 0.0;
      for (int64_t c = p * length; c < (p + 1) * length && c < classes && !(sum > wanted); ++c) {
        sum += weight_of(weights[c]);
        if (weights[c] > 0.0) found = c;
      }
    }
    out[i] = found;
  }
}

__global__ void __launch_bounds__(kBlock)
    weighted_keys_kernel(const double* weights, const int64_t* state, Pair* pairs, int64_t classes,
                         int64_t row, int64_t all) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (at >= all) return;
  const int64_t r = at / row, c = at & (row - 1), i = r * classes + c;
  Pair pair = kLastPair;
  pair.value = c;
  if (c < classes && weights[i] > 0.0) {
    const double u = static_cast<double>((key_at(state, i) >> 11) + 1) * 0x1p-53;
    const double order = -m_log(u) / weights[i] + 0.0;
    __builtin_memcpy(&pair.key, &order, sizeof order);
  }
  pairs[at] = pair;
}

void multinomial(Stream& stream, const View& weights, const View& state, bool replacement,
                 const View& out) {
  const int64_t rows = out.shape[0], samples = out.shape[1], classes = weights.shape[1];
  const int64_t n = rows * samples;
  if (n == 0) return;
  const double* const from = static_cast<const double*>(weights.data);
  const int64_t* const words = static_cast<const int64_t*>(state.data);
  int64_t* const to = static_cast<int64_t*>(out.data);
  if (replacement) {
    launch(stream, "multinomial", with_replacement_kernel, grid_of("multinomial", rows * kBlock),
           dim3(kBlock), sizeof(PartsShared), from, words, to, classes, samples);
    return;
  }
  const int64_t row = sorted_row(classes), all = rows * row;
  void* const scratch = acquire_scratch(stream, static_cast<size_t>(all) * sizeof(Pair));
  Pair* const pairs = static_cast<Pair*>(scratch);
  launch(stream, "multinomial", weighted_keys_kernel, grid_of("multinomial", all), dim3(kBlock), 0,
         from, words, pairs, classes, row, all);
  sort_pairs(stream, pairs, rows, row);
  launch(stream, "multinomial", values_kernel, grid_of("multinomial", n), dim3(kBlock), 0, pairs,
         row, make_divider(samples), n < (int64_t{1} << 31), to, n);
  release_scratch(stream, scratch);
}

struct DeviceMath {
  __device__ __forceinline__ double log(double x) const { return m_log(x); }
  __device__ __forceinline__ double exp(double x) const { return m_exp(x); }
  __device__ __forceinline__ double erf(double x) const { return m_erf(x); }
  __device__ __forceinline__ double sqrt(double x) const { return m_sqrt(x); }
};

struct Masked {
  const double* probability;
  __device__ __forceinline__ double draw(double u, int64_t i) const {
    return u < probability[i] ? 1.0 : 0.0;
  }
};

struct Truncated {
  double mean, spread, low, high, from, width;  // spread: std·√2; from, width: of erf
  __device__ __forceinline__ double draw(double u, int64_t) const {
    const double x = mean + spread * erfinv(from + width * u, DeviceMath{});
    return x < low ? low : x > high ? high : x;
  }
};

template <class Draw>
__global__ void __launch_bounds__(kBlock)
    draw_kernel(const Draw source, const int64_t* state, void* out, const DType dtype, int64_t n) {
  const int64_t quad = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (quad * 4 >= n) return;
  const Philox4 r = philox(static_cast<uint64_t>(state[0]),
                           static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(quad));
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int64_t i = quad * 4 + j;
    if (i >= n) continue;
    const double value = source.draw(static_cast<double>(uniform_from_bits(r.word[j])), i);
    with_stored_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      static_cast<T*>(out)[i] = from_arith<T>(value);
    });
  }
}

template <class Draw>
void draw(Stream& stream, const char* name, const Draw& source, const View& state,
          const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  launch(stream, name, draw_kernel<Draw>, grid_of(name, (n + 3) / 4), dim3(kBlock), 0, source,
         static_cast<const int64_t*>(state.data), out.data, out.dtype, n);
}

void bernoulli(Stream& stream, const View& probability, const View& state, const View& out) {
  draw(stream, "bernoulli", Masked{static_cast<const double*>(probability.data)}, state, out);
}

void truncated_normal(Stream& stream, const View& state, double mean, double std, double low,
                      double high, const View& out) {
  const double spread = std * 1.4142135623730950488;
  const double from = std > 0.0 ? std::erf((low - mean) / spread) : 0.0;
  const double width = std > 0.0 ? std::erf((high - mean) / spread) - from : 0.0;
  draw(stream, "truncated_normal", Truncated{mean, spread, low, high, from, width}, state, out);
}

}  // namespace

const SampleFamily sample_family = {permutation, multinomial, bernoulli, truncated_normal};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
