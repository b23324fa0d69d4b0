// Attention by tiles in shared memory, in the arithmetic of the type.
//
// forward: a block per tile of queries walks the keys with a running maximum and sum (Milakov and
// Gimelshein 2018; Dao et al., "FlashAttention", 2022) and keeps lse = max + ln Σ.
// backward: a block per tile of keys sums dV = Pᵀ·dO and dK = dSᵀ·Q over the queries (and the heads
// that share it), a block per tile of queries dQ = dS·K over the keys, with P = exp(S - lse)
// computed anew and dS = P·(dO·Vᵀ - Δ). No atomics, one fixed order.
// Threads form a square of kSide; a thread has every kSide-th row and column of a tile.
// Cost: 4·T·S·D flops forward and 14 backward, bound by shared memory reads.
#include <cmath>

#include "attention_simt.h"
#include "core/philox.h"
#include "device_math.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <class A>
__device__ __forceinline__ A multiply_add(A x, A y, A z) {
#ifdef NODEGRAD_EMULATED
  return x * y + z;
#else
  return fma(x, y, z);
#endif
}

// A tile of Rows x Columns elements for each pass, and Width of the rows it reads.
template <class T, int Rows_, int Columns_, int Width_, int Side_ = 16>
struct Shape {
  using Type = T;
  using A = Arith<T>;
  static constexpr int kSide = Side_, kThreads = Side_ * Side_;
  static constexpr int kRows = Rows_, kColumns = Columns_, kWidth = Width_;
  static constexpr int kR = Rows_ / kSide, kC = Columns_ / kSide, kW = Width_ / kSide;
};

// The odd row length keeps threads that read different rows out of each other's banks.
template <class A, int Rows, int Width>
struct Tile {
  A at[Rows][Width + 1];
};

// Rows first … first + count - 1; zeros beyond them and beyond the width.
template <class S, int Rows>
__device__ __forceinline__ void load_tile(Tile<typename S::A, Rows, S::kWidth>& tile,
                                          const AttentionOperand& x, int64_t batch, int64_t head,
                                          int64_t first, int64_t end, int64_t width) {
  using T = typename S::Type;
  constexpr int Width = S::kWidth;
  const T* const from = row_of<T>(x, batch, head, first);
  for (int i = static_cast<int>(threadIdx.x); i < Rows * Width; i += S::kThreads) {
    const int row = i / Width, d = i % Width;
    const bool inside = first + row < end && d < width;
    tile.at[row][d] = inside ? to_arith(from[row * x.row + d]) : Arith<T>(0);
  }
}

template <class S>
__device__ __forceinline__ void store_sums(const typename S::A (&sums)[S::kR][S::kW],
                                           const AttentionOperand& x, int64_t batch, int64_t head,
                                           int64_t first, int64_t end, int64_t width, int tx,
                                           int ty) {
  using T = typename S::Type;
  constexpr int kSide = S::kSide, R = S::kR, W = S::kW;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int64_t row = first + ty + kSide * r;
    if (row >= end) continue;
    T* const to = const_cast<T*>(row_of<T>(x, batch, head, row));
#pragma unroll
    for (int e = 0; e < W; ++e) {
      const int d = tx + kSide * e;
      if (d < width) to[d] = from_arith<T>(sums[r][e]);
    }
  }
}

// sums[r][c] = Σ_d a[row r][d] · b[row c][d]
template <class S, class A = typename S::A>
__device__ __forceinline__ void multiply_rows(const Tile<A, S::kRows, S::kWidth>& a,
                                              const Tile<A, S::kColumns, S::kWidth>& b,
                                              A (&sums)[S::kR][S::kC], int width, int tx, int ty) {
  constexpr int kSide = S::kSide, R = S::kR, C = S::kC;
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) sums[r][c] = A(0);
  }
#pragma unroll 4
  for (int d = 0; d < width; ++d) {
    A x[R], y[C];
#pragma unroll
    for (int r = 0; r < R; ++r) x[r] = a.at[ty + kSide * r][d];
#pragma unroll
    for (int c = 0; c < C; ++c) y[c] = b.at[tx + kSide * c][d];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) sums[r][c] = multiply_add(x[r], y[c], sums[r][c]);
    }
  }
}

