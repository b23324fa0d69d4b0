// What ran when: calls from JavaScript and kernels of CPU streams, gathered while a profile is on.
// Off, it costs one relaxed load per call and per launch.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "core/view.h"

namespace nodegrad::profile {

extern std::atomic<bool> active;
inline bool on() { return active.load(std::memory_order_relaxed); }

void begin();
// The events as JSON, an array per event: kind (0 a call, 1 a kernel), name, start and duration in
// µs, thread, bytes held afterwards (-1 where unknown), shape of the first result.
std::string end();

int64_t now();  // nanoseconds of a steady clock
inline int64_t start() { return on() ? now() : 0; }

// The result that the call under way on this thread has made.
void note_result(const View& view, int64_t bytes_held);

enum class Kind : uint8_t { call = 0, kernel = 1 };
void add(Kind kind, const char* name, int64_t started);

// From construction to destruction.
class Span {
 public:
  Span(Kind kind, const char* name) : started_(start()), name_(name), kind_(kind) {}
  ~Span() {
    if (started_ != 0) [[unlikely]]
      add(kind_, name_, started_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  int64_t started_;
  const char* name_;
  Kind kind_;
};

}  // namespace nodegrad::profile
