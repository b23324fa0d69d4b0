// A few lines of test harness: cases register themselves; each runs once per seed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/stream.h"
#include "emulation/control.h"

namespace harness {

struct Case {
  const char* name;
  void (*run)();
};
std::vector<Case>& cases();

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};
#define CASE(name)                                             \
  static void name();                                          \
  static const harness::Register register_##name(#name, name); \
  static void name()

// A case whose fault only the checks of every access show, so that its file must be compiled with
// -fsanitize=thread: skipped in other builds.
#ifdef __SANITIZE_THREAD__
#define CHECKED_CASE(name) CASE(name)
#else
#define CHECKED_CASE(name)                                        \
  [[maybe_unused]] static void name();                            \
  static const harness::Register register_##name(#name, nullptr); \
  static void name()
#endif

[[noreturn]] void fail_case(const std::string& text);
#define EXPECT(condition)                                                         \
  do {                                                                            \
    if (!(condition))                                                             \
      harness::fail_case(std::string(__FILE__) + ":" + std::to_string(__LINE__) + \
                         ": " #condition);                                        \
  } while (false)

// The emulated device, opened once, and a fresh stream.
nodegrad::DeviceDriver& driver();
std::unique_ptr<nodegrad::Stream> make_stream();

// The second device, of compute capability 9.0; `hopper_current` makes it the thread's own.
nodegrad::DeviceDriver& hopper();
void hopper_current();

// Runs `action`, which must throw nodegrad::Error with `text` in its message.
template <class F>
void expect_error(F&& action, const std::string& text);

// Turns the checks of every access off for a while.
struct WithoutChecks {
  WithoutChecks() { nodegrad::emulation::set_checks(false); }
  ~WithoutChecks() { nodegrad::emulation::set_checks(true); }
};

// Device memory that frees itself.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count)
      : count_(count), data_(static_cast<T*>(driver().allocate(count * sizeof(T)))) {}
  ~Buffer() { driver().release(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }
  std::vector<T> read(nodegrad::Stream& stream) const {
    std::vector<T> values(count_);
    stream.copy_to_host(values.data(), data_, count_ * sizeof(T));
    return values;
  }
  void write(nodegrad::Stream& stream, const std::vector<T>& values) {
    stream.copy_from_host(data_, values.data(), values.size() * sizeof(T));
  }

 private:
  size_t count_;
  T* data_;
};

void expect_error_of(const std::string& what, const std::string& text);
template <class F>
void expect_error(F&& action, const std::string& text) {
  std::string what;
  try {
    action();
  } catch (const std::exception& error) {
    what = error.what();
  }
  expect_error_of(what, text);
}

}  // namespace harness
