// Scaled dot-product attention: the contract of attention.cc and attention.cu (see core/backend.h).
#pragma once

#include "core/families/gemm.h"
#include "core/view.h"

namespace nodegrad {

class Stream;

// Per head: S = scale·Q·Kᵀ + mask, P = softmax(S) over keys, O = dropout(P)·V.
// q is [B,H,T,D], k and v are [B,Hkv,S,D], with D up to 256 and head h using keys of head h·Hkv/H;
// last strides are 1. All have one floating dtype. Absent tensors have null data.
struct AttentionArgs {
  View q, k, v;
  View mask;     // [B,H,T,S], any strides: bool (true keeps) or q's dtype (added to S)
  View padding;  // bool [B,S], any strides: true leaves a key out
  View lengths;  // int32 [B], contiguous: how many keys of a sample are seen, at most S of them
  View state;    // int64[2] as in families/random.h, where there is dropout
  double scale;
  double keep;  // 1 - p; weight (b,h,i,j) is kept where u < keep, and then divided by it;
                // u is word j%4 of counter offset + ((b·H + h)·T + i)·ceil(S/4) + j/4
  bool causal;  // leaves out keys j > i
  // Of float32 products, as in families/gemm.h; a device may take TF32 for medium, too.
  Precision precision;
};

struct AttentionFamily {
  // out has q's shape, last stride 1; lse is [B,H,T] contiguous, float32 (float64 for float64):
  // ln Σ exp(S), or +inf for a row without keys, whose output is 0.
  void (*forward)(Stream&, const AttentionArgs&, const View& out, const View& lse);
  // dV = dropout(P)ᵀ·dO, dS = P·(dropout(dO·Vᵀ) - Σ dO·O), dQ = scale·dS·K, dK = scale·dSᵀ·Q.
  // out and dout have last stride 1, as have dq, dk, dv, which are disjoint.
  void (*backward)(Stream&, const AttentionArgs&, const View& out, const View& lse,
                   const View& dout, const View& dq, const View& dk, const View& dv);
};

}  // namespace nodegrad
