// The op layer: every op checks shapes and dtypes, allocates its output and asks the backend of
// the tensor's device. One file per family, named as in cpu/ and cuda/. addon/registry.cc exposes
// each function to JavaScript by name; argument conversion follows from its signature.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/elementwise.h"
#include "core/tensor.h"

namespace nodegrad::ops {

// fill
// `op` is named in errors.
Tensor full(Device& device, const Shape& shape, double value, DType dtype, const std::string& op);
Tensor arange(Device& device, double start, double step, int64_t count, DType dtype);
void fill_into(const Tensor& out, double value);

// random: `state` is int64[2] (seed, offset) on the same device
Tensor uniform(Device& device, const Shape& shape, DType dtype, const Tensor& state, double low,
               double high);
Tensor normal(Device& device, const Shape& shape, DType dtype, const Tensor& state, double mean,
              double std);
Tensor bernoulli(Device& device, const Shape& shape, DType dtype, const Tensor& state,
                 double probability);

// sample: `state` as for random
Tensor randperm(Device& device, int64_t count, const Tensor& state);
Tensor multinomial(const Tensor& weights, int64_t samples, bool replacement, const Tensor& state);
Tensor bernoulli_each(const Tensor& probability, const Tensor& state, DType dtype);
Tensor truncated_normal(Device& device, const Shape& shape, DType dtype, const Tensor& state,
                        double mean, double std, double low, double high);

// copy
Tensor cast(const Tensor& x, DType dtype);
Tensor contiguous(const Tensor& x);  // x itself where it is contiguous already
// Images [n,c,h,w] without gaps, in the order [n,h,w,c] where `channels_last` says so.
Tensor ordered(const Tensor& x, bool channels_last);
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
// The diagonal of two axes as a last axis; `offset` above the main one.
Tensor diagonal(const Tensor& x, int64_t offset, int64_t first, int64_t second);
// Zeros with x's last axis on the diagonal of two axes at the end: fresh memory.
Tensor diag_embed(const Tensor& x, int64_t offset);

// movement: maps of axes as core/axis_map.h has them; `spec` is mode, before, repeat and new size
Tensor remap(const char* op, const Tensor& x, const Shape& spec, double fill);
Tensor fold(const Tensor& dout, int64_t axis, int64_t size, int64_t mode, int64_t before,
            int64_t repeat);
Tensor cat(const std::vector<Tensor>& tensors, int64_t axis);
Tensor tril(const Tensor& x, int64_t diagonal);
Tensor triu(const Tensor& x, int64_t diagonal);

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

// variance: and the mean, over `axes`
std::tuple<Tensor, Tensor> variance(const Tensor& x, int64_t axes, double correction, bool keepdim);

// scan
Tensor cumsum(const Tensor& x, int64_t axis, bool reverse);
Tensor cumprod(const Tensor& x, int64_t axis);

// sort: the first `count` of each line (all for -1), and where they were
std::tuple<Tensor, Tensor> sort(const Tensor& x, int64_t axis, int64_t count, bool descending);
// Zeros of n along the axis, but src where the indices say.
Tensor sort_place(const Tensor& src, const Tensor& indices, int64_t axis, int64_t n);

// gemm: `precision` and `library` are the codes of core/backend.h
// scale · a·b
Tensor matmul(const Tensor& a, const Tensor& b, double scale, int64_t precision, int64_t library);
// activation(x·weightᵀ + bias) + residual, and with `keep` the activation's arguments.
std::tuple<Tensor, std::optional<Tensor>> linear(const Tensor& x, const Tensor& weight,
                                                 const std::optional<Tensor>& bias,
                                                 const std::optional<Tensor>& residual,
                                                 int64_t activation, bool keep, int64_t precision,
                                                 int64_t library);
void matmul_into(const Tensor& out, const Tensor& a, const Tensor& b, double scale, bool accumulate,
                 int64_t precision, int64_t library);
// dyᵀ·x and the sums of dy's columns, of dy [rows,out] and x [rows,in].
std::tuple<Tensor, Tensor> linear_gradients(const Tensor& dy, const Tensor& x, int64_t precision,
                                            int64_t library);
void linear_gradients_into(const Tensor& weight, const Tensor& bias, const Tensor& dy,
                           const Tensor& x, bool accumulate, int64_t precision, int64_t library);

// conv: `geometry` is strides, paddings before, paddings behind, dilations and groups
Tensor conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
              const Shape& geometry, bool relu);
// max(0, ·) of the largest of each 2 by 2 elements, with their indices as max_pool2d's
std::tuple<Tensor, Tensor> conv2d_max_pool(const Tensor& x, const Tensor& weight,
                                           const std::optional<Tensor>& bias,
                                           const Shape& geometry);
Tensor conv2d_data_backward(const Tensor& dy, const Tensor& weight, const Shape& image,
                            const Shape& geometry);
