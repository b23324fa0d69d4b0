#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// Rows `offset` to `offset` + `count` of a table, as the kernels take them.
Tensor part_of(const Tensor& table, int64_t offset, int64_t count, DType dtype) {
  return contiguous(as_dtype(slice(table, 0, offset, offset + count, 1), dtype));
}

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& cosines, const Tensor& sines, int64_t offset,
              bool inverse) {
  constexpr const char* op = "RotaryPositions";  // which users call
  if (!is_float(x.dtype())) {
    fail("%s: needs a floating dtype, got %s", op, dtype_name(x.dtype()));
  }
  check_same_device(op, x, cosines);
  check_same_device(op, x, sines);
  if (cosines.rank() != 2 || sines.shape() != cosines.shape()) {
    fail("%s: the tables must be [length,width/2], got %s and %s", op,
         shape_text(cosines.view).c_str(), shape_text(sines.view).c_str());
  }
  const int rank = x.rank();
  const int64_t room = cosines.size(0) - offset;
  if (rank < 2 || x.size(rank - 1) != 2 * cosines.size(1) || offset < 0 ||
      x.size(rank - 2) > room) {
    fail("%s: x must be [...,T,%lld] with T up to %lld, got %s", op,
         (long long)(2 * cosines.size(1)), (long long)(offset < 0 || room < 0 ? 0 : room),
         shape_text(x.view).c_str());
  }
  const int64_t length = x.size(rank - 2);
  const DType wide = x.dtype() == DType::float64 ? DType::float64 : DType::float32;
  const Tensor cosine = part_of(cosines, offset, length, wide);
  const Tensor sine = part_of(sines, offset, length, wide);
  Tensor y = empty_like(x, x.dtype(), op);
  x.backend().rotary->rotate(x.stream(), x.view, cosine.view, sine.view, inverse, y.view);
  return y;
}

}  // namespace nodegrad::ops
