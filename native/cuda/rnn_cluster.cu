// The recurrence of a whole sequence, and its reverse, by clusters of blocks (sm_90): each cluster
// takes some rows of the batch, each of its blocks 32 units, each warp 4 of them with all gates.
// Weights stay in registers (rnn_cluster_product.h); blocks exchange words by store_async into each
// other's shared memory, which counts them at an mbarrier there.
//   forward, per step: wait for h of all units; sums of the own gates; cells; h to all blocks
//   backward: wait for the shares of the own units' dh and add them in the blocks' order; gates'
//     gradients into shared memory, __syncthreads; shares dgates·W_hh to the blocks of the columns
// Words of step s go where those of s-2 were: who sends them has received s-1 from every warp that
// had read s-2. Cost of a step of 8 rows, H=256 in bfloat16, in cycles of an H100, from latencies:
// waking 50, ldmatrix and 16 mma in 4 chains 180, sums and shuffles 60, cell 150, words 50,
// store_async to arrival 300: 800, 0.45 µs, with one wait and no other barrier (backward 900, with
// one __syncthreads). TF32 adds 100; float32 has 2,100 of multiply-adds alone.
#include "mbarrier.h"
#include "rnn_cell.h"
#include "rnn_cluster.h"
#include "rnn_plan.h"

#if defined(NODEGRAD_EMULATED) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
#define NODEGRAD_HAS_CLUSTERS 1
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// Layouts of shared memory. kBlocks: the most of a cluster. Words of a step are in half s % 2.
template <class Product, int kBlocks, int kGroups>
struct ForwardShared {
  static constexpr int kStride = Product::stride(kBlocks * kClusterUnits);
  alignas(16) typename Product::Shared h[kGroups][2][kClusterRows][kStride];
  Mbarrier arrived[kGroups][2];
};

template <class Product, int kBlocks, int kGroups>
struct BackwardShared {
  static constexpr int kStride = Product::stride(kShareDepth);
  alignas(16) float shares[kGroups][2][kBlocks][kClusterUnits][kClusterRows];
  alignas(16) typename Product::Shared d_gates[kGroups][2][kClusterRows][kStride];  // [unit][gate]
  Mbarrier arrived[kGroups][2];
};

// What a thread computes: one cell of each row group, of the same unit.
struct OwnCells {
  int direction, rank, block_unit, row;  // unit in the block, row in the group
  int64_t row0, j;                       // first row of the cluster, unit of the layer
};

[[maybe_unused]] __device__ __forceinline__ OwnCells own_cells(const RnnClusterPlan& p) {
  OwnCells own;
  const int cluster = static_cast<int>(blockIdx.x) / p.blocks;
  own.rank = static_cast<int>(cluster_rank());
  own.direction = cluster / p.clusters;
  own.block_unit = static_cast<int>(threadIdx.x) / 32 * kGateSlots + own_unit();
  own.row = own_row();
  own.row0 = int64_t{cluster % p.clusters} * p.row_groups * kClusterRows;
  own.j = int64_t{own.rank} * kClusterUnits + own.block_unit;
  return own;
}

// Where a row of the batch is, at the own unit: elements of [.., gates·hidden], of the output and
// of [.., hidden].
struct Place {
  int64_t gates, output, cells;
};

[[maybe_unused]] __device__ __forceinline__ void move(Place& place, const Place& by) {
  place.gates += by.gates;
  place.output += by.output;
  place.cells += by.cells;
}

[[maybe_unused]] __device__ __forceinline__ Place place_at(const RnnArgs& a,
                                                           const RnnClusterPlan& p,
                                                           const OwnCells& own, int64_t row) {
  const int64_t of_direction = own.direction * a.batch * a.steps + row;
  return {of_direction * p.gates * a.hidden + own.j,
          (row * a.directions + own.direction) * a.hidden + own.j, of_direction * a.hidden + own.j};
}

// From a step to the next, or to the one before.
[[maybe_unused]] __device__ __forceinline__ Place stride_of(const RnnArgs& a,
                                                            const RnnClusterPlan& p,
                                                            const OwnCells& own, bool backward) {
  const int64_t rows = (own.direction == 1) == backward ? a.row_step : -a.row_step;
  return {rows * p.gates * a.hidden, rows * a.directions * a.hidden, rows * a.hidden};
}

