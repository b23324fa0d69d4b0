// Softmax, log-softmax and cross-entropy over the rows of [N,C], and their gradients.
//
//   y = exp(x - max) / Σ exp(x - max)            dx = y·(dy - Σ dy·y)
//   y = x - max - log Σ exp(x - max)             dx = dy - exp(y)·Σ dy
//   loss = lse - x[target], lse = max + log Σ    dx = (exp(x - lse) - [c = target])·dloss
//   soft: loss = Σ q·(lse - x)                   dx = (exp(x - lse)·Σ q - q)·dloss
// Backward keeps y, or lse (one number a row); a target outside [0,C) gives a row of NaN.
// Arithmetic in float32 or float64; sums over blocks of 512 join in double.
// Cost: x read twice and y written and read once from the cache; bound by exp for rows that fit.
// Measured, one Xeon core with AVX-512: softmax of [4096,256] 1.05 ms, of [100,10] about 5 µs.
#include "core/backend.h"
#include "cpu/accumulate.h"
#include "cpu/iterate.h"
#include "cpu/math.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kElementsPerChunk = 16384;
constexpr int64_t kShortRow = 128;  // rows up to this length are summarized several at once

// A matrix whose rows are read block by block, and one that is written so.
struct Matrix {
  void* data;
  LoadRow load;
  StoreRow store;  // null where elements are stored as they compute
  int64_t bytes;
};

Matrix matrix_of(const View& v) {
  return {v.data, row_loader(v.dtype), row_storer(v.dtype),
          static_cast<int64_t>(item_size(v.dtype))};
}

template <class T>
const T* read(const Matrix& m, int64_t at, int64_t n, T* buffer) {
  const void* from = advance_by(static_cast<const void*>(m.data), at * m.bytes);
  if (!m.store) return static_cast<const T*>(from);
  m.load(from, 1, buffer, n);
  return buffer;
}

// Where n elements from `at` may be computed; `write` then puts them in their place.
template <class T>
T* target_of(const Matrix& m, int64_t at, T* buffer) {
  return m.store ? buffer : static_cast<T*>(m.data) + at;
}

template <class T>
void write(const Matrix& m, int64_t at, int64_t n, const T* values) {
  if (m.store) m.store(values, advance_by(m.data, at * m.bytes), n);
}

template <class T>
T sum(const T* x, int64_t n) {
  return Accumulate<SumOf<T>, T>::reduce(x, n);
}

template <class T>
void exp_of_difference(const T* x, T shift, T scale, T* y, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = m_exp(x[i] - shift) * scale;
}

template <class T>
struct RowSummary {
  T max;
  double sum;  // of exp(x - max)
};

// One row of any length. Leaves exp(x - max) in y where y is given and stored as it computes.
template <class T>
RowSummary<T> summarize_row(const Matrix& x, const Matrix* y, int64_t begin, int64_t c) {
  alignas(64) T values[kBlock], exps[kBlock];
  RowSummary<T> row = {Extremes<T>::lowest, 0.0};
  for (int64_t i = 0; i < c; i += kBlock) {
    const int64_t n = min_of(kBlock, c - i);
    const T block_max = Accumulate<MaximumOf<T>, T>::reduce(read(x, begin + i, n, values), n);
    row.max = MaximumOf<T>::join(row.max, block_max);
  }
  for (int64_t i = 0; i < c; i += kBlock) {
    const int64_t n = min_of(kBlock, c - i);
    T* e = y ? target_of(*y, begin + i, exps) : exps;
    exp_of_difference(read(x, begin + i, n, values), row.max, T(1), e, n);
    row.sum += static_cast<double>(sum(e, n));
  }
  return row;
}

// Rows that share a block: exp runs over all of them at once.
template <class T>
void summarize_short_rows(const Matrix& x, const Matrix* y, int64_t begin, int64_t c, int64_t rows,
                          RowSummary<T>* summaries) {
  alignas(64) T values[kBlock], exps[kBlock];
  const T* in = read(x, begin, rows * c, values);
  T* e = y ? target_of(*y, begin, exps) : exps;
  for (int64_t r = 0; r < rows; ++r) {
    const T max = Accumulate<MaximumOf<T>, T>::reduce(in + r * c, c);
#pragma GCC ivdep
    for (int64_t j = r * c; j < (r + 1) * c; ++j) e[j] = in[j] - max;
    summaries[r].max = max;
  }
  for (int64_t j = 0; j < rows * c; ++j) e[j] = m_exp(e[j]);
  for (int64_t r = 0; r < rows; ++r) summaries[r].sum = static_cast<double>(sum(e + r * c, c));
}

