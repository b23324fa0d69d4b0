// Stream: the one door to a device. Work is given to it in order and runs in that order; only
// reading a value waits. While a stream captures, work is kept in a Graph instead of run, and
// the Graph replays it whole.
//
// Kernels reach a stream through their backend's launch function (cpu/launch.h, cuda/launch.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace nodegrad {

struct Backend;
class Stream;

// A captured sequence of launches with fixed buffers.
class Graph {
 public:
  virtual ~Graph();
  virtual void replay(Stream& stream) = 0;  // enqueues the whole sequence
  virtual size_t launches() const = 0;
};

class Stream {
 public:
  virtual ~Stream();

  // Waits until everything enqueued has run; throws if any of it failed.
  virtual void synchronize() = 0;
  // True when nothing enqueued is still to run.
  virtual bool idle() = 0;

  // Ordered copies. `copy_from_host` has taken its bytes when it returns; `copy_to_host` waits.
  virtual void copy_from_host(void* dst, const void* host, size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* src, size_t bytes) = 0;
  virtual void copy(void* dst, const void* src, size_t bytes) = 0;
  // Calls `done` once all work enqueued before it has run, on some other thread (or now, if the
  // stream is idle). `done` must not throw nor use the stream.
  virtual void notify(std::function<void()> done) = 0;

  // Between begin_capture and end_capture launches are kept, not run. Reading is refused.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
  virtual void abort_capture() noexcept = 0;
  bool capturing() const { return capturing_; }

 protected:
  bool capturing_ = false;
};

// One per process and device (`cpu`, `emulated`, `cuda:0` …): raw memory, streams, kernels.
class DeviceDriver {
 public:
  virtual ~DeviceDriver();
  virtual const Backend& backend() const = 0;
  virtual std::unique_ptr<Stream> make_stream() = 0;
  // A stream whose work never runs on the calling thread nor takes helpers from the other one, for
  // what is prepared beside it; null where launches never run on the calling thread anyway.
  virtual std::unique_ptr<Stream> make_side_stream() { return nullptr; }
  virtual void* allocate(
      size_t bytes) = 0;  // null where there is no memory; at least 256-byte aligned
  virtual void release(void* memory) = 0;
  virtual std::string description() const = 0;  // for people: the chip and what is used of it
};

// Null where the device is not there; `reason` then says why in one sentence.
std::unique_ptr<DeviceDriver> make_cpu_driver();
#ifdef NODEGRAD_WITH_CUDA
namespace cuda {
int device_count(std::string& reason);
std::unique_ptr<DeviceDriver> make_driver(int index);
}  // namespace cuda
#endif
#ifdef NODEGRAD_WITH_EMULATION
namespace emulated {
int device_count(std::string& reason);
std::unique_ptr<DeviceDriver> make_driver(int index);
}  // namespace emulated
#endif

}  // namespace nodegrad
