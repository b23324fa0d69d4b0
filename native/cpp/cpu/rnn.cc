// The recurrence of LSTM, GRU and vanilla RNN layers, and its reverse (formulas in ops/rnn.ts).
//
// A chunk is a few rows of the batch in one direction; it runs its whole sequence alone, so threads
// never wait for each other. W_hh is packed once a call: forward by blocks of as many units as a
// vector has lanes, all gates of a block together, so that the gates are computed while their sums
// are in L1; backward as panels of W_hh's columns. h is read by rows.
//   step s of a row of length n is t = s, or n-1-s in reverse; s >= n keeps h and c and writes
//   zeros.
// 16-bit types compute in float32; h is rounded as it is stored. Subnormals count as zeros.
// Cost: 2·B·T·G·H² flops each way from L2, and 5 (LSTM) exponentials per unit and step.
#include "core/backend.h"
#include "core/error.h"
#include "cpu/convert.h"
#include "cpu/gemm_kernel.h"
#include "cpu/gemm_pack.h"
#include "cpu/launch.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int kChunkRows = kRows < 8 ? kRows : 8;
constexpr int64_t kDepth = 512;  // of a product in the backward pass: its A stays in L1
constexpr int64_t kPart = 256;   // elements computed at once there

NODEGRAD_INLINE int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
NODEGRAD_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

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

template <class T>
struct StepKernels {
  MicroKernel<T> kernels[kVectors][kChunkRows];

  constexpr StepKernels() : kernels() { fill<1>(); }
  template <int Rows>
  constexpr void fill() {
    kernels[0][Rows - 1] = micro_kernel<T, Rows, 1, true>;
    kernels[1][Rows - 1] = micro_kernel<T, Rows, 2, true>;
    if constexpr (Rows < kChunkRows) fill<Rows + 1>();
  }
};
template <class T>
static constexpr StepKernels<T> kStepKernels{};

template <class T>
NODEGRAD_INLINE T m_sigmoid(T x) {
  return T(1) / (T(1) + m_exp(-x));
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

// Forward ---------------------------------------------------------------------------------------

template <class S, int Gates>
void pack_forward_kernel(const void* raw, int64_t chunk) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int64_t kL = kLanes<T>;
  const Job& job = *static_cast<const Job*>(raw);
  const int64_t h = job.a.hidden, blocks = round_up(h, kL) / kL;
  const int64_t direction = chunk / blocks, unit = chunk % blocks * kL;
  T* const buffer = cast<T>(thread_scratch(sizeof(T) * static_cast<size_t>(kL * h)));
  if (!buffer) fail("recurrent: out of memory for packing");
  const S* const w = cast<S>(job.a.w_hh[direction]);
  T* to = cast<T>(job.packed) + direction * job.weights + unit * Gates * h;
  for (int first = 0; first < Gates; first += kVectors) {
    const int vectors = Gates - first < kVectors ? Gates - first : kVectors;
    for (int v = 0; v < vectors; ++v) {
      pack_panel(w + ((first + v) * h + unit) * h, h, 1, smaller(kL, h - unit), h, to + v * kL,
                 vectors * kL, buffer);
    }
    to += vectors * kL * h;
  }
}

