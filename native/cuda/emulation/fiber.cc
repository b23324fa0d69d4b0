#include "emulation/fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(NODEGRAD_FIBER_UCONTEXT)
#define NODEGRAD_FIBER_UCONTEXT
#endif
#ifdef NODEGRAD_FIBER_UCONTEXT
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

#ifndef NODEGRAD_FIBER_UCONTEXT
extern "C" {
// Saves the registers that a call preserves on the stack, stores the stack pointer in `*save`
// and continues where `load` was saved.
void nodegrad_fiber_switch(void** save, void* load) __attribute__((visibility("hidden")));
void nodegrad_fiber_begin() __attribute__((visibility("hidden")));
}

#ifdef __x86_64__
constexpr int kSavedWords = 7;  // r15 r14 r13 r12 rbx rbp and the return address
constexpr int kEntryWord = 2, kArgumentWord = 3, kReturnWord = 6;
asm(R"(
.text
.p2align 4
.globl nodegrad_fiber_switch
.hidden nodegrad_fiber_switch
.type nodegrad_fiber_switch, @function
nodegrad_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size nodegrad_fiber_switch, . - nodegrad_fiber_switch
.p2align 4
.globl nodegrad_fiber_begin
.hidden nodegrad_fiber_begin
.type nodegrad_fiber_begin, @function
nodegrad_fiber_begin:
  .cfi_startproc
  .cfi_undefined rip
  movq %r12, %rdi
  call *%r13
  ud2
  .cfi_endproc
.size nodegrad_fiber_begin, . - nodegrad_fiber_begin
)");
#else
constexpr int kSavedWords = 20;  // x19 to x30, d8 to d15
constexpr int kArgumentWord = 0, kEntryWord = 1, kReturnWord = 11;
asm(R"(
.text
.p2align 4
.globl nodegrad_fiber_switch
.hidden nodegrad_fiber_switch
.type nodegrad_fiber_switch, %function
nodegrad_fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size nodegrad_fiber_switch, . - nodegrad_fiber_switch
.p2align 4
.globl nodegrad_fiber_begin
.hidden nodegrad_fiber_begin
.type nodegrad_fiber_begin, %function
nodegrad_fiber_begin:
  .cfi_startproc
  .cfi_undefined x30
  mov x0, x19
  blr x20
  brk #1
  .cfi_endproc
.size nodegrad_fiber_begin, . - nodegrad_fiber_begin
)");
#endif
#endif  // NODEGRAD_FIBER_UCONTEXT

namespace nodegrad::emulation {

#ifdef NODEGRAD_FIBER_UCONTEXT
struct FiberContext {
  ucontext_t context;
};
#else
struct FiberContext {};
#endif

Fiber::Fiber() = default;
Fiber::~Fiber() = default;

static void begin(void* started) {
  auto& fiber = *static_cast<Fiber*>(started);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  fiber.entry(fiber.argument);
}

#ifdef NODEGRAD_FIBER_UCONTEXT
static void context_begin(unsigned high, unsigned low) {
  begin(reinterpret_cast<void*>(uintptr_t(high) << 32 | low));
}
#endif

void start_fiber(Fiber& fiber, FiberEntry entry, void* argument) {
  fiber.entry = entry;
  fiber.argument = argument;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(fiber.low, fiber.bytes);
  fiber.fake_stack = nullptr;
#endif
#ifdef NODEGRAD_FIBER_UCONTEXT
  if (!fiber.context) fiber.context = std::make_unique<FiberContext>();
  ucontext_t& context = fiber.context->context;
  getcontext(&context);
  context.uc_stack = {fiber.low, 0, fiber.bytes};
  context.uc_link = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(&fiber);
  makecontext(&context, reinterpret_cast<void (*)()>(context_begin), 2,
              static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
#else
  // Stacks lie a multiple of the page apart: shifted tops keep their hot lines in different
  // cache sets.
  const uintptr_t top = reinterpret_cast<uintptr_t>(fiber.low) + fiber.bytes;
  const uintptr_t colour = (top / (fiber.bytes + 4096) % 61) * 64;
  void** words = reinterpret_cast<void**>(top - colour) - kSavedWords;
  for (int i = 0; i < kSavedWords; ++i) words[i] = nullptr;
  words[kEntryWord] = reinterpret_cast<void*>(&begin);
  words[kArgumentWord] = &fiber;
  words[kReturnWord] = reinterpret_cast<void*>(&nodegrad_fiber_begin);
  fiber.stack_pointer = words;
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool abandon) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(abandon ? nullptr : &from.fake_stack, to.low, to.bytes);
#endif
#ifdef NODEGRAD_FIBER_UCONTEXT
  if (!from.context) from.context = std::make_unique<FiberContext>();
  swapcontext(&from.context->context, &to.context->context);
#else
  nodegrad_fiber_switch(&from.stack_pointer, to.stack_pointer);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void adopt_thread(Fiber& fiber) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  void* low = nullptr;
  pthread_attr_getstack(&attributes, &low, &fiber.bytes);
  fiber.low = static_cast<char*>(low);
  pthread_attr_destroy(&attributes);
}

Fiber& FiberPool::at(size_t index) {
  while (fibers_.size() <= index) {
    const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, kStackBytes + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, guard, PROT_NONE);
    auto fiber = std::make_unique<Fiber>();
    fiber->low = static_cast<char*>(memory) + guard;
    fiber->bytes = kStackBytes;
    fibers_.push_back(std::move(fiber));
  }
  return *fibers_[index];
}

}  // namespace nodegrad::emulation
