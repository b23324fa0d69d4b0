// Running sums and products along an axis of [outer, n, inner].
// Lines (inner = 1): a block walks its part of a line in tiles of 1024: four neighbours a thread,
// then a scan over the warps' and the block's totals. Few long lines are cut in up to 256 parts,
// whose totals a first launch leaves in scratch. Columns: one thread each, neighbours together.
// float32 inside (float64 for float64, int64 for integers); order decided by sizes alone.
// Cost: 2·size bytes per element, 3·size for lines in parts: bandwidth-bound but for few columns.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kWarps = kBlock / 32;
constexpr int kPerThread = 4;
constexpr int kTile = kBlock * kPerThread;
constexpr int64_t kMaxParts = kBlock;
constexpr int64_t kBlocksWanted = 264;

template <bool product, class A>
__device__ __forceinline__ A join(A a, A b) {
  return product ? a * b : a + b;
}

template <class A>
struct ScanShared {
  A totals[kWarps];
};

// The running total up to each thread without its own, and that of the block.
template <bool product, class A>
__device__ __forceinline__ A scan_block(A mine, A& block_total) {
  ScanShared<A>& shared = shared_memory<ScanShared<A>>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const A before = __shfl_up_sync(0xffffffffu, mine, step);
    if (lane >= step) mine = join<product>(before, mine);
  }
  if (lane == 31) shared.totals[warp] = mine;
  __syncthreads();
  const A before = __shfl_up_sync(0xffffffffu, mine, 1);
  A ahead = A(product ? 1 : 0);
  block_total = ahead;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) ahead = join<product>(ahead, shared.totals[w]);
    block_total = join<product>(block_total, shared.totals[w]);
  }
  __syncthreads();
  return lane == 0 ? ahead : join<product>(ahead, before);
}

// Without `out` only the totals of the parts are computed.
template <class T, bool product>
__global__ void __launch_bounds__(kBlock)
    lines_kernel(const T* x, T* out, Arith<T>* totals, const int64_t n, const int64_t part,
                 const int parts, const bool reverse) {
  using A = Arith<T>;
  const A identity = A(product ? 1 : 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t line = blockIdx.x / static_cast<unsigned>(parts);
  const int at_part = static_cast<int>(blockIdx.x % static_cast<unsigned>(parts));
  const int64_t begin = at_part * part, end = begin + part < n ? begin + part : n;
  A carry = identity;
  if (out && parts > 1) {
    scan_block<product>(thread < at_part ? totals[line * parts + thread] : identity, carry);
  }
  for (int64_t tile = begin; tile < end; tile += kTile) {
    const int64_t first = tile + thread * kPerThread;
    A value[kPerThread];
    A sum = identity;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = first + j;
      if (i < end) sum = join<product>(sum, to_arith(x[line * n + (reverse ? n - 1 - i : i)]));
      value[j] = sum;
    }
    A total;
    const A before = join<product>(carry, scan_block<product>(sum, total));
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = first + j;
      if (out && i < end) {
        out[line * n + (reverse ? n - 1 - i : i)] = from_arith<T>(join<product>(before, value[j]));
      }
    }
    carry = join<product>(carry, total);
  }
  if (!out && thread == 0) totals[line * parts + at_part] = carry;
}

template <class T, bool product>
__global__ void __launch_bounds__(kBlock)
    columns_kernel(const T* x, T* out, const int64_t columns, const int64_t n, const int64_t inner,
                   const bool reverse) {
  using A = Arith<T>;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (column >= columns) return;
  const int64_t first = column / inner * n * inner + column % inner;
  A total = A(product ? 1 : 0);
#pragma unroll 4
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = first + (reverse ? n - 1 - i : i) * inner;
    total = join<product>(total, to_arith(x[at]));
    out[at] = from_arith<T>(total);
  }
}

template <class T, bool product>
void run(Stream& stream, const char* name, bool reverse, const View& x, const View& out) {
  using A = Arith<T>;
  const int64_t outer = x.shape[0], n = x.shape[1], inner = x.shape[2];
  const T* const from = static_cast<const T*>(x.data);
  T* const to = static_cast<T*>(out.data);
  if (inner > 1) {
    const int64_t columns = outer * inner;
    if (divide_up(columns, kBlock) > INT32_MAX) fail("%s: too large for one launch", name);
    launch(stream, name, columns_kernel<T, product>,
           dim3(static_cast<unsigned>(divide_up(columns, kBlock))), dim3(kBlock), 0, from, to,
           columns, n, inner, reverse);
    return;
  }
  int64_t parts = divide_up(kBlocksWanted, outer);
  if (parts > divide_up(n, 4 * kTile)) parts = divide_up(n, 4 * kTile);
  if (parts > kMaxParts) parts = kMaxParts;
  const int64_t part = divide_up(divide_up(n, parts), kTile) * kTile;
  parts = divide_up(n, part);
  if (outer * parts > INT32_MAX) fail("%s: too large for one launch", name);
  const dim3 grid(static_cast<unsigned>(outer * parts)), block(kBlock);
  A* totals = nullptr;
  if (parts > 1) {
    totals =
        static_cast<A*>(acquire_scratch(stream, static_cast<size_t>(outer * parts) * sizeof(A)));
    launch(stream, name, lines_kernel<T, product>, grid, block, sizeof(ScanShared<A>), from,
           static_cast<T*>(nullptr), totals, n, part, static_cast<int>(parts), reverse);
  }
  launch(stream, name, lines_kernel<T, product>, grid, block, sizeof(ScanShared<A>), from, to,
         totals, n, part, static_cast<int>(parts), reverse);
  if (totals) release_scratch(stream, totals);
}

void scan(Stream& stream, ScanOp op, bool reverse, const View& x, const View& out) {
  if (x.shape[0] == 0 || x.shape[1] == 0 || x.shape[2] == 0) return;
  const bool product = op == ScanOp::product;
  const char* const name = product ? "cumprod" : "cumsum";
  const auto start = [&](auto zero) {
    using T = decltype(zero);
    if (product) {
      run<T, true>(stream, name, reverse, x, out);
    } else {
      run<T, false>(stream, name, reverse, x, out);
    }
  };
  if (!with_float_type(x.dtype, start)) start(int64_t{});
}

}  // namespace

const ScanFamily scan_family = {scan};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