// What does not exist has no steps, computes zeros and sends them.
struct Cell {
  int64_t b, state;  // row of the batch, place in [directions, batch, hidden]
  bool exists;
  int length;
};

[[maybe_unused]] __device__ __forceinline__ Cell cell_of(const RnnArgs& a, const OwnCells& own,
                                                         int group) {
  Cell c;
  c.b = own.row0 + group * kClusterRows + own.row;
  c.exists = c.b < a.batch && own.j < a.hidden;
  c.state = (own.direction * a.batch + c.b) * a.hidden + own.j;
  c.length = c.exists ? static_cast<int>(rnn_length(a, c.b)) : 0;
  return c;
}

// Until all rows of the group have ended.
[[maybe_unused]] __device__ __forceinline__ int group_steps(const RnnArgs& a, int64_t row0) {
  if (!a.lengths) return row0 < a.batch ? static_cast<int>(a.steps) : 0;
  int64_t steps = 0;
#pragma unroll 1
  for (int64_t b = row0; b < min(a.batch, row0 + kClusterRows); ++b) {
    steps = max(steps, rnn_length(a, b));
  }
  return static_cast<int>(steps);
}

// The block's rows of W_hh into shared memory, zeros where the layer has no gate, unit or column.
template <class Product, int kBlocks>
__device__ StagedWeights<typename Product::Shared> stage_weights(const RnnArgs& a,
                                                                 const RnnClusterPlan& p,
                                                                 const OwnCells& own) {
  using T = typename Product::Element;
  constexpr int kStride = kRnnStageStride<Product, kBlocks>;
  auto* const stage = reinterpret_cast<typename Product::Shared*>(&shared_memory<unsigned char>());
  const int warp = static_cast<int>(threadIdx.x) / 32, h = static_cast<int>(a.hidden);
  const T* const w = static_cast<const T*>(a.w_hh[own.direction]);
  for (int row = warp; row < kShareDepth; row += kRnnWarps) {
    const int gate = row % kGateSlots, unit = own.rank * kClusterUnits + row / kGateSlots;
    const bool exists = gate < p.gates && unit < h;
    const T* const from = w + (gate * a.hidden + unit) * a.hidden;
#pragma unroll
    for (int i = lane_id(); i < kBlocks * kClusterUnits; i += 32) {
      stage[row * kStride + i] = Product::prepare(exists && i < h ? from[i] : from_arith<T>(0.0f));
    }
  }
  __syncthreads();
  return {stage, kStride};
}

// The barriers of all halves, each expecting its first words.
template <int kGroups>
__device__ __forceinline__ void init_barriers(Mbarrier (&arrived)[kGroups][2], unsigned bytes) {
  if (threadIdx.x != 0) return;
  for (int i = 0; i < 2 * kGroups; ++i) mbarrier_init(&arrived[i / 2][i % 2], 1);
  fence_mbarrier_init();
  for (int i = 0; i < 2 * kGroups; ++i) mbarrier_expect_and_arrive(&arrived[i / 2][i % 2], bytes);
}

// Waits for the words of number `sent` (0, 1, …), and expects those of sent + 2.
[[maybe_unused]] __device__ __forceinline__ void await_step(Mbarrier (&arrived)[2], int sent,
                                                            unsigned bytes) {
  Mbarrier* const barrier = &arrived[sent & 1];
  mbarrier_wait(barrier, static_cast<unsigned>(sent) >> 1 & 1);
  if (threadIdx.x == 0) mbarrier_expect_and_arrive(barrier, bytes);
}

// Another block's shared memory: `at` gives its place of what this block has at `own`.
struct Peer {
  unsigned char *own, *peer;

  __device__ __forceinline__ Peer(uint32_t rank)
      : own(&shared_memory<unsigned char>()), peer(cluster_peer(own, rank)) {}
  template <class To, class T>
  __device__ __forceinline__ To* at(T* mine) const {
    return reinterpret_cast<To*>(peer + (reinterpret_cast<unsigned char*>(mine) - own));
  }
  template <class T, int N>
  __device__ __forceinline__ void send(T* to, const Vector<uint32_t, N>& words,
                                       Mbarrier* arrived) const {
    store_async(at<uint32_t>(to), words, at<Mbarrier>(arrived));
  }
};

