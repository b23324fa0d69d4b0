// Elementwise ops of two operands, and where: the contract of binary.cc and binary.cu (see
// core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Elementwise ops of two operands are listed once, in core/elementwise.h, with their formulas.
enum class BinaryOp : uint8_t;

struct BinaryFamily {
  // out = f(a, b): a and b have out's shape (broadcast by stride 0) and one dtype; out has
  // that dtype, or bool for comparisons.
  void (*forward)(Stream&, BinaryOp, const View& a, const View& b, const View& out);
  // out = f(a, s), or f(s, a) where `reversed`.
  void (*scalar)(Stream&, BinaryOp, const View& a, Scalar s, bool reversed, const View& out);
  // out = condition ? a : b; condition is bool, all of out's shape.
  void (*where)(Stream&, const View& condition, const View& a, const View& b, const View& out);
};

}  // namespace nodegrad
