// Gradients of a convolution's weight come as sums per part of the images, output channels side by
// side: [part][group][row][stride]. They are added in order and turned over.
#pragma once

#include "cpu/conv_product.h"
#include "cpu/convert.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct WeightParts {
  const void* sums;
  void* dw;  // [groups][outputs][channels][taps]
  int64_t parts, groups, outputs, channels, taps, stride;
  bool taps_first;  // a row is (tap, channel), not (channel, tap)
};

template <class T, class S>
void add_parts_kernel(const void* args, int64_t chunk) {
  const WeightParts& p = *static_cast<const WeightParts*>(args);
  const int64_t c = chunk % p.channels, group = chunk / p.channels, rows = p.channels * p.taps;
  S* const dw = static_cast<S*>(p.dw) + group * p.outputs * rows + c * p.taps;
  alignas(64) T total[kColumns<T>];
  for (int64_t tap = 0; tap < p.taps; ++tap) {
    const int64_t row = p.taps_first ? tap * p.channels + c : c * p.taps + tap;
    for (int64_t j = 0; j < p.stride; j += kLanes<T>) {
      Vector<T> sum = {};
      for (int64_t part = 0; part < p.parts; ++part) {
        sum += load(static_cast<const T*>(p.sums) +
                    ((part * p.groups + group) * rows + row) * p.stride + j);
      }
      store(total, sum);
      for (int64_t i = 0; i < smaller(kLanes<T>, p.outputs - j); ++i) {
        dw[(j + i) * rows + tap] = Stored<S>::store(total[i]);
      }
    }
  }
}

template <class T, class S>
void add_parts(Stream& stream, const WeightParts& p) {
  launch(stream, "conv_parts", add_parts_kernel<T, S>, &p, sizeof p, p.groups * p.channels);
}

}  // namespace
}  // namespace nodegrad::cpu::NODEGRAD_ISA