// How many rows of c elements are summarized together.
int64_t batch_of(int64_t c) { return c <= kShortRow ? kBlock / max_of(1, c) : 1; }

template <class T>
void summarize(const Matrix& x, const Matrix* y, int64_t begin, int64_t c, int64_t rows,
               RowSummary<T>* summaries) {
  if (c <= kShortRow) {
    summarize_short_rows(x, y, begin, c, rows, summaries);
  } else {
    *summaries = summarize_row<T>(x, y, begin, c);
  }
}

struct SoftmaxArgs {
  Matrix x, dy, y;  // backward: x is the forward output, y is dx
  int64_t rows, columns, rows_per_chunk;
};

template <class T, bool logarithm>
void softmax_kernel(const void* raw, int64_t chunk) {
  const SoftmaxArgs& a = *static_cast<const SoftmaxArgs*>(raw);
  alignas(64) T values[kBlock], results[kBlock];
  RowSummary<T> summaries[kBlock];
  const int64_t batch = batch_of(a.columns);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  int64_t batch_begin = chunk * a.rows_per_chunk, batch_end = batch_begin;
  for (int64_t r = batch_begin; r < last; ++r) {
    if (r == batch_end) {
      batch_begin = r;
      batch_end = min_of(last, r + batch);
      summarize(a.x, logarithm ? nullptr : &a.y, r * a.columns, a.columns, batch_end - r,
                summaries);
    }
    const int64_t begin = r * a.columns;
    const RowSummary<T> row = summaries[r - batch_begin];
    const T scale = logarithm ? T(1) : static_cast<T>(1.0 / row.sum);
    const T log_sum = logarithm ? static_cast<T>(__builtin_log(row.sum)) : T(0);
    for (int64_t i = 0; i < a.columns; i += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - i);
      T* y = target_of(a.y, begin + i, results);
      if (logarithm) {
        const T* x = read(a.x, begin + i, n, values);
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - row.max) - log_sum;
      } else if (a.y.store) {
        exp_of_difference(read(a.x, begin + i, n, values), row.max, scale, y, n);
      } else {
        for (int64_t j = 0; j < n; ++j) y[j] *= scale;
      }
      write(a.y, begin + i, n, y);
    }
  }
}

template <class T, bool logarithm>
void softmax_backward_kernel(const void* raw, int64_t chunk) {
  const SoftmaxArgs& a = *static_cast<const SoftmaxArgs*>(raw);
  alignas(64) T values[kBlock], upstream[kBlock], results[kBlock];
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t r = chunk * a.rows_per_chunk; r < last; ++r) {
    const int64_t begin = r * a.columns;
    double total = 0.0;
    for (int64_t i = 0; i < a.columns; i += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - i);
      const T* dy = read(a.dy, begin + i, n, upstream);
      if (!logarithm) {
        const T* y = read(a.x, begin + i, n, values);
        for (int64_t j = 0; j < n; ++j) results[j] = dy[j] * y[j];
        dy = results;
      }
      total += static_cast<double>(sum(dy, n));
    }
    const T s = static_cast<T>(total);
    for (int64_t i = 0; i < a.columns; i += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - i);
      const T* y = read(a.x, begin + i, n, values);
      const T* dy = read(a.dy, begin + i, n, upstream);
      T* dx = target_of(a.y, begin + i, results);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) {
        dx[j] = logarithm ? dy[j] - m_exp(y[j]) * s : y[j] * (dy[j] - s);
      }
      write(a.y, begin + i, n, dx);
    }
  }
}