// Gates after their nonlinearities, c and h of `n` units, from the gates' sums in place. `c` holds
// the c before; the GRU finds the h before in h and W_hn·h + b_hn in c.
template <class T, RnnMode mode, int64_t kStride>
NODEGRAD_INLINE void compute_cells(T (&gates)[kRnnGates<mode>][kStride], T* c, T* h, int64_t n) {
  if constexpr (mode == RnnMode::lstm) {
    auto& [i, f, g, o] = gates;
    for (int64_t j = 0; j < n; ++j) i[j] = m_sigmoid(i[j]);
    for (int64_t j = 0; j < n; ++j) f[j] = m_sigmoid(f[j]);
    for (int64_t j = 0; j < n; ++j) g[j] = m_tanh(g[j]);
    for (int64_t j = 0; j < n; ++j) o[j] = m_sigmoid(o[j]);
    for (int64_t j = 0; j < n; ++j) c[j] = f[j] * c[j] + i[j] * g[j];
    for (int64_t j = 0; j < n; ++j) h[j] = o[j] * m_tanh(c[j]);
  } else if constexpr (mode == RnnMode::gru) {
    auto& [r, z, x] = gates;
    for (int64_t j = 0; j < n; ++j) r[j] = m_sigmoid(r[j]);
    for (int64_t j = 0; j < n; ++j) z[j] = m_sigmoid(z[j]);
    for (int64_t j = 0; j < n; ++j) x[j] = m_tanh(x[j] + r[j] * c[j]);
    for (int64_t j = 0; j < n; ++j) h[j] = (T(1) - z[j]) * x[j] + z[j] * h[j];
  } else {
    for (int64_t j = 0; j < n; ++j) {
      const T x = gates[0][j];
      gates[0][j] = h[j] = mode == RnnMode::tanh ? m_tanh(x) : x < T(0) ? T(0) : x;
    }
  }
}

