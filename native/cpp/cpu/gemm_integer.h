// Products of integers, exact modulo the range of the dtype: C = scale · A·B, any transposition.
//
// A chunk takes some rows of C. Where rows of B are contiguous, each is added to a tile of sums
// that stays in L1; where columns are, sums are dot products. Arithmetic is unsigned, so that it
// wraps. Cost: 2MNK operations and a read of B for each row of C; meant for small and middling
// products.
#pragma once

#include "core/backend.h"
#include "cpu/gemm_tiles.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kIntegerTile = 512;       // columns that are summed up together
constexpr int64_t kIntegerChunk = 1 << 18;  // multiplications worth a chunk of their own

struct IntegerProduct {
  GemmArgs g;
  int64_t rows, blocks;  // rows of C in a chunk, chunks in an entry of the batch
};

template <class T>
void integer_kernel(const void* args, int64_t chunk) {
  const IntegerProduct& p = *static_cast<const IntegerProduct*>(args);
  const GemmArgs& g = p.g;
  // Narrow types would be promoted to int, which must not overflow.
  using Sum = decltype(T() + 0U);
  const int64_t batch = chunk / p.blocks, first = chunk % p.blocks * p.rows;
  const T* const a = static_cast<const T*>(g.a) + batch * g.a_batch;
  const T* const b = static_cast<const T*>(g.b) + batch * g.b_batch;
  T* const c = static_cast<T*>(g.c) + batch * g.c_batch;
  const Sum scale = static_cast<Sum>(static_cast<int64_t>(g.scale));
  for (int64_t i = first; i < smaller(first + p.rows, g.m); ++i) {
    const T* const row = a + i * g.a_row;
    for (int64_t j = 0; j < g.n; j += kIntegerTile) {
      const int64_t count = smaller(kIntegerTile, g.n - j);
      alignas(64) Sum sums[kIntegerTile];
      if (g.b_col == 1) {
        for (int64_t l = 0; l < count; ++l) sums[l] = 0;
        for (int64_t k = 0; k < g.k; ++k) {
          const Sum x = row[k * g.a_col];
          const T* const from = b + k * g.b_row + j;
#pragma GCC ivdep
          for (int64_t l = 0; l < count; ++l) sums[l] += x * from[l];
        }
      } else {
        for (int64_t l = 0; l < count; ++l) {
          const T* const from = b + (j + l) * g.b_col;
          Sum sum = 0;
          for (int64_t k = 0; k < g.k; ++k) sum += Sum{row[k * g.a_col]} * from[k * g.b_row];
          sums[l] = sum;
        }
      }
      T* const to = c + i * g.c_row + j;
      for (int64_t l = 0; l < count; ++l) to[l] = static_cast<T>(scale * sums[l]);
    }
  }
}

void multiply_integers(Stream& stream, const GemmArgs& g) {
  IntegerProduct p = {g, 0, 0};
  p.rows = larger(1, smaller(g.m, kIntegerChunk / larger(1, g.n * g.k)));
  p.blocks = divide_up(g.m, p.rows);
  const Kernel kernel = g.dtype == DType::int64   ? integer_kernel<uint64_t>
                        : g.dtype == DType::int32 ? integer_kernel<uint32_t>
                                                  : integer_kernel<uint8_t>;
  launch(stream, "gemm_integer", kernel, &p, sizeof p, p.blocks * g.batch);
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
