// The CPU's executor: one pool of threads per process, for eager ops, replays and workers alike.
//
// A run is a kernel and a number of chunks. Chunks are handed out one by one, in order of number,
// to whoever asks: the caller first, idle pool threads beside it. Callers cut their work by its
// size alone, each chunk writes its own part of the output (or its own partial result, which a
// later launch combines in order of number), so the result does not depend on who ran a chunk
// nor on how many threads there are.
// A caller waits only for chunks that have been started; a run therefore ends even if no pool
// thread ever wakes. Cost: one chunk, a plain call; else about 0.2 µs while helpers are awake.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>

#include "cpu/launch.h"

namespace nodegrad {

class Executor {
 public:
  // Made at first use and never destroyed: pool threads are detached, so neither the end of the
  // process nor that of a worker environment has to wait for them.
  static Executor& instance();

  // Runs chunks 0 … chunks-1 and returns when all have run. Callable from any thread, several at
  // once; inside a kernel it runs inline. Rethrows the first exception of a chunk.
  void run(cpu::Kernel kernel, const void* args, int64_t chunks);

  // Threads that work on one run, its caller included. At first NODEGRAD_THREADS, or else what
  // the affinity mask and the cgroup's quota allow.
  int threads() const { return threads_.load(std::memory_order_relaxed); }
  void set_threads(int threads);

 private:
  // A run in progress. Slots outlive runs: a helper may look at a slot whose run has ended, and
  // a slot is not used again while one does.
  struct alignas(64) Slot {
    std::atomic<bool> owned{false};
    std::atomic<bool> open{false};
    std::atomic<int> helpers{0};
    cpu::Kernel kernel = nullptr;
    const void* args = nullptr;
    int64_t chunks = 0;
    alignas(64) std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};
    std::atomic<bool> waiting{false};
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr error;
  };
  static constexpr int kSlots = 16;
  static constexpr int kSteered = 4;

  Executor();
  Slot* acquire_slot();
  int64_t work(Slot& slot, int wake);
  void wait(Slot& slot);
  bool help(int wake);
  void wake(int64_t wanted);
  void serve(int index);
  void start_threads();
  void steer(int cpu);

  std::atomic<int> threads_{1};
  std::atomic<int> started_{0};
  std::atomic<uint64_t> epoch_{0};           // changes with each run and each set_threads
  std::atomic<int> avoided_cpu_{-1};         // where the latest run was started
  std::atomic<int> steered_[kSteered] = {};  // system ids of the first pool threads
  std::atomic<int> spinning_{0};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  Slot slots_[kSlots];
};

}  // namespace nodegrad
