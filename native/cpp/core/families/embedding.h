// Gradients of looked-up rows: the contract of embedding.cc and embedding.cu (see core/backend.h).
// The lookup itself is the index family's select.
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

struct EmbeddingFamily {
  // dweight[index[i], :] gets Σ dy[i, :], in the order of i or of pieces of it that sizes alone
  // decide. dweight is [V,D], dy [I,D], index int64 [I], all contiguous; dweight and dy share a
  // floating dtype. The sums are added to dweight where `accumulate`; else it is written, with
  // zeros where no index points. Indices outside [0,V) and those equal to `padding` count nothing.
  void (*backward)(Stream&, const View& dy, const View& index, int64_t padding, bool accumulate,
                   const View& dweight);
};

}  // namespace nodegrad
