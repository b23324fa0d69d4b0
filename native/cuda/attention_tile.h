// What the tensor-core kernels of attention are made of: tiles of rows in shared memory, products
// of a warp's rows with them, masks and dropout on a warp's scores.
//
// A tile has rows of 16-byte chunks; chunk c of a row lies at c ^ swizzle(row), so that the eight
// rows of an ldmatrix, and the pairs of float32 rows of a transposed read, are free of bank
// conflicts. A warp computes R·16 rows by C·8 columns of scores; in each 16x8 piece lane (g, t) has
// rows g, g+8 and columns 2t, 2t+1 (see ptx.h), which is what the next product wants on its left.
// float32 sums pairs of k (2t, 2t+1) where the instruction has (t, t+4), in both operands.
#pragma once

#include <cmath>

#include "async.h"
#include "attention_problem.h"
#include "core/philox.h"
#include "numbers.h"
#include "ptx.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

struct BFloat16Products {
  using Element = BFloat16;
  static constexpr int kDepth = 16;  // of k in one instruction
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return pack_bfloat16(low, high);
  }
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
};

struct Float16Products {
  using Element = Float16;
  static constexpr int kDepth = 16;
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return pack_float16(low, high);
  }
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
};

struct Tf32Products {
  using Element = float;
  static constexpr int kDepth = 8;
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k8_tf32(d, a, b);
  }
};

// float32 operands are rounded to TF32 as they come from memory.
template <class M, int N>
__device__ __forceinline__ void round_operands(uint32_t (&x)[N]) {
  if constexpr (M::kDepth == 8) {
#pragma unroll
    for (uint32_t& word : x) word = to_tf32(__uint_as_float(word));
  }
}

// kRows rows of kWidth elements.
template <class T, int kRows, int kWidth>
struct AttentionTile {
  static constexpr int kPerChunk = 16 / sizeof(T);
  static constexpr int kChunks = kWidth / kPerChunk;
  static_assert(kChunks % 4 == 0, "whole groups of chunks for the swizzle");

  alignas(128) unsigned char bytes[kRows * kChunks * 16];

  static __device__ __forceinline__ int offset(int row, int chunk) {
    const int swizzle = kChunks % 8 == 0 ? row & 7 : row >> 1 & 3;
    return (row * kChunks + (chunk ^ swizzle)) * 16;
  }
  __device__ __forceinline__ unsigned char* at(int row, int chunk) {
    return bytes + offset(row, chunk);
  }
  __device__ __forceinline__ const unsigned char* at(int row, int chunk) const {
    return bytes + offset(row, chunk);
  }
  // From the address of an even-aligned pair of chunks' either to that `rows` (a multiple of 8)
  // and `chunks` (even, and counted from the first pair of a row) further. One operation, so that
  // the compiler need not keep an address for every place.
  static __device__ __forceinline__ SharedAddress moved(SharedAddress from, int rows, int chunks) {
    constexpr int kPeriod = kChunks % 8 == 0 ? 8 : 4;
    return (from ^ static_cast<SharedAddress>(chunks % kPeriod * 16)) +
           static_cast<SharedAddress>((rows * kChunks + chunks / kPeriod * kPeriod) * 16);
  }
};

// Begins to bring rows `first` to `end` - 1, with zeros for other rows of the tile and beyond
// `width`. Aligned rows come by asynchronous copies, others at once. A thread's chunks are a fixed
// number of rows and of chunks apart, multiples of what the swizzle repeats after.
template <int kThreads, class T, int kRows, int kWidth>
__device__ __forceinline__ void load_rows(AttentionTile<T, kRows, kWidth>& tile,
                                          const AttentionOperand& x, const T* head, int first,
                                          int end, int width) {
  using Tile = AttentionTile<T, kRows, kWidth>;
  constexpr int kPerChunk = Tile::kPerChunk, kChunks = Tile::kChunks;
  constexpr int kAlong = kChunks % 8 == 0 ? 8 : 4, kDown = kThreads / kAlong;
  static_assert(kRows % kDown == 0 && kDown % 8 == 0, "whole passes");
  const int thread = computed_here(static_cast<int>(threadIdx.x));
  const int row = thread / kAlong, chunk = thread % kAlong;
  const int count = end - first;
  const T* source = head + static_cast<int64_t>(first + row) * x.row + chunk * kPerChunk;
  unsigned char* to = tile.at(row, chunk);
  if (x.aligned) {
#pragma unroll
    for (int down = 0; down < kRows; down += kDown) {
      const int left = row + down < count ? width - chunk * kPerChunk : 0;
#pragma unroll
      for (int along = 0; along < kChunks; along += kAlong) {
        const int elements = min(max(left - along * kPerChunk, 0), kPerChunk);
        cp_async_16(to + along * 16, source + along * kPerChunk,
                    elements * static_cast<int>(sizeof(T)));
      }
      source += kDown * x.row;
      to += kDown * kChunks * 16;
    }
  } else {
#pragma unroll 1
    for (int down = 0; down < kRows; down += kDown) {
#pragma unroll 1
      for (int along = 0; along < kChunks; along += kAlong) {
        const int left = row + down < count ? width - (chunk + along) * kPerChunk : 0;
        Vector<T, kPerChunk> elements;
#pragma unroll
        for (int j = 0; j < kPerChunk; ++j) {
          elements[j] = j < left ? source[along * kPerChunk + j] : T{};
        }
        store_vector(reinterpret_cast<T*>(to + along * 16), elements);
      }
      source += kDown * x.row;
      to += kDown * kChunks * 16;
    }
  }
}

