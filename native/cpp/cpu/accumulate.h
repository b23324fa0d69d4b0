// Accumulators of reductions: sum, product, maximum, minimum of contiguous blocks and of columns.
//
// float32 sums: 32 lanes over at most kReduceBlock elements (64 additions a lane), the lanes as a
// tree, the blocks in double. Products of floats multiply in double; integers accumulate in int64,
// modulo 2^64. max and min propagate NaN. Orders are fixed by sizes alone and the lanes are the
// same on every instruction set, and so are the bits.
#pragma once

#include "cpu/convert.h"
#include "cpu/vector.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

constexpr int64_t kReduceBlock = 2048;
constexpr int kLanes = 32;
constexpr int kRowsAtOnce = 8;  // rows joined as a tree before they meet a column's accumulator

namespace {

// What whole results accumulate in.
template <class T>
struct WideOf {
  using Type = int64_t;
};
template <>
struct WideOf<float> {
  using Type = double;
};
template <>
struct WideOf<double> {
  using Type = double;
};
template <class T>
using Wide = typename WideOf<T>::Type;

template <class T>
struct Extremes {
  static constexpr T lowest = IntegerRange<T>::min, highest = IntegerRange<T>::max;
};
template <>
struct Extremes<float> {
  static constexpr float lowest = -__builtin_inff(), highest = __builtin_inff();
};
template <>
struct Extremes<double> {
  static constexpr double lowest = -__builtin_inf(), highest = __builtin_inf();
};

// An operation: the type a block accumulates in, the identity, and the joining of two values.
template <class T>
struct SumOf {
  using Narrow = Wide<T>;
  static constexpr Narrow identity = 0;
  template <class A>
  static A join(A a, A b) {
    using N = typename Number<A>::Type;
    return Number<A>::unwrap(N(a) + N(b));
  }
};
template <>
struct SumOf<float> : SumOf<double> {
  using Narrow = float;
};
template <class T>
struct ProductOf {
  using Narrow = Wide<T>;
  static constexpr Narrow identity = 1;
  template <class A>
  static A join(A a, A b) {
    using N = typename Number<A>::Type;
    return Number<A>::unwrap(N(a) * N(b));
  }
};
template <class T>
struct MaximumOf {
  using Narrow = T;
  static constexpr Narrow identity = Extremes<T>::lowest;
  template <class A>
  static A join(A a, A b) {
    return (a > b) | (a != a) ? a : b;
  }
};
template <class T>
struct MinimumOf {
  using Narrow = T;
  static constexpr Narrow identity = Extremes<T>::highest;
  template <class A>
  static A join(A a, A b) {
    return (a < b) | (a != a) ? a : b;
  }
};

template <class Op, class T>
struct Accumulate {
  using Narrow = typename Op::Narrow;

  // The reduction of n ≤ kReduceBlock contiguous elements.
  static Narrow reduce(const T* x, int64_t n) {
    if (n < kLanes) {
      Narrow result = static_cast<Narrow>(Op::identity);
      for (int64_t i = 0; i < n; ++i) result = Op::join(result, static_cast<Narrow>(x[i]));
      return result;
    }
    Narrow lanes[kLanes];
    for (int j = 0; j < kLanes; ++j) lanes[j] = static_cast<Narrow>(Op::identity);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) {
        lanes[j] = Op::join(lanes[j], static_cast<Narrow>(x[i + j]));
      }
    }
    for (int j = 0; i + j < n; ++j) lanes[j] = Op::join(lanes[j], static_cast<Narrow>(x[i + j]));
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lanes[j] = Op::join(lanes[j], lanes[j + width]);
    }
    return lanes[0];
  }

  static void block(const void* x, int64_t n, void* total) {
    Wide<T>* const sum = static_cast<Wide<T>*>(total);
    *sum = Op::join(*sum, static_cast<Wide<T>>(reduce(static_cast<const T*>(x), n)));
  }

  // totals[j] = join(totals[j], rows[0][j], …) for `count` rows.
  static void columns(const void* const* rows, int count, int64_t n, void* totals) {
    Wide<T>* const sums = static_cast<Wide<T>*>(totals);
    const T* r[kRowsAtOnce];
    for (int k = 0; k < count; ++k) r[k] = static_cast<const T*>(rows[k]);
    if (count < kRowsAtOnce) {
      for (int k = 0; k < count; ++k) {
        for (int64_t j = 0; j < n; ++j) {
          sums[j] = Op::join(sums[j], static_cast<Wide<T>>(static_cast<Narrow>(r[k][j])));
        }
      }
      return;
    }
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const Narrow a = Op::join(static_cast<Narrow>(r[0][j]), static_cast<Narrow>(r[1][j]));
      const Narrow b = Op::join(static_cast<Narrow>(r[2][j]), static_cast<Narrow>(r[3][j]));
      const Narrow c = Op::join(static_cast<Narrow>(r[4][j]), static_cast<Narrow>(r[5][j]));
      const Narrow d = Op::join(static_cast<Narrow>(r[6][j]), static_cast<Narrow>(r[7][j]));
      const Narrow all = Op::join(Op::join(a, b), Op::join(c, d));
      sums[j] = Op::join(sums[j], static_cast<Wide<T>>(all));
    }
  }

  // into[j] = join(into[j], from[j]) for wide values.
  static void merge(const void* from, int64_t n, void* into) {
    const Wide<T>* const a = static_cast<const Wide<T>*>(from);
    Wide<T>* const b = static_cast<Wide<T>*>(into);
    for (int64_t j = 0; j < n; ++j) b[j] = Op::join(b[j], a[j]);
  }

  static void reset(void* totals, int64_t n) {
    Wide<T>* const sums = static_cast<Wide<T>*>(totals);
    for (int64_t j = 0; j < n; ++j) sums[j] = static_cast<Wide<T>>(Op::identity);
  }
};

// The functions above without their types.
struct Accumulator {
  void (*block)(const void* x, int64_t n, void* total);
  void (*columns)(const void* const* rows, int count, int64_t n, void* totals);
  void (*merge)(const void* from, int64_t n, void* into);
  void (*reset)(void* totals, int64_t n);
};

template <template <class> class Op, class T>
constexpr Accumulator kAccumulator = {Accumulate<Op<T>, T>::block, Accumulate<Op<T>, T>::columns,
                                      Accumulate<Op<T>, T>::merge, Accumulate<Op<T>, T>::reset};

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
