// Losses of one element against its target and of chosen classes, and their derivatives:
// core/families/loss.h has the formulas, which are those of torch.nn.functional.
// Arithmetic in float32 or float64; sums over rows in double, chunk by chunk.
// Cost: two operands read and the loss written, backward three and one: bandwidth-bound, but for
// the logarithms and exponentials of bce. Of classes one element a row is read, and backward
// writes N·C zeros beside as many gradients.
#include "core/backend.h"
#include "cpu/iterate.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

template <class T>
inline __attribute__((always_inline)) T larger(T a, T b) {
  return a > b ? a : a != a ? a : b;
}

// Inline and without a second branch on the sign, either of which would leave loops scalar.
template <class T>
inline __attribute__((always_inline)) T softplus_of_negative(T x) {  // ln(1 + e⁻ˣ)
  const T size = static_cast<T>(__builtin_fabs(x));
  return m_log1p(m_exp(-size)) + (x < T(0) ? size : T(0));
}

// value(x, t, f, a) and its derivatives by x and t.
template <class T>
struct Mse {
  static T value(T x, T t, T, T) { return (x - t) * (x - t); }
  static T by_x(T x, T t, T, T) { return T(2) * (x - t); }
  static T by_t(T x, T t, T, T) { return T(2) * (t - x); }
};
template <class T>
struct L1 {
  static T value(T x, T t, T, T) { return x > t ? x - t : t - x; }
  static T by_x(T x, T t, T, T) { return x > t ? T(1) : x < t ? T(-1) : x - t; }
  static T by_t(T x, T t, T, T) { return x > t ? T(-1) : x < t ? T(1) : t - x; }
};
template <class T>
struct SmoothL1 {
  static T value(T x, T t, T, T a) {
    const T d = x > t ? x - t : t - x;
    const T inside = T(0.5) * d * d / a, outside = d - T(0.5) * a;
    return d < a ? inside : outside;
  }
  static T by_x(T x, T t, T, T a) {
    const T d = x - t, size = d < T(0) ? -d : d;
    const T inside = d / a, outside = d > T(0) ? T(1) : d < T(0) ? T(-1) : d;
    return size < a ? inside : outside;
  }
  static T by_t(T x, T t, T f, T a) { return -by_x(x, t, f, a); }
};
template <class T>
struct Huber {
  static T value(T x, T t, T, T a) {
    const T d = x > t ? x - t : t - x;
    const T inside = T(0.5) * d * d, outside = a * (d - T(0.5) * a);
    return d <= a ? inside : outside;
  }
  static T by_x(T x, T t, T, T a) {
    const T d = x - t;
    const T below = d > a ? a : d;
    return below < -a ? -a : below;
  }
  static T by_t(T x, T t, T f, T a) { return -by_x(x, t, f, a); }
};
template <class T>
struct Bce {
  static T log_of(T x) { return larger(m_log(x), T(-100)); }
  static T log_of_rest(T x) { return larger(m_log1p(-x), T(-100)); }
  static T value(T x, T t, T, T) { return (t - T(1)) * log_of_rest(x) - t * log_of(x); }
  static T by_x(T x, T t, T, T) { return (x - t) / larger((T(1) - x) * x, T(1e-12)); }
  static T by_t(T x, T, T, T) { return log_of_rest(x) - log_of(x); }
};
template <class T>
struct BceLogits {
  static T value(T x, T t, T f, T) {
    return (T(1) - t) * x + (T(1) + (f - T(1)) * t) * softplus_of_negative(x);
  }
  static T by_x(T x, T t, T f, T) {
    return (T(1) - t) - (T(1) + (f - T(1)) * t) / (T(1) + m_exp(x));
  }
  static T by_t(T x, T, T f, T) { return (f - T(1)) * softplus_of_negative(x) - x; }
};

// An operand in memory: `step` is 0 where one element serves all.
struct Operand {
  void* data;
  LoadRow load;
  StoreRow store;
  int64_t bytes, step;
};