// sums[r][e] += Σ_c p[row r][c] · b[c][column e]
template <class S, class A = typename S::A>
__device__ __forceinline__ void add_product(const Tile<A, S::kRows, S::kColumns>& p,
                                            const Tile<A, S::kColumns, S::kWidth>& b,
                                            A (&sums)[S::kR][S::kW], int columns, int tx, int ty) {
  constexpr int kSide = S::kSide, R = S::kR, W = S::kW;
#pragma unroll 4
  for (int c = 0; c < columns; ++c) {
    A x[R], y[W];
#pragma unroll
    for (int r = 0; r < R; ++r) x[r] = p.at[ty + kSide * r][c];
#pragma unroll
    for (int e = 0; e < W; ++e) y[e] = b.at[c][tx + kSide * e];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int e = 0; e < W; ++e) sums[r][e] = multiply_add(x[r], y[e], sums[r][e]);
    }
  }
}

// The score of query i and key j of `keys` with the mask; -inf where i does not see j.
template <class T>
__device__ __forceinline__ Arith<T> masked(const Attention& a, int64_t batch, int64_t head,
                                           int64_t i, int64_t j, int keys, Arith<T> score) {
  using A = Arith<T>;
  if (i >= a.queries || j >= keys || (a.causal && j > i)) return A(-INFINITY);
  if (a.padding && a.padding[batch * a.padding_batch + j * a.padding_key]) return A(-INFINITY);
  if (!a.mask.data) return score;
  const int64_t at = batch * a.mask.batch + head * a.mask.head + i * a.mask.row + j * a.mask_column;
  if (a.mask_is_bool) {
    return static_cast<const uint8_t*>(a.mask.data)[at] ? score : A(-INFINITY);
  }
  const A added = to_arith(static_cast<const T*>(a.mask.data)[at]);
  return added == A(-INFINITY) ? added : score + added;
}

// 1/keep where dropout keeps the weight of (i, j), else 0.
template <class A>
__device__ __forceinline__ A kept(const Attention& a, int64_t batch, int64_t head, int64_t i,
                                  int64_t j) {
  const int64_t row = (batch * a.heads + head) * a.queries + i;
  const uint64_t counter =
      static_cast<uint64_t>(a.state[1]) + static_cast<uint64_t>(row * ((a.keys + 3) / 4) + j / 4);
  const Philox4 r = philox(static_cast<uint64_t>(a.state[0]), counter);
  const double u = static_cast<double>(uniform_from_bits(r.word[j % 4]));
  return u < a.keep ? static_cast<A>(1.0 / a.keep) : A(0);
}

template <class A>
struct Larger {
  __device__ __forceinline__ void operator()(A& into, const A& from) const {
    into = from > into ? from : into;
  }
};
template <class A>
struct Sum {
  __device__ __forceinline__ void operator()(A& into, const A& from) const { into += from; }
};

// The kSide threads that share rows agree on a value.
template <int kSide, class A, class Combine>
__device__ __forceinline__ A across(A value, const Combine& combine) {
#pragma unroll
  for (int mask = kSide / 2; mask > 0; mask /= 2) {
    const A other = shuffle_record(value, mask);
    combine(value, other);
  }
  return value;
}

template <class S>
struct ForwardMemory {
  Tile<typename S::A, S::kRows, S::kWidth> q;
  Tile<typename S::A, S::kColumns, S::kWidth> k, v;
  Tile<typename S::A, S::kRows, S::kColumns> p;
};

// Rows are queries, columns keys.
template <class S>
__global__ void __launch_bounds__(S::kThreads) forward_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int kSide = S::kSide, R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<ForwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const AttentionPlace at = attention_place(a, blockIdx.x, S::kRows, false);
  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  load_tile<S>(memory.q, a.q, at.batch, at.head, at.first, a.queries, a.width);
  A max[R], sum[R], out[R][W];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    max[r] = A(-INFINITY);
    sum[r] = A(0);
#pragma unroll
    for (int e = 0; e < W; ++e) out[r][e] = A(0);
  }
  const int64_t seen = at.first + S::kRows;
  const int keys = keys_of(a, at.batch);
  const int64_t end = a.causal && seen < keys ? seen : keys;
  for (int64_t key = 0; key < end; key += S::kColumns) {
    __syncthreads();
    load_tile<S>(memory.k, a.k, at.batch, kv_head, key, a.keys, a.width);
    load_tile<S>(memory.v, a.v, at.batch, kv_head, key, a.keys, a.width);
    __syncthreads();
    A s[R][C];
    multiply_rows<S>(memory.q, memory.k, s, static_cast<int>(a.width), tx, ty);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t i = at.first + ty + kSide * r;
      A top = max[r];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        s[r][c] = masked<T>(a, at.batch, at.head, i, key + tx + kSide * c, keys,
                            s[r][c] * static_cast<A>(a.scale));
        top = s[r][c] > top || s[r][c] != s[r][c] ? s[r][c] : top;
      }
      top = across<kSide>(top, Larger<A>());
      const A base = top == A(-INFINITY) ? A(0) : top;
      const A factor = m_exp(max[r] - base);
      A part = A(0);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        A weight = m_exp(s[r][c] - base);
        part += weight;
        const int64_t j = key + tx + kSide * c;
        if (a.state && i < a.queries && j < a.keys) {
          weight *= kept<A>(a, at.batch, at.head, i, j);
        }
        memory.p.at[ty + kSide * r][tx + kSide * c] = weight;
      }
      sum[r] = sum[r] * factor + across<kSide>(part, Sum<A>());
      max[r] = top;
