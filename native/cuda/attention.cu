// Scaled dot-product attention: O = softmax(scale·Q·Kᵀ + mask)·V. Chooses the form by dtype and
// precision, and computes Δ = Σ dO·O per query for the backward pass.
//   bfloat16, float16      on sm_90, where strides allow and heads are at most 128 wide,
//                          attention_wgmma_forward.cu and attention_wgmma_backward.cu;
//                          else attention_forward.cu and attention_backward.cu, by mma.sync
//   float32                the same through TF32 where the precision allows, else attention_simt.cu
//   float64                attention_simt.cu
// Every form walks tiles of keys with a running maximum and sum and keeps lse = max + ln Σ; none
// needs memory for scores. Sums run in an order that sizes decide.
#include <algorithm>
#include <cmath>

#include "attention_mma.h"
#include "attention_simt.h"
#include "attention_wgmma.h"
#include "core/error.h"
#include "families.h"
#include "launch.h"
#include "reduction.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

namespace {

// What a section of heads may hold of L2, in bytes: of 40 MiB or more, but 4 to 6 on the chips of
// 8.6 and 8.7. Little on the emulated device, so that small tests have sections.
int64_t share_of_l2([[maybe_unused]] Stream& stream) {
#ifdef NODEGRAD_EMULATED
  return int64_t{256} << 10;
#else
  const int capability = compute_capability(stream);
  return int64_t{capability == 86 || capability == 87 ? 3 : 24} << 20;
#endif
}

}  // namespace

Attention ordered(Stream& stream, DType dtype, const Attention& a, int tile, bool of_keys) {
  constexpr int64_t kMostRows = INT32_MAX - 1024;
  const int64_t heads = a.batches * (of_keys ? a.kv_heads : a.heads);
  const int64_t length = of_keys ? a.keys : a.queries, tiles = divide_up(length, tile);
  if (heads * tiles > INT32_MAX || length > kMostRows) {
    fail("%s: too many tiles, got %lld", kAttentionName, static_cast<long long>(heads * tiles));
  }
  Attention result = a;
  result.order = {static_cast<uint32_t>(heads * tiles), static_cast<uint32_t>(tiles), 1};
  if (!a.causal || heads * tiles == 0) return result;
  // Two tensors are walked: q and dO of all heads that share a key's, or a share of k and v.
  const int64_t sharing = a.heads / a.kv_heads;
  const int64_t rows = of_keys ? a.queries * sharing : divide_up(a.keys, sharing);
  const int64_t bytes = 2 * rows * a.width * static_cast<int64_t>(item_size(dtype));
  const int64_t fitting = share_of_l2(stream) / std::max<int64_t>(bytes, 1);
  result.order.heads = static_cast<uint32_t>(std::clamp<int64_t>(fitting, 1, heads));
  return result;
}

namespace {

// Δ = Σ dO·O, `lanes` neighbouring threads per query. Bound by memory: 2·T·D elements read.
template <class T>
__global__ void __launch_bounds__(kReduceBlock)
    delta_kernel(const Attention a, const int64_t rows, const int lanes) {
  using A = Arith<T>;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kReduceBlock + threadIdx.x) / lanes;
  A total = A(0);
  if (row < rows) {
    const int64_t batch_head = row / a.queries, i = row - batch_head * a.queries;
    const int64_t batch = batch_head / a.heads, head = batch_head - batch * a.heads;
    const T* const out = row_of<T>(a.out, batch, head, i);
    const T* const dout = row_of<T>(a.dout, batch, head, i);
    visit_row<kPerVector<T>>(a.width, aligned_head(out, dout, a.width), lane, lanes,
                             [&](auto count, int64_t at) {
                               constexpr int kCount = decltype(count)::value;
                               A x[kCount], y[kCount];
                               load_arith<kCount>(out + at, x);
                               load_arith<kCount>(dout + at, y);
#pragma unroll
                               for (int j = 0; j < kCount; ++j) total += x[j] * y[j];
                             });
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) total += shuffle_record(total, mask);
  if (row < rows && lane == 0) static_cast<A*>(a.delta)[row] = total;
}

