#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr int64_t kLargest = int64_t{1} << 31;  // of a stride, a padding or a dilation

// Geometry as it comes from JavaScript.
enum Geometry : size_t {
  kStrideH,
  kStrideW,
  kTop,
  kLeft,
  kBottom,
  kRight,
  kDilationH,
  kDilationW,
  kGroups,
  kPrecision,
  kGeometry,
};

void check_geometry(const char* op, const Shape& g) {
  bool legal = g.size() == kGeometry;
  for (size_t i = 0; legal && i < g.size(); ++i) {
    // Padding behind the last element may be negative: elements that no window reaches.
    const bool natural = i == kTop || i == kLeft || i == kPrecision;
    const int64_t least = i == kBottom || i == kRight ? -kLargest : natural ? 0 : 1;
    legal = g[i] >= least && g[i] < kLargest;
  }
  if (!legal)
    fail("%s: strides, paddings, dilations and groups must be whole numbers in range", op);
}

void check_operands(const char* op, const Tensor& x, const Tensor& w) {
  check_same_device(op, x, w);
  if (x.dtype() != w.dtype() || !is_float(x.dtype())) {
    fail("%s: needs two tensors of one floating dtype, got %s and %s", op, dtype_name(x.dtype()),
         dtype_name(w.dtype()));
  }
  if (x.rank() != 4 || w.rank() != 4) {
    fail("%s: needs an input and a weight of rank 4, got %s and %s", op, shape_text(x.view).c_str(),
         shape_text(w.view).c_str());
  }
  if (w.size(2) == 0 || w.size(3) == 0) {
    fail("%s: the kernel must not be empty, got the weight %s", op, shape_text(w.view).c_str());
  }
}

const void* bias_of(const char* op, const Tensor& x, const std::optional<Tensor>& bias,
                    int64_t channels, std::optional<Tensor>& kept) {
  if (!bias) return nullptr;
  check_same_device(op, x, *bias);
  if (bias->dtype() != x.dtype() || bias->rank() != 1 || bias->size(0) != channels) {
    fail("%s: the bias must be %s[%lld], got %s%s", op, dtype_name(x.dtype()),
         static_cast<long long>(channels), dtype_name(bias->dtype()),
         shape_text(bias->view).c_str());
  }
  kept = contiguous(*bias);
  return kept->view.data;
}

// Of a convolution from an image [n,c,h,w] with a weight [o,c/groups,kh,kw].
ConvShape shape_of(const Shape& image, const Tensor& w, const Shape& g, int64_t oh, int64_t ow,
                   bool channels_last) {
  ConvShape s{};
  s.n = image[0];
  s.c = image[1];
  s.h = image[2];
  s.w = image[3];
  s.o = w.size(0);
  s.kh = w.size(2);
  s.kw = w.size(3);
  s.oh = oh;
  s.ow = ow;
  s.groups = g[kGroups];
  s.stride_h = g[kStrideH];
  s.stride_w = g[kStrideW];
  s.pad_h = g[kTop];
  s.pad_w = g[kLeft];
  s.dilation_h = g[kDilationH];
  s.dilation_w = g[kDilationW];
  s.dtype = w.dtype();
  s.channels_last = channels_last;
  s.precision = static_cast<Precision>(g[kPrecision]);
  return s;
}

// How many positions a kernel has along an axis.
int64_t positions(const char* op, int64_t size, int64_t kernel, int64_t before, int64_t after,
                  int64_t stride, int64_t dilation) {
  const int64_t padded = size + before + after, reach = dilation * (kernel - 1) + 1;
  if (kernel >= kLargest || padded < reach) {
    fail("%s: the kernel must fit into the padded input, got %lld taps over %lld in %lld", op,
         static_cast<long long>(kernel), static_cast<long long>(reach),
         static_cast<long long>(padded));
  }
  return (padded - reach) / stride + 1;
}

ConvShape forward_shape(const char* op, const Tensor& x, const Tensor& w, const Shape& g,
                        bool channels_last) {
  const int64_t groups = g[kGroups];
  if (x.size(1) != w.size(1) * groups || w.size(0) % groups != 0) {
    fail("%s: channels must match the weight's and divide by the groups, got %s, %s and %lld", op,
         shape_text(x.view).c_str(), shape_text(w.view).c_str(), static_cast<long long>(groups));
  }
  const int64_t oh =
      positions(op, x.size(2), w.size(2), g[kTop], g[kBottom], g[kStrideH], g[kDilationH]);
  const int64_t ow =
      positions(op, x.size(3), w.size(3), g[kLeft], g[kRight], g[kStrideW], g[kDilationW]);
  return shape_of(x.shape(), w, g, oh, ow, channels_last);
}

void check_gradient(const char* op, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  if (dy.rank() != 4 || dy.shape() != Shape{s.n, s.o, s.oh, s.ow} || dy.dtype() != x.dtype()) {
    fail("%s: the gradient must be %s[%lld,%lld,%lld,%lld], got %s%s", op, dtype_name(x.dtype()),
         static_cast<long long>(s.n), static_cast<long long>(s.o), static_cast<long long>(s.oh),
         static_cast<long long>(s.ow), dtype_name(dy.dtype()), shape_text(dy.view).c_str());
  }
}

}  // namespace

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const Shape& geometry, bool relu) {
  check_geometry("conv2d", geometry);
  check_operands("conv2d", input, weight);
  const ConvShape s = forward_shape("conv2d", input, weight, geometry, input.channels_last());
  std::optional<Tensor> kept;
  const void* added = bias_of("conv2d", input, bias, s.o, kept);
  Tensor y =
      empty_images(input.device(), {s.n, s.o, s.oh, s.ow}, s.dtype, s.channels_last, "conv2d");
  if (y.elements() == 0) return y;
  const Tensor x = ordered(input, s.channels_last), w = contiguous(weight);
  x.backend().conv->forward(x.stream(), s, x.view.data, w.view.data, added, y.view.data, relu);
  return y;
}

