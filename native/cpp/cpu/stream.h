// The CPU's stream. While nothing is pending a launch runs at once on the calling thread, helped
// by the executor's pool; replays run on the stream's own thread, so that the event loop stays
// free, and launches made meanwhile queue behind them.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/stream.h"
#include "cpu/launch.h"

namespace nodegrad::cpu {

// Launches in order, their arguments in one buffer.
class LaunchList {
 public:
  void add(const char* name, Kernel kernel, const void* args, size_t bytes, int64_t chunks);
  void run(bool helped) const;
  size_t size() const { return launches_.size(); }

 private:
  struct Launch {
    const char* name;
    Kernel kernel;
    size_t offset;
    int64_t chunks;
  };
  std::vector<Launch> launches_;
  std::vector<std::max_align_t> arguments_;
};

class CpuStream final : public Stream {
 public:
  // `helped`: whether pool threads take chunks of what runs on the stream's own thread.
  CpuStream(DeviceDriver& driver, bool helped) : driver_(driver), helped_(helped) {}
  ~CpuStream() override;

  void synchronize() override;
  bool idle() override { return pending_.load(std::memory_order_acquire) == 0; }
  void copy_from_host(void* dst, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* src, size_t bytes) override;
  void copy(void* dst, const void* src, size_t bytes) override;
  void notify(std::function<void()> done) override;
  void begin_capture() override;
  std::unique_ptr<Graph> end_capture() override;
  void abort_capture() noexcept override;

  void launch(const char* name, Kernel kernel, const void* args, size_t bytes, int64_t chunks);
  void enqueue(std::function<void()> job);
  void enqueue(std::shared_ptr<const LaunchList> list);
  void* acquire_scratch(size_t bytes);
  void release_scratch(void* scratch);

 private:
  void serve();

  DeviceDriver& driver_;
  const bool helped_;
  std::atomic<int64_t> pending_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::thread thread_;
  bool stopping_ = false;
  std::exception_ptr failure_;  // the first of what ran on the stream's thread
  std::shared_ptr<LaunchList> capture_;
  // Scratch blocks, largest use first; stream order makes a released block free at once. Blocks
  // of captured launches stay with the stream, which outlives its graphs' replays.
  struct Scratch {
    void* data;
    size_t bytes;
    bool used;
  };
  std::vector<Scratch> scratch_;
};

}  // namespace nodegrad::cpu
