// Matrix times vector, the product with one row or one column: y[r] = Σ_k G(r, k) · v[k].
//
// Where k is contiguous in G, rows are dot products, four at a time. Where r is contiguous, eight
// rows of Gᵀ at a time are added to sums that stay in L1, so that memory is read in long runs. A
// matrix of few rows is cut along k; a second launch adds the parts in order. Each element of G is
// read once: memory-bound, 4RK bytes for float32.
#pragma once

#include "core/backend.h"
#include "core/error.h"
#include "cpu/gemm_ending.h"
#include "cpu/gemm_kernel.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kVectorChunk = 1 << 17;  // elements of G, more or less
constexpr int64_t kVectorChunks = 16;      // wanted before k is left whole
constexpr int64_t kSumRows = 1024;         // sums that stay in L1

struct VectorProduct {
  const void* g;
  const void* v;
  void* y;
  const void* bias;
  Ending ending;
  void* parts;  // [part][batch][rows], or null
  int64_t rows, k, batch;
  int64_t g_row, g_col, v_stride, y_stride, bias_stride;
  int64_t g_batch, v_batch, y_batch;
  int64_t block_rows, row_blocks, depth, part_count;
  double scale;
  bool add;
};

// The dot products of Rows rows with v, each summed in the same order whatever Rows is.
template <class T, int Rows>
void dot_rows(const T* g, int64_t g_row, const T* v, int64_t k, T* sums) {
  constexpr int kL = kLanes<T>;
  Vector<T> even[Rows], odd[Rows];
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) even[i] = odd[i] = Vector<T>{};
  int64_t j = 0;
  for (; j + 2 * kL <= k; j += 2 * kL) {
    const Vector<T> x = load(v + j), y = load(v + j + kL);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
      multiply_add<T>(even[i], load(g + i * g_row + j), x);
      multiply_add<T>(odd[i], load(g + i * g_row + j + kL), y);
    }
  }
  if (j + kL <= k) {
    const Vector<T> x = load(v + j);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) multiply_add<T>(even[i], load(g + i * g_row + j), x);
    j += kL;
  }
  if (const int left = static_cast<int>(k - j)) {
    const Vector<T> x = load_part(v + j, left);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) multiply_add<T>(odd[i], load_part(g + i * g_row + j, left), x);
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) sums[i] = sum_lanes<T>(even[i] + odd[i]);
}

// sums[r] += Σ v[i] · g[i·g_col + r] for Depth consecutive k; sums are padded to whole vectors.
template <class T, int Depth>
void add_columns(const T* g, int64_t g_col, const T* v, int64_t v_stride, int64_t rows, T* sums) {
  constexpr int kL = kLanes<T>;
  Vector<T> x[Depth];
#pragma GCC unroll 8
  for (int i = 0; i < Depth; ++i) x[i] = broadcast(v[i * v_stride]);
  int64_t r = 0;
  for (; r + kL <= rows; r += kL) {
    Vector<T> sum = load(sums + r);
#pragma GCC unroll 8
    for (int i = 0; i < Depth; ++i) multiply_add<T>(sum, load(g + i * g_col + r), x[i]);
    store(sums + r, sum);
  }
  if (const int left = static_cast<int>(rows - r)) {
    Vector<T> sum = load(sums + r);
#pragma GCC unroll 8
    for (int i = 0; i < Depth; ++i) {
      multiply_add<T>(sum, load_part(g + i * g_col + r, left), x[i]);
    }
    store(sums + r, sum);
  }
}

template <class T>
NODEGRAD_INLINE void finish_element(const VectorProduct& p, int64_t batch, int64_t row, T sum) {
  T& y = static_cast<T*>(p.y)[batch * p.y_batch + row * p.y_stride];
  sum *= static_cast<T>(p.scale);
  if (p.add) sum += y;
  if (p.bias) sum += static_cast<const T*>(p.bias)[row * p.bias_stride];
  end_row<T, T>(p.ending, &y, &sum, 1);
  y = sum;
}

