// Matrix products: C = activation(scale·A·B + bias) + residual or C += scale·A·B, batched, any
// transposition; float32 and float64 as they are, bfloat16 and float16 through float32.
//
// One launch covers C with blocks, a chunk each. A chunk goes through k in slices of kDepth and
// multiplies tiles (gemm_kernel.h); what cannot be read where it lies is packed, by the chunk that
// needs it, or once for all by a launch before where many chunks would repeat it. Where B is
// transposed and C has few rows, Cᵀ = Bᵀ·Aᵀ is computed instead, since W in y = x·Wᵀ then needs no
// packing. A long k with few blocks is cut in parts whose sums a last launch adds in order.
// All of this follows from the sizes alone, so results do not depend on the number of threads.
// Cost: 2MNK flops; measured 83 to 96% of a core's peak at 512³ (AVX2, AVX-512).
#include "core/backend.h"
#include "core/error.h"
#include "core/families/gemm_sums.h"
#include "cpu/gemm_integer.h"
#include "cpu/gemm_operands.h"
#include "cpu/gemm_plan.h"
#include "cpu/gemm_vector.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

extern const ReduceFamily reduce_family;
extern const BinaryFamily binary_family;

namespace {

// A chunk's block of C and the memory it works in.
template <class T>
struct Block {
  int64_t row, rows, column, columns;
  T* target;  // sums go here: C itself, or a buffer where C has another type or order
  int64_t stride;
  T* packed_a;
  T* packed_b;
  T* buffer;
};

template <class T>
void multiply_panel(const T* a, int64_t a_row_step, int64_t a_stride, bool by_rows,
                    int64_t tile_step, const T* b, int64_t b_stride, int64_t depth, int64_t rows,
                    int64_t columns, T* target, int64_t stride, const Finish<T>& finish,
                    const Ending* ending) {
  const int vectors = static_cast<int>(divide_up(columns, kLanes<T>));
  const bool whole = columns % kLanes<T> == 0;
  const Tiles tiles = tiles_of(rows);
  alignas(64) T tile[kRows * kColumns<T>];
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int height = static_cast<int>(tiles.height + (t < tiles.taller));
    const MicroKernel<T> kernel = kKernels<T>.get(by_rows, vectors, height);
    if (whole) {
      kernel(depth, a, a_stride, b, b_stride, target, stride, finish.add);
      if (finish.bias || finish.relu) {
        const Finish<T> rest = {finish.bias, false, finish.relu};
        finish_tile(target, stride, target, stride, height, columns, rest);
      }
    } else {
      kernel(depth, a, a_stride, b, b_stride, tile, kColumns<T>, false);
      finish_tile(tile, kColumns<T>, target, stride, height, columns, finish);
    }
    if (ending) {
      for (int i = 0; i < height; ++i) {
        end_row<T, T>(*ending, target + i * stride, target + i * stride, columns);
      }
    }
    a += tile_step ? tile_step : height * a_row_step;
    target += height * stride;
  }
}

