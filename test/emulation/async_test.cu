// Asynchronous copies: they land late, a missing wait or barrier is caught, and a pipeline of
// several stages computes what it should.
#include "async.h"
#include "harness.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

constexpr int kThreads = 64, kStages = 3, kTiles = 7;
struct alignas(16) Stages {
  float v[kStages][kThreads * 4];
};

enum class Fault { none, no_wait, wait_for_too_few, no_barrier, overwrites_too_early };

// y[i] = the sum over tiles of x[tile][neighbour of i], tiles loaded kStages - 1 ahead.
template <Fault kFault>
__global__ void __launch_bounds__(kThreads) pipeline_kernel(const float* x, float* y) {
  Stages& s = shared_memory<Stages>();
  const int t = static_cast<int>(threadIdx.x);
  const auto load = [&](int tile) {
    if (tile < kTiles) {
      cp_async_16(&s.v[tile % kStages][t * 4], x + (tile * kThreads + t) * 4);
    }
    cp_async_commit();
  };
  for (int tile = 0; tile < kStages - 1; ++tile) load(tile);
  float sum = 0.0f;
  for (int tile = 0; tile < kTiles; ++tile) {
    if (kFault == Fault::wait_for_too_few) {
      cp_async_wait<kStages - 1>();
    } else if (kFault != Fault::no_wait) {
      cp_async_wait<kStages - 2>();
    }
    if (kFault == Fault::overwrites_too_early) load(tile + kStages - 1);
    if (kFault != Fault::no_barrier) __syncthreads();
    if (kFault != Fault::overwrites_too_early) load(tile + kStages - 1);
    for (int i = 0; i < 4; ++i) sum += s.v[tile % kStages][(t + 1) % kThreads * 4 + i];
  }
  y[t] = sum;
}

template <Fault kFault>
void run_pipeline() {
  auto stream = harness::make_stream();
  Buffer<float> x(kTiles * kThreads * 4), y(kThreads);
  std::vector<float> values(kTiles * kThreads * 4), expected(kThreads, 0.0f);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 101);
  for (size_t t = 0; t < kThreads; ++t) {
    for (size_t tile = 0; tile < kTiles; ++tile) {
      for (size_t i = 0; i < 4; ++i) {
        expected[t] += values[(tile * kThreads + (t + 1) % kThreads) * 4 + i];
      }
    }
  }
  x.write(*stream, values);
  launch(*stream, "pipeline", pipeline_kernel<kFault>, 1, kThreads, sizeof(Stages), x.data(),
         y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(async_pipeline) { run_pipeline<Fault::none>(); }
CHECKED_CASE(async_without_wait) {
  expect_error(run_pipeline<Fault::no_wait>, "asynchronous copy of");
}
CHECKED_CASE(async_waits_for_too_few) {
  expect_error(run_pipeline<Fault::wait_for_too_few>, "asynchronous copy of");
}
CHECKED_CASE(async_without_barrier) {
  expect_error(run_pipeline<Fault::no_barrier>, "pipeline: thread");
}
CHECKED_CASE(async_overwrites_too_early) {
  expect_error(run_pipeline<Fault::overwrites_too_early>, "pipeline: thread");
}
// Without the checks the bytes themselves are late: the sum is wrong.
CASE(async_lands_late) {
  const harness::WithoutChecks unchecked;
  expect_error(run_pipeline<Fault::no_wait>, "expected");
}

__global__ void partial_kernel(const float* x, float* y) {
  Stages& s = shared_memory<Stages>();
  const int t = static_cast<int>(threadIdx.x);
  cp_async_16(&s.v[0][t * 4], t < 3 ? x + t * 4 : nullptr, t < 2 ? 16 : t == 2 ? 8 : 0);
  cp_async_4(&s.v[1][t], x + t);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[t * 4 + i] = s.v[0][t * 4 + i];
  y[32 + t] = s.v[1][t];
}

CASE(async_zero_fills) {
  auto stream = harness::make_stream();
  Buffer<float> x(10), y(40);
  std::vector<float> values(10), expected(40, 0.0f);
  for (size_t i = 0; i < 10; ++i) expected[i] = values[i] = static_cast<float>(i + 1);
  for (size_t i = 0; i < 8; ++i) expected[32 + i] = values[i];
  x.write(*stream, values);
  launch(*stream, "partial", partial_kernel, 1, 8, sizeof(Stages), x.data(), y.data());
  EXPECT(y.read(*stream) == expected);
}

__global__ void misaligned_kernel(const float* x) { cp_async_16(&shared_memory<Stages>(), x + 1); }

CASE(async_misaligned) {
  auto stream = harness::make_stream();
  Buffer<float> x(16);
  launch(*stream, "misaligned", misaligned_kernel, 1, 1, sizeof(Stages), x.data());
  expect_error([&] { stream->synchronize(); }, "misaligned address");
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
