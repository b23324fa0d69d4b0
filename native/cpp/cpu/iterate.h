// Iteration over strided operands, shared by the families, and `map`: elementwise kernels on top.
//
// A Space is the iteration space of up to K operands of one shape, innermost dimension first, with
// neighbouring dimensions merged wherever every operand allows it. A Cursor walks it row by row.
//
// `map` runs a compute function over contiguous blocks. Where every operand is contiguous and
// stored as it computes, the blocks are the tensors themselves, cut in chunks. Otherwise rows are
// loaded (gathered, broadcast, converted) into small buffers that stay in the first-level cache,
// so that no compute function knows of strides or storage types.
#pragma once

#include "core/view.h"
#include "cpu/convert.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

#define NODEGRAD_ITERATE static inline __attribute__((unused))

constexpr int64_t kChunk = 32768;  // elements a chunk
constexpr int64_t kBlock = 512;    // elements a buffer
constexpr int64_t kLongRow = 64;   // rows from this length on are computed one by one

NODEGRAD_ITERATE int64_t chunk_count(int64_t n, int64_t per_chunk = kChunk) {
  return (n + per_chunk - 1) / per_chunk;
}
NODEGRAD_ITERATE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
NODEGRAD_ITERATE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
NODEGRAD_ITERATE const void* advance_by(const void* p, int64_t bytes) {
  return static_cast<const unsigned char*>(p) + bytes;
}
NODEGRAD_ITERATE void* advance_by(void* p, int64_t bytes) {
  return static_cast<unsigned char*>(p) + bytes;
}

template <int K>
struct Space {
  int64_t size;
  int32_t rank;  // at least 1
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank][K];
};

// Appends a dimension outside the ones there, merging it where it continues the last.
template <int K>
static void push_dimension(Space<K>& space, int64_t length, const int64_t (&strides)[K]) {
  if (length == 1) return;
  if (space.rank > 0) {
    const int last = space.rank - 1;
    bool continues = true;
    for (int k = 0; k < K; ++k) {
      continues &= strides[k] == space.strides[last][k] * space.shape[last];
    }
    if (continues) {
      space.shape[last] *= length;
      return;
    }
  }
  space.shape[space.rank] = length;
  for (int k = 0; k < K; ++k) space.strides[space.rank][k] = strides[k];
  ++space.rank;
}

// Gives a space without dimensions its one element.
template <int K>
static void pad_rank(Space<K>& space) {
  if (space.rank > 0) return;
  space.rank = 1;
  space.shape[0] = 1;
  for (int k = 0; k < K; ++k) space.strides[0][k] = 1;
}

// A null view has stride 0 throughout.
template <int K>
static void make_space(Space<K>& space, const View* const (&views)[K], const View& shape) {
  space.rank = 0;
  space.size = element_count(shape);
  for (int i = shape.rank - 1; i >= 0; --i) {
    int64_t strides[K];
    for (int k = 0; k < K; ++k) strides[k] = views[k] ? views[k]->strides[i] : 0;
    push_dimension(space, shape.shape[i], strides);
  }
  pad_rank(space);
}

template <int K>
struct Cursor {
  int64_t index[kMaxRank];
  int64_t offset[K];  // in elements
};

template <int K>
static void seek(const Space<K>& space, int64_t position, Cursor<K>& cursor) {
  for (int k = 0; k < K; ++k) cursor.offset[k] = 0;
  for (int d = 0; d < space.rank; ++d) {
    const int64_t index = position == 0 ? 0 : position % space.shape[d];
    position = position == 0 ? 0 : position / space.shape[d];
    cursor.index[d] = index;
    for (int k = 0; k < K; ++k) cursor.offset[k] += index * space.strides[d][k];
  }
}

