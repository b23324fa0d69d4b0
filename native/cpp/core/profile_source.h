// Kernels of streams that run elsewhere than on the host: a profile asks for their times at its
// end.
#pragma once

#include <cstdint>

#include "core/profile.h"

namespace nodegrad::profile {

// Known to profiles from construction to destruction.
class Source {
 public:
  Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  // Waits for the kernels launched since begin() and adds each by add_kernel; on any thread.
  virtual void collect() = 0;

 protected:
  virtual ~Source();
};

// When a kernel was launched, began and ended (as now() has it), and by which thread's call.
struct KernelTime {
  const char* name;
  int64_t launched, started, ended;
  int thread;
};
void add_kernel(const KernelTime& time);

int thread_number();  // of the calling thread, as events have it

}  // namespace nodegrad::profile
