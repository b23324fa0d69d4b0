// What both directions of the recurrence share: a chunk's rows and where they are in their
// sequences, rows of one type read and written as another, and the launches.
//   step s of a row of length n is t = s, or n-1-s in reverse; s >= n keeps h and c and writes
//   zeros.
#pragma once

#include "core/backend.h"
#include "core/error.h"
#include "cpu/convert.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tiles.h"
#include "cpu/launch.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

void rnn_backward(Stream& stream, const RnnArgs& a, const RnnGradients& g);  // rnn_backward.cc

namespace {

constexpr int kChunkRows = kRows < 8 ? kRows : 8;

struct Job {
  RnnArgs a;
  RnnGradients g;
  void* packed;     // W_hh of each direction
  int64_t weights;  // elements of one of them
  int64_t row_blocks, block_rows;
};

// Where a chunk is in its sequences.
struct Place {
  int64_t direction, first;
  int rows;
  int64_t lengths[kChunkRows];
  int64_t at[kChunkRows];      // this step's matrix row
  int64_t before[kChunkRows];  // that of the step before, where there is one
  bool active[kChunkRows];
  bool any;
};

template <class T>
NODEGRAD_INLINE const T* cast(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
NODEGRAD_INLINE T* cast(void* p) {
  return static_cast<T*>(p);
}

Place place_of(const Job& job, int64_t chunk) {
  Place p = {};
  p.direction = chunk / job.row_blocks;
  p.first = chunk % job.row_blocks * job.block_rows;
  p.rows = static_cast<int>(smaller(job.block_rows, job.a.batch - p.first));
  for (int r = 0; r < p.rows; ++r) {
    const int64_t length = job.a.lengths ? job.a.lengths[p.first + r] : job.a.steps;
    p.lengths[r] = length < 0 ? 0 : smaller(length, job.a.steps);
  }
  return p;
}

void move_to(Place& p, const RnnArgs& a, int64_t step) {
  p.any = false;
  for (int r = 0; r < p.rows; ++r) {
    const bool active = step < p.lengths[r], reverse = p.direction == 1;
    const int64_t t = active && reverse ? p.lengths[r] - 1 - step : step;
    p.active[r] = active;
    p.any |= active;
    p.at[r] = (p.first + r) * a.row_batch + t * a.row_step;
    p.before[r] = p.at[r] + (reverse ? a.row_step : -a.row_step);
  }
}

template <class S, class T>
NODEGRAD_INLINE void read_row(const S* from, T* to, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::load(from[i]);
}
template <class S, class T>
NODEGRAD_INLINE void write_row(const T* from, S* to, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = Stored<S>::store(from[i]);
}
// A vector of which `n` lanes are in memory; the others are zeros.
template <class T, class S>
NODEGRAD_INLINE Vector<T> load_lanes(const S* from, int64_t n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return n == kLanes<T> ? load(from) : load_part(from, static_cast<int>(n));
  } else {
    T lanes[kLanes<T>] = {};
    read_row(from, lanes, n == kLanes<T> ? kLanes<T> : n);
    return load(lanes);
  }
}
template <class T, class S>
NODEGRAD_INLINE void store_lanes(S* to, Vector<T> v, int64_t n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (n == kLanes<T>) {
      store(to, v);
    } else {
      store_part(to, v, static_cast<int>(n));
    }
  } else {
    T lanes[kLanes<T>];
    store(lanes, v);
    write_row(lanes, to, n == kLanes<T> ? kLanes<T> : n);
  }
}
template <class T>
NODEGRAD_INLINE void clear_row(T* to, int64_t n) {
  __builtin_memset(to, 0, sizeof(T) * static_cast<size_t>(n));
}
template <class S, class T>
NODEGRAD_INLINE void read_or_clear(const S* from, T* to, int64_t n) {
  if (from) {
    read_row(from, to, n);
  } else {
    clear_row(to, n);
  }
}

// Packs W_hh of each direction for vectors of `lanes` units, then runs `kernel` for all chunks.
template <class T>
void run_sequences(Stream& stream, Job job, const char* name, Kernel pack, Kernel kernel, int gates,
                   int64_t lanes) {
  const RnnArgs& a = job.a;
  job.weights = round_up(a.hidden, kLanes<T>) * gates * a.hidden;
  job.row_blocks = divide_up(a.batch, kChunkRows);
  job.block_rows = divide_up(a.batch, job.row_blocks);
  job.row_blocks = divide_up(a.batch, job.block_rows);
  const Scratch packed(stream, sizeof(T) * static_cast<size_t>(job.weights * a.directions));
  job.packed = packed.data();
  launch(stream, "rnn_pack", pack, &job, sizeof job, divide_up(a.hidden, lanes) * a.directions);
  launch(stream, name, kernel, &job, sizeof job, job.row_blocks * a.directions);
}

template <RnnMode value>
struct ModeOf {
  static constexpr RnnMode kMode = value;
};

// Calls f(S{}, ModeOf<mode>{}) with the type of storage and the mode.
template <class F>
void with_cells(const RnnArgs& a, const F& f) {
  const auto with_mode = [&](auto zero) {
    switch (a.mode) {
      case RnnMode::lstm:
        return f(zero, ModeOf<RnnMode::lstm>{});
      case RnnMode::gru:
        return f(zero, ModeOf<RnnMode::gru>{});
      case RnnMode::tanh:
        return f(zero, ModeOf<RnnMode::tanh>{});
      case RnnMode::relu:
        return f(zero, ModeOf<RnnMode::relu>{});
    }
  };
  with_floats("recurrent", a.dtype, [&](auto, auto stored) { with_mode(stored); });
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
