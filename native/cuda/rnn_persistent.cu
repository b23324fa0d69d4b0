// The recurrence of a whole sequence, and its reverse, in one launch (rnn_plan.h has the cut).
//   forward, per step: receive h of the group's rows, sums = h·W_hhᵀ of the own units, the cells,
//     send the own units' h to all blocks of the group
//   backward, per step: receive and add the shares of the own units' dh, the gates' gradients,
//     send shares dgates·W_hh to the blocks that own the columns
// A step's words are written where those of two steps before stood: a block that sends step s has
// received s-1 from all others, which sent it after they had read s-2.
// h, c and their gradients stay in registers in float32, h rounded as it is stored. Sums are added
// in an order that the plan decides, so results are the same each time.
// Cost of a step: a word's way through L2 and back (near 0.6 µs on H100) and the product; weights
// are read once per launch.
#include "core/error.h"
#include "rnn_cell.h"
#include "rnn_persistent.h"
#include "rnn_plan.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kInFlight = 8;  // pairs of words that a thread awaits together

template <int kColumns>
constexpr int kCellsOf = (kColumns < 16 ? kColumns * 64 : 1024) / kRnnThreads;

// A block's place: its direction, rows and units.
struct BlockPlace {
  int direction, slice, group;
  int rows;  // that exist, of the plan's columns
  int64_t row0, unit0;
};

__device__ __forceinline__ BlockPlace block_place(const RnnArgs& a, const RnnPlan& p) {
  BlockPlace b;
  b.slice = static_cast<int>(blockIdx.x % p.slices);
  b.group = static_cast<int>(blockIdx.x / p.slices);
  const int group = p.first_group + b.group;
  b.direction = group / p.row_groups;
  b.row0 = static_cast<int64_t>(group % p.row_groups) * p.columns;
  b.rows = static_cast<int>(min(a.batch - b.row0, static_cast<int64_t>(p.columns)));
  b.unit0 = static_cast<int64_t>(b.slice) << p.log_units;
  return b;
}

// One of the block's cells that this thread computes; neighbouring threads have neighbouring units.
struct CellPlace {       // rows beyond the plan's columns do not exist
  int index, row, unit;  // in the block
  bool exists;
  int64_t b, j;   // row of the batch, unit of the layer
  int64_t state;  // in [directions, batch, hidden]
};

__device__ __forceinline__ CellPlace cell_place(const RnnArgs& a, const RnnPlan& p,
                                                const BlockPlace& block, int i) {
  CellPlace c;
  c.index = i * kRnnThreads + static_cast<int>(threadIdx.x);
  c.row = c.index >> p.log_units;
  c.unit = c.index & ((1 << p.log_units) - 1);
  c.b = block.row0 + c.row;
  c.j = block.unit0 + c.unit;
  c.exists = c.row < block.rows && c.j < a.hidden;
  c.state = (block.direction * a.batch + c.b) * a.hidden + c.j;
  return c;
}

// The steps until all rows of the block have ended.
__device__ __forceinline__ int64_t steps_of(const RnnArgs& a, const BlockPlace& block) {
  if (!a.lengths) return a.steps;
  int64_t steps = 0;
  for (int r = 0; r < block.rows; ++r) steps = max(steps, rnn_length(a, block.row0 + r));
  return steps;
}

__device__ __forceinline__ uint64_t* words_of(const RnnPlan& p, const BlockPlace& block,
                                              int64_t step) {
  const int64_t groups = gridDim.x / p.slices;
  return p.words + ((step & 1) * groups + block.group) * p.group_words;
}

