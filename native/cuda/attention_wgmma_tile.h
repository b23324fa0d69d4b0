// What the warpgroup kernels of attention are made of: tiles of rows that tensor copies bring and
// wgmma multiplies, the products of a warpgroup with them, and the way of scores into registers of
// the next product.
//
// A tile is cut into panels of one line of 128 bytes per row under the 128-byte swizzle; heads of
// 32 and 96 have lines of 64 bytes and that swizzle, so that panels are always whole. A warpgroup
// has 64 rows; its warp w holds rows 16w … 16w + 15 of all sums in the pieces of mma.sync
// (attention_tile.h), so masks, dropout and stores are those of that form, with R = 1.
#pragma once

#include <type_traits>

#include "attention_tile.h"
#include "tensor_copy.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr int kWarpgroup = 128;
constexpr int kMostHopperShared = 227 * 1024;

// Registers of a thread that loads, and of one that multiplies. A block is launched with 65536, or
// what a multiple of 8 for each thread leaves of them, and may not come to ask for more.
struct RegisterShares {
  int load, multiply;
};

constexpr RegisterShares register_shares(int consumers) {
  return consumers == 3 ? RegisterShares{32, 160} : RegisterShares{40, 232};
}

constexpr bool shares_fit(int consumers) {
  const int threads = (1 + consumers) * kWarpgroup, launched = 65536 / threads / 8 * 8 * threads;
  const RegisterShares shares = register_shares(consumers);
  return (shares.load + consumers * shares.multiply) * kWarpgroup <= launched;
}
static_assert(shares_fit(2) && shares_fit(3));

template <class M>
constexpr WgmmaType kWgmmaType =
    std::is_same_v<M, Float16Products> ? WgmmaType::float16 : WgmmaType::bfloat16;

constexpr int attention_line(int width) { return width % 64 == 0 ? 128 : 64; }  // bytes

// kRows rows of kWidth elements.
template <class T, int kRows_, int kWidth_>
struct WgmmaTile {
  static constexpr int kRows = kRows_, kWidth = kWidth_;
  static constexpr int kLine = attention_line(kWidth);
  static constexpr int kPerLine = kLine / 2, kPanels = kWidth / kPerLine;
  static constexpr int kPanelBytes = kRows * kLine;
  static constexpr int kPerChunk = 8;  // elements of 16 bytes
  static_assert(sizeof(T) == 2 && kWidth % kPerLine == 0 && kRows <= 256);

  alignas(1024) unsigned char bytes[kPanels * kPanelBytes];

  __device__ __forceinline__ unsigned char* at(int row, int chunk) {
    constexpr int kChunks = kLine / 16;
    const int swizzle = kLine == 128 ? row & 7 : row >> 1 & 3;
    return bytes + chunk / kChunks * kPanelBytes + row * kLine + (chunk % kChunks ^ swizzle) * 16;
  }

  // Rows `row` … as those of an operand whose K runs along them, and what a step of 16 of K adds.
  __device__ __forceinline__ uint64_t rows(int row) const {
    return wgmma_descriptor(bytes + row * kLine, 16, 8 * kLine, kLine);
  }
  static constexpr __device__ __forceinline__ uint64_t row_step(int step) {
    constexpr int kSteps = kLine / 32;
    return static_cast<uint64_t>((step / kSteps * kPanelBytes + step % kSteps * 32) / 16);
  }
  // The same where K runs over the tile's rows.
  __device__ __forceinline__ uint64_t columns() const {
    return wgmma_descriptor(bytes, kPanelBytes, 8 * kLine, kLine);
  }
  static constexpr __device__ __forceinline__ uint64_t column_step(int step) {
    return static_cast<uint64_t>(step * 16 * kLine / 16);
  }
};

// Asks for rows `row` … of a head; those beyond the last come as zeros, as do columns.
template <class Tile>
__device__ __forceinline__ void load_tile(Tile& tile, const CUtensorMap* map, int row, int head,
                                          int batch, Mbarrier* full) {
  mbarrier_expect_and_arrive(full, sizeof tile.bytes);
#pragma unroll
  for (int panel = 0; panel < Tile::kPanels; ++panel) {
    load_box(tile.bytes + panel * Tile::kPanelBytes, map, panel * Tile::kPerLine, row, head, batch,
             full);
  }
}

// A warpgroup's sums of 64 rows, as pieces of its warps and as wgmma takes them.
template <int C>
using Pieces = float[1][C][4];

template <int C>
__device__ __forceinline__ float (&registers_of(float (&x)[1][C][4]))[4 * C] {
  return reinterpret_cast<float(&)[4 * C]>(x);
}

// Begins scores = (rows `row` … of `left`) · (rows of `right`)ᵀ over the width.
template <class M, class Left, class Right, int C>
__device__ __forceinline__ void begin_scores(const Left& left, int row, const Right& right,
                                             float (&scores)[1][C][4]) {
  static_assert(8 * C == Right::kRows);
  const uint64_t a = left.rows(row), b = right.rows(0);
#pragma unroll
  for (int step = 0; step < Left::kWidth / 16; ++step) {
    wgmma<kWgmmaType<M>, Right::kRows, false, false>(registers_of(scores), a + Left::row_step(step),
                                                     b + Right::row_step(step), step > 0);
  }
}

