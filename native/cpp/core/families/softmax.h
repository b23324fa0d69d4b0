// Softmax and cross-entropy: the contract of softmax.cc and softmax.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// What soft cross-entropy compares with: q[n,c] = w[c]·((1 - smoothing)·t[n,c] + smoothing/C).
struct SoftTarget {
  View target;  // int64 [N] (t is 1 at that class), or probabilities [N,C] of x's dtype
  View weight;  // w, [C] of x's dtype; no data: all 1
  double smoothing;
  int64_t ignore_index;  // of class indices: q is 0 in such rows; NaN where there is no such class
};

// Rows of logits: x is [N,C], contiguous; softmax runs over C. float32 inside, or float64.
struct SoftmaxFamily {
  void (*softmax)(Stream&, const View& x, const View& y, bool logarithm);
  // dx = y(dy - Σ dy·y), or dy - exp(y)·Σ dy for log-softmax; y is the forward output.
  void (*softmax_backward)(Stream&, const View& y, const View& dy, const View& dx, bool logarithm);
  // target: int64 [N]; loss[n] = lse[n] - x[n, target[n]]. loss has x's dtype; lse is float32
  // (float64 for float64). A target equal to ignore_index gives 0; any other target outside
  // [0,C) gives NaN (the host cannot look without waiting).
  void (*cross_entropy)(Stream&, const View& x, const View& target, int64_t ignore_index,
                        const View& loss, const View& lse);
  // dx[n,c] = (exp(x - lse[n]) - [c = target[n]]) · dloss[n]; dloss [N] may have stride 0, dx be x.
  void (*cross_entropy_backward)(Stream&, const View& x, const View& target, int64_t ignore_index,
                                 const View& lse, const View& dloss, const View& dx);
  // loss[n] = Σ q·(lse - x) (0 where q is), mass[n] = Σ q; lse and mass are as lse above.
  void (*soft_cross_entropy)(Stream&, const View& x, const SoftTarget&, const View& loss,
                             const View& lse, const View& mass);
  // dx = (exp(x - lse)·mass - q)·dloss, and may be x unless dt has data, of probabilities: dt =
  // (1 - smoothing)·w·(lse - x)·dloss. All contiguous but dloss, which may have stride 0.
  void (*soft_cross_entropy_backward)(Stream&, const View& x, const SoftTarget&, const View& lse,
                                      const View& mass, const View& dloss, const View& dx,
                                      const View& dt);
};

}  // namespace nodegrad
