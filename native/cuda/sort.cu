// Rows sorted by value, and gradients put back where their values came from.
// A row becomes words of an order-preserving integer key above the element's position, all
// different, so that sorting them is stable by itself. A block sorts 2048 words (1024 of keys of 8
// bytes) in shared memory by a bitonic network: several short rows, one row, or part of one. Parts
// of long rows are merged pairwise: an element's place is its own rank plus that in the other run,
// found by bisection. Deterministic; no atomics.
// Cost: short rows read n and write 2k elements; long ones log2(n/2048) passes over words of 8 or
// 16 bytes, each with a bisection per element.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kSharedBytes = 16384;

using Wide = unsigned __int128;

// Keys in ascending order; NaN is the largest, and -0 equals 0.
__device__ __forceinline__ uint32_t key_of(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ uint64_t key_of(double x) {
  if (x != x) return ~uint64_t{0};
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(x == 0.0 ? 0.0 : x));
  return bits ^ (bits >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}
__device__ __forceinline__ uint32_t key_of(int32_t x) {
  return static_cast<uint32_t>(x) ^ 0x80000000u;
}
__device__ __forceinline__ uint64_t key_of(int64_t x) {
  return static_cast<uint64_t>(x) ^ uint64_t { 1 } << 63;
}

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

template <class T>
using Word = WordOf<decltype(key_of(Arith<T>()))>;

template <class T>
inline constexpr int kTile = kSharedBytes / static_cast<int>(sizeof(typename Word<T>::Type));

template <class T>
__device__ __forceinline__ typename Word<T>::Type word_of(T x, int64_t at, bool descending) {
  using U = typename Word<T>::Type;
  const auto key = key_of(to_arith(x));
  return static_cast<U>(descending ? static_cast<decltype(key)>(~key) : key) << Word<T>::kShift |
         static_cast<U>(at);
}

template <class U>
struct SortShared {
  U words[kSharedBytes / sizeof(U)];
};

// `run` words of a row are sorted together, a power of two; rows longer than that in parts, whose
// words go to `words` [rows, n]; else the first k go to values and indices.
template <class T>
__global__ void __launch_bounds__(kBlock)
    tile_kernel(const T* x, T* values, int64_t* indices, typename Word<T>::Type* words,
                const int64_t rows, const int64_t n, const int64_t k, const int64_t parts,
                const int run, const bool descending) {
  using U = typename Word<T>::Type;
  constexpr int tile = kTile<T>;
  U* const shared = shared_memory<SortShared<U>>().words;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (tile / run);  // part of a row
  for (int i = thread; i < tile; i += kBlock) {
    const int64_t unit = first + i / run;
    const int64_t row = unit / parts, at = unit % parts * run + i % run;
    shared[i] = row < rows && at < n ? word_of<T>(x[row * n + at], at, descending) : ~U(0);
  }
  __syncthreads();
  for (int size = 2; size <= run; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      for (int p = thread; p < tile / 2; p += kBlock) {
        const int low = 2 * stride * (p / stride) + p % stride, high = low + stride;
        const bool ascending = ((low % run) & size) == 0;
        const U a = shared[low], b = shared[high];
        if ((b < a) == ascending) {
          shared[low] = b;
          shared[high] = a;
        }
      }
      __syncthreads();
    }
  }
  for (int i = thread; i < tile; i += kBlock) {
    const int64_t unit = first + i / run;
    const int64_t row = unit / parts, at = unit % parts * run + i % run;
    if (row >= rows || at >= n) continue;
    if (words) {
      words[row * n + at] = shared[i];
    } else if (at < k) {
      const int64_t from = static_cast<int64_t>(static_cast<uint32_t>(shared[i]));
      values[row * k + at] = x[row * n + from];
      indices[row * k + at] = from;
    }
  }
}

// Merges runs of `width` words pairwise.
template <class U>
__global__ void __launch_bounds__(kBlock) merge_kernel(const U* words, U* out, const int64_t total,
                                                       const int64_t n, const int64_t width) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (item >= total) return;
  const int64_t row = item / n, at = item % n, run = at / width;
  const U* const from = words + row * n;
  const U word = from[at];
  int64_t low = (run ^ 1) * width, high = low + width < n ? low + width : n;
  const int64_t begin = low;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (from[middle] < word) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const int64_t ahead = low - begin;
  out[row * n + (run & ~int64_t{1}) * width + (at - run * width) + ahead] = word;
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    emit_kernel(const typename Word<T>::Type* words, const T* x, T* values, int64_t* indices,
                const int64_t total, const int64_t n, const int64_t k) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (item >= total) return;
  const int64_t row = item / k, at = item % k;
  const int64_t from = static_cast<int64_t>(static_cast<uint32_t>(words[row * n + at]));
  values[item] = x[row * n + from];
  indices[item] = from;
}

