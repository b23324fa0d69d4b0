// How a matrix product is cut: which operand stands where, what is packed, blocks of C, slices and
// parts of k. Sizes alone decide it, never the number of threads.
#pragma once

#include "core/backend.h"
#include "cpu/gemm_operands.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kDepth = 512;          // of a slice of k: a tile of A fills half of L1
constexpr int64_t kBlock = 128;          // rows and columns of C in a block, more or less
constexpr int64_t kChunkWork = 1 << 20;  // multiplications worth a chunk of their own
constexpr int64_t kManyChunks = 16;
constexpr int64_t kPartSlices = 4;                   // the fewest that are summed up apart
constexpr int64_t kLongStride = 2048;                // bytes
constexpr int64_t kSharedBytes = int64_t{32} << 20;  // the most that is packed at once

// Cᵀ = Bᵀ·Aᵀ, if packing B and the tiles' waste cost more than turning C (cycles, roughly).
template <class T>
bool prefers_swap(const GemmArgs& g) {
  if (g.b_col == 1) return false;
  const double m = static_cast<double>(g.m), n = static_cast<double>(g.n);
  const double k = static_cast<double>(g.k), flops_a_cycle = 2.0 * kLanes<T>;
  const double pad_n = static_cast<double>(round_up(g.n, kLanes<T>));
  const double pad_m = static_cast<double>(round_up(g.m, kLanes<T>));
  const double as_is = 0.25 * n * k + m * pad_n * k / flops_a_cycle;
  const double turned = (g.a_row == 1 ? 0.0 : 0.25 * m * k) + pad_m * n * k / flops_a_cycle + m * n;
  return turned < as_is;
}

// In how many parts k can be cut, whose sums are added up at last.
int64_t most_parts(const Product& p) {
  return p.swapped ? 1 : larger(1, divide_up(p.k, kDepth) / kPartSlices);
}

template <class T>
void choose_blocks(Product& p) {
  // Every block of rows would pack B again, where that is not done once for all.
  const bool repeats = p.pack_b && (p.batch > 1 || p.m <= 2 * kBlock);
  const int64_t whole = !repeats ? 3 * kBlock / 2 : p.batch > 1 ? 4 * kBlock : 2 * kBlock;
  int64_t rows = p.m <= whole ? p.m : kBlock;
  int64_t columns = smaller(p.n, larger(kBlock, smaller(4 * kBlock, kBlock * kBlock / rows)));
  // Where B is packed once for all, A is what is read again for each block of columns.
  const bool wide = p.pack_b && p.batch == 1 && p.m > 2 * kBlock;
  if (wide) {
    columns = smaller(p.n, 4 * kBlock);
    rows = smaller(p.m, 2 * kBlock);
  } else if (p.m > rows) {
    rows = smaller(p.m, larger(kBlock, smaller(4 * kBlock, kBlock * kBlock / columns)));
  }
  const int64_t least_rows = (wide ? 4 : 2) * kRows, least_columns = wide ? kBlock : kColumns<T>;
  const int64_t parts = most_parts(p);
  const auto chunks = [&] {
    return p.batch * parts * divide_up(p.m, rows) * divide_up(p.n, columns);
  };
  while (chunks() < kManyChunks && rows * columns * p.k > kChunkWork) {
    if (wide && rows > least_rows) {
      rows = larger(least_rows, rows / 2);
    } else if (columns > least_columns && (columns >= rows || p.pack_b)) {
      columns = larger(least_columns, columns / 2);
    } else if (rows > least_rows && !repeats) {
      rows = larger(least_rows, rows / 2);
    } else {
      break;
    }
  }
  p.row_blocks = divide_up(p.m, rows);
  p.block_rows = divide_up(p.m, p.row_blocks);
  p.column_blocks = divide_up(p.n, columns);
  p.block_columns = round_up(divide_up(p.n, p.column_blocks), kColumns<T>);
  p.column_blocks = divide_up(p.n, p.block_columns);
}

template <class T, class S>
Product plan_product(const GemmArgs& g) {
  constexpr bool kNative = sizeof(T) == sizeof(S);
  Product p = {};
  p.swapped = kNative && prefers_swap<T>(g);
  p.a = p.swapped ? g.b : g.a;
  p.b = p.swapped ? g.a : g.b;
  p.c = g.c;
  p.bias = g.bias;
  p.ending = ending_of(g);
  p.scale = g.scale;
  p.m = p.swapped ? g.n : g.m;
  p.n = p.swapped ? g.m : g.n;
  p.k = g.k;
  p.batch = g.batch;
  p.a_row = p.swapped ? g.b_col : g.a_row;
  p.a_col = p.swapped ? g.b_row : g.a_col;
  p.b_row = p.swapped ? g.a_col : g.b_row;
  p.b_col = p.swapped ? g.a_row : g.b_col;
  p.c_row = g.c_row;
  p.a_batch = p.swapped ? g.b_batch : g.a_batch;
  p.b_batch = p.swapped ? g.a_batch : g.b_batch;
  p.c_batch = g.c_batch;
  p.add = g.accumulate;
  // Where the sums before it are kept, ReLU comes with the ending.
  p.relu = g.activation == Activation::relu && !g.before && !g.residual;
  if (p.relu) p.ending.activation = Activation::none;
  p.pack_b = !kNative || p.b_col != 1 || p.m > 3 * kBlock;
  // Rows of A are read as they lie; of a transposed A every k would be another page.
  p.pack_a = !kNative || (p.a_col != 1 && p.n > kColumns<T> && p.a_col * sizeof(T) >= kLongStride);
  choose_blocks<T>(p);
  p.slices = larger(1, divide_up(p.k, kDepth));
  p.slice = larger(1, round_up(divide_up(p.k, p.slices), 8));
  p.slices = larger(1, divide_up(p.k, p.slice));

  const int64_t blocks = p.row_blocks * p.column_blocks;
  const int64_t work = p.block_rows * p.block_columns * larger(p.k, 1);
  p.group = larger(1, blocks > 1 ? 1 : smaller(p.batch, kChunkWork / work));
  const int64_t chunks = blocks * divide_up(p.batch, p.group);
  p.part_count = smaller(divide_up(kManyChunks, chunks), most_parts(p));
  p.part_slices = divide_up(p.slices, p.part_count);
  p.part_count = divide_up(p.slices, p.part_slices);
  return p;
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