Operand operand_of(const View& v) {
  return {v.data, row_loader(v.dtype), row_storer(v.dtype),
          static_cast<int64_t>(item_size(v.dtype)), v.rank == 0 ? 0 : 1};
}

struct LossArgs {
  Operand x, t, factor, dloss, out;
  double parameter;
  int64_t size;
};

template <class T>
const T* read(const Operand& o, int64_t at, int64_t n, T* buffer) {
  const void* from = advance_by(static_cast<const void*>(o.data), o.step * at * o.bytes);
  if (!o.store && o.step == 1) return static_cast<const T*>(from);
  o.load(from, o.step, buffer, n);
  return buffer;
}

enum class Result { value, by_x, by_t };

template <class T, class Loss, Result result>
void loss_kernel(const void* raw, int64_t chunk) {
  const LossArgs& args = *static_cast<const LossArgs*>(raw);
  alignas(64) T xs[kBlock], ts[kBlock], fs[kBlock], ds[kBlock], results[kBlock];
  const T a = static_cast<T>(args.parameter);
  if (!args.factor.data) {
    for (int64_t j = 0; j < kBlock; ++j) fs[j] = T(1);
  }
  const int64_t end = min_of(args.size, (chunk + 1) * kChunk);
  for (int64_t i = chunk * kChunk; i < end; i += kBlock) {
    const int64_t n = min_of(kBlock, end - i);
    const T* x = read(args.x, i, n, xs);
    const T* t = read(args.t, i, n, ts);
    const T* f = args.factor.data ? read(args.factor, i, n, fs) : fs;
    void* const place = advance_by(args.out.data, i * args.out.bytes);
    T* y = args.out.store ? results : static_cast<T*>(place);
    if (result == Result::value) {
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) y[j] = Loss::value(x[j], t[j], f[j], a);
    } else {
      const T* d = read(args.dloss, i, n, ds);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) {
        y[j] = d[j] * (result == Result::by_x ? Loss::by_x(x[j], t[j], f[j], a)
                                              : Loss::by_t(x[j], t[j], f[j], a));
      }
    }
    if (args.out.store) args.out.store(y, place, n);
  }
}

template <class T, template <class> class Loss>
Kernel kernel_for(Result result) {
  switch (result) {
    case Result::value:
      return loss_kernel<T, Loss<T>, Result::value>;
    case Result::by_x:
      return loss_kernel<T, Loss<T>, Result::by_x>;
    case Result::by_t:
      return loss_kernel<T, Loss<T>, Result::by_t>;
  }
  return nullptr;
}

template <class T>
Kernel kernel_of(LossKind kind, Result result) {
  switch (kind) {
    case LossKind::mse:
      return kernel_for<T, Mse>(result);
    case LossKind::l1:
      return kernel_for<T, L1>(result);
    case LossKind::smooth_l1:
      return kernel_for<T, SmoothL1>(result);
    case LossKind::huber:
      return kernel_for<T, Huber>(result);
    case LossKind::bce:
      return kernel_for<T, Bce>(result);
    case LossKind::bce_logits:
      return kernel_for<T, BceLogits>(result);
  }
  return nullptr;
}

void launch_loss(Stream& stream, LossKind kind, Result result, const View& x, const View& t,
                 const View& factor, double a, const View& dloss, const View& out) {
  LossArgs args;
  args.x = operand_of(x);
  args.t = operand_of(t);
  args.x.step = args.t.step = 1;
  args.factor = operand_of(factor);
  args.dloss = operand_of(dloss);
  args.out = operand_of(out);
  args.parameter = a;
  args.size = element_count(out);
  if (args.size == 0) return;
  launch(
      stream, result == Result::value ? "loss" : "loss_backward",
      x.dtype == DType::float64 ? kernel_of<double>(kind, result) : kernel_of<float>(kind, result),
      &args, sizeof args, chunk_count(args.size));
}

