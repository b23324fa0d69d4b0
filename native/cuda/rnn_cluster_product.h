// The products of a step where every warp keeps its part of the weights in registers from the
// first step to the last: sums[m][n] = Σ_k A[m][k]·B[n][k], A in registers, B (8 rows of h, or of
// gradients of gates) in shared memory with K contiguous. Only slices of 32 of K below `depth` are
// used. `rnn_product.h` has the arithmetic of each Product and the strides of B.
//   GateWeights   a warp's 4 units with 4 gates each (16 rows). A thread receives the 4 sums of its
//                 own cell: unit own_unit(), row own_row() of the 8.
//   ShareWeights  rows of M of the reverse, K = 32 units of 4 gates. `sink(i, m, n, four)` receives
//                 four neighbours along n of row m, which the warp's tile i made.
// The mma products spread a tile's rows so that the two gates which a thread lacks are one shuffle
// away. FloatProduct gives each thread 4 rows by a part of K, and shuffles add the parts.
#pragma once

#include "rnn_product.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kClusterRows = 8;    // of the batch, in one product
constexpr int kClusterUnits = 32;  // of a block, 4 a warp
constexpr int kGateSlots = 4;
constexpr int kShareDepth = kGateSlots * kClusterUnits;

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int own_unit() { return lane_id() / 4 % 4; }
__device__ __forceinline__ int own_row() { return lane_id() % 4 * 2 + lane_id() / 16; }

// A block's slice of W_hh on its way to registers: rows 4·unit + gate, K or M contiguous.
template <class S>
struct StagedWeights {
  const S* at;
  int stride;
};

// Row of the slice for row r of a warp's tile of gates: the thread of rows g and g+8 has two gates
// of one unit.
__device__ __forceinline__ int gate_row(int r) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return kGateSlots * (4 * warp + r % 4) + r % 8 / 4 + r / 8 * 2;
}

// 16 rows of A, as mma takes them: rows gate_row of the slice, or 16 columns of it from m0.
template <class Product, int kK>
struct ResidentTile;

template <class T, int kK>
struct ResidentTile<HalfProduct<T>, kK> {
  static constexpr int kStep = 32;
  uint32_t a[kK / 16][4];

  __device__ __forceinline__ void load_gates(const StagedWeights<T>& w) {
    const T* const from = w.at + gate_row(lane_id() % 16) * w.stride + lane_id() / 16 * 8;
#pragma unroll
    for (int s = 0; s < kK / 16; ++s) ldmatrix_x4(a[s], from + 16 * s);
  }
  __device__ __forceinline__ void load_columns(const StagedWeights<T>& w, int m0) {
    const int lane = lane_id();
    const T* const from = w.at + (lane % 8 + lane / 16 * 8) * w.stride + m0 + lane / 8 % 2 * 8;
#pragma unroll
    for (int s = 0; s < kK / 16; ++s) ldmatrix_x4_trans(a[s], from + 16 * s * w.stride);
  }

  static __device__ __forceinline__ const T* row_of(const T* b, int stride) {
    return b + lane_id() % 8 * stride + lane_id() / 8 * 8;
  }
  // Adds 32 of K, whose operands of B are y; sums of even and odd instructions are apart.
  __device__ __forceinline__ void add(int k, const Vector<uint32_t, 4>& y, float (&even)[4],
                                      float (&odd)[4]) const {
    mma_half(even, a[k / 16], {y[0], y[1]}, T{});
    mma_half(odd, a[k / 16 + 1], {y[2], y[3]}, T{});
  }
  static __device__ __forceinline__ Vector<uint32_t, 4> load_b(const T* row, int k) {
    uint32_t y[4];
    ldmatrix_x4(y, row + k);
    return {y[0], y[1], y[2], y[3]};
  }
};

// K as in multiply_tile: (4t, 4t+1) and (4t+2, 4t+3) stand where the instruction has (t, t+4).
template <int kK>
struct ResidentTile<Tf32Product, kK> {
  static constexpr int kStep = 16;
  uint32_t a[kK / 8][4];