// Calls f(row tile, piece, element, score) for all of a lane's scores.
template <int R, int C, class F>
__device__ __forceinline__ void for_scores(float (&scores)[R][C][4], const F& f) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) f(r, c, e, scores[r][c][e]);
    }
  }
}

// sums[R·16][C·8] = (rows `row` … of `left`) · (rows `right_row` … of `right`)ᵀ over the width.
template <class M, class Left, class Right, int R, int C>
__device__ __forceinline__ void multiply_rows(const Left& left, int row, const Right& right,
                                              int right_row, float (&sums)[R][C][4]) {
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32);
  const SharedAddress from_left = matrix_address(left.at(row + lane % 16, lane / 16));
  const SharedAddress from_right = matrix_address(right.at(lane % 8 + lane / 16 * 8, lane / 8 % 2));
  for_scores(sums, [](int, int, int, float& sum) { sum = 0.0f; });
#pragma unroll 8
  for (int step = 0; step < Left::kChunks / 2; ++step) {
    uint32_t x[R][4];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      ldmatrix_x4(x[r], Left::moved(from_left, 16 * r, 2 * step));
      round_operands<M>(x[r]);
    }
#pragma unroll
    for (int c = 0; c < C; c += 2) {
      uint32_t y[4];
      ldmatrix_x4(y, Right::moved(from_right, right_row + 8 * c, 2 * step));
      round_operands<M>(y);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        M::multiply(sums[r][c], x[r], {y[0], y[1]});
        M::multiply(sums[r][c + 1], x[r], {y[2], y[3]});
      }
    }
  }
}

// Scores as a left operand: k-step `step` of the product over their columns.
template <class M, int C>
__device__ __forceinline__ void scores_as_left(const float (&p)[C][4], int step, uint32_t (&x)[4]) {
  if constexpr (M::kDepth == 16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto& piece = p[2 * step + i / 2];
      x[i] = M::pack(piece[i % 2 * 2], piece[i % 2 * 2 + 1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = to_tf32(p[step][i % 2 * 2 + i / 2]);
  }
}

// sums[R·16][W·8] += scores[R·16][C·8] · (rows `row` …, columns `first` … of the tile).
template <class M, class Tile, int R, int C, int W>
__device__ __forceinline__ void add_product(const float (&scores)[R][C][4], const Tile& tile,
                                            int row, int first, float (&sums)[R][W][4]) {
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32), g = lane / 4, t = lane % 4;
  constexpr bool kWide = M::kDepth == 8;
  // float32 has no transposing load: four words, of rows 2t and 2t+1, columns g and g+8.
  const int chunk = first / Tile::kPerChunk;
  const SharedAddress from = kWide ? matrix_address(tile.at(2 * t, chunk + g / 4)) + g % 4 * 4
                                   : matrix_address(tile.at(lane % 16, chunk + lane / 16));
  const SharedAddress odd = matrix_address(tile.at(2 * t + 1, chunk + g / 4)) + g % 4 * 4;
#pragma unroll
  for (int step = 0; step < C * 8 / M::kDepth; ++step) {
    uint32_t x[R][4];
#pragma unroll
    for (int r = 0; r < R; ++r) scores_as_left<M>(scores[r], step, x[r]);
#pragma unroll
    for (int w = 0; w < W; w += 2) {
      uint32_t y[4];
      if constexpr (kWide) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          y[i] = load_shared(Tile::moved(i % 2 ? odd : from, row + 8 * step, 2 * (w + i / 2)));
        }
        round_operands<M>(y);
      } else {
        ldmatrix_x4_trans(y, Tile::moved(from, row + 16 * step, w));
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        M::multiply(sums[r][w], x[r], {y[0], y[1]});
        M::multiply(sums[r][w + 1], x[r], {y[2], y[3]});
      }
    }
  }
}

