// Device: one stream on one device, with its allocator, as one JavaScript environment (the main
// thread or a worker) sees it. Drivers are shared by the whole process and live until it ends.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/backend.h"
#include "core/ref.h"
#include "core/stream.h"

namespace nodegrad {

class Storage;
class Arena;

enum class DeviceType : uint8_t { cpu = 0, emulated = 1, cuda = 2 };
constexpr int kDeviceTypes = 3;

const char* device_type_name(DeviceType type);

// What the process knows of one physical device.
struct PhysicalDevice {
  DeviceType type;
  int index;
  std::unique_ptr<DeviceDriver> driver;
  MemoryAccount account;
};

// Opens the device once; throws a sentence that says why it is not there.
PhysicalDevice& physical_device(DeviceType type, int index);
// How many devices of a type there are; `reason` says why none.
int device_count(DeviceType type, std::string& reason);

class Device : public RefCounted<Device> {
 public:
  explicit Device(PhysicalDevice& physical);
  ~Device();

  DeviceType type() const { return physical_.type; }
  int index() const { return physical_.index; }
  std::string name() const;
  PhysicalDevice& physical() { return physical_; }
  const Backend& backend() const { return backend_; }
  Stream& stream() { return *stream_; }
  // For graphs that are replayed beside the stream; null where the device needs none.
  Stream* side_stream();
  // Waits for both streams.
  void synchronize();
  CachingAllocator& allocator() { return allocator_; }

  // New storage, from the arena while a step is being captured. `op` names who asks. Throws with
  // what was asked, what is held and by whom where there is no memory.
  Ref<Storage> allocate(size_t bytes, const char* op);

  // Gives blocks that nobody uses back to the driver, where a larger one is asked for.
  void make_way(size_t bytes);

  // While a step is captured: where its buffers come from, and what it must keep alive.
  Arena* arena = nullptr;
  std::vector<Ref<Storage>> captured;
  uint64_t capture_serial = 0;
  int64_t arena_in_use_before = 0;  // by tensors of earlier recordings
  void capture_uses(Storage& storage);

 private:
  friend class Storage;
  std::string holders() const;

  PhysicalDevice& physical_;
  const Backend& backend_;
  CachingAllocator allocator_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Stream> side_stream_;  // made at first use
  mutable std::mutex live_mutex_;
  Storage* live_ = nullptr;  // every storage of this device, linked
};

}  // namespace nodegrad
