// Scaled dot-product attention by tiles in shared memory: O = softmax(scale·Q·Kᵀ + mask)·V.
//
// forward: a block per tile of queries walks the keys with a running maximum and sum (Milakov and
// Gimelshein 2018; Dao et al., "FlashAttention", 2022) and keeps lse = max + ln Σ.
// backward: Δ = Σ dO·O per query; a block per tile of keys sums dV = Pᵀ·dO and dK = dSᵀ·Q over the
// queries (and the heads that share it), a block per tile of queries dQ = dS·K over the keys, with
// P = exp(S - lse) computed anew and dS = P·(dO·Vᵀ - Δ). No atomics, one fixed order.
// 256 threads as 16 x 16; a thread has every 16th row and column of a tile. float32 inside, double
// for float64. Cost: 4·T·S·D flops forward and 14 backward, bound by shared memory reads.
#include <cmath>

#include "core/error.h"
#include "core/philox.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kSide = 16;  // of the square of threads
constexpr int kThreads = kSide * kSide;

// Rows of [batch][head][row][width], contiguous.
struct Operand {
  const void* data;
  int64_t batch, head, row;
};

struct Attention {
  Operand q, k, v, out, dout, dq, dk, dv;
  Operand mask;  // and the stride of its columns
  const uint8_t* padding;
  const int64_t* state;
  void* lse;
  void* delta;
  double scale, keep;
  int64_t mask_column, padding_batch, padding_key;
  int64_t heads, kv_heads, queries, keys, width;
  int64_t rows;  // queries of all heads and batches
  bool causal, mask_is_bool;
};

template <class A>
__device__ __forceinline__ A multiply_add(A x, A y, A z) {
#ifdef NODEGRAD_EMULATED
  return x * y + z;
#else
  return fma(x, y, z);
#endif
}

// A tile of Rows x Columns elements for each pass, and Width of the rows it reads.
template <class T, int Rows_, int Columns_, int Width_>
struct Shape {
  using Type = T;
  using A = Arith<T>;
  static constexpr int kRows = Rows_, kColumns = Columns_, kWidth = Width_;
  static constexpr int kR = Rows_ / kSide, kC = Columns_ / kSide, kW = Width_ / kSide;
};

// The odd row length keeps threads that read different rows out of each other's banks.
template <class A, int Rows, int Width>
struct Tile {
  A at[Rows][Width + 1];
};

template <class T>
__device__ __forceinline__ const T* row_of(const Operand& x, int64_t batch, int64_t head,
                                           int64_t row) {
  return static_cast<const T*>(x.data) + batch * x.batch + head * x.head + row * x.row;
}

// Rows first … first + count - 1; zeros beyond them and beyond the width.
template <class T, int Rows, int Width>
__device__ __forceinline__ void load_tile(Tile<Arith<T>, Rows, Width>& tile, const Operand& x,
                                          int64_t batch, int64_t head, int64_t first, int64_t end,
                                          int64_t width) {
  const T* const from = row_of<T>(x, batch, head, first);
  for (int i = static_cast<int>(threadIdx.x); i < Rows * Width; i += kThreads) {
    const int row = i / Width, d = i % Width;
    const bool inside = first + row < end && d < width;
    tile.at[row][d] = inside ? to_arith(from[row * x.row + d]) : Arith<T>(0);
  }
}