// A[m][k] of the block from W_hh: gate rows by h, or columns by gate rows. What lies beyond is 0.
template <class Product, bool kBackward>
__device__ void load_weights(const RnnArgs& a, const RnnPlan& p, const BlockPlace& block,
                             typename Product::Shared* to) {
  using T = typename Product::Element;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const T* const w = static_cast<const T*>(a.w_hh[block.direction]);
  const int units = 1 << p.log_units, h = static_cast<int>(a.hidden), stride = p.product.stride;
  const int lines = (p.product.rows + 15) / 16 * 16;
  // Along `wide` neighbouring lanes read neighbours of W, along `other` are gates and units.
  const int wide = kBackward ? lines : p.product.depth, other = kBackward ? p.product.depth : lines;
  for (int line = warp; line < other; line += kRnnWarps) {
    const int gate = line >> p.log_units;
    const int64_t unit = block.unit0 + (line & (units - 1));
    const bool exists = gate < p.gates && unit < h;
    const T* const from = w + (gate * a.hidden + unit) * a.hidden;
    T* const row = to + (kBackward ? line : line * stride);
#pragma unroll 8
    for (int i = lane; i < wide; i += 32) {
      row[kBackward ? i * stride : i] =
          Product::prepare(exists && i < h ? from[i] : from_arith<T>(0.0f));
    }
  }
}

template <class S>
__device__ __forceinline__ void clear_shared(S* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kRnnThreads) {
    to[i] = from_arith<S>(0.0f);
  }
}

// Elements of T in a word.
template <class T>
constexpr int kPerWord = 4 / sizeof(T);

template <class Product>
__device__ __forceinline__ void unpack_word(typename Product::Shared* to, uint64_t word) {
  const uint32_t bits = static_cast<uint32_t>(word);
  if constexpr (kPerWord<typename Product::Element> == 1) {
    to[0] = Product::prepare(__uint_as_float(bits));
  } else {
    to[0].bits = static_cast<uint16_t>(bits);
    to[1].bits = static_cast<uint16_t>(bits >> 16);
  }
}

// h of the group's rows into shared memory, [row][unit]; a warp takes whole rows.
template <class Product>
__device__ __forceinline__ void receive_h(const RnnPlan& p, const BlockPlace& block,
                                          const uint64_t* words, uint32_t round,
                                          typename Product::Shared* to) {
  constexpr int kPer = kPerWord<typename Product::Element>;
  const int pairs = p.words_hidden / (2 * kPer), lane = static_cast<int>(threadIdx.x) % 32;
  int row = static_cast<int>(threadIdx.x) / 32, column = lane;
  const auto advance = [&](int& r, int& c) {
    c += 32;
    if (c >= pairs) {
      c = lane;
      r += kRnnWarps;
    }
  };
  if (column >= pairs) return;
  while (row < block.rows) {
    int rows[kInFlight], columns[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      rows[i] = row;
      columns[i] = column;
      advance(row, column);
    }
    Vector<uint64_t, 2> found[kInFlight];
    await_words(found, round, [&](int i) -> const uint64_t* {
      return rows[i] < block.rows ? words + 2 * (rows[i] * pairs + columns[i]) : nullptr;
    });
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (rows[i] >= block.rows) continue;
      auto* const at = to + rows[i] * p.product.stride + 2 * kPer * columns[i];
      unpack_word<Product>(at, found[i][0]);
      unpack_word<Product>(at + kPer, found[i][1]);
    }
  }
}

// The first h, from where the caller has it.
template <class Product>
__device__ __forceinline__ void load_first_h(const RnnArgs& a, const RnnPlan& p,
                                             const BlockPlace& block,
                                             typename Product::Shared* to) {
  using T = typename Product::Element;
  if (!a.h0) return;
  const T* const from =
      static_cast<const T*>(a.h0) + (block.direction * a.batch + block.row0) * a.hidden;
  const int h = static_cast<int>(a.hidden);
  for (int row = static_cast<int>(threadIdx.x) / 32; row < block.rows; row += kRnnWarps) {
    for (int i = static_cast<int>(threadIdx.x) % 32; i < h; i += 32) {
      to[row * p.product.stride + i] = Product::prepare(from[row * a.hidden + i]);
    }
  }
}

// Sends one unit's h; of 16-bit types the even lane sends two. Whole warps call it together.
template <class T>
__device__ __forceinline__ void send_h(uint64_t* words, const RnnPlan& p, const CellPlace& c,
                                       bool row_exists, float value, uint32_t round) {
  constexpr int kPer = kPerWord<T>;
  const bool sends = row_exists && c.j < p.words_hidden && c.unit % kPer == 0;
  uint32_t bits;
  if constexpr (kPer == 1) {
    bits = __float_as_uint(value);
  } else {
    bits = from_arith<T>(value).bits;
    bits |= __shfl_down_sync(0xffffffffu, bits, 1u) << 16;
  }
  if (sends) store_word(words + (c.row * p.words_hidden + c.j) / kPer, bits, round);
}

