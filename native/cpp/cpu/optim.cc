// Updates of many tensors a launch (multi_tensor.h), by the rules of optim_rules.h; and norms and
// bounds of gradients.
// Hyper-parameters and the flag that skips an update are read from device memory when the kernel
// runs, so that a captured step sees their changes. Scalars are formed in double and rounded once
// to the type of arithmetic; 16-bit parameters are updated in float32 and kept so beside
// (`master`). Norms add up in double. Cost: SGD 3N·4 bytes, with momentum 5N·4, Adam 7N·4 read and
// written: bandwidth-bound.
#include "core/backend.h"
#include "core/error.h"
#include "cpu/accumulate.h"
#include "cpu/multi_tensor.h"
#include "cpu/optim_rules.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

template <class T, int mask, class Rule>
void update_run(const Rule& rule, T* param, const T* grad, T* first, T* second, T* third,
                int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    State<T> x;
    x.param = param[i];
    x.grad = grad[i];
    x.first = mask & kFirst ? first[i] : T(0);
    x.second = mask & kSecond ? second[i] : T(0);
    x.third = mask & kThird ? third[i] : T(0);
    rule.template update<mask>(x);
    param[i] = x.param;
    if (mask & kFirst) first[i] = x.first;
    if (mask & kSecond) second[i] = x.second;
    if (mask & kThird) third[i] = x.third;
  }
}

bool is_set(const int32_t* flag) { return flag && *flag != 0; }

template <class T, class Rule, int mask>
void update_kernel(const void* raw, int64_t chunk) {
  const ListArgs& a = *static_cast<const ListArgs*>(raw);
  if (is_set(a.skip)) return;
  const Place at = place_of(a, chunk);
  const OptimTensor& t = *at.tensor;
  const Rule rule(a.hyper, a.options);
  T* const first = mask & kFirst ? static_cast<T*>(t.first) + at.begin : nullptr;
  T* const second = mask & kSecond ? static_cast<T*>(t.second) + at.begin : nullptr;
  T* const third = mask & kThird ? static_cast<T*>(t.third) + at.begin : nullptr;
  if (!a.store) {
    update_run<T, mask>(rule, static_cast<T*>(t.param) + at.begin,
                        static_cast<const T*>(t.grad) + at.begin, first, second, third, at.n);
    return;
  }
  alignas(64) T grad[kBlock], stored[kBlock], rounded[kBlock];
  alignas(64) unsigned char bits[kBlock * 2];
  T* const master = static_cast<T*>(t.master) + at.begin;
  for (int64_t i = 0; i < at.n; i += kBlock) {
    const int64_t n = min_of(kBlock, at.n - i);
    void* const param = advance_by(t.param, (at.begin + i) * a.bytes);
    a.load(advance_by(t.grad, (at.begin + i) * a.bytes), 1, grad, n);
    a.load(param, 1, stored, n);
    a.store(master + i, bits, n);
    a.load(bits, 1, rounded, n);
    T* const own = master + i;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) own[j] = rounded[j] == stored[j] ? own[j] : stored[j];
    update_run<T, mask>(rule, own, grad, first ? first + i : nullptr, second ? second + i : nullptr,
                        third ? third + i : nullptr, n);
    a.store(own, param, n);
  }
}

template <class T, class Rule, int mask>
Kernel kernel_if() {
  if constexpr (Rule::takes(mask)) {
    return update_kernel<T, Rule, mask>;
  } else {
    return nullptr;
  }
}

template <class T, class Rule>
Kernel kernel_of(int mask) {
  static constexpr Kernel (*kernels[])() = {
      kernel_if<T, Rule, 0>, kernel_if<T, Rule, 1>, kernel_if<T, Rule, 2>, kernel_if<T, Rule, 3>,
      kernel_if<T, Rule, 4>, kernel_if<T, Rule, 5>, kernel_if<T, Rule, 6>, kernel_if<T, Rule, 7>};
  return kernels[mask]();
}

template <class T>
Kernel update_kernel_of(UpdateRule rule, int mask, int options) {
  switch (rule) {
    case UpdateRule::sgd:
      return options & kClassical ? kernel_of<T, ClassicalSgd<T>>(mask)
                                  : kernel_of<T, Sgd<T>>(mask);
    case UpdateRule::adam:
      return kernel_of<T, Adam<T>>(mask);
    case UpdateRule::rmsprop:
      return kernel_of<T, RmsProp<T>>(mask);
    case UpdateRule::adagrad:
      return kernel_of<T, Adagrad<T>>(mask);
    case UpdateRule::adadelta:
      return kernel_of<T, Adadelta<T>>(mask);
    case UpdateRule::lion:
      return kernel_of<T, Lion<T>>(mask);
    case UpdateRule::average:
      return kernel_of<T, Average<T>>(mask);
  }
  return nullptr;
}

void update(Stream& stream, UpdateRule rule, const OptimTensor* tensors, int count, DType dtype,
            const View& hyper, int options, const int32_t* found) {
  if (count == 0) return;
  const int mask = (tensors[0].first ? kFirst : 0) | (tensors[0].second ? kSecond : 0) |
                   (tensors[0].third ? kThird : 0);
  const Kernel kernel = dtype == DType::float64 ? update_kernel_of<double>(rule, mask, options)
                                                : update_kernel_of<float>(rule, mask, options);
  if (!kernel) fail("optimizer: the rule does not take these states, got %d", mask);
  ListArgs args = list_args(dtype);
  args.hyper = static_cast<const double*>(hyper.data);
  args.options = options;
  args.skip = found;
  for_lists(args, tensors, count, [&](int64_t chunks) {
    launch(stream, "optimizer", kernel, &args, bytes_of(args), chunks);
  });
}

struct AdvanceArgs {
  double* hyper;
  const int32_t* skip;
};

