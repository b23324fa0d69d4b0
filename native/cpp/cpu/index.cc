// Rows by index: out[i,:] = x[index[i],:], and out[index[i],:] += src[i,:].
//
// Adding is deterministic and parallel: a first pass links the positions i that hit each row of
// out, in ascending order (head [R] and next [I] in scratch); then each row of out walks its list
// alone, in float32 for the half types, rounding once. Small adds skip the lists.
// Cost: I·D elements read and written; the lists take R + I words of 8 bytes.
#include "core/backend.h"
#include "core/missing.h"
#include "cpu/iterate.h"
#include "cpu/vector.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kRowsPerChunk = 4096;  // at most, when adding

int64_t row_size(const View& v) {
  int64_t n = 1;
  for (int i = 1; i < v.rank; ++i) n *= v.shape[i];
  return n;
}

struct SelectArgs {
  const void* x;
  const int64_t* index;
  void* out;
  int64_t rows;                               // of x
  int64_t count, rows_per_chunk;              // of out
  int64_t row_bytes, row_step, index_stride;  // bytes, bytes, elements
  uint64_t missing;                           // bits of an element outside: NaN or 0
  int64_t bytes;                              // an element's
};

void select_kernel(const void* raw, int64_t chunk) {
  const SelectArgs& a = *static_cast<const SelectArgs*>(raw);
  const int64_t last = min_of(a.count, (chunk + 1) * a.rows_per_chunk);
  for (int64_t i = chunk * a.rows_per_chunk; i < last; ++i) {
    const int64_t row = a.index[i * a.index_stride];
    void* to = advance_by(a.out, i * a.row_bytes);
    if (row >= 0 && row < a.rows) {
      const void* from = advance_by(a.x, row * a.row_step);
      switch (a.row_bytes) {  // single elements are frequent: no call for them
        case 4:
          __builtin_memcpy(to, from, 4);
          break;
        case 8:
          __builtin_memcpy(to, from, 8);
          break;
        default:
          __builtin_memcpy(to, from, static_cast<size_t>(a.row_bytes));
      }
    } else {
      for (int64_t at = 0; at < a.row_bytes; at += a.bytes) {
        __builtin_memcpy(advance_by(to, at), &a.missing, static_cast<size_t>(a.bytes));
      }
    }
  }
}

void select(Stream& stream, const View& x, const View& index, const View& out) {
  SelectArgs a;
  a.bytes = static_cast<int64_t>(item_size(x.dtype));
  a.count = index.shape[0];
  a.row_bytes = row_size(x) * a.bytes;
  if (a.count == 0 || a.row_bytes == 0) return;
  a.x = x.data;
  a.index = static_cast<const int64_t*>(index.data);
  a.out = out.data;
  a.rows = x.shape[0];
  a.row_step = x.strides[0] * a.bytes;
  a.index_stride = index.strides[0];
  a.missing = missing_bits(x.dtype);
  a.rows_per_chunk = max_of(1, kChunk * a.bytes / a.row_bytes);
  launch(stream, "index_select", select_kernel, &a, sizeof a,
         chunk_count(a.count, a.rows_per_chunk));
}

struct AddArgs {
  const void* src;
  const int64_t* index;
  void* out;
  int64_t* head;  // [rows]: the first position of each row, or -1
  int64_t* next;  // [count]: the next position of the same row, or -1
  int64_t rows, count, columns, rows_per_chunk;
  int64_t index_stride;
  Space<1> source_row;  // a row of src
  int64_t source_step;  // between rows of src, in elements
  LoadRow load;
  StoreRow store;  // null: elements are added in place
  void (*add)(const void* values, void* sums, int64_t n);
  int64_t stored_bytes, computed_bytes;
};

template <class T>
void add_values(const void* values, void* sums, int64_t n) {
  using N = typename Number<T>::Type;
  const T* from = static_cast<const T*>(values);
  T* to = static_cast<T*>(sums);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = Number<T>::unwrap(N(to[i]) + N(from[i]));
}

constexpr void (*kAdd[kArithmetics])(const void*, void*, int64_t) = {
    add_values<float>, add_values<double>, add_values<int32_t>, add_values<int64_t>,
    add_values<uint8_t>};