void launch_rows(Stream& stream, const char* name, Kernel float_kernel, Kernel double_kernel,
                 const View& x, const View* dy, const View& y) {
  SoftmaxArgs a;
  a.x = matrix_of(x);
  a.dy = matrix_of(dy ? *dy : x);
  a.y = matrix_of(y);
  a.rows = x.shape[0];
  a.columns = x.shape[1];
  if (a.rows == 0 || a.columns == 0) return;
  a.rows_per_chunk = max_of(1, kElementsPerChunk / a.columns);
  launch(stream, name, x.dtype == DType::float64 ? double_kernel : float_kernel, &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

void softmax(Stream& stream, const View& x, const View& y, bool logarithm) {
  if (logarithm) {
    launch_rows(stream, "log_softmax", softmax_kernel<float, true>, softmax_kernel<double, true>, x,
                nullptr, y);
  } else {
    launch_rows(stream, "softmax", softmax_kernel<float, false>, softmax_kernel<double, false>, x,
                nullptr, y);
  }
}

void softmax_backward(Stream& stream, const View& y, const View& dy, const View& dx,
                      bool logarithm) {
  if (logarithm) {
    launch_rows(stream, "log_softmax_backward", softmax_backward_kernel<float, true>,
                softmax_backward_kernel<double, true>, y, &dy, dx);
  } else {
    launch_rows(stream, "softmax_backward", softmax_backward_kernel<float, false>,
                softmax_backward_kernel<double, false>, y, &dy, dx);
  }
}

struct CrossEntropyArgs {
  Matrix x, loss, dx;  // loss: [N]; backward: dloss, with any stride
  const int64_t* target;
  void* lse;  // [N], of the type of arithmetic
  int64_t rows, columns, rows_per_chunk;
  int64_t ignore_index, target_stride, loss_stride, lse_stride;
};

template <class T>
void cross_entropy_kernel(const void* raw, int64_t chunk) {
  const CrossEntropyArgs& a = *static_cast<const CrossEntropyArgs*>(raw);
  RowSummary<T> summaries[kBlock];
  const int64_t batch = batch_of(a.columns);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  int64_t batch_begin = chunk * a.rows_per_chunk, batch_end = batch_begin;
  for (int64_t r = batch_begin; r < last; ++r) {
    const int64_t begin = r * a.columns, target = a.target[r * a.target_stride];
    if (r == batch_end) {
      batch_begin = r;
      batch_end = min_of(last, r + batch);
      summarize<T>(a.x, nullptr, begin, a.columns, batch_end - r, summaries);
    }
    const RowSummary<T> row = summaries[r - batch_begin];
    const double lse = static_cast<double>(row.max) + __builtin_log(row.sum);
    T loss = T(kNaN);
    if (target == a.ignore_index) {
      loss = T(0);
    } else if (target >= 0 && target < a.columns) {
      T value;
      loss = static_cast<T>(lse - static_cast<double>(*read(a.x, begin + target, 1, &value)));
    }
    static_cast<T*>(a.lse)[r * a.lse_stride] = static_cast<T>(lse);
    *target_of(a.loss, r * a.loss_stride, &loss) = loss;
    write(a.loss, r * a.loss_stride, 1, &loss);
  }
}

// `rows` rows of n columns from row r and column c on; several rows only if they are whole.
template <class T>
void cross_entropy_gradient(const CrossEntropyArgs& a, int64_t r, int64_t rows, int64_t c,
                            int64_t n) {
  alignas(64) T values[kBlock], results[kBlock];
  const int64_t begin = r * a.columns + c;
  const T* x = read(a.x, begin, rows * n, values);
  T* dx = target_of(a.dx, begin, results);
  for (int64_t k = 0; k < rows; ++k) {
    const T lse = static_cast<const T*>(a.lse)[(r + k) * a.lse_stride];
#pragma GCC ivdep
    for (int64_t j = k * n; j < (k + 1) * n; ++j) dx[j] = x[j] - lse;
  }
  for (int64_t j = 0; j < rows * n; ++j) dx[j] = m_exp(dx[j]);
  for (int64_t k = 0; k < rows; ++k) {
    T* row = dx + k * n;
    const int64_t target = a.target[(r + k) * a.target_stride];
    if (target >= 0 && target < a.columns && target != a.ignore_index) {
      T value;
      const T dloss = *read(a.loss, (r + k) * a.loss_stride, 1, &value);
      if (target >= c && target < c + n) row[target - c] -= T(1);
      for (int64_t j = 0; j < n; ++j) row[j] *= dloss;
    } else {
      const T all = target == a.ignore_index ? T(0) : T(kNaN);
      for (int64_t j = 0; j < n; ++j) row[j] = all;
    }
  }
  write(a.dx, begin, rows * n, dx);
}

template <class T>
void cross_entropy_backward_kernel(const void* raw, int64_t chunk) {
  const CrossEntropyArgs& a = *static_cast<const CrossEntropyArgs*>(raw);
  const int64_t batch = batch_of(a.columns);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t r = chunk * a.rows_per_chunk; r < last; r += batch) {
    for (int64_t c = 0; c < a.columns; c += kBlock) {
      cross_entropy_gradient<T>(a, r, min_of(batch, last - r), c, min_of(kBlock, a.columns - c));
    }
  }
}

void launch_cross_entropy(Stream& stream, const char* name, Kernel float_kernel,
                          Kernel double_kernel, const View& x, const View& target,
                          int64_t ignore_index, const View& loss, const View& lse, const View& dx) {
  CrossEntropyArgs a;
  a.x = matrix_of(x);
  a.loss = matrix_of(loss);
  a.dx = matrix_of(dx);
  a.target = static_cast<const int64_t*>(target.data);
  a.lse = lse.data;
  a.rows = x.shape[0];
  a.columns = x.shape[1];
  if (a.rows == 0) return;
  a.rows_per_chunk = max_of(1, kElementsPerChunk / max_of(1, a.columns));
  a.ignore_index = ignore_index;
  a.target_stride = target.strides[0];
  a.loss_stride = loss.strides[0];
  a.lse_stride = lse.strides[0];
  launch(stream, name, x.dtype == DType::float64 ? double_kernel : float_kernel, &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

void cross_entropy(Stream& stream, const View& x, const View& target, int64_t ignore_index,
                   const View& loss, const View& lse) {
  launch_cross_entropy(stream, "cross_entropy", cross_entropy_kernel<float>,
                       cross_entropy_kernel<double>, x, target, ignore_index, loss, lse, x);
}

void cross_entropy_backward(Stream& stream, const View& x, const View& target, int64_t ignore_index,
                            const View& lse, const View& dloss, const View& dx) {
  launch_cross_entropy(stream, "cross_entropy_backward", cross_entropy_backward_kernel<float>,
                       cross_entropy_backward_kernel<double>, x, target, ignore_index, dloss, lse,
                       dx);
}

struct SoftArgs {
  Matrix x, target, weight, loss, dx, dt;  // backward: loss is dloss
  const int64_t* classes;                  // null where the target is probabilities
  void* lse;                               // [N], of the type of arithmetic, as is mass
  void* mass;
  int64_t rows, columns, rows_per_chunk, ignore_index, loss_stride;
  double smoothing;
};

// Columns c to c+n of q in row r.
template <class T>
void load_soft_target(const SoftArgs& a, int64_t r, int64_t c, int64_t n, T* q) {
  alignas(64) T buffer[kBlock];
  const T keep = static_cast<T>(1.0 - a.smoothing);
  const T spread = static_cast<T>(a.smoothing / static_cast<double>(a.columns));
  if (a.classes) {
    const int64_t target = a.classes[r];
    const bool ignored = target == a.ignore_index;
    const bool inside = target >= 0 && target < a.columns;
    const T base = ignored ? T(0) : inside ? spread : T(kNaN);
    for (int64_t j = 0; j < n; ++j) q[j] = base;
    if (!ignored && target >= c && target < c + n) q[target - c] += keep;
  } else {
    const T* t = read(a.target, r * a.columns + c, n, buffer);
    for (int64_t j = 0; j < n; ++j) q[j] = keep * t[j] + spread;
  }
  if (a.weight.data) {
    const T* w = read(a.weight, c, n, buffer);
    for (int64_t j = 0; j < n; ++j) q[j] *= w[j];
  }
}

template <class T>
void soft_cross_entropy_kernel(const void* raw, int64_t chunk) {
  const SoftArgs& a = *static_cast<const SoftArgs*>(raw);
  alignas(64) T values[kBlock], q[kBlock], terms[kBlock];
  RowSummary<T> summaries[kBlock];
  const int64_t batch = batch_of(a.columns);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  int64_t batch_begin = chunk * a.rows_per_chunk, batch_end = batch_begin;
  for (int64_t r = batch_begin; r < last; ++r) {
    const int64_t begin = r * a.columns;
    if (r == batch_end) {
      batch_begin = r;
      batch_end = min_of(last, r + batch);
      summarize<T>(a.x, nullptr, begin, a.columns, batch_end - r, summaries);
    }
    const RowSummary<T> row = summaries[r - batch_begin];
    const T lse = static_cast<T>(static_cast<double>(row.max) + __builtin_log(row.sum));
    double loss = 0.0, mass = 0.0;
    for (int64_t c = 0; c < a.columns; c += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - c);
      load_soft_target(a, r, c, n, q);
      const T* x = read(a.x, begin + c, n, values);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) {
        const T term = q[j] * (lse - x[j]);
        terms[j] = q[j] == T(0) ? T(0) : term;
      }
      loss += static_cast<double>(sum(terms, n));
      mass += static_cast<double>(sum(q, n));
    }
    static_cast<T*>(a.lse)[r] = lse;
    static_cast<T*>(a.mass)[r] = static_cast<T>(mass);
    T value = static_cast<T>(loss);
    *target_of(a.loss, r, &value) = value;
    write(a.loss, r, 1, &value);
  }
}

template <class T>
void soft_cross_entropy_backward_kernel(const void* raw, int64_t chunk) {
  const SoftArgs& a = *static_cast<const SoftArgs*>(raw);
  alignas(64) T values[kBlock], q[kBlock], results[kBlock];
  const T keep = static_cast<T>(1.0 - a.smoothing);
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  for (int64_t r = chunk * a.rows_per_chunk; r < last; ++r) {
    const T lse = static_cast<const T*>(a.lse)[r], mass = static_cast<const T*>(a.mass)[r];
    T buffer;
    const T dloss = *read(a.loss, r * a.loss_stride, 1, &buffer);
    for (int64_t c = 0; c < a.columns; c += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - c), begin = r * a.columns + c;
      const T* x = read(a.x, begin, n, values);
      load_soft_target(a, r, c, n, q);
      T* dx = target_of(a.dx, begin, results);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) dx[j] = (m_exp(x[j] - lse) * mass - q[j]) * dloss;
      write(a.dx, begin, n, dx);
      if (!a.dt.data) continue;
      T* dt = target_of(a.dt, begin, results);
      const T* w = a.weight.data ? read(a.weight, c, n, q) : nullptr;
      for (int64_t j = 0; j < n; ++j) dt[j] = keep * (w ? w[j] : T(1)) * (lse - x[j]) * dloss;
      write(a.dt, begin, n, dt);
    }
  }
}

