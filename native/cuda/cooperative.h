// Kernels whose blocks wait for each other: a launch that has all its blocks resident at once, and
// words that carry 4 bytes from block to block together with the number of the round they belong
// to. A word is one 8-byte access, which no reader sees in part, so it needs neither fence nor
// flag: who finds the round he waits for has the value too. Words start with round 0 (zeros).
#pragma once

#include "launch.h"

#ifdef NODEGRAD_EMULATED
#include "emulation/hopper.h"
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// How many blocks of any size are resident together: one on every multiprocessor. The emulated
// device takes more, so that tests can have larger problems than its multiprocessors suggest.
inline int64_t resident_blocks(Stream& stream) {
#ifdef NODEGRAD_EMULATED
  return compute_capability(stream) < 90 ? emulation::kLargestCooperativeGrid
                                         : emulation::kLargestHopperGrid;
#else
  return multiprocessors(stream);
#endif
}

// Bytes of shared memory that one block may have.
inline int64_t shared_memory_limit(Stream& stream) {
  switch (compute_capability(stream)) {
    case 80:
    case 87:
      return 163 * 1024;
    case 90:
    case 100:
    case 103:
      return 227 * 1024;
    default:
      return 99 * 1024;
  }
}

// As launch(), with all blocks resident; fails where they do not fit.
template <class... P, class... A>
void launch_cooperative(Stream& stream, const char* name, void (*kernel)(P...), dim3 grid,
                        dim3 block, size_t shared_bytes, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  const cudaLaunchConfig_t config{
      grid,
      block,
      shared_bytes,
      prepare_launch(stream, name, reinterpret_cast<const void*>(kernel), shared_bytes),
      &attribute,
      1};
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...), name);
}

// Sets all words to round 0, in stream order.
inline void clear_words(Stream& stream, const char* name, uint64_t* words, size_t count) {
  NODEGRAD_CUDA_CALL(name, cudaMemsetAsync, words, 0, count * sizeof(uint64_t),
                     prepare_launch(stream, name, nullptr, 0));
}

#ifdef NODEGRAD_EMULATED

NODEGRAD_UNCHECKED inline void store_word(uint64_t* to, uint32_t value, uint32_t round) {
  emulation::atomic_access(to, sizeof(*to));
  *to = static_cast<uint64_t>(round) << 32 | value;
}

NODEGRAD_UNCHECKED inline Vector<uint64_t, 2> load_words(const uint64_t* from) {
  emulation::check_aligned(from, 16);
  emulation::atomic_access(from, 8);
  emulation::atomic_access(from + 1, 8);
  const Vector<uint64_t, 2> words{{from[0], from[1]}};
  emulation::poll();
  return words;
}

#else

__device__ __forceinline__ void store_word(uint64_t* to, uint32_t value, uint32_t round) {
  const uint64_t word = static_cast<uint64_t>(round) << 32 | value;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "l"(word)
               : "memory");
}

// Two neighbours, each whole by itself; 16-byte aligned.
__device__ __forceinline__ Vector<uint64_t, 2> load_words(const uint64_t* from) {
  Vector<uint64_t, 2> words;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words[0]), "=l"(words[1])
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  return words;
}

#endif

__device__ __forceinline__ bool have_round(const Vector<uint64_t, 2>& words, uint32_t round) {
  return static_cast<uint32_t>(words[0] >> 32) == round &&
         static_cast<uint32_t>(words[1] >> 32) == round;
}

// Loads up to kCount pairs of words until all are of the round; `at(i)` is the i-th pair's address,
// or null where there is none.
template <int kCount, class At>
__device__ __forceinline__ void await_words(Vector<uint64_t, 2> (&words)[kCount], uint32_t round,
                                            const At& at) {
  bool complete;
  do {
    complete = true;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (const uint64_t* const from = at(i)) words[i] = load_words(from);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (at(i) && !have_round(words[i], round)) complete = false;
    }
  } while (!complete);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
