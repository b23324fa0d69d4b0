// dst = src for any layouts and dtypes of one shape.
//
// Contiguous: memcpy or one conversion loop per pair of dtypes. Strided: rows are gathered into a
// block, converted, scattered. A swap of the unit-stride dimension (transposes, NCHW to NHWC) goes
// tile by tile through a buffer, so that both sides are read and written in whole cache lines.
// Cost: N elements read and written: bandwidth-bound.
// Measured on 1M floats, one Xeon core: as they are 25 GB/s (memcpy 25), transposed 12, to and from
// the half types 20 to 25.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTile = 32;           // a tile's side
constexpr int64_t kTilesPerChunk = 32;  // 32 tiles of 32·32 elements: kChunk
constexpr int64_t kShortestTiled = 8;   // dimensions below this are copied by rows

// dst[i] = src[i], contiguous, from one storage type to another.
using Convert = void (*)(const void* src, void* dst, int64_t n);

template <class S, class D>
void convert(const void* src, void* dst, int64_t n) {
  const S* from = static_cast<const S*>(src);
  D* to = static_cast<D*>(dst);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = Conversion<D, S>::convert(from[i]);
}

#define NODEGRAD_CONVERT_FROM(S)                                                        \
  {                                                                                     \
    convert<S, float>, convert<S, double>, convert<S, BFloat16>, convert<S, Float16>,   \
        convert<S, int32_t>, convert<S, int64_t>, convert<S, uint8_t>, convert<S, Bool> \
  }
constexpr Convert kConvert[kDTypes][kDTypes] = {
    NODEGRAD_CONVERT_FROM(float),   NODEGRAD_CONVERT_FROM(double),  NODEGRAD_CONVERT_FROM(BFloat16),
    NODEGRAD_CONVERT_FROM(Float16), NODEGRAD_CONVERT_FROM(int32_t), NODEGRAD_CONVERT_FROM(int64_t),
    NODEGRAD_CONVERT_FROM(uint8_t), NODEGRAD_CONVERT_FROM(Bool)};

// Elements moved as they are, by size; memcpy, since they may be of any type.
using MoveRow = void (*)(const void* src, int64_t src_stride, void* dst, int64_t dst_stride,
                         int64_t n);

template <class Raw>
void move_row(const void* src, int64_t src_stride, void* dst, int64_t dst_stride, int64_t n) {
  constexpr int64_t bytes = sizeof(Raw);
  if (src_stride == 1 && dst_stride == 1) {
    __builtin_memcpy(dst, src, static_cast<size_t>(n * bytes));
  } else {
    for (int64_t i = 0; i < n; ++i) {
      __builtin_memcpy(advance_by(dst, i * dst_stride * bytes),
                       advance_by(src, i * src_stride * bytes), sizeof(Raw));
    }
  }
}

MoveRow row_mover(size_t bytes) {
  switch (bytes) {
    case 1:
      return move_row<uint8_t>;
    case 2:
      return move_row<uint16_t>;
    case 4:
      return move_row<uint32_t>;
    default:
      return move_row<uint64_t>;
  }
}

struct DenseArgs {
  const void* src;
  void* dst;
  int64_t size;
  int64_t src_bytes, dst_bytes;  // an element's
  Convert convert;               // null where dtypes are the same
};

void dense_kernel(const void* raw, int64_t chunk) {
  const DenseArgs& a = *static_cast<const DenseArgs*>(raw);
  const int64_t begin = chunk * kChunk, n = min_of(kChunk, a.size - begin);
  const void* src = advance_by(a.src, begin * a.src_bytes);
  void* dst = advance_by(a.dst, begin * a.dst_bytes);
  if (a.convert) {
    a.convert(src, dst, n);
  } else {
    __builtin_memmove(dst, src, static_cast<size_t>(n * a.src_bytes));
  }
}

struct StridedArgs {
  const void* src;
  void* dst;
  int64_t src_bytes, dst_bytes;
  Convert convert;  // null where dtypes are the same
  MoveRow move_src, move_dst;
  Space<2> space;  // of src, dst
};