// A row's words of the warp's 4 units, gathered from four lanes.
template <class S>
__device__ __forceinline__ Vector<uint32_t, sizeof(S)> gather_units(S value) {
  const int unit = own_unit();
  if constexpr (sizeof(S) == 2) {
    const uint32_t mine = value.bits, other = __shfl_xor_sync(0xffffffffu, mine, 4);
    const uint32_t pair = unit & 1 ? other | mine << 16 : mine | other << 16;
    const uint32_t far = __shfl_xor_sync(0xffffffffu, pair, 8);
    return {unit & 2 ? far : pair, unit & 2 ? pair : far};
  } else {
    const uint32_t mine = __float_as_uint(value), other = __shfl_xor_sync(0xffffffffu, mine, 4);
    const uint32_t low = unit & 1 ? other : mine, high = unit & 1 ? mine : other;
    const uint32_t far_low = __shfl_xor_sync(0xffffffffu, low, 8);
    const uint32_t far_high = __shfl_xor_sync(0xffffffffu, high, 8);
    return {unit & 2 ? far_low : low, unit & 2 ? far_high : high, unit & 2 ? low : far_low,
            unit & 2 ? high : far_high};
  }
}

template <class Product, int kBlocks, int kGroups>
__global__ void __launch_bounds__(kRnnThreads, 1)
    forward_kernel(const __grid_constant__ RnnArgs a, const __grid_constant__ RnnClusterPlan p) {
#ifdef NODEGRAD_HAS_CLUSTERS
  using T = typename Product::Element;
  using S = typename Product::Shared;
  using Shared = ForwardShared<Product, kBlocks, kGroups>;
  static_assert(sizeof(Shared) <= kRnnStageBytes<Product, kBlocks>);
  auto& shared = shared_memory<Shared>();
  const OwnCells own = own_cells(p);
  const int64_t h = a.hidden;
  const int depth = p.blocks * kClusterUnits;
  const unsigned step_bytes = static_cast<unsigned>(kClusterRows * depth * sizeof(S));
  const int64_t warp_unit = own.j - own_unit();

  GateWeights<Product, kBlocks * kClusterUnits> weights;
  weights.load(stage_weights<Product, kBlocks>(a, p, own));
  __syncthreads();
  init_barriers(shared.arrived, step_bytes);
  float bias[kGateSlots] = {};
#pragma unroll
  for (int g = 0; g < kGateSlots; ++g) {
    const T* const b = static_cast<const T*>(a.b_hh[own.direction]);
    if (b && g < p.gates && own.j < h) bias[g] = to_arith(b[g * h + own.j]);
  }
  for (int i = static_cast<int>(threadIdx.x); i < kGroups * kClusterRows * depth;
       i += kRnnThreads) {
    const int row = i / depth % kClusterRows, group = i / depth / kClusterRows, k = i % depth;
    const int64_t b = own.row0 + group * kClusterRows + row;
    T value = from_arith<T>(0.0f);
    if (a.h0 && b < a.batch && k < h) {
      value = static_cast<const T*>(a.h0)[(own.direction * a.batch + b) * h + k];
    }
    shared.h[group][0][row][k] = Product::prepare(value);
  }

  Cell cells[kGroups] = {};
  Place at[kGroups] = {};
  const Place stride = stride_of(a, p, own, false);
  int steps[kGroups], most_steps = 0;
  float state[kGroups] = {}, value[kGroups] = {}, x[kGroups][kMostGates] = {};
  // The four lanes of a row send it to every fourth block each.
  const Peer near_peer(static_cast<uint32_t>(min(own_unit(), p.blocks - 1)));
  const Peer far_peer(static_cast<uint32_t>(min(own_unit() + kGateSlots, p.blocks - 1)));
  T* const gates = static_cast<T*>(a.gates);
  const auto load_x = [&](int64_t from, float(&to)[kMostGates]) {
#pragma unroll
    for (int g = 0; g < kMostGates; ++g) {
      if (g < p.gates) to[g] = to_arith(gates[from + g * h]);
    }
  };
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const Cell c = cells[i] = cell_of(a, own, i);
    steps[i] = group_steps(a, own.row0 + i * kClusterRows);
    most_steps = max(most_steps, steps[i]);
    at[i] = place_at(a, p, own, rnn_place(a, own.direction, c.b, c.length, 0).at);
    if (c.length > 0) load_x(at[i].gates, x[i]);
    if (!c.exists) continue;
    if (a.h0) state[i] = to_arith(static_cast<const T*>(a.h0)[c.state]);
    if (a.c0) value[i] = to_arith(static_cast<const T*>(a.c0)[c.state]);
  }
  cluster_sync();

  for (int step = 0; step < most_steps; ++step) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      if (step >= steps[i]) continue;
      float next[kMostGates] = {};
      if (step + 1 < cells[i].length) load_x(at[i].gates + stride.gates, next);
      if (step > 0) await_step(shared.arrived[i], step - 1, step_bytes);
      float y[kGateSlots];
      weights.multiply(shared.h[i][step & 1][0], Shared::kStride, depth, y);
      __syncwarp();  // the warp has read: its words tell the others
      const bool active = step < cells[i].length;
      if (active) {
#pragma unroll
        for (int g = 0; g < kGateSlots; ++g) y[g] += bias[g];
        with_rnn_mode(a.mode, [&]<RnnMode mode>() {
          state[i] = rounded<T>(cell_forward<mode, RnnMath<Product>>(x[i], y, state[i], value[i]));
        });
      }
      if (step + 1 < steps[i]) {
        const auto words = gather_units<S>(Product::prepare(from_arith<T>(state[i])));
        S* const to = &shared.h[i][(step + 1) & 1][own.row][warp_unit];
        Mbarrier* const arrived = &shared.arrived[i][step & 1];
        if (own_unit() < p.blocks) near_peer.send(to, words, arrived);
        if (own_unit() + kGateSlots < p.blocks) far_peer.send(to, words, arrived);
      }
      if (active) {
        static_cast<T*>(a.output)[at[i].output] = from_arith<T>(state[i]);
#pragma unroll
        for (int g = 0; g < kMostGates; ++g) {
          if (g < p.gates) gates[at[i].gates + g * h] = from_arith<T>(x[i][g]);
        }
        if (a.cells) static_cast<float*>(a.cells)[at[i].cells] = value[i];
        move(at[i], stride);
      }
