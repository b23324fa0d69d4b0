// Convolutions by tensor cores (conv_mma.cu), and what they share with conv.cu.
#pragma once

#include "core/backend.h"
#include "indexing.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

enum class ConvMode { forward, data, weight };

// Which elements of an axis the data gradient of a class of positions is written to, and which taps
// reach them: first, first + step, …
struct ConvAxis {
  int64_t first, step;
  int64_t tap, tap_step;
};

// A walk over a filter's taps, row by row, and over the channels of each in runs.
struct TapWalk {
  int32_t i = 0, j = 0, channel = 0;

  __device__ __forceinline__ void advance(int run, int64_t channels, int64_t kw) {
    channel += run;
    if (channel < channels) return;
    channel = 0;
    if (++j < kw) return;
    j = 0;
    ++i;
  }
};

// Elements between the channels, rows and columns of an image.
struct ConvStrides {
  int64_t channel, row, column;
};
inline ConvStrides conv_strides(bool channels_last, int64_t channels, int64_t h, int64_t w) {
  return channels_last ? ConvStrides{1, w * channels, channels} : ConvStrides{h * w, w, 1};
}

struct ConvProblem {
  const void* left;   // w, w, dy
  const void* right;  // x, dy, x
  void* out;
  const void* bias;  // per row of C, or null
  void* partial;     // [slice][group][rows][columns] sums, or null
  int32_t* index;    // of maxima, by whose windows columns then go, or null
  ConvShape s;
  int64_t rows, columns, k;  // per group
  int64_t in_channels, out_channels;
  int64_t plane_h, plane_w;        // positions of an image, of columns or K
  ConvStrides x, y;                // of x or dx, of y or dy
  ConvAxis down, across;           // of the data gradient
  int64_t weight_w, weight_plane;  // kw and kh·kw of the whole kernel
  int64_t slice_k, slices, row_tiles, column_tiles;
  Divider taps, kernel_w, positions, row;  // kh·kw, kw; of a plane of columns or K and its rows
  bool narrow, relu;
};

// An index (n, i, j) or (channel, a, b), taken apart.
struct ConvIndex {
  int64_t outer;
  int32_t high, low;
};

__device__ __forceinline__ ConvIndex split_index(int64_t index, const Divider& plane,
                                                 const Divider& row, bool narrow) {
  const uint64_t outer = divide(static_cast<uint64_t>(index), plane, narrow);
  const uint64_t rest = static_cast<uint64_t>(index) - outer * plane.divisor;
  const uint64_t high = divide(rest, row, true);
  return {static_cast<int64_t>(outer), static_cast<int32_t>(high),
          static_cast<int32_t>(rest - high * row.divisor)};
}

__device__ __forceinline__ ConvIndex split_tap(const ConvProblem& p, int64_t index) {
  return split_index(index, p.taps, p.kernel_w, p.narrow);
}
__device__ __forceinline__ ConvIndex split_place(const ConvProblem& p, int64_t index) {
  return split_index(index, p.positions, p.row, p.narrow);
}

// Where an element of C lies, and how far apart its rows are.
template <ConvMode kMode>
__device__ __forceinline__ int64_t conv_out_stride(const ConvProblem& p) {
  return kMode == ConvMode::weight    ? p.columns
         : kMode == ConvMode::forward ? p.y.channel
                                      : p.x.channel;
}
template <ConvMode kMode>
__device__ __forceinline__ int64_t conv_out_offset(const ConvProblem& p, int64_t group, int64_t row,
                                                   int64_t column) {
  const int64_t stride = conv_out_stride<kMode>(p);
  if constexpr (kMode == ConvMode::weight) return (group * p.rows + row) * stride + column;
  const ConvIndex at = split_place(p, column);
  const int64_t line = (group * p.rows + row) * stride;
  if constexpr (kMode == ConvMode::forward) {
    return at.outer * p.s.o * p.plane_h * p.plane_w + line + at.high * p.y.row +
           at.low * p.y.column;
  }
  return at.outer * p.s.c * p.s.h * p.s.w + line +
         (p.down.first + at.high * p.down.step) * p.x.row +
         (p.across.first + at.low * p.across.step) * p.x.column;
}

// A tile of C by one block; into slices of what length, and for how many blocks, K is cut.
struct ConvTile {
  int rows, columns, depth;
  int64_t least_slice, wanted_blocks;
};

// Whether tensor cores serve the problem: 16 bits, or float32 where TF32 is allowed, of sizes that
// fill an instruction and fewer than 2³⁰ elements. Data gradients they take with strides of 1 only:
// conv.cu cuts others into classes of positions that are such.
bool conv_by_mma(ConvMode mode, const ConvProblem& p);
ConvTile conv_mma_tile(Stream& stream, ConvMode mode, const ConvProblem& p);
// Enqueues the blocks of a problem that is cut into that tile.
void launch_conv_mma(Stream& stream, ConvMode mode, const ConvProblem& p, dim3 blocks);

// Channels of a group of the image that is read, forward or for the data gradient.
inline int64_t conv_channels(ConvMode mode, const ConvProblem& p) {
  return mode == ConvMode::data ? p.out_channels : p.in_channels;
}
// The weights as [group][m][tap][channel] of that image, in scratch memory (conv_pack.cu).
void* pack_conv_weights(Stream& stream, ConvMode mode, const ConvProblem& p);
// Enqueues the gradient of the weights from sums [slice][group][m][tap][channels], where `channels`
// are a group's and padding.
void sum_conv_gradients(Stream& stream, const ConvProblem& p, const float* sums, int64_t slices,
                        int64_t channels);

// Whether the pipelines of images whose channels lie together (conv_last.cu) serve a problem that
// conv_by_mma takes: channels of a group, where they are read, in whole runs of 16 bytes.
bool conv_by_runs(Stream& stream, ConvMode mode, const ConvProblem& p);
void launch_conv_runs(Stream& stream, ConvMode mode, const ConvProblem& p);
void launch_conv_weight_runs(Stream& stream, const ConvProblem& p);  // conv_last_weight.cu

// Copies of images whose channels lie together, in scratch memory until the end of its life.
class ConvCopies {
 public:
  explicit ConvCopies(Stream& stream) : stream_(stream) {}
  ~ConvCopies();
  ConvCopies(const ConvCopies&) = delete;
  ConvCopies& operator=(const ConvCopies&) = delete;

  // Where channels lie apart and that pays, copies what a problem that conv_by_mma takes reads, and
  // turns the problem to the copies.
  void take(ConvMode mode, ConvProblem& p);

 private:
  const void* copy(const void* image, int64_t channels, int64_t h, int64_t w, const ConvShape& s);

  Stream& stream_;
  void* copies_[2] = {};
};

// Enqueues what conv_by_mma takes on warpgroups (conv_wgmma.cu) and returns true, or false where it
// is not for them. `plan` null: NODEGRAD_WGMMA_PLAN's (CONTRIBUTING.md), else chosen.
struct WgmmaPlan;
bool launch_conv_wgmma(Stream& stream, ConvMode mode, const ConvProblem& p,
                       const WgmmaPlan* plan = nullptr);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