template <class T, class S>
void multiply_block(const Product& p, const Block<T>& block, const S* a, const S* b, const T* bias,
                    int64_t first_slice, int64_t last_slice, bool add, bool relu, bool end) {
  constexpr bool kNative = sizeof(T) == sizeof(S);
  for (int64_t slice = first_slice; slice < last_slice; ++slice) {
    const int64_t k0 = slice * p.slice, depth = smaller(p.slice, p.k - k0);
    const bool last = slice + 1 == last_slice;
    const T* rows = nullptr;
    int64_t a_stride = kPackedRows<T>, tile_step = kPackedRows<T> * depth;
    bool by_rows = false;
    if (p.shared_a) {
      rows = shared_rows<T>(p, block.row / p.block_rows, slice);
    } else if (p.pack_a) {
      pack_rows(p, a, block.row, block.rows, k0, depth, block.packed_a, block.buffer);
      rows = block.packed_a;
    } else if constexpr (kNative) {
      rows = a + block.row * p.a_row + k0 * p.a_col;
      by_rows = p.a_col == 1;
      a_stride = by_rows ? p.a_row : p.a_col;
      tile_step = 0;
    }
    // Only sums in C itself are ended here: others have a way to go (finish_rows).
    const Ending* const ending = last && end ? &p.ending : nullptr;
    const auto finish_of = [&](int64_t j) {
      return Finish<T>{last && bias ? bias + j : nullptr, add || slice > first_slice, last && relu};
    };
    if (p.shared_b) {
      // A tile of A stays in L1 while all panels of B go by; a copy, where there are enough of
      // them, since rows a power of two apart would push each other out.
      const bool copied = by_rows && block.columns > kBlock;
      const Tiles tiles = tiles_of(block.rows);
      T* target = block.target;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t height = tiles.height + (t < tiles.taller);
        const T* tile = rows;
        int64_t stride = a_stride;
        if (copied) {
          stride = depth + kLanes<T>;
          copy_panel(rows, a_stride, depth, height, block.packed_a, stride);
          tile = block.packed_a;
        }
        for (int64_t j = 0; j < block.columns; j += kColumns<T>) {
          const int64_t columns = smaller(kColumns<T>, block.columns - j);
          multiply_panel(tile, 0, stride, by_rows, 0,
                         shared_columns<T>(p, block.column + j, slice, depth),
                         panel_width<T>(columns), depth, height, columns, target + j, block.stride,
                         finish_of(j), ending);
        }
        rows += tile_step ? tile_step : height * p.a_row;
        target += height * block.stride;
      }
      continue;
    }
    for (int64_t j = 0; j < block.columns; j += kColumns<T>) {
      const int64_t columns = smaller(kColumns<T>, block.columns - j);
      const T* panel = nullptr;
      int64_t b_stride = panel_width<T>(columns);
      if (p.pack_b || columns % kLanes<T> != 0) {
        pack_columns(p, b, block.column + j, columns, k0, depth, block.packed_b, block.buffer);
        panel = block.packed_b;
      } else if constexpr (kNative) {
        panel = b + k0 * p.b_row + (block.column + j) * p.b_col;
        b_stride = p.b_row;
      }
      multiply_panel(rows, p.a_row, a_stride, by_rows, tile_step, panel, b_stride, depth,
                     block.rows, columns, block.target + j, block.stride, finish_of(j), ending);
    }
  }
}

// Rows of sums to C, with all that is still due.
template <class T, class S>
void finish_rows(const T* sums, int64_t stride, S* c, int64_t c_row, const S* bias, int64_t rows,
                 int64_t columns, const Product& p) {
  const T scale = static_cast<T>(p.scale);
  for (int64_t i = 0; i < rows; ++i) {
    S* const to = c + i * c_row;
    if constexpr (sizeof(S) == sizeof(T)) {
      finish_tile(sums + i * stride, stride, to, c_row, 1, columns,
                  Finish<T>{bias, p.add, p.relu, scale});
      if (p.ending.due()) end_row<T, S>(p.ending, to, to, columns);
    } else {
      alignas(64) T x[kColumns<T>];
      for (int64_t j = 0; j < columns; j += kColumns<T>) {
        const int64_t n = smaller(kColumns<T>, columns - j);
        for (int64_t l = 0; l < n; ++l) {
          x[l] = scale * sums[i * stride + j + l];
          if (p.add) x[l] += Stored<S>::load(to[j + l]);
          if (bias) x[l] += Stored<S>::load(bias[j + l]);
          if (p.relu) x[l] = x[l] < T(0) ? T(0) : x[l];
        }
        if (p.ending.due()) end_row<T, S>(p.ending, to + j, x, n);
        for (int64_t l = 0; l < n; ++l) to[j + l] = Stored<S>::store(x[l]);
      }
    }
  }
}

// Whether products are summed up in C itself.
template <class T, class S>
bool is_direct(const Product& p) {
  return sizeof(T) == sizeof(S) && !p.swapped && p.scale == 1;
}

template <class T>
struct ChunkMemory {
  int64_t packed_a, packed_b, buffer, sums, turned, total;  // elements
};
template <class T, class S>
ChunkMemory<T> chunk_memory(const Product& p) {
  constexpr bool kNative = sizeof(T) == sizeof(S);
  ChunkMemory<T> s;
  s.packed_a = p.shared_a              ? 0
               : p.pack_a              ? packed_rows_size<T>(p)
               : p.shared_b && kNative ? kRows * (p.slice + kLanes<T>)
                                       : 0;
  s.packed_b = p.shared_b ? 0 : kColumns<T> * p.slice;
  s.buffer = kNative ? 0 : kPackedLanes<T> * p.slice;
  s.sums = is_direct<T, S>(p) || p.parts ? 0 : p.block_rows * round_up(p.block_columns, 64);
  s.turned = p.swapped && !p.parts ? round_up(p.block_rows, 64) * p.block_columns : 0;
  s.total = s.packed_a + s.packed_b + s.buffer + s.sums + s.turned;
  return s;
}