void launch_delta(Stream& stream, DType dtype, const Attention& a) {
  const int64_t rows = a.batches * a.heads * a.queries;
  if (rows == 0) return;
  with_float_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const int lanes = group_lanes((a.width + kPerVector<T> - 1) / kPerVector<T>);
    const int64_t blocks = (rows * lanes + kReduceBlock - 1) / kReduceBlock;
    launch(stream, kAttentionName, delta_kernel<T>, dim3(static_cast<unsigned>(blocks)),
           dim3(kReduceBlock), 0, a, rows, lanes);
  });
}

AttentionOperand operand_of(const View& v) {
  AttentionOperand x = {v.data, v.strides[0], v.strides[1], v.strides[2], true};
  if (!v.data) return x;
  const int64_t item = static_cast<int64_t>(item_size(v.dtype));
  x.aligned = is_aligned(v.data, 16);
  for (int axis = 0; axis < 3; ++axis) {
    if (v.shape[axis] > 1 && v.strides[axis] * item % 16 != 0) x.aligned = false;
  }
  return x;
}

Attention attention_of(const AttentionArgs& args, const View& out, const View& lse) {
  Attention a = {};
  a.q = operand_of(args.q);
  a.k = operand_of(args.k);
  a.v = operand_of(args.v);
  a.out = operand_of(out);
  a.mask = operand_of(args.mask);
  a.mask_column = args.mask.strides[3];
  a.mask_is_bool = args.mask.dtype == DType::boolean;
  a.padding = static_cast<const uint8_t*>(args.padding.data);
  a.padding_batch = args.padding.strides[0];
  a.padding_key = args.padding.strides[1];
  a.lengths = static_cast<const int32_t*>(args.lengths.data);
  a.state = static_cast<const int64_t*>(args.state.data);
  a.lse = lse.data;
  a.scale = args.scale;
  a.keep = args.keep;
  a.batches = args.q.shape[0];
  a.heads = args.q.shape[1];
  a.kv_heads = args.k.shape[1];
  a.queries = args.q.shape[2];
  a.keys = args.k.shape[2];
  a.width = args.q.shape[3];
  a.causal = args.causal;
  a.log2_scale = static_cast<float>(args.scale * 1.4426950408889634);
  a.mask_scales = (a.mask.data && !a.mask_is_bool) || !(args.scale > 0);
  a.factor = a.mask_scales ? 1.0f : a.log2_scale;
  a.inverse_keep = !a.state ? 1.0f : args.keep > 0 ? static_cast<float>(1 / args.keep) : 0.0f;
  a.keep_threshold = static_cast<uint32_t>(std::ceil(args.keep * (1 << 24)));
  return a;
}

bool on_tensor_cores(const AttentionArgs& args) {
  const DType dtype = args.q.dtype;
  if (dtype == DType::bfloat16 || dtype == DType::float16) return true;
  return dtype == DType::float32 && args.precision != Precision::highest &&
         args.q.shape[3] <= kMostTf32Width;
}

void forward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse) {
  const Attention a = attention_of(args, out, lse);
  const DType dtype = args.q.dtype;
  if (a.batches * a.heads * a.queries == 0 || a.width == 0) return;
  if (launch_attention_wgmma_forward(stream, dtype, a)) return;
  if (on_tensor_cores(args)) {
    launch_attention_mma_forward(stream, dtype, a);
  } else {
    launch_attention_simt_forward(stream, dtype, a);
  }
}

void backward(Stream& stream, const AttentionArgs& args, const View& out, const View& lse,
              const View& dout, const View& dq, const View& dk, const View& dv) {
  Attention a = attention_of(args, out, lse);
  const DType dtype = args.q.dtype;
  a.dout = operand_of(dout);
  a.dq = operand_of(dq);
  a.dk = operand_of(dk);
  a.dv = operand_of(dv);
  if (a.width == 0 || a.batches == 0) return;
  const size_t rows = static_cast<size_t>(a.batches * a.heads * a.queries);
  const size_t wide = dtype == DType::float64 ? sizeof(double) : sizeof(float);
  a.delta = acquire_scratch(stream, wide * (rows > 0 ? rows : 1));
  launch_delta(stream, dtype, a);
  if (!launch_attention_wgmma_backward(stream, dtype, a)) {
    if (on_tensor_cores(args)) {
      launch_attention_mma_backward(stream, dtype, a);
    } else {
      launch_attention_simt_backward(stream, dtype, a);
    }
  }
  release_scratch(stream, a.delta);
}

}  // namespace

const AttentionFamily attention_family = {forward, backward};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