  // element(row, k)
  template <class Element>
  __device__ __forceinline__ void load(const Element& element) {
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int s = 0; s < kK / 8; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        a[s][i] = __float_as_uint(element(g + i % 2 * 8, s / 2 * 16 + 4 * t + s % 2 * 2 + i / 2));
      }
    }
  }
  __device__ __forceinline__ void load_gates(const StagedWeights<float>& w) {
    load([&](int row, int k) { return w.at[gate_row(row) * w.stride + k]; });
  }
  __device__ __forceinline__ void load_columns(const StagedWeights<float>& w, int m0) {
    load([&](int row, int k) { return w.at[k * w.stride + m0 + row]; });
  }

  static __device__ __forceinline__ const float* row_of(const float* b, int stride) {
    return b + lane_id() / 4 * stride + lane_id() % 4 * 4;
  }
  __device__ __forceinline__ void add(int k, const Vector<uint32_t, 4>& y, float (&even)[4],
                                      float (&odd)[4]) const {
    mma_m16n8k8_tf32(even, a[k / 8], {y[0], y[1]});
    mma_m16n8k8_tf32(odd, a[k / 8 + 1], {y[2], y[3]});
  }
  static __device__ __forceinline__ Vector<uint32_t, 4> load_b(const float* row, int k) {
    return load_vector<4>(reinterpret_cast<const uint32_t*>(row + k));
  }
};

// d[i] = tiles[i]·B, in four chains of sums or more, so that instructions rarely wait for each
// other.
template <class Product, int kK, int kTiles>
__device__ __forceinline__ void multiply_tiles(const ResidentTile<Product, kK> (&tiles)[kTiles],
                                               const typename Product::Shared* b, int stride,
                                               int depth, float (&d)[kTiles][4]) {
  using Tile = ResidentTile<Product, kK>;
  constexpr int kPairs = kTiles == 1 ? 2 : 1;
  float sums[kTiles][2 * kPairs][4] = {};
  const auto* const row = Tile::row_of(b, stride);
#pragma unroll
  for (int k = 0; k < kK; k += Tile::kStep) {
    if (k >= depth) continue;
    const int pair = k / Tile::kStep % kPairs;
    const Vector<uint32_t, 4> y = Tile::load_b(row, k);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      tiles[i].add(k, y, sums[i][2 * pair], sums[i][2 * pair + 1]);
    }
  }
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      d[i][e] = sums[i][0][e] + sums[i][1][e];
      if constexpr (kPairs == 2) d[i][e] += sums[i][2][e] + sums[i][3][e];
    }
  }
}

template <class Product, int kK>
struct GateWeights {
  ResidentTile<Product, kK> tiles[1];

  __device__ __forceinline__ void load(const StagedWeights<typename Product::Shared>& w) {
    tiles[0].load_gates(w);
  }

  // Lanes below 16 hold gates 0 and 2 of two rows, the others gates 1 and 3.
  __device__ __forceinline__ void multiply(const typename Product::Shared* b, int stride, int depth,
                                           float (&y)[kGateSlots]) const {
    float sums[1][4];
    multiply_tiles(tiles, b, stride, depth, sums);
    const float(&d)[4] = sums[0];
    const bool upper = lane_id() >= 16;
    const float first = __shfl_xor_sync(0xffffffffu, upper ? d[0] : d[1], 16);
    const float second = __shfl_xor_sync(0xffffffffu, upper ? d[2] : d[3], 16);
    y[0] = upper ? first : d[0];
    y[1] = upper ? d[1] : first;
    y[2] = upper ? second : d[2];
    y[3] = upper ? d[3] : second;
  }
};

// Tiles warp, warp + 8, … of `blocks` times 32 rows of M.
template <class Product, int kMostBlocks>
struct ShareWeights {
  static constexpr int kTileRows = 16;
  static constexpr int kTiles =
      (kMostBlocks * kClusterUnits / kTileRows + kRnnWarps - 1) / kRnnWarps;
  ResidentTile<Product, kShareDepth> tiles[kTiles];

  static __device__ __forceinline__ int tile_of(int i) {
    return static_cast<int>(threadIdx.x) / 32 + i * kRnnWarps;
  }
  // The block whose units tile i makes, or any where there is none.
  static __device__ __forceinline__ uint32_t owner(int i, int blocks) {
    return static_cast<uint32_t>(min(tile_of(i) * kTileRows / kClusterUnits, blocks - 1));
  }

  __device__ __forceinline__ void load(const StagedWeights<typename Product::Shared>& w) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) tiles[i].load_columns(w, tile_of(i) * kTileRows);
  }

  // Lanes of even t gather row g from their neighbour, lanes of odd t row g+8.
  template <class Sink>
  __device__ __forceinline__ void multiply(const typename Product::Shared* b, int stride,
                                           int blocks, const Sink& sink) const {
    const int g = lane_id() / 4, t = lane_id() % 4;
    const bool odd = t % 2 == 1;
    float sums[kTiles][4];
    multiply_tiles(tiles, b, stride, kShareDepth, sums);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (tile_of(i) * kTileRows >= blocks * kClusterUnits) continue;
      const float(&d)[4] = sums[i];
      const float low = __shfl_xor_sync(0xffffffffu, odd ? d[0] : d[2], 1);
      const float high = __shfl_xor_sync(0xffffffffu, odd ? d[1] : d[3], 1);
      sink(i, tile_of(i) * kTileRows + g + (odd ? 8 : 0), t / 2 * 4,
           odd ? Vector<float, 4>{low, high, d[2], d[3]} : Vector<float, 4>{d[0], d[1], low, high});
    }
  }
};