#pragma unroll
      for (int e = 0; e < W; ++e) out[r][e] *= factor;
    }
    __syncthreads();
    const int64_t left = keys - key;
    add_product<S>(memory.p, memory.v, out,
                   static_cast<int>(left < S::kColumns ? left : S::kColumns), tx, ty);
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int64_t i = at.first + ty + kSide * r;
    const bool empty = max[r] == A(-INFINITY);
    const A factor = empty ? A(0) : A(1) / sum[r];
#pragma unroll
    for (int e = 0; e < W; ++e) out[r][e] *= factor;
    if (tx == 0 && i < a.queries) {
      static_cast<A*>(a.lse)[(at.batch * a.heads + at.head) * a.queries + i] =
          empty ? A(INFINITY) : max[r] + m_log(sum[r]);
    }
  }
  store_sums<S>(out, a.out, at.batch, at.head, at.first, a.queries, a.width, tx, ty);
}

template <class S>
struct BackwardMemory {
  Tile<typename S::A, S::kRows, S::kWidth> row_a, row_b;
  Tile<typename S::A, S::kColumns, S::kWidth> column_a, column_b;
  Tile<typename S::A, S::kRows, S::kColumns> p, ds;
};

// Rows are keys, columns queries: dK and dV. Asked for one block on a multiprocessor, the compiler
// spills nothing; left to itself it aims at four.
template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) keys_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int kSide = S::kSide, R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<BackwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const AttentionPlace at = attention_place(a, blockIdx.x, S::kRows, true);
  const int64_t group = a.heads / a.kv_heads;
  load_tile<S>(memory.row_a, a.k, at.batch, at.head, at.first, a.keys, a.width);
  load_tile<S>(memory.row_b, a.v, at.batch, at.head, at.first, a.keys, a.width);
  A dk[R][W], dv[R][W];
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int e = 0; e < W; ++e) dk[r][e] = dv[r][e] = A(0);
  }
  const int keys = keys_of(a, at.batch);
  const int64_t start = a.causal ? at.first / S::kColumns * S::kColumns : 0;
  const int64_t end = at.first < keys ? a.queries : start;
  for (int64_t head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t statistics = (at.batch * a.heads + head) * a.queries;
    for (int64_t query = start; query < end; query += S::kColumns) {
      __syncthreads();
      load_tile<S>(memory.column_a, a.q, at.batch, head, query, a.queries, a.width);
      load_tile<S>(memory.column_b, a.dout, at.batch, head, query, a.queries, a.width);
      __syncthreads();
      A s[R][C], dp[R][C];
      multiply_rows<S>(memory.row_a, memory.column_a, s, static_cast<int>(a.width), tx, ty);
      multiply_rows<S>(memory.row_b, memory.column_b, dp, static_cast<int>(a.width), tx, ty);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int64_t i = query + tx + kSide * c;
        const bool inside = i < a.queries;
        const A lse = inside ? static_cast<const A*>(a.lse)[statistics + i] : A(INFINITY);
        const A delta = inside ? static_cast<const A*>(a.delta)[statistics + i] : A(0);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int64_t j = at.first + ty + kSide * r;
          const A weight = m_exp(
              masked<T>(a, at.batch, head, i, j, keys, s[r][c] * static_cast<A>(a.scale)) - lse);
          const A factor =
              a.state && inside && j < a.keys ? kept<A>(a, at.batch, head, i, j) : A(1);
          memory.p.at[ty + kSide * r][tx + kSide * c] = weight * factor;
          memory.ds.at[ty + kSide * r][tx + kSide * c] =
              weight * (dp[r][c] * factor - delta) * static_cast<A>(a.scale);
        }
      }
      __syncthreads();
      const int64_t left = a.queries - query;
      const int columns = static_cast<int>(left < S::kColumns ? left : S::kColumns);
      add_product<S>(memory.p, memory.column_b, dv, columns, tx, ty);
      add_product<S>(memory.ds, memory.column_a, dk, columns, tx, ty);
    }
  }
  store_sums<S>(dk, a.dk, at.batch, at.head, at.first, a.keys, a.width, tx, ty);
  store_sums<S>(dv, a.dv, at.batch, at.head, at.first, a.keys, a.width, tx, ty);
}