template <class S, RnnMode mode>
void forward_kernel(const void* raw, int64_t chunk) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int kGates = kRnnGates<mode>;
  constexpr bool kHasCells = mode == RnnMode::lstm || mode == RnnMode::gru;
  constexpr int64_t kL = kLanes<T>, kTile = kChunkRows * kL;
  const Job& job = *static_cast<const Job*>(raw);
  const RnnArgs& a = job.a;
  Place p = place_of(job, chunk);
  const int64_t h = a.hidden, padded = round_up(h, kL), row_size = padded + kL;
  const int64_t matrix = a.batch * a.steps;
  const int64_t states = (p.direction * a.batch + p.first) * h;

  // Two generations of h by rows, c by blocks of units, b_hh padded by gates.
  const int64_t total = (2 * row_size + padded) * p.rows + kGates * padded;
  T* const scratch = cast<T>(thread_scratch(sizeof(T) * static_cast<size_t>(total)));
  if (!scratch) fail("recurrent: out of memory for a sequence");
  const unsigned before = ignore_subnormals();
  clear_row(scratch, total);
  T* current = scratch;
  T* next = current + row_size * p.rows;
  T* const c = next + row_size * p.rows;
  T* const bias = c + padded * p.rows;
  const T* const packed = cast<T>(job.packed) + p.direction * job.weights;
  S* const gates = cast<S>(a.gates) + p.direction * matrix * kGates * h;
  T* const cells = kHasCells ? cast<T>(a.cells) + p.direction * matrix * h : nullptr;
  if (const S* const b = cast<S>(a.b_hh[p.direction])) {
    for (int g = 0; g < kGates; ++g) read_row(b + g * h, bias + g * padded, h);
  }
  for (int r = 0; r < p.rows; ++r) {
    if (a.h0) read_row(cast<S>(a.h0) + states + r * h, current + r * row_size, h);
    if (mode == RnnMode::lstm && a.c0) {
      for (int64_t u = 0; u < h; u += kL) {
        read_row(cast<S>(a.c0) + states + r * h + u, c + u * p.rows + r * kL, smaller(kL, h - u));
      }
    }
  }

  alignas(64) T sums[kChunkRows * kGates * kL];
  alignas(64) T tile[kGates][kTile], tile_c[kTile], tile_h[kTile];
  for (int64_t step = 0; step < a.steps; ++step) {
    move_to(p, a, step);
    for (int r = 0; r < p.rows; ++r) {
      if (p.active[r]) continue;
      clear_row(cast<S>(a.output) + (p.at[r] * a.directions + p.direction) * h, h);
      __builtin_memcpy(next + r * row_size, current + r * row_size,
                       sizeof(T) * static_cast<size_t>(h));
    }
    if (!p.any) continue;
    for (int64_t u = 0; u < h; u += kL) {
      const int64_t n = smaller(kL, h - u);
      const T* w = packed + u * kGates * h;
      for (int first = 0; first < kGates; first += kVectors) {
        const int vectors = kGates - first < kVectors ? kGates - first : kVectors;
        kStepKernels<T>.kernels[vectors - 1][p.rows - 1](h, current, row_size, w, vectors * kL,
                                                         sums + first * kL, kGates * kL, false);
        w += vectors * kL * h;
      }
      T* const block_c = c + u * p.rows;
      for (int r = 0; r < p.rows; ++r) {
        const S* const x = gates + p.at[r] * kGates * h + u;
        for (int g = 0; g < kGates; ++g) {
          const T* const sum = sums + (r * kGates + g) * kL;
          const T* const b = bias + g * padded + u;
          T* const to = tile[g] + r * kL;
          T own[kL] = {};
          if (p.active[r]) {
            if (n == kL) {
              read_row(x + g * h, own, kL);
            } else {
              read_row(x + g * h, own, n);
            }
          }
          if (mode == RnnMode::gru && g == 2) {
            for (int64_t j = 0; j < kL; ++j) tile_c[r * kL + j] = sum[j] + b[j];
            for (int64_t j = 0; j < kL; ++j) to[j] = own[j];
          } else {
            for (int64_t j = 0; j < kL; ++j) to[j] = own[j] + (sum[j] + b[j]);
          }
        }
        const T* const own_h = current + r * row_size + u;
        if (mode == RnnMode::gru) {
          for (int64_t j = 0; j < kL; ++j) tile_h[r * kL + j] = own_h[j];
        } else if (mode == RnnMode::lstm) {
          for (int64_t j = 0; j < kL; ++j) tile_c[r * kL + j] = block_c[r * kL + j];
        }
      }
      compute_cells<T, mode>(tile, tile_c, tile_h, p.rows * kL);
      for (int r = 0; r < p.rows; ++r) {
        if (!p.active[r]) continue;
        S* const to = gates + p.at[r] * kGates * h + u;
        S* const out = cast<S>(a.output) + (p.at[r] * a.directions + p.direction) * h + u;
        for (int g = 0; g < kGates; ++g) write_row(tile[g] + r * kL, to + g * h, n);
        write_row(tile_h + r * kL, out, n);
        read_row(out, next + r * row_size + u, n);
        if (kHasCells) write_row(tile_c + r * kL, cells + p.at[r] * h + u, n);
        if (mode == RnnMode::lstm) {
          for (int64_t j = 0; j < kL; ++j) block_c[r * kL + j] = tile_c[r * kL + j];
        }
      }
    }
    T* const swapped = current;
    current = next;
    next = swapped;
  }

  for (int r = 0; r < p.rows; ++r) {
    write_row(current + r * row_size, cast<S>(a.h_n) + states + r * h, h);
    if (mode != RnnMode::lstm) continue;
    for (int64_t u = 0; u < h; u += kL) {
      write_row(c + u * p.rows + r * kL, cast<S>(a.c_n) + states + r * h + u, smaller(kL, h - u));
    }
  }
  restore_subnormals(before);
}

// Backward --------------------------------------------------------------------------------------

template <class S, int Gates>
void pack_backward_kernel(const void* raw, int64_t chunk) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int64_t kC = kColumns<T>;
  const Job& job = *static_cast<const Job*>(raw);
  const int64_t h = job.a.hidden, panels = round_up(h, kC) / kC, k = Gates * h;
  const int64_t direction = chunk / panels, column = chunk % panels * kC;
  const int64_t columns = smaller(kC, h - column);
  T* const buffer = cast<T>(thread_scratch(sizeof(T) * static_cast<size_t>(kC * k)));
  if (!buffer) fail("recurrent: out of memory for packing");
  pack_panel(cast<S>(job.a.w_hh[direction]) + column, 1, h, columns, k,
             cast<T>(job.packed) + direction * job.weights + column * k,
             round_up(columns, kLanes<T>), buffer);
}

