// The CUDA stream of nodegrad on the emulated device: late work, copies, notices, capture and
// replay, scratch, and what must be refused.
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "families.h"
#include "harness.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

__global__ void fill_kernel(int* y, int n, int value) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = value;
}
__global__ void add_kernel(int* y, int n, const int* amount) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += *amount;
}
__global__ void broken_kernel() { emulation::fail_thread("fails on purpose"); }

void fill(Stream& stream, int* y, int n, int value) {
  launch(stream, "fill", fill_kernel, dim3(static_cast<unsigned>(n + 63) / 64), 64, 0, y, n, value);
}

template <class F>
bool within_a_second(F done) {
  for (int i = 0; i < 1000 && !done(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return done();
}

CASE(copies_in_order) {
  auto stream = harness::make_stream();
  Buffer<int> x(1000), y(1000);
  std::vector<int> values(1000);
  for (int round = 0; round < 20; ++round) {
    for (int& v : values) v = round;
    x.write(*stream, values);  // has taken its bytes: `values` changes at once
    stream->copy(y.data(), x.data(), 4000);
  }
  for (int v : y.read(*stream)) EXPECT(v == 19);
}

CASE(large_copies) {
  auto stream = harness::make_stream();
  constexpr size_t kCount = (5 << 20) / 4 + 123;  // more than the whole ring of pinned memory
  Buffer<int> x(kCount);
  std::vector<int> values(kCount);
  for (size_t i = 0; i < kCount; ++i) values[i] = static_cast<int>(i * 7);
  x.write(*stream, values);
  std::vector<int> expected = values;
  std::memset(values.data(), 0, kCount * 4);
  EXPECT(x.read(*stream) == expected);
}

CASE(idle_after_synchronize) {
  auto stream = harness::make_stream();
  Buffer<int> y(64);
  EXPECT(stream->idle());
  fill(*stream, y.data(), 64, 1);
  stream->synchronize();
  EXPECT(stream->idle());
}

CASE(notices) {
  auto stream = harness::make_stream();
  Buffer<int> y(64);
  std::atomic<int> called{0};
  stream->notify([&] { ++called; });  // idle: now
  EXPECT(called == 1);
  for (int i = 0; i < 5; ++i) {
    fill(*stream, y.data(), 64, i);
    stream->notify([&called, i] { called += called >= 1 + i ? 1 : 100; });
  }
  EXPECT(within_a_second([&] { return called >= 6; }));
  EXPECT(called == 6);
}

CASE(notices_after_a_failure) {
  auto stream = harness::make_stream();
  std::atomic<int> called{0};
  int asked = 0;
  const auto run = [&] {
    launch(*stream, "broken", broken_kernel, 1, 1, 0);
    stream->notify([&] { ++called; });  // throws where the failure is known already
    ++asked;
    stream->synchronize();
  };
  for (int i = 0; i < 5; ++i) expect_error(run, "on purpose");
  EXPECT(asked > 0 && called == asked);
}

CASE(capture_and_replay) {
  auto stream = harness::make_stream();
  Buffer<int> y(100), amount(1);
  fill(*stream, y.data(), 100, 0);
  amount.write(*stream, {3});
  stream->begin_capture();
  EXPECT(stream->capturing());
  launch(*stream, "add", add_kernel, 2, 64, 0, y.data(), 100, amount.data());
  launch(*stream, "add", add_kernel, 2, 64, 0, y.data(), 100, amount.data());
  std::unique_ptr<Graph> graph = stream->end_capture();
  EXPECT(graph->launches() == 2);
  for (int v : y.read(*stream)) EXPECT(v == 0);  // capturing runs nothing
  for (int i = 0; i < 5; ++i) graph->replay(*stream);
  amount.write(*stream, {100});
  graph->replay(*stream);
  graph.reset();  // in flight: goes on to its end
  for (int v : y.read(*stream)) EXPECT(v == 5 * 6 + 200);
}

CASE(capture_keeps_host_bytes) {
  auto stream = harness::make_stream();
  Buffer<int> y(4);
  std::vector<int> values = {1, 2, 3, 4};
  stream->begin_capture();
  y.write(*stream, values);
  std::unique_ptr<Graph> graph = stream->end_capture();
  values.assign(4, 0);
  for (int i = 0; i < 2; ++i) {
    fill(*stream, y.data(), 4, 9);
    graph->replay(*stream);
    EXPECT(y.read(*stream) == (std::vector<int>{1, 2, 3, 4}));
  }
}

CASE(capture_refuses_waiting) {
  auto stream = harness::make_stream();
  Buffer<int> y(4);
  stream->begin_capture();
  fill(*stream, y.data(), 4, 1);
  expect_error([&] { y.read(*stream); }, "read: not possible while a step is captured");
  expect_error([&] { stream->synchronize(); }, "not possible while a step is captured");
  expect_error([&] { stream->notify([] {}); }, "not possible while a step is captured");
  expect_error([&] { stream->begin_capture(); }, "not possible while a step is captured");
  EXPECT(!stream->idle());
  void* memory = harness::driver().allocate(1000);  // allowed, and does not spoil the capture
  EXPECT(memory != nullptr);
  std::unique_ptr<Graph> graph = stream->end_capture();
  EXPECT(graph->launches() == 1);
  harness::driver().release(memory);
}

CASE(capture_is_aborted) {
  auto stream = harness::make_stream();
  Buffer<int> y(4);
  fill(*stream, y.data(), 4, 5);
  stream->begin_capture();
  fill(*stream, y.data(), 4, 1);
  stream->abort_capture();
  EXPECT(!stream->capturing());
  for (int v : y.read(*stream)) EXPECT(v == 5);
}

CASE(scratch_in_stream_order) {
  auto stream = harness::make_stream();
  void* first = acquire_scratch(*stream, 1000);
  void* second = acquire_scratch(*stream, 1000);
  EXPECT(first != second);
  release_scratch(*stream, first);
  EXPECT(acquire_scratch(*stream, 900) == first);
  release_scratch(*stream, first);
  release_scratch(*stream, second);
  expect_error([&] { release_scratch(*stream, second); }, "release what was acquired");

  // A graph keeps what it used until it is destroyed.
  stream->begin_capture();
  void* captured = acquire_scratch(*stream, 1000);
  release_scratch(*stream, captured);
  EXPECT(acquire_scratch(*stream, 1000) == captured);
  release_scratch(*stream, captured);
  std::unique_ptr<Graph> graph = stream->end_capture();
  void* other = acquire_scratch(*stream, 1000);
  void* another = acquire_scratch(*stream, 1000);
  EXPECT(other != captured && another != captured);
  release_scratch(*stream, other);
  release_scratch(*stream, another);
  graph.reset();
  void* blocks[3];
  bool again = false;
  for (void*& block : blocks) {
    block = acquire_scratch(*stream, 1000);
    again = again || block == captured;
  }
  EXPECT(again);
  for (void* block : blocks) release_scratch(*stream, block);
}

CASE(failure_names_the_kernel) {
  auto stream = harness::make_stream();
  Buffer<int> y(64);
  const auto run = [&] {
    launch(*stream, "broken", broken_kernel, 2, 32, 0);
    fill(*stream, y.data(), 64, 1);  // throws where the failure is known already
    y.read(*stream);
  };
  expect_error(run, "broken: thread");
  fill(*stream, y.data(), 64, 2);
  for (int v : y.read(*stream)) EXPECT(v == 2);
}

CASE(launches_are_checked) {
  auto stream = harness::make_stream();
  Buffer<int> y(64);
  expect_error([&] { launch(*stream, "fill", fill_kernel, 0, 64, 0, y.data(), 64, 1); },
               "fill: the launch failed: cudaErrorInvalidConfiguration");
  expect_error([&] { launch(*stream, "fill", fill_kernel, 1, 1025, 0, y.data(), 64, 1); },
               "cudaErrorInvalidConfiguration");
  expect_error([&] { launch(*stream, "fill", fill_kernel, 1, 64, 228 * 1024, y.data(), 64, 1); },
               "fill: cudaFuncSetAttribute failed: cudaErrorInvalidValue");
  launch(*stream, "fill", fill_kernel, 1, 64, 200 * 1024, y.data(), 64, 1);
  for (int v : y.read(*stream)) EXPECT(v == 1);
}

CASE(device_properties) {
  auto stream = harness::make_stream();
  EXPECT(multiprocessors(*stream) == emulation::kMultiprocessors);
  EXPECT(compute_capability(*stream) == emulation::capability());
  EXPECT(harness::driver().description().find("emulated device, compute capability") == 0);
  std::string reason;
  EXPECT(device_count(reason) == emulation::kDevices && reason.empty());
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
