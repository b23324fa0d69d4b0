#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <vector>

#include "core/profile_source.h"

namespace nodegrad::profile {

std::atomic<bool> active{false};

namespace {

struct Event {
  const char* name;  // as registered or launched: lives as long as the process
  int64_t started, ended;
  int64_t launched;  // a kernel may start later
  int64_t bytes;
  int rank;  // -1: no result
  int64_t shape[kMaxRank];
  int thread;
  Kind kind;
};

// A long profile must not exhaust the host: later events are dropped.
constexpr size_t kMostEvents = size_t{1} << 21;

std::mutex mutex;
std::vector<Event> events;
std::mutex sources_mutex;
std::vector<Source*> sources;
int64_t zero = 0;
std::atomic<int> threads{0};

struct Thread {
  int number = threads.fetch_add(1);
  int64_t bytes = -1;
  int rank = -1;
  int64_t shape[kMaxRank] = {};
};
Thread& this_thread() {
  static thread_local Thread thread;
  return thread;
}

}  // namespace

int64_t now() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

void begin() {
  std::lock_guard lock(mutex);
  events.clear();
  zero = now();
  active.store(true);
}

void note_result(const View& view, int64_t bytes_held) {
  Thread& thread = this_thread();
  thread.bytes = bytes_held;
  if (thread.rank >= 0) return;  // the first result names the call
  thread.rank = view.rank;
  for (int i = 0; i < view.rank; ++i) thread.shape[i] = view.shape[i];
}

void add(Kind kind, const char* name, int64_t started) {
  Event event{name, started, now(), started, -1, -1, {}, this_thread().number, kind};
  if (kind == Kind::call) {
    Thread& thread = this_thread();
    event.bytes = thread.bytes;
    event.rank = thread.rank;
    for (int i = 0; i < thread.rank; ++i) event.shape[i] = thread.shape[i];
    thread.bytes = thread.rank = -1;
  }
  std::lock_guard lock(mutex);
  if (active.load() && started >= zero && events.size() < kMostEvents) events.push_back(event);
}

Source::Source() {
  std::lock_guard lock(sources_mutex);
  sources.push_back(this);
}

Source::~Source() {
  std::lock_guard lock(sources_mutex);
  sources.erase(std::find(sources.begin(), sources.end(), this));
}

void add_kernel(const KernelTime& time) {
  const int64_t started = std::max(time.started, time.launched);
  const Event event{
      time.name,   started,     std::max(time.ended, started), time.launched, -1, -1, {},
      time.thread, Kind::kernel};
  std::lock_guard lock(mutex);
  if (time.launched >= zero && events.size() < kMostEvents) events.push_back(event);
}

int thread_number() { return this_thread().number; }

std::string end() {
  active.store(false);
  {
    std::lock_guard lock(sources_mutex);
    for (Source* source : sources) source->collect();
  }
  std::lock_guard lock(mutex);
  std::string text = "[";
  for (const Event& event : events) {
    char head[256];
    std::snprintf(head, sizeof head, "%s[%d,\"%s\",%.3f,%.3f,%d,%.3f,%lld,",
                  text.size() > 1 ? "," : "", static_cast<int>(event.kind), event.name,
                  (event.started - zero) / 1e3, (event.ended - event.started) / 1e3, event.thread,
                  (event.launched - zero) / 1e3, (long long)event.bytes);
    text += head;
    if (event.rank < 0) {
      text += "null]";
      continue;
    }
    text += "[";
    for (int i = 0; i < event.rank; ++i) {
      if (i > 0) text += ',';
      text += std::to_string(event.shape[i]);
    }
    text += "]]";
  }
  text += "]";
  events = {};
  return text;
}

}  // namespace nodegrad::profile
