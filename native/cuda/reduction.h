// Reductions over groups of threads. A group is 1, 2, 4 … 32 neighbouring lanes of a warp or the
// whole block of kReduceBlock threads; `lanes` is its size, the same for the whole launch. Lanes
// are combined in a fixed order, so results do not depend on timing.
// visit_row walks n neighbours of a row with the lanes of a group: 16-byte vectors wherever the
// address allows, single elements before and after.
#pragma once

#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kReduceBlock = 256;
constexpr int kReduceBlocks = 4;  // on a multiprocessor: room for 64 registers a thread
constexpr int kReduceWarps = kReduceBlock / 32;

template <class S>
struct GroupSlots {
  S slot[kReduceWarps];
};

// Smallest power of two that is at least n, at most 32.
inline int group_lanes(int64_t n) {
  int lanes = 1;
  while (lanes < 32 && lanes < n) lanes *= 2;
  return lanes;
}

// The value of lane (own ^ mask), for records of whole 32-bit words.
template <class S>
__device__ __forceinline__ S shuffle_record(const S& value, int mask) {
  constexpr int words = sizeof(S) / 4;
  static_assert(sizeof(S) % 4 == 0);
  uint32_t word[words];
  __builtin_memcpy(word, &value, sizeof(S));
#pragma unroll
  for (int i = 0; i < words; ++i) word[i] = __shfl_xor_sync(0xffffffffu, word[i], mask);
  S result;
  __builtin_memcpy(&result, word, sizeof(S));
  return result;
}

// Every lane gets the group's total; combine(into, from) must be commutative. All threads of the
// block call it; before `slots` serve again there must be a barrier.
template <class S, class Combine>
__device__ __forceinline__ S reduce_group(S value, int lanes, GroupSlots<S>& slots,
                                          const Combine& combine) {
  for (int mask = (lanes < 32 ? lanes : 32) / 2; mask > 0; mask /= 2) {
    const S other = shuffle_record(value, mask);
    combine(value, other);
  }
  if (lanes > 32) {
    if (threadIdx.x % 32 == 0) slots.slot[threadIdx.x / 32] = value;
    __syncthreads();
    value = slots.slot[0];
#pragma unroll
    for (int w = 1; w < kReduceWarps; ++w) combine(value, slots.slot[w]);
  }
  return value;
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// Elements before the first 16-byte boundary at or after `p`.
template <class T>
__device__ __forceinline__ int64_t aligned_head(const T* p) {
  const unsigned past = static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % 16);
  return past == 0 ? 0 : static_cast<int64_t>((16 - past) / sizeof(T));
}

// Two rows walked together: their common head, or all n where their boundaries differ.
template <class T, class U>
__device__ __forceinline__ int64_t aligned_head(const T* a, const U* b, int64_t n) {
  const int64_t head = aligned_head(a);
  return head == aligned_head(b) ? head : n;
}

// Calls f(Width<V>{}, i) for elements i … i+V-1, or f(Width<1>{}, i), over [0,n).
template <int V, class F>
__device__ __forceinline__ void visit_row(int64_t n, int64_t head, int lane, int lanes,
                                          const F& f) {
  if (head > n) head = n;
  for (int64_t i = lane; i < head; i += lanes) f(Width<1>{}, i);
  const int64_t body = head + (n - head) / V * V;
#pragma unroll(V >= 4 ? 2 : 1)
  for (int64_t i = head + lane * V; i < body; i += lanes * V) f(Width<V>{}, i);
  for (int64_t i = body + lane; i < n; i += lanes) f(Width<1>{}, i);
}

// N neighbours at `p` in arithmetic form, and back.
template <int N, class T>
__device__ __forceinline__ void load_arith(const T* p, Arith<T> (&x)[N]) {
  const Vector<T, N> loaded = load_vector<N>(p);
#pragma unroll
  for (int j = 0; j < N; ++j) x[j] = to_arith(loaded[j]);
}

template <int N, class T>
__device__ __forceinline__ void store_arith(T* p, const Arith<T> (&x)[N]) {
  Vector<T, N> packed;
#pragma unroll
  for (int j = 0; j < N; ++j) packed[j] = from_arith<T>(x[j]);
  store_global(p, packed);
}

// Eight neighbours of a 16- or 32-bit type, at a multiple of 16 bytes.
__device__ __forceinline__ void store_eight(void* data, int64_t i, DType dtype,
                                            const float (&x)[8]) {
  if (dtype == DType::float32) {
    float* const to = static_cast<float*>(data) + i;
    store_global(to, Vector<float, 4>{x[0], x[1], x[2], x[3]});
    store_global(to + 4, Vector<float, 4>{x[4], x[5], x[6], x[7]});
    return;
  }
  const Piece piece = dtype == DType::bfloat16 ? pack_halves<BFloat16>(x) : pack_halves<Float16>(x);
  store_global(reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(data) + i), piece);
}

// How many elements come before the first multiple of 16 bytes at or after element `first`.
__device__ __forceinline__ int64_t head_of(const void* data, int64_t first, DType dtype) {
  const unsigned item = dtype == DType::float32 ? 4 : 2;
  const uint64_t address = reinterpret_cast<uintptr_t>(data) + static_cast<uint64_t>(first) * item;
  const unsigned past = static_cast<unsigned>(address % 16);
  return past == 0 ? 0 : (16 - past) / item;
}

// Walks [0,n) with the lanes of a group: f(Width<1>{}, i) for the first `head` elements, then
// f(Width<8>{}, i) for every eighth while eight are left, and single ones again; float64 (A) goes
// one by one.
template <class A, class F>
__device__ __forceinline__ void visit_eight(int64_t head, int64_t n, int lane, int lanes,
                                            const F& f) {
  if constexpr (same_type<A, float>) {
    if (head > n) head = n;
    for (int64_t i = lane; i < head; i += lanes) f(Width<1>{}, i);
    const int64_t body = head + (n - head) / 8 * 8;
#pragma unroll 2
    for (int64_t i = head + lane * 8; i < body; i += lanes * 8) f(Width<8>{}, i);
    for (int64_t i = body + lane; i < n; i += lanes) f(Width<1>{}, i);
  } else {
#pragma unroll 2
    for (int64_t i = lane; i < n; i += lanes) f(Width<1>{}, i);
  }
}

template <int V, class A>
__device__ __forceinline__ void load_values(const void* data, int64_t i, DType dtype, A (&x)[V]) {
  if constexpr (V == 8) {
    Piece piece[2] = {};
    load_eight(data, i, dtype, piece);
    unpack(piece, dtype, x);
  } else {
    x[0] = load_as<A>(data, i, dtype);
  }
}

template <int V, class A>
__device__ __forceinline__ void store_values(void* data, int64_t i, DType dtype, const A (&x)[V]) {
  if constexpr (V == 8) {
    store_eight(data, i, dtype, x);
  } else {
    store_as(data, i, dtype, x[0]);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
