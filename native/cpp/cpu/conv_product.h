// Convolutions as the files of the family see them: a product per group whose right operand is
// read from the image,
//   out[n, m, position] = activation(Σ_k weight[m, k] · patch[k, position] + bias[m]),
//   patch[(q, a, b), (i, j)] = image[q, i·stride_h + base_h + a·step_h, j·stride_w + …],
// and 0 outside the image.
#pragma once

#include "core/backend.h"
#include "core/error.h"
#include "cpu/gemm_tiles.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

struct Patches {
  int64_t height, width, plane;  // of the image; elements between channels
  int64_t columns;               // positions in a row
  int64_t taps_h, taps_w;
  int64_t stride_h, stride_w, base_h, base_w, step_h, step_w;
};

struct Product {
  const void* image;
  const void* weight;
  const void* bias;  // [groups·m] or null
  void* out;
  void* packed;  // weights: [group][slice][block of rows][tile][k][kPackedRows]
  Patches patches;
  int64_t images, groups, m, channels, positions;
  int64_t weight_m, weight_q, weight_group;           // elements between outputs, channels, groups
  int64_t tap, tap_h, tap_w;                          // of the weight: the first, and between taps
  int64_t out_plane, out_first, out_row, out_column;  // where positions lie
  // Where channels lie together (conv_last.cc): elements between places of the image, or 0.
  int64_t pixel;
  int64_t image_size, out_size;  // elements between images
  int64_t slice, slices;         // channels in a slice
  int64_t block_rows, row_blocks, block_columns, column_blocks;
  bool direct;  // sums go straight to `out`
  bool relu;
};

// conv_weight.cc: dw of any convolution.
void conv_weight_gradient(Stream& stream, const ConvShape& s, const void* x, const void* dy,
                          void* dw);

// conv_depthwise.cc: convolutions of few channels a group; conv_depthwise_last.cc: those of one
// whose channels lie together. False where they do not serve one.
struct DepthwiseConv {
  bool (*product)(Stream& stream, const Product& p, DType dtype);
  bool (*weight)(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw);
};
extern const DepthwiseConv depthwise_conv;
extern const DepthwiseConv depthwise_last_conv;

// conv_last.cc: convolutions of images whose channels lie together, and their weight's gradient.
struct ChannelsLastConv {
  void (*product)(Stream& stream, const Product& p, DType dtype);
  void (*weight)(Stream& stream, const ConvShape& s, const void* x, const void* dy, void* dw);
};
extern const ChannelsLastConv channels_last_conv;

namespace {

NODEGRAD_INLINE int64_t tap_count(const Patches& p) { return p.taps_h * p.taps_w; }

NODEGRAD_INLINE Patches patches_of(const ConvShape& s) {
  return {s.h,        s.w,        s.h * s.w, s.ow,     s.kh,         s.kw,
          s.stride_h, s.stride_w, -s.pad_h,  -s.pad_w, s.dilation_h, s.dilation_w};
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
