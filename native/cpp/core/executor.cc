#include "core/executor.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

namespace nodegrad {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMaxThreads = 256;
// An idle thread looks for the next launch of a step this long before it sleeps.
constexpr auto kIdleSpin = std::chrono::microseconds(20);
// A thread that was woken too late for a run is likely to be in time for the next one.
constexpr auto kWokenSpin = std::chrono::microseconds(100);
// A caller waits awake for the last chunks this long; a thread that was pre-empted needs the core.
constexpr auto kFinishSpin = std::chrono::microseconds(50);

thread_local bool inside_kernel = false;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready()` or until `limit` has passed; says whether it was ready.
template <class Ready>
bool spin(std::chrono::microseconds limit, Ready ready) {
  const auto end = Clock::now() + limit;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause_briefly();
    }
  } while (Clock::now() < end);
  return ready();
}

// The CPUs that a control group pays for, rounded up; a large number where there is no limit.
int quota_threads() {
  double quota = -1, period = 0;
  if (FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) quota = -1;
    std::fclose(file);
  } else if (FILE* old = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
    if (std::fscanf(old, "%lf", &quota) != 1) quota = -1;
    std::fclose(old);
    if (FILE* length = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
      if (std::fscanf(length, "%lf", &period) != 1) period = 0;
      std::fclose(length);
    }
  }
  if (quota <= 0 || period <= 0) return kMaxThreads;
  return static_cast<int>(std::min<double>(kMaxThreads, (quota + period - 1) / period));
}

int default_threads() {
  if (const char* wanted = std::getenv("NODEGRAD_THREADS")) {
    const long threads = std::strtol(wanted, nullptr, 10);
    if (threads > 0) return static_cast<int>(std::min<long>(threads, kMaxThreads));
  }
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) threads = CPU_COUNT(&allowed);
  return std::clamp(threads, 1, quota_threads());
}

}  // namespace

Executor& Executor::instance() {
  static Executor* const executor = new Executor;
  return *executor;
}

Executor::Executor() { threads_ = default_threads(); }

void Executor::set_threads(int threads) {
  {
    std::lock_guard lock(mutex_);
    threads_ = std::clamp(threads, 1, kMaxThreads);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
}

void Executor::start_threads() {
  std::lock_guard lock(mutex_);
  // Signals belong to the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  while (started_ < threads_ - 1) {
    try {
      std::thread([this, index = started_.load()] { serve(index); }).detach();
    } catch (...) {
      threads_ = started_ + 1;  // the system gives no more threads: go on with those there are
      break;
    }
    started_.fetch_add(1);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// Keeps the first pool threads off the caller's CPU. Linux tends to wake a thread where its waker
// runs, and on a machine of few CPUs then leaves both there for milliseconds, others idle.
void Executor::steer(int cpu) {
  avoided_cpu_.store(cpu, std::memory_order_relaxed);
  cpu_set_t others;
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  if (sched_getaffinity(0, sizeof others, &others) != 0) return;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return;
  for (const std::atomic<int>& thread : steered_) {
    if (const int id = thread.load()) sched_setaffinity(id, sizeof others, &others);
  }
}

Executor::Slot* Executor::acquire_slot() {
  for (Slot& slot : slots_) {
    if (slot.owned.load(std::memory_order_relaxed) || slot.owned.exchange(true)) continue;
    if (slot.helpers.load() == 0) return &slot;
    slot.owned.store(false);
  }
  return nullptr;
}

// Takes chunks until none is left and returns how many it ran. A thread that was woken wakes
// `wake` others if there is work for them, so that a wide pool wakes as a tree.
int64_t Executor::work(Slot& slot, int wake_others) {
  int64_t ran = 0;
  for (;;) {
    const int64_t chunk = slot.next.fetch_add(1);
    if (chunk >= slot.chunks) break;
    if (ran == 0 && wake_others > 0) {
      wake(std::min<int64_t>(wake_others, slot.chunks - chunk - 1));
    }
    inside_kernel = true;
    try {
      slot.kernel(slot.args, chunk);
    } catch (...) {
      std::lock_guard lock(slot.mutex);
      if (!slot.error) slot.error = std::current_exception();
    }
    inside_kernel = false;
    ++ran;
  }
  if (ran > 0 && slot.done.fetch_add(ran) + ran == slot.chunks && slot.waiting.load()) {
    std::lock_guard lock(slot.mutex);
    slot.finished.notify_one();
  }
  return ran;
}

void Executor::wait(Slot& slot) {
  const auto finished = [&] { return slot.done.load() == slot.chunks; };
  if (finished() || spin(kFinishSpin, finished)) return;
  std::unique_lock lock(slot.mutex);
  slot.waiting.store(true);
  slot.finished.wait(lock, finished);
  slot.waiting.store(false);
}

void Executor::wake(int64_t wanted) {
  for (; wanted > 0 && sleeping_.load() > 0; --wanted) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_one();
  }
}

void Executor::run(cpu::Kernel kernel, const void* args, int64_t chunks) {
  if (chunks <= 0) return;
  Slot* slot = nullptr;
  if (chunks > 1 && threads() > 1 && !inside_kernel) slot = acquire_slot();
  if (!slot) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) kernel(args, chunk);
    return;
  }
  if (started_.load(std::memory_order_relaxed) < threads() - 1) start_threads();
  slot->kernel = kernel;
  slot->args = args;
  slot->chunks = chunks;
  const int cpu = sched_getcpu();
  if (cpu != avoided_cpu_.load(std::memory_order_relaxed)) steer(cpu);
  slot->next.store(0, std::memory_order_relaxed);
  slot->done.store(0, std::memory_order_relaxed);
  slot->open.store(true);
  epoch_.fetch_add(1);
  const int64_t helpers = std::min<int64_t>(chunks, threads()) - 1;
  if (spinning_.load() < helpers) wake(1);
  work(*slot, 0);
  slot->open.store(false);
  wait(*slot);
  std::exception_ptr error = std::exchange(slot->error, nullptr);
  slot->owned.store(false);
  if (error) std::rethrow_exception(error);
}

// Helps with whatever runs are open; says whether it ran anything.
bool Executor::help(int wake_others) {
  int64_t ran = 0;
  for (Slot& slot : slots_) {
    if (!slot.open.load(std::memory_order_relaxed)) continue;
    slot.helpers.fetch_add(1);
    // Open again after the count was raised: from here on the slot cannot change its run.
    if (slot.open.load()) ran += work(slot, wake_others);
    slot.helpers.fetch_sub(1);
  }
  return ran > 0;
}

void Executor::serve(int index) {
  constexpr int kWakeOthers = 2;
  if (index < kSteered) {
    steered_[index].store(static_cast<int>(syscall(SYS_gettid)));
    avoided_cpu_.store(-1);
  }
  for (bool woken = true;;) {
    const uint64_t epoch = epoch_.load();
    const bool wanted = index < threads() - 1;
    if (wanted && help(woken ? kWakeOthers : 0)) {
      woken = false;
      continue;
    }
    const auto changed = [&] { return epoch_.load() != epoch; };
    if (wanted) {
      spinning_.fetch_add(1);
      const bool found = spin(woken ? kWokenSpin : kIdleSpin, changed);
      spinning_.fetch_sub(1);
      if (found) continue;
    }
    std::unique_lock lock(mutex_);
    if (wanted) sleeping_.fetch_add(1);
    wake_.wait(lock, changed);
    if (wanted) sleeping_.fetch_sub(1);
    woken = true;
  }
}

namespace {

struct Scratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~Scratch() { std::free(data); }
};
thread_local Scratch scratch;

}  // namespace

void* cpu::thread_scratch(size_t bytes) {
  if (bytes <= scratch.bytes && scratch.data) return scratch.data;
  constexpr size_t kGrain = size_t{64} << 10;
  if (bytes > SIZE_MAX - kGrain) return nullptr;
  const size_t rounded = (bytes + kGrain) / kGrain * kGrain;
  std::free(scratch.data);
  scratch.data = std::aligned_alloc(64, rounded);
  scratch.bytes = scratch.data ? rounded : 0;
  return scratch.data;
}

}  // namespace nodegrad
