// The micro-kernels of the matrix product: a tile of C stays in vector registers while k runs.
//   c[i, j] = [c[i, j] +] Σ_k a[i, k] · b[k, j]
// 14 x 32 floats in 28 of 32 registers with AVX-512, 6 x 16 in 12 of 16 with AVX2. One kernel for
// each height, width and order of A, compiled here once for all families (gemm_kernel.h).
#include "cpu/gemm_kernel.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

// One row in so many is broadcast to a register, which costs an instruction more and a load less;
// in between lies the balance of the two. Without the fused form every row is.
#if defined(__AVX512F__)
constexpr int kBroadcastEvery = 4;
#else
constexpr int kBroadcastEvery = 1;
#endif

template <class T, int Rows, int Vectors, bool ByRows>
void micro_kernel(int64_t k, const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* c,
                  int64_t c_stride, bool add) {
  constexpr int kL = kLanes<T>;
  Vector<T> sums[Rows][Vectors];
  if (add) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sums[i][v] = load(c + i * c_stride + v * kL);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sums[i][v] = Vector<T>{};
    }
  }
  // Every third row has a pointer, the two after it are one and two strides away: as many
  // addresses as there are registers for.
  constexpr int kGroups = (Rows + 2) / 3;
  const T* rows[kGroups];
#pragma GCC unroll 5
  for (int g = 0; g < kGroups; ++g) rows[g] = a + 3 * g * a_stride;
#pragma GCC unroll 4
  for (int64_t left = k; left > 0; --left) {
    Vector<T> y[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) y[v] = load(b + v * kL);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const T* const from = ByRows ? rows[i / 3] + i % 3 * a_stride : a + i;
      if (i % kBroadcastEvery == 0) {
        const Vector<T> x = broadcast(*from);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) multiply_add<T>(sums[i][v], x, y[v]);
      } else {
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) multiply_add<T>(sums[i][v], from, y[v]);
      }
    }
    b += b_stride;
    if constexpr (ByRows) {
#pragma GCC unroll 5
      for (int g = 0; g < kGroups; ++g) rows[g] += 1;
    } else {
      a += a_stride;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) store(c + i * c_stride + v * kL, sums[i][v]);
  }
}

template <class T, int Rows = 1>
constexpr void fill(KernelTable<T>& table) {
  table.kernels[0][0][Rows - 1] = micro_kernel<T, Rows, 1, false>;
  table.kernels[0][1][Rows - 1] = micro_kernel<T, Rows, 2, false>;
  table.kernels[1][0][Rows - 1] = micro_kernel<T, Rows, 1, true>;
  table.kernels[1][1][Rows - 1] = micro_kernel<T, Rows, 2, true>;
  if constexpr (Rows < kRows) fill<T, Rows + 1>(table);
}

constexpr MicroKernels make_kernels() {
  MicroKernels made = {};
  fill<float>(made);
  fill<double>(made);
  return made;
}

}  // namespace

constexpr MicroKernels micro_kernels = make_kernels();

}  // namespace nodegrad::cpu::NODEGRAD_ISA
