// What the kernels of the gemm family share: the problem as they receive it, a block's place in
// it, and the end of a product: scale, bias, activation, residual, accumulation and storing.
//
// A product is cut into tiles of C, and along K into `slices` of `slice_k`. Blocks are numbered
// batch, slice, then tile in bands of eight rows of tiles, so that neighbours share operands in
// L2. With one slice a block finishes its tile; with more it writes float32 partial sums
// [batch, slice, M, partial_ld], and sum_slices_kernel adds them in the order of the slices. Blocks
// of the first column of tiles add up the rows of A as well, where they are asked for.
#pragma once

#include "core/backend.h"
#include "device.h"
#include "unary_formulas.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct GemmOutput {
  void* c;
  const void* bias;
  const void* residual;  // of C's layout, as `before` is
  void* before;
  void* a_sums;
  float* partial;         // null with one slice
  float* partial_a_sums;  // [slice, M]
  int64_t ld, batch_stride, partial_ld;
  float scale;
  bool vector;  // all allow 16-byte access
  bool accumulate;
  Activation activation;
};

// What the kernels write, without partial sums.
GemmOutput make_output(const GemmArgs& args);

struct GemmProblem {
  const void* a;
  const void* b;
  int64_t m, n, k, slice_k;
  int64_t a_ld, b_ld, a_batch, b_batch;  // ld: the stride that is not 1
  GemmOutput out;
  int32_t slices, tiles_m, tiles_n;
  bool a_k_contiguous, b_k_contiguous;  // else M, N are
  uint8_t a_access, b_access;           // bytes of the widest aligned loads: 16, or 4, or 2
};

struct TilePlace {
  int64_t batch, m, n;  // m, n: the tile's first row and column
  int64_t k_begin, k_count;
  int slice;
};

constexpr int kBandOfTiles = 8;

template <int kBM, int kBN>
__device__ __forceinline__ TilePlace tile_place(const GemmProblem& p) {
  const uint32_t tiles = static_cast<uint32_t>(p.tiles_m) * p.tiles_n;
  const uint32_t tile = blockIdx.x % tiles, rest = blockIdx.x / tiles;
  const uint32_t per_band = static_cast<uint32_t>(kBandOfTiles) * p.tiles_n;
  const uint32_t band = tile / per_band, in_band = tile % per_band;
  const uint32_t first = band * kBandOfTiles;
  const uint32_t rows = min(static_cast<uint32_t>(p.tiles_m) - first, uint32_t{kBandOfTiles});
  TilePlace place;
  place.batch = rest / p.slices;
  place.slice = static_cast<int>(rest % p.slices);
  place.m = static_cast<int64_t>(first + in_band % rows) * kBM;
  place.n = static_cast<int64_t>(in_band / rows) * kBN;
  place.k_begin = place.slice * p.slice_k;
  place.k_count = min(p.slice_k, p.k - place.k_begin);
  return place;
}

__device__ __forceinline__ int clamp_count(int64_t left, int most) {
  return left <= 0 ? 0 : left >= most ? most : static_cast<int>(left);
}

// Elements before or behind the activation: of C or of something of its layout, or of the bias.
// Those at `columns` and beyond are not there.
template <class T, int kCount>
__device__ __forceinline__ void load_columns(const T* from, bool vector, int64_t left,
                                             float (&v)[kCount]) {
  constexpr int kVector = 16 / sizeof(T) < kCount ? 16 / sizeof(T) : kCount;
#pragma unroll
  for (int i = 0; i < kCount; i += kVector) {
    Vector<T, kVector> some{};
    if (vector) {
      some = load_vector<kVector>(from + i);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        if (i + j < left) some[j] = from[i + j];
      }
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[i + j] = to_float(some[j]);
  }
}
template <class T, int kCount>
__device__ __forceinline__ void put_columns(T* to, bool vector, int64_t left,
                                            const float (&v)[kCount]) {
  constexpr int kVector = 16 / sizeof(T) < kCount ? 16 / sizeof(T) : kCount;
#pragma unroll
  for (int i = 0; i < kCount; i += kVector) {
    Vector<T, kVector> some{};
#pragma unroll
    for (int j = 0; j < kVector; ++j) some[j] = from_float<T>(v[i + j]);
    if (vector) {
      store_vector(to + i, some);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        if (i + j < left) to[i + j] = some[j];
      }
    }
  }
}

template <class T, int kCount>
__device__ __forceinline__ void activate(Activation activation, T (&v)[kCount]) {
  if (activation == Activation::relu) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = v[i] < T(0) ? T(0) : v[i];
  } else if (activation == Activation::gelu) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = Formula<UnaryOp::gelu>::forward(v[i]);
  } else if (activation == Activation::gelu_tanh) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = Formula<UnaryOp::gelu_tanh>::forward(v[i]);
  }
}

// Finishes kCount neighbouring columns of one row of C: scale, bias or what C held, activation,
// residual. The first column is a multiple of kCount.
template <class T, int kCount>
__device__ __forceinline__ void finish_columns(const GemmOutput& out, int64_t batch, int64_t row,
                                               int64_t column, int64_t columns,
                                               float (&v)[kCount]) {
  const int64_t at = batch * out.batch_stride + row * out.ld + column, left = columns - column;
  const bool vector = out.vector && left >= kCount;
  T* const c = static_cast<T*>(out.c) + at;
  float more[kCount] = {};
  if (out.accumulate) {
    load_columns(c, vector, left, more);
  } else if (out.bias) {
    load_columns(static_cast<const T*>(out.bias) + column, vector, left, more);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = v[i] * out.scale + more[i];
  if (out.before) put_columns(static_cast<T*>(out.before) + at, vector, left, v);
  activate(out.activation, v);
  if (out.residual) {
    load_columns(static_cast<const T*>(out.residual) + at, vector, left, more);
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] += more[i];
  }
  put_columns(c, vector, left, v);
}

// The same, or the slice's partial sums where there are several.
template <class T, int kCount>
__device__ __forceinline__ void store_columns(const GemmProblem& p, const TilePlace& place,
                                              int64_t row, int64_t column, float (&v)[kCount]) {
  if (row >= p.m || column >= p.n) return;
  if (!p.out.partial) {
    finish_columns<T>(p.out, place.batch, row, column, p.n, v);
    return;
  }
  float* to = p.out.partial + column +
              ((place.batch * p.slices + place.slice) * p.m + row) * p.out.partial_ld;
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    store_vector(to + i, Vector<float, 4>{v[i], v[i + 1], v[i + 2], v[i + 3]});
  }
}

// Finishes the sum of one row of A.
template <class T>
__device__ __forceinline__ void finish_sum(const GemmOutput& out, int64_t row, float sum) {
  T* const to = static_cast<T*>(out.a_sums) + row;
  *to = from_float<T>(out.accumulate ? to_float(*to) + sum : sum);
}

// The same, or the slice's partial sum where there are several.
template <class T>
__device__ __forceinline__ void store_sum(const GemmProblem& p, const TilePlace& place, int64_t row,
                                          float sum) {
  if (row >= p.m) return;
  if (p.out.partial) {
    p.out.partial_a_sums[place.slice * p.m + row] = sum;
  } else {
    finish_sum<T>(p.out, row, sum);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