// Rows are queries, columns keys: dQ.
template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) queries_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int kSide = S::kSide, R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<BackwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const AttentionPlace at = attention_place(a, blockIdx.x, S::kRows, false);
  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  const int64_t statistics = (at.batch * a.heads + at.head) * a.queries;
  load_tile<S>(memory.row_a, a.q, at.batch, at.head, at.first, a.queries, a.width);
  load_tile<S>(memory.row_b, a.dout, at.batch, at.head, at.first, a.queries, a.width);
  A dq[R][W], lse[R], delta[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int64_t i = at.first + ty + kSide * r;
    lse[r] = i < a.queries ? static_cast<const A*>(a.lse)[statistics + i] : A(INFINITY);
    delta[r] = i < a.queries ? static_cast<const A*>(a.delta)[statistics + i] : A(0);
#pragma unroll
    for (int e = 0; e < W; ++e) dq[r][e] = A(0);
  }
  const int64_t seen = at.first + S::kRows;
  const int keys = keys_of(a, at.batch);
  const int64_t end = a.causal && seen < keys ? seen : keys;
  for (int64_t key = 0; key < end; key += S::kColumns) {
    __syncthreads();
    load_tile<S>(memory.column_a, a.k, at.batch, kv_head, key, a.keys, a.width);
    load_tile<S>(memory.column_b, a.v, at.batch, kv_head, key, a.keys, a.width);
    __syncthreads();
    A s[R][C], dp[R][C];
    multiply_rows<S>(memory.row_a, memory.column_a, s, static_cast<int>(a.width), tx, ty);
    multiply_rows<S>(memory.row_b, memory.column_b, dp, static_cast<int>(a.width), tx, ty);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t i = at.first + ty + kSide * r;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int64_t j = key + tx + kSide * c;
        const A weight =
            m_exp(masked<T>(a, at.batch, at.head, i, j, keys, s[r][c] * static_cast<A>(a.scale)) -
                  lse[r]);
        const A factor =
            a.state && i < a.queries && j < a.keys ? kept<A>(a, at.batch, at.head, i, j) : A(1);
        memory.ds.at[ty + kSide * r][tx + kSide * c] =
            weight * (dp[r][c] * factor - delta[r]) * static_cast<A>(a.scale);
      }
    }
    __syncthreads();
    const int64_t left = keys - key;
    add_product<S>(memory.ds, memory.column_a, dq,
                   static_cast<int>(left < S::kColumns ? left : S::kColumns), tx, ty);
  }
  store_sums<S>(dq, a.dq, at.batch, at.head, at.first, a.queries, a.width, tx, ty);
}

template <class S, class Memory>
void launch_tiles(Stream& stream, DType dtype, void (*kernel)(Attention), const Attention& a,
                  bool of_keys) {
  static_assert(sizeof(Memory) <= kAttentionMostShared);
  const Attention problem = ordered(stream, dtype, a, S::kRows, of_keys);
  if (problem.order.all == 0) return;
  launch(stream, kAttentionName, kernel, dim3(problem.order.all), dim3(S::kThreads), sizeof(Memory),
         problem);
}

// Calls f with the tile shapes of the forward pass and of the backward one.
template <class F>
void with_shapes(DType dtype, int64_t width, const F& f) {
  if (dtype == DType::float64) {
    if (width <= 64) return f(Shape<double, 32, 16, 64>(), Shape<double, 16, 16, 64>());
    return f(Shape<double, 8, 8, 256, 8>(), Shape<double, 8, 8, 256, 8>());
  }
  if (width <= 64) return f(Shape<float, 64, 64, 64>(), Shape<float, 32, 64, 64>());
  if (width <= 128) return f(Shape<float, 64, 32, 128>(), Shape<float, 32, 32, 128>());
  return f(Shape<float, 32, 16, 256>(), Shape<float, 16, 16, 256>());
}

}  // namespace

void launch_attention_simt_forward(Stream& stream, DType dtype, const Attention& a) {
  with_shapes(dtype, a.width, [&](auto shape, auto) {
    using S = decltype(shape);
    launch_tiles<S, ForwardMemory<S>>(stream, dtype, forward_kernel<S>, a, false);
  });
}

void launch_attention_simt_backward(Stream& stream, DType dtype, const Attention& a) {
  with_shapes(dtype, a.width, [&](auto, auto shape) {
    using S = decltype(shape);
    launch_tiles<S, BackwardMemory<S>>(stream, dtype, keys_kernel<S>, a, true);
    launch_tiles<S, BackwardMemory<S>>(stream, dtype, queries_kernel<S>, a, false);
  });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
