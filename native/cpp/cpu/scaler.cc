// Gradient scaling: x ← x·(1/scale) over many tensors a launch (multi_tensor.h), with a flag for
// what is not finite; and the update of the scale. 16-bit gradients compute in float32; what counts
// as finite is the value as it is stored. Cost: unscale N·size bytes read + written:
// bandwidth-bound.
#include "core/backend.h"
#include "cpu/multi_tensor.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

template <class T>
bool is_finite(T x) {
  return x - x == T(0);
}

// x ← x·factor; whether all of it is finite then.
template <class T>
bool multiply(T* x, T factor, int64_t n) {
  int32_t strange = 0;
  for (int64_t i = 0; i < n; ++i) {
    x[i] *= factor;
    strange |= !is_finite(x[i]);
  }
  return strange == 0;
}

template <class T>
void unscale_kernel(const void* raw, int64_t chunk) {
  const ListArgs& a = *static_cast<const ListArgs*>(raw);
  const T inverse = T(1) / static_cast<T>(*a.scale);
  bool finite = true;
  change_in_place<T>(a, chunk, [&](T* values, int64_t n) {
    finite &= multiply(values, inverse, n);
    if (!a.store) return;
    alignas(64) unsigned char bits[kBlock * 2];
    a.store(values, bits, n);
    a.load(bits, 1, values, n);
    finite &= multiply(values, T(1), n);
  });
  if (!finite) __atomic_store_n(a.found, 1, __ATOMIC_RELAXED);
}

void unscale(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& scale,
             const View& found) {
  ListArgs args = list_args(dtype);
  args.scale = static_cast<const float*>(scale.data);
  args.found = static_cast<int32_t*>(found.data);
  const Kernel kernel = dtype == DType::float64 ? unscale_kernel<double> : unscale_kernel<float>;
  for_lists(args, tensors, count, [&](int64_t chunks) {
    launch(stream, "unscale", kernel, &args, bytes_of(args), chunks);
  });
}

struct ScaleArgs {
  float* scale;
  int32_t* tracker;
  const int32_t* found;
  ScaleRule rule;
};

void update_kernel(const void* raw, int64_t) {
  const ScaleArgs& a = *static_cast<const ScaleArgs*>(raw);
  const bool skipped = *a.found != 0;
  const int32_t good = skipped ? 0 : *a.tracker + 1;
  const bool due = good == a.rule.interval;
  const double factor = skipped ? a.rule.backoff : due ? a.rule.growth : 1.0;
  const float next = static_cast<float>(static_cast<double>(*a.scale) * factor);
  if (skipped || is_finite(next)) *a.scale = next;
  *a.tracker = due ? 0 : good;
}

void update(Stream& stream, const View& scale, const View& tracker, const View& found,
            const ScaleRule& rule) {
  const ScaleArgs args{static_cast<float*>(scale.data), static_cast<int32_t*>(tracker.data),
                       static_cast<const int32_t*>(found.data), rule};
  launch(stream, "update_scale", update_kernel, &args, sizeof args, 1);
}

}  // namespace

extern const ScalerFamily scaler_family;
const ScalerFamily scaler_family = {unscale, update};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
