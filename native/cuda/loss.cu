// Losses of one element against its target, and their derivatives: core/families/loss.h has the
// formulas, which are those of torch.nn.functional. float32 inside, double for float64.
// A thread takes vectors of 16 bytes of what it computes in, neighbours over the warp; operands of
// one element are read once a vector.
// Cost: two operands read and the loss written, backward three and one: bandwidth-bound.
#include "core/error.h"
#include "device_math.h"
#include "families.h"
#include "launch.h"
#include "numbers.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

constexpr int kBlock = 256;

template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a > b ? a : a != a ? a : b;
}

template <class T>
__device__ __forceinline__ T softplus_of_negative(T x) {  // ln(1 + e⁻ˣ)
  const T size = x < T(0) ? -x : x;
  return m_log1p(m_exp(-size)) + (x < T(0) ? -x : T(0));
}

template <class T>
__device__ __forceinline__ T loss_value(LossKind kind, T x, T t, T f, T a) {
  const T d = x > t ? x - t : t - x;
  switch (kind) {
    case LossKind::mse:
      return d * d;
    case LossKind::l1:
      return d;
    case LossKind::smooth_l1:
      return d < a ? T(0.5) * d * d / a : d - T(0.5) * a;
    case LossKind::huber:
      return d <= a ? T(0.5) * d * d : a * (d - T(0.5) * a);
    case LossKind::bce:
      return (t - T(1)) * larger(m_log1p(-x), T(-100)) - t * larger(m_log(x), T(-100));
    case LossKind::bce_logits:
      return (T(1) - t) * x + (T(1) + (f - T(1)) * t) * softplus_of_negative(x);
  }
  return d;
}

template <class T>
__device__ __forceinline__ T loss_slope(LossKind kind, bool of_target, T x, T t, T f, T a) {
  const T d = x - t;
  const T size = d < T(0) ? -d : d;
  const T sign = d > T(0) ? T(1) : d < T(0) ? T(-1) : d;
  T slope = d;
  switch (kind) {
    case LossKind::mse:
      slope = T(2) * d;
      break;
    case LossKind::l1:
      slope = sign;
      break;
    case LossKind::smooth_l1:
      slope = size < a ? d / a : sign;
      break;
    case LossKind::huber:
      slope = d > a ? a : d < -a ? -a : d;
      break;
    case LossKind::bce:
      if (of_target) return larger(m_log1p(-x), T(-100)) - larger(m_log(x), T(-100));
      return d / larger((T(1) - x) * x, T(1e-12));
    case LossKind::bce_logits:
      if (of_target) return (f - T(1)) * softplus_of_negative(x) - x;
      return (T(1) - t) - (T(1) + (f - T(1)) * t) / (T(1) + m_exp(x));
  }
  return of_target ? -slope : slope;
}

template <class S>
struct Operands {
  const S* x;
  const S* t;
  const S* factor;  // null: 1
  const S* dloss;   // null: the loss itself
  bool one_factor, one_dloss;
  bool of_target, vector;
  LossKind kind;
  double parameter;
};

template <int V, class S>
__device__ __forceinline__ Vector<S, V> load_operand(const S* p, int64_t i, bool one) {
  if (!one) return load_vector<V>(p + i);
  Vector<S, V> all;
#pragma unroll
  for (int j = 0; j < V; ++j) all[j] = *p;
  return all;
}

template <int V, class S>
__device__ __forceinline__ void loss_part(const Operands<S>& o, S* out, int64_t i) {
  using A = Arith<S>;
  const A a = static_cast<A>(o.parameter);
  const Vector<S, V> x = load_vector<V>(o.x + i), t = load_vector<V>(o.t + i);
  Vector<S, V> f{}, d{}, y;
  if (o.factor) f = load_operand<V>(o.factor, i, o.one_factor);
  if (o.dloss) d = load_operand<V>(o.dloss, i, o.one_dloss);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const A xj = to_arith(x[j]), tj = to_arith(t[j]);
    const A fj = o.factor ? to_arith(f[j]) : A(1);
    y[j] =
        from_arith<S>(o.dloss ? to_arith(d[j]) * loss_slope<A>(o.kind, o.of_target, xj, tj, fj, a)
                              : loss_value<A>(o.kind, xj, tj, fj, a));
  }
  store_global(out + i, y);
}

template <class S>
__global__ void __launch_bounds__(kBlock)
    loss_kernel(const Operands<S> operands, S* out, int64_t n) {
  constexpr int V = kPerVector<Arith<S>>;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * V;
  if (operands.vector && first + V <= n) {
    loss_part<V>(operands, out, first);
    return;
  }
#pragma unroll 1
  for (int j = 0; j < V; ++j) {
    if (first + j < n) loss_part<1>(operands, out, first + j);
  }
}

void launch_loss(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
                 double a, const View* dloss, bool of_target, const View& out) {
  const int64_t n = element_count(out);
  if (n == 0) return;
  const bool served = with_float_type(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    Operands<S> o;
    o.x = static_cast<const S*>(x.data);
    o.t = static_cast<const S*>(t.data);
    o.factor = static_cast<const S*>(factor.data);
    o.dloss = dloss ? static_cast<const S*>(dloss->data) : nullptr;
    o.one_factor = factor.rank == 0;
    o.one_dloss = dloss && dloss->rank == 0;
    o.of_target = of_target;
    o.kind = kind;
    o.parameter = a;
    o.vector = is_aligned(o.x, 16) && is_aligned(o.t, 16) && is_aligned(out.data, 16) &&
               (o.one_factor || is_aligned(o.factor, 16)) &&
               (!o.dloss || o.one_dloss || is_aligned(o.dloss, 16));
    constexpr int64_t kPerBlock = kBlock * kPerVector<Arith<S>>;
    launch(stream, dloss ? "lossBackward" : "loss", loss_kernel<S>,
           dim3(static_cast<unsigned>((n + kPerBlock - 1) / kPerBlock)), dim3(kBlock), 0, o,
           static_cast<S*>(out.data), n);
  });
  if (!served) fail("loss: takes floating dtypes, got %s", dtype_name(x.dtype));
}

void forward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
             double a, const View& loss) {
  launch_loss(stream, kind, x, t, factor, a, nullptr, false, loss);
}

void backward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
              double a, const View& dloss, bool of_target, const View& d) {
  launch_loss(stream, kind, x, t, factor, a, &dloss, of_target, d);
}

}  // namespace

const LossFamily loss_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
