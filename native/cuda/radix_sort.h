// Sorts numbered keys, stably: by a digit of 8 bits after another, the least first. A block counts
// the digits of its stretch; then each block sums up the counts of the others and puts its entries
// where they belong, tile by tile: an entry's place among those of its digit is the count of the
// tiles and warps before, then of the lanes that match. No atomics, the same order on every device.
// Cost for n keys: ⌈bits / 8⌉ passes that each read them twice and write them once, 8 bytes each.
#pragma once

#include <type_traits>
#include <utility>

#include "launch.h"
#include "prefix_sum.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct alignas(8) Entry {
  uint32_t key, position;
};

constexpr int kRadixBits = 8;
constexpr int kRadixDigits = 1 << kRadixBits;
constexpr int kRadixBlock = kRadixDigits;  // a thread for each digit
constexpr int kRadixWarps = kRadixBlock / 32;
constexpr int kRadixEach = 8;  // entries of a thread in a tile
constexpr int kRadixTile = kRadixBlock * kRadixEach;
constexpr int64_t kRadixBlocks = 128;  // at most, for each reads the counts of all

// What the first pass may read instead: entry i of an array.
struct StoredEntries {
  const Entry* entries;
  __device__ __forceinline__ Entry operator()(int64_t i) const { return entries[i]; }
};

struct RadixShared {
  uint32_t counts[kRadixWarps][kRadixDigits];
  uint32_t totals[kRadixWarps];
};

// The lanes whose entries have the same digit, and how many of them come before.
struct RadixPeers {
  uint32_t digit;  // kRadixDigits where there is no entry
  uint32_t all, before;
};

__device__ __forceinline__ RadixPeers radix_peers(const Entry& entry, int shift, bool inside) {
  RadixPeers peers;
  peers.digit = inside ? entry.key >> shift & (kRadixDigits - 1) : kRadixDigits;
  const uint32_t matching = __match_any_sync(0xffffffffu, peers.digit);
  peers.all = static_cast<uint32_t>(__popc(matching));
  peers.before = static_cast<uint32_t>(__popc(matching & ((1u << threadIdx.x % 32) - 1)));
  return peers;
}

__device__ __forceinline__ void clear_counts(RadixShared& shared) {
#pragma unroll
  for (int w = 0; w < kRadixWarps; ++w) shared.counts[w][threadIdx.x] = 0;
  __syncthreads();
}

// counts[block][digit] of the block's `span` entries.
template <class Source>
__global__ void __launch_bounds__(kRadixBlock)
    radix_count_kernel(const Source source, const int64_t n, const int64_t span, const int shift,
                       uint32_t* counts) {
  RadixShared& shared = shared_memory<RadixShared>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  clear_counts(shared);
  const int64_t begin = blockIdx.x * span, end = begin + span < n ? begin + span : n;
#pragma unroll 4
  for (int64_t first = begin + warp * 32; first < end; first += kRadixBlock) {
    const bool inside = first + lane < end;
    const RadixPeers peers =
        radix_peers(inside ? source(first + lane) : Entry{0, 0}, shift, inside);
    if (inside && peers.before == 0) shared.counts[warp][peers.digit] += peers.all;
    __syncwarp();
  }
  __syncthreads();
  uint32_t total = 0;
#pragma unroll
  for (int w = 0; w < kRadixWarps; ++w) total += shared.counts[w][thread];
  counts[static_cast<int64_t>(blockIdx.x) * kRadixDigits + thread] = total;
}

// Where the block's entries of this thread's digit begin.
__device__ __forceinline__ uint32_t first_place(RadixShared& shared, const uint32_t* counts) {
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t before = 0, total = 0;
#pragma unroll 8
  for (unsigned b = 0; b < gridDim.x; ++b) {
    const uint32_t count = counts[static_cast<int64_t>(b) * kRadixDigits + thread];
    total += count;
    if (b < blockIdx.x) before += count;
  }
  uint32_t all;
  return before + sum_before(shared.totals, total, all);
}

template <class Source>
__global__ void __launch_bounds__(kRadixBlock)
    radix_place_kernel(const Source source, const int64_t n, const int64_t span, const int shift,
                       const uint32_t* counts, Entry* out) {
  RadixShared& shared = shared_memory<RadixShared>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  uint32_t next = first_place(shared, counts);
  const int64_t begin = blockIdx.x * span, end = begin + span < n ? begin + span : n;
  for (int64_t tile = begin; tile < end; tile += kRadixTile) {
    clear_counts(shared);
    const int64_t first = tile + warp * (32 * kRadixEach) + lane;
    Entry entry[kRadixEach];
    uint32_t rank[kRadixEach];
#pragma unroll
    for (int j = 0; j < kRadixEach; ++j) {
      entry[j] = first + j * 32 < end ? source(first + j * 32) : Entry{0, 0};
    }
#pragma unroll
    for (int j = 0; j < kRadixEach; ++j) {
      const bool inside = first + j * 32 < end;
      const RadixPeers peers = radix_peers(entry[j], shift, inside);
      rank[j] = peers.before + (inside ? shared.counts[warp][peers.digit] : 0);
      __syncwarp();
      if (inside && peers.before == 0) shared.counts[warp][peers.digit] += peers.all;
      __syncwarp();
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kRadixWarps; ++w) {
      const uint32_t count = shared.counts[w][thread];
      shared.counts[w][thread] = next;
      next += count;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kRadixEach; ++j) {
      if (first + j * 32 >= end) continue;
      const uint32_t digit = entry[j].key >> shift & (kRadixDigits - 1);
      out[shared.counts[warp][digit] + rank[j]] = entry[j];
    }
    __syncthreads();
  }
}

// Bytes of scratch that radix_sort takes for n keys, a multiple of 16.
inline size_t radix_bytes(int64_t n) {
  return (static_cast<size_t>(n) * 2 * sizeof(Entry) + 15) / 16 * 16 +
         kRadixBlocks * kRadixDigits * sizeof(uint32_t);
}

// source(0) … source(n-1), whose keys are at most `most`, sorted: n entries of `scratch`; n > 0.
template <class Source>
inline const Entry* radix_sort(Stream& stream, const char* name, const Source& source, int64_t n,
                               uint32_t most, void* scratch) {
  uint32_t* const counts = static_cast<uint32_t*>(scratch);
  Entry* out = reinterpret_cast<Entry*>(counts + kRadixBlocks * kRadixDigits);
  Entry* room = out + n;
  const int64_t tiles = divide_up(n, kRadixTile);
  const int64_t span = divide_up(tiles, kRadixBlocks) * kRadixTile;
  const dim3 grid(static_cast<unsigned>(divide_up(n, span))), block(kRadixBlock);
  const auto pass = [&](const auto& from, int shift) {
    using From = std::decay_t<decltype(from)>;
    launch(stream, name, radix_count_kernel<From>, grid, block, sizeof(RadixShared), from, n, span,
           shift, counts);
    launch(stream, name, radix_place_kernel<From>, grid, block, sizeof(RadixShared), from, n, span,
           shift, counts, out);
  };
  pass(source, 0);
  for (int shift = kRadixBits; shift < 32 && most >> shift != 0; shift += kRadixBits) {
    const StoredEntries sorted{out};
    std::swap(out, room);
    pass(sorted, shift);
  }
  return out;
}

}  // namespace
}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
