// From a linear index to the offsets of N operands.
// Dims holds the common shape innermost first, without dimensions of size 1 and with neighbours
// merged wherever all operands allow it, so that most shapes end with rank 1 or 2.
// Division by a dimension is a multiplication and a shift (Granlund and Montgomery, "Division by
// invariant integers using multiplication", PLDI 1994): 2 instructions for indices below 2^31
// (m = ceil(2^(31+s)/d), q = i*m >> 31+s, s = ceil(log2 d)), about 10 up to 2^63.
#pragma once

#include "core/view.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct Divider {
  uint64_t divisor;
  uint64_t magic;  // of the wide form
  uint32_t magic_narrow;
  int32_t shift;
};

// A size of 0, which nothing is ever divided by, counts as 1.
inline Divider make_divider(int64_t d) {
  Divider r;
  r.divisor = d > 0 ? static_cast<uint64_t>(d) : 1;
  r.shift = 0;
  while ((uint64_t{1} << r.shift) < r.divisor) ++r.shift;
  const unsigned __int128 one = 1;
  r.magic = static_cast<uint64_t>(((one << (63 + r.shift)) + r.divisor - 1) / r.divisor);
  r.magic_narrow = static_cast<uint32_t>(((one << (31 + r.shift)) + r.divisor - 1) / r.divisor);
  return r;
}

__device__ __forceinline__ uint64_t high_product(uint64_t a, uint64_t b) {
#ifdef NODEGRAD_EMULATED
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#else
  return __umul64hi(a, b);
#endif
}

// i / d; `narrow` promises i < 2^31 and d < 2^31.
__device__ __forceinline__ uint64_t divide(uint64_t i, const Divider& d, bool narrow) {
  if (narrow) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(i)) * d.magic_narrow) >> (31 + d.shift);
  }
  return d.shift == 0 ? i : high_product(i, d.magic) >> (d.shift - 1);
}

template <int N>
struct Dims {
  Divider size[kMaxRank];  // innermost first
  int64_t stride[N][kMaxRank];
  int32_t rank;
  bool narrow;  // fewer than 2^31 elements

  // Does operand k visit addresses 0, 1, 2 …?
  bool linear(int k) const {
    int64_t expected = 1;
    for (int d = 0; d < rank; ++d) {
      if (stride[k][d] != expected) return false;
      expected *= static_cast<int64_t>(size[d].divisor);
    }
    return true;
  }
  bool splat(int k) const {
    for (int d = 0; d < rank; ++d) {
      if (stride[k][d] != 0) return false;
    }
    return true;
  }
  int64_t inner() const { return rank == 0 ? 1 : static_cast<int64_t>(size[0].divisor); }
};

// Shape and strides are given outermost first, as in a View.
template <int N>
Dims<N> make_dims(int rank, const int64_t* shape, const int64_t* const (&strides)[N]) {
  Dims<N> dims{};
  int64_t count = 1;
  int64_t inner_size = 0;
  for (int d = rank - 1; d >= 0; --d) {
    count *= shape[d];
    if (shape[d] == 1) continue;
    const int last = dims.rank - 1;
    bool merge = last >= 0;
    for (int k = 0; merge && k < N; ++k) {
      merge = strides[k][d] == dims.stride[k][last] * inner_size;
    }
    if (merge) {
      inner_size *= shape[d];
      dims.size[last] = make_divider(inner_size);
      continue;
    }
    inner_size = shape[d];
    dims.size[dims.rank] = make_divider(inner_size);
    for (int k = 0; k < N; ++k) dims.stride[k][dims.rank] = strides[k][d];
    ++dims.rank;
  }
  dims.narrow = count < (int64_t{1} << 31);
  return dims;
}

template <int N>
struct Offsets {
  int64_t at[N];
};

template <int N>
__device__ __forceinline__ Offsets<N> offsets_of(const Dims<N>& dims, int64_t index) {
  Offsets<N> r;
#pragma unroll
  for (int k = 0; k < N; ++k) r.at[k] = 0;
  uint64_t rest = static_cast<uint64_t>(index);
#pragma unroll 1
  for (int d = 0; d < dims.rank - 1; ++d) {
    const uint64_t quotient = divide(rest, dims.size[d], dims.narrow);
    const int64_t coordinate = static_cast<int64_t>(rest - quotient * dims.size[d].divisor);
#pragma unroll
    for (int k = 0; k < N; ++k) r.at[k] += coordinate * dims.stride[k][d];
    rest = quotient;
  }
  if (dims.rank > 0) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      r.at[k] += static_cast<int64_t>(rest) * dims.stride[k][dims.rank - 1];
    }
  }
  return r;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
