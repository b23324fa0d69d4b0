// Every op by its JavaScript name. lib/native.ts types the same names, and a test compares both.
#include "addon/convert.h"
#include "ops/ops.h"

namespace nodegrad {

namespace {

constexpr bool any = false;
constexpr bool floating = true;

std::string camel_case(const char* name) {
  std::string text;
  bool upper = false;
  for (const char* c = name; *c; ++c) {
    if (*c == '_') {
      upper = true;
    } else {
      text += upper ? static_cast<char>(*c - 'a' + 'A') : *c;
      upper = false;
    }
  }
  return text;
}

// Names derived from the elementwise lists live as long as the process.
const char* js_name(const char* name, const char* suffix = "") {
  return (new std::string(camel_case(name) + suffix))->c_str();
}

}  // namespace

void register_ops(Registry& registry) {
  // The name of an elementwise op, for its errors, is the one it is registered under.
#define NODEGRAD_REGISTER(op, kind, saved, f, df)                             \
  registry.add(                                                               \
      js_name(#op), +[](const Tensor& x) {                                    \
        static const char* const name = js_name(#op);                         \
        return ops::unary(UnaryOp::op, name, kind, x);                        \
      });                                                                     \
  registry.add(                                                               \
      js_name(#op, "Backward"), +[](const Tensor& kept, const Tensor& dout) { \
        static const char* const name = js_name(#op);                         \
        return ops::unary_backward(UnaryOp::op, name, kept, dout);            \
      });
  NODEGRAD_UNARY_OPS(NODEGRAD_REGISTER)
#undef NODEGRAD_REGISTER
#define NODEGRAD_REGISTER(op, f)                           \
  registry.add(                                            \
      js_name(#op), +[](const Tensor& x) {                 \
        static const char* const name = js_name(#op);      \
        return ops::unary_predicate(UnaryOp::op, name, x); \
      });
  NODEGRAD_UNARY_PREDICATES(NODEGRAD_REGISTER)
#undef NODEGRAD_REGISTER
#define NODEGRAD_REGISTER_BINARY(op, kind, predicate)                                        \
  registry.add(                                                                              \
      js_name(#op), +[](const Tensor& a, const Tensor& b) {                                  \
        static const char* const name = js_name(#op);                                        \
        return ops::binary(BinaryOp::op, name, kind, predicate, a, b);                       \
      });                                                                                    \
  registry.add(                                                                              \
      js_name(#op, "Scalar"),                                                                \
      +[](const Tensor& a, double scalar, bool reversed) {                                   \
        static const char* const name = js_name(#op);                                        \
        return ops::binary_scalar(BinaryOp::op, name, kind, predicate, a, scalar, reversed); \
      },                                                                                     \
      js_name(#op));
#define NODEGRAD_REGISTER(op, kind, f) NODEGRAD_REGISTER_BINARY(op, kind, false)
  NODEGRAD_BINARY_OPS(NODEGRAD_REGISTER)
#undef NODEGRAD_REGISTER
#define NODEGRAD_REGISTER(op, f) NODEGRAD_REGISTER_BINARY(op, any, true)
  NODEGRAD_BINARY_PREDICATES(NODEGRAD_REGISTER)
#undef NODEGRAD_REGISTER
#undef NODEGRAD_REGISTER_BINARY

  registry.add("where", ops::where);
  registry.add("addInto", ops::add_into);
  registry.add("scaleInto", ops::scale_into);

  registry.add(
      "full", +[](Device& device, const Shape& shape, double value, DType dtype) {
        return ops::full(device, shape, value, dtype, "full");
      });
  registry.add(
      "scalar", +[](Device& device, double value, DType dtype, const std::string& op) {
        return ops::full(device, {}, value, dtype, op);
      });
  registry.add("arange", ops::arange);
  registry.add("fillInto", ops::fill_into);

  registry.add("uniform", ops::uniform);
  registry.add("normal", ops::normal);
  registry.add("bernoulli", ops::bernoulli);

  registry.add("randperm", ops::randperm);
  registry.add("multinomial", ops::multinomial);
  registry.add("bernoulliEach", ops::bernoulli_each, "bernoulli");
  registry.add("truncatedNormal", ops::truncated_normal);

  registry.add("cast", ops::cast);
  registry.add("contiguous", ops::contiguous);
  registry.add("clone", ops::clone);
  registry.add("copyInto", ops::copy_into);
  registry.add("toDevice", ops::to_device);

  registry.add("reshape", ops::reshape);
  registry.add("permute", ops::permute);
  registry.add("expand", ops::expand);
  registry.add("slice", ops::slice);
  registry.add("select", ops::select);
  registry.add("alias", ops::alias);
  registry.add("diagonal", ops::diagonal);
  registry.add("diagEmbed", ops::diag_embed);

#define NODEGRAD_REGISTER(name)                                    \
  registry.add(                                                    \
      name, +[](const Tensor& x, const Shape& spec, double fill) { \
        return ops::remap(name, x, spec, fill);                    \
      });
  NODEGRAD_REGISTER("pad")
  NODEGRAD_REGISTER("flip")
  NODEGRAD_REGISTER("roll")
  NODEGRAD_REGISTER("tile")
  NODEGRAD_REGISTER("repeatInterleave")
#undef NODEGRAD_REGISTER
  registry.add("fold", ops::fold);
  registry.add("cat", ops::cat);
  registry.add("tril", ops::tril);
  registry.add("triu", ops::triu);

  registry.add("sum", ops::sum);
  registry.add("mean", ops::mean);
  registry.add("max", ops::max);
  registry.add("min", ops::min);
  registry.add("prod", ops::prod);
  registry.add("sumInto", ops::sum_into);
  registry.add("argmax", ops::argmax);
  registry.add("argmin", ops::argmin);

  registry.add("variance", ops::variance);

  registry.add("cumsum", ops::cumsum);
  registry.add("cumprod", ops::cumprod);

  registry.add("sort", ops::sort);
  registry.add("sortPlace", ops::sort_place);

  registry.add("matmul", ops::matmul);
  registry.add("linear", ops::linear);
  registry.add("matmulInto", ops::matmul_into);
  registry.add("linearGradients", ops::linear_gradients);
  registry.add("linearGradientsInto", ops::linear_gradients_into);

  registry.add("conv2d", ops::conv2d);
  registry.add("conv2dMaxPool", ops::conv2d_max_pool);
  registry.add("conv2dDataBackward", ops::conv2d_data_backward);
  registry.add("conv2dWeightBackward", ops::conv2d_weight_backward);
  registry.add("convTranspose2d", ops::conv_transpose2d);

  registry.add("maxPool2d", ops::max_pool2d);
  registry.add("maxPool2dBackward", ops::max_pool2d_backward);
  registry.add("avgPool2d", ops::avg_pool2d);
  registry.add("avgPool2dBackward", ops::avg_pool2d_backward);

  registry.add("softmax", ops::softmax);
  registry.add("softmaxBackward", ops::softmax_backward);
  registry.add("crossEntropy", ops::cross_entropy);
  registry.add("crossEntropyBackward", ops::cross_entropy_backward);
  registry.add("softCrossEntropy", ops::soft_cross_entropy);
  registry.add("softCrossEntropyBackward", ops::soft_cross_entropy_backward);

  registry.add("pointwiseLoss", ops::pointwise_loss);
  registry.add("pointwiseLossBackward", ops::pointwise_loss_backward);
  registry.add("nllLoss", ops::nll_loss);
  registry.add("nllLossBackward", ops::nll_loss_backward);

  registry.add("layerNorm", ops::layer_norm);
  registry.add("layerNormBackward", ops::layer_norm_backward);
  registry.add("rmsNorm", ops::rms_norm);
  registry.add("rmsNormBackward", ops::rms_norm_backward);
  registry.add("groupNorm", ops::group_norm);
  registry.add("groupNormBackward", ops::group_norm_backward);
  registry.add("batchNorm", ops::batch_norm);
  registry.add("batchNormBackward", ops::batch_norm_backward);

  registry.add("dropout", ops::dropout);
  registry.add("dropoutBackward", ops::dropout_backward);

  registry.add("rotary", ops::rotary);

  registry.add("embedding", ops::embedding);
  registry.add("embeddingBackward", ops::embedding_backward);
  registry.add("embeddingBackwardInto", ops::embedding_backward_into);
  registry.add("scaledDotProductAttention", ops::attention);
  registry.add("attentionBackward", ops::attention_backward, "scaledDotProductAttention");
  registry.add("attentionBackwardPacked", ops::attention_backward_packed,
               "scaledDotProductAttention");
  registry.add("reserveDraws", ops::reserve_draws);
  registry.add("rnn", ops::rnn);
  registry.add("rnnBackward", ops::rnn_backward);

  registry.add("indexSelect", ops::index_select);
  registry.add("indexAdd", ops::index_add);

  registry.add("gather", ops::gather);
  registry.add("scatter", ops::scatter);
  registry.add("scatterAdd", ops::scatter_add);
  registry.add("nonzero", ops::nonzero);

  registry.add("updateParameters", ops::update_parameters);
  registry.add("totalNorm", ops::total_norm);
  registry.add("scaleGradients", ops::scale_gradients);
  registry.add("clampGradients", ops::clamp_gradients);

  registry.add("unscaleGradients", ops::unscale_gradients);
  registry.add("updateScale", ops::update_scale);
}

}  // namespace nodegrad
