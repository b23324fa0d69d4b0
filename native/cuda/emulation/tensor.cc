// Tensor maps of the emulated device, cp.async.bulk.tensor and st.async (PTX ISA, "Data Movement
// and Conversion Instructions: Asynchronous copy", "Tensors"; cuda.h, cuTensorMapEncodeTiled).
// A copy is checked where it is issued, and carried out by the asynchronous engine later.
#include <algorithm>
#include <bit>
#include <cstring>

#include "emulation/control.h"
#include "emulation/cuda.h"
#include "emulation/executor.h"
#include "emulation/runtime_api.h"
#include "emulation/tensor_map.h"

namespace nodegrad::emulation {

namespace {

using api::CUresult;

struct Type {
  uint8_t item;
  bool to_tf32;
};
constexpr Type kTypes[] = {{1, false}, {2, false}, {4, false}, {4, false}, {8, false}, {8, false},
                           {2, false}, {4, false}, {8, false}, {2, false}, {4, false}, {4, true}};

CUresult encode_tiled(api::CUtensorMap* out, api::CUtensorMapDataType type, uint32_t rank,
                      void* address, const uint64_t* sizes, const uint64_t* strides,
                      const uint32_t* box, const uint32_t* element_strides,
                      api::CUtensorMapInterleave, api::CUtensorMapSwizzle swizzle,
                      api::CUtensorMapL2promotion, api::CUtensorMapFloatOOBfill) {
  if (!out || reinterpret_cast<uintptr_t>(out) % 64 != 0 || rank < 1 || rank > 5 || !address ||
      reinterpret_cast<uintptr_t>(address) % 16 != 0 || static_cast<size_t>(type) >= 12) {
    return api::CUDA_ERROR_INVALID_VALUE;
  }
  TensorMap map{};
  map.magic = TensorMap::kMagic;
  map.address = address;
  map.rank = static_cast<uint8_t>(rank);
  map.item = kTypes[type].item;
  map.to_tf32 = kTypes[type].to_tf32;
  map.swizzle_chunks = static_cast<uint8_t>(1 << swizzle);
  for (uint32_t i = 0; i < rank; ++i) {
    if (sizes[i] < 1 || sizes[i] > uint64_t(1) << 32 || box[i] < 1 || box[i] > 256 ||
        element_strides[i] != 1) {
      return api::CUDA_ERROR_INVALID_VALUE;
    }
    map.last[i] = static_cast<uint32_t>(sizes[i] - 1);
    map.box[i] = static_cast<uint16_t>(box[i]);
    if (i + 1 < rank) {
      if (strides[i] % 16 != 0 || strides[i] == 0 || strides[i] >= uint64_t(1) << 40) {
        return api::CUDA_ERROR_INVALID_VALUE;
      }
      map.strides[i] = strides[i];
    }
  }
  const uint32_t line = box[0] * map.item;
  if (line % 16 != 0 || (swizzle && line > map.swizzle_chunks * 16u)) {
    return api::CUDA_ERROR_INVALID_VALUE;
  }
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &map, sizeof map);
  return api::CUDA_SUCCESS;
}

TensorMap map_at(const void* p) {
  TensorMap map;
  std::memcpy(&map, p, sizeof map);
  return map;
}

uint32_t box_bytes(const TensorMap& map) {
  uint32_t bytes = map.item;
  for (int i = 0; i < map.rank; ++i) bytes *= map.box[i];
  return bytes;
}

// Calls f(global address or null, elements that exist, first one's place, shared offset) for each
// line of the box along the first dimension.
template <class F>
void for_lines(const TensorMap& map, const int* at, F f) {
  const uint32_t lines = box_bytes(map) / map.box[0] / map.item;
  for (uint32_t line = 0; line < lines; ++line) {
    const char* global = static_cast<const char*>(map.address);
    bool inside = true;
    uint32_t rest = line;
    for (int i = 1; i < map.rank; ++i) {
      const int64_t x = int64_t{at[i]} + rest % map.box[i];
      rest /= map.box[i];
      inside = inside && x >= 0 && x <= map.last[i];
      global += x * static_cast<int64_t>(map.strides[i - 1]);
    }
    const int64_t first = std::max<int64_t>(0, -int64_t{at[0]});
    const int64_t end = std::min<int64_t>(map.box[0], int64_t{map.last[0]} + 1 - at[0]);
    const int64_t count = inside ? std::max<int64_t>(0, end - first) : 0;
    f(global + (at[0] + first) * map.item, static_cast<uint32_t>(count),
      static_cast<uint32_t>(first), line * map.box[0] * map.item);
  }
}

// The swizzle exchanges 16-byte pieces by the address' bits 7 and up ("Swizzling Modes").
uint32_t swizzled(const TensorMap& map, uint32_t address) {
  return address ^ ((address >> 7 & (map.swizzle_chunks - 1u)) << 4);
}

// cvt.rna.tf32.f32
uint32_t rounded_to_tf32(uint32_t bits) {
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

void fill_box(const BulkCopy& copy, const Block& block) {
  const TensorMap map = map_at(copy.map);
  std::vector<char> line(map.box[0] * map.item);
  for_lines(map, copy.coordinates,
            [&](const char* global, uint32_t count, uint32_t first, uint32_t at) {
              std::fill(line.begin(), line.end(), 0);
              if (count > 0) std::memcpy(&line[first * map.item], global, count * map.item);
              if (map.to_tf32) {
                for (size_t i = 0; i < line.size(); i += 4) {
                  uint32_t bits;
                  std::memcpy(&bits, &line[i], 4);
                  bits = rounded_to_tf32(bits);
                  std::memcpy(&line[i], &bits, 4);
                }
              }
              for (uint32_t i = 0; i < line.size(); i += 16) {
                std::memcpy(block.shared + swizzled(map, copy.offset + at + i), &line[i], 16);
              }
            });
}

void store_box(const BulkCopy& copy, const Block& block) {
  const TensorMap map = map_at(copy.map);
  std::vector<char> line(map.box[0] * map.item);
  for_lines(map, copy.coordinates,
            [&](const char* global, uint32_t count, uint32_t first, uint32_t at) {
              for (uint32_t i = 0; i < line.size(); i += 16) {
                std::memcpy(&line[i], block.shared + swizzled(map, copy.offset + at + i), 16);
              }
              std::memcpy(const_cast<char*>(global), &line[first * map.item], count * map.item);
            });
}

uint32_t offset_of(const Block& block, const void* p, size_t bytes, size_t alignment) {
  check_aligned(p, alignment);
  const size_t offset = static_cast<size_t>(static_cast<const char*>(p) - block.shared);
  if (offset > block.shared_bytes || block.shared_bytes - offset < bytes) {
    fail_thread("bulk copy: %zu bytes at offset %zd of %zu bytes of shared memory", bytes,
                static_cast<ptrdiff_t>(offset), block.shared_bytes);
  }
  return static_cast<uint32_t>(offset);
}

// The engine must see the barrier that it is to complete.
uint32_t barrier_of(const Block& block, const void* barrier) {
  const uint32_t offset = offset_of(block, barrier, 8, 8);
  const auto found = block.mbarriers.find(offset);
  if (found == block.mbarriers.end()) {
    fail_thread("bulk copy: the mbarrier at offset %u was not initialised", offset);
  }
  const Mbarrier& b = found->second;
  if (!shadow_knows(*current_thread, *b.initializer, b.init_time)) {
    fail_thread("bulk copy: the mbarrier at offset %u may be initialised later", offset);
  }
  if (std::max(b.initializer->proxy_fence, b.initializer->mbarrier_fence) <= b.init_time) {
    fail_thread("bulk copy: no fence after the mbarrier at offset %u was initialised", offset);
  }
  return offset;
}

TensorMap checked_map(const void* p, int rank) {
  check_aligned(p, 64);
  const TensorMap map = map_at(p);
  if (map.magic != TensorMap::kMagic) fail_thread("no tensor map at %p", p);
  if (map.rank != rank) fail_thread("a tensor map of rank %d, used as %d", map.rank, rank);
  return map;
}

BulkCopy make_copy(BulkCopy::Kind kind, const void* map, int rank, const int* coordinates) {
  BulkCopy copy{};
  copy.kind = kind;
  copy.thread = current_thread;
  copy.group = current_thread->bulk_group;
  if (map) {
    std::memcpy(copy.map, map, sizeof copy.map);
    std::copy(coordinates, coordinates + rank, copy.coordinates);
  }
  return copy;
}

}  // namespace

void tensor_load(void* dst, const void* map_pointer, int rank, const int* coordinates,
                 void* barrier, uint16_t blocks) {
  Thread& thread = *current_thread;
  const TensorMap map = checked_map(map_pointer, rank);
  BulkCopy copy = make_copy(BulkCopy::Kind::tensor_load, map_pointer, rank, coordinates);
  copy.size = box_bytes(map);
  copy.offset = offset_of(*thread.block, dst, copy.size, 128);
  copy.barrier = barrier_of(*thread.block, barrier);
  const auto& cluster = thread.block->cluster->blocks;
  if (blocks >> cluster.size()) {
    fail_thread("bulk copy: the mask 0x%x names blocks beyond the cluster's %zu", blocks,
                cluster.size());
  }
  if (blocks == 0) copy.blocks.push_back(thread.block);
  for (size_t i = 0; i < cluster.size(); ++i) {
    if (blocks >> i & 1) copy.blocks.push_back(cluster[i]);
  }
  for_lines(map, coordinates, [&](const char* global, uint32_t count, uint32_t, uint32_t) {
    if (count > 0) shadow_read(global, count * map.item);
  });
  for (Block* block : copy.blocks) {
    if (block != thread.block) {
      barrier_of(*block, block->shared + copy.barrier);
      if (block->live == 0) fail_thread("bulk copy: to a block that has exited");
    }
    shadow_bulk_begin(*block, copy.offset, copy.size);
  }
  bulk_copies().push_back(std::move(copy));
}

void store_async(void* remote, const void* value, unsigned bytes, void* remote_barrier) {
  Block* block = block_of(*current_thread, remote);
  if (!block || block != block_of(*current_thread, remote_barrier)) {
    fail_thread("st.async: value and mbarrier lie in one block of the cluster");
  }
  BulkCopy copy = make_copy(BulkCopy::Kind::bytes, nullptr, 0, nullptr);
  copy.size = bytes;
  copy.offset = offset_of(*block, remote, bytes, bytes < 8 ? 4 : bytes);
  copy.barrier = offset_of(*block, remote_barrier, 8, 8);
  copy.blocks.push_back(block);
  shadow_bulk_begin(*block, copy.offset, bytes);
  const char* from = static_cast<const char*>(value);
  copy.value.assign(from, from + bytes);
  copy.known = shadow_clock(*current_thread);
  bulk_copies().push_back(std::move(copy));
}

void tensor_store(const void* map_pointer, int rank, const int* coordinates, const void* src) {
  Thread& thread = *current_thread;
  const TensorMap map = checked_map(map_pointer, rank);
  BulkCopy copy = make_copy(BulkCopy::Kind::tensor_store, map_pointer, rank, coordinates);
  copy.size = box_bytes(map);
  copy.offset = offset_of(*thread.block, src, copy.size, 128);
  copy.blocks.push_back(thread.block);
  shadow_proxy_read(src, copy.size);
  for_lines(map, coordinates, [&](const char* global, uint32_t count, uint32_t, uint32_t) {
    if (count > 0) shadow_write(global, count * map.item);
  });
  bulk_copies().push_back(std::move(copy));
}

void bulk_commit() { ++current_thread->bulk_group; }

void bulk_wait(int groups_in_flight) {
  const Thread& thread = *current_thread;
  auto& copies = bulk_copies();
  for (size_t at = 0; at < copies.size();) {
    const BulkCopy& copy = copies[at];
    if (copy.kind == BulkCopy::Kind::tensor_store && copy.thread == &thread &&
        copy.group < thread.bulk_group - groups_in_flight) {
      shadow_proxy_read(thread.block->shared + copy.offset, copy.size);
      land_bulk_copy(at);
    } else {
      ++at;
    }
  }
}

void land_bulk_copy(size_t at) {
  auto& copies = bulk_copies();
  const BulkCopy copy = std::move(copies[at]);
  copies.erase(copies.begin() + static_cast<ptrdiff_t>(at));
  for (Block* block : copy.blocks) {
    if (block->live == 0) {
      return fail_engine("an asynchronous copy is under way in a block that has exited");
    }
    if (copy.kind == BulkCopy::Kind::tensor_store) {
      store_box(copy, *block);
      continue;
    }
    if (copy.kind == BulkCopy::Kind::tensor_load) {
      fill_box(copy, *block);
    } else {
      std::memcpy(block->shared + copy.offset, copy.value.data(), copy.size);
    }
    mbarrier_complete_bytes(*block, copy);
  }
}

namespace api {

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(encode_tiled) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // namespace api
}  // namespace nodegrad::emulation
