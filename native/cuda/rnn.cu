// The recurrence of LSTM, GRU and vanilla RNN layers, and its reverse (formulas in ops/rnn.ts), one
// launch per step: for what rnn_cluster.cu and rnn_persistent.cu, a launch per sequence, do not
// take.
//   forward, per step: sums = h·W_hhᵀ in tiles of 16 rows by 16 units with all gates, then the cell
//   backward, per step: the gates' gradients element by element, then dh = dgates·W_hh by tiles
// A row of length n takes its step s at t = s, or n-1-s in reverse; from s = n on it keeps h and c
// and writes zeros. h, c and their gradients stay in scratch in float32 (double for float64)
// between steps, h rounded as it is stored. Steps are launches; a captured step is one graph of
// them. Cost: T (backward 2T) launches of 2·B·G·H² flops each, W_hh from L2: bound by the launches'
// latency where the layer is small.
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "rnn_cell.h"
#include "rnn_cluster.h"
#include "rnn_persistent.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kTile = 16;   // rows and units of a block
constexpr int kDepth = 32;  // of a slice of the product
constexpr int kBlock = kTile * kTile;

__device__ __forceinline__ RnnPlace place_of(const RnnArgs& a, int direction, int64_t b,
                                             int64_t step) {
  return rnn_place(a, direction, b, rnn_length(a, b), step);
}

// state = from, or zeros where there is nothing.
template <class T>
__global__ void __launch_bounds__(kBlock) load_kernel(const T* from, Arith<T>* state, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i < n) state[i] = from ? to_arith(from[i]) : Arith<T>(0);
}

template <class T>
__global__ void __launch_bounds__(kBlock) store_kernel(const Arith<T>* state, T* to, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i < n) to[i] = from_arith<T>(state[i]);
}

template <class A, int Gates>
struct StepShared {
  A h[kTile][kDepth + 1];
  A w[Gates][kTile][kDepth + 1];
};

// One step of all rows: `now` and `next` are [directions, batch, hidden], as is c.
template <class T, RnnMode mode>
__global__ void __launch_bounds__(kBlock)
    step_kernel(const __grid_constant__ RnnArgs a, const Arith<T>* now, Arith<T>* next, Arith<T>* c,
                const int64_t step) {
  using A = Arith<T>;
  constexpr int kGates = kRnnGates<mode>;
  StepShared<A, kGates>& shared = shared_memory<StepShared<A, kGates>>();
  const int thread = static_cast<int>(threadIdx.x), column = thread % kTile, row = thread / kTile;
  const int direction = static_cast<int>(blockIdx.z);
  const int64_t unit0 = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t row0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t h = a.hidden, first = static_cast<int64_t>(direction) * a.batch;
  const T* const w = static_cast<const T*>(a.w_hh[direction]);

  A sums[kMostGates] = {};
  for (int64_t k0 = 0; k0 < h; k0 += kDepth) {
#pragma unroll
    for (int i = 0; i < kTile * kDepth / kBlock; ++i) {
      const int line = thread / kDepth + i * (kBlock / kDepth), depth = thread % kDepth;
      const int64_t b = row0 + line, unit = unit0 + line, k = k0 + depth;
      shared.h[line][depth] = b < a.batch && k < h ? now[(first + b) * h + k] : A(0);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        shared.w[g][line][depth] = unit < h && k < h ? to_arith(w[(g * h + unit) * h + k]) : A(0);
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const A x = shared.h[row][k];
#pragma unroll
      for (int g = 0; g < kGates; ++g) sums[g] += x * shared.w[g][column][k];
    }
    __syncthreads();
  }

  const int64_t b = row0 + row, unit = unit0 + column;
  if (b >= a.batch || unit >= h) return;
  const RnnPlace place = place_of(a, direction, b, step);
  const int64_t state = (first + b) * h + unit;
  T* const output = static_cast<T*>(a.output) + (place.at * a.directions + direction) * h + unit;
  const A before = now[state];
  if (!place.active) {
    *output = from_arith<T>(A(0));
    next[state] = before;
    return;
  }
  const int64_t at = static_cast<int64_t>(direction) * a.batch * a.steps + place.at;
  T* const gates = static_cast<T*>(a.gates) + at * kGates * h + unit;
  A x[kMostGates] = {};
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
    if (a.b_hh[direction]) {
      sums[g] += to_arith(static_cast<const T*>(a.b_hh[direction])[g * h + unit]);
    }
    x[g] = to_arith(gates[g * h]);
  }
  A value = mode == RnnMode::lstm ? c[state] : A(0);
  const A y = cell_forward<mode>(x, sums, before, value);
  if constexpr (mode == RnnMode::lstm) c[state] = value;
  if constexpr (mode == RnnMode::lstm || mode == RnnMode::gru) {
    static_cast<A*>(a.cells)[at * h + unit] = value;
  }
#pragma unroll
  for (int g = 0; g < kGates; ++g) gates[g * h] = from_arith<T>(x[g]);
  *output = from_arith<T>(y);
  next[state] = rounded<T>(y);
}

