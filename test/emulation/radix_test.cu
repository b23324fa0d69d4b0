// Blocks of a radix sort that walk over several tiles, as they do from 2^18 keys on.
#include <algorithm>

#include "harness.h"
#include "radix_sort.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;

CASE(radix_tiles) {
  constexpr int64_t n = 5 * kRadixTile + 77, span = 2 * kRadixTile, blocks = 3;
  auto stream = harness::make_stream();
  std::vector<Entry> entries(n);
  for (uint32_t i = 0; i < n; ++i) entries[i] = {i * 2654435761u >> 19, i};
  Buffer<Entry> a(n), b(n);
  Buffer<uint32_t> counts(blocks * kRadixDigits);
  a.write(*stream, entries);
  const auto pass = [&](const Buffer<Entry>& from, const Buffer<Entry>& to, int shift) {
    const StoredEntries source{from.data()};
    launch(*stream, "radix", radix_count_kernel<StoredEntries>, blocks, kRadixBlock,
           sizeof(RadixShared), source, n, span, shift, counts.data());
    launch(*stream, "radix", radix_place_kernel<StoredEntries>, blocks, kRadixBlock,
           sizeof(RadixShared), source, n, span, shift, counts.data(), to.data());
  };
  pass(a, b, 0);
  pass(b, a, kRadixBits);
  std::ranges::stable_sort(entries, {}, &Entry::key);
  const std::vector<Entry> found = a.read(*stream);
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT(found[i].key == entries[i].key && found[i].position == entries[i].position);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
