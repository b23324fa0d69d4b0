// Elements by index along one axis: out[c] = x[c'], and out[c'] = or += src[c], where c' is c but
// index[c] on the axis; and the coordinates of what is set.
//
// scatter is parallel over lines, the elements that differ on the axis alone: two lines never meet
// in one place, and each goes along the axis in order, so sums are deterministic and of two values
// the later one stays. Neighbouring lines go side by side where memory lies so.
// nonzero: counts of blocks, their running sum, then each block writes its own.
// Cost: I elements and indices read, I elements written (or read and written).
#include "core/backend.h"
#include "core/missing.h"
#include "cpu/iterate.h"
#include "cpu/vector.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kLinesAtOnce = 256;

// The kernel of an instance for a dtype's size.
template <template <class> class F>
Kernel of_size(DType dtype) {
  switch (item_size(dtype)) {
    case 1:
      return F<uint8_t>::run;
    case 2:
      return F<uint16_t>::run;
    case 4:
      return F<uint32_t>::run;
    default:
      return F<uint64_t>::run;
  }
}

struct GatherArgs {
  const void* x;
  const int64_t* index;
  void* out;
  int64_t axis_size, axis_stride;  // of x
  uint64_t missing;
  Space<2> space;  // of index and x, with a stride of 0 along the axis
};

template <class Raw>
struct Gather {
  static void run(const void* raw, int64_t chunk) {
    const GatherArgs& a = *static_cast<const GatherArgs*>(raw);
    const Space<2>& space = a.space;
    const Raw missing = static_cast<Raw>(a.missing);
    const uint64_t size = static_cast<uint64_t>(a.axis_size);
    Raw* out = static_cast<Raw*>(a.out) + chunk * kChunk;
    int64_t left = min_of(kChunk, space.size - chunk * kChunk);
    Cursor<2> cursor;
    seek(space, chunk * kChunk, cursor);
    while (left > 0) {
      const int64_t n = min_of(space.shape[0] - cursor.index[0], left);
      const int64_t* const index = a.index + cursor.offset[0];
      const Raw* const x = static_cast<const Raw*>(a.x) + cursor.offset[1];
      const int64_t step = space.strides[0][0], x_step = space.strides[0][1];
      if (step == 0 && x_step == 1 && static_cast<uint64_t>(*index) < size) {
        __builtin_memcpy(out, x + *index * a.axis_stride, static_cast<size_t>(n) * sizeof(Raw));
      } else {
        for (int64_t i = 0; i < n; ++i) {
          const int64_t at = index[i * step];
          const bool inside = static_cast<uint64_t>(at) < size;
          out[i] = inside ? x[i * x_step + at * a.axis_stride] : missing;
        }
      }
      advance(space, n, cursor);
      out += n;
      left -= n;
    }
  }
};

void gather(Stream& stream, const View& x, const View& index, int axis, const View& out) {
  GatherArgs a;
  a.x = x.data;
  a.index = static_cast<const int64_t*>(index.data);
  a.out = out.data;
  a.axis_size = x.shape[axis];
  a.axis_stride = x.strides[axis];
  a.missing = missing_bits(x.dtype);
  View moved = x;
  moved.strides[axis] = 0;
  const View* const views[2] = {&index, &moved};
  make_space(a.space, views, out);
  if (a.space.size == 0) return;
  launch(stream, "gather", of_size<Gather>(x.dtype), &a, sizeof a, chunk_count(a.space.size));
}

struct ScatterArgs {
  const void* src;
  const int64_t* index;
  void* out;
  int64_t out_size;                              // along the axis
  int64_t index_stride, src_stride, out_stride;  // likewise
  int64_t length, lines_per_chunk;               // of a line; lines
  bool along;                                    // a line at a time
  Space<3> lines;                                // of index, src, out
};

template <class T>
struct Assign {
  using Element = T;
  static void put(T& to, T from) { to = from; }
};
template <class T>
struct Plus {
  using Element = T;
  static void put(T& to, T from) {
    using N = typename Number<T>::Type;
    to = Number<T>::unwrap(N(to) + N(from));
  }
};

template <class Op>
struct Scatter {
  using T = typename Op::Element;

  static void line(const ScatterArgs& a, const int64_t* index, const T* src, T* out, int64_t i) {
    const int64_t at = index[i * a.index_stride];
    if (static_cast<uint64_t>(at) >= static_cast<uint64_t>(a.out_size)) return;
    Op::put(out[at * a.out_stride], src[i * a.src_stride]);
  }

  static void run(const void* raw, int64_t chunk) {
    const ScatterArgs& a = *static_cast<const ScatterArgs*>(raw);
    const Space<3>& lines = a.lines;
    int64_t left = min_of(a.lines_per_chunk, lines.size - chunk * a.lines_per_chunk);
    Cursor<3> cursor;
    seek(lines, chunk * a.lines_per_chunk, cursor);
    while (left > 0) {
      int64_t n = min_of(lines.shape[0] - cursor.index[0], left);
      n = min_of(n, a.along ? 1 : kLinesAtOnce);
      const int64_t* const index = a.index + cursor.offset[0];
      const T* const src = static_cast<const T*>(a.src) + cursor.offset[1];
      T* const out = static_cast<T*>(a.out) + cursor.offset[2];
      const int64_t* const steps = lines.strides[0];
      for (int64_t i = 0; i < a.length; ++i) {
        for (int64_t k = 0; k < n; ++k) {
          line(a, index + k * steps[0], src + k * steps[1], out + k * steps[2], i);
        }
      }
      advance(lines, n, cursor);
      left -= n;
    }
  }
};

