// Addresses: writes and reads outside shared memory and outside allocations, misaligned and
// foreign addresses, races between blocks, and what guard zones show without the checks.
#include "harness.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;
using harness::WithoutChecks;

constexpr int kThreads = 64;
struct Values {
  float v[kThreads];
};

__global__ void __launch_bounds__(kThreads) shared_write_kernel(float* y, int shift) {
  Values& s = shared_memory<Values>();
  const int t = static_cast<int>(threadIdx.x);
  float* v = s.v;
  v[t] = 0.0f;
  __syncthreads();
  v[t + shift] = static_cast<float>(t);
  __syncthreads();
  y[t] = v[t];
}

void run_shared_write(int shift) {
  auto stream = harness::make_stream();
  Buffer<float> y(kThreads);
  launch(*stream, "shared_write", shared_write_kernel, 1, kThreads, sizeof(Values), y.data(),
         shift);
  const std::vector<float> result = y.read(*stream);
  for (int i = 0; i < kThreads; ++i) EXPECT(result[static_cast<size_t>(i)] == float(i));
}

__global__ void __launch_bounds__(kThreads) copy_kernel(const float* x, float* y, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = x[i];
}

// The kernel is told `told` elements, each buffer has what is said beside it.
void run_copy(size_t source, size_t target, int64_t told) {
  auto stream = harness::make_stream();
  Buffer<float> x(source), y(target);
  x.write(*stream, std::vector<float>(source, 2.5f));
  launch(*stream, "copy", copy_kernel, 3, kThreads, 0, x.data(), y.data(), told);
  for (float value : y.read(*stream)) EXPECT(value == 2.5f);
}

CASE(shared_write_inside) { run_shared_write(0); }
CHECKED_CASE(shared_write_past_the_end) {
  expect_error([] { run_shared_write(1); }, "writes 4 bytes at offset 256 of the block's 256");
}
CHECKED_CASE(shared_write_before_the_start) {
  expect_error([] { run_shared_write(-2); }, "of the block's 256 bytes of shared memory");
}
CHECKED_CASE(shared_write_seen_without_checks) {
  const WithoutChecks unchecked;
  expect_error([] { run_shared_write(1); }, "beside the block's shared memory was written");
}
CASE(shared_memory_too_small) {
  expect_error(
      [] {
        auto stream = harness::make_stream();
        Buffer<float> y(kThreads);
        launch(*stream, "small", shared_write_kernel, 1, kThreads, 64, y.data(), 0);
        stream->synchronize();
      },
      "takes 256 bytes, the launch gave 64");
}

CASE(global_access_inside) { run_copy(130, 130, 130); }
CHECKED_CASE(global_write_past_the_end) {
  expect_error([] { run_copy(192, 130, 131); }, "writes 4 bytes of global memory 520 bytes into");
}
CHECKED_CASE(global_read_past_the_end) {
  expect_error([] { run_copy(130, 192, 131); }, "reads 4 bytes of global memory 520 bytes into");
}
CHECKED_CASE(global_write_seen_without_checks) {
  const WithoutChecks unchecked;
  expect_error([] { run_copy(192, 130, 131); }, "past the end of an allocation of 520 bytes");
}

CHECKED_CASE(null_address) {
  expect_error(
      [] {
        auto stream = harness::make_stream();
        Buffer<float> y(kThreads);
        launch(*stream, "null", copy_kernel, 1, kThreads, 0, nullptr, y.data(), 5);
        stream->synchronize();
      },
      "which is no address of the device");
}

CHECKED_CASE(host_address) {
  expect_error(
      [] {
        auto stream = harness::make_stream();
        std::vector<float> host(kThreads);
        Buffer<float> y(kThreads);
        launch(*stream, "host", copy_kernel, 1, kThreads, 0, host.data(), y.data(), 5);
        stream->synchronize();
      },
      "which is no address of the device");
}

CHECKED_CASE(freed_address) {
  expect_error(
      [] {
        auto stream = harness::make_stream();
        Buffer<float> y(kThreads);
        float* freed = Buffer<float>(kThreads).data();
        launch(*stream, "freed", copy_kernel, 1, kThreads, 0, freed, y.data(), 5);
        stream->synchronize();
      },
      "reads 4 bytes of global memory");
}

__global__ void vector_kernel(const float* x, float* y) { store_vector(y, load_vector<4>(x)); }

CASE(misaligned_vector) {
  auto stream = harness::make_stream();
  Buffer<float> x(8), y(4);
  x.write(*stream, {0, 1, 2, 3, 4, 5, 6, 7});
  launch(*stream, "vector", vector_kernel, 1, 1, 0, x.data() + 4, y.data());
  EXPECT(y.read(*stream) == (std::vector<float>{4, 5, 6, 7}));
  launch(*stream, "vector", vector_kernel, 1, 1, 0, x.data() + 1, y.data());
  expect_error([&] { stream->synchronize(); }, "misaligned address");
}

