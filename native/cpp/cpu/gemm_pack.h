// Packing: a panel of up to kColumns columns of B, or kRows rows of A, is copied so that the
// micro-kernel reads it front to back.
//   panel[k·width + lane] = source[lane·lane_stride + k·k_stride], one of the two strides being 1
// `width` is a whole number of vectors; lanes beyond the last one hold copies of other lanes, whose
// products are never stored. Where k is contiguous this is a transposition: pieces of 16 bytes are
// gathered from as many rows as a vector has pieces, and transposed inside the pieces.
// Cost: memory-bound; measured 0.8 cycles a float for a 512 x 512 operand (AVX-512, from L3).
#pragma once

#include "core/dtype.h"
#include "cpu/convert.h"
#include "cpu/gemm_kernel.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

typedef double Piece __attribute__((vector_size(16)));
typedef double UnalignedPiece __attribute__((vector_size(16), aligned(4), may_alias));
constexpr int kPieces = kVectorBytes / 16;

NODEGRAD_INLINE Piece load_piece(const void* p) { return *static_cast<const UnalignedPiece*>(p); }

#if defined(__AVX512F__)
typedef double HalfVector __attribute__((vector_size(32)));
template <class Row>
NODEGRAD_INLINE Vector<double> gather_pieces(Row row, int first, int step) {
  const HalfVector low =
      __builtin_shufflevector(load_piece(row(first)), load_piece(row(first + step)), 0, 1, 2, 3);
  const HalfVector high = __builtin_shufflevector(load_piece(row(first + 2 * step)),
                                                  load_piece(row(first + 3 * step)), 0, 1, 2, 3);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}
NODEGRAD_INLINE Vector<double> low_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
}
NODEGRAD_INLINE Vector<double> high_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}
NODEGRAD_INLINE Vector<float> low_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
NODEGRAD_INLINE Vector<float> high_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
template <class Row>
NODEGRAD_INLINE Vector<double> gather_pieces(Row row, int first, int step) {
  return __builtin_shufflevector(load_piece(row(first)), load_piece(row(first + step)), 0, 1, 2, 3);
}
NODEGRAD_INLINE Vector<double> low_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 0, 4, 2, 6);
}
NODEGRAD_INLINE Vector<double> high_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 1, 5, 3, 7);
}
NODEGRAD_INLINE Vector<float> low_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
}
NODEGRAD_INLINE Vector<float> high_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
}
#else
template <class Row>
NODEGRAD_INLINE Vector<double> gather_pieces(Row row, int first, int) {
  return load_piece(row(first));
}
NODEGRAD_INLINE Vector<double> low_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 0, 2);
}
NODEGRAD_INLINE Vector<double> high_pairs(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 1, 3);
}
NODEGRAD_INLINE Vector<float> low_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
NODEGRAD_INLINE Vector<float> high_pairs(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#endif

// One piece of each of kLanes rows, transposed: as many vectors as a piece has elements. `row`
// gives the address of the piece of a row.
template <class Row>
NODEGRAD_INLINE void transpose_pieces(Row row, float* to, int64_t width) {
  const auto a = (Vector<float>)gather_pieces(row, 0, 4);
  const auto b = (Vector<float>)gather_pieces(row, 1, 4);
  const auto c = (Vector<float>)gather_pieces(row, 2, 4);
  const auto d = (Vector<float>)gather_pieces(row, 3, 4);
  const auto ab = (Vector<double>)low_pairs(a, b), ab2 = (Vector<double>)high_pairs(a, b);
  const auto cd = (Vector<double>)low_pairs(c, d), cd2 = (Vector<double>)high_pairs(c, d);
  store(to, (Vector<float>)low_pairs(ab, cd));
  store(to + width, (Vector<float>)high_pairs(ab, cd));
  store(to + 2 * width, (Vector<float>)low_pairs(ab2, cd2));
  store(to + 3 * width, (Vector<float>)high_pairs(ab2, cd2));
}
template <class Row>
NODEGRAD_INLINE void transpose_pieces(Row row, double* to, int64_t width) {
  const Vector<double> a = gather_pieces(row, 0, 2);
  const Vector<double> b = gather_pieces(row, 1, 2);
  store(to, low_pairs(a, b));
  store(to + width, high_pairs(a, b));
}

// to[k·width + lane] = from[lane·stride + k] for kLanes lanes, of which `lanes` are there.
template <class T>
void transpose_lanes(const T* from, int64_t stride, int lanes, int64_t k, T* to, int64_t width) {
  constexpr int kL = kLanes<T>, kPieceLength = 16 / static_cast<int>(sizeof(T));
  const T* rows[kL];
  for (int lane = 0; lane < kL; ++lane) rows[lane] = from + (lane < lanes ? lane : 0) * stride;
  int64_t done = 0;
  if (lanes == kL) {
    for (; done + kPieceLength <= k; done += kPieceLength) {
      const T* const p = from + done;
      transpose_pieces(
          [=](int i) __attribute__((always_inline)) { return p + i * stride; }, to + done * width,
          width);
    }
  } else {
    for (; done + kPieceLength <= k; done += kPieceLength) {
      transpose_pieces(
          [&](int i) __attribute__((always_inline)) { return rows[i] + done; }, to + done * width,
          width);
    }
  }
  for (; done < k; ++done) {
    for (int lane = 0; lane < kL; ++lane) to[done * width + lane] = rows[lane][done];
  }
}

template <class T>
void transpose_panel(const T* from, int64_t stride, int64_t lanes, int64_t k, T* to,
                     int64_t width) {
  constexpr int kL = kLanes<T>;
  for (int64_t lane = 0; lane < lanes; lane += kL) {
    const int part = static_cast<int>(lanes - lane < kL ? lanes - lane : kL);
    transpose_lanes(from + lane * stride, stride, part, k, to + lane, width);
  }
}

template <class T>
void copy_panel(const T* from, int64_t stride, int64_t lanes, int64_t k, T* to, int64_t width) {
  constexpr int kL = kLanes<T>;
  for (int64_t lane = 0; lane < lanes; lane += kL) {
    const int part = static_cast<int>(lanes - lane < kL ? lanes - lane : kL);
    const T* source = from + lane;
    T* target = to + lane;
    if (part == kL) {
      for (int64_t i = 0; i < k; ++i) store(target + i * width, load(source + i * stride));
    } else {
      for (int64_t i = 0; i < k; ++i)
        store(target + i * width, load_part(source + i * stride, part));
    }
  }
}

// `buffer` has room for lanes · k elements; only types that are converted use it.
template <class T, class S>
void pack_panel(const S* from, int64_t lane_stride, int64_t k_stride, int64_t lanes, int64_t k,
                T* to, int64_t width, T* buffer) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (lane_stride == 1) {
      copy_panel(from, k_stride, lanes, k, to, width);
    } else {
      transpose_panel(from, lane_stride, lanes, k, to, width);
    }
  } else if (lane_stride == 1) {
    for (int64_t i = 0; i < k; ++i) {
      load_row<S, T>(from + i * k_stride, 1, buffer + i * lanes, lanes);
    }
    copy_panel(buffer, lanes, lanes, k, to, width);
  } else {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      load_row<S, T>(from + lane * lane_stride, 1, buffer + lane * k, k);
    }
    transpose_panel(buffer, k, lanes, k, to, width);
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
