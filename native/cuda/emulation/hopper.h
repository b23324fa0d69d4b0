// What sm_90 adds to the device side: clusters, mbarriers, bulk and tensor copies, warpgroup
// products. Faithful to the PTX ISA 8 in what decides results: operand addresses go through the
// bits of descriptors and swizzles, copies land late and in any order, a product reads its operands
// at some moment before the wait for it. Misuse that hardware would answer with wrong numbers or a
// hang (no expected bytes, an operand released early, no proxy fence) ends the launch.
#pragma once

#include "emulation/runtime_api.h"
#include "emulation/warp.h"

namespace nodegrad::emulation {

// Blocks of a cooperative launch on a device of capability 9.0: as many as recurrent layers of 1024
// units take.
constexpr unsigned kLargestHopperGrid = 64;

namespace api {
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel,
                                           const cudaLaunchConfig_t*);
}

// A shared address as instructions take it: 32 bits, in the block's own window.
uint32_t shared_address(const void* p);

// Clusters ("Cluster Dimensions", barrier.cluster, mapa).
unsigned cluster_rank() __attribute__((const));
unsigned cluster_size() __attribute__((const));
void cluster_arrive(NODEGRAD_SITE);
void cluster_wait(NODEGRAD_SITE);
void* map_shared(const void* own, unsigned rank);  // the same place in another block of the cluster

// mbarrier objects; `barrier` of arrivals and stores may lie in another block of the cluster.
void mbarrier_init(void* barrier, unsigned count);
void mbarrier_arrive(void* barrier, unsigned count, unsigned expected_bytes);
void mbarrier_expect(void* barrier, unsigned bytes);
bool mbarrier_test(void* barrier, unsigned parity);
void mbarrier_wait(void* barrier, unsigned parity, NODEGRAD_SITE);
void fence_mbarrier_init();
void fence_proxy_async();
void store_async(void* remote, const void* value, unsigned bytes, void* remote_barrier);

// cp.async.bulk.tensor. `blocks` is the multicast mask, 0 without multicast; `offsets` those of the
// im2col mode, null in the tiled one.
void tensor_load(void* dst, const void* map, int rank, const int* coordinates, void* barrier,
                 uint16_t blocks, const uint16_t* offsets = nullptr);
void tensor_store(const void* map, int rank, const int* coordinates, const void* src);
void bulk_commit();
void bulk_wait(int groups_in_flight);

// wgmma: D[64,N] (+)= A[64,K]·B[K,N], 32 bytes of K. `d` has N/2 floats; `left` holds A in four
// registers, where it does not lie in shared memory. Both stay as they are until the wait.
enum class ProductType : uint8_t { bfloat16, float16, tf32 };
struct Product {
  uint64_t a, b;
  ProductType type;
  int n;
  bool a_transposed, b_transposed, accumulate, a_in_registers;
  bool operator==(const Product&) const = default;
};
void product_fence();
void product_issue(const Product& product, float* d, const uint32_t* left = nullptr);
void product_commit(NODEGRAD_SITE);
void product_wait(int groups_in_flight, NODEGRAD_SITE);

// One lane of the warp, any.
bool elect_lane(NODEGRAD_SITE);
// setmaxnreg: waits until the block has as many registers to give.
void set_max_registers(int count);

}  // namespace nodegrad::emulation
