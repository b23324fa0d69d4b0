// Patches of an image, read straight into the operands of a product. The virtual matrix has a row
// per (channel, tap) and a column per position:
//   patch[(q, a, b), (i, j)] = image[q, i·stride_h + base_h + a·step_h, j·stride_w + …],
// and 0 outside the image. Positions are cut into runs within one row of positions; for a tap, a
// run is a run of the image, whose ends are clipped once for all channels. Memory-bound; measured
// some 4 cycles for 32 floats.
#pragma once

#include "cpu/conv_product.h"
#include "cpu/convert.h"
#include "cpu/gemm_kernel.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

// `length` positions from (i, j) on; they go to `lane` of the rows of the panel that begins at
// position `panel`, which are `pitch` apart. Zeros where i is negative.
struct Run {
  int64_t i, j, length, panel, lane, pitch;
};

// The runs of positions [first, first + count), in panels of `width` positions, or in one where
// width is 0. Lanes up to whole vectors are filled with zeros. Returns how many there are: at most
// a run per position and one more.
template <class T>
int64_t make_runs(const Patches& p, int64_t first, int64_t count, int64_t width, int64_t pitch,
                  Run* runs) {
  int64_t n = 0, at = 0;
  while (at < count) {
    const int64_t lane = width ? at % width : at;
    const int64_t i = (first + at) / p.columns, j = (first + at) % p.columns;
    int64_t length = count - at;
    if (length > p.columns - j) length = p.columns - j;
    if (width && length > width - lane) length = width - lane;
    int64_t panel_pitch = pitch;
    if (width) {
      const int64_t rest = count - (at - lane), lanes = rest < width ? rest : width;
      panel_pitch = (lanes + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    }
    runs[n++] = {i, j, length, at - lane, lane, panel_pitch};
    at += length;
  }
  if (width && n > 0) {
    const Run last = runs[n - 1];
    const int64_t used = last.lane + last.length;
    if (used < last.pitch) runs[n++] = {-1, 0, last.pitch - used, last.panel, used, last.pitch};
  }
  return n;
}

template <class T>
NODEGRAD_INLINE void clear_rows(T* to, int64_t to_step, int64_t n, int64_t count) {
  constexpr int kL = kLanes<T>;
  const int64_t whole = n / kL * kL;
  const int part = static_cast<int>(n - whole);
  const Vector<T> zero = {};
  for (int64_t q = 0; q < count; ++q, to += to_step) {
    for (int64_t i = 0; i < whole; i += kL) store(to + i, zero);
    if (part) store_part(to + whole, zero, part);
  }
}

// `count` rows of n elements, `stride` apart in the image.
template <class T, class S>
NODEGRAD_INLINE void gather_rows(const S* from, int64_t from_step, int64_t stride, T* to,
                                 int64_t to_step, int64_t n, int64_t count) {
  constexpr int kL = kLanes<T>;
  if constexpr (sizeof(S) == sizeof(T)) {
    if (stride == 1) {
      if (n == 2 * kL) {
        for (int64_t q = 0; q < count; ++q, from += from_step, to += to_step) {
          const Vector<T> low = load(from), high = load(from + kL);
          store(to, low);
          store(to + kL, high);
        }
        return;
      }
      const int64_t whole = n / kL * kL;
      const int part = static_cast<int>(n - whole);
      for (int64_t q = 0; q < count; ++q, from += from_step, to += to_step) {
        for (int64_t i = 0; i < whole; i += kL) store(to + i, load(from + i));
        if (part) store_part(to + whole, load_part(from + whole, part), part);
      }
      return;
    }
  } else if (stride == 1) {
    for (int64_t q = 0; q < count; ++q, from += from_step, to += to_step) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i]);
    }
    return;
  }
  for (int64_t q = 0; q < count; ++q, from += from_step, to += to_step) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i * stride]);
  }
}

// All taps of `channels` channels of the runs of one panel: row (q, tap) at to + (q·taps +
// tap)·pitch.
template <class T, class S>
void gather(const Patches& p, const S* image, int64_t channels, const Run* runs, int64_t run_count,
            T* to) {
  const int64_t taps = p.taps_h * p.taps_w, depth = channels * taps;
  for (int64_t r = 0; r < run_count; ++r) {
    const Run& run = runs[r];
    T* const start = to + run.lane;
    const int64_t step = taps * run.pitch;
    if (run.i < 0) {
      clear_rows(start, run.pitch, run.length, depth);
      continue;
    }
    for (int64_t a = 0; a < p.taps_h; ++a) {
      const int64_t row = run.i * p.stride_h + p.base_h + a * p.step_h;
      for (int64_t b = 0; b < p.taps_w; ++b) {
        T* const target = start + (a * p.taps_w + b) * run.pitch;
        const int64_t column = run.j * p.stride_w + p.base_w + b * p.step_w;
        int64_t before = 0, end = run.length;
        if (column < 0) before = (-column + p.stride_w - 1) / p.stride_w;
        if (column + (end - 1) * p.stride_w >= p.width) {
          end = column < p.width ? (p.width - column + p.stride_w - 1) / p.stride_w : 0;
        }
        if (row < 0 || row >= p.height || before >= end) {
          clear_rows(target, step, run.length, channels);
          continue;
        }
        if (before > 0) clear_rows(target, step, before, channels);
        gather_rows(image + row * p.width + column + before * p.stride_w, p.plane, p.stride_w,
                    target + before, step, end - before, channels);
        if (end < run.length) clear_rows(target + end, step, run.length - end, channels);
      }
    }
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
