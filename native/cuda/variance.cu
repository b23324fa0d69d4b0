// Variance and mean over the middle axis of [outer, n, inner].
// Each thread keeps count, mean and sum of squared deviations of its elements less the line's
// first one (Welford, "Note on a method for calculating corrected sums of squares", 1962); pairs
// are joined as Chan, Golub and LeVeque (1979) have it, in an order that sizes alone decide.
// Lines: a warp or a block each; columns: tiles of 32 by 8 threads. Long axes are cut in parts,
// whose states lie in scratch [part][outer·inner] until a second launch joins them.
// Cost: N·size bytes read: bandwidth-bound.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kColumns = 32, kRows = kReduceBlock / kColumns;
constexpr int64_t kShortLine = 1024;  // a warp is enough for these
constexpr int64_t kBlocksWanted = 264;
constexpr int64_t kMaxParts = 256;

template <class A>
struct State {
  A count, mean, squares;

  __device__ __forceinline__ void add(A x) {
    count += A(1);
    const A delta = x - mean;
    mean += delta / count;
    squares += delta * (x - mean);
  }
  __device__ __forceinline__ void merge(const State& other) {
    if (other.count == A(0)) return;
    const A total = count + other.count, delta = other.mean - mean;
    const A share = other.count / total;
    mean += delta * share;
    squares += other.squares + delta * delta * (count * share);
    count = total;
  }
};

// The first element of line k of [outer, n, inner].
__device__ __forceinline__ int64_t first_of(int64_t k, int64_t n, int64_t inner) {
  return inner == 1 ? k * n : k / inner * n * inner + k % inner;
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    lines_kernel(const T* x, State<Arith<T>>* states, const int64_t lines, const int64_t n,
                 const int64_t part, const int lanes) {
  using S = State<Arith<T>>;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t line = static_cast<int64_t>(blockIdx.x) * (kReduceBlock / lanes) +
                       static_cast<int>(threadIdx.x) / lanes;
  const int64_t begin = blockIdx.y * part;
  const int64_t end = begin + part < n ? begin + part : n;
  S state{};
  if (line < lines && n > 0) {
    const T* const row = x + line * n;
    const Arith<T> pivot = to_arith(row[0]);
#pragma unroll 2
    for (int64_t i = begin + lane; i < end; i += lanes) state.add(to_arith(row[i]) - pivot);
  }
  state = reduce_group(state, lanes, shared_memory<GroupSlots<S>>(),
                       [](S& into, const S& from) { into.merge(from); });
  if (lane == 0 && line < lines) states[blockIdx.y * lines + line] = state;
}

template <class S>
struct ColumnSlots {
  S slot[kReduceBlock];
};

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    columns_kernel(const T* x, State<Arith<T>>* states, const int64_t lines, const int64_t n,
                   const int64_t inner, const int64_t part) {
  using S = State<Arith<T>>;
  const int thread = static_cast<int>(threadIdx.x), row = thread / kColumns;
  const int64_t line = static_cast<int64_t>(blockIdx.x) * kColumns + thread % kColumns;
  const int64_t begin = blockIdx.y * part;
  const int64_t end = begin + part < n ? begin + part : n;
  S state{};
  if (line < lines && n > 0) {
    const T* const from = x + first_of(line, n, inner);
    const Arith<T> pivot = to_arith(from[0]);
#pragma unroll 2
    for (int64_t i = begin + row; i < end; i += kRows) {
      state.add(to_arith(from[i * inner]) - pivot);
    }
  }
  ColumnSlots<S>& shared = shared_memory<ColumnSlots<S>>();
  shared.slot[thread] = state;
  __syncthreads();
  for (int half = kRows / 2; half > 0; half /= 2) {
    if (row < half) {
      state.merge(shared.slot[thread + half * kColumns]);
      shared.slot[thread] = state;
    }
    __syncthreads();
  }
  if (row == 0 && line < lines) states[blockIdx.y * lines + line] = state;
}

template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    join_kernel(const T* x, const State<Arith<T>>* states, T* variance, T* mean,
                const int64_t lines, const int64_t n, const int64_t inner, const int parts,
                const Arith<T> freedom) {
  const int64_t line =
      static_cast<int64_t>(blockIdx.x) * kReduceBlock + static_cast<int>(threadIdx.x);
  if (line >= lines) return;
  State<Arith<T>> state = states[line];
  for (int p = 1; p < parts; ++p) state.merge(states[p * lines + line]);
  const Arith<T> pivot = n > 0 ? to_arith(x[first_of(line, n, inner)]) : Arith<T>(NAN);
  variance[line] = from_arith<T>((n > 0 ? state.squares : Arith<T>(NAN)) / freedom);
  mean[line] = from_arith<T>(pivot + state.mean);
}

template <class T>
void run(Stream& stream, const View& x, double freedom, const View& variance, const View& mean) {
  using S = State<Arith<T>>;
  const int64_t n = x.shape[1], inner = x.shape[2], lines = x.shape[0] * inner;
  const int lanes = n > kShortLine ? kReduceBlock : 32;
  const int64_t blocks = divide_up(lines, inner == 1 ? kReduceBlock / lanes : kColumns);
  if (blocks > INT32_MAX) fail("variance: the tensor is too large for one launch");
  const int64_t worth = inner == 1 ? 8 * kReduceBlock : 16 * kRows;
  int64_t parts = divide_up(kBlocksWanted, blocks);
  if (parts > divide_up(n, worth)) parts = divide_up(n, worth);
  if (parts > kMaxParts) parts = kMaxParts;
  if (parts < 1) parts = 1;
  const int64_t part = divide_up(n, parts);
  const T* const from = static_cast<const T*>(x.data);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(parts));
  const dim3 block(kReduceBlock);
  S* const states =
      static_cast<S*>(acquire_scratch(stream, static_cast<size_t>(lines * parts) * sizeof(S)));
  if (inner == 1) {
    launch(stream, "variance", lines_kernel<T>, grid, block, sizeof(GroupSlots<S>), from, states,
           lines, n, part, lanes);
  } else {
    launch(stream, "variance", columns_kernel<T>, grid, block, sizeof(ColumnSlots<S>), from, states,
           lines, n, inner, part);
  }
  launch(stream, "variance", join_kernel<T>,
         dim3(static_cast<unsigned>(divide_up(lines, kReduceBlock))), block, 0, from,
         static_cast<const S*>(states), static_cast<T*>(variance.data), static_cast<T*>(mean.data),
         lines, n, inner, static_cast<int>(parts), static_cast<Arith<T>>(freedom));
  release_scratch(stream, states);
}

void variance(Stream& stream, const View& x, double freedom, const View& variance,
              const View& mean) {
  if (x.shape[0] == 0 || x.shape[2] == 0) return;
  with_float_type(x.dtype,
                  [&](auto zero) { run<decltype(zero)>(stream, x, freedom, variance, mean); });
}

}  // namespace

const VarianceFamily variance_family = {variance};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
