#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad::ops {

Tensor cast(const Tensor& x, DType dtype) {
  Tensor out = empty_like(x, dtype, "cast");
  x.backend().copy->copy(x.stream(), x.view, out.view);
  return out;
}

Tensor as_dtype(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : cast(x, dtype); }

Tensor contiguous(const Tensor& x) { return x.contiguous() ? x : clone(x); }

Tensor ordered(const Tensor& x, bool channels_last) {
  if (!channels_last) return contiguous(x);
  if (is_contiguous(channels_to_end(x.view))) return x;
  Tensor out = empty_images(x.device(), x.shape(), x.dtype(), true, "copy");
  x.backend().copy->copy(x.stream(), channels_to_end(x.view), channels_to_end(out.view));
  return out;
}

Tensor clone(const Tensor& x) { return cast(x, x.dtype()); }

void copy_into(const Tensor& out, const Tensor& x) {
  check_same_device("copy", out, x);
  for (int i = 0; i < out.rank(); ++i) {
    if (out.view.strides[i] == 0 && out.size(i) > 1 && out.elements() > 0) {
      fail("copy: an expanded tensor cannot be written to, got shape %s",
           shape_text(out.view).c_str());
    }
  }
  // Another view of the same memory is read before it is written.
  const Tensor values = x.storage.get() == out.storage.get() ? clone(x) : x;
  const View source = broadcast_view(values.view, out.view.shape, out.rank());
  if (source.rank < 0) {
    fail("copy: shape %s does not broadcast to %s", shape_text(x.view).c_str(),
         shape_text(out.view).c_str());
  }
  out.backend().copy->copy(out.stream(), source, out.view);
}

Tensor to_device(const Tensor& x, Device& device) {
  if (&x.device() == &device) return x;
  const Tensor source = contiguous(x);
  Tensor out = empty(device, source.view.shape, source.rank(), x.dtype(), "to");
  if (source.bytes() == 0) return out;
  // By way of host memory: one side's pointer is a host pointer already where it is the CPU.
  if (x.device().type() == DeviceType::cpu) {
    x.stream().synchronize();
    device.stream().copy_from_host(out.view.data, source.view.data, source.bytes());
  } else if (device.type() == DeviceType::cpu) {
    device.stream().synchronize();
    x.stream().copy_to_host(out.view.data, source.view.data, source.bytes());
  } else {
    std::vector<char> staged(source.bytes());
    x.stream().copy_to_host(staged.data(), source.view.data, staged.size());
    device.stream().copy_from_host(out.view.data, staged.data(), staged.size());
  }
  return out;
}

}  // namespace nodegrad::ops