template <class T, class S>
void gemm_kernel(const void* args, int64_t chunk) {
  const Product& p = *static_cast<const Product*>(args);
  const ChunkMemory<T> sizes = chunk_memory<T, S>(p);
  T* memory = static_cast<T*>(thread_scratch(sizeof(T) * sizes.total));
  if (!memory) fail("matmul: out of memory for packing");
  const unsigned before = ignore_subnormals();
  Block<T> block;
  block.packed_a = memory;
  block.packed_b = block.packed_a + sizes.packed_a;
  block.buffer = block.packed_b + sizes.packed_b;
  T* const sums = block.buffer + sizes.buffer;
  T* const turned = sums + sizes.sums;

  block.row = chunk % p.row_blocks * p.block_rows;
  chunk /= p.row_blocks;
  block.column = chunk % p.column_blocks * p.block_columns;
  chunk /= p.column_blocks;
  const int64_t part = chunk % p.part_count;
  const int64_t first_batch = chunk / p.part_count * p.group;
  block.rows = smaller(p.block_rows, p.m - block.row);
  block.columns = smaller(p.block_columns, p.n - block.column);
  const int64_t first_slice = part * p.part_slices;
  const int64_t last_slice = smaller(first_slice + p.part_slices, p.slices);

  const S* const bias = static_cast<const S*>(p.bias);
  for (int64_t i = first_batch; i < smaller(first_batch + p.group, p.batch); ++i) {
    const S* const a = static_cast<const S*>(p.a) + i * p.a_batch;
    const S* const b = static_cast<const S*>(p.b) + i * p.b_batch;
    S* const c = static_cast<S*>(p.c) + i * p.c_batch;
    if (p.parts) {
      block.stride = p.n;
      block.target = static_cast<T*>(p.parts) + (part * p.batch + i) * p.m * p.n + block.row * p.n +
                     block.column;
      multiply_block<T, S>(p, block, a, b, nullptr, first_slice, last_slice, false, false, false);
    } else if (is_direct<T, S>(p)) {
      block.stride = p.c_row;
      block.target = reinterpret_cast<T*>(c) + block.row * p.c_row + block.column;
      multiply_block<T, S>(p, block, a, b,
                           bias ? reinterpret_cast<const T*>(bias) + block.column : nullptr,
                           first_slice, last_slice, p.add, p.relu, p.ending.due());
    } else {
      block.stride = round_up(block.columns, kLanes<T>);
      block.target = sums;
      multiply_block<T, S>(p, block, a, b, nullptr, first_slice, last_slice, false, false, false);
      if (p.swapped) {
        const int64_t width = round_up(block.rows, kLanes<T>);
        transpose_panel(sums, block.stride, block.rows, block.columns, turned, width);
        finish_rows<T, S>(turned, width, c + block.column * p.c_row + block.row, p.c_row,
                          bias ? bias + block.row : nullptr, block.columns, block.rows, p);
      } else {
        finish_rows<T, S>(sums, block.stride, c + block.row * p.c_row + block.column, p.c_row,
                          bias ? bias + block.column : nullptr, block.rows, block.columns, p);
      }
    }
  }
  restore_subnormals(before);
}

// Adds the parts of k in order; a chunk takes some rows of C.
constexpr int64_t kPartRows = 16;

template <class T, class S>
void add_parts_kernel(const void* args, int64_t chunk) {
  const Product& p = *static_cast<const Product*>(args);
  const int64_t blocks = divide_up(p.m, kPartRows);
  const int64_t i = chunk / blocks, end = smaller((chunk % blocks + 1) * kPartRows, p.m);
  T* const parts = static_cast<T*>(p.parts);
  for (int64_t row = chunk % blocks * kPartRows; row < end; ++row) {
    T* const sums = parts + (i * p.m + row) * p.n;
    for (int64_t part = 1; part < p.part_count; ++part) {
      const T* const more = sums + part * p.batch * p.m * p.n;
#pragma GCC ivdep
      for (int64_t j = 0; j < p.n; ++j) sums[j] += more[j];
    }
    finish_rows<T, S>(sums, p.n, static_cast<S*>(p.c) + i * p.c_batch + row * p.c_row, p.c_row,
                      static_cast<const S*>(p.bias), 1, p.n, p);
  }
}

