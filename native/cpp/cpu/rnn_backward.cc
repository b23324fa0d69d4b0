// The reverse of the recurrence (rnn.cc): from the last step to the first, the gradients of a
// step's gates from those of h and c, then of the h before through panels of W_hh's columns, packed
// once a call. A chunk is a few rows of the batch in one direction, as it is forward. Cost:
// 2·B·T·G·H² flops from L2.
#include "cpu/rnn_sequence.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kDepth = 512;  // of a product: its A stays in L1
constexpr int64_t kPart = 256;   // elements computed at once

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
          kKernels<T>.get(true, static_cast<int>(width / kL), p.rows)(
              depth, d_gates + k0, gate_size, packed + column * k + k0 * width, width,
              next + column, row_size, true);
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

}  // namespace

void rnn_backward(Stream& stream, const RnnArgs& a, const RnnGradients& g) {
  with_cells(a, [&](auto zero, auto mode_of) {
    using S = decltype(zero);
    using T = typename Stored<S>::Arithmetic;
    constexpr RnnMode mode = decltype(mode_of)::kMode;
    Job job = {};
    job.a = a;
    job.g = g;
    run_sequences<T>(stream, job, "rnn_backward", pack_backward_kernel<S, kRnnGates<mode>>,
                     backward_kernel<S, mode>, kRnnGates<mode>, kColumns<T>);
  });
}

}  // namespace nodegrad::cpu::NODEGRAD_ISA
