// Rows sorted by value, and gradients put back where their values came from.
//
// A row becomes words of an order-preserving integer key above the element's position: words are
// all different, so sorting them is stable by itself. Insertion sorts runs of 16, then runs are
// merged pairwise without branches; where few are wanted, quickselect finds them first. Keys of 8
// bytes make words of 16.
// Cost: about n·log2(n/16) merge steps; two buffers of n words for each thread. Rows run in
// parallel, not the parts of one.
#include "core/backend.h"
#include "core/error.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kRun = 16;
constexpr int64_t kElementsPerChunk = 4096;

using Wide = unsigned __int128;

// Keys in ascending order; NaN is the largest, and -0 equals 0.
uint32_t key_of(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x == 0.0f ? 0.0f : x);
  const uint32_t key = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return x != x ? 0xffffffffu : key;
}
uint64_t key_of(double x) {
  const uint64_t bits = __builtin_bit_cast(uint64_t, x == 0.0 ? 0.0 : x);
  const uint64_t key = bits ^ (bits >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
  return x != x ? ~uint64_t{0} : key;
}
uint32_t key_of(int32_t x) { return static_cast<uint32_t>(x) ^ 0x80000000u; }
uint64_t key_of(int64_t x) {
  return static_cast<uint64_t>(x) ^ uint64_t { 1 } << 63;
}
uint32_t key_of(uint8_t x) { return x; }

template <class K>
struct WordOf {
  using Type = uint64_t;
  static constexpr int kShift = 32;
};
template <>
struct WordOf<uint64_t> {
  using Type = Wide;
  static constexpr int kShift = 64;
};

template <class U>
void insertion_sort(U* words, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const U word = words[i];
    int64_t j = i;
    for (; j > 0 && word < words[j - 1]; --j) words[j] = words[j - 1];
    words[j] = word;
  }
}

template <class U>
void merge(const U* left, const U* middle, const U* end, U* out) {
  const U* right = middle;
  while (left < middle && right < end) {
    const U a = *left, b = *right;
    const bool first = a < b;
    *out++ = first ? a : b;
    left += first;
    right += !first;
  }
  while (left < middle) *out++ = *left++;
  while (right < end) *out++ = *right++;
}

// Sorts n words, with room for as many; the result lies in one of the two.
template <class U>
U* merge_sort(U* words, U* room, int64_t n) {
  for (int64_t i = 0; i < n; i += kRun) insertion_sort(words + i, min_of(kRun, n - i));
  for (int64_t width = kRun; width < n; width *= 2) {
    for (int64_t i = 0; i < n; i += 2 * width) {
      const int64_t middle = min_of(i + width, n), end = min_of(i + 2 * width, n);
      merge(words + i, words + middle, words + end, room + i);
    }
    U* const sorted = room;
    room = words;
    words = sorted;
  }
  return words;
}

// Moves the k smallest words to the front, in any order; false where it took too long.
template <class U>
bool select_smallest(U* words, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  for (int rounds = 0; low < high; ++rounds) {
    if (rounds == 128) return false;
    const U a = words[low], b = words[low + (high - low) / 2], c = words[high];
    const U pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
    int64_t i = low, j = high;
    while (i <= j) {
      while (words[i] < pivot) ++i;
      while (pivot < words[j]) --j;
      if (i > j) break;
      const U word = words[i];
      words[i++] = words[j];
      words[j--] = word;
    }
    if (k - 1 <= j) {
      high = j;
    } else if (k - 1 >= i) {
      low = i;
    } else {
      return true;
    }
  }
  return true;
}

struct SortArgs {
  const void* x;
  void* values;
  int64_t* indices;
  LoadRow load;
  int64_t bytes, rows, n, k, rows_per_chunk;
  bool descending;
};

void copy_element(void* to, const void* from, int64_t bytes) {
  switch (bytes) {
    case 4:
      __builtin_memcpy(to, from, 4);
      break;
    case 8:
      __builtin_memcpy(to, from, 8);
      break;
    case 2:
      __builtin_memcpy(to, from, 2);
      break;
    default:
      __builtin_memcpy(to, from, 1);
  }
}

