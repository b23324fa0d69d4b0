// How CUDA kernels reach a Stream: every launch goes through `launch`, which enqueues, or keeps
// the launch in the graph that the stream is capturing. Errors of the launch itself throw here;
// errors of the kernel surface at the next synchronisation.
#pragma once

#include <utility>

#include "device.h"

namespace nodegrad {
class Stream;
}

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Throws `op: call failed: <name> (<text>)` unless `status` is cudaSuccess.
void check(cudaError_t status, const char* op, const char* call);

// NODEGRAD_CUDA_CALL("copy", cudaMemcpyAsync, dst, src, …): calls and checks.
#define NODEGRAD_CUDA_CALL(op, function, ...) check(function(__VA_ARGS__), op, #function)

// Makes the stream's device current, allows the kernel its shared memory, and gives the queue.
cudaStream_t prepare_launch(Stream& stream, const char* name, const void* kernel,
                            size_t shared_bytes);
void check_launch(cudaError_t status, const char* name);

// Grid and block must not be empty; arguments are converted to the kernel's parameter types.
template <class... P, class... A>
void launch(Stream& stream, const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
            size_t shared_bytes, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  const cudaLaunchConfig_t config{
      grid,
      block,
      shared_bytes,
      prepare_launch(stream, name, reinterpret_cast<const void*>(kernel), shared_bytes),
      nullptr,
      0};
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...), name);
}

// ⌈a / b⌉ of a ≥ 0: blocks that cover a units, b each.
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks of the largest cluster that any chip with clusters takes.
constexpr int kLargestCluster = 8;

// Scratch memory in stream order, 512-byte aligned: valid for the launches enqueued between the
// two calls; a captured graph keeps what it used. Throws where there is no memory.
void* acquire_scratch(Stream& stream, size_t bytes);
void release_scratch(Stream& stream, void* scratch);

int multiprocessors(Stream& stream);
int compute_capability(Stream& stream);  // major·10 + minor, as 90

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