// sums[0 … n - 1] += src[i, column … column + n - 1].
void add_row(const AddArgs& a, int64_t i, int64_t column, int64_t n, void* sums) {
  alignas(64) unsigned char buffer[kBlock * 8];
  const void* row = advance_by(a.src, i * a.source_step * a.stored_bytes);
  const int64_t stride = a.source_row.strides[0][0];
  if (a.source_row.rank == 1 && stride == 1 && !a.store) {
    a.add(advance_by(row, column * a.stored_bytes), sums, n);
    return;
  }
  Cursor<1> cursor;
  seek(a.source_row, column, cursor);
  for (int64_t done = 0; done < n;) {
    const int64_t run = min_of(a.source_row.shape[0] - cursor.index[0], n - done);
    a.load(advance_by(row, cursor.offset[0] * a.stored_bytes), stride,
           buffer + done * a.computed_bytes, run);
    advance(a.source_row, run, cursor);
    done += run;
  }
  a.add(buffer, sums, n);
}

void add_in_order_kernel(const void* raw, int64_t) {
  const AddArgs& a = *static_cast<const AddArgs*>(raw);
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t row = a.index[i * a.index_stride];
    if (row < 0 || row >= a.rows) continue;
    for (int64_t column = 0; column < a.columns; column += kBlock) {
      add_row(a, i, column, min_of(kBlock, a.columns - column),
              advance_by(a.out, (row * a.columns + column) * a.stored_bytes));
    }
  }
}

void link_kernel(const void* raw, int64_t) {
  const AddArgs& a = *static_cast<const AddArgs*>(raw);
  for (int64_t r = 0; r < a.rows; ++r) a.head[r] = -1;
  for (int64_t i = a.count - 1; i >= 0; --i) {
    const int64_t row = a.index[i * a.index_stride];
    if (row < 0 || row >= a.rows) continue;
    a.next[i] = a.head[row];
    a.head[row] = i;
  }
}

void add_lists_kernel(const void* raw, int64_t chunk) {
  const AddArgs& a = *static_cast<const AddArgs*>(raw);
  alignas(64) unsigned char sums[kBlock * 8];
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t r = chunk * a.rows_per_chunk; r < last; ++r) {
    if (a.head[r] < 0) continue;
    for (int64_t column = 0; column < a.columns; column += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - column);
      void* out = advance_by(a.out, (r * a.columns + column) * a.stored_bytes);
      if (a.store) a.load(out, 1, sums, n);
      for (int64_t i = a.head[r]; i >= 0; i = a.next[i]) {
        add_row(a, i, column, n, a.store ? sums : out);
      }
      if (a.store) a.store(sums, out, n);
    }
  }
}

void add(Stream& stream, const View& src, const View& index, const View& out) {
  AddArgs a;
  a.count = index.shape[0];
  a.rows = out.shape[0];
  a.columns = row_size(out);
  if (a.count == 0 || a.rows == 0 || a.columns == 0) return;
  a.src = src.data;
  a.index = static_cast<const int64_t*>(index.data);
  a.out = out.data;
  a.index_stride = index.strides[0];
  a.source_row.rank = 0;
  a.source_row.size = a.columns;
  for (int i = src.rank - 1; i >= 1; --i) {
    const int64_t strides[1] = {src.strides[i]};
    push_dimension(a.source_row, src.shape[i], strides);
  }
  pad_rank(a.source_row);
  a.source_step = src.strides[0];
  a.load = row_loader(src.dtype);
  a.store = row_storer(src.dtype);
  a.add = kAdd[arithmetic_of(src.dtype)];
  a.stored_bytes = static_cast<int64_t>(item_size(src.dtype));
  a.computed_bytes = static_cast<int64_t>(arithmetic_bytes(src.dtype));
  if (!a.store && a.count * a.columns <= kChunk) {
    launch(stream, "index_add", add_in_order_kernel, &a, sizeof a, 1);
    return;
  }
  const int64_t work_per_row = max_of(1, a.count * a.columns / a.rows);
  a.rows_per_chunk = max_of(1, min_of(kRowsPerChunk, kChunk / work_per_row));
  const Scratch lists(stream, static_cast<size_t>(a.rows + a.count) * sizeof(int64_t));
  a.head = static_cast<int64_t*>(lists.data());
  a.next = a.head + a.rows;
  launch(stream, "index_link", link_kernel, &a, sizeof a, 1);
  launch(stream, "index_add", add_lists_kernel, &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

}  // namespace

extern const IndexFamily index_family;
const IndexFamily index_family = {select, add};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