// What one row's gradients are computed from and into, `n` units from some place on.
template <class T, int Gates>
struct CellGradient {
  const T* gates[Gates];
  const T* c;         // LSTM: c after the step; GRU: W_hn·h + b_hn
  const T* c_before;  // LSTM
  const T* h_before;  // GRU
  const T* dh;
  T* dc;              // LSTM: of c after, then before
  T* d_gates[Gates];  // of h·W_hhᵀ
  T* d_new;           // GRU: of the third gate's share of x·W_ihᵀ
  T* direct;          // the gradient of the h before that goes past the product
};

template <class T, RnnMode mode>
NODEGRAD_INLINE void differentiate(const CellGradient<T, kRnnGates<mode>>& k, int64_t n) {
  if constexpr (mode == RnnMode::lstm) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const T i = k.gates[0][j], f = k.gates[1][j], g = k.gates[2][j], o = k.gates[3][j];
      const T dh = k.dh[j], y = m_tanh(k.c[j]);
      const T dc = k.dc[j] + dh * o * (T(1) - y * y);
      k.d_gates[0][j] = dc * g * i * (T(1) - i);
      k.d_gates[1][j] = dc * k.c_before[j] * f * (T(1) - f);
      k.d_gates[2][j] = dc * i * (T(1) - g * g);
      k.d_gates[3][j] = dh * y * o * (T(1) - o);
      k.dc[j] = dc * f;
      k.direct[j] = T(0);
    }
  } else if constexpr (mode == RnnMode::gru) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const T r = k.gates[0][j], z = k.gates[1][j], x = k.gates[2][j], dh = k.dh[j];
      const T dx = dh * (T(1) - z) * (T(1) - x * x);
      k.d_gates[0][j] = dx * k.c[j] * r * (T(1) - r);
      k.d_gates[1][j] = dh * (k.h_before[j] - x) * z * (T(1) - z);
      k.d_gates[2][j] = dx * r;
      k.d_new[j] = dx;
      k.direct[j] = dh * z;
    }
  } else {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const T y = k.gates[0][j], slope = T(1) - y * y;
      k.d_gates[0][j] = k.dh[j] * (mode == RnnMode::tanh ? slope : y > T(0) ? T(1) : T(0));
      k.direct[j] = T(0);
    }
  }
}

// `n` elements as they compute: where they lie, or converted.
template <class S, class T>
NODEGRAD_INLINE const T* values_of(const S* from, T* buffer, int64_t n) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return from;
  } else {
    read_row(from, buffer, n);
    return buffer;
  }
}

template <class T>
struct BackwardRow {
  T *dh, *next, *dc, *d_gates;
};

