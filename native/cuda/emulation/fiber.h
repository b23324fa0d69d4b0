// Fibers: stacks that the executor switches between, one per emulated CUDA thread. On x86-64 and
// arm64 a switch is a few instructions that save what a call must keep; elsewhere, or with
// NODEGRAD_FIBER_UCONTEXT, it is swapcontext. Stacks come from a pool, each with a guard page.
// The address sanitizer is told of every switch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace nodegrad::emulation {

struct FiberContext;  // the fallback's ucontext_t

using FiberEntry = void (*)(void* argument);

struct Fiber {
  Fiber();
  ~Fiber();
  FiberEntry entry = nullptr;
  void* argument = nullptr;
  void* stack_pointer = nullptr;
  char* low = nullptr;  // the stack, guard page excluded
  size_t bytes = 0;
  void* fake_stack = nullptr;  // the sanitizer's
  std::unique_ptr<FiberContext> context;
};

// Makes `fiber` begin with `entry`, which must never return, whatever it was doing before.
void start_fiber(Fiber& fiber, FiberEntry entry, void* argument);
// `abandon`: nobody will switch back to `from` before it is started again.
void switch_fiber(Fiber& from, Fiber& to, bool abandon);
// Describes the calling thread's own stack.
void adopt_thread(Fiber& fiber);

class FiberPool {
 public:
  Fiber& at(size_t index);  // made on first use

 private:
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

}  // namespace nodegrad::emulation
