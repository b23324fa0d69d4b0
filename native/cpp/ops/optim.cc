#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

void check_hyper(const char* op, const Tensor& hyper) {
  if (hyper.dtype() != DType::float64 || hyper.elements() != kHyperSize || !hyper.contiguous()) {
    fail("%s: the hyper-parameters must be float64[%d], got %s%s", op, kHyperSize,
         dtype_name(hyper.dtype()), shape_text(hyper.view).c_str());
  }
}

void* matching(const char* op, const char* what, const Tensor& param, const Tensor& other) {
  check_same_device(op, param, other);
  if (other.dtype() != param.dtype() || other.shape() != param.shape() || !other.contiguous()) {
    fail("%s: %s must be %s%s and contiguous, got %s%s", op, what, dtype_name(param.dtype()),
         shape_text(param.view).c_str(), dtype_name(other.dtype()), shape_text(other.view).c_str());
  }
  return other.view.data;
}

using Update = void (*)(Stream&, const OptimTensor*, int, DType, const View&, bool, bool);

void update(const char* op, const TensorList& params, const TensorList& grads,
            const TensorList* first, const TensorList* second, const Tensor& hyper, bool option,
            bool maximize, Update kernel) {
  check_hyper(op, hyper);
  const size_t count = params.size();
  if (grads.size() != count || (first && first->size() != count) ||
      (second && second->size() != count)) {
    fail("%s: needs as many gradients and states as parameters, got %zu and %zu", op, grads.size(),
         count);
  }
  Stream& stream = hyper.stream();
  hyper.backend().optim->advance(stream, hyper.view);
  std::vector<OptimTensor> tensors;
  tensors.reserve(count);
  for (DType dtype : {DType::float32, DType::float64}) {
    tensors.clear();
    for (size_t i = 0; i < count; ++i) {
      const Tensor& p = params[i];
      if (p.dtype() != DType::float32 && p.dtype() != DType::float64) {
        fail("%s: parameters must be float32 or float64, got %s", op, dtype_name(p.dtype()));
      }
      if (p.dtype() != dtype) continue;
      check_same_device(op, hyper, p);
      tensors.push_back({matching(op, "parameter", p, p), matching(op, "gradient", p, grads[i]),
                         first ? matching(op, "state", p, (*first)[i]) : nullptr,
                         second ? matching(op, "state", p, (*second)[i]) : nullptr, p.elements()});
    }
    if (tensors.empty()) continue;
    kernel(stream, tensors.data(), static_cast<int>(tensors.size()), dtype, hyper.view, option,
           maximize);
  }
}

}  // namespace

void sgd(const TensorList& params, const TensorList& grads, const TensorList& momenta,
         const Tensor& hyper, bool nesterov, bool maximize) {
  update("sgd", params, grads, momenta.empty() ? nullptr : &momenta, nullptr, hyper, nesterov,
         maximize, hyper.backend().optim->sgd);
}

void adam(const TensorList& params, const TensorList& grads, const TensorList& first,
          const TensorList& second, const Tensor& hyper, bool decoupled, bool maximize) {
  update("adam", params, grads, &first, &second, hyper, decoupled, maximize,
         hyper.backend().optim->adam);
}

}  // namespace nodegrad::ops