// Blocks run in any order: what one writes, another may not touch in the same launch.
__global__ void neighbour_kernel(const int* x, int* y, int shift) {
  y[blockIdx.x] = x[(blockIdx.x + static_cast<unsigned>(shift)) % gridDim.x] + 1;
}

CHECKED_CASE(race_between_blocks) {
  auto stream = harness::make_stream();
  Buffer<int> x(8), y(8);
  x.write(*stream, std::vector<int>(8, 4));
  launch(*stream, "neighbour", neighbour_kernel, 8, 1, 0, x.data(), y.data(), 3);
  for (int value : y.read(*stream)) EXPECT(value == 5);
  launch(*stream, "neighbour", neighbour_kernel, 8, 1, 0, x.data(), x.data(), 3);
  expect_error([&] { stream->synchronize(); }, "which another block of the launch");
}

__global__ void last_block_kernel(int* partial, unsigned* arrived, int* out) {
  partial[blockIdx.x] = static_cast<int>(blockIdx.x);
  __threadfence();
  if (atomicAdd(arrived, 1u) + 1 < gridDim.x) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  *out = sum;
}

CASE(last_block_sums) {
  auto stream = harness::make_stream();
  Buffer<int> partial(50), out(1);
  Buffer<unsigned> arrived(1);
  arrived.write(*stream, {0});
  launch(*stream, "last_block", last_block_kernel, 50, 1, 0, partial.data(), arrived.data(),
         out.data());
  EXPECT(out.read(*stream)[0] == 49 * 25);
}

__global__ void spin_kernel(unsigned* flag) {
  while (atomicAdd(flag, 0u) == 0) __nanosleep(100);
}

CASE(endless_wait) {
  auto stream = harness::make_stream();
  Buffer<unsigned> flag(1);
  flag.write(*stream, {0});
  launch(*stream, "spin", spin_kernel, 1, 32, 0, flag.data());
  expect_error([&] { stream->synchronize(); }, "waits without end");
}

// The same through loads that nothing but `volatile` marks.
__global__ void spin_volatile_kernel(unsigned* flag) {
  while (*const_cast<volatile unsigned*>(flag) == 0) {
  }
}
// And a wait that ends: warp 1 opens the gate for warp 0.
__global__ void gate_kernel(unsigned* flag, int* y) {
  if (threadIdx.x < 32) {
    while (atomicCAS(flag, 1u, 1u) == 0) {
    }
    y[threadIdx.x] = 7;
  } else {
    atomicExch(flag, 1u);
  }
}

CHECKED_CASE(endless_volatile_wait) {
  auto stream = harness::make_stream();
  Buffer<unsigned> flag(1);
  flag.write(*stream, {0});
  launch(*stream, "spin_volatile", spin_volatile_kernel, 1, 32, 0, flag.data());
  expect_error([&] { stream->synchronize(); }, "waits without end");
}

CASE(waiting_for_a_flag) {
  auto stream = harness::make_stream();
  Buffer<unsigned> flag(1);
  Buffer<int> y(32);
  flag.write(*stream, {0});
  launch(*stream, "gate", gate_kernel, 1, 64, 0, flag.data(), y.data());
  for (int value : y.read(*stream)) EXPECT(value == 7);
}

__constant__ const int kTable[4] = {5, 6, 7, 8};
__global__ void table_kernel(int* y) { y[threadIdx.x] = kTable[threadIdx.x % 4]; }

CHECKED_CASE(host_code_touches_device_memory) {
  auto stream = harness::make_stream();
  Buffer<int> y(4);
  y.data()[2] = 1;
  expect_error([&] { stream->synchronize(); }, "host code of the backend touched device memory");
}

CASE(constants_are_readable) {
  auto stream = harness::make_stream();
  Buffer<int> y(4);
  launch(*stream, "table", table_kernel, 1, 4, 0, y.data());
  EXPECT(y.read(*stream) == (std::vector<int>{5, 6, 7, 8}));
}

CASE(out_of_memory) {
  auto stream = harness::make_stream();
  const size_t total = emulation::total_memory();
  emulation::set_total_memory(emulation::used_memory() + (1 << 20));
  void* block = harness::driver().allocate(900 << 10);
  EXPECT(block != nullptr);
  EXPECT(harness::driver().allocate(200 << 10) == nullptr);
  expect_error([&] { acquire_scratch(*stream, 200 << 10); },
               "scratch: the device is out of memory");
  harness::driver().release(block);
  void* again = harness::driver().allocate(900 << 10);
  EXPECT(again != nullptr);
  harness::driver().release(again);
  emulation::set_total_memory(total);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
