// Layer, RMS and group norm and their gradients; formulas and shapes in core/families/norm.h.
// Batch norm is in norm_batch.h.
//
// Mean, variance about it and result in three walks over a row, of which only the first comes from
// memory while a row fits in the cache; backward two walks over x and dy. Gradients of weight and
// bias gather per chunk in the type of arithmetic, every 64 rows in double, and a second launch
// joins the chunks in order.
// Cost: reads x and writes y; backward reads x and dy and writes dx. Bound by bandwidth.
#include "core/backend.h"
#include "cpu/norm_batch.h"
#include "cpu/norm_blocks.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kLeastRows = 16;  // rows a partial sum is worth

struct RowArgs {
  Elements x, dy, out;  // out: y, or dx
  const void* weight;
  const void* bias;
  void* mean;
  void* rstd;
  void* partials;  // per chunk: double [2, channels], then T [2, channels]: dweight and dbias
  void* dweight;
  void* dbias;
  double eps;
  int64_t rows, columns, groups, inner, channels;
  int64_t rows_per_chunk, chunks;
};

template <class T>
void rows_kernel(const void* raw, int64_t chunk) {
  const RowArgs& a = *static_cast<const RowArgs*>(raw);
  alignas(64) T values[kBlock], results[kBlock];
  const int64_t last = min_of(a.rows, (chunk + 1) * a.rows_per_chunk);
  const int64_t group_channels = a.channels / a.groups;
  for (int64_t r = chunk * a.rows_per_chunk; r < last; ++r) {
    const int64_t begin = r * a.columns;
    T mean = T(0);
    if (a.mean) {
      double total = 0;
      for (int64_t i = 0; i < a.columns; i += kBlock) {
        const int64_t n = min_of(kBlock, a.columns - i);
        total += sum(read(a.x, begin + i, n, values), n);
      }
      mean = static_cast<T>(total / static_cast<double>(a.columns));
      static_cast<T*>(a.mean)[r] = mean;
    }
    double squares = 0;
    for (int64_t i = 0; i < a.columns; i += kBlock) {
      const int64_t n = min_of(kBlock, a.columns - i);
      squares += sum_of_squares(read(a.x, begin + i, n, values), mean, n);
    }
    const double variance = squares / static_cast<double>(a.columns);
    const T rstd = static_cast<T>(1.0 / __builtin_sqrt(variance + a.eps));
    static_cast<T*>(a.rstd)[r] = rstd;
    const int64_t channel = r % a.groups * group_channels;
    const T* weight = a.weight ? static_cast<const T*>(a.weight) + channel : nullptr;
    const T* bias = a.bias ? static_cast<const T*>(a.bias) + channel : nullptr;
    if (a.inner == 1) {
      for (int64_t i = 0; i < a.columns; i += kBlock) {
        const int64_t n = min_of(kBlock, a.columns - i);
        T* y = target_of(a.out, begin + i, results);
        normalize(read(a.x, begin + i, n, values), mean, rstd, weight ? weight + i : nullptr,
                  bias ? bias + i : nullptr, y, n);
        write(a.out, begin + i, n, y);
      }
      continue;
    }
    for (int64_t c = 0; c < group_channels; ++c) {
      const T scale = weight ? rstd * weight[c] : rstd, shift = bias ? bias[c] : T(0);
      for (int64_t i = 0; i < a.inner; i += kBlock) {
        const int64_t n = min_of(kBlock, a.inner - i), at = begin + c * a.inner + i;
        const T* x = read(a.x, at, n, values);
        T* y = target_of(a.out, at, results);
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - mean) * scale + shift;
        write(a.out, at, n, y);
      }
    }
  }
}

