#include "emulation/queue.h"

#include <algorithm>
#include <cstdlib>

#include "emulation/control.h"
#include "emulation/shadow.h"

namespace nodegrad::emulation {

namespace {

uint64_t initial_seed() {
  const char* text = std::getenv("NODEGRAD_EMULATION_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

uint64_t current_seed = initial_seed();

bool can_start(const StreamState& stream) {
  if (stream.running || stream.tasks.empty()) return false;
  const Task& task = stream.tasks.front();
  return task.kind != Task::Kind::wait || task.event->completed >= task.serial;
}

// A stream whose first task may run now; null, and the next moment to look, where there is none.
StreamState* choose(Queues& q, Clock::time_point now, Clock::time_point& next) {
  StreamState* wanted = nullptr;
  std::vector<StreamState*> ready;
  for (StreamState* stream : q.streams) {
    if (!can_start(*stream)) continue;
    if (q.waiters > 0 || stream->tasks.front().due <= now) {
      ready.push_back(stream);
      if (stream->waiters > 0) wanted = stream;
    } else {
      next = std::min(next, stream->tasks.front().due);
    }
  }
  if (ready.empty()) return nullptr;
  if (wanted && q.random.below(4) != 0) return wanted;
  return ready[q.random.below(static_cast<uint32_t>(ready.size()))];
}

// After a failure the stream's work is dropped, as a real device's would be, but for what other
// streams wait for.
std::string carry_out(const Task& task, bool failed) {
  if (failed || !task.work) return {};
  try {
    return task.work();
  } catch (const std::exception& error) {
    return error.what();
  }
}

void serve(Queues& q) {
  std::unique_lock lock(q.mutex);
  for (;;) {
    auto next = Clock::now() + std::chrono::hours(1);
    StreamState* stream = choose(q, Clock::now(), next);
    if (!stream) {
      q.work.wait_until(lock, next);
      continue;
    }
    Task task = std::move(stream->tasks.front());
    stream->tasks.pop_front();
    stream->running = true;
    const bool failed = !stream->error.empty();
    lock.unlock();
    std::string error = carry_out(task, failed);
    task.work = nullptr;
    lock.lock();
    if (!error.empty() && stream->error.empty()) stream->error = std::move(error);
    if (task.kind == Task::Kind::record) {
      task.event->completed = std::max(task.event->completed, task.serial);
      task.event->time = Clock::now();
    }
    stream->running = false;
    if (stream->destroyed && stream->tasks.empty()) {
      std::erase(q.streams, stream);
      delete stream;
    }
    q.done.notify_all();
  }
}

}  // namespace

Queues& queues() {
  // Never destroyed: its thread serves until the process ends.
  static Queues& instance = *[] {
    auto* q = new Queues;
    q->random = Random{current_seed};
    return q;
  }();
  return instance;
}

void set_seed(uint64_t seed) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  current_seed = seed;
  q.random = Random{seed};
  q.launches = 0;
}

uint64_t seed() { return current_seed; }

void push(Queues& q, StreamState& stream, Task task) {
  if (!q.started) {
    q.started = true;
    std::thread thread([&q] { serve(q); });
    q.worker = thread.get_id();
    thread.detach();
  }
  // Mostly late: what forgets to wait shall see old memory.
  const uint32_t delay = q.random.below(8) == 0 ? 0 : 200 + q.random.below(1800);
  task.due = Clock::now() + std::chrono::microseconds(delay);
  stream.tasks.push_back(std::move(task));
  if (stream.tasks.size() == 1) q.work.notify_one();
}

void wait_until(Queues& q, std::unique_lock<std::mutex>& lock, StreamState* stream,
                const std::function<bool()>& reached) {
  if (reached()) return;
  ++q.waiters;
  if (stream) ++stream->waiters;
  q.work.notify_one();
  q.done.wait(lock, reached);
  --q.waiters;
  if (stream) --stream->waiters;
}

void wait_for_all(Queues& q, std::unique_lock<std::mutex>& lock) {
  wait_until(q, lock, nullptr, [&q] {
    return std::none_of(q.streams.begin(), q.streams.end(),
                        [](const StreamState* stream) { return stream->busy(); });
  });
}

bool is_stream(const Queues& q, const StreamState* stream) {
  return stream && std::find(q.streams.begin(), q.streams.end(), stream) != q.streams.end() &&
         !stream->destroyed;
}

api::cudaError_t take_error(StreamState& stream) {
  if (take_host_access() && stream.error.empty()) {
    stream.error = "host code of the backend touched device memory";
  }
  if (stream.error.empty()) return api::cudaSuccess;
  std::string text;
  text.swap(stream.error);
  for (Task& task : stream.tasks) task.work = nullptr;
  return result(api::cudaErrorLaunchFailure, text);
}

api::cudaError_t submit(Queues& q, StreamState& stream, Task::Kind kind, Work work) {
  if (stream.capture) {
    if (stream.capture->invalid) return result(api::cudaErrorStreamCaptureInvalidated);
    stream.capture->graph.nodes->push_back(std::move(work));
    return api::cudaSuccess;
  }
  if (!stream.error.empty()) return take_error(stream);
  push(q, stream, {kind, std::move(work), nullptr, 0, {}});
  return api::cudaSuccess;
}

}  // namespace nodegrad::emulation
