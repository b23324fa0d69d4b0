// What the convolutions on warpgroups share (conv_wgmma.cu, conv_wgmma_weight.cu): images as the
// windows that tensor copies in im2col mode walk over.
#pragma once

#include "conv_mma.h"
#include "wgmma_pipeline.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// The start of the first window, and what lies between neighbours; tap a is at offset
// first + a·step of each.
struct WindowAxis {
  int32_t start, stride;
  int32_t first, step;
};

// Where a window starts.
struct WindowStart {
  int32_t image, y, x;
};

__device__ __forceinline__ WindowStart window_start(int32_t place, const Divider& positions,
                                                    const Divider& row, const WindowAxis& down,
                                                    const WindowAxis& across) {
  const ConvIndex at = split_index(place, positions, row, true);
  return {static_cast<int32_t>(at.outer), down.start + at.high * down.stride,
          across.start + at.low * across.stride};
}

// An axis of an image of `size` elements, as `positions` places of C see it.
struct AxisView {
  WindowAxis axis;
  int64_t size, positions, reach;  // reach: from a window's first element to its last
  int64_t upper() const { return axis.start + (positions - 1) * axis.stride - (size - 1); }
  // What tensor maps of four dimensions can say.
  bool fits() const {
    const auto corner = [](int64_t x) { return x >= -128 && x <= 127; };
    return corner(axis.start) && corner(upper()) && axis.stride <= 8 && reach <= 255;
  }
};

inline AxisView view_axis(ConvMode mode, int64_t size, int64_t positions, int64_t taps,
                          int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t reach = (taps - 1) * dilation;
  const auto axis = [](int64_t start, int64_t between, int64_t first, int64_t step) {
    return WindowAxis{static_cast<int32_t>(start), static_cast<int32_t>(between),
                      static_cast<int32_t>(first), static_cast<int32_t>(step)};
  };
  return {mode == ConvMode::data ? axis(pad - reach, 1, reach, -dilation)
                                 : axis(-pad, stride, 0, dilation),
          size, positions, reach};
}

// The problem as the kernels take it, whatever its mode.
struct Windows {
  AxisView down, across;
  int64_t images, channels, all_channels, out_channels;
  int64_t item;
  // Bytes of the lines of channels that copies bring: 64 where they end in the half of one of 128.
  int64_t line() const { return divide_up(channels * item, 64) % 2 == 0 ? kLine : kLine / 2; }
  int64_t lines() const { return divide_up(channels * item, line()); }
  // Whether most of the lines is no padding.
  bool fills_lines() const { return 2 * channels * item > lines() * line(); }
};

inline Windows windows_of(ConvMode mode, const ConvProblem& p) {
  const ConvShape& s = p.s;
  const bool data = mode == ConvMode::data;
  Windows w = {};
  w.down = view_axis(mode, data ? s.oh : s.h, p.plane_h, s.kh, s.stride_h, s.pad_h, s.dilation_h);
  w.across = view_axis(mode, data ? s.ow : s.w, p.plane_w, s.kw, s.stride_w, s.pad_w, s.dilation_w);
  w.images = s.n;
  w.channels = conv_channels(mode, p);
  w.all_channels = w.channels * s.groups;
  w.out_channels = p.rows * s.groups;
  w.item = static_cast<int64_t>(item_size(s.dtype));
  return w;
}

inline bool encode_image(CUtensorMap* map, const Windows& w, const void* data, int tile_k,
                         int tile_m) {
  TensorWindows t{};
  t.data = data;
  t.item = static_cast<uint8_t>(w.item);
  t.to_tf32 = w.item == 4;
  const int64_t sizes[4] = {w.all_channels, w.across.size, w.down.size, w.images};
  int64_t stride = w.item;
  for (int i = 0; i < 4; ++i) {
    t.sizes[i] = static_cast<uint64_t>(sizes[i]);
    stride *= sizes[i];
    if (i < 3) t.strides[i] = static_cast<uint64_t>(stride);
  }
  const AxisView* const axes[2] = {&w.across, &w.down};
  for (int i = 0; i < 2; ++i) {
    t.lower[i] = axes[i]->axis.start;
    t.upper[i] = static_cast<int>(axes[i]->upper());
    t.steps[i] = static_cast<uint32_t>(axes[i]->axis.stride);
  }
  t.channels = static_cast<uint32_t>(tile_k);
  t.windows = static_cast<uint32_t>(tile_m);
  return encode_tensor_map(map, t);
}

// Whether tensor maps can describe the image.
inline bool describable(const Windows& w, const void* data) {
  return w.channels * w.item % 16 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
         w.down.fits() && w.across.fits();
}

// The weight gradient (conv_wgmma_weight.cu), for launch_conv_wgmma; `plan` null: chosen.
bool launch_conv_wgmma_weight(Stream& stream, const ConvProblem& p, const WgmmaPlan* plan);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