// Moves on by `run` elements within the innermost dimension, and to the next row at its end.
template <int K>
static void advance(const Space<K>& space, int64_t run, Cursor<K>& cursor) {
  cursor.index[0] += run;
  for (int k = 0; k < K; ++k) cursor.offset[k] += run * space.strides[0][k];
  for (int d = 0; cursor.index[d] == space.shape[d] && d + 1 < space.rank; ++d) {
    cursor.index[d] = 0;
    ++cursor.index[d + 1];
    for (int k = 0; k < K; ++k) {
      cursor.offset[k] += space.strides[d + 1][k] - space.shape[d] * space.strides[d][k];
    }
  }
}

// out[i] = f(in[0][i], …) for contiguous arrays of arithmetic types; out may be one of them.
using Compute = void (*)(const void* const* in, void* out, int64_t n);

constexpr int kMaxInputs = 3;

struct Map {
  const char* name;
  Compute compute;
  bool stores_bool;   // compute writes bytes of 0 and 1 itself
  int constant;       // the input that is `value` throughout, or -1
  DType value_dtype;  // as it computes
  alignas(8) unsigned char value[8];
};

struct DenseMap {
  Compute compute;
  int64_t size;
  void* out;
  int64_t out_bytes;
  int64_t inputs;
  const void* in[kMaxInputs];
  int64_t in_bytes[kMaxInputs];
};

static __attribute__((unused)) void dense_map_kernel(const void* raw, int64_t chunk) {
  const DenseMap& m = *static_cast<const DenseMap*>(raw);
  const int64_t begin = chunk * kChunk, end = min_of(m.size, begin + kChunk);
  const void* in[kMaxInputs];
  for (int k = 0; k < m.inputs; ++k) in[k] = advance_by(m.in[k], begin * m.in_bytes[k]);
  m.compute(in, advance_by(m.out, begin * m.out_bytes), end - begin);
}

enum class Source : uint8_t {
  dense,     // contiguous and stored as it computes: read where it lies
  repeated,  // a number, or a short row repeated: one buffer serves a whole chunk
  gathered,  // loaded row by row
};

struct MapInput {
  const void* data;  // null: StridedMap::value
  LoadRow load;
  int64_t stored_bytes;
  int64_t computed_bytes;
  int64_t period;  // of repeated inputs
  Source source;
  bool in_place;  // long rows of stride 1 may be read where they lie
};

struct StridedMap {
  Compute compute;
  void* out;
  int64_t out_bytes;
  StoreRow store;  // null: compute writes the output itself
  int32_t inputs;
  bool gathers;
  alignas(8) unsigned char value[8];
  MapInput in[kMaxInputs];
  Space<kMaxInputs> space;
};

// A block, and the rest of the period in which it may begin.
using MapBuffer = unsigned char[(kBlock + kLongRow) * 8];

NODEGRAD_ITERATE void load_repeated(const MapInput& input, const void* value, int64_t stride,
                                    int64_t n, MapBuffer& buffer) {
  if (!input.data) {
    input.load(value, 0, buffer, n);
    return;
  }
  for (int64_t i = 0; i < n + input.period; i += input.period) {
    input.load(input.data, stride, buffer + i * input.computed_bytes,
               min_of(input.period, n + input.period - i));
  }
}

