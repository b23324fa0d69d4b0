// View: what a kernel sees of a tensor. Plain data, copied by value into launches.
// Strides count elements; a stride of 0 broadcasts. `data` points at the first element.
#pragma once

#include "core/dtype.h"

namespace nodegrad {

constexpr int kMaxRank = 8;

struct View {
  void* data;
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];
  int32_t rank;
  DType dtype;
};

// A host number on its way to a kernel: `real` serves floating dtypes, `integer` the others.
struct Scalar {
  double real;
  int64_t integer;
};

static constexpr int64_t element_count(const View& v) {
  int64_t n = 1;
  for (int i = 0; i < v.rank; ++i) n *= v.shape[i];
  return n;
}

static constexpr bool is_contiguous(const View& v) {
  int64_t expected = 1;
  for (int i = v.rank - 1; i >= 0; --i) {
    if (v.shape[i] == 0) return true;
    if (v.shape[i] != 1 && v.strides[i] != expected) return false;
    expected *= v.shape[i];
  }
  return true;
}

// [n,c,…] with its channels at the end: [n,…,c].
static constexpr View channels_to_end(const View& v) {
  View moved = v;
  for (int i = 1; i + 1 < v.rank; ++i) {
    moved.shape[i] = v.shape[i + 1];
    moved.strides[i] = v.strides[i + 1];
  }
  moved.shape[v.rank - 1] = v.shape[1];
  moved.strides[v.rank - 1] = v.strides[1];
  return moved;
}

// Does an image [n,c,h,w] lie as [n,h,w,c] without gaps, and not as its shape says?
static constexpr bool is_channels_last(const View& v) {
  return v.rank == 4 && v.shape[1] > 1 && !is_contiguous(v) && is_contiguous(channels_to_end(v));
}

}  // namespace nodegrad
