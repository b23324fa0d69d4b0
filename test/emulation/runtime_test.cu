// The emulated runtime itself: streams that complete late and out of step, events, host
// functions, and the errors that CUDA gives while a stream captures.
#include <atomic>
#include <chrono>
#include <thread>

#include "device.h"
#include "harness.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

static void ok(cudaError_t status) {
  if (status != cudaSuccess) harness::fail_case(cudaGetErrorName(status));
}

__global__ void store_kernel(int* y, int value) { *y = value; }
__global__ void copy_kernel(int* y, const int* x) { *y = *x; }

template <class... P, class... A>
cudaError_t start(cudaStream_t stream, void (*kernel)(P...), A... args) {
  const cudaLaunchConfig_t config{1, 1, 0, stream, nullptr, 0};
  return cudaLaunchKernelEx(&config, kernel, args...);
}

// Two streams, and pinned and device memory for one int each.
struct Fixture {
  cudaStream_t a, b;
  int *device, *other, *pinned;
  Fixture() {
    ok(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    void* memory = nullptr;
    ok(cudaMalloc(&memory, 4));
    device = static_cast<int*>(memory);
    ok(cudaMalloc(&memory, 4));
    other = static_cast<int*>(memory);
    ok(cudaMallocHost(&memory, 4));
    pinned = static_cast<int*>(memory);
    *pinned = -1;
  }
  ~Fixture() {
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaFree(device);
    cudaFree(other);
    cudaFreeHost(pinned);
  }
};

// Over the seeds nearly always old memory is seen; over 20 tries under one seed at least once.
CASE(work_completes_late) {
  Fixture f;
  int late = 0;
  for (int i = 0; i < 20; ++i) {
    ok(start(f.a, store_kernel, f.device, i));
    ok(cudaMemcpyAsync(f.pinned, f.device, 4, cudaMemcpyDeviceToHost, f.a));
    late += *const_cast<volatile int*>(f.pinned) != i;
    ok(cudaStreamSynchronize(f.a));
    EXPECT(*f.pinned == i);
  }
  EXPECT(late > 0);
}

CASE(pinned_bytes_are_taken_late) {
  Fixture f;
  int late = 0;
  for (int i = 0; i < 20; ++i) {
    *f.pinned = 1;
    ok(cudaMemcpyAsync(f.device, f.pinned, 4, cudaMemcpyHostToDevice, f.a));
    *f.pinned = 2;
    int value = 0;
    ok(cudaMemcpyAsync(&value, f.device, 4, cudaMemcpyDeviceToHost, f.a));  // pageable: waits
    late += value == 2;
  }
  EXPECT(late > 0);
}

CASE(work_runs_by_itself) {
  Fixture f;
  ok(start(f.a, store_kernel, f.device, 5));
  for (int i = 0; i < 1000 && cudaStreamQuery(f.a) == cudaErrorNotReady; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ok(cudaStreamQuery(f.a));
  cudaGetLastError();
}

CASE(event_orders_streams) {
  Fixture f;
  cudaEvent_t event;
  ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  for (int i = 0; i < 10; ++i) {
    ok(start(f.a, store_kernel, f.device, i));
    ok(cudaEventRecord(event, f.a));
    ok(cudaStreamWaitEvent(f.b, event, 0));
    ok(start(f.b, copy_kernel, f.other, f.device));
    ok(cudaMemcpyAsync(f.pinned, f.other, 4, cudaMemcpyDeviceToHost, f.b));
    ok(cudaStreamSynchronize(f.b));
    EXPECT(*f.pinned == i);
    ok(cudaEventQuery(event));
  }
  ok(cudaEventDestroy(event));
}

CASE(streams_without_event_are_unordered) {
  Fixture f;
  int early = 0;
  for (int i = 0; i < 40; ++i) {
    ok(start(f.a, store_kernel, f.device, i));
    ok(start(f.b, copy_kernel, f.other, f.device));
    ok(cudaStreamSynchronize(f.b));
    ok(cudaMemcpyAsync(f.pinned, f.other, 4, cudaMemcpyDeviceToHost, f.b));
    ok(cudaStreamSynchronize(f.b));
    early += *f.pinned != i;
    ok(cudaStreamSynchronize(f.a));
  }
  EXPECT(early > 0);
}

CASE(event_times) {
  Fixture f;
  cudaEvent_t from, to;
  ok(cudaEventCreateWithFlags(&from, cudaEventDefault));
  ok(cudaEventCreateWithFlags(&to, cudaEventDefault));
  ok(cudaEventRecord(from, f.a));
  ok(start(f.a, store_kernel, f.device, 1));
  ok(cudaEventRecord(to, f.a));
  ok(cudaEventSynchronize(to));
  float milliseconds = -1;
  ok(cudaEventElapsedTime(&milliseconds, from, to));
  EXPECT(milliseconds >= 0);
  ok(cudaEventDestroy(from));
  ok(cudaEventDestroy(to));
}

CASE(host_functions_run_elsewhere) {
  Fixture f;
  static std::thread::id ran_on;
  static std::atomic<cudaError_t> inside;
  ok(cudaLaunchHostFunc(
      f.a,
      [](void* stream) {
        ran_on = std::this_thread::get_id();
        inside = cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
      },
      f.b));
  ok(cudaStreamSynchronize(f.a));
  EXPECT(ran_on != std::this_thread::get_id());
  EXPECT(inside == cudaErrorNotPermitted);  // a host function may not call CUDA
}

CASE(unsafe_calls_spoil_a_capture) {
  Fixture f;
  void* memory = nullptr;
  cudaGraph_t graph = nullptr;
  ok(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  EXPECT(cudaMalloc(&memory, 4) == cudaErrorStreamCaptureUnsupported);
  EXPECT(start(f.a, store_kernel, f.device, 1) == cudaErrorStreamCaptureInvalidated);
  EXPECT(cudaStreamEndCapture(f.a, &graph) == cudaErrorStreamCaptureInvalidated);
  EXPECT(graph == nullptr);

  ok(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  EXPECT(cudaStreamSynchronize(f.a) == cudaErrorStreamCaptureUnsupported);
  EXPECT(cudaStreamEndCapture(f.a, &graph) == cudaErrorStreamCaptureInvalidated);

  ok(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  EXPECT(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal) == cudaErrorIllegalState);
  int pageable = 0;
  EXPECT(cudaMemcpyAsync(f.device, &pageable, 4, cudaMemcpyHostToDevice, f.a) ==
         cudaErrorStreamCaptureUnsupported);
  EXPECT(cudaStreamEndCapture(f.a, &graph) == cudaErrorStreamCaptureInvalidated);
  EXPECT(cudaStreamEndCapture(f.a, &graph) == cudaErrorIllegalState);
  cudaGetLastError();
}

CASE(relaxed_calls_do_not) {
  Fixture f;
  void* memory = nullptr;
  cudaGraph_t graph = nullptr;
  ok(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  ok(cudaThreadExchangeStreamCaptureMode(&mode));
  ok(cudaMalloc(&memory, 4));
  ok(cudaThreadExchangeStreamCaptureMode(&mode));
  ok(start(f.b, store_kernel, f.device, 1));  // another stream works on
  ok(cudaStreamSynchronize(f.b));
  cudaError_t elsewhere = cudaSuccess;
  std::thread([&] { elsewhere = cudaStreamEndCapture(f.a, &graph); }).join();
  EXPECT(elsewhere == cudaErrorStreamCaptureWrongThread);
  ok(cudaStreamEndCapture(f.a, &graph));
  ok(cudaGraphDestroy(graph));
  ok(cudaFree(memory));
}

CASE(copies_are_checked) {
  Fixture f;
  int host[4] = {};
  EXPECT(cudaMemcpyAsync(f.device, host, 16, cudaMemcpyHostToDevice, f.a) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpyAsync(host, host + 2, 8, cudaMemcpyDeviceToHost, f.a) == cudaErrorInvalidValue);
  EXPECT(cudaMemsetAsync(host, 0, 8, f.a) == cudaErrorInvalidValue);
  EXPECT(cudaStreamSynchronize(nullptr) == cudaErrorInvalidResourceHandle);
  EXPECT(cudaFree(host) == cudaErrorInvalidValue);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  EXPECT(cudaGetLastError() == cudaSuccess);
  ok(cudaMemsetAsync(f.device, 1, 4, f.a));
  ok(cudaMemcpyAsync(f.pinned, f.device, 4, cudaMemcpyDefault, f.a));
  ok(cudaStreamSynchronize(f.a));
  EXPECT(*f.pinned == 0x01010101);
}

// All blocks of a cooperative launch live side by side and may wait for each other.
__global__ void meet_kernel(unsigned* arrived, int* y) {
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(arrived, 1u);
    while (atomicAdd(arrived, 0u) < gridDim.x) __nanosleep(20);
  }
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<int>(atomicAdd(arrived, 0u));
}

CASE(cooperative_launch) {
  Fixture f;
  void *counter, *out;
  ok(cudaMalloc(&counter, 4));
  ok(cudaMalloc(&out, 4 * 256));
  ok(cudaMemsetAsync(counter, 0, 4, f.a));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{4, 64, 0, f.a, &attribute, 1};
  ok(cudaLaunchKernelEx(&config, meet_kernel, static_cast<unsigned*>(counter),
                        static_cast<int*>(out)));
  int values[256];
  ok(cudaMemcpyAsync(values, out, sizeof values, cudaMemcpyDeviceToHost, f.a));
  for (int v : values) EXPECT(v == 4);
  cudaLaunchConfig_t large{1000, 64, 0, f.a, &attribute, 1};
  EXPECT(cudaLaunchKernelEx(&large, meet_kernel, static_cast<unsigned*>(counter),
                            static_cast<int*>(out)) == cudaErrorCooperativeLaunchTooLarge);
  ok(cudaFree(counter));
  ok(cudaFree(out));
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
