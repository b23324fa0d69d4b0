// When a stream's kernels ran, by a pair of events around each launch while a profile is on. A
// replayed graph counts as one kernel.
#pragma once

#include <mutex>
#include <vector>

#include "core/profile_source.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

class KernelTimes final : public profile::Source {
 public:
  ~KernelTimes() override;

  // Before a launch, and after the launch that this thread began last, if it did.
  void begin(cudaStream_t stream, const char* name);
  static void end();

  void collect() override;

 private:
  struct Pair {
    cudaEvent_t before, after;
    const char* name;
    int64_t launched;
    int thread;
  };
  void collect_locked();
  void drop();

  std::mutex mutex_;
  std::vector<Pair> pairs_;
  cudaEvent_t base_ = nullptr;  // of which the host's time is known, too
  int64_t base_time_ = 0;
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