// 4 rows of A by every kParts-th group of 4 of K, from `part` on; sums are [m][n].
template <int kK, int kParts>
struct ResidentLanes {
  static constexpr int kStep = 4 * kParts, kChunks = kK / kStep;
  Vector<float, 4> a[kChunks][4];

  // element(m, k)
  template <class Element>
  __device__ __forceinline__ void load(int part, const Element& element) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[c][m][i] = element(m, c * kStep + 4 * part + i);
      }
    }
  }

  __device__ __forceinline__ void multiply(const float* b, int stride, int part, int depth,
                                           float (&sums)[4 * kClusterRows]) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c * kStep >= depth) continue;
#pragma unroll
      for (int n = 0; n < kClusterRows; ++n) {
        const auto y = load_vector<4>(b + n * stride + c * kStep + 4 * part);
#pragma unroll
        for (int m = 0; m < 4; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& sum = sums[m * kClusterRows + n];
            sum = fmaf(a[c][m][i], y[i], sum);
          }
        }
      }
    }
  }
};

// Exchanges halves with the lane `bits` away and adds: `upper` lanes keep the second half.
template <int kHalf>
__device__ __forceinline__ void add_halves(const float* from, bool upper, int bits, float* to) {
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float other = __shfl_xor_sync(0xffffffffu, upper ? from[i] : from[kHalf + i], bits);
    to[i] = (upper ? from[kHalf + i] : from[i]) + other;
  }
}

// A thread's part of K is its own_row(), which it keeps of the 8 rows.
template <int kK>
struct GateWeights<FloatProduct, kK> {
  ResidentLanes<kK, 8> lanes;

  __device__ __forceinline__ void load(const StagedWeights<float>& w) {
    const int unit = static_cast<int>(threadIdx.x) / 32 * 4 + own_unit();
    lanes.load(own_row(),
               [&](int gate, int k) { return w.at[(kGateSlots * unit + gate) * w.stride + k]; });
  }

  __device__ __forceinline__ void multiply(const float* b, int stride, int depth,
                                           float (&y)[kGateSlots]) const {
    float sums[4 * kClusterRows] = {};
    lanes.multiply(b, stride, own_row(), depth, sums);
    const int lane = lane_id();
#pragma unroll
    for (int gate = 0; gate < kGateSlots; ++gate) {
      float four[4], two[2];
      add_halves<4>(sums + gate * kClusterRows, lane & 2, 2, four);
      add_halves<2>(four, lane & 1, 1, two);
      add_halves<1>(two, lane & 16, 16, &y[gate]);
    }
  }
};

// A warp makes the 32 rows of M of one block; a thread keeps row `lane`.
template <int kMostBlocks>
struct ShareWeights<FloatProduct, kMostBlocks> {
  ResidentLanes<kShareDepth, 4> lanes;

  static __device__ __forceinline__ uint32_t owner(int, int blocks) {
    return static_cast<uint32_t>(min(static_cast<int>(threadIdx.x) / 32, blocks - 1));
  }

  __device__ __forceinline__ void load(const StagedWeights<float>& w) {
    const int warp = static_cast<int>(threadIdx.x) / 32, first = warp * 32 + lane_id() / 4 * 4;
    if (warp >= kMostBlocks) return;
    lanes.load(lane_id() % 4, [&](int m, int k) { return w.at[k * w.stride + first + m]; });
  }

  template <class Sink>
  __device__ __forceinline__ void multiply(const float* b, int stride, int blocks,
                                           const Sink& sink) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = lane_id();
    if (warp >= blocks) return;
    float sums[4 * kClusterRows] = {}, two[2 * kClusterRows], one[kClusterRows];
    lanes.multiply(b, stride, lane % 4, kShareDepth, sums);
    add_halves<2 * kClusterRows>(sums, lane & 2, 2, two);
    add_halves<kClusterRows>(two, lane & 1, 1, one);
    sink(0, warp * 32 + lane, 0, Vector<float, 4>{one[0], one[1], one[2], one[3]});
    sink(0, warp * 32 + lane, 4, Vector<float, 4>{one[4], one[5], one[6], one[7]});
  }
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