template <class T>
void sort_kernel(const void* raw, int64_t chunk) {
  using Word = WordOf<decltype(key_of(T()))>;
  using U = typename Word::Type;
  const SortArgs& a = *static_cast<const SortArgs*>(raw);
  alignas(64) T values[kBlock];
  U* const words = static_cast<U*>(thread_scratch(sizeof(U) * 2 * static_cast<size_t>(a.n)));
  if (!words) fail("sort: out of memory for a row of %lld", (long long)a.n);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
    const void* const x = advance_by(a.x, row * a.n * a.bytes);
    for (int64_t i = 0; i < a.n; i += kBlock) {
      const int64_t count = min_of(kBlock, a.n - i);
      a.load(advance_by(x, i * a.bytes), 1, values, count);
      for (int64_t j = 0; j < count; ++j) {
        const auto key = key_of(values[j]);
        using K = decltype(key_of(T()));
        const K ordered = a.descending ? static_cast<K>(~key) : key;
        words[i + j] = static_cast<U>(ordered) << Word::kShift | static_cast<U>(i + j);
      }
    }
    const bool few = a.k < a.n / 4 && select_smallest(words, a.n, a.k);
    const U* const sorted = merge_sort(words, words + a.n, few ? a.k : a.n);
    for (int64_t j = 0; j < a.k; ++j) {
      const int64_t at = static_cast<int64_t>(sorted[j] & 0xffffffffu);
      a.indices[row * a.k + j] = at;
      copy_element(advance_by(a.values, (row * a.k + j) * a.bytes), advance_by(x, at * a.bytes),
                   a.bytes);
    }
  }
}

constexpr Kernel kSort[kArithmetics] = {sort_kernel<float>, sort_kernel<double>,
                                        sort_kernel<int32_t>, sort_kernel<int64_t>,
                                        sort_kernel<uint8_t>};

void sort(Stream& stream, const View& x, bool descending, const View& values, const View& indices) {
  SortArgs a;
  a.rows = x.shape[0];
  a.n = x.shape[1];
  a.k = values.shape[1];
  if (a.rows == 0 || a.k == 0) return;
  a.x = x.data;
  a.values = values.data;
  a.indices = static_cast<int64_t*>(indices.data);
  a.load = row_loader(x.dtype);
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.descending = descending;
  a.rows_per_chunk = max_of(1, kElementsPerChunk / a.n);
  launch(stream, "sort", kSort[arithmetic_of(x.dtype)], &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

struct PlaceArgs {
  const void* src;
  const int64_t* indices;
  void* out;
  int64_t bytes, rows, n, k, rows_per_chunk;
};

void place_kernel(const void* raw, int64_t chunk) {
  const PlaceArgs& a = *static_cast<const PlaceArgs*>(raw);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
    void* const out = advance_by(a.out, row * a.n * a.bytes);
    __builtin_memset(out, 0, static_cast<size_t>(a.n * a.bytes));
    for (int64_t j = row * a.k; j < (row + 1) * a.k; ++j) {
      const int64_t at = a.indices[j];
      if (at < 0 || at >= a.n) continue;
      copy_element(advance_by(out, at * a.bytes), advance_by(a.src, j * a.bytes), a.bytes);
    }
  }
}

void place(Stream& stream, const View& src, const View& indices, const View& out) {
  PlaceArgs a;
  a.rows = out.shape[0];
  a.n = out.shape[1];
  a.k = src.shape[1];
  if (a.rows == 0 || a.n == 0) return;
  a.src = src.data;
  a.indices = static_cast<const int64_t*>(indices.data);
  a.out = out.data;
  a.bytes = static_cast<int64_t>(item_size(src.dtype));
  a.rows_per_chunk = max_of(1, kChunk / a.n);
  launch(stream, "sort_backward", place_kernel, &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

}  // namespace

extern const SortFamily sort_family;
const SortFamily sort_family = {sort, place};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