Tensor conv2d_weight_backward(const Tensor& x, const Tensor& dy, const Shape& weight,
                              const Shape& geometry);
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Shape& geometry);

// pool: `window` is kernel, stride, padding and dilation of both axes, and the output's sizes
std::tuple<Tensor, Tensor> max_pool2d(const Tensor& x, const Shape& window, bool adaptive,
                                      bool relu);
Tensor max_pool2d_backward(const Tensor& dy, const Tensor& index, const Shape& image,
                           const Shape& window, bool adaptive);
Tensor avg_pool2d(const Tensor& x, const Shape& window, bool adaptive, bool count_pad);
Tensor avg_pool2d_backward(const Tensor& dy, const Shape& image, const Shape& window, bool adaptive,
                           bool count_pad);

// softmax: over the last axis
Tensor softmax(const Tensor& x, bool logarithm);
Tensor softmax_backward(const Tensor& y, const Tensor& dy, bool logarithm);
std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const Tensor& target,
                                         int64_t ignore_index);
// `spare`: the logits serve nobody else and may become their gradient.
Tensor cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& lse,
                              const Tensor& dloss, int64_t ignore_index, bool spare);
// target: classes [N] or probabilities [N,C]; the results are loss, lse and mass.
std::tuple<Tensor, Tensor, Tensor> soft_cross_entropy(const Tensor& logits, const Tensor& target,
                                                      const std::optional<Tensor>& weight,
                                                      double smoothing, int64_t ignore_index);
std::tuple<Tensor, Tensor> soft_cross_entropy_backward(const Tensor& logits, const Tensor& target,
                                                       const std::optional<Tensor>& weight,
                                                       double smoothing, int64_t ignore_index,
                                                       const Tensor& lse, const Tensor& mass,
                                                       const Tensor& dloss, bool target_gradient,
                                                       bool spare);

// loss: elementwise, of promoted dtype; `kind` is a code of families/loss.h, `factor` broadcasts
Tensor pointwise_loss(int64_t kind, const Tensor& x, const Tensor& target,
                      const std::optional<Tensor>& factor, double parameter);
Tensor pointwise_loss_backward(int64_t kind, const Tensor& x, const Tensor& target,
                               const std::optional<Tensor>& factor, double parameter,
                               const Tensor& dloss, bool of_target);
// x: [N,C,…], target: [N,…]; gives the loss and, for a mean, the weight of all rows
std::tuple<Tensor, std::optional<Tensor>> nll_loss(const Tensor& x, const Tensor& target,
                                                   const std::optional<Tensor>& weight,
                                                   int64_t ignore_index, int64_t reduction);
// `shape` is x's, its dtype dloss's.
Tensor nll_loss_backward(const Shape& shape, const Tensor& target,
                         const std::optional<Tensor>& weight, int64_t ignore_index,
                         int64_t reduction, const std::optional<Tensor>& total,
                         const Tensor& dloss);

// norm: each gives y and what backward needs; `axes` trailing axes form a row. Backward gives dx,
// dweight and dbias, those that are needed.
using NormGradients =
    std::tuple<std::optional<Tensor>, std::optional<Tensor>, std::optional<Tensor>>;
std::tuple<Tensor, Tensor, Tensor> layer_norm(const Tensor& x, int64_t axes,
                                              const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias, double eps);
NormGradients layer_norm_backward(const Tensor& x, int64_t axes,
                                  const std::optional<Tensor>& weight, const Tensor& mean,
                                  const Tensor& rstd, const Tensor& dy, bool needs_x,
                                  bool needs_weight, bool needs_bias);
std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, int64_t axes,
                                    const std::optional<Tensor>& weight, double eps);
NormGradients rms_norm_backward(const Tensor& x, int64_t axes, const std::optional<Tensor>& weight,
                                const Tensor& rstd, const Tensor& dy, bool needs_x,
                                bool needs_weight);
std::tuple<Tensor, Tensor, Tensor> group_norm(const Tensor& x, int64_t groups,
                                              const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias, double eps);
NormGradients group_norm_backward(const Tensor& x, int64_t groups,
                                  const std::optional<Tensor>& weight, const Tensor& mean,
                                  const Tensor& rstd, const Tensor& dy, bool needs_x,
                                  bool needs_weight, bool needs_bias);
// Updates the running statistics where it trains; momentum below 0: the mean of all batches.
std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& x, const std::optional<Tensor>& weight,
                                              const std::optional<Tensor>& bias,
                                              const std::optional<Tensor>& running_mean,
                                              const std::optional<Tensor>& running_variance,
                                              const std::optional<Tensor>& batches, double momentum,
                                              double eps, bool training);
NormGradients batch_norm_backward(const Tensor& x, const std::optional<Tensor>& weight,
                                  const Tensor& mean, const Tensor& rstd, const Tensor& dy,
                                  bool training, bool needs_x, bool needs_weight, bool needs_bias);

