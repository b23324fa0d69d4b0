// The recurrence of LSTM, GRU and vanilla RNN layers (formulas in ops/rnn.ts); rnn_backward.cc is
// its reverse, rnn_sequence.h what both share.
//
// A chunk is a few rows of the batch in one direction; it runs its whole sequence alone, so threads
// never wait for each other. W_hh is packed once a call: here by blocks of as many units as a
// vector has lanes, all gates of a block together, so that the gates are computed while their sums
// are in L1. h is read by rows.
// 16-bit types compute in float32; h is rounded as it is stored. Subnormals count as zeros.
// Cost: 2·B·T·G·H² flops from L2, and 5 (LSTM) exponentials per unit and step.
#include "cpu/rnn_sequence.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

template <class T>
NODEGRAD_INLINE T m_sigmoid(T x) {
  return T(1) / (T(1) + m_exp(-x));
}

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
        kKernels<T>.get(true, vectors, p.rows)(h, current, row_size, w, vectors * kL,
                                               sums + first * kL, kGates * kL, false);
        w += vectors * kL * h;
      }
      T* const block_c = c + u * p.rows;
      for (int r = 0; r < p.rows; ++r) {
        const S* const x = gates + p.at[r] * kGates * h + u;
        for (int g = 0; g < kGates; ++g) {
          const Vector<T> own = p.active[r] ? load_lanes<T>(x + g * h, n) : Vector<T>{};
          const Vector<T> sum = load(sums + (r * kGates + g) * kL) + load(bias + g * padded + u);
          const bool apart = mode == RnnMode::gru && g == 2;  // multiplied by r before it is added
          if (apart) store(tile_c + r * kL, sum);
          store(tile[g] + r * kL, apart ? own : own + sum);
        }
        if (mode == RnnMode::gru) {
          store(tile_h + r * kL, load(current + r * row_size + u));
        } else if (mode == RnnMode::lstm) {
          store(tile_c + r * kL, load(block_c + r * kL));
        }
      }
      compute_cells<T, mode>(tile, tile_c, tile_h, p.rows * kL);
      for (int r = 0; r < p.rows; ++r) {
        if (!p.active[r]) continue;
        S* const to = gates + p.at[r] * kGates * h + u;
        S* const out = cast<S>(a.output) + (p.at[r] * a.directions + p.direction) * h + u;
        for (int g = 0; g < kGates; ++g) store_lanes<T>(to + g * h, load(tile[g] + r * kL), n);
        store_lanes<T>(out, load(tile_h + r * kL), n);
        store(next + r * row_size + u, load_lanes<T>(out, n));  // as it was rounded
        const Vector<T> cell = load(tile_c + r * kL);
        if (kHasCells) store_lanes<T>(cells + p.at[r] * h + u, cell, n);
        if (mode == RnnMode::lstm) store(block_c + r * kL, cell);
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

void forward(Stream& stream, const RnnArgs& a) {
  with_cells(a, [&](auto zero, auto mode_of) {
    using S = decltype(zero);
    using T = typename Stored<S>::Arithmetic;
    constexpr RnnMode mode = decltype(mode_of)::kMode;
    Job job = {};
    job.a = a;
    run_sequences<T>(stream, job, "rnn", pack_forward_kernel<S, kRnnGates<mode>>,
                     forward_kernel<S, mode>, kRnnGates<mode>, kLanes<T>);
  });
}

}  // namespace

extern const RnnFamily rnn_family;
const RnnFamily rnn_family = {forward, rnn_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
