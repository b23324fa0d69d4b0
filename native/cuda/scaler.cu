// Gradient scaling: x ← x·(1/scale) over many tensors a launch (multi_tensor.h), with a flag for
// what is not finite, set by an integer atomic once a block; and the update of the scale. 16-bit
// gradients compute in float32; what counts as finite is the value as it is stored.
// Cost: unscale N·size bytes read + written: bandwidth-bound.
#include "families.h"
#include "launch.h"
#include "multi_tensor.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <class A>
__device__ __forceinline__ bool is_finite(A x) {
  return x - x == A(0);
}

template <class A>
__global__ void __launch_bounds__(kBlock)
    unscale_kernel(const __grid_constant__ Table table, const DType dtype, const float* scale,
                   int32_t* found) {
  const A inverse = A(1) / static_cast<A>(*scale);
  bool wild = false;
  change_chunk<A>(table, dtype, [&](A x) {
    A y = x * inverse;
    if constexpr (same_type<A, float>) {
      if (dtype != DType::float32) y = rounded(y, dtype);
    }
    wild = wild || !is_finite(y);
    return y;
  });
  const int any = __syncthreads_or(wild ? 1 : 0);
  if (any && threadIdx.x == 0) atomicOr(found, 1);
}

__global__ void __launch_bounds__(1)
    update_scale_kernel(float* scale, int32_t* tracker, const int32_t* found,
                        const ScaleRule rule) {
  const bool skipped = *found != 0;
  const int32_t good = skipped ? 0 : *tracker + 1;
  const bool due = good == rule.interval;
  const double factor = skipped ? rule.backoff : due ? rule.growth : 1.0;
  const float next = static_cast<float>(static_cast<double>(*scale) * factor);
  if (skipped || is_finite(next)) *scale = next;
  *tracker = due ? 0 : good;
}

void unscale(Stream& stream, const OptimTensor* tensors, int count, DType dtype, const View& scale,
             const View& found) {
  with_float_arith(dtype, [&](auto zero) {
    using A = decltype(zero);
    for_tables(tensors, count, kChunk<A>, [&](const Table& table, int64_t chunks) {
      launch(stream, "unscale", unscale_kernel<A>, dim3(static_cast<unsigned>(chunks)),
             dim3(kBlock), 0, table, dtype, static_cast<const float*>(scale.data),
             static_cast<int32_t*>(found.data));
    });
  });
}

void update(Stream& stream, const View& scale, const View& tracker, const View& found,
            const ScaleRule& rule) {
  launch(stream, "update_scale", update_scale_kernel, dim3(1), dim3(1), 0,
         static_cast<float*>(scale.data), static_cast<int32_t*>(tracker.data),
         static_cast<const int32_t*>(found.data), rule);
}

}  // namespace

const ScalerFamily scaler_family = {unscale, update};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