// A warp's piece of the scores of a head: rows are keys where kKeysAreRows, else queries.
struct ScorePlace {
  int batch, head, row, column;

  __device__ __forceinline__ ScorePlace(int b, int h, int r, int c)
      : batch(computed_here(b)), head(computed_here(h)), row(computed_here(r)), column(c) {}
};

// Adds the mask, or -inf where it is false.
template <class T, bool kKeysAreRows, int R, int C>
__device__ __forceinline__ void apply_mask(const Attention& a, const ScorePlace& at,
                                           float (&scores)[R][C][4]) {
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32), g = lane / 4, t = lane % 4;
  const int64_t along = 8 * (kKeysAreRows ? a.mask.row : a.mask_column);
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = at.row + 16 * r + g + e / 2 * 8, column = at.column + 2 * t + e % 2;
      const int i = kKeysAreRows ? column : row, j = kKeysAreRows ? row : column;
      const bool inside =
          kKeysAreRows ? j < static_cast<int>(a.keys) : i < static_cast<int>(a.queries);
      const int left = inside ? static_cast<int>(kKeysAreRows ? a.queries : a.keys) - column : 0;
      int64_t from =
          at.batch * a.mask.batch + at.head * a.mask.head + i * a.mask.row + j * a.mask_column;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        float& score = scores[r][c][e];
        if (8 * c < left) {
          if (a.mask_is_bool) {
            score = static_cast<const uint8_t*>(a.mask.data)[from] ? score : -INFINITY;
          } else {
            const float added = to_float(static_cast<const T*>(a.mask.data)[from]);
            score = added == -INFINITY ? added : fmaf(added, kLog2E, score);
          }
        }
        from += along;
      }
    }
  }
}

// -inf where a query does not see a key for its place, or, where rows are keys, `padded` says so.
// Rows of keys behind a sample's length stay: clear_unseen takes their sums.
template <bool kKeysAreRows, int R, int C, class Padded>
__device__ __forceinline__ void hide_unseen(const Attention& a, const ScorePlace& at,
                                            float (&scores)[R][C][4], const Padded& padded) {
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32), g = lane / 4, t = lane % 4;
  const int keys = kKeysAreRows ? static_cast<int>(a.keys) : keys_of(a, at.batch);
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = at.row + 16 * r + g + 8 * h;
      if constexpr (kKeysAreRows) {
        // How many queries of the piece do not see the key.
        const int hidden = row >= keys || padded(row) ? 8 * C : a.causal ? row - at.column : 0;
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = scores[r][c][2 * h + e];
            score = 8 * c + e < hidden - 2 * t ? -INFINITY : score;
          }
        }
      } else {
        const int seen = (a.causal ? min(row + 1, keys) : keys) - at.column - 2 * t;
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = scores[r][c][2 * h + e];
            score = 8 * c + e < seen ? score : -INFINITY;
          }
        }
      }
    }
  }
}

// -inf where the query does not see the key; adds the mask.
template <class T, bool kKeysAreRows, int R, int C>
__device__ __forceinline__ void mask_scores(const Attention& a, const ScorePlace& at,
                                            float (&scores)[R][C][4]) {
  const int t = computed_here(static_cast<int>(threadIdx.x) % 4);
  const int keys = static_cast<int>(a.keys);
  if (a.mask_scales) {
    for_scores(scores, [&](int, int, int, float& score) { score *= a.log2_scale; });
  }
  if (a.mask.data) apply_mask<T, kKeysAreRows>(a, at, scores);
  const auto padded = [&](int j) {
    return a.padding &&
           a.padding[at.batch * a.padding_batch + static_cast<int64_t>(j) * a.padding_key];
  };
  if constexpr (!kKeysAreRows) {
    if (a.padding) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int j = at.column + 8 * c + 2 * t + e;
          if (j >= keys || !padded(j)) continue;
#pragma unroll
          for (int r = 0; r < R; ++r) scores[r][c][e] = scores[r][c][e + 2] = -INFINITY;
        }
      }
    }
  }
  hide_unseen<kKeysAreRows>(a, at, scores, padded);
}

// Dropout of a head: weight (i, j) is kept where u < keep, u = its word's upper 24 bits / 2²⁴.
struct Dropout {
  uint64_t key, counter;
  int64_t per_row;
  uint32_t threshold;  // of those 24 bits