static __attribute__((unused)) void strided_map_kernel(const void* raw, int64_t chunk) {
  const StridedMap& m = *static_cast<const StridedMap*>(raw);
  const Space<kMaxInputs>& space = m.space;
  alignas(64) MapBuffer buffers[kMaxInputs];
  alignas(64) unsigned char result[kBlock * 8];
  const void* in[kMaxInputs];
  int64_t at = chunk * kChunk;
  const int64_t end = min_of(space.size, at + kChunk);
  for (int k = 0; k < m.inputs; ++k) {
    if (m.in[k].source == Source::repeated) {
      load_repeated(m.in[k], m.value, space.strides[0][k], min_of(kBlock, end - at), buffers[k]);
    }
  }
  Cursor<kMaxInputs> cursor;
  if (m.gathers) seek(space, at, cursor);
  const bool long_rows = space.shape[0] >= kLongRow;
  while (at < end) {
    const int64_t limit = min_of(kBlock, end - at);
    for (int k = 0; k < m.inputs; ++k) {
      const MapInput& input = m.in[k];
      const int64_t phase = input.period > 1 ? at % input.period : 0;
      in[k] = input.source == Source::dense ? advance_by(input.data, at * input.stored_bytes)
                                            : buffers[k] + phase * input.computed_bytes;
    }
    int64_t n = m.gathers ? 0 : limit;
    while (n < limit) {
      const int64_t run = min_of(space.shape[0] - cursor.index[0], limit - n);
      for (int k = 0; k < m.inputs; ++k) {
        const MapInput& input = m.in[k];
        if (input.source != Source::gathered) continue;
        const int64_t stride = space.strides[0][k];
        const void* row = advance_by(input.data, cursor.offset[k] * input.stored_bytes);
        if (long_rows && input.in_place && stride == 1) {
          in[k] = row;
        } else {
          input.load(row, stride, buffers[k] + n * input.computed_bytes, run);
        }
      }
      n += run;
      advance(space, run, cursor);
      if (long_rows) break;
    }
    void* out = advance_by(m.out, at * m.out_bytes);
    m.compute(in, m.store ? result : out, n);
    if (m.store) m.store(result, out, n);
    at += n;
  }
}

NODEGRAD_ITERATE MapInput map_input(const Map& m, const View* view, int k,
                                    const Space<kMaxInputs>& space) {
  const DType dtype = view ? view->dtype : m.value_dtype;
  const int64_t length = space.shape[0];
  MapInput input;
  input.data = view ? view->data : nullptr;
  input.load = row_loader(dtype);
  input.stored_bytes = static_cast<int64_t>(item_size(dtype));
  input.computed_bytes = static_cast<int64_t>(arithmetic_bytes(dtype));
  input.in_place = reads_in_place(dtype);
  input.period = 1;
  input.source = Source::gathered;
  if (!view) {
    input.source = Source::repeated;
  } else if (input.in_place && is_contiguous(*view)) {
    input.source = Source::dense;
  } else if (space.rank == 2 && space.strides[1][k] == 0 && length < kLongRow) {
    input.source = Source::repeated;
    input.period = length;
  }
  return input;
}

// Runs a compute function over views of out's shape (null for the constant); out is contiguous.
NODEGRAD_ITERATE void map(Stream& stream, const Map& m, const View* const (&in)[kMaxInputs],
                          int inputs, const View& out) {
  const StoreRow store = m.stores_bool ? nullptr : row_storer(out.dtype);
  bool dense = store == nullptr && m.constant < 0;
  for (int k = 0; k < inputs && dense; ++k) {
    dense = reads_in_place(in[k]->dtype) && is_contiguous(*in[k]);
  }
  if (dense) {
    DenseMap args;
    args.compute = m.compute;
    args.size = element_count(out);
    if (args.size == 0) return;
    args.out = out.data;
    args.out_bytes = static_cast<int64_t>(item_size(out.dtype));
    args.inputs = inputs;
    for (int k = 0; k < inputs; ++k) {
      args.in[k] = in[k]->data;
      args.in_bytes[k] = static_cast<int64_t>(item_size(in[k]->dtype));
    }
    launch(stream, m.name, dense_map_kernel, &args, sizeof args, chunk_count(args.size));
    return;
  }
  StridedMap args;
  make_space(args.space, in, out);
  if (args.space.size == 0) return;
  args.compute = m.compute;
  args.out = out.data;
  args.out_bytes = static_cast<int64_t>(item_size(out.dtype));
  args.store = store;
  args.inputs = inputs;
  args.gathers = false;
  __builtin_memcpy(args.value, m.value, sizeof args.value);
  for (int k = 0; k < inputs; ++k) {
    args.in[k] = map_input(m, in[k], k, args.space);
    args.gathers |= args.in[k].source == Source::gathered;
  }
  launch(stream, m.name, strided_map_kernel, &args, sizeof args, chunk_count(args.space.size));
}

#undef NODEGRAD_ITERATE

}  // namespace nodegrad::cpu::NODEGRAD_ISA