// One row's dx where there is one weight per element; adds its part of dweight and dbias.
template <class T>
void row_gradient(const RowArgs& a, int64_t begin, T mean, T rstd, const T* weight, T* dweight,
                  T* dbias) {
  alignas(64) T values[kBlock], upstream[kBlock], results[kBlock];
  Sums total = {0, 0};
  for (int64_t i = 0; a.out.data && i < a.columns; i += kBlock) {
    const int64_t n = min_of(kBlock, a.columns - i);
    const Sums part =
        gradient_sums(read(a.x, begin + i, n, values), read(a.dy, begin + i, n, upstream),
                      weight ? weight + i : nullptr, mean, rstd, n);
    total.g += part.g;
    total.gx += part.gx;
  }
  const double columns = static_cast<double>(a.columns);
  const T shift = a.mean ? static_cast<T>(total.g / columns) : T(0);
  const T slope = static_cast<T>(total.gx / columns) * rstd;
  for (int64_t i = 0; i < a.columns; i += kBlock) {
    const int64_t n = min_of(kBlock, a.columns - i);
    const T* x = read(a.x, begin + i, n, values);
    const T* dy = read(a.dy, begin + i, n, upstream);
    if (dweight) {
      T* sums = dweight + i;
      T* plain = dbias + i;
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) {
        sums[j] += dy[j] * ((x[j] - mean) * rstd);
        plain[j] += dy[j];
      }
    }
    if (a.out.data) {
      T* dx = target_of(a.out, begin + i, results);
      input_gradient(x, dy, weight ? weight + i : nullptr, mean, rstd, shift, slope, dx, n);
      write(a.out, begin + i, n, dx);
    }
  }
}

// The same where a weight serves `inner` elements.
template <class T>
void group_gradient(const RowArgs& a, int64_t begin, int64_t channels, T mean, T rstd,
                    const T* weight, T* dweight, T* dbias) {
  alignas(64) T values[kBlock], upstream[kBlock], results[kBlock];
  Sums total = {0, 0};
  for (int64_t c = 0; c < channels; ++c) {
    Sums part = {0, 0};
    for (int64_t i = 0; i < a.inner; i += kBlock) {
      const int64_t n = min_of(kBlock, a.inner - i), at = begin + c * a.inner + i;
      const Sums block = gradient_sums<T>(read(a.x, at, n, values), read(a.dy, at, n, upstream),
                                          nullptr, mean, rstd, n);
      part.g += block.g;
      part.gx += block.gx;
    }
    if (dweight) {
      dweight[c] += static_cast<T>(part.gx);
      dbias[c] += static_cast<T>(part.g);
    }
    const double scale = weight ? static_cast<double>(weight[c]) : 1.0;
    total.g += scale * part.g;
    total.gx += scale * part.gx;
  }
  if (!a.out.data) return;
  const double columns = static_cast<double>(a.columns);
  const T shift = a.mean ? static_cast<T>(total.g / columns) * rstd : T(0);
  const T slope = static_cast<T>(total.gx / columns) * rstd * rstd;
  for (int64_t c = 0; c < channels; ++c) {
    const T scale = weight ? rstd * weight[c] : rstd;
    for (int64_t i = 0; i < a.inner; i += kBlock) {
      const int64_t n = min_of(kBlock, a.inner - i), at = begin + c * a.inner + i;
      const T* x = read(a.x, at, n, values);
      const T* dy = read(a.dy, at, n, upstream);
      T* dx = target_of(a.out, at, results);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) dx[j] = scale * dy[j] - shift - (x[j] - mean) * slope;
      write(a.out, at, n, dx);
    }
  }
}

template <class T>
int64_t partial_bytes(int64_t channels) {
  return 2 * channels * static_cast<int64_t>(sizeof(double) + sizeof(T));
}

template <class T>
void rows_backward_kernel(const void* raw, int64_t chunk) {
  const RowArgs& a = *static_cast<const RowArgs*>(raw);
  double* wide = nullptr;
  T* sums = nullptr;
  if (a.partials) {
    wide = static_cast<double*>(advance_by(a.partials, chunk * partial_bytes<T>(a.channels)));
    sums = reinterpret_cast<T*>(wide + 2 * a.channels);
    for (int64_t c = 0; c < 2 * a.channels; ++c) wide[c] = 0;
    for (int64_t c = 0; c < 2 * a.channels; ++c) sums[c] = T(0);
  }
  const int64_t first = chunk * a.rows_per_chunk;
  const int64_t last = min_of(a.rows, first + a.rows_per_chunk);
  const int64_t group_channels = a.channels / a.groups;
  for (int64_t r = first; r < last; ++r) {
    const int64_t channel = r % a.groups * group_channels;
    const T mean = a.mean ? static_cast<const T*>(a.mean)[r] : T(0);
    const T rstd = static_cast<const T*>(a.rstd)[r];
    const T* weight = a.weight ? static_cast<const T*>(a.weight) + channel : nullptr;
    T* dweight = sums ? sums + channel : nullptr;
    T* dbias = sums ? sums + a.channels + channel : nullptr;
    if (a.inner == 1) {
      row_gradient(a, r * a.columns, mean, rstd, weight, dweight, dbias);
    } else {
      group_gradient(a, r * a.columns, group_channels, mean, rstd, weight, dweight, dbias);
    }
    if (sums &&
        ((r - first) % (kFlushRows * a.groups) == kFlushRows * a.groups - 1 || r + 1 == last)) {
      for (int64_t c = 0; c < 2 * a.channels; ++c) {
        wide[c] += static_cast<double>(sums[c]);
        sums[c] = T(0);
      }
    }
  }
}