// The gates' gradients of one step. `next` receives the part of the gradient of the h before that
// goes past the product.
template <class T, RnnMode mode>
__global__ void __launch_bounds__(kBlock)
    gradient_kernel(const __grid_constant__ RnnArgs a, const __grid_constant__ RnnGradients d,
                    const Arith<T>* dh_now, Arith<T>* next, Arith<T>* dc, const int64_t step) {
  using A = Arith<T>;
  constexpr int kGates = kRnnGates<mode>;
  const int64_t h = a.hidden, count = a.directions * a.batch * h;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= count) return;
  const int64_t unit = i % h, b = i / h % a.batch;
  const int direction = static_cast<int>(i / h / a.batch);
  const RnnPlace place = place_of(a, direction, b, step);
  const int64_t matrix = static_cast<int64_t>(direction) * a.batch * a.steps;
  const int64_t at = matrix + place.at;
  T* const d_input = static_cast<T*>(d.d_input_gates) + at * kGates * h + unit;
  T* const d_hidden = static_cast<T*>(d.d_hidden_gates) + at * kGates * h + unit;
  T* const previous = static_cast<T*>(d.previous) + at * h + unit;
  if (!place.active) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      d_input[g * h] = from_arith<T>(A(0));
      d_hidden[g * h] = from_arith<T>(A(0));
    }
    *previous = from_arith<T>(A(0));
    next[i] = dh_now[i];
    return;
  }
  const T* const output = static_cast<const T*>(a.output);
  T h_before = from_arith<T>(A(0));
  if (step > 0) {
    h_before = output[(place.before * a.directions + direction) * h + unit];
  } else if (a.h0) {
    h_before = static_cast<const T*>(a.h0)[i];
  }
  *previous = h_before;
  const T* const gates = static_cast<const T*>(a.gates) + at * kGates * h + unit;
  const A* const cells = static_cast<const A*>(a.cells);
  CellStep<A> now{};
  now.h_before = to_arith(h_before);
  now.dh =
      dh_now[i] +
      to_arith(static_cast<const T*>(d.d_output)[(place.at * a.directions + direction) * h + unit]);
#pragma unroll
  for (int g = 0; g < kGates; ++g) now.gates[g] = to_arith(gates[g * h]);
  if (cells) now.cell = cells[at * h + unit];
  A d_cell = A(0);
  if constexpr (mode == RnnMode::lstm) {
    d_cell = dc[i];
    if (step > 0) {
      now.cell_before = cells[(matrix + place.before) * h + unit];
    } else if (a.c0) {
      now.cell_before = to_arith(static_cast<const T*>(a.c0)[i]);
    }
  }
  A dx[kMostGates] = {}, d_last = A(0);
  next[i] = cell_backward<mode>(now, d_cell, dx, d_last);
  if constexpr (mode == RnnMode::lstm) dc[i] = d_cell;
  if constexpr (mode == RnnMode::gru) {
    d_hidden[0] = from_arith<T>(dx[0]);
    d_hidden[h] = from_arith<T>(dx[1]);
    d_hidden[2 * h] = from_arith<T>(d_last);
  }
#pragma unroll
  for (int g = 0; g < kGates; ++g) d_input[g * h] = from_arith<T>(dx[g]);
}

template <class A>
struct ProductShared {
  A d[kTile][kDepth + 1];
  A w[kDepth][kTile + 1];
};

// dh += dgates·W_hh for one step.
template <class T>
__global__ void __launch_bounds__(kBlock)
    product_kernel(const __grid_constant__ RnnArgs a, const T* d_gates, Arith<T>* dh,
                   const int64_t k_size, const int64_t step) {
  using A = Arith<T>;
  ProductShared<A>& shared = shared_memory<ProductShared<A>>();
  const int thread = static_cast<int>(threadIdx.x), column = thread % kTile, row = thread / kTile;
  const int direction = static_cast<int>(blockIdx.z);
  const int64_t unit0 = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t row0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t h = a.hidden, matrix = static_cast<int64_t>(direction) * a.batch * a.steps;
  const T* const w = static_cast<const T*>(a.w_hh[direction]);
  A sum = A(0);
  for (int64_t k0 = 0; k0 < k_size; k0 += kDepth) {
#pragma unroll
    for (int i = 0; i < kTile * kDepth / kBlock; ++i) {
      const int line = thread / kDepth + i * (kBlock / kDepth), depth = thread % kDepth;
      const int64_t b = row0 + line;
      A value = A(0);
      if (b < a.batch && k0 + depth < k_size) {
        const int64_t at = matrix + place_of(a, direction, b, step).at;
        value = to_arith(d_gates[at * k_size + k0 + depth]);
      }
      shared.d[line][depth] = value;
      const int64_t k = k0 + row + i * kTile, unit = unit0 + column;
      shared.w[row + i * kTile][column] = k < k_size && unit < h ? to_arith(w[k * h + unit]) : A(0);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) sum += shared.d[row][k] * shared.w[k][column];
    __syncthreads();
  }
  const int64_t b = row0 + row, unit = unit0 + column;
  if (b < a.batch && unit < h) dh[(direction * a.batch + b) * h + unit] += sum;
}

