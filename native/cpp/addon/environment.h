// What one JavaScript environment (the main thread, or a worker) holds: its devices, its tensor
// handles, and the array through which ops return results. Nothing here is shared between
// environments, so worker threads are independent.
//
// A handle is a number: the slot in its low 24 bits, the slot's generation above. A released slot
// gets a new generation, so a stale handle is an error rather than another tensor.
#pragma once

#include <node_api.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "addon/capture.h"
#include "core/tensor.h"

namespace nodegrad {

// Layout of one result in the array that JavaScript reads (lib/native.ts has the same numbers).
constexpr int kResultHandle = 0, kResultDType = 1, kResultRank = 2, kResultShape = 3;
constexpr int kResultStride = kResultShape + kMaxRank;  // doubles per result
constexpr int kMaxResults = 64;

class Environment {
 public:
  explicit Environment(napi_env env) : env_(env) {}
  ~Environment();
  static Environment& of(napi_env env);

  // `code` is type + 8·index, as lib/device.ts makes it.
  Device& device(int64_t code);
  static int64_t code_of(Device& device);

  double hold(Tensor tensor);
  Tensor& tensor(double handle, const char* op, int argument);
  void release(double handle);
  int64_t live_handles() const { return static_cast<int64_t>(slots_.size() - free_.size()); }

  // Writes result number `at` and returns its handle.
  void put_result(int at, Tensor tensor);
  void attach_results(napi_value float64_array);

  // Steps that are captured, by number; one arena serves all of a device.
  std::map<int64_t, std::unique_ptr<CapturedStep>> steps;
  int64_t next_step = 1;
  Ref<Arena>& arena(Device& device);
  const std::shared_ptr<ReplayDepth>& depth(Device& device);

  // A function for any thread that makes `done` run on this one. The process does not end while
  // one is outstanding; each must be called exactly once.
  std::function<void()> on_this_thread(std::function<void(napi_env)> done);
  // Calls `done` on this thread once everything enqueued on `stream` has run.
  void when_reached(Stream& stream, std::function<void(napi_env)> done);
  // Waits for every stream; nothing is outstanding afterwards.
  void drain() noexcept;

 private:
  struct Slot {
    Tensor tensor;
    uint32_t generation = 1;
    bool used = false;
  };

  napi_env env_;
  std::map<int64_t, Ref<Device>> devices_;
  std::map<Device*, Ref<Arena>> arenas_;
  std::map<Device*, std::shared_ptr<ReplayDepth>> depths_;
  Device* cpu_ = nullptr;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  double* results_ = nullptr;
  napi_ref results_ref_ = nullptr;
  napi_threadsafe_function completions_ = nullptr;
  int64_t waiting_ = 0;
};

}  // namespace nodegrad
