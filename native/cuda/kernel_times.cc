#include "kernel_times.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

namespace {

constexpr size_t kMostPairs = 1 << 14;  // then they are read, so that events do not pile up

struct Launch {
  cudaStream_t stream = nullptr;
  cudaEvent_t after = nullptr;
};
thread_local Launch under_way;

// Null where there is none to be had: such a kernel is not timed.
cudaEvent_t recorded(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  if (cudaEventCreateWithFlags(&event, cudaEventDefault) != cudaSuccess) return nullptr;
  if (cudaEventRecord(event, stream) == cudaSuccess) return event;
  cudaEventDestroy(event);
  return nullptr;
}

}  // namespace

KernelTimes::~KernelTimes() {
  std::lock_guard lock(mutex_);
  drop();
}

void KernelTimes::begin(cudaStream_t stream, const char* name) {
  end();
  std::lock_guard lock(mutex_);
  if (pairs_.size() >= kMostPairs) collect_locked();
  if (!base_) {
    // Of an idle stream, where an event's time is the host's.
    if (cudaStreamSynchronize(stream) != cudaSuccess) return;
    base_time_ = profile::now();
    base_ = recorded(stream);
    if (!base_) return;
  }
  Pair pair{recorded(stream), nullptr, name, profile::now(), profile::thread_number()};
  if (!pair.before) return;
  if (cudaEventCreateWithFlags(&pair.after, cudaEventDefault) != cudaSuccess) {
    cudaEventDestroy(pair.before);
    return;
  }
  pairs_.push_back(pair);
  under_way = {stream, pair.after};
}

void KernelTimes::end() {
  if (under_way.after) cudaEventRecord(under_way.after, under_way.stream);
  under_way = {};
}

void KernelTimes::collect() {
  std::lock_guard lock(mutex_);
  collect_locked();
}

void KernelTimes::collect_locked() {
  for (const Pair& pair : pairs_) {
    float start = 0, length = 0;
    const bool known = cudaEventSynchronize(pair.after) == cudaSuccess &&
                       cudaEventElapsedTime(&start, base_, pair.before) == cudaSuccess &&
                       cudaEventElapsedTime(&length, pair.before, pair.after) == cudaSuccess;
    if (!known) continue;
    const int64_t started = base_time_ + static_cast<int64_t>(static_cast<double>(start) * 1e6);
    const int64_t ended = started + static_cast<int64_t>(static_cast<double>(length) * 1e6);
    profile::add_kernel({pair.name, pair.launched, started, ended, pair.thread});
  }
  drop();
}

void KernelTimes::drop() {
  for (const Pair& pair : pairs_) {
    cudaEventDestroy(pair.before);
    cudaEventDestroy(pair.after);
  }
  pairs_.clear();
  if (base_) cudaEventDestroy(base_);
  base_ = nullptr;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
