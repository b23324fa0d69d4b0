// The emulated device's queues: streams of tasks, events, and the one thread that carries tasks
// out. A task becomes due at a seeded moment after it was queued, or at once where somebody waits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "emulation/random.h"
#include "emulation/runtime_api.h"

namespace nodegrad::emulation {

using Clock = std::chrono::steady_clock;

// Carries out one piece of work; returns what went wrong, or nothing.
using Work = std::function<std::string()>;

// Shared by an event and the tasks that record it or wait for it.
struct EventRecord {
  uint64_t recorded = 0, completed = 0;  // how often
  Clock::time_point time;
  bool captured = false;
  StreamState* stream = nullptr;  // of the last record
};

struct EventState {
  std::shared_ptr<EventRecord> record = std::make_shared<EventRecord>();
};

struct Task {
  enum class Kind { work, host, record, wait } kind;
  Work work;
  std::shared_ptr<EventRecord> event;
  uint64_t serial = 0;  // of the event's record
  Clock::time_point due;
};

struct GraphState {
  std::shared_ptr<std::vector<Work>> nodes = std::make_shared<std::vector<Work>>();
};

struct Capture {
  api::cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool invalid = false;
  GraphState graph;
};

struct StreamState {
  std::deque<Task> tasks;
  bool running = false;  // its first task is being carried out
  bool destroyed = false;
  int waiters = 0;
  std::string error;  // of work that failed, until reported
  std::unique_ptr<Capture> capture;
  bool busy() const { return running || !tasks.empty(); }
};

struct Queues {
  std::mutex mutex;
  std::condition_variable work, done;
  std::vector<StreamState*> streams;
  std::thread::id worker;
  bool started = false;
  int waiters = 0;
  Random random{0};
  uint64_t launches = 0;
};

Queues& queues();

// Remembers the calling thread's last error, with the text that cudaGetErrorString gives for it.
api::cudaError_t result(api::cudaError_t status, std::string text = {});

// All with the mutex held.
void push(Queues&, StreamState&, Task task);
void wait_until(Queues&, std::unique_lock<std::mutex>&, StreamState*,
                const std::function<bool()>& reached);
void wait_for_all(Queues&, std::unique_lock<std::mutex>&);
bool is_stream(const Queues&, const StreamState*);
// Reports, once, a failure of the stream's work or of host code.
api::cudaError_t take_error(StreamState&);
// Gives work to the stream, or keeps it in the graph that is captured.
api::cudaError_t submit(Queues&, StreamState&, Task::Kind, Work);
// Whether the calling thread may make a call that CUDA calls potentially unsafe to capture; a
// capture that forbids it is invalidated.
bool may_call_unsafe(Queues&);

}  // namespace nodegrad::emulation
