// Convolutions: the contract of conv.cc and conv.cu (see core/backend.h).
#pragma once

#include "core/families/gemm.h"
#include "core/view.h"

namespace nodegrad {

class Stream;

// A two-dimensional cross-correlation, every tensor without gaps and of one floating dtype:
//   y[n,o,i,j] = Σ_{c,a,b} x[n, c, i·stride_h + a·dilation_h - pad_h, j·stride_w + …] · w[o,c,a,b]
// x is [n,c,h,w], w [o,c/groups,kh,kw], y [n,o,oh,ow]; x is 0 outside. Padding after the last row
// and column follows from oh and ow. Group g joins its share of c with its share of o. With
// channels_last x and y (and dx and dy) lie in memory as [n,h,w,c] and [n,oh,ow,o].
struct ConvShape {
  int64_t n, c, h, w, o, kh, kw, oh, ow, groups;
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  DType dtype;
  bool channels_last;
  Precision precision;  // of products where dtype is float32
};

struct ConvFamily {
  // y = activation(x ∗ w + bias); bias is [o] or null.
  void (*forward)(Stream&, const ConvShape&, const void* x, const void* w, const void* bias,
                  void* y, bool relu);
  // dx from dy, the transposed convolution: dx = activation(wᵀ ∗ dy + bias); bias is [c] or null.
  void (*backward_data)(Stream&, const ConvShape&, const void* dy, const void* w, const void* bias,
                        void* dx, bool relu);
  // dw[o,c,a,b] = Σ dy · x over images and positions, in an order that sizes alone decide.
  void (*backward_weight)(Stream&, const ConvShape&, const void* x, const void* dy, void* dw);
  // y [n,o,oh/2,ow/2]: the largest of each 2 by 2 elements of x ∗ w + bias, or 0 if they are less,
  // with the index that PoolFamily's max_forward gives. Returns false, and does nothing, where
  // pooling is better done after the convolution; null where it always is.
  bool (*forward_pooled)(Stream&, const ConvShape&, const void* x, const void* w, const void* bias,
                         void* y, int32_t* index);
};

}  // namespace nodegrad