dim3 grid_of(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  if (blocks > INT32_MAX) fail("sort: the tensor is too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

template <class T>
void run_sort(Stream& stream, const View& x, bool descending, const View& values,
              const View& indices) {
  using U = typename Word<T>::Type;
  const int64_t rows = x.shape[0], n = x.shape[1], k = values.shape[1];
  const T* const from = static_cast<const T*>(x.data);
  T* const to = static_cast<T*>(values.data);
  int64_t* const places = static_cast<int64_t*>(indices.data);
  int run = 2;
  while (run < n && run < kTile<T>) run *= 2;
  const int64_t parts = (n + run - 1) / run;
  const dim3 block(kBlock), grid = grid_of(rows * parts, kTile<T> / run);
  U* const none = nullptr;
  if (parts == 1) {
    launch(stream, "sort", tile_kernel<T>, grid, block, sizeof(SortShared<U>), from, to, places,
           none, rows, n, k, parts, run, descending);
    return;
  }
  const int64_t total = rows * n;
  U* words = static_cast<U*>(acquire_scratch(stream, static_cast<size_t>(total) * sizeof(U)));
  U* room = static_cast<U*>(acquire_scratch(stream, static_cast<size_t>(total) * sizeof(U)));
  launch(stream, "sort", tile_kernel<T>, grid, block, sizeof(SortShared<U>), from, to, places,
         words, rows, n, k, parts, run, descending);
  for (int64_t width = run; width < n; width *= 2) {
    launch(stream, "sort", merge_kernel<U>, grid_of(total, kBlock), block, 0,
           static_cast<const U*>(words), room, total, n, width);
    U* const merged = room;
    room = words;
    words = merged;
  }
  launch(stream, "sort", emit_kernel<T>, grid_of(rows * k, kBlock), block, 0,
         static_cast<const U*>(words), from, to, places, rows * k, n, k);
  release_scratch(stream, words);
  release_scratch(stream, room);
}

void sort(Stream& stream, const View& x, bool descending, const View& values, const View& indices) {
  if (x.shape[0] == 0 || values.shape[1] == 0) return;
  with_type(x.dtype,
            [&](auto zero) { run_sort<decltype(zero)>(stream, x, descending, values, indices); });
}

template <class B>
__global__ void __launch_bounds__(kBlock) clear_kernel(B* out, const int64_t total) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (item < total) out[item] = B(0);
}

template <class B>
__global__ void __launch_bounds__(kBlock)
    place_kernel(const B* src, const int64_t* indices, B* out, const int64_t total, const int64_t n,
                 const int64_t k) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (item >= total) return;
  const int64_t at = indices[item];
  if (at >= 0 && at < n) out[item / k * n + at] = src[item];
}

template <class B>
void run_place(Stream& stream, const View& src, const View& indices, const View& out) {
  const int64_t total = out.shape[0] * out.shape[1], k = src.shape[1];
  B* const to = static_cast<B*>(out.data);
  const dim3 block(kBlock);
  launch(stream, "sort_backward", clear_kernel<B>, grid_of(total, kBlock), block, 0, to, total);
  const int64_t placed = out.shape[0] * k;
  if (placed == 0) return;
  launch(stream, "sort_backward", place_kernel<B>, grid_of(placed, kBlock), block, 0,
         static_cast<const B*>(src.data), static_cast<const int64_t*>(indices.data), to, placed,
         out.shape[1], k);
}

void place(Stream& stream, const View& src, const View& indices, const View& out) {
  if (out.shape[0] == 0 || out.shape[1] == 0) return;
  switch (item_size(src.dtype)) {
    case 8:
      return run_place<uint64_t>(stream, src, indices, out);
    case 4:
      return run_place<uint32_t>(stream, src, indices, out);
    case 2:
      return run_place<uint16_t>(stream, src, indices, out);
    default:
      return run_place<uint8_t>(stream, src, indices, out);
  }
}

}  // namespace

const SortFamily sort_family = {sort, place};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