template <class T>
void gemv_kernel(const void* args, int64_t chunk) {
  constexpr int kDotRows = 4, kAddDepth = 8;
  const VectorProduct& p = *static_cast<const VectorProduct*>(args);
  const int64_t first = chunk % p.row_blocks * p.block_rows;
  const int64_t last = first + p.block_rows < p.rows ? first + p.block_rows : p.rows;
  const int64_t part = chunk / p.row_blocks % p.part_count;
  const int64_t batch = chunk / p.row_blocks / p.part_count;
  const int64_t k0 = part * p.depth, depth = p.depth < p.k - k0 ? p.depth : p.k - k0;
  const T* const g = static_cast<const T*>(p.g) + batch * p.g_batch + k0 * p.g_col;
  const T* v = static_cast<const T*>(p.v) + batch * p.v_batch + k0 * p.v_stride;
  const auto finish = [&](int64_t row, const T* sums, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (p.parts) {
        static_cast<T*>(p.parts)[(part * p.batch + batch) * p.rows + row + i] = sums[i];
      } else {
        finish_element(p, batch, row + i, sums[i]);
      }
    }
  };

  if (p.g_row == 1) {
    alignas(64) T sums[kSumRows];
    for (int64_t row = first; row < last; row += kSumRows) {
      const int64_t rows = kSumRows < last - row ? kSumRows : last - row;
      for (int64_t i = 0; i < rows; i += kLanes<T>) store(sums + i, Vector<T>{});
      int64_t i = 0;
      for (; i + kAddDepth <= depth; i += kAddDepth) {
        add_columns<T, kAddDepth>(g + row + i * p.g_col, p.g_col, v + i * p.v_stride, p.v_stride,
                                  rows, sums);
      }
      for (; i < depth; ++i) {
        add_columns<T, 1>(g + row + i * p.g_col, p.g_col, v + i * p.v_stride, p.v_stride, rows,
                          sums);
      }
      finish(row, sums, rows);
    }
    return;
  }
  if (p.v_stride != 1 && depth > 0) {
    T* const packed = static_cast<T*>(thread_scratch(sizeof(T) * depth));
    if (!packed) fail("matmul: out of memory for packing");
    for (int64_t i = 0; i < depth; ++i) packed[i] = v[i * p.v_stride];
    v = packed;
  }
  T sums[kDotRows];
  int64_t row = first;
  for (; row + kDotRows <= last; row += kDotRows) {
    dot_rows<T, kDotRows>(g + row * p.g_row, p.g_row, v, depth, sums);
    finish(row, sums, kDotRows);
  }
  for (; row < last; ++row) {
    dot_rows<T, 1>(g + row * p.g_row, p.g_row, v, depth, sums);
    finish(row, sums, 1);
  }
}

template <class T>
void gemv_parts_kernel(const void* args, int64_t chunk) {
  const VectorProduct& p = *static_cast<const VectorProduct*>(args);
  const int64_t end = (chunk + 1) * kVectorChunk, count = p.batch * p.rows;
  for (int64_t i = chunk * kVectorChunk; i < (end < count ? end : count); ++i) {
    T sum = 0;
    for (int64_t part = 0; part < p.part_count; ++part) {
      sum += static_cast<const T*>(p.parts)[part * count + i];
    }
    finish_element(p, i / p.rows, i % p.rows, sum);
  }
}

// m or n is 1. With both, k should be contiguous in G.
template <class T>
void multiply_vector(Stream& stream, const GemmArgs& a) {
  VectorProduct p = {};
  const bool row_vector = a.m == 1 && (a.n != 1 || a.b_row == 1 || a.a_col != 1);
  p.g = row_vector ? a.b : a.a;
  p.v = row_vector ? a.a : a.b;
  p.y = a.c;
  p.bias = a.bias;
  p.ending = ending_of(a);
  p.scale = a.scale;
  p.rows = row_vector ? a.n : a.m;
  p.k = a.k;
  p.batch = a.batch;
  p.g_row = row_vector ? a.b_col : a.a_row;
  p.g_col = row_vector ? a.b_row : a.a_col;
  if (p.rows == 1) p.g_row = p.g_col == 1 ? p.k : 1;  // of one row, the order along k decides
  p.v_stride = row_vector ? a.a_col : a.b_row;
  p.y_stride = row_vector ? 1 : a.c_row;
  p.bias_stride = row_vector ? 1 : 0;
  p.g_batch = row_vector ? a.b_batch : a.a_batch;
  p.v_batch = row_vector ? a.a_batch : a.b_batch;
  p.y_batch = a.c_batch;
  p.add = a.accumulate;

  const int64_t k = p.k > 0 ? p.k : 1;
  int64_t wanted = p.g_row == 1 ? kSumRows : (kVectorChunk + k - 1) / k;
  if (p.g_row != 1) wanted = (wanted + 3) / 4 * 4;
  p.block_rows = wanted < p.rows ? wanted : p.rows;
  p.row_blocks = (p.rows + p.block_rows - 1) / p.block_rows;
  const int64_t blocks = p.row_blocks * p.batch;
  const int64_t most = p.block_rows * k / kVectorChunk;
  const int64_t useful = (kVectorChunks + blocks - 1) / blocks;
  p.part_count = most < useful ? (most > 1 ? most : 1) : useful;
  p.depth = (k + p.part_count - 1) / p.part_count;
  p.depth = (p.depth + 63) / 64 * 64;
  p.part_count = (k + p.depth - 1) / p.depth;
  const Scratch parts(stream, p.part_count > 1 ? sizeof(T) * p.part_count * p.batch * p.rows : 0);
  p.parts = parts.data();
  launch(stream, "gemv", gemv_kernel<T>, &p, sizeof p, blocks * p.part_count);
  if (p.parts) {
    launch(stream, "gemv_parts", gemv_parts_kernel<T>, &p, sizeof p,
           (p.batch * p.rows + kVectorChunk - 1) / kVectorChunk);
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
