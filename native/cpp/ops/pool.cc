#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

namespace {

constexpr int64_t kLargest = int64_t{1} << 31;

// A window as it comes from JavaScript; an adaptive one has output sizes alone.
enum Window : size_t {
  kKernelH,
  kKernelW,
  kStrideH,
  kStrideW,
  kPadH,
  kPadW,
  kDilationH,
  kDilationW,
  kOutH,
  kOutW,
  kWindow,
};

PoolShape shape_of(const char* op, const Shape& image, DType dtype, const Shape& window,
                   bool adaptive, bool count_pad, bool channels_last) {
  if (!is_float(dtype)) fail("%s: needs a floating dtype, got %s", op, dtype_name(dtype));
  if (image.size() != 4) {
    fail("%s: needs an input of rank 4, got %s", op, shape_text(image).c_str());
  }
  bool legal = window.size() == kWindow;
  for (size_t i = 0; legal && i < kWindow; ++i) {
    const bool may_be_zero = i == kPadH || i == kPadW || (adaptive && i >= kOutH);
    legal = window[i] >= (may_be_zero ? 0 : 1) && window[i] < kLargest;
  }
  if (!legal) fail("%s: windows and outputs must be whole numbers in range", op);
  const auto axis = [&](size_t at, size_t i) {
    const PoolAxis a = {
        image[at],         window[kOutH + i],     window[kKernelH + i], window[kStrideH + i],
        window[kPadH + i], window[kDilationH + i]};
    // Every window must have an element of the image, or it would have no maximum.
    const int64_t reach = a.dilation * (a.kernel - 1) + 1;
    const bool fits = adaptive ? a.size > 0 || a.out == 0
                               : 2 * a.pad <= a.kernel && a.size > 0 &&
                                     (a.out - 1) * a.stride < a.size + a.pad &&
                                     a.size + 2 * a.pad >= reach;
    if (!fits) {
      fail("%s: windows must lie in the padded input and have an element of it, got the input %s",
           op, shape_text(image).c_str());
    }
    return a;
  };
  PoolShape s{};
  s.planes = channels_last ? image[0] : image[0] * image[1];
  s.inner = channels_last ? image[1] : 1;
  s.h = axis(2, 0);
  s.w = axis(3, 1);
  s.adaptive = adaptive;
  s.count_pad = count_pad;
  s.dtype = dtype;
  if (s.h.size >= kLargest / (s.w.size > 0 ? s.w.size : 1)) {
    fail("%s: a plane must have less than 2^31 elements, got %s", op, shape_text(image).c_str());
  }
  return s;
}

Shape output(const Shape& image, const PoolShape& s) {
  return {image[0], image[1], s.h.out, s.w.out};
}

void check_gradient(const char* op, const Tensor& dy, const Shape& image, const PoolShape& s) {
  if (dy.shape() != output(image, s)) {
    fail("%s: the gradient must have the output's shape, got %s", op, shape_text(dy.view).c_str());
  }
}

}  // namespace

std::tuple<Tensor, Tensor> max_pool2d(const Tensor& input, const Shape& window, bool adaptive,
                                      bool relu) {
  const Shape image = input.shape();
  const bool last = input.channels_last();
  PoolShape s = shape_of("maxPool2d", image, input.dtype(), window, adaptive, false, last);
  s.relu = relu;
  Tensor y = empty_images(input.device(), output(image, s), s.dtype, last, "maxPool2d");
  Tensor index = empty_images(input.device(), output(image, s), DType::int32, last, "maxPool2d");
  if (y.elements() > 0) {
    const Tensor x = ordered(input, last);
    x.backend().pool->max_forward(x.stream(), s, x.view.data, y.view.data,
                                  static_cast<int32_t*>(index.view.data));
  }
  return {y, index};
}

Tensor max_pool2d_backward(const Tensor& gradient, const Tensor& index, const Shape& image,
                           const Shape& window, bool adaptive) {
  const bool last = index.channels_last();
  const PoolShape s = shape_of("maxPool2d", image, gradient.dtype(), window, adaptive, false, last);
  check_same_device("maxPool2d", gradient, index);
  check_gradient("maxPool2d", gradient, image, s);
  if (index.dtype() != DType::int32 || index.shape() != gradient.shape() ||
      !(last || index.contiguous())) {
    fail("maxPool2d: the indices must be those of the forward pass, got %s%s",
         dtype_name(index.dtype()), shape_text(index.view).c_str());
  }
  Tensor dx = empty_images(gradient.device(), image, s.dtype, last, "maxPool2d");
  if (dx.elements() == 0) return dx;
  const Tensor dy = ordered(gradient, last);
  dy.backend().pool->max_backward(dy.stream(), s, dy.view.data,
                                  static_cast<const int32_t*>(index.view.data), dx.view.data);
  return dx;
}

Tensor avg_pool2d(const Tensor& input, const Shape& window, bool adaptive, bool count_pad) {
  const Shape image = input.shape();
  const bool last = input.channels_last();
  const PoolShape s =
      shape_of("avgPool2d", image, input.dtype(), window, adaptive, count_pad, last);
  Tensor y = empty_images(input.device(), output(image, s), s.dtype, last, "avgPool2d");
  if (y.elements() == 0) return y;
  const Tensor x = ordered(input, last);
  x.backend().pool->average_forward(x.stream(), s, x.view.data, y.view.data);
  return y;
}

Tensor avg_pool2d_backward(const Tensor& gradient, const Shape& image, const Shape& window,
                           bool adaptive, bool count_pad) {
  const bool last = gradient.channels_last();
  const PoolShape s =
      shape_of("avgPool2d", image, gradient.dtype(), window, adaptive, count_pad, last);
  check_gradient("avgPool2d", gradient, image, s);
  Tensor dx = empty_images(gradient.device(), image, s.dtype, last, "avgPool2d");
  if (dx.elements() == 0) return dx;
  const Tensor dy = ordered(gradient, last);
  dy.backend().pool->average_backward(dy.stream(), s, dy.view.data, dx.view.data);
  return dx;
}

}  // namespace nodegrad::ops
