// Parameter updates: PyTorch's SGD, Adam and AdamW (torch/optim/{sgd,adam,adamw}.py). One launch
// updates many tensors: their table travels in the kernel's parameters, and blocks take chunks of
// equal size across them. Hyper-parameters are read from device memory when the kernel runs.
//
// SGD:  g ← g + wd·p;  v ← g at the first step, else μ·v + (1 - damp)·g;  p ← p - lr·(g + μ·v | v)
// Adam: g ← g + wd·p (AdamW: p ← p·(1 - lr·wd));  m ← m + (1 - β1)(g - m);  v ← β2·v + (1 - β2)·g²
//       p ← p - lr/(1 - β1^t) · m / (√v / √(1 - β2^t) + ε)
// Scalars are formed in double, once a block, and rounded once to the parameters' type.
// Cost: SGD 3N·4 bytes, with momentum 5N·4, Adam 7N·4 read and written: bandwidth-bound.
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;
constexpr int kVectorsPerThread = 4;
constexpr int kTensorsPerLaunch = 80;

struct Table {
  OptimTensor tensors[kTensorsPerLaunch];
  uint32_t first_chunk[kTensorsPerLaunch];
  int32_t count;
};
static_assert(sizeof(Table) + 32 <= 4096, "kernel parameters hold 4 KB");

template <class T>
inline constexpr int kChunk = kBlock * kVectorsPerThread * kPerVector<T>;

// What a rule keeps per element beside the parameter and its gradient.
template <class T>
struct State {
  T param, grad, first, second;
};

template <class T>
struct Sgd {
  struct Scalars {
    T lr, decay, momentum, fresh, direction;
    bool first_step;
  };
  bool nesterov;

  __device__ Scalars scalars(const double* hyper, bool maximize) const {
    Scalars s;
    s.lr = static_cast<T>(hyper[kLearningRate]);
    s.decay = static_cast<T>(hyper[kWeightDecay]);
    s.momentum = static_cast<T>(hyper[kMomentum]);
    s.fresh = static_cast<T>(1.0 - hyper[kDampening]);
    s.direction = maximize ? T(-1) : T(1);
    s.first_step = hyper[kStep] <= 1.0;
    return s;
  }

  __device__ __forceinline__ void update(const Scalars& s, bool has_momentum, State<T>& x) const {
    T g = s.direction * x.grad;
    if (s.decay != T(0)) g = g + s.decay * x.param;
    if (has_momentum) {
      x.first = s.first_step ? g : s.momentum * x.first + s.fresh * g;
      g = nesterov ? g + s.momentum * x.first : x.first;
    }
    x.param = x.param - s.lr * g;
  }
};

template <class T>
struct Adam {
  struct Scalars {
    T shrink, decay, fresh1, keep2, fresh2, root_bias2, eps, step_size, direction;
  };
  bool decoupled;

  __device__ Scalars scalars(const double* hyper, bool maximize) const {
    const double lr = hyper[kLearningRate], wd = hyper[kWeightDecay], t = hyper[kStep];
    const double beta1 = hyper[kMomentum], beta2 = hyper[kDampening];
    Scalars s;
    s.shrink = static_cast<T>(decoupled ? 1.0 - lr * wd : 1.0);
    s.decay = static_cast<T>(decoupled ? 0.0 : wd);
    s.fresh1 = static_cast<T>(1.0 - beta1);
    s.keep2 = static_cast<T>(beta2);
    s.fresh2 = static_cast<T>(1.0 - beta2);
    s.root_bias2 = static_cast<T>(m_sqrt(1.0 - m_pow(beta2, t)));
    s.eps = static_cast<T>(hyper[kEps]);
    s.step_size = static_cast<T>(lr / (1.0 - m_pow(beta1, t)));
    s.direction = maximize ? T(-1) : T(1);
    return s;
  }

  __device__ __forceinline__ void update(const Scalars& s, bool, State<T>& x) const {
    const T p = x.param * s.shrink;
    T g = s.direction * x.grad;
    if (s.decay != T(0)) g = g + s.decay * p;
    x.first = x.first + s.fresh1 * (g - x.first);
    x.second = s.keep2 * x.second + s.fresh2 * g * g;
    x.param = p - s.step_size * x.first / (m_sqrt(x.second) / s.root_bias2 + s.eps);
  }
};