template <class Raw>
using Assigned = Scatter<Assign<Raw>>;

Kernel adding_kernel(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return Scatter<Plus<float>>::run;
    case DType::float64:
      return Scatter<Plus<double>>::run;
    case DType::int32:
      return Scatter<Plus<int32_t>>::run;
    case DType::int64:
      return Scatter<Plus<int64_t>>::run;
    default:
      return Scatter<Plus<uint8_t>>::run;
  }
}

void scatter(Stream& stream, const View& src, const View& index, int axis, bool add,
             const View& out) {
  if (element_count(index) == 0) return;
  ScatterArgs a;
  a.src = src.data;
  a.index = static_cast<const int64_t*>(index.data);
  a.out = out.data;
  a.out_size = out.shape[axis];
  a.index_stride = index.strides[axis];
  a.src_stride = src.strides[axis];
  a.out_stride = out.strides[axis];
  a.length = index.shape[axis];
  a.lines.rank = 0;
  a.lines.size = element_count(index) / a.length;
  for (int d = index.rank - 1; d >= 0; --d) {
    if (d == axis) continue;
    const int64_t strides[3] = {index.strides[d], src.strides[d], out.strides[d]};
    push_dimension(a.lines, index.shape[d], strides);
  }
  pad_rank(a.lines);
  a.along = a.index_stride < a.lines.strides[0][0];
  a.lines_per_chunk = max_of(1, kChunk / a.length);
  launch(stream, add ? "scatter_add" : "scatter",
         add ? adding_kernel(out.dtype) : of_size<Assigned>(out.dtype), &a, sizeof a,
         chunk_count(a.lines.size, a.lines_per_chunk));
}

struct NonzeroArgs {
  const uint8_t* mask;
  int64_t* offsets;
  int64_t* out;
  int64_t size, blocks;
  int32_t rank;
  int64_t shape[kMaxRank];
};

void count_kernel(const void* raw, int64_t block) {
  const NonzeroArgs& a = *static_cast<const NonzeroArgs*>(raw);
  const int64_t end = min_of(a.size, (block + 1) * kNonzeroBlock);
  int64_t set = 0;
  for (int64_t i = block * kNonzeroBlock; i < end; ++i) set += a.mask[i] != 0;
  a.offsets[block + 1] = set;
}

void running_sum_kernel(const void* raw, int64_t) {
  const NonzeroArgs& a = *static_cast<const NonzeroArgs*>(raw);
  a.offsets[0] = 0;
  for (int64_t b = 0; b < a.blocks; ++b) a.offsets[b + 1] += a.offsets[b];
}

void nonzero_kernel(const void* raw, int64_t block) {
  const NonzeroArgs& a = *static_cast<const NonzeroArgs*>(raw);
  const int64_t end = min_of(a.size, (block + 1) * kNonzeroBlock);
  int64_t* out = a.out + a.offsets[block] * a.rank;
  for (int64_t i = block * kNonzeroBlock; i < end; ++i) {
    if (!a.mask[i]) continue;
    int64_t rest = i;
    for (int d = a.rank - 1; d >= 0; --d) {
      out[d] = rest % a.shape[d];
      rest /= a.shape[d];
    }
    out += a.rank;
  }
}

NonzeroArgs nonzero_args(const View& mask, const View& offsets) {
  NonzeroArgs a;
  a.mask = static_cast<const uint8_t*>(mask.data);
  a.offsets = static_cast<int64_t*>(offsets.data);
  a.out = nullptr;
  a.size = element_count(mask);
  a.blocks = chunk_count(a.size, kNonzeroBlock);
  a.rank = mask.rank;
  for (int d = 0; d < mask.rank; ++d) a.shape[d] = mask.shape[d];
  return a;
}

void count(Stream& stream, const View& mask, const View& offsets) {
  const NonzeroArgs a = nonzero_args(mask, offsets);
  if (a.blocks > 0) launch(stream, "count_nonzero", count_kernel, &a, sizeof a, a.blocks);
  launch(stream, "running_sum", running_sum_kernel, &a, sizeof a, 1);
}

void nonzero(Stream& stream, const View& mask, const View& offsets, const View& out) {
  NonzeroArgs a = nonzero_args(mask, offsets);
  a.out = static_cast<int64_t*>(out.data);
  if (a.blocks > 0) launch(stream, "nonzero", nonzero_kernel, &a, sizeof a, a.blocks);
}

}  // namespace

extern const GatherFamily gather_family;
const GatherFamily gather_family = {gather, scatter, count, nonzero};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