template <class Product, int kColumns>
__global__ void __launch_bounds__(kRnnThreads, 1)
    forward_kernel(const __grid_constant__ RnnArgs a, const __grid_constant__ RnnPlan p) {
  using T = typename Product::Element;
  using S = typename Product::Shared;
  constexpr int kCells = kCellsOf<kColumns>;
  unsigned char* const base = &shared_memory<unsigned char>();
  S* const weights = reinterpret_cast<S*>(base);
  S* const h_tile = reinterpret_cast<S*>(base + p.b_offset);
  float* const sums = reinterpret_cast<float*>(base + p.sums_offset);
  float* const bias = reinterpret_cast<float*>(base + p.bias_offset);
  const BlockPlace block = block_place(a, p);
  const int units = 1 << p.log_units, cells = kColumns << p.log_units;
  const int64_t h = a.hidden, matrix = block.direction * a.batch * a.steps;

  load_weights<Product, false>(a, p, block, weights);
  clear_shared(h_tile, kColumns * p.product.stride);
  if (const T* const b = static_cast<const T*>(a.b_hh[block.direction])) {
    for (int i = static_cast<int>(threadIdx.x); i < p.gates * units; i += kRnnThreads) {
      const int64_t j = block.unit0 + (i & (units - 1));
      bias[i] = j < h ? to_arith(b[(i >> p.log_units) * h + j]) : 0.0f;
    }
  } else {
    clear_shared(bias, p.gates * units);
  }
  __syncthreads();
  load_first_h<Product>(a, p, block, h_tile);

  float state[kCells] = {}, cell[kCells] = {}, x[kCells][kMostGates] = {};
  int64_t lengths[kCells] = {};
  const int64_t steps = steps_of(a, block);
  const auto each_cell = [&](const auto& f) {
#pragma unroll
    for (int i = 0; i < kCells; ++i) {
      if (i * kRnnThreads < cells) f(i, cell_place(a, p, block, i));
    }
  };
  const auto load_x = [&](int i, const CellPlace& c, int64_t step) {
    if (!c.exists || step >= lengths[i]) return;
    const RnnPlace place = rnn_place(a, block.direction, c.b, lengths[i], step);
    const T* const from = static_cast<const T*>(a.gates) + (matrix + place.at) * p.gates * h + c.j;
#pragma unroll
    for (int g = 0; g < kMostGates; ++g) {
      if (g < p.gates) x[i][g] = to_arith(from[g * h]);
    }
  };
  each_cell([&](int i, const CellPlace& c) {
    if (!c.exists) return;
    lengths[i] = rnn_length(a, c.b);
    if (a.h0) state[i] = to_arith(static_cast<const T*>(a.h0)[c.state]);
    if (a.c0) cell[i] = to_arith(static_cast<const T*>(a.c0)[c.state]);
    load_x(i, c, 0);
  });

  for (int64_t step = 0; step < steps; ++step) {
    const uint32_t round = p.first_round + static_cast<uint32_t>(step);
    if (step > 0) receive_h<Product>(p, block, words_of(p, block, step - 1), round, h_tile);
    __syncthreads();
    multiply<Product, kColumns>(p.product, weights, h_tile, [&](int part, int m, int n, float sum) {
      sums[(part * kColumns + n) * p.sums_stride + m] = sum;
    });
    __syncthreads();
    uint64_t* const words = words_of(p, block, step);
    each_cell([&](int i, const CellPlace& c) {
      const bool active = c.exists && step < lengths[i];
      if (active) {
        float y[kMostGates] = {};
#pragma unroll
        for (int g = 0; g < kMostGates; ++g) {
          if (g >= p.gates) continue;
          const int m = (g << p.log_units) + c.unit;
          float sum = 0.0f;
          for (int part = 0; part < p.product.parts; ++part) {
            sum += sums[(part * kColumns + c.row) * p.sums_stride + m];
          }
          y[g] = sum + bias[m];
        }
        with_rnn_mode(a.mode, [&]<RnnMode mode>() {
          state[i] = rounded<T>(cell_forward<mode, RnnMath<Product>>(x[i], y, state[i], cell[i]));
        });
      }
      if (step + 1 < steps) send_h<T>(words, p, c, c.row < block.rows, state[i], round + 1);
      if (!c.exists) return;
      const RnnPlace place = rnn_place(a, block.direction, c.b, lengths[i], step);
      static_cast<T*>(a.output)[(place.at * a.directions + block.direction) * h + c.j] =
          from_arith<T>(active ? state[i] : 0.0f);
      if (!active) return;
      T* const gates = static_cast<T*>(a.gates) + (matrix + place.at) * p.gates * h + c.j;
#pragma unroll
      for (int g = 0; g < kMostGates; ++g) {
        if (g < p.gates) gates[g * h] = from_arith<T>(x[i][g]);
      }
      if (a.cells) static_cast<float*>(a.cells)[(matrix + place.at) * h + c.j] = cell[i];
    });
    each_cell([&](int i, const CellPlace& c) { load_x(i, c, step + 1); });
  }

  each_cell([&](int i, const CellPlace& c) {
    if (!c.exists) return;
    for (int64_t step = steps; step < a.steps; ++step) {
      const RnnPlace place = rnn_place(a, block.direction, c.b, lengths[i], step);
      static_cast<T*>(a.output)[(place.at * a.directions + block.direction) * h + c.j] =
          from_arith<T>(0.0f);
    }
    static_cast<T*>(a.h_n)[c.state] = from_arith<T>(state[i]);
    if (a.c_n) static_cast<T*>(a.c_n)[c.state] = from_arith<T>(cell[i]);
  });
}