void launch_soft(Stream& stream, const char* name, Kernel float_kernel, Kernel double_kernel,
                 const View& x, const SoftTarget& soft, const View& loss, const View& lse,
                 const View& mass, const View& dx, const View* dt) {
  SoftArgs a;
  const bool classes = soft.target.dtype == DType::int64;
  a.x = matrix_of(x);
  a.target = matrix_of(classes ? x : soft.target);
  a.weight = matrix_of(soft.weight.data ? soft.weight : x);
  if (!soft.weight.data) a.weight.data = nullptr;
  a.loss = matrix_of(loss);
  a.dx = matrix_of(dx);
  a.dt = matrix_of(dt && dt->data ? *dt : x);
  if (!dt || !dt->data) a.dt.data = nullptr;
  a.classes = classes ? static_cast<const int64_t*>(soft.target.data) : nullptr;
  a.lse = lse.data;
  a.mass = mass.data;
  a.rows = x.shape[0];
  a.columns = x.shape[1];
  if (a.rows == 0) return;
  a.rows_per_chunk = max_of(1, kElementsPerChunk / max_of(1, a.columns));
  a.ignore_index = soft.ignore_index;
  a.loss_stride = loss.strides[0];
  a.smoothing = soft.smoothing;
  launch(stream, name, x.dtype == DType::float64 ? double_kernel : float_kernel, &a, sizeof a,
         chunk_count(a.rows, a.rows_per_chunk));
}

void soft_cross_entropy(Stream& stream, const View& x, const SoftTarget& soft, const View& loss,
                        const View& lse, const View& mass) {
  launch_soft(stream, "soft_cross_entropy", soft_cross_entropy_kernel<float>,
              soft_cross_entropy_kernel<double>, x, soft, loss, lse, mass, x, nullptr);
}

void soft_cross_entropy_backward(Stream& stream, const View& x, const SoftTarget& soft,
                                 const View& lse, const View& mass, const View& dloss,
                                 const View& dx, const View& dt) {
  launch_soft(stream, "soft_cross_entropy_backward", soft_cross_entropy_backward_kernel<float>,
              soft_cross_entropy_backward_kernel<double>, x, soft, dloss, lse, mass, dx, &dt);
}

}  // namespace

extern const SoftmaxFamily softmax_family;
const SoftmaxFamily softmax_family = {softmax,
                                      softmax_backward,
                                      cross_entropy,
                                      cross_entropy_backward,
                                      soft_cross_entropy,
                                      soft_cross_entropy_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