void forward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
             double a, const View& loss) {
  launch_loss(stream, kind, Result::value, x, t, factor, a, x, loss);
}

void backward(Stream& stream, LossKind kind, const View& x, const View& t, const View& factor,
              double a, const View& dloss, bool of_target, const View& d) {
  launch_loss(stream, kind, of_target ? Result::by_t : Result::by_x, x, t, factor, a, dloss, d);
}

constexpr int64_t kRowsPerChunk = 4096;
constexpr int64_t kColumns = 512;  // of an inner axis that a chunk of the gradient takes together

// Σ loss and Σ weight over rows.
struct LossSum {
  double loss, weight;
};

struct NllArgs {
  Operand x, weight, loss, dx;  // loss: backward dloss
  ClassTarget to;
  int64_t strides[3];  // of x
  int64_t rows, chunks;
  LossSum* sums;  // of the chunks
  void* total;    // of the type of arithmetic
  Reduction reduction;
  int64_t width, units, units_per_chunk;  // of the gradient: columns of a unit, and units
};

template <class T>
T element(const Operand& o, int64_t at) {
  if (!o.store) return static_cast<const T*>(o.data)[at];
  T value;
  o.load(advance_by(static_cast<const void*>(o.data), at * o.bytes), 1, &value, 1);
  return value;
}

template <class T>
void put(const Operand& o, int64_t at, T value) {
  if (o.store) {
    o.store(&value, advance_by(o.data, at * o.bytes), 1);
  } else {
    static_cast<T*>(o.data)[at] = value;
  }
}

bool is_class(const ClassTarget& to, int64_t t) { return t >= 0 && t < to.classes; }

// NaN where there is no such class.
template <class T>
T weight_of(const NllArgs& a, int64_t t) {
  if (!a.to.weight.data) return T(1);
  return is_class(a.to, t) ? element<T>(a.weight, t) : T(kNaN);
}

template <class T>
void store_result(const NllArgs& a, LossSum sum) {
  const bool mean = a.reduction == Reduction::mean;
  put(a.loss, 0, static_cast<T>(mean ? sum.loss / sum.weight : sum.loss));
  if (mean) *static_cast<T*>(a.total) = static_cast<T>(sum.weight);
}

template <class T>
void nll_kernel(const void* raw, int64_t chunk) {
  const NllArgs& a = *static_cast<const NllArgs*>(raw);
  LossSum sum{0.0, 0.0};
  const int64_t first = chunk * kRowsPerChunk, last = min_of(a.rows, first + kRowsPerChunk);
  int64_t d = first % max_of(1, a.to.inner), begin = first / max_of(1, a.to.inner) * a.strides[0];
  for (int64_t r = first; r < last; ++r) {
    const int64_t t = a.to.target[r];
    T loss = T(0), weight = T(0);
    if (t != a.to.ignore_index) {
      weight = weight_of<T>(a, t);
      loss = is_class(a.to, t)
                 ? -weight * element<T>(a.x, begin + t * a.strides[1] + d * a.strides[2])
                 : T(kNaN);
    }
    if (++d == a.to.inner) {
      d = 0;
      begin += a.strides[0];
    }
    if (a.reduction == Reduction::none) put(a.loss, r, loss);
    sum.loss += static_cast<double>(loss);
    sum.weight += static_cast<double>(weight);
  }
  if (a.reduction == Reduction::none) return;
  if (a.chunks == 1) {
    store_result<T>(a, sum);
  } else {
    a.sums[chunk] = sum;
  }
}

template <class T>
void nll_join_kernel(const void* raw, int64_t) {
  const NllArgs& a = *static_cast<const NllArgs*>(raw);
  LossSum sum{0.0, 0.0};
  for (int64_t i = 0; i < a.chunks; ++i) {
    sum.loss += a.sums[i].loss;
    sum.weight += a.sums[i].weight;
  }
  store_result<T>(a, sum);
}

