// Parameter updates: PyTorch's SGD, Adam and AdamW (torch/optim/{sgd,adam,adamw}.py), many tensors
// a launch, in chunks of equal size across them. Hyper-parameters are read from device memory when
// the kernel runs, so that a captured step sees their changes.
//
// SGD:  g ← g + wd·p;  v ← g at the first step, else μ·v + (1 - damp)·g;  p ← p - lr·(g + μ·v | v)
// Adam: g ← g + wd·p (AdamW: p ← p·(1 - lr·wd));  m ← m + (1 - β1)(g - m);  v ← β2·v + (1 - β2)·g²
//       p ← p - lr/(1 - β1^t) · m / (√v / √(1 - β2^t) + ε)
// Scalars are formed in double and rounded once to the parameters' type.
// Cost: SGD with momentum 5N·4 bytes, Adam 7N·4 bytes read and written: bandwidth-bound.
#include "core/backend.h"
#include "core/error.h"
#include "cpu/iterate.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kTensorChunk = 16384;
constexpr int kTensorsPerLaunch = 64;

struct Entry {
  OptimTensor tensor;
  int64_t first_chunk;
};

struct UpdateArgs {
  const double* hyper;
  int32_t count;
  bool variant;  // nesterov, or decoupled weight decay
  bool maximize;
  Entry entries[kTensorsPerLaunch];
};

// A chunk's part of its tensor.
template <class T>
struct Part {
  T* param;
  const T* grad;
  T* first;
  T* second;
  int64_t n;
};

template <class T>
Part<T> part_of(const UpdateArgs& a, int64_t chunk) {
  int low = 0;
  for (int high = a.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    (a.entries[middle].first_chunk <= chunk ? low : high) = middle;
  }
  const OptimTensor& t = a.entries[low].tensor;
  const int64_t begin = (chunk - a.entries[low].first_chunk) * kTensorChunk;
  Part<T> part;
  part.param = static_cast<T*>(t.param) + begin;
  part.grad = static_cast<const T*>(t.grad) + begin;
  part.first = t.first ? static_cast<T*>(t.first) + begin : nullptr;
  part.second = t.second ? static_cast<T*>(t.second) + begin : nullptr;
  part.n = min_of(kTensorChunk, t.n - begin);
  return part;
}

template <class T>
void sgd_kernel(const void* raw, int64_t chunk) {
  const UpdateArgs& a = *static_cast<const UpdateArgs*>(raw);
  const Part<T> part = part_of<T>(a, chunk);
  T* const p = part.param;
  T* const v = part.first;
  const T* const grad = part.grad;
  const T lr = static_cast<T>(a.hyper[kLearningRate]);
  const T decay = static_cast<T>(a.hyper[kWeightDecay]);
  const T direction = a.maximize ? T(-1) : T(1);
  const bool nesterov = a.variant;
  if (!v) {
#pragma GCC ivdep
    for (int64_t i = 0; i < part.n; ++i) {
      const T x = p[i];
      p[i] = x - lr * (direction * grad[i] + decay * x);
    }
    return;
  }
  // At the first step v is undefined and may hold NaN: it is not read.
  const bool first_step = a.hyper[kStep] <= 1.0;
  const T momentum = static_cast<T>(a.hyper[kMomentum]);
  const T fresh = static_cast<T>(1.0 - a.hyper[kDampening]);
#pragma GCC ivdep
  for (int64_t i = 0; i < part.n; ++i) {
    const T x = p[i], old = v[i];
    const T g = direction * grad[i] + decay * x;
    const T moved = momentum * old + fresh * g;
    const T velocity = first_step ? g : moved;
    const T ahead = g + momentum * velocity;
    v[i] = velocity;
    p[i] = x - lr * (nesterov ? ahead : velocity);
  }
}

template <class T>
void adam_kernel(const void* raw, int64_t chunk) {
  const UpdateArgs& a = *static_cast<const UpdateArgs*>(raw);
  const Part<T> part = part_of<T>(a, chunk);
  T* const p = part.param;
  T* const m = part.first;
  T* const v = part.second;
  const T* const grad = part.grad;
  const double lr = a.hyper[kLearningRate], wd = a.hyper[kWeightDecay], t = a.hyper[kStep];
  const double beta1 = a.hyper[kMomentum], beta2 = a.hyper[kDampening];
  const double bias1 = 1.0 - __builtin_pow(beta1, t);
  const double bias2 = 1.0 - __builtin_pow(beta2, t);
  const T direction = a.maximize ? T(-1) : T(1);
  const T shrink = static_cast<T>(a.variant ? 1.0 - lr * wd : 1.0);
  const T decay = static_cast<T>(a.variant ? 0.0 : wd);
  const T fresh1 = static_cast<T>(1.0 - beta1);
  const T keep2 = static_cast<T>(beta2), fresh2 = static_cast<T>(1.0 - beta2);
  const T root_bias2 = static_cast<T>(__builtin_sqrt(bias2));
  const T eps = static_cast<T>(a.hyper[kEps]);
  const T step_size = static_cast<T>(lr / bias1);
#pragma GCC ivdep
  for (int64_t i = 0; i < part.n; ++i) {
    const T x = p[i] * shrink;
    const T g = direction * grad[i] + decay * x;
    const T first = m[i] + fresh1 * (g - m[i]);
    const T second = keep2 * v[i] + fresh2 * g * g;
    const T denominator = m_sqrt(second) / root_bias2 + eps;
    m[i] = first;
    v[i] = second;
    p[i] = x - step_size * first / denominator;
  }
}

void update(Stream& stream, const char* name, Kernel float_kernel, Kernel double_kernel,
            const OptimTensor* tensors, int count, DType dtype, const View& hyper, bool variant,
            bool maximize) {
  if (dtype != DType::float32 && dtype != DType::float64) {
    fail("%s: parameters must be float32 or float64, got %s", name, dtype_name(dtype));
  }
  UpdateArgs args;
  args.hyper = static_cast<const double*>(hyper.data);
  args.variant = variant;
  args.maximize = maximize;
  for (int next = 0; next < count;) {
    int64_t chunks = 0;
    int32_t used = 0;
    for (; next < count && used < kTensorsPerLaunch; ++next) {
      if (tensors[next].n == 0) continue;
      args.entries[used].tensor = tensors[next];
      args.entries[used].first_chunk = chunks;
      chunks += chunk_count(tensors[next].n, kTensorChunk);
      ++used;
    }
    if (used == 0) return;
    args.count = used;
    const size_t bytes = offsetof(UpdateArgs, entries) + static_cast<size_t>(used) * sizeof(Entry);
    launch(stream, name, dtype == DType::float32 ? float_kernel : double_kernel, &args, bytes,
           chunks);
  }
}

void sgd(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& hyper,
         bool nesterov, bool maximize) {
  update(stream, "sgd", sgd_kernel<float>, sgd_kernel<double>, tensors, count, dtype, hyper,
         nesterov, maximize);
}

void adam(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& hyper,
          bool decoupled, bool maximize) {
  update(stream, decoupled ? "adamw" : "adam", adam_kernel<float>, adam_kernel<double>, tensors,
         count, dtype, hyper, decoupled, maximize);
}

void advance_kernel(const void* raw, int64_t) {
  double* const hyper = *static_cast<double* const*>(raw);
  hyper[kStep] += 1.0;
}

void advance_step(Stream& stream, const View& hyper) {
  launch(stream, "optim_advance", advance_kernel, &hyper.data, sizeof hyper.data, 1);
}

}  // namespace

extern const OptimFamily optim_family;
const OptimFamily optim_family = {sgd, adam, advance_step};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