template <class T, int R, int W>
__device__ __forceinline__ void store_sums(const Arith<T> (&sums)[R][W], const Operand& x,
                                           int64_t batch, int64_t head, int64_t first, int64_t end,
                                           int64_t width, int tx, int ty) {
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
template <class A, int Rows, int Columns, int Width>
__device__ __forceinline__ void multiply_rows(const Tile<A, Rows, Width>& a,
                                              const Tile<A, Columns, Width>& b,
                                              A (&sums)[Rows / kSide][Columns / kSide], int width,
                                              int tx, int ty) {
  constexpr int R = Rows / kSide, C = Columns / kSide;
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
template <class A, int Rows, int Columns, int Width>
__device__ __forceinline__ void add_product(const Tile<A, Rows, Columns>& p,
                                            const Tile<A, Columns, Width>& b,
                                            A (&sums)[Rows / kSide][Width / kSide], int columns,
                                            int tx, int ty) {
  constexpr int R = Rows / kSide, W = Width / kSide;
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

// The score of query i and key j with the mask; -inf where i does not see j.
template <class T>
__device__ __forceinline__ Arith<T> masked(const Attention& a, int64_t batch, int64_t head,
                                           int64_t i, int64_t j, Arith<T> score) {
  using A = Arith<T>;
  if (i >= a.queries || j >= a.keys || (a.causal && j > i)) return A(-INFINITY);
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

struct Place {
  int64_t batch, head, first;
};

__device__ __forceinline__ Place place_of(int64_t heads, int64_t length, int tile) {
  const int64_t tiles = (length + tile - 1) / tile, block = blockIdx.x;
  return {block / tiles / heads, block / tiles % heads, block % tiles * tile};
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

// The 16 threads that share rows agree on a value.
template <class A, class Combine>
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
__global__ void __launch_bounds__(kThreads) forward_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<ForwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const Place at = place_of(a.heads, a.queries, S::kRows);
  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  load_tile<T>(memory.q, a.q, at.batch, at.head, at.first, a.queries, a.width);
  A max[R], sum[R], out[R][W];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    max[r] = A(-INFINITY);
    sum[r] = A(0);
#pragma unroll
    for (int e = 0; e < W; ++e) out[r][e] = A(0);
  }
  const int64_t seen = at.first + S::kRows;
  const int64_t end = a.causal && seen < a.keys ? seen : a.keys;
  for (int64_t key = 0; key < end; key += S::kColumns) {
    __syncthreads();
    load_tile<T>(memory.k, a.k, at.batch, kv_head, key, a.keys, a.width);
    load_tile<T>(memory.v, a.v, at.batch, kv_head, key, a.keys, a.width);
    __syncthreads();
    A s[R][C];
    multiply_rows(memory.q, memory.k, s, static_cast<int>(a.width), tx, ty);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t i = at.first + ty + kSide * r;
      A top = max[r];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        s[r][c] = masked<T>(a, at.batch, at.head, i, key + tx + kSide * c,
                            s[r][c] * static_cast<A>(a.scale));
        top = s[r][c] > top || s[r][c] != s[r][c] ? s[r][c] : top;
      }
      top = across(top, Larger<A>());
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
      sum[r] = sum[r] * factor + across(part, Sum<A>());
      max[r] = top;
#pragma unroll
      for (int e = 0; e < W; ++e) out[r][e] *= factor;
    }
    __syncthreads();
    const int64_t left = a.keys - key;
    add_product(memory.p, memory.v, out, static_cast<int>(left < S::kColumns ? left : S::kColumns),
                tx, ty);
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
  store_sums<T>(out, a.out, at.batch, at.head, at.first, a.queries, a.width, tx, ty);
}

// Δ = Σ dO·O, a warp per query.
template <class T>
__global__ void __launch_bounds__(kThreads) delta_kernel(const Attention a) {
  using A = Arith<T>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  if (row >= a.rows) return;  // a whole warp
  const int64_t i = row % a.queries, head = row / a.queries % a.heads;
  const int64_t batch = row / a.queries / a.heads;
  const T* const out = row_of<T>(a.out, batch, head, i);
  const T* const dout = row_of<T>(a.dout, batch, head, i);
  A total = A(0);
  for (int64_t d = lane; d < a.width; d += 32) {
    total = multiply_add(to_arith(out[d]), to_arith(dout[d]), total);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) total += shuffle_record(total, mask);
  if (lane == 0) static_cast<A*>(a.delta)[row] = total;
}

template <class S>
struct BackwardMemory {
  Tile<typename S::A, S::kRows, S::kWidth> row_a, row_b;
  Tile<typename S::A, S::kColumns, S::kWidth> column_a, column_b;
  Tile<typename S::A, S::kRows, S::kColumns> p, ds;
};

// Rows are keys, columns queries: dK and dV.
template <class S>
__global__ void __launch_bounds__(kThreads) keys_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<BackwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const Place at = place_of(a.kv_heads, a.keys, S::kRows);
  const int64_t group = a.heads / a.kv_heads;
  load_tile<T>(memory.row_a, a.k, at.batch, at.head, at.first, a.keys, a.width);
  load_tile<T>(memory.row_b, a.v, at.batch, at.head, at.first, a.keys, a.width);
  A dk[R][W], dv[R][W];
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int e = 0; e < W; ++e) dk[r][e] = dv[r][e] = A(0);
  }
  const int64_t start = a.causal ? at.first / S::kColumns * S::kColumns : 0;
  for (int64_t head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t statistics = (at.batch * a.heads + head) * a.queries;
    for (int64_t query = start; query < a.queries; query += S::kColumns) {
      __syncthreads();
      load_tile<T>(memory.column_a, a.q, at.batch, head, query, a.queries, a.width);
      load_tile<T>(memory.column_b, a.dout, at.batch, head, query, a.queries, a.width);
      __syncthreads();
      A s[R][C], dp[R][C];
      multiply_rows(memory.row_a, memory.column_a, s, static_cast<int>(a.width), tx, ty);
      multiply_rows(memory.row_b, memory.column_b, dp, static_cast<int>(a.width), tx, ty);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int64_t i = query + tx + kSide * c;
        const bool inside = i < a.queries;
        const A lse = inside ? static_cast<const A*>(a.lse)[statistics + i] : A(INFINITY);
        const A delta = inside ? static_cast<const A*>(a.delta)[statistics + i] : A(0);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int64_t j = at.first + ty + kSide * r;
          const A weight =
              m_exp(masked<T>(a, at.batch, head, i, j, s[r][c] * static_cast<A>(a.scale)) - lse);
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
      add_product(memory.p, memory.column_b, dv, columns, tx, ty);
      add_product(memory.ds, memory.column_a, dk, columns, tx, ty);
    }
  }
  store_sums<T>(dk, a.dk, at.batch, at.head, at.first, a.keys, a.width, tx, ty);
  store_sums<T>(dv, a.dv, at.batch, at.head, at.first, a.keys, a.width, tx, ty);
}

