// Normalisation: the contract of norm.cc and norm.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Every input is seen as [samples, channels, inner], contiguous. A row is the part of a sample that
// is normalised as one: channels / groups channels with all their inner elements; there are
// samples · groups rows. Layer norm over D elements has D channels, inner 1 and one group.
struct NormShape {
  int64_t samples, channels, inner, groups;
};

// What batch norm keeps between batches: running statistics [channels] and the number of batches
// so far, int64 []. All null where nothing is kept; `momentum` below 0: the mean of all batches.
struct RunningStatistics {
  const View* mean;
  const View* variance;
  const View* batches;
  double momentum;
};

// x, y, dy and dx share a dtype; statistics, weight, bias and their gradients are float32, or
// float64 for float64, and contiguous. Pointers may be null: no weight (1), no bias (0), no mean
// (rms norm, which subtracts none), a gradient that is not wanted.
struct NormFamily {
  // y = (x - mean)·rstd·weight + bias, rstd = 1 / √(variance + eps); mean and rstd per row.
  void (*rows)(Stream&, const NormShape&, const View& x, const View* weight, const View* bias,
               double eps, const View& y, const View* mean, const View& rstd);
  // With g = dy·weight and x̂ = (x - mean)·rstd, means over the row:
  // dx = rstd·(g - mean(g) - x̂·mean(g·x̂)), without mean(g) for rms norm;
  // dweight = Σ dy·x̂ and dbias = Σ dy over all rows.
  void (*rows_backward)(Stream&, const NormShape&, const View& x, const View* weight,
                        const View* mean, const View& rstd, const View& dy, const View* dx,
                        const View* dweight, const View* dbias);
  // Mean and rstd per channel over samples and inner, M elements. Updates what is kept:
  // kept += momentum·(batch - kept), with the variance over M - 1; counts the batch.
  void (*batch_statistics)(Stream&, const NormShape&, const View& x, double eps, const View& mean,
                           const View& rstd, const RunningStatistics&);
  // The same from what was kept: copies the mean, rstd = 1 / √(variance + eps).
  void (*running_statistics)(Stream&, const View& running_mean, const View& running_variance,
                             double eps, const View& mean, const View& rstd);
  // y = (x - mean)·rstd·weight + bias per channel.
  void (*batch)(Stream&, const NormShape&, const View& x, const View* weight, const View* bias,
                const View& mean, const View& rstd, const View& y);
  // dweight = Σ dy·x̂ and dbias = Σ dy, never null;
  // dx = weight·rstd·(dy - dbias/M - x̂·dweight/M), or weight·rstd·dy where statistics are fixed.
  void (*batch_backward)(Stream&, const NormShape&, const View& x, const View* weight,
                         const View& mean, const View& rstd, const View& dy, bool fixed,
                         const View* dx, const View& dweight, const View& dbias);
};

}  // namespace nodegrad
