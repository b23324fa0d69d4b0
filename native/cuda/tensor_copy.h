// Tensor maps and the copies of boxes they describe (sm_90's TMA): one thread asks, the engine
// writes shared memory with the map's swizzle, zeros where the tensor ends, and counts the whole
// box's bytes to an mbarrier. Source: PTX ISA, "cp.async.bulk.tensor" and "Tensors"; cuda.h,
// "cuTensorMapEncodeTiled", "cuTensorMapEncodeIm2col".
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include "mbarrier.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// A tensor of three dimensions, or of four, and a box of it, the contiguous dimension first.
struct TensorBox {
  const void* data;     // 16-byte aligned
  uint64_t sizes[4];    // 1 to 2^32; of the fourth dimension 0 where there is none
  uint64_t strides[3];  // bytes between neighbours along dimensions 1 and up: multiples of 16
  uint32_t box[4];      // at most 256 each; box[0] is the swizzle's line: 128 bytes, or 64
  bool to_tf32;         // float32 rounded on its way
  uint8_t item;         // bytes
};

// Images [n][h][w][c] as the windows of a convolution meet them, c first in the arrays here. A copy
// brings for each of a run of windows the run of channels at one of the window's places. Windows
// start at lower, lower + step, … up to size - 1 + upper of each axis, w before h before n.
struct TensorWindows {
  const void* data;  // 16-byte aligned
  uint64_t sizes[4];
  uint64_t strides[3];     // bytes, as above
  int lower[2], upper[2];  // of w and h, from -128 to 127
  uint32_t steps[2];       // 1 to 8
  uint32_t channels;       // of a copy: the swizzle's line, 128 bytes or 64
  uint32_t windows;        // of a copy: at most 1024
  bool to_tf32;
  uint8_t item;
};

// The driver's function of that name, or null.
template <class F>
F driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
  if (status != cudaSuccess) cudaGetLastError();
  const bool usable = status == cudaSuccess && found == cudaDriverEntryPointSuccess;
  return usable ? reinterpret_cast<F>(function) : nullptr;
}

inline CUtensorMapDataType tensor_map_type(bool to_tf32, int item) {
  return to_tf32     ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32
         : item == 4 ? CU_TENSOR_MAP_DATA_TYPE_UINT32
                     : CU_TENSOR_MAP_DATA_TYPE_UINT16;
}

inline CUtensorMapSwizzle tensor_map_swizzle(uint32_t line_bytes) {
  return line_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B;
}