// Rows are queries, columns keys: dQ.
template <class S>
__global__ void __launch_bounds__(kThreads) queries_kernel(const Attention a) {
  using T = typename S::Type;
  using A = typename S::A;
  constexpr int R = S::kR, C = S::kC, W = S::kW;
  auto& memory = shared_memory<BackwardMemory<S>>();
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const Place at = place_of(a.heads, a.queries, S::kRows);
  const int64_t kv_head = at.head * a.kv_heads / a.heads;
  const int64_t statistics = (at.batch * a.heads + at.head) * a.queries;
  load_tile<T>(memory.row_a, a.q, at.batch, at.head, at.first, a.queries, a.width);
  load_tile<T>(memory.row_b, a.dout, at.batch, at.head, at.first, a.queries, a.width);
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
  const int64_t end = a.causal && seen < a.keys ? seen : a.keys;
  for (int64_t key = 0; key < end; key += S::kColumns) {
    __syncthreads();
    load_tile<T>(memory.column_a, a.k, at.batch, kv_head, key, a.keys, a.width);
    load_tile<T>(memory.column_b, a.v, at.batch, kv_head, key, a.keys, a.width);
    __syncthreads();
    A s[R][C], dp[R][C];
    multiply_rows(memory.row_a, memory.column_a, s, static_cast<int>(a.width), tx, ty);
    multiply_rows(memory.row_b, memory.column_b, dp, static_cast<int>(a.width), tx, ty);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t i = at.first + ty + kSide * r;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int64_t j = key + tx + kSide * c;
        const A weight = m_exp(
            masked<T>(a, at.batch, at.head, i, j, s[r][c] * static_cast<A>(a.scale)) - lse[r]);
        const A factor =
            a.state && i < a.queries && j < a.keys ? kept<A>(a, at.batch, at.head, i, j) : A(1);
        memory.ds.at[ty + kSide * r][tx + kSide * c] =
            weight * (dp[r][c] * factor - delta[r]) * static_cast<A>(a.scale);
      }
    }
    __syncthreads();
    const int64_t left = a.keys - key;
    add_product(memory.ds, memory.column_a, dq,
                static_cast<int>(left < S::kColumns ? left : S::kColumns), tx, ty);
  }
  store_sums<T>(dq, a.dq, at.batch, at.head, at.first, a.queries, a.width, tx, ty);
}

Operand operand_of(const View& v) { return {v.data, v.strides[0], v.strides[1], v.strides[2]}; }

