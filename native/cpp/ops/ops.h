// The op layer: every op checks shapes and dtypes, allocates its output and asks the backend of
// the tensor's device. One file per family, named as in cpu/ and cuda/. addon/registry.cc exposes
// each function to JavaScript by name; argument conversion follows from its signature.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "core/elementwise.h"
#include "core/tensor.h"

namespace nodegrad::ops {

// fill
Tensor full(Device& device, const Shape& shape, double value, DType dtype);
Tensor arange(Device& device, double start, double step, int64_t count, DType dtype);
void fill_into(const Tensor& out, double value);

// random: `state` is int64[2] (seed, offset) on the same device
Tensor uniform(Device& device, const Shape& shape, DType dtype, const Tensor& state, double low,
               double high);
Tensor normal(Device& device, const Shape& shape, DType dtype, const Tensor& state, double mean,
              double std);
Tensor bernoulli(Device& device, const Shape& shape, DType dtype, const Tensor& state,
                 double probability);

// copy
Tensor cast(const Tensor& x, DType dtype);
Tensor contiguous(const Tensor& x);  // x itself where it is contiguous already
Tensor clone(const Tensor& x);
void copy_into(const Tensor& out, const Tensor& x);  // broadcasts and casts x
Tensor to_device(const Tensor& x, Device& device);

// view: share the storage
Tensor reshape(const Tensor& x, const Shape& shape);  // copies where strides leave no other way
Tensor permute(const Tensor& x, const Shape& axes);
Tensor expand(const Tensor& x, const Shape& shape);
Tensor slice(const Tensor& x, int64_t axis, int64_t start, int64_t stop, int64_t step);
Tensor select(const Tensor& x, int64_t axis, int64_t index);
Tensor alias(const Tensor& x);

// unary and binary; `axes` below is a bit mask
Tensor unary(UnaryOp op, const char* name, bool floating, const Tensor& x);
Tensor unary_backward(UnaryOp op, const char* name, const Tensor& saved, const Tensor& dout);
Tensor unary_predicate(UnaryOp op, const char* name, const Tensor& x);
Tensor binary(BinaryOp op, const char* name, bool floating, bool predicate, const Tensor& a,
              const Tensor& b);
Tensor binary_scalar(BinaryOp op, const char* name, bool floating, bool predicate, const Tensor& a,
                     double scalar, bool reversed);
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
void add_into(const Tensor& out, const Tensor& x);  // out += x
void scale_into(const Tensor& out, double factor);  // out *= factor

// reduce
Tensor sum(const Tensor& x, int64_t axes, bool keepdim);
Tensor mean(const Tensor& x, int64_t axes, bool keepdim);
Tensor max(const Tensor& x, int64_t axes, bool keepdim);
Tensor min(const Tensor& x, int64_t axes, bool keepdim);
Tensor prod(const Tensor& x, int64_t axes, bool keepdim);
void sum_into(const Tensor& out, const Tensor& x);  // out has x's rank or fewer leading axes
Tensor argmax(const Tensor& x, int64_t axis, bool keepdim);
Tensor argmin(const Tensor& x, int64_t axis, bool keepdim);

// gemm: `precision` and `library` are the codes of core/backend.h
Tensor matmul(const Tensor& a, const Tensor& b, int64_t precision, int64_t library);
Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, bool relu,
              int64_t precision, int64_t library);
void matmul_into(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate,
                 int64_t precision, int64_t library);

// softmax: over the last axis
Tensor softmax(const Tensor& x, bool logarithm);
Tensor softmax_backward(const Tensor& y, const Tensor& dy, bool logarithm);
std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const Tensor& target,
                                         int64_t ignore_index);
Tensor cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& lse,
                              const Tensor& dloss, int64_t ignore_index);

// index
Tensor index_select(const Tensor& x, const Tensor& index);
// The same on another stream of x's device, which must not run before x and index are there.
Tensor index_select_on(Stream& stream, const Tensor& x, const Tensor& index);
Tensor index_add(const Shape& shape, const Tensor& index, const Tensor& src);

// optim
using TensorList = std::vector<Tensor>;
void sgd(const TensorList& params, const TensorList& grads, const TensorList& momenta,
         const Tensor& hyper, bool nesterov, bool maximize);
void adam(const TensorList& params, const TensorList& grads, const TensorList& first,
          const TensorList& second, const Tensor& hyper, bool decoupled, bool maximize);

// scaler
void unscale_into(const Tensor& x, const Tensor& scale, const Tensor& found);
void copy_if(const Tensor& out, const Tensor& x, const Tensor& found);
Tensor backup_if(const Tensor& x, const Tensor& found);

// Shared by the families.
DType promote(DType a, DType b);
View broadcast_view(const View& x, const int64_t* shape, int rank);
Tensor as_dtype(const Tensor& x, DType dtype);  // x itself where it has the dtype
Scalar scalar_of(double value);
void check_same_device(const char* op, const Tensor& a, const Tensor& b);
int normal_axis(const char* op, int64_t axis, int rank);

}  // namespace nodegrad::ops