// Begins sums += weights · (rows of `tile`).
template <class M, class Tile, int S, int W>
__device__ __forceinline__ void begin_sums(const uint32_t (&weights)[S][4], const Tile& tile,
                                           float (&sums)[1][W][4]) {
  static_assert(16 * S == Tile::kRows && 8 * W == Tile::kWidth);
  const uint64_t b = tile.columns();
#pragma unroll
  for (int step = 0; step < S; ++step) {
    wgmma<kWgmmaType<M>, Tile::kWidth, true>(registers_of(sums), weights[step],
                                             b + Tile::column_step(step), true);
  }
}

// Scores rounded to the type, as the left operand of begin_sums.
template <class M, int C>
__device__ __forceinline__ void scores_as_weights(const float (&scores)[1][C][4],
                                                  uint32_t (&weights)[C / 2][4]) {
#pragma unroll
  for (int step = 0; step < C / 2; ++step) scores_as_left<M>(scores[0], step, weights[step]);
}

template <int S>
__device__ __forceinline__ void keep_weights(uint32_t (&weights)[S][4]) {
#pragma unroll
  for (int step = 0; step < S; ++step) wgmma_touch(weights[step]);
}

// This warp has no more use for what the barrier stands for. No lane may lag behind: it could miss
// a phase and wait for the next but one.
__device__ __forceinline__ void release(Mbarrier* empty) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) mbarrier_arrive(empty);
}

// Which of a lane's scores dropout keeps: bit 4·(c % 8) + e of word c / 8.
template <bool kKeysAreRows, int C>
__device__ __forceinline__ void kept_words(const Attention& a, const ScorePlace& at,
                                           uint32_t (&kept)[(C + 7) / 8]) {
  constexpr int kPieces = C < 8 ? C : 8;
#pragma unroll
  for (int word = 0; word < C / kPieces; ++word) {
    const ScorePlace part = {at.batch, at.head, at.row, at.column + 64 * word};
    kept[word] = kept_scores<kKeysAreRows, kPieces>(Dropout(a, at.batch, at.head), part, 0);
  }
}

// The rows of all heads as a tensor of four dimensions, for boxes of `rows` rows and one line;
// false where tensor maps cannot describe them.
inline bool encode_rows(CUtensorMap* map, const AttentionOperand& x, int64_t batches, int64_t heads,
                        int64_t count, int64_t width, int rows) {
  constexpr int64_t kItem = 2;
  const int64_t sizes[4] = {width, count, heads, batches};
  const int64_t strides[3] = {x.row * kItem, x.head * kItem, x.batch * kItem};
  TensorBox box{};
  box.data = x.data;
  box.item = kItem;
  for (int i = 0; i < 4; ++i) {
    if (sizes[i] < 1 || sizes[i] > INT32_MAX) return false;
    box.sizes[i] = static_cast<uint64_t>(sizes[i]);
    box.box[i] = 1;
  }
  for (int i = 0; i < 3; ++i) {
    // A dimension of one element has no stride of its own.
    const int64_t stride = sizes[i + 1] > 1 ? strides[i] : (width * kItem + 15) / 16 * 16;
    if (stride <= 0 || stride >= int64_t{1} << 40) return false;
    box.strides[i] = static_cast<uint64_t>(stride);
  }
  box.box[0] = static_cast<uint32_t>(attention_line(width <= 32   ? 32
                                                    : width <= 64 ? 64
                                                    : width <= 96 ? 96
                                                                  : 128) /
                                     kItem);
  box.box[1] = static_cast<uint32_t>(rows);
  return x.aligned && encode_tensor_map(map, box);
}

// Calls launch.operator()<M, kWidth, kSpecial>() for the problem's products, its width rounded up,
// and whether it has a mask, padding, dropout or a scale not above 0. False where it is not for
// warpgroups, or where `launch` says so.
template <class F>
bool with_wgmma_form(Stream& stream, DType dtype, const Attention& a, const F& launch) {
  const auto of_width = [&]<class M, int kWidth>() {
    const bool special = a.mask.data || a.padding || a.state || a.mask_scales;
    return special ? launch.template operator()<M, kWidth, true>()
                   : launch.template operator()<M, kWidth, false>();
  };
  const auto of_type = [&]<class M>() {
    if (a.width <= 32) return of_width.template operator()<M, 32>();
    if (a.width <= 64) return of_width.template operator()<M, 64>();
    if (a.width <= 96) return of_width.template operator()<M, 96>();
    return of_width.template operator()<M, 128>();
  };
  const bool half = dtype == DType::bfloat16 || dtype == DType::float16;
  if (!half || a.width > 128 || compute_capability(stream) != 90 || !has_wgmma(stream))
    return false;
  return dtype == DType::bfloat16 ? of_type.template operator()<BFloat16Products>()
                                  : of_type.template operator()<Float16Products>();
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