// Adds what the group's blocks have sent of the own units' dh: [split][row][unit], each split over
// sources of its own.
__device__ __forceinline__ void receive_dh(const RnnPlan& p, const BlockPlace& block,
                                           const uint64_t* words, uint32_t round, float* to) {
  const int log_pairs = p.log_units - 1 + (p.columns == 8 ? 3 : p.columns == 16 ? 4 : 5);
  const int pairs = 1 << log_pairs, own = 2 * pairs;
  for (int item = static_cast<int>(threadIdx.x); item < p.splits << log_pairs;
       item += kRnnThreads) {
    const int split = item >> log_pairs, at = 2 * (item & (pairs - 1));
    if (at >> p.log_units >= block.rows) continue;
    const int end = min((split + 1) * p.sources, p.slices);
    const uint64_t* const from = words + int64_t{block.slice} * p.slices * own + at;
    float low = 0.0f, high = 0.0f;
    for (int source = split * p.sources; source < end; source += kInFlight) {
      Vector<uint64_t, 2> found[kInFlight];
      await_words(found, round, [&](int i) -> const uint64_t* {
        return source + i < end ? from + int64_t{source + i} * own : nullptr;
      });
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (source + i >= end) continue;
        low += __uint_as_float(static_cast<uint32_t>(found[i][0]));
        high += __uint_as_float(static_cast<uint32_t>(found[i][1]));
      }
    }
    store_vector(to + split * own + at, Vector<float, 2>{low, high});
  }
}