Attention attention_of(const AttentionArgs& args, const View& out, const View& lse) {
  Attention a = {};
  a.q = operand_of(args.q);
  a.k = operand_of(args.k);
  a.v = operand_of(args.v);
  a.out = operand_of(out);
  a.mask = operand_of(args.mask);
  a.mask_column = args.mask.strides[3];
  a.mask_is_bool = args.mask.dtype == DType::boolean;
  a.padding = static_cast<const uint8_t*>(args.padding.data);
  a.padding_batch = args.padding.strides[0];
  a.padding_key = args.padding.strides[1];
  a.state = static_cast<const int64_t*>(args.state.data);
  a.lse = lse.data;
  a.scale = args.scale;
  a.keep = args.keep;
  a.heads = args.q.shape[1];
  a.kv_heads = args.k.shape[1];
  a.queries = args.q.shape[2];
  a.keys = args.k.shape[2];
  a.width = args.q.shape[3];
  a.rows = args.q.shape[0] * a.heads * a.queries;
  a.causal = args.causal;
  return a;
}

constexpr const char* kName = "scaledDotProductAttention";

// Nothing where there are no blocks.
void launch_tiles(Stream& stream, void (*kernel)(Attention), const Attention& a, int64_t heads,
                  int64_t length, int tile, size_t shared_bytes) {
  const int64_t blocks = heads * ((length + tile - 1) / tile);
  if (blocks == 0) return;
  if (blocks > INT32_MAX) fail("%s: too many tiles, got %lld", kName, (long long)blocks);
  launch(stream, kName, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), shared_bytes,
         a);
}

// Calls f with the tile shapes of the forward pass and of the backward one. Shared memory stays
// within 99 KiB, which every GPU from sm_80 on has, but for float64 heads wider than 128.
template <class F>
void with_shapes(DType dtype, int64_t width, const F& f) {
  with_float_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (same_type<T, double>) {
      if (width <= 64) return f(Shape<T, 32, 16, 64>(), Shape<T, 16, 16, 64>());
      if (width <= 128) return f(Shape<T, 16, 16, 128>(), Shape<T, 16, 16, 128>());
      return f(Shape<T, 16, 16, 256>(), Shape<T, 16, 16, 256>());
    } else {
      if (width <= 32) return f(Shape<T, 64, 64, 32>(), Shape<T, 64, 64, 32>());
      if (width <= 64) return f(Shape<T, 64, 64, 64>(), Shape<T, 32, 64, 64>());
      if (width <= 128) return f(Shape<T, 64, 32, 128>(), Shape<T, 32, 32, 128>());
      return f(Shape<T, 32, 16, 256>(), Shape<T, 16, 16, 256>());
    }
  });
}

void forward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse) {
  const Attention a = attention_of(args, out, lse);
  if (a.rows == 0 || a.width == 0) return;
  with_shapes(args.q.dtype, a.width, [&](auto shape, auto) {
    using S = decltype(shape);
    launch_tiles(stream, forward_kernel<S>, a, args.q.shape[0] * a.heads, a.queries, S::kRows,
                 sizeof(ForwardMemory<S>));
  });
}

void backward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse,
              const View& dout, const View& dq, const View& dk, const View& dv) {
  Attention a = attention_of(args, out, lse);
  a.dout = operand_of(dout);
  a.dq = operand_of(dq);
  a.dk = operand_of(dk);
  a.dv = operand_of(dv);
  if (a.width == 0) return;
  const size_t wide = args.q.dtype == DType::float64 ? 8 : 4;
  a.delta = acquire_scratch(stream, wide * static_cast<size_t>(a.rows > 0 ? a.rows : 1));
  with_shapes(args.q.dtype, a.width, [&](auto, auto shape) {
    using S = decltype(shape);
    constexpr int kWarps = kThreads / 32;
    if (a.rows > 0) {
      launch(stream, kName, delta_kernel<typename S::Type>,
             dim3(static_cast<unsigned>((a.rows + kWarps - 1) / kWarps)), dim3(kThreads), 0, a);
    }
    launch_tiles(stream, keys_kernel<S>, a, args.q.shape[0] * a.kv_heads, a.keys, S::kRows,
                 sizeof(BackwardMemory<S>));
    launch_tiles(stream, queries_kernel<S>, a, args.q.shape[0] * a.heads, a.queries, S::kRows,
                 sizeof(BackwardMemory<S>));
  });
  release_scratch(stream, a.delta);
}

}  // namespace

const AttentionFamily attention_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