  __device__ __forceinline__ Dropout(const Attention& a, int batch, int head) {
    per_row = (a.keys + 3) / 4;
    key = static_cast<uint64_t>(a.state[0]);
    counter = static_cast<uint64_t>(a.state[1]) +
              static_cast<uint64_t>((batch * a.heads + head) * a.queries * per_row);
    threshold = a.keep_threshold;
  }

  // Which of the keys 4·group … 4·group + 3 query i keeps, as bits.
  __device__ __forceinline__ uint32_t kept(int i, int group) const {
    const Philox4 r = philox(key, counter + static_cast<uint64_t>(i * per_row + group));
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) bits |= static_cast<uint32_t>((r.word[n] >> 8) < threshold) << n;
    return bits;
  }
};

// Which of a lane's C pieces of row tile r are kept: bit 4c + e. Each lane draws for one query and
// four keys of a piece, and the lanes that share those keys exchange bits.
template <bool kKeysAreRows, int C>
__device__ __forceinline__ uint32_t kept_scores(const Dropout& dropout, const ScorePlace& at,
                                                int r) {
  static_assert(C <= 8, "bits of a word");
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32), g = lane / 4, t = lane % 4;
  const int row = at.row + 16 * r;
  uint32_t own = 0, kept = 0;
#pragma unroll 1  // registers
  for (int c = 0; c < C; ++c) {
    if constexpr (kKeysAreRows) {
      const int e = g % 4;
      own |= dropout.kept(at.column + 8 * c + 2 * t + e % 2, (row + 8 * (e / 2)) / 4 + g / 4)
             << 4 * c;
    } else {
      own |= dropout.kept(row + g + 8 * (t % 2), (at.column + 8 * c) / 4 + t / 2) << 4 * c;
    }
  }
  constexpr uint32_t kFirstBits = 0x11111111u;
  if constexpr (kKeysAreRows) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const uint32_t bits = __shfl_sync(0xffffffffu, own, (lane & ~12) | e << 2);
      kept |= (bits >> g % 4 & kFirstBits) << e;
    }
  } else {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, own, 1);
    const uint32_t upper = t % 2 ? own : other, lower = t % 2 ? other : own;
    constexpr uint32_t kFirstTwo = 3 * kFirstBits;
    kept = (lower >> t % 2 * 2 & kFirstTwo) | (upper >> t % 2 * 2 & kFirstTwo) << 2;
  }
  return kept;
}

// The sums of keys from `end` are 0, whatever their rows held; row 0 is key `row`.
template <int R, int W>
__device__ __forceinline__ void clear_unseen(float (&sums)[R][W][4], int row, int end) {
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  for_scores(sums, [&](int r, int, int e, float& sum) {
    sum = row + 16 * r + g + e / 2 * 8 < end ? sum : 0.0f;
  });
}

// Writes a warp's sums, times `scale`, to rows `first` … of `x` and columns `column` …, by way of
// its own rows of a tile that nobody else reads any more.
template <class T, class Tile, int R, int W>
__device__ __forceinline__ void store_rows(Tile& tile, int tile_row, int column,
                                           const float (&sums)[R][W][4], const float (&scale)[R][2],
                                           const AttentionOperand& x, const T* head, int first,
                                           int end, int width) {
  constexpr int kPerChunk = Tile::kPerChunk, kStored = W * 8 / kPerChunk;
  const int lane = computed_here(static_cast<int>(threadIdx.x) % 32), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int w = 0; w < W; ++w) {
        const int at = column + 8 * w + 2 * t;
        Vector<T, 2> pair;
#pragma unroll
        for (int e = 0; e < 2; ++e) pair[e] = from_float<T>(sums[r][w][2 * h + e] * scale[r][h]);
        unsigned char* const chunk = tile.at(tile_row + 16 * r + g + 8 * h, at / kPerChunk);
        store_vector(reinterpret_cast<T*>(chunk) + at % kPerChunk, pair);
      }
    }
  }
  __syncwarp();
  T* const to = const_cast<T*>(head) + static_cast<int64_t>(first) * x.row;
#pragma unroll 1
  for (int i = lane; i < 16 * R * kStored; i += 32) {
    const int row = i / kStored, chunk = column / kPerChunk + i % kStored;
    const int from = chunk * kPerChunk;
    if (first + row >= end || from >= width) continue;
    const T* const staged = reinterpret_cast<const T*>(tile.at(tile_row + row, chunk));
    const auto elements = load_vector<kPerChunk>(staged);
    if (x.aligned && from + kPerChunk <= width) {
      store_vector(to + row * x.row + from, elements);
    } else {
#pragma unroll
      for (int j = 0; j < kPerChunk; ++j) {
        if (from + j < width) to[row * x.row + from + j] = elements[j];
      }
    }
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
