#include <cmath>

#include "core/error.h"
#include "ops/layout.h"
#include "ops/ops.h"

namespace nodegrad::ops {

// The smallest dtype that holds both: floats before integers before bool; of two floats the wider,
// and float32 for the two 16-bit forms together.
DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_float(a) != is_float(b)) return is_float(a) ? a : b;
  if (is_float(a)) {
    return a == DType::float64 || b == DType::float64 ? DType::float64 : DType::float32;
  }
  if (a == DType::boolean) return b;
  if (b == DType::boolean) return a;
  return a == DType::int64 || b == DType::int64 ? DType::int64 : DType::int32;
}

namespace {

// Bool, integer or float.
int category(DType dtype) { return is_float(dtype) ? 2 : dtype == DType::boolean ? 0 : 1; }

// PyTorch's result_type: a scalar beside an array counts only where it is of a higher category.
DType result_type(const Tensor& a, const Tensor& b) {
  const DType x = a.dtype(), y = b.dtype();
  if (a.rank() > 0 && b.rank() == 0 && category(y) <= category(x)) return x;
  if (b.rank() > 0 && a.rank() == 0 && category(x) <= category(y)) return y;
  return promote(x, y);
}

// The dtype in which an op computes on operands of `dtype`.
DType compute_dtype(BinaryOp op, const char* name, bool floating, bool predicate, DType dtype) {
  if (floating && !is_float(dtype)) return DType::float32;
  if (dtype == DType::boolean && !predicate) {
    if (op == BinaryOp::sub) fail("%s: bool tensors have no difference, use logicalXor", name);
    if (op == BinaryOp::remainder || op == BinaryOp::fmod || op == BinaryOp::floor_divide ||
        op == BinaryOp::pow) {
      fail("%s: needs a numeric dtype, got bool", name);
    }
    return dtype;
  }
  return dtype;
}

// A whole number as an operand beside integers. Sums and products wrap, as those of tensors do; a
// bound that lies beyond all integers of the dtype and leaves them as they are is moved to their
// end.
double whole_operand(BinaryOp op, const char* name, DType dtype, double number, bool reversed) {
  if (op == BinaryOp::pow && !reversed && number < 0) {
    fail("pow: an integer has no negative integer power, got %.17g", number);
  }
  if (holds(dtype, number) || op == BinaryOp::add || op == BinaryOp::sub || op == BinaryOp::mul) {
    return number;
  }
  const auto [least, most] = range_of(dtype);
  const bool lower = op == BinaryOp::maximum || op == BinaryOp::clamp_min;
  const bool upper = op == BinaryOp::minimum || op == BinaryOp::clamp_max;
  if (lower && number < least) return least;
  if (upper && number > most) return most;
  fail("%s: a number beside %s must be in [%.17g,%.17g], got %.17g", name, dtype_name(dtype), least,
       most, number);
}

void broadcast_shapes(const char* name, const View& a, const View& b, Shape& shape) {
  const int rank = a.rank > b.rank ? a.rank : b.rank;
  shape.resize(static_cast<size_t>(rank));
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank), ib = i - (rank - b.rank);
    const int64_t sa = ia < 0 ? 1 : a.shape[ia], sb = ib < 0 ? 1 : b.shape[ib];
    if (sa != sb && sa != 1 && sb != 1) {
      fail("%s: shapes must broadcast, got %s and %s", name, shape_text(a).c_str(),
           shape_text(b).c_str());
    }
    shape[static_cast<size_t>(i)] = sa == 1 ? sb : sa;
  }
}

bool same_shape(const View& a, const View& b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i) {
    if (a.shape[i] != b.shape[i]) return false;
  }
  return true;
}

}  // namespace