// False where the driver offers no tensor maps or refuses this one.
inline bool encode_tensor_map(CUtensorMap* map, const TensorBox& t) {
  static const auto encode =
      driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  if (!encode) return false;
  const uint32_t steps[4] = {1, 1, 1, 1};
  const cuuint64_t sizes[4] = {t.sizes[0], t.sizes[1], t.sizes[2], t.sizes[3]};
  const cuuint64_t strides[3] = {t.strides[0], t.strides[1], t.strides[2]};
  return encode(map, tensor_map_type(t.to_tf32, t.item), t.sizes[3] == 0 ? 3 : 4,
                const_cast<void*>(t.data), sizes, strides, t.box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, tensor_map_swizzle(t.box[0] * t.item),
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

inline bool encode_tensor_map(CUtensorMap* map, const TensorWindows& t) {
  static const auto encode =
      driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
  if (!encode) return false;
  const uint32_t steps[4] = {1, t.steps[0], t.steps[1], 1};
  const cuuint64_t sizes[4] = {t.sizes[0], t.sizes[1], t.sizes[2], t.sizes[3]};
  const cuuint64_t strides[3] = {t.strides[0], t.strides[1], t.strides[2]};
  return encode(map, tensor_map_type(t.to_tf32, t.item), 4, const_cast<void*>(t.data), sizes,
                strides, t.lower, t.upper, t.channels, t.windows, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, tensor_map_swizzle(t.channels * t.item),
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

#ifdef NODEGRAD_EMULATED

inline void prefetch_tensor_map(const CUtensorMap*) {}
inline void load_box(void* dst, const CUtensorMap* map, int x, int y, int z, Mbarrier* barrier) {
  const int at[3] = {x, y, z};
  emulation::tensor_load(dst, map, 3, at, barrier, 0);
}
inline void load_box(void* dst, const CUtensorMap* map, int x, int y, int z, int w,
                     Mbarrier* barrier) {
  const int at[4] = {x, y, z, w};
  emulation::tensor_load(dst, map, 4, at, barrier, 0);
}
inline void load_box_multicast(void* dst, const CUtensorMap* map, int x, int y, int z,
                               Mbarrier* barrier, uint16_t blocks) {
  const int at[3] = {x, y, z};
  emulation::tensor_load(dst, map, 3, at, barrier, blocks);
}
inline void load_box_multicast(void* dst, const CUtensorMap* map, int x, int y, int z, int w,
                               Mbarrier* barrier, uint16_t blocks) {
  const int at[4] = {x, y, z, w};
  emulation::tensor_load(dst, map, 4, at, barrier, blocks);
}
inline void load_windows(void* dst, const CUtensorMap* map, int channel, int x, int y, int image,
                         int across, int down, Mbarrier* barrier) {
  const int at[4] = {channel, x, y, image};
  const uint16_t offsets[2] = {static_cast<uint16_t>(across), static_cast<uint16_t>(down)};
  emulation::tensor_load(dst, map, 4, at, barrier, 0, offsets);
}
inline void store_box(const CUtensorMap* map, int x, int y, int z, const void* src) {
  const int at[3] = {x, y, z};
  emulation::tensor_store(map, 3, at, src);
}
inline void bulk_commit() { emulation::bulk_commit(); }
template <int kInFlight>
void bulk_wait() {
  emulation::bulk_wait(kInFlight);
}

#else

__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// `dst` is aligned to 1024 bytes, the swizzle's period.
__device__ __forceinline__ void load_box(void* dst, const CUtensorMap* map, int x, int y, int z,
                                         Mbarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
      : "memory");
}

// The same from a tensor of four dimensions.
__device__ __forceinline__ void load_box(void* dst, const CUtensorMap* map, int x, int y, int z,
                                         int w, Mbarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(barrier))
      : "memory");
}

// To the same place in every block of the mask, with bytes counted at each one's own barrier.
__device__ __forceinline__ void load_box_multicast(void* dst, const CUtensorMap* map, int x, int y,
                                                   int z, Mbarrier* barrier, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier)), "h"(blocks)
      : "memory");
}

__device__ __forceinline__ void load_box_multicast(void* dst, const CUtensorMap* map, int x, int y,
                                                   int z, int w, Mbarrier* barrier,
                                                   uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(barrier)), "h"(blocks)
      : "memory");
}

// Of the windows from the one that starts at (x, y) of the image on, the channels from `channel`
// on at `across` and `down` of each window's start: 0 to 255.
__device__ __forceinline__ void load_windows(void* dst, const CUtensorMap* map, int channel, int x,
                                             int y, int image, int across, int down,
                                             Mbarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(shared_address(dst)),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(image), "r"(shared_address(barrier)),
      "h"(static_cast<uint16_t>(across)), "h"(static_cast<uint16_t>(down))
      : "memory");
}

// From shared memory, after fence_proxy_async; the part outside the tensor is dropped. The thread's
// stores since its last commit form a group; bulk_wait<N> waits until all but the N youngest are
// done, before which `src` must stay.
__device__ __forceinline__ void store_box(const CUtensorMap* map, int x, int y, int z,
                                          const void* src) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(
          map),
      "r"(x), "r"(y), "r"(z), "r"(shared_address(src))
      : "memory");
}
__device__ __forceinline__ void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int kInFlight>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kInFlight) : "memory");
}

#endif

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
