// The contract between ops and backends: one table of family functions per backend.
//
// Every function enqueues on `stream` and returns; none waits, allocates a result or knows of
// autograd. The op layer (core/ops) has already checked shapes and dtypes and allocated every
// output, so a backend may rely on what stands beside each function. Unless said otherwise
// outputs are contiguous and inputs may have any strides, 0 included. Sizes of 0 are legal.
// Plain data only: CPU backends include this once per instruction set.
#pragma once

#include "core/view.h"

namespace nodegrad {

class Stream;

// Elementwise ops are listed once, in core/elementwise.h, with their formulas.
enum class UnaryOp : uint8_t;
enum class BinaryOp : uint8_t;

enum class ReduceOp : uint8_t { sum, mean, max, min, prod };
enum class ArgReduceOp : uint8_t { argmax, argmin };

// What a product does with its accumulator before it is stored.
enum class Activation : uint8_t { none, relu };

// PyTorch's levels for float32 products: full float32, TF32, bfloat16.
enum class Precision : uint8_t { highest, high, medium };

// Which library computes products on a GPU: ours or cuBLASLt; `best` chooses per shape.
enum class MatmulBackend : uint8_t { best, own, cublas };

// C[b] = activation(A[b] · B[b] + bias), or C[b] += A[b] · B[b] where `accumulate`.
// Strides count elements. A is [M,K], B is [K,N]; one of each operand's two strides is 1 (a
// transposed operand has row stride 1). C is row-major with leading dimension c_row.
// All of a, b, c, bias have one dtype: float32, float64, bfloat16 or float16.
struct GemmArgs {
  const void* a;
  const void* b;
  void* c;
  const void* bias;  // [N] or null
  int64_t m, n, k, batch;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t a_batch, b_batch, c_batch;  // elements between consecutive b; 0 repeats an operand
  DType dtype;
  Activation activation;
  bool accumulate;
  Precision precision;
  MatmulBackend library;
};

struct FillFamily {
  void (*fill)(Stream&, const View& out, Scalar value);
  void (*arange)(Stream&, const View& out, Scalar start, Scalar step);  // out: [N]
};

// `state` is int64[2] in device memory: seed, offset. Element i of a draw uses Philox4x32-10
// with key = seed and counter = offset + i/4, word i%4 (core/philox.h). `advance` adds
// `counters` to the offset; ops call it after each draw with ceil(N/4).
struct RandomFamily {
  void (*uniform)(Stream&, const View& out, const View& state, double low, double high);
  void (*normal)(Stream&, const View& out, const View& state, double mean, double std);
  void (*bernoulli)(Stream&, const View& out, const View& state, double probability);
  void (*advance)(Stream&, const View& state, int64_t counters);
};

struct CopyFamily {
  // dst = src, converting between any two dtypes; both may be strided; same shape.
  // float to integer truncates towards zero, anything to bool is x != 0.
  void (*copy)(Stream&, const View& src, const View& dst);
};

struct UnaryFamily {
  // out = f(x); out has x's shape and dtype (bool for predicates).
  void (*forward)(Stream&, UnaryOp, const View& x, const View& out);
  // dx = dout · f'; `saved` is x or the output, as core/elementwise.h says. Floating dtypes.
  void (*backward)(Stream&, UnaryOp, const View& saved, const View& dout, const View& dx);
};

struct BinaryFamily {
  // out = f(a, b): a and b have out's shape (broadcast by stride 0) and one dtype; out has
  // that dtype, or bool for comparisons.
  void (*forward)(Stream&, BinaryOp, const View& a, const View& b, const View& out);
  // out = f(a, s), or f(s, a) where `reversed`.
  void (*scalar)(Stream&, BinaryOp, const View& a, Scalar s, bool reversed, const View& out);
  // out = condition ? a : b; condition is bool, all of out's shape.
  void (*where)(Stream&, const View& condition, const View& a, const View& b, const View& out);
};

struct ReduceFamily {
  // out has x's rank, with size 1 where reduced. Floats accumulate in float32 or wider, integers
  // in int64. sum and prod of integers and bools give int64; mean is floating only. max and min
  // propagate NaN. An empty reduction gives the identity (ops refuse it for max and min).
  void (*reduce)(Stream&, ReduceOp, const View& x, const View& out);
  // out: int64, size 1 at `axis`; the first of equal values; NaN wins.
  void (*arg_reduce)(Stream&, ArgReduceOp, const View& x, int axis, const View& out);
};

struct GemmFamily {
  void (*gemm)(Stream&, const GemmArgs&);
};

// Rows of logits: x is [N,C], contiguous; softmax runs over C. float32 inside, or float64.
struct SoftmaxFamily {
  void (*softmax)(Stream&, const View& x, const View& y, bool logarithm);
  // dx = y(dy - Σ dy·y), or dy - exp(y)·Σ dy for log-softmax; y is the forward output.
  void (*softmax_backward)(Stream&, const View& y, const View& dy, const View& dx, bool logarithm);
  // target: int64 [N]; loss[n] = lse[n] - x[n, target[n]]. loss has x's dtype; lse is float32
  // (float64 for float64). A target equal to ignore_index gives 0; any other target outside
  // [0,C) gives NaN (the host cannot look without waiting).
  void (*cross_entropy)(Stream&, const View& x, const View& target, int64_t ignore_index,
                        const View& loss, const View& lse);
  // dx[n,c] = (exp(x - lse[n]) - [c = target[n]]) · dloss[n]; dloss is [N] and may have stride 0.
  void (*cross_entropy_backward)(Stream&, const View& x, const View& target, int64_t ignore_index,
                                 const View& lse, const View& dloss, const View& dx);
};

struct IndexFamily {
  // out[i, :] = x[index[i], :]; x is [R, ...], index int64 [I], out [I, ...]; x's rows are
  // contiguous. Indices outside [0,R) give zeros for integers and NaN for floats.
  void (*select)(Stream&, const View& x, const View& index, const View& out);
  // out[index[i], :] += src[i, :], in the order of i (deterministic); indices outside are skipped.
  void (*add)(Stream&, const View& src, const View& index, const View& out);
};

// One entry per parameter tensor; all contiguous, `n` elements, one dtype (float32 or float64;
// gradients likewise).
struct OptimTensor {
  void* param;
  const void* grad;
  void* first;   // momentum buffer, or Adam's first moment
  void* second;  // Adam's second moment, or null
  int64_t n;
};

// Hyper-parameters that may change between replays of a captured step live in device memory:
// `hyper` is float64[kHyperSize], `step` the number of updates so far. Kernels read them there.
enum Hyper : int {
  kLearningRate = 0,
  kMomentum,   // SGD's momentum, Adam's beta1
  kDampening,  // SGD's dampening, Adam's beta2
  kEps,
  kWeightDecay,
  kStep,  // updates done so far; `advance` adds 1 before an update reads it
  kHyperSize,
};

struct OptimFamily {
  // PyTorch's SGD: g += weight_decay·p; v = step == 1 ? g : momentum·v + (1 - dampening)·g;
  // p -= lr·(nesterov ? g + momentum·v : v). `first` null where momentum is 0; maximize negates g.
  void (*sgd)(Stream&, const OptimTensor*, int count, DType, const View& hyper, bool nesterov,
              bool maximize);
  // PyTorch's Adam; AdamW where `decoupled` (p -= lr·weight_decay·p before the update).
  void (*adam)(Stream&, const OptimTensor*, int count, DType, const View& hyper, bool decoupled,
               bool maximize);
  void (*advance)(Stream&, const View& hyper);  // hyper[kStep] += 1
};

struct Backend {
  const FillFamily* fill;
  const RandomFamily* random;
  const CopyFamily* copy;
  const UnaryFamily* unary;
  const BinaryFamily* binary;
  const ReduceFamily* reduce;
  const GemmFamily* gemm;
  const SoftmaxFamily* softmax;
  const IndexFamily* index;
  const OptimFamily* optim;
};

}  // namespace nodegrad
