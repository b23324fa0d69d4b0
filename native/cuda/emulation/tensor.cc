// Tensor maps of the emulated device, cp.async.bulk.tensor and st.async (PTX ISA, "Data Movement
// and Conversion Instructions: Asynchronous copy", "Tensors"; cuda.h, cuTensorMapEncodeTiled and
// cuTensorMapEncodeIm2col).
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

// What both modes ask of a map, and its tensor; `inner` is the box along the first dimension.
bool start_map(TensorMap& map, const void* out, api::CUtensorMapDataType type, uint32_t rank,
               void* address, const uint64_t* sizes, const uint64_t* strides, uint32_t inner,
               api::CUtensorMapSwizzle swizzle) {
  if (!out || reinterpret_cast<uintptr_t>(out) % 64 != 0 || rank > 5 || !address ||
      reinterpret_cast<uintptr_t>(address) % 16 != 0 || static_cast<size_t>(type) >= 12) {
    return false;
  }
  map.magic = TensorMap::kMagic;
  map.address = address;
  map.rank = static_cast<uint8_t>(rank);
  map.item = kTypes[type].item;
  map.to_tf32 = kTypes[type].to_tf32;
  map.swizzle_chunks = static_cast<uint8_t>(1 << swizzle);
  for (uint32_t i = 0; i < rank; ++i) {
    if (sizes[i] < 1 || sizes[i] > uint64_t(1) << 32) return false;
    map.last[i] = static_cast<uint32_t>(sizes[i] - 1);
    if (i + 1 < rank) {
      if (strides[i] % 16 != 0 || strides[i] == 0 || strides[i] >= uint64_t(1) << 40) return false;
      map.strides[i] = strides[i];
    }
  }
  if (inner < 1 || inner > 256) return false;
  map.box[0] = static_cast<uint16_t>(inner);
  const uint32_t line = inner * map.item;
  return line % 16 == 0 && (!swizzle || line <= map.swizzle_chunks * 16u);
}

CUresult finish_map(api::CUtensorMap* out, const TensorMap& map) {
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &map, sizeof map);
  return api::CUDA_SUCCESS;
}

CUresult encode_tiled(api::CUtensorMap* out, api::CUtensorMapDataType type, uint32_t rank,
                      void* address, const uint64_t* sizes, const uint64_t* strides,
                      const uint32_t* box, const uint32_t* element_strides,
                      api::CUtensorMapInterleave, api::CUtensorMapSwizzle swizzle,
                      api::CUtensorMapL2promotion, api::CUtensorMapFloatOOBfill) {
  TensorMap map{};
  if (rank < 1 || !start_map(map, out, type, rank, address, sizes, strides, box[0], swizzle)) {
    return api::CUDA_ERROR_INVALID_VALUE;
  }
  for (uint32_t i = 0; i < rank; ++i) {
    if (box[i] < 1 || box[i] > 256 || element_strides[i] != 1) {
      return api::CUDA_ERROR_INVALID_VALUE;
    }
    map.box[i] = static_cast<uint16_t>(box[i]);
  }
  return finish_map(out, map);
}

// Bits of a corner and of an offset of the im2col mode.
int corner_bits(uint32_t rank) { return rank == 3 ? 16 : rank == 4 ? 8 : 5; }

// Corners and offsets count w first, as sizes and coordinates do. The last dimension's step is
// taken as 1 alone.
CUresult encode_im2col(api::CUtensorMap* out, api::CUtensorMapDataType type, uint32_t rank,
                       void* address, const uint64_t* sizes, const uint64_t* strides,
                       const int* lower, const int* upper, uint32_t channels, uint32_t pixels,
                       const uint32_t* element_strides, api::CUtensorMapInterleave,
                       api::CUtensorMapSwizzle swizzle, api::CUtensorMapL2promotion,
                       api::CUtensorMapFloatOOBfill) {
  TensorMap map{};
  if (rank < 3 || pixels < 1 || pixels > 1024 || element_strides[rank - 1] != 1 ||
      !start_map(map, out, type, rank, address, sizes, strides, channels, swizzle)) {
    return api::CUDA_ERROR_INVALID_VALUE;
  }
  map.pixels = static_cast<uint16_t>(pixels);
  const int limit = 1 << (corner_bits(rank) - 1);
  for (uint32_t i = 0; i < rank - 2; ++i) {
    const uint32_t step = element_strides[i + 1];
    if (step < 1 || step > 8 || lower[i] < -limit || lower[i] >= limit || upper[i] < -limit ||
        upper[i] >= limit || int64_t{map.last[i + 1]} + upper[i] < lower[i]) {
      return api::CUDA_ERROR_INVALID_VALUE;
    }
    map.lower[i] = static_cast<int16_t>(lower[i]);
    map.upper[i] = static_cast<int16_t>(upper[i]);
    map.steps[i] = static_cast<uint8_t>(step);
  }
  return finish_map(out, map);
}

