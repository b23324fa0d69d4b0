#include <cmath>

#include "core/error.h"
#include "ops/multi_tensor.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

// The rules by number, as lib/optim/optimizer.ts has them.
constexpr const char* kRules[] = {"SGD",      "Adam", "RMSprop", "Adagrad",
                                  "Adadelta", "Lion", "average"};

DType wide_type(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

void check_hyper(const char* op, const Tensor& hyper) {
  if (hyper.dtype() != DType::float64 || hyper.elements() != kHyperSize || !hyper.contiguous()) {
    fail("%s: the hyper-parameters must be float64[%d], got %s%s", op, kHyperSize,
         dtype_name(hyper.dtype()), shape_text(hyper.view).c_str());
  }
}

void* matching(const char* op, const char* what, const Tensor& param, const Tensor& other,
               DType dtype) {
  check_same_device(op, param, other);
  if (other.dtype() != dtype || other.shape() != param.shape() || !other.contiguous()) {
    fail("%s: %s must be %s%s and contiguous, got %s%s", op, what, dtype_name(dtype),
         shape_text(param.view).c_str(), dtype_name(other.dtype()), shape_text(other.view).c_str());
  }
  return other.view.data;
}

// The state of parameter number `at`, or null where the rule has none.
void* state(const char* op, const TensorList& states, size_t at, const Tensor& param) {
  if (states.empty()) return nullptr;
  return matching(op, "state", param, states[at], wide_type(param.dtype()));
}

}  // namespace

void update_parameters(int64_t rule, const TensorList& params, const TensorList& grads,
                       const TensorList& first, const TensorList& second, const TensorList& third,
                       const TensorList& masters, const Tensor& hyper, int64_t options,
                       const std::optional<Tensor>& found) {
  if (rule < 0 || rule >= static_cast<int64_t>(std::size(kRules))) {
    fail("optimizer: the rule must be in [0,%zu), got %lld", std::size(kRules), (long long)rule);
  }
  const char* const op = kRules[rule];
  check_hyper(op, hyper);
  const size_t count = params.size();
  for (const TensorList* states : {&first, &second, &third, &masters}) {
    if (!states->empty() && states->size() != count) {
      fail("%s: needs as many states as parameters, got %zu and %zu", op, states->size(), count);
    }
  }
  if (grads.size() != count) {
    fail("%s: needs as many gradients as parameters, got %zu and %zu", op, grads.size(), count);
  }
  if (found) check_flag(op, hyper, *found);
  Stream& stream = hyper.stream();
  std::vector<OptimTensor> tensors[std::size(kFloatTypes)];
  for (size_t i = 0; i < count; ++i) {
    const Tensor& p = params[i];
    check_floating(op, p);
    check_same_device(op, hyper, p);
    const bool half = p.dtype() == DType::bfloat16 || p.dtype() == DType::float16;
    if (half && masters.empty()) {
      fail("%s: parameters of 16 bits need float32 masters, got none", op);
    }
    for (size_t d = 0; d < std::size(kFloatTypes); ++d) {
      if (p.dtype() != kFloatTypes[d]) continue;
      tensors[d].push_back({matching(op, "parameter", p, p, p.dtype()),
                            matching(op, "gradient", p, grads[i], p.dtype()),
                            state(op, first, i, p), state(op, second, i, p), state(op, third, i, p),
                            half ? state(op, masters, i, p) : nullptr, p.elements()});
    }
  }
  const OptimFamily& family = *hyper.backend().optim;
  const int32_t* const flag = found ? static_cast<const int32_t*>(found->view.data) : nullptr;
  family.advance(stream, hyper.view, flag);
  for (size_t d = 0; d < std::size(kFloatTypes); ++d) {
    if (tensors[d].empty()) continue;
    family.update(stream, static_cast<UpdateRule>(rule), tensors[d].data(),
                  static_cast<int>(tensors[d].size()), kFloatTypes[d], hyper.view,
                  static_cast<int>(options), flag);
  }
}

Tensor total_norm(const TensorList& grads, double p) {
  if (grads.empty()) fail("getTotalNorm: needs at least one tensor, got none");
  bool wide = false;
  int64_t chunks = 0;
  for (const Tensor& x : grads) {
    wide = wide || x.dtype() == DType::float64;
    chunks += (x.elements() + kNormChunk - 1) / kNormChunk;
  }
  const Tensor& like = grads[0];
  const OptimFamily& family = *like.backend().optim;
  const Tensor partials =
      empty(like.device(), {std::max<int64_t>(chunks, 1)}, DType::float64, "getTotalNorm");
  Tensor norm =
      empty(like.device(), Shape{}, wide ? DType::float64 : DType::float32, "getTotalNorm");
  double* next = static_cast<double*>(partials.view.data);
  for_dtypes("getTotalNorm", grads, [&](DType dtype, const std::vector<OptimTensor>& entries) {
    family.norm_partials(like.stream(), entries.data(), static_cast<int>(entries.size()), dtype, p,
                         next);
    for (const OptimTensor& t : entries) next += (t.n + kNormChunk - 1) / kNormChunk;
  });
  family.norm_total(like.stream(), static_cast<const double*>(partials.view.data), chunks, p,
                    norm.view);
  return norm;
}

void scale_gradients(const TensorList& grads, const Tensor& norm, double limit) {
  const bool fits =
      norm.elements() == 1 && (norm.dtype() == DType::float32 || norm.dtype() == DType::float64);
  if (!fits) {
    fail("clipGradNorm: the norm must be a float32 or float64 scalar, got %s%s",
         dtype_name(norm.dtype()), shape_text(norm.view).c_str());
  }
  for_dtypes("clipGradNorm", grads, [&](DType dtype, const std::vector<OptimTensor>& entries) {
    check_same_device("clipGradNorm", grads[0], norm);
    norm.backend().optim->scale(norm.stream(), entries.data(), static_cast<int>(entries.size()),
                                dtype, norm.view, limit);
  });
}

void clamp_gradients(const TensorList& grads, double limit) {
  for_dtypes("clipGradValue", grads, [&](DType dtype, const std::vector<OptimTensor>& entries) {
    grads[0].backend().optim->clamp(grads[0].stream(), entries.data(),
                                    static_cast<int>(entries.size()), dtype, limit);
  });
}

}  // namespace nodegrad::ops