#pragma unroll
      for (int g = 0; g < kMostGates; ++g) x[i][g] = next[g];
    }
  }

#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const Cell& c = cells[i];
    if (!c.exists) continue;
    for (int64_t step = c.length; step < a.steps; ++step) {
      const int64_t row = rnn_place(a, own.direction, c.b, c.length, step).at;
      static_cast<T*>(a.output)[place_at(a, p, own, row).output] = from_arith<T>(0.0f);
    }
    static_cast<T*>(a.h_n)[c.state] = from_arith<T>(state[i]);
    if (a.c_n) static_cast<T*>(a.c_n)[c.state] = from_arith<T>(value[i]);
  }
  cluster_sync();  // no block's shared memory goes while words may be on their way to it
#else
  __trap();  // has_clusters keeps launches away
#endif
}

template <class Product, int kBlocks, int kGroups>
__global__ void __launch_bounds__(kRnnThreads, 1)
    backward_kernel(const __grid_constant__ RnnArgs a, const __grid_constant__ RnnGradients d,
                    const __grid_constant__ RnnClusterPlan p) {
#ifdef NODEGRAD_HAS_CLUSTERS
  using T = typename Product::Element;
  using S = typename Product::Shared;
  using Shared = BackwardShared<Product, kBlocks, kGroups>;
  static_assert(sizeof(Shared) <= kRnnStageBytes<Product, kBlocks>);
  auto& shared = shared_memory<Shared>();
  const OwnCells own = own_cells(p);
  const int64_t h = a.hidden;
  const unsigned step_bytes = static_cast<unsigned>(p.blocks * kClusterUnits * kClusterRows) * 4;

  ShareWeights<Product, kBlocks> weights;
  weights.load(stage_weights<Product, kBlocks>(a, p, own));
  __syncthreads();
  init_barriers(shared.arrived, step_bytes);
  const Peer owners[2] = {weights.owner(0, p.blocks), weights.owner(1, p.blocks)};

  Cell cells[kGroups] = {};
  Place at[kGroups] = {};
  const Place stride = stride_of(a, p, own, true);
  int steps[kGroups], most_steps = 0;
  // dh: the part of the gradient that does not come from other blocks.
  float dh[kGroups] = {}, dc[kGroups] = {};
  CellStep<float> now[kGroups] = {};
  const T* const output = static_cast<const T*>(a.output);
  const float* const values = static_cast<const float*>(a.cells);
  // What step `step` was computed from, where the cell has it.
  const auto load_step = [&](int i, int64_t step) {
    if (step < 0 || step >= cells[i].length) return;
    const T* const gates = static_cast<const T*>(a.gates) + at[i].gates;
#pragma unroll
    for (int g = 0; g < kMostGates; ++g) {
      if (g < p.gates) now[i].gates[g] = to_arith(gates[g * h]);
    }
    now[i].dh = to_arith(static_cast<const T*>(d.d_output)[at[i].output]);
    if (values) now[i].cell = values[at[i].cells];
    now[i].h_before = now[i].cell_before = 0.0f;
    if (step > 0) {
      now[i].h_before = to_arith(output[at[i].output + stride.output]);
      if (a.mode == RnnMode::lstm) now[i].cell_before = values[at[i].cells + stride.cells];
    } else {
      if (a.h0) now[i].h_before = to_arith(static_cast<const T*>(a.h0)[cells[i].state]);
      if (a.c0) now[i].cell_before = to_arith(static_cast<const T*>(a.c0)[cells[i].state]);
    }
  };
  const auto store_step = [&](const Place& to, const float(&dx)[kMostGates], float d_last,
                              float h_before) {
    T* const d_input = static_cast<T*>(d.d_input_gates) + to.gates;
    T* const d_hidden = static_cast<T*>(d.d_hidden_gates) + to.gates;
#pragma unroll
    for (int g = 0; g < kMostGates; ++g) {
      if (g >= p.gates) continue;
      d_input[g * h] = from_arith<T>(dx[g]);
      if (a.mode == RnnMode::gru) d_hidden[g * h] = from_arith<T>(g == 2 ? d_last : dx[g]);
    }
    static_cast<T*>(d.previous)[to.cells] = from_arith<T>(h_before);
  };
  const auto add_shares = [&](int i, int sent) {
    await_step(shared.arrived[i], sent, step_bytes);
    float sum = 0.0f;
#pragma unroll
    for (int source = 0; source < kBlocks; ++source) {
      if (source < p.blocks) sum += shared.shares[i][sent & 1][source][own.block_unit][own.row];
    }
    dh[i] += sum;
  };
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const Cell c = cells[i] = cell_of(a, own, i);
    steps[i] = group_steps(a, own.row0 + i * kClusterRows);
    most_steps = max(most_steps, steps[i]);
    at[i] = place_at(a, p, own, rnn_place(a, own.direction, c.b, c.length, c.length - 1).at);
    load_step(i, steps[i] - 1);
    if (!c.exists) continue;
    if (d.d_h_n) dh[i] = to_arith(static_cast<const T*>(d.d_h_n)[c.state]);
    if (d.d_c_n) dc[i] = to_arith(static_cast<const T*>(d.d_c_n)[c.state]);
  }
  cluster_sync();

  for (int done = 0; done < most_steps; ++done) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      if (done >= steps[i]) continue;
      const int step = steps[i] - 1 - done;
      const bool active = step < cells[i].length;
      const Place here = at[i];
      if (done > 0) add_shares(i, done - 1);
      float dx[kMostGates] = {}, d_last = 0.0f, h_before = 0.0f;
      if (active) {
        h_before = now[i].h_before;
        now[i].dh += dh[i];
        with_rnn_mode(a.mode, [&]<RnnMode mode>() {
          dh[i] = cell_backward<mode, RnnMath<Product>>(now[i], dc[i], dx, d_last);
        });
        move(at[i], stride);
      }
      Vector<S, kGateSlots> hidden;