void moving_kernel(const void* raw, int64_t chunk) {
  const StridedArgs& a = *static_cast<const StridedArgs*>(raw);
  const Space<2>& space = a.space;
  int64_t left = min_of(kChunk, space.size - chunk * kChunk);
  Cursor<2> cursor;
  seek(space, chunk * kChunk, cursor);
  while (left > 0) {
    const int64_t run = min_of(space.shape[0] - cursor.index[0], left);
    a.move_src(advance_by(a.src, cursor.offset[0] * a.src_bytes), space.strides[0][0],
               advance_by(a.dst, cursor.offset[1] * a.dst_bytes), space.strides[0][1], run);
    advance(space, run, cursor);
    left -= run;
  }
}

void converting_kernel(const void* raw, int64_t chunk) {
  const StridedArgs& a = *static_cast<const StridedArgs*>(raw);
  const Space<2>& space = a.space;
  alignas(64) unsigned char gathered[kBlock * 8];
  alignas(64) unsigned char converted[kBlock * 8];
  int64_t left = min_of(kChunk, space.size - chunk * kChunk);
  Cursor<2> read, write;
  seek(space, chunk * kChunk, read);
  write = read;
  while (left > 0) {
    const int64_t block = min_of(kBlock, left);
    for (int64_t n = 0; n < block;) {
      const int64_t run = min_of(space.shape[0] - read.index[0], block - n);
      a.move_src(advance_by(a.src, read.offset[0] * a.src_bytes), space.strides[0][0],
                 gathered + n * a.src_bytes, 1, run);
      advance(space, run, read);
      n += run;
    }
    a.convert(gathered, converted, block);
    for (int64_t n = 0; n < block;) {
      const int64_t run = min_of(space.shape[0] - write.index[0], block - n);
      a.move_dst(converted + n * a.dst_bytes, 1, advance_by(a.dst, write.offset[1] * a.dst_bytes),
                 space.strides[0][1], run);
      advance(space, run, write);
      n += run;
    }
    left -= block;
  }
}

struct TransposeArgs {
  const void* src;
  void* dst;
  int64_t rows, columns;       // src has stride 1 along rows' index, dst along columns'
  int64_t src_step, dst_step;  // src's stride along columns' index, dst's along rows'
  int64_t row_tiles, column_tiles, tiles;
  Space<2> outer;
};

template <class Raw>
using Tile = Raw[kTile][kTile + 16 / sizeof(Raw)];  // padded: columns fall into other cache sets

// tile[r][c] = src[c·step + r].
template <class Raw>
void load_tile(const void* src, int64_t step, int64_t rows, int64_t columns, Tile<Raw>& tile) {
  for (int64_t c = 0; c < columns; ++c) {
    const void* line = advance_by(src, c * step * static_cast<int64_t>(sizeof(Raw)));
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(&tile[r][c], advance_by(line, r * static_cast<int64_t>(sizeof(Raw))),
                       sizeof(Raw));
    }
  }
}

// The same for whole tiles of 4-byte elements, four by four in registers.
void load_whole_tile(const void* src, int64_t step, Tile<uint32_t>& tile) {
  typedef uint32_t Four __attribute__((vector_size(16)));
  for (int64_t c = 0; c < kTile; c += 4) {
    for (int64_t r = 0; r < kTile; r += 4) {
      Four x[4];
      for (int64_t k = 0; k < 4; ++k) {
        __builtin_memcpy(&x[k], advance_by(src, ((c + k) * step + r) * 4), 16);
      }
      const Four y[4] = {{x[0][0], x[1][0], x[2][0], x[3][0]},
                         {x[0][1], x[1][1], x[2][1], x[3][1]},
                         {x[0][2], x[1][2], x[2][2], x[3][2]},
                         {x[0][3], x[1][3], x[2][3], x[3][3]}};
      for (int64_t k = 0; k < 4; ++k) __builtin_memcpy(&tile[r + k][c], &y[k], 16);
    }
  }
}

