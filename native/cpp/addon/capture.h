// Captured steps: recording, replay, and how many replays are under way.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/tensor.h"

namespace nodegrad {

// Replays enqueued and not yet done, on one device; wakes each waiter at its limit.
class ReplayDepth {
 public:
  void enter();
  void leave();
  int64_t in_flight();
  // Calls `ready` once at most `limit` replays are in flight (now, where that is so already).
  void when_below(int64_t limit, std::function<void()> ready);

 private:
  struct Waiter {
    int64_t limit;
    std::function<void()> ready;
  };

  std::mutex mutex_;
  int64_t in_flight_ = 0;
  std::vector<Waiter> waiting_;
};

// The buffers lie in the arena, which the next recording may use again: replays of one stream run
// one after another, copy their inputs in and their outputs out.
struct CapturedStep {
  Ref<Device> device;
  Ref<Arena> arena;
  std::vector<Ref<Storage>> uses;  // parameters and whatever else it reads or writes
  std::vector<View> inputs, outputs;
  std::unique_ptr<Graph> graph;
};

}  // namespace nodegrad
