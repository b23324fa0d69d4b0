#include "ops/multi_tensor.h"
#include "ops/ops.h"

namespace nodegrad::ops {

void unscale_gradients(const TensorList& grads, const Tensor& scale, const Tensor& found) {
  const char* const op = "unscale";
  check_scalar(op, "the scale", found, scale, DType::float32);
  check_flag(op, scale, found);
  for_dtypes(op, grads, [&](DType dtype, const std::vector<OptimTensor>& entries) {
    check_same_device(op, grads[0], found);
    found.backend().scaler->unscale(found.stream(), entries.data(),
                                    static_cast<int>(entries.size()), dtype, scale.view,
                                    found.view);
  });
}

void update_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found, double growth,
                  double backoff, int64_t interval) {
  const char* const op = "GradScaler";
  check_scalar(op, "the scale", scale, scale, DType::float32);
  check_scalar(op, "the count of good steps", scale, tracker, DType::int32);
  check_flag(op, scale, found);
  scale.backend().scaler->update(scale.stream(), scale.view, tracker.view, found.view,
                                 {growth, backoff, static_cast<int32_t>(interval)});
}

}  // namespace nodegrad::ops
