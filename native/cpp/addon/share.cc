// CPU tensors between the threads of a process without a copy: one thread gives a tensor under a
// number, another takes it by that number, once. What nobody takes in time is given up.
#include <chrono>
#include <map>
#include <mutex>

#include "addon/convert.h"
#include "core/error.h"
#include "ops/ops.h"

namespace nodegrad {

namespace {

using Clock = std::chrono::steady_clock;

struct Given {
  Tensor tensor;
  Clock::time_point until;
};

std::mutex mutex;
std::map<int64_t, Given> given;
int64_t next_number = 1;

// Takes out what is overdue; destroyed by the caller, without the lock.
std::vector<Given> overdue() {
  std::vector<Given> gone;
  const Clock::time_point now = Clock::now();
  for (auto at = given.begin(); at != given.end();) {
    if (at->second.until > now) {
      ++at;
      continue;
    }
    gone.push_back(std::move(at->second));
    at = given.erase(at);
  }
  return gone;
}

double give(const Tensor& x, double seconds) {
  if (x.device().type() != DeviceType::cpu) {
    fail("shareTensor: needs a tensor on the cpu, got one on %s", x.device().name().c_str());
  }
  if (x.stream().capturing() || x.storage->from_arena()) {
    fail("shareTensor: a tensor of a step that is being captured cannot be shared");
  }
  x.stream().synchronize();
  std::vector<Given> gone;
  std::lock_guard lock(mutex);
  gone = overdue();
  const auto life = std::chrono::duration<double>(seconds);
  given[next_number] = {x, Clock::now() + std::chrono::duration_cast<Clock::duration>(life)};
  return static_cast<double>(next_number++);
}

napi_value take(Environment& environment, napi_env, double number) {
  std::vector<Given> gone;
  Tensor theirs;
  {
    std::lock_guard lock(mutex);
    gone = overdue();
    const auto found = given.find(static_cast<int64_t>(number));
    if (found == given.end()) {
      fail("receiveTensor: the tensor was received already, or was not received in time");
    }
    theirs = std::move(found->second.tensor);
    given.erase(found);
  }
  Device& own = environment.device(static_cast<int64_t>(DeviceType::cpu));
  Tensor mine{Ref<Storage>(new Storage(Ref<Device>(&own), theirs.storage, "receiveTensor")),
              theirs.view};
  environment.put_result(0, std::move(mine));
  return nullptr;
}

// Gives up what was not taken.
void give_up(Environment&, napi_env, double number) {
  std::map<int64_t, Given>::node_type gone;
  std::lock_guard lock(mutex);
  gone = given.extract(static_cast<int64_t>(number));
}

}  // namespace

void register_share(Registry& registry) {
  registry.add("shareTensor", give);
  registry.add("receiveTensor", take);
  registry.add("unshareTensor", give_up, "shareTensor");
}

}  // namespace nodegrad
