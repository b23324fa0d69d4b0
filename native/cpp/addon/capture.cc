#include "addon/capture.h"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "addon/convert.h"
#include "ops/ops.h"

namespace nodegrad {

void ReplayDepth::enter() {
  std::lock_guard lock(mutex_);
  ++in_flight_;
}

void ReplayDepth::leave() {
  std::vector<Waiter> reached;
  {
    std::lock_guard lock(mutex_);
    --in_flight_;
    auto still =
        std::stable_partition(waiting_.begin(), waiting_.end(),
                              [this](const Waiter& waiter) { return waiter.limit < in_flight_; });
    std::move(still, waiting_.end(), std::back_inserter(reached));
    waiting_.erase(still, waiting_.end());
  }
  for (Waiter& waiter : reached) waiter.ready();
}

int64_t ReplayDepth::in_flight() {
  std::lock_guard lock(mutex_);
  return in_flight_;
}

void ReplayDepth::when_below(int64_t limit, std::function<void()> ready) {
  {
    std::lock_guard lock(mutex_);
    if (in_flight_ > limit) {
      waiting_.push_back({limit, std::move(ready)});
      return;
    }
  }
  ready();
}

namespace {

using TensorList = std::vector<Tensor>;

bool same_view(const View& a, const View& b) {
  if (a.rank != b.rank || a.dtype != b.dtype) return false;
  return std::equal(a.shape, a.shape + a.rank, b.shape);
}

// An arena with room for a recording. One that is too small makes way, with the recordings in it,
// which are made anew when they are next asked for: so there is one, of the size of the largest.
Ref<Arena>& arena_of(Environment& environment, Device& device, int64_t bytes) {
  Ref<Arena>& arena = environment.arena(device);
  const size_t needed = static_cast<size_t>(bytes);
  if (needed <= kLargeRequest || needed <= arena->bytes()) return arena;
  std::erase_if(environment.steps,
                [&](auto& step) { return step.second->arena.get() == arena.get(); });
  arena = Ref<Arena>(new Arena(Ref<Device>(&device)));
  arena->reserve(needed + needed / 8);  // requests of many sizes leave gaps
  return arena;
}

// What `fn` needs at once beside what it leaves behind: between these two.
void measure_begin(Device& device) { device.allocator().begin_measure(); }
double measure_end(Device& device) { return static_cast<double>(device.allocator().end_measure()); }

// Begins recording a step that is known to need so many bytes; the results are the buffers that
// stand for the inputs.
void capture_begin(Environment& environment, napi_env, Device& device, const TensorList& inputs,
                   int64_t bytes) {
  if (device.stream().capturing()) {
    fail("capture: a step cannot be captured inside another");
  }
  Ref<Arena>& arena = arena_of(environment, device, bytes);
  device.arena = arena.get();
  device.arena_in_use_before = arena->in_use();
  try {
    int at = 0;
    for (const Tensor& input : inputs) {
      if (&input.device() != &device) {
        fail("capture: inputs must be on %s, got %s", device.name().c_str(),
             input.device().name().c_str());
      }
      environment.put_result(at++, empty_like(input, input.dtype(), "capture"));
    }
    device.captured.clear();
    static std::atomic<uint64_t> serial{0};
    device.capture_serial = ++serial;
    device.stream().begin_capture();
  } catch (...) {
    device.arena = nullptr;
    throw;
  }
}

void capture_abort(Environment&, napi_env, Device& device) {
  device.arena = nullptr;
  device.captured.clear();
  if (device.stream().capturing()) device.stream().abort_capture();
}

// Ends recording and returns the step's number. Everything made while recording must have been
// released by now, but for the inputs and outputs.
double capture_end(Environment& environment, napi_env, Device& device, const TensorList& inputs,
                   const TensorList& outputs) {
  if (!device.stream().capturing()) fail("capture: no step is being captured");
  auto step = std::make_unique<CapturedStep>();
  std::vector<const Storage*> own;
  for (const Tensor& t : inputs) {
    step->inputs.push_back(t.view);
    own.push_back(t.storage.get());
  }
  for (const Tensor& t : outputs) {
    step->outputs.push_back(t.view);
    if (t.storage->from_arena()) own.push_back(t.storage.get());
  }
  std::sort(own.begin(), own.end());
  own.erase(std::unique(own.begin(), own.end()), own.end());
  step->uses = std::move(device.captured);
  device.captured.clear();
  const int64_t outliving =
      device.arena->in_use() - device.arena_in_use_before - static_cast<int64_t>(own.size());
  step->device = Ref<Device>(&device);
  step->arena = environment.arena(device);
  device.arena = nullptr;
  if (outliving > 0) {
    device.stream().abort_capture();
    fail(
        "capture: %lld tensors made inside the step outlive it; make what must persist before "
        "the step, or return it",
        (long long)outliving);
  }
  step->graph = device.stream().end_capture();
  if (step->graph->launches() == 0 && inputs.empty() && outputs.empty()) {
    fail(
        "capture: the step gave %s nothing to do; one for another device must take or return a "
        "tensor of that device",
        device.name().c_str());
  }
  const int64_t number = environment.next_step++;
  environment.steps.emplace(number, std::move(step));
  return static_cast<double>(number);
}

CapturedStep& find_step(Environment& environment, int64_t number) {
  auto found = environment.steps.find(number);
  if (found == environment.steps.end()) fail("capture: the step was released");
  return *found->second;
}

// Copies the inputs in, replays, copies the outputs to new tensors; returns replays in flight, or
// -1 where the recording has made way for a larger one.
double replay(Environment& environment, napi_env, int64_t number, const TensorList& inputs) {
  const auto found = environment.steps.find(number);
  if (found == environment.steps.end()) return -1;
  CapturedStep& step = *found->second;
  Device& device = *step.device;
  Stream& stream = device.stream();
  if (stream.capturing()) fail("capture: a captured step cannot run while another is captured");
  if (inputs.size() != step.inputs.size()) {
    fail("capture: the step takes %zu tensors, got %zu", step.inputs.size(), inputs.size());
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!same_view(inputs[i].view, step.inputs[i]) || &inputs[i].device() != &device) {
      fail("capture: input %zu is not what the step was captured with", i + 1);
    }
    device.backend().copy->copy(stream, inputs[i].view, step.inputs[i]);
  }
  step.graph->replay(stream);
  int at = 0;
  for (const View& output : step.outputs) {
    Tensor copy = empty(device, output.shape, output.rank, output.dtype, "capture");
    device.backend().copy->copy(stream, output, copy.view);
    environment.put_result(at++, std::move(copy));
  }
  const std::shared_ptr<ReplayDepth>& depth = environment.depth(device);
  depth->enter();
  stream.notify([depth] { depth->leave(); });
  return static_cast<double>(depth->in_flight());
}

// Resolves once at most `limit` replays are in flight on the device.
napi_value settle(Environment& environment, napi_env env, Device& device, int64_t limit) {
  napi_deferred deferred;
  napi_value promise;
  napi_create_promise(env, &deferred, &promise);
  auto resolve = environment.on_this_thread([deferred](napi_env e) {
    napi_value nothing;
    napi_get_undefined(e, &nothing);
    napi_resolve_deferred(e, deferred, nothing);
  });
  environment.depth(device)->when_below(limit, std::move(resolve));
  return promise;
}

double launches(Environment& environment, napi_env, int64_t number) {
  return static_cast<double>(find_step(environment, number).graph->launches());
}

void release_step(Environment& environment, napi_env, int64_t number) {
  environment.steps.erase(number);
}

}  // namespace

void register_capture(Registry& registry) {
  registry.add("measureBegin", measure_begin);
  registry.add("measureEnd", measure_end);
  registry.add("captureBegin", capture_begin);
  registry.add("captureEnd", capture_end);
  registry.add("captureAbort", capture_abort);
  registry.add("replay", replay);
  registry.add("settle", settle);
  registry.add("captureLaunches", launches);
  registry.add("releaseStep", release_step);
}

}  // namespace nodegrad