TensorMap map_at(const void* p) {
  TensorMap map;
  std::memcpy(&map, p, sizeof map);
  return map;
}

uint32_t line_count(const TensorMap& map) {
  if (map.pixels > 0) return map.pixels;
  uint32_t lines = 1;
  for (int i = 1; i < map.rank; ++i) lines *= map.box[i];
  return lines;
}

uint32_t box_bytes(const TensorMap& map) { return line_count(map) * map.box[0] * map.item; }

// From one pixel's base to the next, along w first: within the bounding box, then the next image.
void next_base(const TensorMap& map, int64_t* base) {
  for (int i = 0; i < map.rank - 2; ++i) {
    base[i + 1] += map.steps[i];
    if (base[i + 1] <= int64_t{map.last[i + 1]} + map.upper[i]) return;
    base[i + 1] = map.lower[i];
  }
  ++base[map.rank - 1];
}

// Calls f(global address or null, elements that exist, first one's place, shared offset) for each
// line of the box along the first dimension.
template <class F>
void for_lines(const TensorMap& map, const int* at, const uint16_t* offsets, F f) {
  const uint32_t lines = line_count(map);
  int64_t base[5];
  std::copy(at, at + map.rank, base);
  for (uint32_t line = 0; line < lines; ++line) {
    const char* global = static_cast<const char*>(map.address);
    bool inside = true;
    uint32_t rest = line;
    for (int i = 1; i < map.rank; ++i) {
      int64_t x = base[i];
      if (map.pixels == 0) {
        x += rest % map.box[i];
        rest /= map.box[i];
      } else if (i < map.rank - 1) {
        x += offsets[i - 1];
      }
      inside = inside && x >= 0 && x <= map.last[i];
      global += x * static_cast<int64_t>(map.strides[i - 1]);
    }
    if (map.pixels > 0) next_base(map, base);
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
  for_lines(map, copy.coordinates, copy.offsets,
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
  for_lines(map, copy.coordinates, copy.offsets,
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

TensorMap checked_map(const void* p, int rank, bool im2col) {
  check_aligned(p, 64);
  const TensorMap map = map_at(p);
  if (map.magic != TensorMap::kMagic) fail_thread("no tensor map at %p", p);
  if (map.rank != rank) fail_thread("a tensor map of rank %d, used as %d", map.rank, rank);
  if ((map.pixels > 0) != im2col) fail_thread("a tensor map of the other mode");
  return map;
}

// Bases lie within the bounding box, offsets have as many bits as corners.
void check_im2col(const TensorMap& map, const int* at, const uint16_t* offsets) {
  for (int i = 0; i < map.rank - 2; ++i) {
    const int64_t last = int64_t{map.last[i + 1]} + map.upper[i];
    if (at[i + 1] < map.lower[i] || at[i + 1] > last) {
      fail_thread("im2col: coordinate %d must lie in the bounding box from %d to %lld, got %d",
                  i + 1, map.lower[i], static_cast<long long>(last), at[i + 1]);
    }
    if (offsets[i] >> corner_bits(map.rank)) {
      fail_thread("im2col: offset %d must have %d bits, got %d", i, corner_bits(map.rank),
                  offsets[i]);
    }
  }
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
                 void* barrier, uint16_t blocks, const uint16_t* offsets) {
  Thread& thread = *current_thread;
  const TensorMap map = checked_map(map_pointer, rank, offsets != nullptr);
  BulkCopy copy = make_copy(BulkCopy::Kind::tensor_load, map_pointer, rank, coordinates);
  if (offsets) {
    check_im2col(map, coordinates, offsets);
    std::copy(offsets, offsets + rank - 2, copy.offsets);
  }
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
  for_lines(map, coordinates, offsets, [&](const char* global, uint32_t count, uint32_t, uint32_t) {
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
  const TensorMap map = checked_map(map_pointer, rank, false);
  BulkCopy copy = make_copy(BulkCopy::Kind::tensor_store, map_pointer, rank, coordinates);
  copy.size = box_bytes(map);
  copy.offset = offset_of(*thread.block, src, copy.size, 128);
  copy.blocks.push_back(thread.block);
  shadow_proxy_read(src, copy.size);
  for_lines(map, coordinates, nullptr, [&](const char* global, uint32_t count, uint32_t, uint32_t) {
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
  *function =
      std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0    ? reinterpret_cast<void*>(encode_tiled)
      : std::strcmp(symbol, "cuTensorMapEncodeIm2col") == 0 ? reinterpret_cast<void*>(encode_im2col)
                                                            : nullptr;
  *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // namespace api
}  // namespace nodegrad::emulation
