// Elementwise ops of one operand: the contract of unary.cc and unary.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Elementwise ops of one operand are listed once, in core/elementwise.h, with their formulas.
enum class UnaryOp : uint8_t;

struct UnaryFamily {
  // out = f(x); out has x's shape and dtype (bool for predicates).
  void (*forward)(Stream&, UnaryOp, const View& x, const View& out);
  // dx = dout · f'; `saved` is x or the output, as core/elementwise.h says. Floating dtypes.
  void (*backward)(Stream&, UnaryOp, const View& saved, const View& dout, const View& dx);
};

}  // namespace nodegrad
