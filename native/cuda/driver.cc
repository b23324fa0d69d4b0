// The CUDA device driver: which GPUs there are, or in one sentence why none; their memory.
#include <cstdio>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "families.h"
#include "stream.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

namespace {

constexpr int kOldestCapability = 80;

std::string version_text(int version, int major_unit, int minor_unit) {
  return std::to_string(version / major_unit) + "." +
         std::to_string(version % major_unit / minor_unit);
}

std::string missing_driver() {
  int version = 0;
  cudaDriverGetVersion(&version);
  if (version == 0) return "no NVIDIA driver was found on this machine";
  return "the NVIDIA driver supports CUDA " + version_text(version, 1000, 10) +
         ", and nodegrad needs CUDA 13 (driver 580 or later)";
}

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  NODEGRAD_CUDA_CALL("device", cudaDeviceGetAttribute, &value, which, ordinal);
  return value;
}

int capability(int ordinal) {
  return attribute(cudaDevAttrComputeCapabilityMajor, ordinal) * 10 +
         attribute(cudaDevAttrComputeCapabilityMinor, ordinal);
}

// CUDA's numbers of the devices that nodegrad can use.
std::vector<int> usable_devices(std::string& reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    reason = missing_driver();
    return {};
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    reason = "the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)";
    return {};
  }
  if (status != cudaSuccess) {
    reason = std::string("cudaGetDeviceCount failed: ") + cudaGetErrorName(status) + " (" +
             cudaGetErrorString(status) + ")";
    return {};
  }
  std::vector<int> usable;
  int best = 0;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    const int found = capability(ordinal);
    if (found >= kOldestCapability) usable.push_back(ordinal);
    best = found > best ? found : best;
  }
  if (usable.empty()) {
    reason = "the GPU has compute capability " + version_text(best, 10, 1) +
             ", and nodegrad needs 8.0 or later";
  }
  return usable;
}

class CudaDriver final : public DeviceDriver {
 public:
  explicit CudaDriver(int ordinal)
      : device_{ordinal, attribute(cudaDevAttrMultiProcessorCount, ordinal), capability(ordinal)} {}

  const Backend& backend() const override { return NODEGRAD_CUDA_NAMESPACE::backend; }

  std::unique_ptr<Stream> make_stream() override { return std::make_unique<CudaStream>(device_); }

  void* allocate(size_t bytes) override {
    use_device(device_.ordinal);
    const RelaxedCapture relaxed;
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(status, "allocate", "cudaMalloc");
    return memory;
  }

  void release(void* memory) override {
    // Storages are also released while the process or the device goes down: nothing to report to.
    try {
      use_device(device_.ordinal);
      const RelaxedCapture relaxed;
      cudaFree(memory);
    } catch (const std::exception&) {
    }
    cudaGetLastError();
  }

  std::string description() const override {
    cudaDeviceProp properties{};
    NODEGRAD_CUDA_CALL("device", cudaGetDeviceProperties, &properties, device_.ordinal);
    char text[512];
    std::snprintf(
        text, sizeof text, "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB of memory",
        properties.name, properties.major, properties.minor, properties.multiProcessorCount,
        static_cast<double>(properties.totalGlobalMem) / (1 << 30));
    return text;
  }

 private:
  DeviceInfo device_;
};

}  // namespace

int device_count(std::string& reason) {
  try {
    return static_cast<int>(usable_devices(reason).size());
  } catch (const std::exception& error) {
    reason = error.what();
    return 0;
  }
}

std::unique_ptr<DeviceDriver> make_driver(int index) {
  std::string reason;
  const std::vector<int> usable = usable_devices(reason);
  if (index < 0 || static_cast<size_t>(index) >= usable.size()) {
    fail("device: index below %zu, got %d%s%s", usable.size(), index, reason.empty() ? "" : ": ",
         reason.c_str());
  }
  return std::make_unique<CudaDriver>(usable[static_cast<size_t>(index)]);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
