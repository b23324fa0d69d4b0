// Matrix products: the contract of gemm.cc and gemm.cu (see core/backend.h).
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// What a product does with its accumulator before it is stored.
enum class Activation : uint8_t { none, relu, gelu, gelu_tanh };

// PyTorch's levels for float32 products: full float32, TF32, bfloat16.
enum class Precision : uint8_t { highest, high, medium };

// Which library computes products on a GPU: ours or cuBLASLt; `best` chooses per shape.
enum class MatmulBackend : uint8_t { best, own, cublas };

// C[b] = activation(scale · A[b]·B[b] + bias) + residual[b], or C[b] += scale · A[b]·B[b] where
// `accumulate`. The arguments of the activation go to `before`, where it is given, and the sums of
// A's rows to `a_sums`: where A is dYᵀ and B is x, C is a weight's gradient and they are the
// bias's. Strides count elements. A is [M,K], B is [K,N]; one of each operand's two strides is 1 (a
// transposed operand has row stride 1). C is row-major with leading dimension c_row.
// All have one dtype: float32, float64, bfloat16 or float16; or an integer one, for C = scale · A·B
// alone, exact modulo its range.
struct GemmArgs {
  const void* a;
  const void* b;
  void* c;
  const void* bias;      // [N] or null
  const void* residual;  // of C's layout, or null
  void* before;          // of C's layout, or null
  void* a_sums;          // [M], added to where `accumulate`, or null; with batch 1 alone
  int64_t m, n, k, batch;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t a_batch, b_batch, c_batch;  // elements between consecutive b; 0 repeats an operand
  DType dtype;
  Activation activation;
  bool accumulate;
  double scale = 1;
  Precision precision;
  MatmulBackend library;
};

struct GemmFamily {
  void (*gemm)(Stream&, const GemmArgs&);
};

}  // namespace nodegrad
