// Many tensors a launch, in chunks of equal size across them. A launch's tensors have one dtype;
// 16-bit ones are loaded as float32, block by block, so that kernels are compiled once for each
// type of arithmetic T.
#pragma once

#include "core/families/optim.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTensorChunk = 16384;
constexpr int kTensorsPerLaunch = 64;
static_assert(kTensorChunk == kNormChunk);

struct Entry {
  OptimTensor tensor;
  int64_t first_chunk;
};

// What the kernels take; each sets what it needs.
struct ListArgs {
  const double* hyper;
  int32_t count;
  int32_t options;
  LoadRow load;
  StoreRow store;       // null where the dtype is that of arithmetic
  int64_t bytes;        // of an element
  const int32_t* skip;  // a flag: where it is set nothing is changed; may be null
  const void* norm;
  bool wide_norm;  // float64
  double number;   // the norm's p, or a limit
  double* partials;
  const float* scale;
  int32_t* found;
  Entry entries[kTensorsPerLaunch];
};

// The tensor of a chunk, and where the chunk begins in it.
struct Place {
  const OptimTensor* tensor;
  int64_t begin, n;
};

Place place_of(const ListArgs& a, int64_t chunk) {
  int low = 0;
  for (int high = a.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    (a.entries[middle].first_chunk <= chunk ? low : high) = middle;
  }
  const OptimTensor& t = a.entries[low].tensor;
  const int64_t begin = (chunk - a.entries[low].first_chunk) * kTensorChunk;
  return {&t, begin, min_of(kTensorChunk, t.n - begin)};
}

// Fills the arguments' entries launch by launch; `flush(chunks)` gives them to the stream.
template <class F>
void for_lists(ListArgs& args, const OptimTensor* tensors, int count, const F& flush) {
  for (int next = 0; next < count;) {
    int64_t chunks = 0;
    int32_t used = 0;
    for (; next < count && used < kTensorsPerLaunch; ++next) {
      if (tensors[next].n == 0) continue;
      args.entries[used].tensor = tensors[next];
      args.entries[used].first_chunk = chunks;
      chunks += chunk_count(tensors[next].n, kTensorChunk);
      ++used;
    }
    if (used == 0) return;
    args.count = used;
    flush(chunks);
  }
}

size_t bytes_of(const ListArgs& args) {
  return offsetof(ListArgs, entries) + static_cast<size_t>(args.count) * sizeof(Entry);
}

ListArgs list_args(DType dtype) {
  ListArgs args;
  __builtin_memset(&args, 0, offsetof(ListArgs, entries));
  args.load = row_loader(dtype);
  args.store = row_storer(dtype);
  args.bytes = static_cast<int64_t>(item_size(dtype));
  return args;
}

// Changes the chunk's elements of `param` where they are, by f(values, n).
template <class T, class F>
void change_in_place(const ListArgs& a, int64_t chunk, const F& f) {
  const Place at = place_of(a, chunk);
  if (!a.store) {
    f(static_cast<T*>(at.tensor->param) + at.begin, at.n);
    return;
  }
  alignas(64) T values[kBlock];
  for (int64_t i = 0; i < at.n; i += kBlock) {
    const int64_t n = min_of(kBlock, at.n - i);
    void* const place = advance_by(at.tensor->param, (at.begin + i) * a.bytes);
    a.load(place, 1, values, n);
    f(values, n);
    a.store(values, place, n);
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