template <class Raw>
void transpose_kernel(const void* raw, int64_t chunk) {
  const TransposeArgs& a = *static_cast<const TransposeArgs*>(raw);
  constexpr int64_t bytes = sizeof(Raw);
  Tile<Raw> tile;
  const int64_t end = min_of(a.tiles, (chunk + 1) * kTilesPerChunk);
  for (int64_t t = chunk * kTilesPerChunk; t < end; ++t) {
    const int64_t in_plane = t % (a.row_tiles * a.column_tiles);
    Cursor<2> cursor;
    seek(a.outer, t / (a.row_tiles * a.column_tiles), cursor);
    const int64_t r0 = in_plane / a.column_tiles * kTile, c0 = in_plane % a.column_tiles * kTile;
    const int64_t rows = min_of(kTile, a.rows - r0), columns = min_of(kTile, a.columns - c0);
    const void* src = advance_by(a.src, (cursor.offset[0] + r0 + c0 * a.src_step) * bytes);
    void* dst = advance_by(a.dst, (cursor.offset[1] + c0 + r0 * a.dst_step) * bytes);
    const bool whole = rows == kTile && columns == kTile;
    if constexpr (bytes == 4) {
      if (whole) {
        load_whole_tile(src, a.src_step, tile);
      } else {
        load_tile<Raw>(src, a.src_step, rows, columns, tile);
      }
    } else {
      load_tile<Raw>(src, a.src_step, rows, columns, tile);
    }
    for (int64_t r = 0; r < rows; ++r) {
      void* line = advance_by(dst, r * a.dst_step * bytes);
      if (whole) {
        __builtin_memcpy(line, tile[r], kTile * sizeof(Raw));
      } else {
        __builtin_memcpy(line, tile[r], static_cast<size_t>(columns * bytes));
      }
    }
  }
}

Kernel transposer(size_t bytes) {
  switch (bytes) {
    case 1:
      return transpose_kernel<uint8_t>;
    case 2:
      return transpose_kernel<uint16_t>;
    case 4:
      return transpose_kernel<uint32_t>;
    default:
      return transpose_kernel<uint64_t>;
  }
}

// The dimension along which operand k has stride 1, or -1.
int unit_dimension(const Space<2>& space, int k) {
  for (int d = 0; d < space.rank; ++d) {
    if (space.strides[d][k] == 1) return d;
  }
  return -1;
}

// Launches the tiled kernel where src and dst are contiguous along different dimensions.
bool try_transpose(Stream& stream, const View& src, const View& dst, const Space<2>& space) {
  const int row = unit_dimension(space, 0), column = unit_dimension(space, 1);
  if (row < 0 || column < 0 || row == column) return false;
  if (space.shape[row] < kShortestTiled || space.shape[column] < kShortestTiled) return false;
  TransposeArgs args;
  args.src = src.data;
  args.dst = dst.data;
  args.rows = space.shape[row];
  args.columns = space.shape[column];
  args.src_step = space.strides[column][0];
  args.dst_step = space.strides[row][1];
  args.row_tiles = chunk_count(args.rows, kTile);
  args.column_tiles = chunk_count(args.columns, kTile);
  args.outer.rank = 0;
  for (int d = 0; d < space.rank; ++d) {
    if (d != row && d != column) push_dimension(args.outer, space.shape[d], space.strides[d]);
  }
  args.outer.size = space.size / (args.rows * args.columns);
  args.tiles = args.outer.size * args.row_tiles * args.column_tiles;
  launch(stream, "transpose", transposer(item_size(src.dtype)), &args, sizeof args,
         chunk_count(args.tiles, kTilesPerChunk));
  return true;
}

void copy(Stream& stream, const View& src, const View& dst) {
  const int64_t size = element_count(dst);
  if (size == 0) return;
  const bool same = src.dtype == dst.dtype;
  const Convert convert =
      same ? nullptr : kConvert[static_cast<int>(src.dtype)][static_cast<int>(dst.dtype)];
  const int64_t src_bytes = static_cast<int64_t>(item_size(src.dtype));
  const int64_t dst_bytes = static_cast<int64_t>(item_size(dst.dtype));
  if (is_contiguous(src) && is_contiguous(dst)) {
    const DenseArgs args = {src.data, dst.data, size, src_bytes, dst_bytes, convert};
    launch(stream, "copy", dense_kernel, &args, sizeof args, chunk_count(size));
    return;
  }
  StridedArgs args;
  const View* const views[2] = {&src, &dst};
  make_space(args.space, views, dst);
  if (same && try_transpose(stream, src, dst, args.space)) return;
  args.src = src.data;
  args.dst = dst.data;
  args.src_bytes = src_bytes;
  args.dst_bytes = dst_bytes;
  args.convert = convert;
  args.move_src = row_mover(item_size(src.dtype));
  args.move_dst = row_mover(item_size(dst.dtype));
  launch(stream, "copy", same ? moving_kernel : converting_kernel, &args, sizeof args,
         chunk_count(size));
}

}  // namespace

extern const CopyFamily copy_family;
const CopyFamily copy_family = {copy};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