template <class T>
void join_rows_kernel(const void* raw, int64_t chunk) {
  const RowArgs& a = *static_cast<const RowArgs*>(raw);
  const int64_t begin = chunk * kBlock, n = min_of(kBlock, a.channels - begin);
  for (int which = 0; which < 2; ++which) {
    T* out = static_cast<T*>(which == 0 ? a.dweight : a.dbias);
    if (!out) continue;
    double total[kBlock] = {};
    for (int64_t k = 0; k < a.chunks; ++k) {
      const double* part =
          static_cast<const double*>(
              advance_by(static_cast<const void*>(a.partials), k * partial_bytes<T>(a.channels))) +
          which * a.channels + begin;
      for (int64_t c = 0; c < n; ++c) total[c] += part[c];
    }
    for (int64_t c = 0; c < n; ++c) out[begin + c] = static_cast<T>(total[c]);
  }
}

RowArgs row_args(const NormShape& s, const View& x, const View* weight, const View* mean,
                 const View& rstd, const View* out) {
  RowArgs a;
  a.x = elements_of(&x);
  a.out = elements_of(out);
  a.dy = a.x;
  a.weight = weight ? weight->data : nullptr;
  a.bias = a.partials = a.dweight = a.dbias = nullptr;
  a.mean = mean ? mean->data : nullptr;
  a.rstd = rstd.data;
  a.eps = 0;
  a.groups = s.groups;
  a.inner = s.inner;
  a.channels = s.channels;
  a.rows = s.samples * s.groups;
  a.columns = s.channels / s.groups * s.inner;
  a.rows_per_chunk = max_of(1, kElementsPerChunk / max_of(1, a.columns));
  a.chunks = 0;
  return a;
}

void rows(Stream& stream, const NormShape& s, const View& x, const View* weight, const View* bias,
          double eps, const View& y, const View* mean, const View& rstd) {
  RowArgs a = row_args(s, x, weight, mean, rstd, &y);
  a.bias = bias ? bias->data : nullptr;
  a.eps = eps;
  if (a.rows == 0) return;
  launch(stream, "norm_rows", x.dtype == DType::float64 ? rows_kernel<double> : rows_kernel<float>,
         &a, sizeof a, chunk_count(a.rows, a.rows_per_chunk));
}

void rows_backward(Stream& stream, const NormShape& s, const View& x, const View* weight,
                   const View* mean, const View& rstd, const View& dy, const View* dx,
                   const View* dweight, const View* dbias) {
  const bool wide = x.dtype == DType::float64;
  RowArgs a = row_args(s, x, weight, mean, rstd, dx);
  a.dy = elements_of(&dy);
  a.dweight = dweight ? dweight->data : nullptr;
  a.dbias = dbias ? dbias->data : nullptr;
  const bool sums = dweight || dbias;
  if (s.channels == 0 || (!sums && (!dx || a.rows == 0))) return;
  if (sums) {
    a.rows_per_chunk =
        max_of(max_of(a.rows_per_chunk, kLeastRows), chunk_count(a.rows, kMostPartials));
  }
  a.chunks = chunk_count(a.rows, a.rows_per_chunk);
  const int64_t bytes = wide ? partial_bytes<double>(s.channels) : partial_bytes<float>(s.channels);
  const Scratch partials(stream, sums ? static_cast<size_t>(max_of(1, a.chunks) * bytes) : 0);
  a.partials = partials.data();
  if (a.chunks > 0) {
    launch(stream, "norm_rows_backward",
           wide ? rows_backward_kernel<double> : rows_backward_kernel<float>, &a, sizeof a,
           a.chunks);
  }
  if (sums) {
    launch(stream, "norm_rows_join", wide ? join_rows_kernel<double> : join_rows_kernel<float>, &a,
           sizeof a, chunk_count(s.channels, kBlock));
  }
}

}  // namespace

extern const NormFamily norm_family;
const NormFamily norm_family = {rows,  rows_backward, batch_statistics, running_statistics,
                                batch, batch_backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