void advance_kernel(const void* raw, int64_t) {
  const AdvanceArgs& a = *static_cast<const AdvanceArgs*>(raw);
  if (!is_set(a.skip)) a.hyper[kStep] += 1.0;
}

void advance_step(Stream& stream, const View& hyper, const int32_t* found) {
  const AdvanceArgs args{static_cast<double*>(hyper.data), found};
  launch(stream, "optim_advance", advance_kernel, &args, sizeof args, 1);
}

template <class T>
void norm_partials_kernel(const void* raw, int64_t chunk) {
  const ListArgs& a = *static_cast<const ListArgs*>(raw);
  const Place at = place_of(a, chunk);
  alignas(64) T values[kBlock];
  alignas(64) double terms[kBlock];
  const bool infinite = a.number > 1e300;
  double total = 0.0;
  for (int64_t i = 0; i < at.n; i += kBlock) {
    const int64_t n = min_of(kBlock, at.n - i);
    a.load(advance_by(at.tensor->grad, (at.begin + i) * a.bytes), 1, values, n);
    if (a.number == 2.0) {
      for (int64_t j = 0; j < n; ++j) {
        const double x = static_cast<double>(values[j]);
        terms[j] = x * x;
      }
    } else {
      for (int64_t j = 0; j < n; ++j) terms[j] = __builtin_fabs(static_cast<double>(values[j]));
      if (!infinite && a.number != 1.0) {
        for (int64_t j = 0; j < n; ++j) terms[j] = __builtin_pow(terms[j], a.number);
      }
    }
    if (infinite) {
      total =
          MaximumOf<double>::join(Accumulate<MaximumOf<double>, double>::reduce(terms, n), total);
    } else {
      total += Accumulate<SumOf<double>, double>::reduce(terms, n);
    }
  }
  a.partials[chunk] = total;
}

void norm_partials(Stream& stream, const OptimTensor* tensors, int count, DType dtype, double p,
                   double* partials) {
  ListArgs args = list_args(dtype);
  args.number = p;
  args.partials = partials;
  const Kernel kernel =
      dtype == DType::float64 ? norm_partials_kernel<double> : norm_partials_kernel<float>;
  for_lists(args, tensors, count, [&](int64_t chunks) {
    launch(stream, "norm_partials", kernel, &args, bytes_of(args), chunks);
    args.partials += chunks;
  });
}

struct TotalArgs {
  const double* partials;
  int64_t count;
  double p;
  void* norm;
  bool wide;
};

void norm_total_kernel(const void* raw, int64_t) {
  const TotalArgs& a = *static_cast<const TotalArgs*>(raw);
  const bool infinite = a.p > 1e300;
  double total = 0.0;
  for (int64_t i = 0; i < a.count; i += kReduceBlock) {
    const int64_t n = min_of(kReduceBlock, a.count - i);
    if (infinite) {
      total = MaximumOf<double>::join(
          Accumulate<MaximumOf<double>, double>::reduce(a.partials + i, n), total);
    } else {
      total += Accumulate<SumOf<double>, double>::reduce(a.partials + i, n);
    }
  }
  if (!infinite && a.p != 1.0) {
    total = a.p == 2.0 ? __builtin_sqrt(total) : __builtin_pow(total, 1.0 / a.p);
  }
  if (a.wide) {
    *static_cast<double*>(a.norm) = total;
  } else {
    *static_cast<float*>(a.norm) = static_cast<float>(total);
  }
}

void norm_total(Stream& stream, const double* partials, int64_t count, double p, const View& norm) {
  const TotalArgs args = {partials, count, p, norm.data, norm.dtype == DType::float64};
  launch(stream, "norm_total", norm_total_kernel, &args, sizeof args, 1);
}

template <class T>
void scale_kernel(const void* raw, int64_t chunk) {
  const ListArgs& a = *static_cast<const ListArgs*>(raw);
  const double norm = a.wide_norm ? *static_cast<const double*>(a.norm)
                                  : static_cast<double>(*static_cast<const float*>(a.norm));
  const double ratio = a.number / (norm + 1e-6);
  const T factor = static_cast<T>(ratio > 1.0 ? 1.0 : ratio);
  change_in_place<T>(a, chunk, [&](T* values, int64_t n) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) values[j] *= factor;
  });
}

void scale(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& norm,
           double limit) {
  ListArgs args = list_args(dtype);
  args.norm = norm.data;
  args.wide_norm = norm.dtype == DType::float64;
  args.number = limit;
  const Kernel kernel = dtype == DType::float64 ? scale_kernel<double> : scale_kernel<float>;
  for_lists(args, tensors, count, [&](int64_t chunks) {
    launch(stream, "scale_gradients", kernel, &args, bytes_of(args), chunks);
  });
}

template <class T>
void clamp_kernel(const void* raw, int64_t chunk) {
  const ListArgs& a = *static_cast<const ListArgs*>(raw);
  const T limit = static_cast<T>(a.number);
  change_in_place<T>(a, chunk, [&](T* values, int64_t n) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const T x = values[j];
      const T below = x > limit ? limit : x;
      values[j] = below < -limit ? -limit : below;
    }
  });
}

void clamp(Stream& stream, const OptimTensor* tensors, int count, DType dtype, double limit) {
  ListArgs args = list_args(dtype);
  args.number = limit;
  const Kernel kernel = dtype == DType::float64 ? clamp_kernel<double> : clamp_kernel<float>;
  for_lists(args, tensors, count, [&](int64_t chunks) {
    launch(stream, "clamp_gradients", kernel, &args, bytes_of(args), chunks);
  });
}

}  // namespace

extern const OptimFamily optim_family;
const OptimFamily optim_family = {update, advance_step, norm_partials, norm_total, scale, clamp};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