template <class T, class S>
void multiply_range(Stream& stream, const GemmArgs& g) {
  Product p = plan_product<T, S>(g);
  const int64_t size_a = p.row_blocks * p.slices * packed_rows_size<T>(p);
  const int64_t size_b = p.slices * p.slice * round_up(p.n, kLanes<T>);
  const bool share_a = p.pack_a && p.batch == 1 && p.column_blocks > 2 &&
                       size_a <= kSharedBytes / static_cast<int64_t>(sizeof(T));
  const bool share_b = p.pack_b && p.batch == 1 && p.row_blocks > 2 &&
                       size_b <= kSharedBytes / static_cast<int64_t>(sizeof(T));
  const int64_t size_parts = p.part_count > 1 ? p.part_count * p.batch * p.m * p.n : 0;
  const Scratch shared_a(stream, share_a ? sizeof(T) * size_a : 0);
  const Scratch shared_b(stream, share_b ? sizeof(T) * size_b : 0);
  const Scratch parts(stream, sizeof(T) * size_parts);
  p.shared_a = shared_a.data();
  p.shared_b = shared_b.data();
  p.parts = parts.data();
  if (share_a || share_b) {
    const int64_t chunks =
        (share_a ? p.row_blocks * p.slices : 0) + (share_b ? p.column_blocks * p.slices : 0);
    launch(stream, "gemm_pack", pack_kernel<T, S>, &p, sizeof p, chunks);
  }
  launch(stream, "gemm", gemm_kernel<T, S>, &p, sizeof p,
         p.row_blocks * p.column_blocks * divide_up(p.batch, p.group) * p.part_count);
  if (size_parts) {
    launch(stream, "gemm_parts", add_parts_kernel<T, S>, &p, sizeof p,
           p.batch * divide_up(p.m, kPartRows));
  }
}

template <class T, class S>
void multiply(Stream& stream, const GemmArgs& g) {
  constexpr bool kNative = sizeof(T) == sizeof(S);
  if constexpr (kNative) {
    if (g.m == 1 || g.n == 1) return multiply_vector<T>(stream, g);
  }
  if (g.batch == 1 && g.m > 2 * kBlock && g.n > kBlock &&
      g.k * g.n > kSharedBytes / static_cast<int64_t>(sizeof(T))) {
    // One range of columns after the other, so that a range of B can be packed once for all.
    const int64_t fitting = kSharedBytes / static_cast<int64_t>(sizeof(T)) / g.k;
    const int64_t step = larger(1, fitting / kBlock) * kBlock;
    for (int64_t column = 0; column < g.n; column += step) {
      GemmArgs range = g;
      range.n = smaller(step, g.n - column);
      range.b = static_cast<const S*>(g.b) + column * g.b_col;
      range.c = static_cast<S*>(g.c) + column;
      if (g.bias) range.bias = static_cast<const S*>(g.bias) + column;
      if (g.residual) range.residual = static_cast<const S*>(g.residual) + column;
      if (g.before) range.before = static_cast<S*>(g.before) + column;
      multiply_range<T, S>(stream, range);
    }
    return;
  }
  multiply_range<T, S>(stream, g);
}

void sum_rows(Stream& stream, const GemmArgs& args) {
  const Scratch sums(stream, args.accumulate ? item_size(args.dtype) * args.m : 0);
  sum_rows_apart(stream, args, sums.data(), reduce_family, binary_family);
}

void gemm(Stream& stream, const GemmArgs& args) {
  if (args.a_sums) sum_rows(stream, args);
  if (args.m <= 0 || args.n <= 0 || args.batch <= 0) return;
  if (args.k == 0 && args.accumulate) return;
  if (!is_float(args.dtype)) return multiply_integers(stream, args);
  with_floats("matmul", args.dtype, [&](auto zero, auto stored) {
    multiply<decltype(zero), decltype(stored)>(stream, args);
  });
}

}  // namespace

extern const GemmFamily gemm_family;
const GemmFamily gemm_family = {gemm};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
