// Gradients of looked-up rows: dweight[index[i], :] = Σ dy[i, :], or added to what is there.
//
// A first launch links the positions that hit each row, in ascending order (head [V] and next [I]
// in scratch). Written afresh, each row of dweight then walks its own list, or becomes zeros; added
// to, the first position of each list walks it, so that rows without an index are not touched.
// Sums in float32 or float64, rounded once for the half types; lists keep their order, so that
// results do not depend on threads.
// Cost: dy read once; dweight written once, or its touched rows read and written.
#include "core/backend.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct EmbeddingArgs {
  const void* dy;
  const int64_t* index;
  void* out;
  int64_t* head;  // [rows]: the first position of each row, or -1
  int64_t* next;  // [count]: the next position of the same row, or -1
  int64_t rows, count, columns, padding, bytes;
  int64_t units_per_chunk;  // rows, or positions
  LoadRow load;
  StoreRow store;  // null: elements are added in place
  bool accumulate;
};

bool counts(const EmbeddingArgs& a, int64_t row) {
  return row >= 0 && row < a.rows && row != a.padding;
}

void link_kernel(const void* raw, int64_t) {
  const EmbeddingArgs& a = *static_cast<const EmbeddingArgs*>(raw);
  for (int64_t r = 0; r < a.rows; ++r) a.head[r] = -1;
  for (int64_t i = a.count - 1; i >= 0; --i) {
    const int64_t row = a.index[i];
    if (!counts(a, row)) continue;
    a.next[i] = a.head[row];
    a.head[row] = i;
  }
}

template <class T>
void add_row(const T* from, T* sums, int64_t n) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) sums[j] += from[j];
}

// Row r of dweight from the list that begins at position i.
template <class T>
void sum_list(const EmbeddingArgs& a, int64_t r, int64_t i) {
  alignas(64) T buffer[kBlock], values[kBlock];
  for (int64_t c = 0; c < a.columns; c += kBlock) {
    const int64_t n = min_of(kBlock, a.columns - c);
    void* out = advance_by(a.out, (r * a.columns + c) * a.bytes);
    T* sums = a.store ? buffer : static_cast<T*>(out);
    int64_t k = i;
    const auto row = [&](int64_t at) { return advance_by(a.dy, (at * a.columns + c) * a.bytes); };
    if (a.accumulate) {
      if (a.store) a.load(out, 1, sums, n);
    } else {
      a.load(row(k), 1, sums, n);
      k = a.next[k];
    }
    for (; k >= 0; k = a.next[k]) {
      const T* from = static_cast<const T*>(row(k));
      if (a.store) {
        a.load(row(k), 1, values, n);
        from = values;
      }
      add_row(from, sums, n);
    }
    if (a.store) a.store(sums, out, n);
  }
}

template <class T>
void write_kernel(const void* raw, int64_t chunk) {
  const EmbeddingArgs& a = *static_cast<const EmbeddingArgs*>(raw);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.units_per_chunk);
  const int64_t row_bytes = a.columns * a.bytes;
  for (int64_t r = chunk * a.units_per_chunk; r < last; ++r) {
    if (a.head[r] >= 0) {
      sum_list<T>(a, r, a.head[r]);
    } else {
      __builtin_memset(advance_by(a.out, r * row_bytes), 0, static_cast<size_t>(row_bytes));
    }
  }
}

template <class T>
void add_kernel(const void* raw, int64_t chunk) {
  const EmbeddingArgs& a = *static_cast<const EmbeddingArgs*>(raw);
  const int64_t last = min_of(a.count, (chunk + 1) * a.units_per_chunk);
  for (int64_t i = chunk * a.units_per_chunk; i < last; ++i) {
    const int64_t row = a.index[i];
    if (counts(a, row) && a.head[row] == i) sum_list<T>(a, row, i);
  }
}

void backward(Stream& stream, const View& dy, const View& index, int64_t padding, bool accumulate,
              const View& dweight) {
  EmbeddingArgs a{};
  a.dy = dy.data;
  a.index = static_cast<const int64_t*>(index.data);
  a.out = dweight.data;
  a.rows = dweight.shape[0];
  a.count = index.shape[0];
  a.columns = dweight.shape[1];
  a.padding = padding;
  a.accumulate = accumulate;
  a.bytes = static_cast<int64_t>(item_size(dweight.dtype));
  a.load = row_loader(dweight.dtype);
  a.store = row_storer(dweight.dtype);
  const int64_t units = accumulate ? a.count : a.rows;
  if (units == 0 || a.columns == 0) return;
  a.units_per_chunk = max_of(1, kChunk / a.columns);
  const Scratch lists(stream, static_cast<size_t>(a.rows + a.count) * sizeof(int64_t));
  a.head = static_cast<int64_t*>(lists.data());
  a.next = a.head + a.rows;
  const bool wide = dweight.dtype == DType::float64;
  const Kernel sums = accumulate ? (wide ? add_kernel<double> : add_kernel<float>)
                                 : (wide ? write_kernel<double> : write_kernel<float>);
  launch(stream, "embedding_link", link_kernel, &a, sizeof a, 1);
  launch(stream, "embedding_backward", sums, &a, sizeof a, chunk_count(units, a.units_per_chunk));
}

}  // namespace

extern const EmbeddingFamily embedding_family;
const EmbeddingFamily embedding_family = {backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