std::tuple<Tensor, Tensor> conv2d_max_pool(const Tensor& input, const Tensor& weight,
                                           const std::optional<Tensor>& bias,
                                           const Shape& geometry) {
  check_geometry("conv2d", geometry);
  check_operands("conv2d", input, weight);
  const bool last = input.channels_last();
  const ConvShape s = forward_shape("conv2d", input, weight, geometry, last);
  if (s.oh < 2 || s.ow < 2) {
    fail("conv2d: maxima of 2 by 2 need as large a result, got [%lld,%lld]",
         static_cast<long long>(s.oh), static_cast<long long>(s.ow));
  }
  const Shape pooled = {s.n, s.o, s.oh / 2, s.ow / 2};
  const auto forward = input.backend().conv->forward_pooled;
  if (forward && s.n > 0 && s.o > 0) {
    std::optional<Tensor> kept;
    const void* added = bias_of("conv2d", input, bias, s.o, kept);
    Tensor y = empty_images(input.device(), pooled, s.dtype, last, "conv2d");
    Tensor index = empty_images(input.device(), pooled, DType::int32, last, "conv2d");
    const Tensor x = ordered(input, last), w = contiguous(weight);
    if (forward(x.stream(), s, x.view.data, w.view.data, added, y.view.data,
                static_cast<int32_t*>(index.view.data))) {
      return {y, index};
    }
  }
  const Shape window = {2, 2, 2, 2, 0, 0, 1, 1, pooled[2], pooled[3]};
  return max_pool2d(conv2d(input, weight, bias, geometry, false), window, false, true);
}

Tensor conv2d_data_backward(const Tensor& gradient, const Tensor& weight, const Shape& image,
                            const Shape& geometry) {
  check_geometry("conv2d", geometry);
  check_operands("conv2d", gradient, weight);
  if (image.size() != 4) {
    fail("conv2d: the input must have rank 4, got %s", shape_text(image).c_str());
  }
  const bool last = gradient.channels_last();
  Tensor dx = empty_images(gradient.device(), image, gradient.dtype(), last, "conv2d");
  const ConvShape s = forward_shape("conv2d", dx, weight, geometry, last);
  check_gradient("conv2d", gradient, weight, s);
  if (dx.elements() == 0) return dx;
  const Tensor dy = ordered(gradient, last), w = contiguous(weight);
  dy.backend().conv->backward_data(dy.stream(), s, dy.view.data, w.view.data, nullptr, dx.view.data,
                                   false);
  return dx;
}

Tensor conv2d_weight_backward(const Tensor& input, const Tensor& gradient, const Shape& shape,
                              const Shape& geometry) {
  check_geometry("conv2d", geometry);
  Tensor dw = empty(input.device(), shape, input.dtype(), "conv2d");
  check_operands("conv2d", input, dw);
  check_same_device("conv2d", input, gradient);
  const ConvShape s = forward_shape("conv2d", input, dw, geometry, input.channels_last());
  check_gradient("conv2d", gradient, input, s);
  if (dw.elements() == 0) return dw;
  const Tensor x = ordered(input, s.channels_last), dy = ordered(gradient, s.channels_last);
  x.backend().conv->backward_weight(x.stream(), s, x.view.data, dy.view.data, dw.view.data);
  return dw;
}

Tensor conv_transpose2d(const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, const Shape& geometry) {
  constexpr const char* op = "convTranspose2d";
  check_geometry(op, geometry);
  check_operands(op, input, weight);
  const Shape& g = geometry;
  const int64_t groups = g[kGroups];
  if (input.size(1) != weight.size(0) || weight.size(0) % groups != 0) {
    fail("%s: channels must match the weight's and divide by the groups, got %s, %s and %lld", op,
         shape_text(input.view).c_str(), shape_text(weight.view).c_str(),
         static_cast<long long>(groups));
  }
  const auto length = [&](int axis, size_t stride, size_t before, size_t after, size_t dilation) {
    const int64_t size = (input.size(axis) - 1) * g[stride] - g[before] - g[after] +
                         g[dilation] * (weight.size(axis) - 1) + 1;
    if (input.size(axis) == 0 || weight.size(axis) >= kLargest || size <= 0) {
      fail("%s: paddings must leave an output, got %s and the weight %s", op,
           shape_text(input.view).c_str(), shape_text(weight.view).c_str());
    }
    return size;
  };
  const Shape out = {input.size(0), weight.size(1) * groups,
                     length(2, kStrideH, kTop, kBottom, kDilationH),
                     length(3, kStrideW, kLeft, kRight, kDilationW)};
  std::optional<Tensor> kept;
  const void* added = bias_of(op, input, bias, out[1], kept);
  const bool last = input.channels_last();
  Tensor y = empty_images(input.device(), out, input.dtype(), last, op);
  if (y.elements() == 0) return y;
  const Tensor x = ordered(input, last), w = contiguous(weight);
  const ConvShape s = shape_of(out, w, g, x.size(2), x.size(3), last);
  x.backend().conv->backward_data(x.stream(), s, x.view.data, w.view.data, added, y.view.data,
                                  false);
  return y;
}

}  // namespace nodegrad::ops