// One active row of one step.
template <class S, RnnMode mode>
void backward_row(const Job& job, const Place& p, int r, bool first_step,
                  const BackwardRow<typename Stored<S>::Arithmetic>& row) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int kGates = kRnnGates<mode>;
  const RnnArgs& a = job.a;
  const int64_t h = a.hidden, matrix = a.batch * a.steps;
  const int64_t at = p.direction * matrix + p.at[r], before = p.direction * matrix + p.before[r];
  const int64_t state = (p.direction * a.batch + p.first + r) * h;
  const S* const h_before = !first_step
                                ? cast<S>(a.output) + (p.before[r] * a.directions + p.direction) * h
                            : a.h0 ? cast<S>(a.h0) + state
                                   : nullptr;
  S* const previous = cast<S>(job.g.previous) + at * h;
  if (h_before) {
    __builtin_memcpy(previous, h_before, sizeof(S) * static_cast<size_t>(h));
  } else {
    clear_row(previous, h);
  }
  alignas(64) T gates[kGates][kPart], c_before[kPart], h_values[kPart], d_new[kPart];
  for (int64_t u = 0; u < h; u += kPart) {
    const int64_t n = smaller(kPart, h - u);
    CellGradient<T, kGates> k;
    const S* const d_output =
        cast<S>(job.g.d_output) + (p.at[r] * a.directions + p.direction) * h + u;
    for (int g = 0; g < kGates; ++g) {
      k.gates[g] = values_of(cast<S>(a.gates) + (at * kGates + g) * h + u, gates[g], n);
      k.d_gates[g] = row.d_gates + g * h + u;
    }
    T* const dh = row.dh + u;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) dh[j] += Stored<S>::load(d_output[j]);
    k.dh = dh;
    k.direct = row.next + u;
    k.c = a.cells ? cast<T>(a.cells) + at * h + u : nullptr;
    if (mode == RnnMode::lstm) {
      k.dc = row.dc + u;
      k.c_before = c_before;
      if (first_step) {
        read_or_clear(a.c0 ? cast<S>(a.c0) + state + u : nullptr, c_before, n);
      } else {
        k.c_before = cast<T>(a.cells) + before * h + u;
      }
    }
    k.h_before = values_of(previous + u, h_values, n);
    k.d_new = d_new;
    differentiate<T, mode>(k, n);
    for (int g = 0; g < kGates; ++g) {
      const int64_t to = (at * kGates + g) * h + u;
      write_row(mode == RnnMode::gru && g == 2 ? d_new : k.d_gates[g],
                cast<S>(job.g.d_input_gates) + to, n);
      if (mode == RnnMode::gru) write_row(k.d_gates[g], cast<S>(job.g.d_hidden_gates) + to, n);
    }
  }
}

template <class S, RnnMode mode>
void backward_kernel(const void* raw, int64_t chunk) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int kGates = kRnnGates<mode>;
  constexpr int64_t kL = kLanes<T>, kC = kColumns<T>;
  const Job& job = *static_cast<const Job*>(raw);
  const RnnArgs& a = job.a;
  Place p = place_of(job, chunk);
  const int64_t h = a.hidden, row_size = round_up(h, kL) + kL, k = kGates * h;
  const int64_t gate_size = round_up(k, kL) + kL;
  const int64_t matrix = a.batch * a.steps;
  const int64_t states = (p.direction * a.batch + p.first) * h;

  const int64_t total = (3 * row_size + gate_size) * p.rows;
  T* const scratch = cast<T>(thread_scratch(sizeof(T) * static_cast<size_t>(total)));
  if (!scratch) fail("recurrent: out of memory for a sequence");
  const unsigned before = ignore_subnormals();
  clear_row(scratch, total);
  T* dh = scratch;
  T* next = dh + row_size * p.rows;
  T* const dc = next + row_size * p.rows;
  T* const d_gates = dc + row_size * p.rows;
  const T* const packed = cast<T>(job.packed) + p.direction * job.weights;
  for (int r = 0; r < p.rows; ++r) {
    read_row(cast<S>(job.g.d_h_n) + states + r * h, dh + r * row_size, h);
    if (mode == RnnMode::lstm) {
      read_row(cast<S>(job.g.d_c_n) + states + r * h, dc + r * row_size, h);
    }
  }

  for (int64_t step = a.steps - 1; step >= 0; --step) {
    move_to(p, a, step);
    for (int r = 0; r < p.rows; ++r) {
      const BackwardRow<T> row = {dh + r * row_size, next + r * row_size, dc + r * row_size,
                                  d_gates + r * gate_size};
      if (p.active[r]) {
        backward_row<S, mode>(job, p, r, step == 0, row);
        continue;
      }
      const int64_t at = p.direction * matrix + p.at[r];
      clear_row(cast<S>(job.g.d_input_gates) + at * k, k);
      if (mode == RnnMode::gru) clear_row(cast<S>(job.g.d_hidden_gates) + at * k, k);
      clear_row(cast<S>(job.g.previous) + at * h, h);
      clear_row(row.d_gates, k);
      __builtin_memcpy(row.next, row.dh, sizeof(T) * static_cast<size_t>(h));
    }
    if (p.any) {
      for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
        const int64_t depth = smaller(kDepth, k - k0);
        for (int64_t column = 0; column < h; column += kC) {
          const int64_t width = round_up(smaller(kC, h - column), kL);
          kStepKernels<T>.kernels[width / kL - 1][p.rows - 1](depth, d_gates + k0, gate_size,
                                                              packed + column * k + k0 * width,
                                                              width, next + column, row_size, true);
        }
      }
    }
    T* const swapped = dh;
    dh = next;
    next = swapped;
  }

  for (int r = 0; r < p.rows; ++r) {
    write_row(dh + r * row_size, cast<S>(job.g.d_h0) + states + r * h, h);
    if (mode == RnnMode::lstm) {
      write_row(dc + r * row_size, cast<S>(job.g.d_c0) + states + r * h, h);
    }
  }
  restore_subnormals(before);
}

