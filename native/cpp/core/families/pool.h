// Pooling over two axes: the contract of pool.cc and pool.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// The windows of one axis. Window i begins at i·stride - pad and takes `kernel` elements,
// `dilation` apart; an adaptive one is [⌊i·size/out⌋, ⌈(i+1)·size/out⌉).
struct PoolAxis {
  int64_t size, out, kernel, stride, pad, dilation;
};

// x is [planes, h.size, w.size, inner] and y [planes, h.out, w.out, inner], contiguous, of one
// floating dtype: planes are images and channels, or images alone where channels lie inside.
struct PoolShape {
  int64_t planes, inner;
  PoolAxis h, w;
  bool relu;                 // of a maximum: y = max(y, 0), and index -1 where it is cut
  bool adaptive, count_pad;  // count_pad: padding counts in an average's divisor
  DType dtype;
};

struct PoolFamily {
  // index: int32, of y's shape, where in its plane the maximum was found (the first of
  // equal ones; NaN wins).
  void (*max_forward)(Stream&, const PoolShape&, const void* x, void* y, int32_t* index);
  void (*max_backward)(Stream&, const PoolShape&, const void* dy, const int32_t* index, void* dx);
  void (*average_forward)(Stream&, const PoolShape&, const void* x, void* y);
  void (*average_backward)(Stream&, const PoolShape&, const void* dy, void* dx);
};

}  // namespace nodegrad