#pragma unroll
      for (int g = 0; g < kGateSlots; ++g) {
        hidden[g] = Product::prepare(from_arith<T>(g == p.gates - 1 ? d_last : dx[g]));
      }
      auto& tile = shared.d_gates[i][done & 1];
      store_vector(&tile[own.row][own.block_unit * kGateSlots], hidden);
      load_step(i, step - 1);
      __syncthreads();
      weights.multiply(
          tile[0], Shared::kStride, p.blocks,
          [&](int i_tile, int m, int n, const Vector<float, 4>& sums) {
            const Vector<uint32_t, 4> words{__float_as_uint(sums[0]), __float_as_uint(sums[1]),
                                            __float_as_uint(sums[2]), __float_as_uint(sums[3])};
            owners[i_tile].send(&shared.shares[i][done & 1][own.rank][m % kClusterUnits][n], words,
                                &shared.arrived[i][done & 1]);
          });
      if (active) store_step(here, dx, d_last, h_before);
    }
  }

#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    if (steps[i] > 0) add_shares(i, steps[i] - 1);
    const Cell& c = cells[i];
    if (!c.exists) continue;
    for (int64_t step = c.length; step < a.steps; ++step) {
      const int64_t row = rnn_place(a, own.direction, c.b, c.length, step).at;
      store_step(place_at(a, p, own, row), {}, 0.0f, 0.0f);
    }
    static_cast<T*>(d.d_h0)[c.state] = from_arith<T>(dh[i]);
    if (d.d_c0) static_cast<T*>(d.d_c0)[c.state] = from_arith<T>(dc[i]);
  }
  cluster_sync();  // as forward