dim3 blocks_of(int64_t n) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  if (blocks > INT32_MAX) fail("recurrent: the states are too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

dim3 tiles_of(const RnnArgs& a) {
  const int64_t units = (a.hidden + kTile - 1) / kTile, rows = (a.batch + kTile - 1) / kTile;
  if (units > INT32_MAX || rows > 65535) {
    fail("recurrent: takes a batch of at most %d rows on a GPU, got %lld", 65535 * kTile,
         static_cast<long long>(a.batch));
  }
  return dim3(static_cast<unsigned>(units), static_cast<unsigned>(rows),
              static_cast<unsigned>(a.directions));
}

template <class T>
void load(Stream& stream, const void* from, Arith<T>* state, int64_t n) {
  launch(stream, "recurrent", load_kernel<T>, blocks_of(n), dim3(kBlock), 0,
         static_cast<const T*>(from), state, n);
}

template <class T>
void store(Stream& stream, const Arith<T>* state, void* to, int64_t n) {
  launch(stream, "recurrent", store_kernel<T>, blocks_of(n), dim3(kBlock), 0, state,
         static_cast<T*>(to), n);
}

template <class T, RnnMode mode>
void run_forward(Stream& stream, const RnnArgs& a) {
  using A = Arith<T>;
  const int64_t n = a.directions * a.batch * a.hidden;
  A* const scratch = static_cast<A*>(acquire_scratch(stream, 3 * sizeof(A) * n));
  A* now = scratch;
  A* next = scratch + n;
  A* const c = scratch + 2 * n;
  load<T>(stream, a.h0, now, n);
  if (mode == RnnMode::lstm) load<T>(stream, a.c0, c, n);
  for (int64_t step = 0; step < a.steps; ++step) {
    launch(stream, "recurrent", step_kernel<T, mode>, tiles_of(a), dim3(kBlock),
           sizeof(StepShared<A, kRnnGates<mode>>), a, now, next, c, step);
    A* const swapped = now;
    now = next;
    next = swapped;
  }
  store<T>(stream, now, a.h_n, n);
  if (mode == RnnMode::lstm) store<T>(stream, c, a.c_n, n);
  release_scratch(stream, scratch);
}

template <class T, RnnMode mode>
void run_backward(Stream& stream, const RnnArgs& a, const RnnGradients& d) {
  using A = Arith<T>;
  const int64_t n = a.directions * a.batch * a.hidden;
  A* const scratch = static_cast<A*>(acquire_scratch(stream, 3 * sizeof(A) * n));
  A* now = scratch;
  A* next = scratch + n;
  A* const dc = scratch + 2 * n;
  load<T>(stream, d.d_h_n, now, n);
  if (mode == RnnMode::lstm) load<T>(stream, d.d_c_n, dc, n);
  for (int64_t step = a.steps - 1; step >= 0; --step) {
    launch(stream, "recurrent", gradient_kernel<T, mode>, blocks_of(n), dim3(kBlock), 0, a, d, now,
           next, dc, step);
    launch(stream, "recurrent", product_kernel<T>, tiles_of(a), dim3(kBlock),
           sizeof(ProductShared<A>), a, static_cast<const T*>(d.d_hidden_gates), next,
           kRnnGates<mode> * a.hidden, step);
    A* const swapped = now;
    now = next;
    next = swapped;
  }
  store<T>(stream, now, d.d_h0, n);
  if (mode == RnnMode::lstm) store<T>(stream, dc, d.d_c0, n);
  release_scratch(stream, scratch);
}

// Calls f with the storage type and the mode, the latter as a type.
template <RnnMode mode>
struct ModeTag {
  static constexpr RnnMode value = mode;
};

template <class F>
void for_mode(const RnnArgs& a, const F& f) {
  with_float_type(a.dtype, [&](auto zero) {
    switch (a.mode) {
      case RnnMode::lstm:
        return f(zero, ModeTag<RnnMode::lstm>{});
      case RnnMode::gru:
        return f(zero, ModeTag<RnnMode::gru>{});
      case RnnMode::tanh:
        return f(zero, ModeTag<RnnMode::tanh>{});
      case RnnMode::relu:
        return f(zero, ModeTag<RnnMode::relu>{});
    }
  });
}

void forward(Stream& stream, const RnnArgs& a) {
  if (rnn_cluster_forward(stream, a) || rnn_persistent_forward(stream, a)) return;
  for_mode(a, [&](auto zero, auto tag) {
    run_forward<decltype(zero), decltype(tag)::value>(stream, a);
  });
}

void backward(Stream& stream, const RnnArgs& a, const RnnGradients& d) {
  if (rnn_cluster_backward(stream, a, d) || rnn_persistent_backward(stream, a, d)) return;
  for_mode(a, [&](auto zero, auto tag) {
    run_backward<decltype(zero), decltype(tag)::value>(stream, a, d);
  });
}

}  // namespace

const RnnFamily rnn_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