// A unit is `width` neighbours of the inner axis, of all classes.
template <class T>
void nll_backward_kernel(const void* raw, int64_t chunk) {
  const NllArgs& a = *static_cast<const NllArgs*>(raw);
  const ClassTarget& to = a.to;
  const T scale = a.reduction == Reduction::mean ? T(1) / *static_cast<const T*>(a.total) : T(1);
  const int64_t blocks = chunk_count(to.inner, a.width);
  const int64_t last = min_of(a.units, (chunk + 1) * a.units_per_chunk);
  for (int64_t unit = chunk * a.units_per_chunk; unit < last; ++unit) {
    const int64_t n = unit / blocks, first = unit % blocks * a.width;
    const int64_t count = min_of(a.width, to.inner - first);
    const int64_t begin = n * to.classes * to.inner + first;
    const bool whole = count == to.inner;
    for (int64_t c = 0; c < (whole ? 1 : to.classes); ++c) {
      __builtin_memset(advance_by(a.dx.data, (begin + c * to.inner) * a.dx.bytes), 0,
                       static_cast<size_t>((whole ? count * to.classes : count) * a.dx.bytes));
    }
    for (int64_t d = 0; d < count; ++d) {
      const int64_t row = n * to.inner + first + d, t = to.target[row];
      if (t == to.ignore_index) continue;
      if (is_class(to, t)) {
        const T dloss = element<T>(a.loss, a.loss.step * row);
        put(a.dx, begin + t * to.inner + d, -weight_of<T>(a, t) * dloss * scale);
        continue;
      }
      for (int64_t c = 0; c < to.classes; ++c) put(a.dx, begin + c * to.inner + d, T(kNaN));
    }
  }
}

NllArgs nll_args(const ClassTarget& to, Reduction reduction, const View& loss, const View& total) {
  NllArgs a;
  a.loss = operand_of(loss);
  a.weight = operand_of(to.weight);
  a.to = to;
  a.rows = to.batch * to.inner;
  a.total = total.data;
  a.reduction = reduction;
  return a;
}

void nll(Stream& stream, const View& x, const ClassTarget& to, Reduction reduction,
         const View& loss, const View& total) {
  NllArgs a = nll_args(to, reduction, loss, total);
  a.x = operand_of(x);
  for (int i = 0; i < 3; ++i) a.strides[i] = x.strides[i];
  // Even no rows have a sum.
  a.chunks = reduction == Reduction::none ? chunk_count(a.rows, kRowsPerChunk)
                                          : max_of(1, chunk_count(a.rows, kRowsPerChunk));
  if (a.chunks == 0) return;
  const bool wide = x.dtype == DType::float64, joins = reduction != Reduction::none && a.chunks > 1;
  const Scratch sums(stream, joins ? static_cast<size_t>(a.chunks) * sizeof(LossSum) : 0);
  a.sums = static_cast<LossSum*>(sums.data());
  launch(stream, "nll_loss", wide ? nll_kernel<double> : nll_kernel<float>, &a, sizeof a, a.chunks);
  if (!joins) return;
  launch(stream, "nll_loss", wide ? nll_join_kernel<double> : nll_join_kernel<float>, &a, sizeof a,
         1);
}

void nll_backward(Stream& stream, const ClassTarget& to, Reduction reduction, const View& total,
                  const View& dloss, const View& dx) {
  if (element_count(dx) == 0) return;
  NllArgs a = nll_args(to, reduction, dloss, total);
  a.dx = operand_of(dx);
  a.width = min_of(kColumns, to.inner);
  a.units = to.batch * chunk_count(to.inner, a.width);
  a.units_per_chunk = max_of(1, kChunk / (a.width * to.classes));
  launch(stream, "nll_loss_backward",
         dx.dtype == DType::float64 ? nll_backward_kernel<double> : nll_backward_kernel<float>, &a,
         sizeof a, chunk_count(a.units, a.units_per_chunk));
}

}  // namespace

extern const LossFamily loss_family;
const LossFamily loss_family = {forward, backward, nll, nll_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
