// Recurrent layers: the contract of rnn.cc and rnn.cu (see core/backend.h).
#pragma once

#include "core/families/gemm.h"
#include "core/view.h"

namespace nodegrad {

class Stream;

enum class RnnMode : uint8_t { lstm, gru, tanh, relu };

constexpr int kMaxDirections = 2;

// Gates of a cell: i f g o, r z n, or one.
static constexpr int rnn_gates(RnnMode mode) {
  return mode == RnnMode::lstm ? 4 : mode == RnnMode::gru ? 3 : 1;
}
template <RnnMode mode>
static constexpr int kRnnGates = rnn_gates(mode);

// One layer, in one direction or two. Row (b, t) of the matrices below is b·row_batch + t·row_step.
// Direction 1 goes from each row's own last step to its first. `dtype` is a floating one; cells are
// float32, or float64 for float64. Everything is contiguous. A length is taken into [0, steps].
struct RnnArgs {
  RnnMode mode;
  DType dtype;
  Precision precision;  // of products with W_hh where dtype is float32
  int64_t directions, batch, steps, hidden;
  int64_t row_batch, row_step;
  const int64_t* lengths;            // [batch], or null: all rows have `steps` steps
  const void* h0;                    // [directions, batch, hidden], or null: zeros
  const void* c0;                    // likewise, LSTM only
  const void* w_hh[kMaxDirections];  // [gates·hidden, hidden]
  const void* b_hh[kMaxDirections];  // [gates·hidden], or null
  void* gates;   // [directions, rows, gates·hidden]: x·W_ihᵀ + b_ih, then the gates after their
                 // nonlinearities; undefined beyond a row's length
  void* cells;   // [directions, rows, hidden]: c of the LSTM, W_hn·h + b_hn of the GRU; else null
  void* output;  // [rows, directions·hidden], zeros beyond a row's length
  void* h_n;     // [directions, batch, hidden], at each row's last step
  void* c_n;     // likewise, LSTM only
};

// What the backward pass adds. Gradients beyond a row's length are zeros.
struct RnnGradients {
  const void* d_output;  // [rows, directions·hidden]
  const void* d_h_n;     // [directions, batch, hidden]
  const void* d_c_n;     // likewise, LSTM only
  void* d_input_gates;   // [directions, rows, gates·hidden], of x·W_ihᵀ + b_ih
  void* d_hidden_gates;  // of h·W_hhᵀ + b_hh: GRU only, else the same
  void* previous;        // [directions, rows, hidden]: the h that each step began with
  void* d_h0;            // [directions, batch, hidden]
  void* d_c0;            // likewise, LSTM only
};

struct RnnFamily {
  void (*forward)(Stream&, const RnnArgs&);
  void (*backward)(Stream&, const RnnArgs&, const RnnGradients&);
};

}  // namespace nodegrad