// The tensor whose chunks include `chunk`.
__device__ __forceinline__ int tensor_of(const Table& table, uint32_t chunk) {
  int low = 0;
  for (int high = table.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    if (table.first_chunk[middle] <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

template <int V, class T, class Rule>
__device__ __forceinline__ void update_part(const Rule& rule, const typename Rule::Scalars& s,
                                            const OptimTensor& t, int64_t i) {
  T* const param = static_cast<T*>(t.param) + i;
  T* const first = t.first ? static_cast<T*>(t.first) + i : nullptr;
  T* const second = t.second ? static_cast<T*>(t.second) + i : nullptr;
  Vector<T, V> p = load_vector<V>(param), m{}, v{};
  const Vector<T, V> g = load_vector<V>(static_cast<const T*>(t.grad) + i);
  if (first) m = load_vector<V>(first);
  if (second) v = load_vector<V>(second);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    State<T> x{p[j], g[j], m[j], v[j]};
    rule.update(s, first != nullptr, x);
    p[j] = x.param;
    m[j] = x.first;
    v[j] = x.second;
  }
  store_global(param, p);
  if (first) store_global(first, m);
  if (second) store_global(second, v);
}

template <class T, class Rule>
__global__ void __launch_bounds__(kBlock)
    update_kernel(const __grid_constant__ Table table, const Rule rule, const double* hyper,
                  const bool maximize) {
  constexpr int V = kPerVector<T>;
  using Scalars = typename Rule::Scalars;
  Scalars& shared = shared_memory<Scalars>();
  if (threadIdx.x == 0) shared = rule.scalars(hyper, maximize);
  __syncthreads();
  const Scalars scalars = shared;

  const int which = tensor_of(table, blockIdx.x);
  const OptimTensor tensor = table.tensors[which];
  const int64_t base = static_cast<int64_t>(blockIdx.x - table.first_chunk[which]) * kChunk<T>;
  const uintptr_t addresses =
      reinterpret_cast<uintptr_t>(tensor.param) | reinterpret_cast<uintptr_t>(tensor.grad) |
      reinterpret_cast<uintptr_t>(tensor.first) | reinterpret_cast<uintptr_t>(tensor.second);
  const bool vector = addresses % 16 == 0;
#pragma unroll 2
  for (int u = 0; u < kVectorsPerThread; ++u) {
    const int64_t first = base + (u * kBlock + static_cast<int>(threadIdx.x)) * V;
    if (vector && first + V <= tensor.n) {
      update_part<V, T>(rule, scalars, tensor, first);
    } else {
      for (int j = 0; j < V; ++j) {
        if (first + j < tensor.n) update_part<1, T>(rule, scalars, tensor, first + j);
      }
    }
  }
}

__global__ void __launch_bounds__(1) advance_kernel(double* hyper) { hyper[kStep] += 1.0; }

template <class T, class Rule>
void update(Stream& stream, const char* name, const Rule& rule, const OptimTensor* tensors,
            int count, const View& hyper, bool maximize) {
  Table table{};
  int64_t chunks = 0;
  const auto flush = [&] {
    if (table.count == 0) return;
    launch(stream, name, update_kernel<T, Rule>, dim3(static_cast<unsigned>(chunks)), dim3(kBlock),
           sizeof(typename Rule::Scalars), table, rule, static_cast<const double*>(hyper.data),
           maximize);
    table.count = 0;
    chunks = 0;
  };
  for (int i = 0; i < count; ++i) {
    if (tensors[i].n == 0) continue;
    const int64_t more = (tensors[i].n + kChunk<T> - 1) / kChunk<T>;
    if (table.count == kTensorsPerLaunch || chunks + more > INT32_MAX) flush();
    table.tensors[table.count] = tensors[i];
    table.first_chunk[table.count] = static_cast<uint32_t>(chunks);
    ++table.count;
    chunks += more;
  }
  flush();
}

void check_dtype(const char* name, DType dtype) {
  if (dtype != DType::float32 && dtype != DType::float64) {
    fail("%s: parameters must be float32 or float64, got %s", name, dtype_name(dtype));
  }
}

void sgd(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& hyper,
         bool nesterov, bool maximize) {
  check_dtype("sgd", dtype);
  if (dtype == DType::float32) {
    update<float>(stream, "sgd", Sgd<float>{nesterov}, tensors, count, hyper, maximize);
  } else {
    update<double>(stream, "sgd", Sgd<double>{nesterov}, tensors, count, hyper, maximize);
  }
}

void adam(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& hyper,
          bool decoupled, bool maximize) {
  const char* const name = decoupled ? "adamw" : "adam";
  check_dtype(name, dtype);
  if (dtype == DType::float32) {
    update<float>(stream, name, Adam<float>{decoupled}, tensors, count, hyper, maximize);
  } else {
    update<double>(stream, name, Adam<double>{decoupled}, tensors, count, hyper, maximize);
  }
}

void advance(Stream& stream, const View& hyper) {
  launch(stream, "optim_advance", advance_kernel, dim3(1), dim3(1), 0,
         static_cast<double*>(hyper.data));
}

}  // namespace

const OptimFamily optim_family = {sgd, adam, advance};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