template <class Product, int kColumns>
__global__ void __launch_bounds__(kRnnThreads, 1)
    backward_kernel(const __grid_constant__ RnnArgs a, const __grid_constant__ RnnGradients d,
                    const __grid_constant__ RnnPlan p) {
  using T = typename Product::Element;
  using S = typename Product::Shared;
  constexpr int kCells = kCellsOf<kColumns>;
  unsigned char* const base = &shared_memory<unsigned char>();
  S* const weights = reinterpret_cast<S*>(base);
  S* const d_tile = reinterpret_cast<S*>(base + p.b_offset);
  float* const received = reinterpret_cast<float*>(base + p.sums_offset);
  const BlockPlace block = block_place(a, p);
  const int cells = kColumns << p.log_units;
  const int64_t h = a.hidden, matrix = block.direction * a.batch * a.steps;

  load_weights<Product, true>(a, p, block, weights);
  clear_shared(d_tile, kColumns * p.product.stride);
  __syncthreads();

  // dh: the part of the gradient that does not come from other blocks.
  float dh[kCells] = {}, dc[kCells] = {};
  int64_t lengths[kCells] = {};
  const int64_t steps = steps_of(a, block);
  const auto each_cell = [&](const auto& f) {
#pragma unroll
    for (int i = 0; i < kCells; ++i) {
      const CellPlace c = cell_place(a, p, block, i);
      if (c.exists) f(i, c);
    }
  };
  const auto arrived = [&](const CellPlace& c) {
    float sum = 0.0f;
    for (int split = 0; split < p.splits; ++split) sum += received[split * cells + c.index];
    return sum;
  };
  each_cell([&](int i, const CellPlace& c) {
    lengths[i] = rnn_length(a, c.b);
    if (d.d_h_n) dh[i] = to_arith(static_cast<const T*>(d.d_h_n)[c.state]);
    if (d.d_c_n) dc[i] = to_arith(static_cast<const T*>(d.d_c_n)[c.state]);
  });

  const auto store_zeros = [&](int64_t at, const CellPlace& c) {
    const T zero = from_arith<T>(0.0f);
    for (int g = 0; g < p.gates; ++g) {
      static_cast<T*>(d.d_input_gates)[(at * p.gates + g) * h + c.j] = zero;
      static_cast<T*>(d.d_hidden_gates)[(at * p.gates + g) * h + c.j] = zero;
    }
    static_cast<T*>(d.previous)[at * h + c.j] = zero;
  };

  for (int64_t done = 0; done < steps; ++done) {
    const int64_t step = steps - 1 - done;
    const uint32_t round = p.first_round + static_cast<uint32_t>(done);
    CellStep<float> now[kCells] = {};
    float d_output[kCells] = {};
    each_cell([&](int i, const CellPlace& c) {
      if (step >= lengths[i]) return;
      const RnnPlace place = rnn_place(a, block.direction, c.b, lengths[i], step);
      const int64_t at = matrix + place.at;
      const T* const gates = static_cast<const T*>(a.gates) + at * p.gates * h + c.j;
      const T* const output = static_cast<const T*>(a.output);
      const float* const cell = static_cast<const float*>(a.cells);
#pragma unroll
      for (int g = 0; g < kMostGates; ++g) {
        if (g < p.gates) now[i].gates[g] = to_arith(gates[g * h]);
      }
      d_output[i] = to_arith(
          static_cast<const T*>(d.d_output)[(place.at * a.directions + block.direction) * h + c.j]);
      if (cell) now[i].cell = cell[at * h + c.j];
      if (step > 0) {
        now[i].h_before =
            to_arith(output[(place.before * a.directions + block.direction) * h + c.j]);
        if (a.mode == RnnMode::lstm) now[i].cell_before = cell[(matrix + place.before) * h + c.j];
      } else {
        if (a.h0) now[i].h_before = to_arith(static_cast<const T*>(a.h0)[c.state]);
        if (a.c0) now[i].cell_before = to_arith(static_cast<const T*>(a.c0)[c.state]);
      }
    });
    if (done > 0) {
      receive_dh(p, block, words_of(p, block, done - 1), round, received);
      __syncthreads();
    }
    each_cell([&](int i, const CellPlace& c) {
      if (done > 0) dh[i] += arrived(c);
      const RnnPlace place = rnn_place(a, block.direction, c.b, lengths[i], step);
      const int64_t at = matrix + place.at;
      S* const to = d_tile + c.row * p.product.stride + c.unit;
      if (!place.active) {
        for (int g = 0; g < p.gates; ++g) to[g << p.log_units] = from_arith<S>(0.0f);
        store_zeros(at, c);
        return;
      }
      float dx[kMostGates] = {}, d_last = 0.0f;
      now[i].dh = dh[i] + d_output[i];
      with_rnn_mode(a.mode, [&]<RnnMode mode>() {
        dh[i] = cell_backward<mode, RnnMath<Product>>(now[i], dc[i], dx, d_last);
      });
      T* const d_input = static_cast<T*>(d.d_input_gates) + at * p.gates * h + c.j;
      T* const d_hidden = static_cast<T*>(d.d_hidden_gates) + at * p.gates * h + c.j;
#pragma unroll
      for (int g = 0; g < kMostGates; ++g) {
        if (g >= p.gates) continue;
        const T hidden = from_arith<T>(g == p.gates - 1 ? d_last : dx[g]);
        to[g << p.log_units] = Product::prepare(hidden);
        d_input[g * h] = from_arith<T>(dx[g]);
        if (a.mode == RnnMode::gru) d_hidden[g * h] = hidden;
      }
      static_cast<T*>(d.previous)[at * h + c.j] = from_arith<T>(now[i].h_before);
    });
    __syncthreads();
    uint64_t* const words = words_of(p, block, done);
    const int own = cells;
    multiply<Product, kColumns>(p.product, weights, d_tile, [&](int, int m, int n, float sum) {
      const int owner = m >> p.log_units, unit = m & ((1 << p.log_units) - 1);
      if (n >= block.rows || owner >= p.slices) return;
      store_word(
          words + (int64_t{owner} * p.slices + block.slice) * own + (n << p.log_units) + unit,
          __float_as_uint(sum), round + 1);
    });
  }

  if (steps > 0) {
    const uint32_t round = p.first_round + static_cast<uint32_t>(steps);
    receive_dh(p, block, words_of(p, block, steps - 1), round, received);
    __syncthreads();
  }
  each_cell([&](int i, const CellPlace& c) {
    if (steps > 0) dh[i] += arrived(c);
    for (int64_t step = steps; step < a.steps; ++step) {
      store_zeros(matrix + rnn_place(a, block.direction, c.b, lengths[i], step).at, c);
    }
    static_cast<T*>(d.d_h0)[c.state] = from_arith<T>(dh[i]);
    if (d.d_c0) static_cast<T*>(d.d_c0)[c.state] = from_arith<T>(dc[i]);
  });
}

