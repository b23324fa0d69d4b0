// Blocks of elements for norm.cc: reading and writing them, and the loops over them.
// Sums run in 32 lanes of the type of arithmetic over at most kBlock elements and join in double,
// so that orders and bits depend on sizes alone.
#pragma once

#include "cpu/convert.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int kSumLanes = 32;
constexpr int64_t kElementsPerChunk = 16384;
constexpr int64_t kMostPartials = 64;  // chunks of a sum over rows or samples
constexpr int64_t kFlushRows = 64;     // rows summed before they join in double

// Elements that are read block by block, or written so.
struct Elements {
  void* data;
  LoadRow load;
  StoreRow store;  // null where elements are stored as they compute
  int64_t bytes;
};

Elements elements_of(const View* v) {
  if (!v) return {nullptr, nullptr, nullptr, 0};
  return {v->data, row_loader(v->dtype), row_storer(v->dtype),
          static_cast<int64_t>(item_size(v->dtype))};
}

template <class T>
const T* read(const Elements& m, int64_t at, int64_t n, T* buffer) {
  const void* from = advance_by(static_cast<const void*>(m.data), at * m.bytes);
  if (!m.store) return static_cast<const T*>(from);
  m.load(from, 1, buffer, n);
  return buffer;
}

// `count` runs of `length` elements, `step` apart, one behind the other.
template <class T>
const T* read_runs(const Elements& m, int64_t at, int64_t length, int64_t step, int64_t count,
                   T* buffer) {
  if (count == 1) return read(m, at, length, buffer);
  for (int64_t k = 0; k < count; ++k) {
    const void* from = advance_by(static_cast<const void*>(m.data), (at + k * step) * m.bytes);
    m.load(from, 1, buffer + k * length, length);
  }
  return buffer;
}

template <class T>
T* target_of(const Elements& m, int64_t at, T* buffer) {
  return m.store ? buffer : static_cast<T*>(m.data) + at;
}

template <class T>
void write(const Elements& m, int64_t at, int64_t n, const T* values) {
  if (m.store) m.store(values, advance_by(m.data, at * m.bytes), n);
}

template <class T>
T join_lanes(T (&lanes)[kSumLanes]) {
  for (int width = kSumLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

// Σ term(i) over i < n.
template <class T, class Term>
double sum_of(int64_t n, const Term& term) {
  T lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int j = 0; j < kSumLanes; ++j) lanes[j] += term(i + j);
  }
  for (int j = 0; i + j < n; ++j) lanes[j] += term(i + j);
  return static_cast<double>(join_lanes(lanes));
}

template <class T>
double sum(const T* x, int64_t n) {
  return sum_of<T>(n, [&](int64_t i) { return x[i]; });
}

template <class T>
double sum_of_squares(const T* x, T mean, int64_t n) {
  return sum_of<T>(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
}

// Σ g and Σ g·x̂ for g = dy, or dy·weight.
struct Sums {
  double g, gx;
};

// 64 bytes of numbers. GCC does not see by itself that two sums in lanes can share a loop.
template <class T>
struct Packed {
  typedef T Type __attribute__((vector_size(64)));
  static constexpr int size = 64 / static_cast<int>(sizeof(T));
  // By reference: returned, such a vector would need an ABI that older processors lack.
  static void load(const T* p, Type& v) { __builtin_memcpy(&v, p, sizeof v); }
};

template <class T, bool weighted>
Sums gradient_sums_of(const T* x, const T* dy, const T* weight, T mean, T rstd, int64_t n) {
  using P = Packed<T>;
  constexpr int kPacks = kSumLanes / P::size;
  typename P::Type g[kPacks] = {}, gx[kPacks] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int k = 0; k < kPacks; ++k) {
      const int64_t at = i + k * P::size;
      typename P::Type upstream, factor, value;
      P::load(dy + at, upstream);
      if (weighted) {
        P::load(weight + at, factor);
        upstream *= factor;
      }
      P::load(x + at, value);
      g[k] += upstream;
      gx[k] += upstream * (value - mean);
    }
  }
  T sums[kSumLanes], products[kSumLanes];
  __builtin_memcpy(sums, g, sizeof sums);
  __builtin_memcpy(products, gx, sizeof products);
  for (int j = 0; i + j < n; ++j) {
    const T upstream = weighted ? dy[i + j] * weight[i + j] : dy[i + j];
    sums[j] += upstream;
    products[j] += upstream * (x[i + j] - mean);
  }
  return {static_cast<double>(join_lanes(sums)), static_cast<double>(join_lanes(products) * rstd)};
}

template <class T>
Sums gradient_sums(const T* x, const T* dy, const T* weight, T mean, T rstd, int64_t n) {
  return weight ? gradient_sums_of<T, true>(x, dy, weight, mean, rstd, n)
                : gradient_sums_of<T, false>(x, dy, weight, mean, rstd, n);
}

// y = (x - mean)·scale·weight + bias with a weight and a bias per element, or none.
template <class T>
void normalize(const T* x, T mean, T scale, const T* weight, const T* bias, T* y, int64_t n) {
  if (weight && bias) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  } else if (weight) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale * weight[i];
  } else if (bias) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale + bias[i];
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale;
  }
}

// dx = scale·(dy·weight - a - (x - mean)·b), the weight being per element or left out.
template <class T>
void input_gradient(const T* x, const T* dy, const T* weight, T mean, T scale, T a, T b, T* dx,
                    int64_t n) {
  if (weight) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = scale * (dy[i] * weight[i] - a - (x[i] - mean) * b);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = scale * (dy[i] - a - (x[i] - mean) * b);
  }
}

// The mean of n numbers and the sum of their squared distances from it.
struct Moments {
  double n, mean, squares;
};

// Both sets as one (Chan, Golub and LeVeque, 1983).
void join(Moments& into, const Moments& from) {
  if (from.n == 0) return;
  const double n = into.n + from.n, distance = from.mean - into.mean;
  into.squares += from.squares + distance * distance * (into.n * from.n / n);
  into.mean += distance * (from.n / n);
  into.n = n;
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