Tensor binary(BinaryOp op, const char* name, bool floating, bool predicate, const Tensor& a,
              const Tensor& b) {
  check_same_device(name, a, b);
  const DType dtype = compute_dtype(op, name, floating, predicate, result_type(a, b));
  const Tensor left = as_dtype(a, dtype), right = as_dtype(b, dtype);
  const DType out_dtype = predicate ? DType::boolean : dtype;
  if (same_shape(left.view, right.view)) {
    const bool last = left.channels_last() && right.channels_last();
    Tensor out = last ? empty_beside(left, out_dtype, name) : empty_like(left, out_dtype, name);
    a.backend().binary->forward(a.stream(), op, in_order(left.view, last),
                                in_order(right.view, last), in_order(out.view, last));
    return out;
  }
  Shape shape;
  broadcast_shapes(name, left.view, right.view, shape);
  const int rank = static_cast<int>(shape.size());
  Tensor out = empty(a.device(), shape, out_dtype, name);
  a.backend().binary->forward(a.stream(), op, broadcast_view(left.view, shape.data(), rank),
                              broadcast_view(right.view, shape.data(), rank), out.view);
  return out;
}

Tensor binary_scalar(BinaryOp op, const char* name, bool floating, bool predicate, const Tensor& a,
                     double scalar, bool reversed) {
  DType dtype = a.dtype();
  if (!is_float(dtype)) {
    if (dtype == DType::boolean) dtype = DType::int64;
    if (predicate && !std::isnan(scalar) && !holds(dtype, scalar)) {
      // Beyond all integers of the dtype: it compares with them as infinity does.
      scalar = std::copysign(HUGE_VAL, scalar);
    }
    // A number takes part as an integer where it is one, else as a float32.
    const bool whole = scalar == std::trunc(scalar) && holds(DType::int64, scalar);
    if (!whole) dtype = DType::float32;
    dtype = compute_dtype(op, name, floating, predicate, dtype);
    if (!is_float(dtype)) scalar = whole_operand(op, name, dtype, scalar, reversed);
  }
  const Tensor x = as_dtype(a, dtype);
  const bool last = x.channels_last();
  const DType out_dtype = predicate ? DType::boolean : dtype;
  Tensor out = empty_beside(x, out_dtype, name);
  a.backend().binary->scalar(a.stream(), op, in_order(x.view, last), scalar_of(scalar), reversed,
                             in_order(out.view, last));
  return out;
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_same_device("where", condition, a);
  check_same_device("where", a, b);
  if (condition.dtype() != DType::boolean) {
    fail("where: the condition must be bool, got %s", dtype_name(condition.dtype()));
  }
  const DType dtype = result_type(a, b);
  const Tensor left = as_dtype(a, dtype), right = as_dtype(b, dtype);
  Shape values;
  broadcast_shapes("where", left.view, right.view, values);
  View shaped = left.view;
  shaped.rank = static_cast<int32_t>(values.size());
  for (size_t i = 0; i < values.size(); ++i) shaped.shape[i] = values[i];
  Shape shape;
  broadcast_shapes("where", condition.view, shaped, shape);
  const int rank = static_cast<int>(shape.size());
  Tensor out = empty(a.device(), shape, dtype, "where");
  a.backend().binary->where(a.stream(), broadcast_view(condition.view, shape.data(), rank),
                            broadcast_view(left.view, shape.data(), rank),
                            broadcast_view(right.view, shape.data(), rank), out.view);
  return out;
}

void add_into(const Tensor& out, const Tensor& x) {
  check_same_device("add", out, x);
  if (!same_shape(out.view, x.view) || !out.contiguous()) {
    fail("add: the sum must have the shape %s and be contiguous, got %s",
         shape_text(out.view).c_str(), shape_text(x.view).c_str());
  }
  const Tensor addend = as_dtype(x, out.dtype());
  out.backend().binary->forward(out.stream(), BinaryOp::add, out.view, addend.view, out.view);
}

void scale_into(const Tensor& out, double factor) {
  if (!out.contiguous()) fail("scale: the tensor must be contiguous");
  out.backend().binary->scalar(out.stream(), BinaryOp::mul, out.view, scalar_of(factor), false,
                               out.view);
}

}  // namespace nodegrad::ops
