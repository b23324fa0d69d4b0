// A matrix product as its chunks see it, and its operands packed: by the chunk that needs a block,
// or for all of them by a launch before.
#pragma once

#include "core/error.h"
#include "cpu/gemm_ending.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tiles.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

// Swapped, A and B (and m and n) have changed places, and C is
// written through a transposition.
struct Product {
  const void* a;
  const void* b;
  void* c;
  const void* bias;
  Ending ending;
  void* shared_a;  // packed A and B, or null
  void* shared_b;
  void* parts;  // [part][batch][m][n] sums, or null where k is in one part
  int64_t m, n, k, batch;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t a_batch, b_batch, c_batch;
  int64_t block_rows, block_columns, row_blocks, column_blocks;
  int64_t slice, slices;            // of k
  int64_t part_slices, part_count;  // slices in a part
  int64_t group;                    // entries of the batch in a chunk
  double scale;
  bool pack_a, pack_b, swapped, add, relu;
};

template <class T>  // of a tile of A or a panel of B
constexpr int64_t kPackedLanes = kColumns<T> > kPackedRows<T> ? kColumns<T> : kPackedRows<T>;

template <class T>
NODEGRAD_INLINE int64_t panel_width(int64_t columns) {
  return round_up(smaller(columns, kColumns<T>), kLanes<T>);
}

// Packed A: slice by slice, tile by tile. Packed B: slice by slice, panel by panel. An operand that
// is only copied is read in runs of a few k across all tiles, as it lies in memory.
constexpr int64_t kCopyRun = 8;

template <class T, class S>
void pack_rows(const Product& p, const S* a, int64_t first, int64_t rows, int64_t k0, int64_t depth,
               T* packed, T* buffer) {
  const Tiles tiles = tiles_of(rows);
  const int64_t run = p.a_row == 1 ? kCopyRun : depth;
  for (int64_t k = 0; k < depth; k += run) {
    int64_t row = first;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t height = tiles.height + (t < tiles.taller);
      pack_panel(a + row * p.a_row + (k0 + k) * p.a_col, p.a_row, p.a_col, height,
                 smaller(run, depth - k), packed + (t * depth + k) * kPackedRows<T>, kPackedRows<T>,
                 buffer);
      row += height;
    }
  }
}

template <class T, class S>
void pack_columns(const Product& p, const S* b, int64_t first, int64_t columns, int64_t k0,
                  int64_t depth, T* packed, T* buffer) {
  const int64_t run = p.b_col == 1 ? kCopyRun : depth;
  for (int64_t k = 0; k < depth; k += run) {
    for (int64_t j = 0; j < columns; j += kColumns<T>) {
      const int64_t width = panel_width<T>(columns - j);
      pack_panel(b + (k0 + k) * p.b_row + (first + j) * p.b_col, p.b_col, p.b_row,
                 smaller(kColumns<T>, columns - j), smaller(run, depth - k),
                 packed + j * depth + k * width, width, buffer);
    }
  }
}

template <class T>
int64_t packed_rows_size(const Product& p) {
  return tiles_of(p.block_rows).count * kPackedRows<T> * p.slice;
}

// Where a slice of a block lies in the shared, packed operands.
template <class T>
NODEGRAD_INLINE T* shared_rows(const Product& p, int64_t block, int64_t slice) {
  return static_cast<T*>(p.shared_a) + (slice * p.row_blocks + block) * packed_rows_size<T>(p);
}
template <class T>
NODEGRAD_INLINE T* shared_columns(const Product& p, int64_t column, int64_t slice, int64_t depth) {
  return static_cast<T*>(p.shared_b) + slice * p.slice * round_up(p.n, kLanes<T>) + column * depth;
}

template <class T, class S>
void pack_kernel(const void* args, int64_t chunk) {
  const Product& p = *static_cast<const Product*>(args);
  T* buffer = static_cast<T*>(thread_scratch(sizeof(T) * kPackedLanes<T> * p.slice));
  if (!buffer) fail("matmul: out of memory for packing");
  const int64_t row_chunks = p.shared_a ? p.row_blocks * p.slices : 0;
  const int64_t index = chunk < row_chunks ? chunk : chunk - row_chunks;
  const int64_t blocks = chunk < row_chunks ? p.row_blocks : p.column_blocks;
  const int64_t slice = index / blocks, block = index % blocks;
  const int64_t k0 = slice * p.slice, depth = smaller(p.slice, p.k - k0);
  if (chunk < row_chunks) {
    const int64_t row = block * p.block_rows;
    pack_rows(p, static_cast<const S*>(p.a), row, smaller(p.block_rows, p.m - row), k0, depth,
              shared_rows<T>(p, block, slice), buffer);
    return;
  }
  const int64_t column = block * p.block_columns;
  pack_columns(p, static_cast<const S*>(p.b), column, smaller(p.block_columns, p.n - column), k0,
               depth, shared_columns<T>(p, column, slice, depth), buffer);
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
