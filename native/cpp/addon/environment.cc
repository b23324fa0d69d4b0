#include "addon/environment.h"

#include "addon/capture.h"
#include "core/error.h"
#include "core/profile.h"

namespace nodegrad {

namespace {

constexpr int kSlotBits = 24;
constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;

void run_completion(napi_env env, napi_value, void* context, void* data) {
  std::unique_ptr<std::function<void(napi_env)>> done(
      static_cast<std::function<void(napi_env)>*>(data));
  (void)context;
  if (env) (*done)(env);  // null while the environment is being torn down
}

}  // namespace

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

Environment::~Environment() {
  drain();
  steps.clear();
  slots_.clear();
}

void Environment::drain() noexcept {
  for (auto& [code, device] : devices_) {
    try {
      if (device->stream().capturing()) device->stream().abort_capture();
      device->synchronize();
    } catch (...) {
      // The environment is going away; there is nobody left to tell.
    }
  }
}

Ref<Arena>& Environment::arena(Device& device) {
  Ref<Arena>& arena = arenas_[&device];
  if (!arena) arena = Ref<Arena>(new Arena(Ref<Device>(&device)));
  return arena;
}

const std::shared_ptr<ReplayDepth>& Environment::depth(Device& device) {
  std::shared_ptr<ReplayDepth>& depth = depths_[&device];
  if (!depth) depth = std::make_shared<ReplayDepth>();
  return depth;
}

Device& Environment::device(int64_t code) {
  if (code == 0 && cpu_) return *cpu_;
  auto found = devices_.find(code);
  if (found == devices_.end()) {
    const int64_t type = code % 8, index = code / 8;
    if (code < 0 || type >= kDeviceTypes) fail("device: unknown device code %lld", (long long)code);
    PhysicalDevice& physical =
        physical_device(static_cast<DeviceType>(type), static_cast<int>(index));
    found = devices_.emplace(code, Ref<Device>(new Device(physical))).first;
    if (code == 0) cpu_ = found->second.get();
  }
  return *found->second;
}

int64_t Environment::code_of(Device& device) {
  return static_cast<int64_t>(device.type()) + 8 * int64_t{device.index()};
}

double Environment::hold(Tensor tensor) {
  uint32_t slot;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else {
    slot = static_cast<uint32_t>(slots_.size());
    if (slot > kSlotMask)
      fail("tensor: more than %llu tensors alive", (unsigned long long)kSlotMask);
    slots_.emplace_back();
  }
  Slot& s = slots_[slot];
  s.tensor = std::move(tensor);
  s.used = true;
  return static_cast<double>(uint64_t{s.generation} << kSlotBits | slot);
}

Tensor& Environment::tensor(double handle, const char* op, int argument) {
  const uint64_t bits =
      handle >= 0 && handle < 9007199254740992.0 ? static_cast<uint64_t>(handle) : ~uint64_t{0};
  const uint64_t slot = bits & kSlotMask;
  if (bits == ~uint64_t{0} || slot >= slots_.size() || !slots_[slot].used ||
      slots_[slot].generation != bits >> kSlotBits) {
    fail(
        "%s: argument %d is a tensor that was released; tensors live until their scope ends, "
        "call .keep() on those that must outlive it",
        op, argument + 1);
  }
  Tensor& found = slots_[slot].tensor;
  Device& device = found.device();
  if (device.stream().capturing() && !found.storage->from_arena())
    device.capture_uses(*found.storage);
  return found;
}

void Environment::release(double handle) {
  const uint64_t bits = static_cast<uint64_t>(handle);
  const uint64_t slot = bits & kSlotMask;
  if (slot >= slots_.size()) return;
  Slot& s = slots_[slot];
  if (!s.used || s.generation != bits >> kSlotBits) return;
  s.tensor = Tensor{};
  s.used = false;
  s.generation = (s.generation + 1) & ((1u << 28) - 1);
  free_.push_back(static_cast<uint32_t>(slot));
}

void Environment::attach_results(napi_value array) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env_, array, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < size_t{kResultStride} * kMaxResults) {
    fail("attach: results need a Float64Array of %d", kResultStride * kMaxResults);
  }
  if (results_ref_) napi_delete_reference(env_, results_ref_);
  napi_create_reference(env_, array, 1, &results_ref_);
  results_ = static_cast<double*>(data);
}

void Environment::put_result(int at, Tensor tensor) {
  if (at >= kMaxResults) fail("native: more than %d results", kMaxResults);
  if (profile::on()) [[unlikely]] {
    profile::note_result(tensor.view, tensor.device().allocator().stats().allocated);
  }
  double* result = results_ + at * kResultStride;
  result[kResultDType] = static_cast<double>(tensor.dtype());
  result[kResultRank] = tensor.rank();
  for (int i = 0; i < tensor.rank(); ++i) {
    result[kResultShape + i] = static_cast<double>(tensor.size(i));
  }
  result[kResultHandle] = hold(std::move(tensor));
}

std::function<void()> Environment::on_this_thread(std::function<void(napi_env)> done) {
  if (!completions_) {
    napi_value name;
    napi_create_string_utf8(env_, "nodegrad", NAPI_AUTO_LENGTH, &name);
    if (napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                        run_completion, &completions_) != napi_ok) {
      fail("native: no thread-safe function could be created");
    }
    napi_unref_threadsafe_function(env_, completions_);
    // Cleanup hooks run last registered first: this one before the function itself is closed.
    napi_add_env_cleanup_hook(
        env_, [](void* self) { static_cast<Environment*>(self)->drain(); }, this);
  }
  if (waiting_++ == 0) napi_ref_threadsafe_function(env_, completions_);
  auto* call = new std::function<void(napi_env)>([this, done = std::move(done)](napi_env env) {
    if (--waiting_ == 0) napi_unref_threadsafe_function(env, completions_);
    done(env);
  });
  return [function = completions_, call] {
    if (napi_call_threadsafe_function(function, call, napi_tsfn_nonblocking) != napi_ok) {
      delete call;
    }
  };
}

void Environment::when_reached(Stream& stream, std::function<void(napi_env)> done) {
  if (stream.idle()) {
    done(env_);
  } else {
    stream.notify(on_this_thread(std::move(done)));
  }
}

}  // namespace nodegrad