// Launches --------------------------------------------------------------------------------------

template <class S, RnnMode mode>
void run(Stream& stream, const RnnArgs& a, const RnnGradients* gradients) {
  using T = typename Stored<S>::Arithmetic;
  constexpr int kGates = kRnnGates<mode>;
  Job job = {};
  job.a = a;
  if (gradients) job.g = *gradients;
  const int64_t lanes = gradients ? kColumns<T> : kLanes<T>;
  const int64_t blocks = round_up(a.hidden, lanes) / lanes;
  job.weights = round_up(a.hidden, kLanes<T>) * kGates * a.hidden;
  job.row_blocks = round_up(a.batch, kChunkRows) / kChunkRows;
  job.block_rows = round_up(a.batch, job.row_blocks) / job.row_blocks;
  job.row_blocks = round_up(a.batch, job.block_rows) / job.block_rows;
  job.packed = acquire_scratch(stream, sizeof(T) * static_cast<size_t>(job.weights * a.directions));
  const Kernel pack = gradients ? pack_backward_kernel<S, kGates> : pack_forward_kernel<S, kGates>;
  launch(stream, "rnn_pack", pack, &job, sizeof job, blocks * a.directions);
  const Kernel kernel = gradients ? backward_kernel<S, mode> : forward_kernel<S, mode>;
  launch(stream, gradients ? "rnn_backward" : "rnn", kernel, &job, sizeof job,
         job.row_blocks * a.directions);
  release_scratch(stream, job.packed);
}

template <class S>
void run_mode(Stream& stream, const RnnArgs& a, const RnnGradients* gradients) {
  switch (a.mode) {
    case RnnMode::lstm:
      return run<S, RnnMode::lstm>(stream, a, gradients);
    case RnnMode::gru:
      return run<S, RnnMode::gru>(stream, a, gradients);
    case RnnMode::tanh:
      return run<S, RnnMode::tanh>(stream, a, gradients);
    case RnnMode::relu:
      return run<S, RnnMode::relu>(stream, a, gradients);
  }
}

void run_dtype(Stream& stream, const RnnArgs& a, const RnnGradients* gradients) {
  switch (a.dtype) {
    case DType::float64:
      return run_mode<double>(stream, a, gradients);
    case DType::bfloat16:
      return run_mode<BFloat16>(stream, a, gradients);
    case DType::float16:
      return run_mode<Float16>(stream, a, gradients);
    default:
      return run_mode<float>(stream, a, gradients);
  }
}

void forward(Stream& stream, const RnnArgs& a) { run_dtype(stream, a, nullptr); }

void backward(Stream& stream, const RnnArgs& a, const RnnGradients& g) { run_dtype(stream, a, &g); }

}  // namespace

extern const RnnFamily rnn_family;
const RnnFamily rnn_family = {forward, backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