#else
  __trap();  // has_clusters keeps launches away
#endif
}

// Whether this build's kernels have clusters: older PTX may run on newer chips, too.
bool has_clusters(Stream& stream) {
  return compiled_for(stream, forward_kernel<HalfProduct<BFloat16>, 8, 1>, 90);
}

// Calls f.operator()<Product, kBlocks, kGroups>(plan) with the layer's, where it has a plan.
template <class F>
bool with_cluster_plan(Stream& stream, const RnnArgs& a, const F& f) {
  if (compute_capability(stream) < 90 || !has_clusters(stream)) return false;
  return with_rnn_product(a, [&]<class Product>(Product) {
    // The kernels of one group and those of two, of either pass, take a multiprocessor each.
    const auto resident = [&](int blocks) {
      const auto ask = [&]<int kBlocks>() {
        return resident_clusters(stream, forward_kernel<Product, kBlocks, 1>,
                                 static_cast<unsigned>(blocks), kRnnThreads,
                                 kRnnStageBytes<Product, kBlocks>);
      };
      return blocks <= 4 ? ask.template operator()<4>() : ask.template operator()<8>();
    };
    RnnClusterPlan plan;
    if (!choose_rnn_cluster_plan<Product>(resident, a, plan) ||
        plan.shared > shared_memory_limit(stream)) {
      return false;
    }
    const bool small = plan.blocks <= 4;
    constexpr bool kPairs = kMostRowGroups<Product> == 2;
    if constexpr (kPairs) {
      if (plan.row_groups == 2) {
        small ? f.template operator()<Product, 4, 2>(plan)
              : f.template operator()<Product, 8, 2>(plan);
        return true;
      }
    }
    small ? f.template operator()<Product, 4, 1>(plan) : f.template operator()<Product, 8, 1>(plan);
    return true;
  });
}

dim3 blocks_of(const RnnArgs& a, const RnnClusterPlan& p) {
  return dim3(static_cast<unsigned>(a.directions * p.clusters * p.blocks));
}

}  // namespace

bool rnn_cluster_forward(Stream& stream, const RnnArgs& a) {
  return with_cluster_plan(
      stream, a, [&]<class Product, int kBlocks, int kGroups>(const RnnClusterPlan& p) {
        launch_clusters(stream, "recurrent", forward_kernel<Product, kBlocks, kGroups>,
                        blocks_of(a, p), dim3(kRnnThreads), static_cast<unsigned>(p.blocks),
                        p.shared, a, p);
      });
}

bool rnn_cluster_backward(Stream& stream, const RnnArgs& a, const RnnGradients& d) {
  return with_cluster_plan(
      stream, a, [&]<class Product, int kBlocks, int kGroups>(const RnnClusterPlan& p) {
        launch_clusters(stream, "recurrent_backward", backward_kernel<Product, kBlocks, kGroups>,
                        blocks_of(a, p), dim3(kRnnThreads), static_cast<unsigned>(p.blocks),
                        p.shared, a, d, p);
      });
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
