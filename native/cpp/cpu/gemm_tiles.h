// How products are cut: blocks of rows into tiles of nearly equal height, no higher than a
// micro-kernel.
#pragma once

#include "cpu/gemm_kernel.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

NODEGRAD_INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
NODEGRAD_INLINE int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
NODEGRAD_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
NODEGRAD_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>  // of a packed tile, in whole vectors
constexpr int64_t kPackedRows = (kRows + kLanes<T> - 1) / kLanes<T> * kLanes<T>;

struct Tiles {
  int64_t count, height, taller;  // the first `taller` tiles have one row more
};
NODEGRAD_INLINE Tiles tiles_of(int64_t rows) {
  const int64_t count = larger(1, divide_up(rows, kRows));
  return {count, rows / count, rows % count};
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