// Calls launch_part(plan of one launch, blocks) until all groups are done.
template <class LaunchPart>
void run_groups(Stream& stream, const RnnArgs& a, RnnPlan p, const LaunchPart& launch_part) {
  const size_t count = 2 * static_cast<size_t>(p.most_groups * p.group_words);
  p.words = static_cast<uint64_t*>(acquire_scratch(stream, count * sizeof(uint64_t)));
  clear_words(stream, "recurrent", p.words, count);
  for (; p.first_group < p.groups; p.first_group += p.most_groups) {
    const int groups = std::min(p.most_groups, p.groups - p.first_group);
    launch_part(p, dim3(static_cast<unsigned>(groups * p.slices)));
    p.first_round += static_cast<uint32_t>(a.steps);
  }
  release_scratch(stream, p.words);
}

template <class Product>
bool forward_of(Stream& stream, const RnnArgs& a) {
  RnnPlan plan;
  if (!choose_rnn_plan<Product>(stream, a, false, plan)) return false;
  const auto kernel = plan.columns == 8    ? forward_kernel<Product, 8>
                      : plan.columns == 16 ? forward_kernel<Product, 16>
                                           : forward_kernel<Product, 32>;
  run_groups(stream, a, plan, [&](const RnnPlan& p, dim3 blocks) {
    launch_cooperative(stream, "recurrent", kernel, blocks, dim3(kRnnThreads), p.shared, a, p);
  });
  return true;
}

template <class Product>
bool backward_of(Stream& stream, const RnnArgs& a, const RnnGradients& d) {
  RnnPlan plan;
  if (!choose_rnn_plan<Product>(stream, a, true, plan)) return false;
  const auto kernel = plan.columns == 8    ? backward_kernel<Product, 8>
                      : plan.columns == 16 ? backward_kernel<Product, 16>
                                           : backward_kernel<Product, 32>;
  run_groups(stream, a, plan, [&](const RnnPlan& p, dim3 blocks) {
    launch_cooperative(stream, "recurrent_backward", kernel, blocks, dim3(kRnnThreads), p.shared, a,
                       d, p);
  });
  return true;
}

}  // namespace

bool rnn_persistent_forward(Stream& stream, const RnnArgs& a) {
  return with_rnn_product(a,
                          [&](auto product) { return forward_of<decltype(product)>(stream, a); });
}

bool rnn_persistent_backward(Stream& stream, const RnnArgs& a, const RnnGradients& d) {
  return with_rnn_product(
      a, [&](auto product) { return backward_of<decltype(product)>(stream, a, d); });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
