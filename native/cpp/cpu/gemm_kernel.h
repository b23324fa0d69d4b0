// Vectors of the products, and the table of their micro-kernels (gemm_micro.cc, which all products
// of an instruction set share): tiles of up to kRows rows and kColumns<T> columns of C.
// A comes by rows (a[i·stride + k], a row-major matrix as it lies) or by columns (a[k·stride + i],
// a transposed matrix as it lies, or a packed one). Rows of b are contiguous and padded to whole
// vectors. Tiles of fewer rows or columns have kernels of their own, so that no tile needs padding
// in A; only whole vectors are written, so a tile at C's edge goes through a buffer and
// finish_tile.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRows = 14;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRows = 6;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRows = 12;
#else
constexpr int kVectorBytes = 16, kRows = 6;
#endif
constexpr int kVectors = 2;  // of a tile's row

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int kColumns = kVectors * kLanes<T>;

template <class T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::Type;

#define NODEGRAD_INLINE static inline __attribute__((always_inline))

template <class T>
NODEGRAD_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::Unaligned*>(p);
}
template <class T>
NODEGRAD_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename VectorOf<T>::Unaligned*>(p) = v;
}

template <class T>
NODEGRAD_INLINE Vector<T> broadcast(T x) {
  return x - Vector<T>{};  // not a sum: x + 0 differs from x where x is -0
}

// The first `n` elements only, 0 < n < kLanes; a load gives zeros for the rest.
#if defined(__AVX512F__)
NODEGRAD_INLINE Vector<float> load_part(const float* p, int n) {
  return (Vector<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
NODEGRAD_INLINE Vector<double> load_part(const double* p, int n) {
  return (Vector<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
}
NODEGRAD_INLINE void store_part(float* p, Vector<float> v, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
NODEGRAD_INLINE void store_part(double* p, Vector<double> v, int n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
}
#elif defined(__AVX2__)
NODEGRAD_INLINE __m256i part_mask(float, int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
NODEGRAD_INLINE __m256i part_mask(double, int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
NODEGRAD_INLINE Vector<float> load_part(const float* p, int n) {
  return (Vector<float>)_mm256_maskload_ps(p, part_mask(0.0f, n));
}
NODEGRAD_INLINE Vector<double> load_part(const double* p, int n) {
  return (Vector<double>)_mm256_maskload_pd(p, part_mask(0.0, n));
}
NODEGRAD_INLINE void store_part(float* p, Vector<float> v, int n) {
  _mm256_maskstore_ps(p, part_mask(0.0f, n), (__m256)v);
}
NODEGRAD_INLINE void store_part(double* p, Vector<double> v, int n) {
  _mm256_maskstore_pd(p, part_mask(0.0, n), (__m256d)v);
}
#else
template <class T>
NODEGRAD_INLINE Vector<T> load_part(const T* p, int n) {
  Vector<T> v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T>
NODEGRAD_INLINE void store_part(T* p, Vector<T> v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
#endif

template <class T>
NODEGRAD_INLINE T sum_lanes(Vector<T> v) {
  constexpr int kL = kLanes<T>;
  alignas(64) T lanes[kL];
  store(lanes, v);
#pragma GCC unroll 4
  for (int half = kL / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Subnormal numbers are taken for zeros, and none are made, until what this returned is restored:
// the gradients of long sequences and deep networks fade into them, and arithmetic with them is
// fifty times as slow. (No object with a destructor: unwinding would need a weak symbol.)
NODEGRAD_INLINE unsigned ignore_subnormals() {
#if defined(__x86_64__)
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040u);  // flush results, take operands as zeros
  return before;
#else
  return 0;
#endif
}
NODEGRAD_INLINE void restore_subnormals([[maybe_unused]] unsigned before) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(before);
#endif
}

// acc += x · y in place. Left to itself GCC also uses the forms that overwrite x or y, and then
// spills: with 28 accumulators the product loses a third of its speed.
template <class T>
NODEGRAD_INLINE void multiply_add(Vector<T>& acc, Vector<T> x, Vector<T> y) {
#if defined(__FMA__)
  if constexpr (sizeof(T) == 4) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(y));
  } else {
    asm("vfmadd231pd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(y));
  }
#else
  acc += x * y;
#endif
}

// acc += *x · y, the load and its broadcast part of the same instruction where there is such a
// form.
template <class T>
NODEGRAD_INLINE void multiply_add(Vector<T>& acc, const T* x, Vector<T> y) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(y), "m"(*x));
  } else {
    asm("vfmadd231pd %2%{1to8%}, %1, %0" : "+v"(acc) : "v"(y), "m"(*x));
  }
#else
  multiply_add<T>(acc, broadcast(*x), y);
#endif
}

// The kernels of one type, for as many rows and whole vectors of columns, A by columns or by rows.
//   c[i, j] = [c[i, j] +] Σ_k a[i, k] · b[k, j]
template <class T>
using MicroKernel = void (*)(int64_t k, const T* a, int64_t a_stride, const T* b, int64_t b_stride,
                             T* c, int64_t c_stride, bool add);

}  // namespace

template <class T>
struct KernelTable {
  MicroKernel<T> kernels[2][kVectors][kRows];

  __attribute__((always_inline)) MicroKernel<T> get(bool by_rows, int vectors, int rows) const {
    return kernels[by_rows][vectors - 1][rows - 1];
  }
};
struct MicroKernels : KernelTable<float>, KernelTable<double> {};
extern const MicroKernels micro_kernels;  // gemm_micro.cc

namespace {

template <class T>
static constexpr const KernelTable<T>& kKernels = micro_kernels;

// What happens to sums on their way into c: c = activation(scale · sums [+ c] [+ bias]).
template <class T>
struct Finish {
  const T* bias;  // of the first column, or null
  bool add;
  bool relu;
  T scale = T(1);
};

template <class T>
NODEGRAD_INLINE Vector<T> finish_vector(Vector<T> x, Vector<T> c, Vector<T> bias,
                                        const Finish<T>& f) {
  x *= broadcast(f.scale);
  if (f.add) x += c;
  if (f.bias) x += bias;
  if (f.relu) x = x < Vector<T>{} ? Vector<T>{} : x;  // NaN stays
  return x;
}

template <class T>
void finish_tile(const T* sums, int64_t stride, T* c, int64_t c_stride, int64_t rows,
                 int64_t columns, const Finish<T> f) {
  constexpr int kL = kLanes<T>;
  const Vector<T> zero = {};
  int64_t j = 0;
  for (; j + kL <= columns; j += kL) {
    const Vector<T> bias = f.bias ? load(f.bias + j) : zero;
    for (int64_t i = 0; i < rows; ++i) {
      T* const to = c + i * c_stride + j;
      const Vector<T> before = f.add ? load(to) : zero;
      store(to, finish_vector<T>(load(sums + i * stride + j), before, bias, f));
    }
  }
  if (const int left = static_cast<int>(columns - j)) {
    const Vector<T> bias = f.bias ? load_part(f.bias + j, left) : zero;
    for (int64_t i = 0; i < rows; ++i) {
      T* const to = c + i * c_stride + j;
      const Vector<T> before = f.add ? load_part(to, left) : zero;
      const Vector<T> x = load_part(sums + i * stride + j, left);
      store_part(to, finish_vector<T>(x, before, bias, f), left);
    }
  }
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
