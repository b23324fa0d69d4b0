// Clusters of thread blocks (sm_90): rank, barrier, other blocks' shared memory, and launches with
// a cluster size. Source: PTX ISA, "barrier.cluster", "mapa", "Special registers".
#pragma once

#include "launch.h"

#ifdef NODEGRAD_EMULATED
#include "emulation/hopper.h"
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

__device__ __forceinline__ uint32_t cluster_rank() {
#ifdef NODEGRAD_EMULATED
  return emulation::cluster_rank();
#else
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#endif
}

// Every thread of the cluster that has not exited: what each did before is seen by all after.
// No block may exit while others still reach its shared memory.
__device__ __forceinline__ void cluster_sync() {
#ifdef NODEGRAD_EMULATED
  emulation::cluster_arrive();
  emulation::cluster_wait();
#else
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#endif
}

// Where block `rank` of the cluster has what this block has at `own`, in shared memory.
template <class T>
__device__ __forceinline__ T* cluster_peer(T* own, uint32_t rank) {
#ifdef NODEGRAD_EMULATED
  return static_cast<T*>(emulation::map_shared(own, rank));
#else
  uint64_t peer;
  asm("mapa.u64 %0, %1, %2;" : "=l"(peer) : "l"(own), "r"(rank));
  return reinterpret_cast<T*>(peer);
#endif
}

#ifdef NODEGRAD_EMULATED
using emulation::shared_address;
#else
// A shared address as 32 bits, as instructions and descriptors take it.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// Whether this build has code of at least that capability for the kernel: older PTX may run on
// newer chips, too. Makes the stream's device current, which tensor maps are for.
bool compiled_for(Stream& stream, const void* kernel, int capability);
template <class... P>
bool compiled_for(Stream& stream, void (*kernel)(P...), int capability) {
  return compiled_for(stream, reinterpret_cast<const void*>(kernel), capability);
}

inline cudaLaunchAttribute cluster_attribute(unsigned blocks) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = blocks;
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  return attribute;
}

// How many of a launch's clusters are resident at once, at least 1: fewer than the multiprocessors
// suggest, since a cluster lies within one of the chip's groups of them. Asked once per kernel,
// size of cluster and device.
int resident_clusters(Stream& stream, const void* kernel, const cudaLaunchConfig_t& config);
template <class... P>
int resident_clusters(Stream& stream, void (*kernel)(P...), unsigned cluster, unsigned threads,
                      size_t shared_bytes) {
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  return resident_clusters(stream, reinterpret_cast<const void*>(kernel),
                           {dim3(cluster), dim3(threads), shared_bytes, nullptr, &attribute, 1});
}

// As launch() of launch.h, in clusters of `cluster` blocks along x, which divides the grid's x.
template <class... P, class... A>
void launch_clusters(Stream& stream, const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
                     unsigned cluster, size_t shared_bytes, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  const cudaLaunchConfig_t config{
      grid,
      block,
      shared_bytes,
      prepare_launch(stream, name, reinterpret_cast<const void*>(kernel), shared_bytes),
      &attribute,
      1};
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...), name);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
