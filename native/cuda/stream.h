// The CUDA stream of one JavaScript environment, on a GPU or on the emulated device: launches and
// copies are enqueued as they come; while capturing they go into a CUDA graph instead. Used by one
// thread at a time.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "core/stream.h"
#include "kernel_times.h"
#include "launch.h"
#include "scratch.h"
#include "staging.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

struct DeviceInfo {
  int ordinal;  // CUDA's number of the device
  int multiprocessors;
  int capability;  // major·10 + minor
};

// Makes the device current for the calling thread.
void use_device(int ordinal);

// What waits for a point of the stream. CUDA drops host functions after a failure, so what is left
// when the stream has come to rest is called then.
class Notices {
 public:
  void add(cudaStream_t stream, std::function<void()> done);
  void flush();

 private:
  struct Notice {
    Notices* owner;
    std::function<void()> done;
  };
  static void CUDART_CB called(void* notice);
  void complete(Notice* notice);

  std::mutex mutex_;
  std::list<std::unique_ptr<Notice>> pending_;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(const DeviceInfo& device);
  ~CudaStream() override;

  void synchronize() override;
  bool idle() override;
  void copy_from_host(void* dst, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* src, size_t bytes) override;
  void copy(void* dst, const void* src, size_t bytes) override;
  void notify(std::function<void()> done) override;
  void begin_capture() override;
  std::unique_ptr<Graph> end_capture() override;
  void abort_capture() noexcept override;

  const DeviceInfo& device() const { return device_; }
  cudaStream_t native() const { return stream_; }
  ScratchPool& scratch() { return *scratch_; }
  // Times what is launched between this and KernelTimes::end, where a profile is on.
  void begin_timing(const char* name);
  void allow_shared(const char* name, const void* kernel, size_t bytes);
  bool compiled_for(const void* kernel, int capability);
  int resident_clusters(const void* kernel, const cudaLaunchConfig_t& config);

 private:
  void refuse_while_capturing(const char* op) const;
  void came_to_rest();

  DeviceInfo device_;
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<ScratchPool> scratch_;  // graphs give their blocks back to it
  std::shared_ptr<Staging> staging_;      // and their pinned memory to this
  Notices notices_;
  KernelTimes times_;
  // What the runtime said of kernels on this device.
  std::unordered_map<const void*, size_t> shared_allowed_;
  std::unordered_map<const void*, int> capabilities_;
  std::map<std::pair<const void*, unsigned>, int> resident_clusters_;
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
