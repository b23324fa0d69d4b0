#include "core/device.h"

#include <map>

#include "core/error.h"
#include "core/storage.h"

namespace nodegrad {

const char* device_type_name(DeviceType type) {
  static constexpr const char* kNames[kDeviceTypes] = {"cpu", "emulated", "cuda"};
  return kNames[static_cast<int>(type)];
}

int device_count(DeviceType type, std::string& reason) {
  switch (type) {
    case DeviceType::cpu:
      return 1;
    case DeviceType::emulated:
#ifdef NODEGRAD_WITH_EMULATION
      return emulated::device_count(reason);
#else
      reason = "this build has no emulated device (it is part of test builds only)";
      return 0;
#endif
    case DeviceType::cuda:
#ifdef NODEGRAD_WITH_CUDA
      return cuda::device_count(reason);
#else
      reason = "this build has no CUDA backend (no nvcc was found when it was built)";
      return 0;
#endif
  }
  return 0;
}

static std::unique_ptr<DeviceDriver> make_driver(DeviceType type, [[maybe_unused]] int index) {
  switch (type) {
    case DeviceType::cpu:
      return make_cpu_driver();
    case DeviceType::emulated:
#ifdef NODEGRAD_WITH_EMULATION
      return emulated::make_driver(index);
#else
      break;
#endif
    case DeviceType::cuda:
#ifdef NODEGRAD_WITH_CUDA
      return cuda::make_driver(index);
#else
      break;
#endif
  }
  return nullptr;
}

PhysicalDevice& physical_device(DeviceType type, int index) {
  // Never destroyed: storages may be released while the process ends.
  static auto& mutex = *new std::mutex;
  static auto& opened = *new std::map<std::pair<int, int>, std::unique_ptr<PhysicalDevice>>;
  std::lock_guard lock(mutex);
  auto& entry = opened[{static_cast<int>(type), index}];
  if (!entry) {
    std::string reason;
    const int count = device_count(type, reason);
    if (index < 0 || index >= count) {
      if (count == 0) fail("device: %s is not there: %s", device_type_name(type), reason.c_str());
      fail("device: %s has devices 0 to %d, got %d", device_type_name(type), count - 1, index);
    }
    auto device = std::make_unique<PhysicalDevice>();
    device->type = type;
    device->index = index;
    device->driver = make_driver(type, index);
    entry = std::move(device);
  }
  return *entry;
}

Device::Device(PhysicalDevice& physical)
    : physical_(physical),
      backend_(physical.driver->backend()),
      allocator_(*physical.driver, physical.account),
      stream_(physical.driver->make_stream()) {}

Device::~Device() = default;

Stream* Device::side_stream() {
  if (!side_stream_) side_stream_ = physical_.driver->make_side_stream();
  return side_stream_.get();
}

void Device::synchronize() {
  stream_->synchronize();
  // Memory is asked for, and waited for, also while what the side stream is to do is recorded.
  if (side_stream_ && !side_stream_->capturing()) side_stream_->synchronize();
}

std::string Device::name() const {
  std::string text = device_type_name(physical_.type);
  // As lib/device.ts has it.
  if (physical_.type == DeviceType::cuda || physical_.index > 0) {
    text += ':';
    text += std::to_string(physical_.index);
  }
  return text;
}

}  // namespace nodegrad
