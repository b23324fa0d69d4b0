// The emulated runtime: errors, device, memory, copies and launches (runtime_api.h).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "emulation/arena.h"
#include "emulation/control.h"
#include "emulation/executor.h"
#include "emulation/queue.h"

namespace nodegrad::emulation {

// A launch waits while so many tasks of its stream are pending, as the driver has it.
constexpr size_t kMostPending = 1024;

namespace {

struct LastError {
  api::cudaError_t status = api::cudaSuccess;     // until cudaGetLastError takes it
  api::cudaError_t described = api::cudaSuccess;  // what `text` belongs to
  std::string text;
};
thread_local LastError last_error;
thread_local std::string next_name = "kernel";

struct Text {
  api::cudaError_t status;
  const char *name, *text;
};
#define NODEGRAD_ERROR(name, text) \
  { api::name, #name, text }
constexpr Text kTexts[] = {
    NODEGRAD_ERROR(cudaSuccess, "no error"),
    NODEGRAD_ERROR(cudaErrorInvalidValue, "invalid argument"),
    NODEGRAD_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    NODEGRAD_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    NODEGRAD_ERROR(cudaErrorInsufficientDriver, "driver version is insufficient"),
    NODEGRAD_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    NODEGRAD_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    NODEGRAD_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    NODEGRAD_ERROR(cudaErrorIllegalState, "the operation cannot be performed in this state"),
    NODEGRAD_ERROR(cudaErrorNotReady, "device not ready"),
    NODEGRAD_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    NODEGRAD_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    NODEGRAD_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    NODEGRAD_ERROR(cudaErrorStreamCaptureUnsupported,
                   "operation not permitted when stream is capturing"),
    NODEGRAD_ERROR(cudaErrorStreamCaptureInvalidated,
                   "operation failed due to a previous error during capture"),
    NODEGRAD_ERROR(cudaErrorStreamCaptureIsolation,
                   "dependency created on uncaptured work in another stream"),
    NODEGRAD_ERROR(cudaErrorCapturedEvent,
                   "operation not permitted on an event last recorded in a capturing stream"),
    NODEGRAD_ERROR(cudaErrorStreamCaptureWrongThread,
                   "attempt to terminate a thread-local capture sequence from another thread"),
};
#undef NODEGRAD_ERROR

const Text& text_of(api::cudaError_t status) {
  for (const Text& t : kTexts) {
    if (t.status == status) return t;
  }
  static constexpr Text kUnknown = {api::cudaErrorInvalidValue, "cudaErrorUnknown",
                                    "unknown error"};
  return kUnknown;
}

struct Kernels {
  std::mutex mutex;
  std::map<const void*, size_t> shared_limit;  // of kernels that asked for more than the default
};
Kernels& kernels() {
  static Kernels& instance = *new Kernels;
  return instance;
}

// The device's side of a copy must lie in one allocation, the host's must not be device memory.
bool on_device(const void* p, size_t bytes) { return arena_contains(p, bytes); }

}  // namespace

api::cudaError_t result(api::cudaError_t status, std::string text) {
  if (status != api::cudaSuccess) {
    last_error.status = last_error.described = status;
    last_error.text = std::move(text);
  }
  return status;
}

void name_next_launch(const char* name) { next_name = name; }

static thread_local int current_device = 0;

int capability() { return capability_of(current_device); }

int capability_of(int device) {
  static const int first = [] {
    const char* text = std::getenv("NODEGRAD_EMULATION_CAPABILITY");
    return text ? std::atoi(text) : 80;
  }();
  return device == 0 ? first : 90;
}

static bool is_device(int device) { return device >= 0 && device < kDevices; }

namespace api {

const char* cudaGetErrorName(cudaError_t status) { return text_of(status).name; }

const char* cudaGetErrorString(cudaError_t status) {
  if (last_error.described == status && !last_error.text.empty()) return last_error.text.c_str();
  return text_of(status).text;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error.status;
  last_error.status = cudaSuccess;
  return status;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return result(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!is_device(device)) return result(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability_of(device) / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = capability_of(device) % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedOptin);
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (!is_device(device)) return result(cudaErrorInvalidDevice);
  *p = {};
  std::snprintf(p->name, sizeof p->name, "emulated device");
  p->totalGlobalMem = total_memory();
  p->sharedMemPerBlockOptin = kSharedOptin;
  p->major = capability_of(device) / 10;
  p->minor = capability_of(device) % 10;
  p->multiProcessorCount = kMultiprocessors;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*,
                                           const cudaLaunchConfig_t* config) {
  if (capability() < 90 || config->numAttrs != 1) return result(cudaErrorInvalidConfiguration);
  *clusters = kMultiprocessors / static_cast<int>(config->attrs->val.clusterDim.x);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *total = total_memory();
  const size_t used = used_memory();
  *available = *total > used ? *total - used : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!may_call_unsafe(q)) return result(cudaErrorStreamCaptureUnsupported);
  *memory = bytes ? arena_allocate(bytes) : nullptr;
  return result(*memory || !bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* memory) {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!may_call_unsafe(q)) return result(cudaErrorStreamCaptureUnsupported);
  if (!memory) return cudaSuccess;
  if (std::this_thread::get_id() == q.worker) return result(cudaErrorNotPermitted);
  wait_for_all(q, lock);
  return result(arena_release(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!may_call_unsafe(q)) return result(cudaErrorStreamCaptureUnsupported);
  *memory = pinned_allocate(bytes);
  return result(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* memory) {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!may_call_unsafe(q)) return result(cudaErrorStreamCaptureUnsupported);
  if (!memory) return cudaSuccess;
  if (std::this_thread::get_id() == q.worker) return result(cudaErrorNotPermitted);
  wait_for_all(q, lock);
  return result(pinned_release(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  const bool from_device = on_device(src, bytes), to_device = on_device(dst, bytes);
  const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (wants_from != from_device || wants_to != to_device)) {
    return result(cudaErrorInvalidValue,
                  "a copy's device side does not lie in one allocation of the device");
  }
  const bool pageable_from = !from_device && !is_pinned(src, bytes);
  const bool pageable_to = !to_device && !is_pinned(dst, bytes);
  if (stream->capture && (pageable_from || pageable_to)) {
    stream->capture->invalid = true;
    return result(cudaErrorStreamCaptureUnsupported, "pageable memory cannot be captured");
  }
  if (pageable_from) {  // taken before the call returns
    std::string taken(static_cast<const char*>(src), bytes);
    return submit(q, *stream, Task::Kind::work, [dst, taken = std::move(taken)] {
      std::memcpy(dst, taken.data(), taken.size());
      return std::string();
    });
  }
  const cudaError_t status = submit(q, *stream, Task::Kind::work, [dst, src, bytes] {
    std::memmove(dst, src, bytes);
    return std::string();
  });
  if (status == cudaSuccess && pageable_to) {  // CUDA waits for such a copy
    wait_until(q, lock, stream, [stream] { return !stream->busy(); });
    return take_error(*stream);
  }
  return status;
}

cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!on_device(dst, bytes)) return result(cudaErrorInvalidValue);
  return submit(q, *stream, Task::Kind::work, [dst, value, bytes] {
    std::memset(dst, value, bytes);
    return std::string();
  });
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > kSharedOptin) return result(cudaErrorInvalidValue);
  std::lock_guard lock(kernels().mutex);
  kernels().shared_limit[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t enqueue_kernel(const cudaLaunchConfig_t& config, const void* kernel,
                           std::unique_ptr<const KernelCall> call) {
  const dim3 g = config.grid, b = config.block;
  if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z || g.x > 0x7fffffff || g.y > 65535 ||
      g.z > 65535 || b.x > 1024 || b.y > 1024 || b.z > 64 || b.x * b.y * b.z > 1024) {
    return result(cudaErrorInvalidConfiguration);
  }
  size_t limit = kSharedDefault;
  {
    std::lock_guard lock(kernels().mutex);
    auto found = kernels().shared_limit.find(kernel);
    if (found != kernels().shared_limit.end()) limit = std::max(limit, found->second);
  }
  if (config.dynamicSmemBytes > limit) return result(cudaErrorInvalidValue);
  bool cooperative = false;
  unsigned cluster = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) {
      cooperative = config.attrs[i].val.cooperative != 0;
    } else {
      const auto& size = config.attrs[i].val.clusterDim;
      cluster = size.x;
      if (capability() < 90) {
        return result(cudaErrorInvalidConfiguration, "clusters need compute capability 9.0");
      }
      if (size.y != 1 || size.z != 1 || cluster < 1 || cluster > kLargestCluster ||
          g.x % cluster != 0) {
        return result(cudaErrorInvalidConfiguration, "clusters: 1 to 8 along x, dividing the grid");
      }
    }
  }
  if (cooperative && uint64_t(g.x) * g.y * g.z >
                         (capability() < 90 ? kLargestCooperativeGrid : kLargestHopperGrid)) {
    return result(cudaErrorCooperativeLaunchTooLarge);
  }
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!is_stream(q, config.stream)) return result(cudaErrorInvalidResourceHandle);
  if (!config.stream->capture) {
    const auto has_room = [&] { return config.stream->tasks.size() < kMostPending; };
    wait_until(q, lock, config.stream, has_room);
  }
  std::shared_ptr<const KernelCall> shared_call = std::move(call);
  return submit(q, *config.stream, Task::Kind::work,
                [call = std::move(shared_call), name = next_name, g, b, cooperative, cluster,
                 shared_bytes = config.dynamicSmemBytes] {
                  Queues& q = queues();
                  std::unique_lock lock(q.mutex);
                  const Random random{Random{seed() ^ ++q.launches << 32}.next()};
                  lock.unlock();
                  return run_launch(
                      {call.get(), name.c_str(), g, b, shared_bytes, cooperative, cluster}, random);
                });
}

}  // namespace api
}  // namespace nodegrad::emulation