// dropout: `state` as for random; the mask is uint8
std::tuple<Tensor, Tensor> dropout(const Tensor& x, const Tensor& state, double p);
Tensor dropout_backward(const Tensor& mask, const Tensor& dy, double p);

// rotary: the tables [length, width/2] from row `offset` on; turns back where `inverse`
Tensor rotary(const Tensor& x, const Tensor& cosines, const Tensor& sines, int64_t offset,
              bool inverse);

// embedding: `padding` is the row that gets no gradient, or -1
Tensor embedding(const Tensor& weight, const Tensor& index);
Tensor embedding_backward(const Shape& shape, const Tensor& index, const Tensor& dy,
                          int64_t padding);
void embedding_backward_into(const Tensor& out, const Tensor& index, const Tensor& dy,
                             int64_t padding, bool accumulate);
// attention: `state` is a generator's before the draw (reserve_draws), `keep` one minus the dropout
std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const std::optional<Tensor>& mask,
                                     const std::optional<Tensor>& padding,
                                     const std::optional<Tensor>& lengths,
                                     const std::optional<Tensor>& state, bool causal, double scale,
                                     double keep, int64_t precision);
std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
    const std::optional<Tensor>& padding, const std::optional<Tensor>& lengths,
    const std::optional<Tensor>& state, bool causal, double scale, double keep, int64_t precision,
    const Tensor& out, const Tensor& lse, const Tensor& dout);
// The three gradients as one tensor [B,T,3,H,D], as a packed projection lies.
Tensor attention_backward_packed(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const std::optional<Tensor>& mask,
                                 const std::optional<Tensor>& padding,
                                 const std::optional<Tensor>& lengths,
                                 const std::optional<Tensor>& state, bool causal, double scale,
                                 double keep, int64_t precision, const Tensor& out,
                                 const Tensor& lse, const Tensor& dout);
// A copy of a generator's state, which then moves on by so many counters.
Tensor reserve_draws(const Tensor& state, int64_t counters);
// rnn: one layer; `weights` are W_ih, W_hh and, where there are biases, b_ih, b_hh per direction.
// Gives [output, h_n, c_n] in one flat tensor, the gates, and the cells (empty where there are
// none).
std::tuple<Tensor, Tensor, Tensor> rnn(int64_t mode, const Tensor& x, bool batch_first,
                                       int64_t directions, const std::optional<Tensor>& lengths,
                                       const std::optional<Tensor>& h0,
                                       const std::optional<Tensor>& c0,
                                       const std::vector<Tensor>& weights, int64_t precision,
                                       int64_t library);
// Gives the gradients of both products, the h before each step, and the gradients of h0 and c0.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> rnn_backward(
    int64_t mode, const Tensor& dout, const Tensor& out, const Tensor& gates, const Tensor& cells,
    bool batch_first, const std::optional<Tensor>& lengths, const std::optional<Tensor>& h0,
    const std::optional<Tensor>& c0, const std::vector<Tensor>& weights, int64_t precision);

// index
Tensor index_select(const Tensor& x, const Tensor& index);
// The same on another stream of x's device, which must not run before x and index are there.
Tensor index_select_on(Stream& stream, const Tensor& x, const Tensor& index);
Tensor index_add(const Shape& shape, const Tensor& index, const Tensor& src);

// gather: an index of x's rank along one axis
Tensor gather(const Tensor& x, int64_t axis, const Tensor& index);
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src);
Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src);
Tensor nonzero(const Tensor& x);  // waits for the device

// optim
using TensorList = std::vector<Tensor>;
// `rule` and `options` are the codes of families/optim.h; states that the rule lacks are empty.
// Where the flag `found` is set, nothing changes.
void update_parameters(int64_t rule, const TensorList& params, const TensorList& grads,
                       const TensorList& first, const TensorList& second, const TensorList& third,
                       const TensorList& masters, const Tensor& hyper, int64_t options,
                       const std::optional<Tensor>& found);
Tensor total_norm(const TensorList& grads, double p);
void scale_gradients(const TensorList& grads, const Tensor& norm, double limit);
void clamp_gradients(const TensorList& grads, double limit);

// scaler
void unscale_gradients(const TensorList& grads, const Tensor& scale, const Tensor& found);
void update_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found, double growth,
                  double backoff, int64_t interval);

// Shared by the families.
DType promote(DType a, DType b);
View broadcast_view(const View& x, const int64_t* shape, int rank);
Tensor as_dtype(const Tensor& x, DType dtype);    // x itself where it has the dtype
std::pair<double, double> range_of(DType dtype);  // of an integer dtype, ends included
bool holds(DType dtype, double value);            // whether a whole number is in that range
Scalar scalar_of(double value);
// Indices or classes as int64; other dtypes than integers are refused.
Tensor as_index(const char* op, const char* what, const Tensor& x);
void check_same_device(const char* op, const Tensor& a, const Tensor& b);
int normal_axis(const char* op, int64_t axis, int rank);

}  // namespace nodegrad::ops
