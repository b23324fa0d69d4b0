// Tensors across the boundary: bytes in, bytes out, release; devices and their memory.
#include <cmath>
#include <cstring>

#include "addon/capture.h"
#include "addon/convert.h"
#include "core/executor.h"
#include "ops/ops.h"

namespace nodegrad {

// The bytes of a typed array or ArrayBuffer, valid during the call.
struct Bytes {
  void* data;
  size_t size;
};

template <>
struct Argument<const Bytes&> {
  static Bytes from(const Place& at, napi_value value) {
    bool typed = false, buffer = false;
    napi_is_typedarray(at.env, value, &typed);
    void* data = nullptr;
    size_t size = 0;
    if (typed) {
      napi_typedarray_type type;
      size_t length = 0;
      napi_get_typedarray_info(at.env, value, &type, &length, &data, nullptr, nullptr);
      static constexpr size_t kItem[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
      size = length * (static_cast<size_t>(type) < std::size(kItem) ? kItem[type] : 1);
      return {data, size};
    }
    napi_is_arraybuffer(at.env, value, &buffer);
    if (!buffer) refuse(at, "a typed array or an ArrayBuffer");
    napi_get_arraybuffer_info(at.env, value, &data, &size);
    return {data, size};
  }
};

namespace {

Tensor from_bytes(Device& device, const Shape& shape, DType dtype, const Bytes& bytes) {
  Tensor out = empty(device, shape, dtype, "tensor");
  if (bytes.size != out.bytes()) {
    fail("tensor: %s%s takes %zu bytes, got %zu", dtype_name(dtype), shape_text(shape).c_str(),
         out.bytes(), bytes.size);
  }
  device.stream().copy_from_host(out.view.data, bytes.data, bytes.size);
  return out;
}

void write_bytes(const Tensor& out, const Bytes& bytes) {
  if (out.stream().capturing()) {
    fail("write: a tensor cannot be written from the host while a step is being captured");
  }
  if (!out.contiguous() || bytes.size != out.bytes()) {
    fail("write: %s%s takes %zu bytes, got %zu", dtype_name(out.dtype()),
         shape_text(out.view).c_str(), out.bytes(), bytes.size);
  }
  out.stream().copy_from_host(out.view.data, bytes.data, bytes.size);
}

void refuse_while_capturing(const char* op, const Tensor& x) {
  if (x.stream().capturing()) {
    fail("%s: a value cannot be read while a step is being captured", op);
  }
}

napi_value array_buffer(napi_env env, size_t bytes, void** data) {
  napi_value buffer;
  if (napi_create_arraybuffer(env, bytes, data, &buffer) != napi_ok) {
    fail("read: the host has no memory for %zu bytes", bytes);
  }
  return buffer;
}

napi_value read(Environment&, napi_env env, const Tensor& input) {
  refuse_while_capturing("read", input);
  const Tensor x = ops::contiguous(input);
  void* data = nullptr;
  napi_value buffer = array_buffer(env, x.bytes(), &data);
  x.stream().copy_to_host(data, x.view.data, x.bytes());
  return buffer;
}

// A promise of the bytes; the event loop is free until they are there.
napi_value read_later(Environment& environment, napi_env env, const Tensor& input) {
  refuse_while_capturing("read", input);
  const Tensor x = ops::contiguous(input);
  napi_deferred deferred;
  napi_value promise;
  napi_create_promise(env, &deferred, &promise);
  environment.when_reached(x.stream(), [x, deferred](napi_env e) {
    napi_value result = nullptr;
    try {
      void* data = nullptr;
      result = array_buffer(e, x.bytes(), &data);
      x.stream().copy_to_host(data, x.view.data, x.bytes());
    } catch (const std::exception& error) {
      napi_value text, failure;
      napi_create_string_utf8(e, error.what(), NAPI_AUTO_LENGTH, &text);
      napi_create_error(e, nullptr, text, &failure);
      napi_reject_deferred(e, deferred, failure);
      return;
    }
    napi_resolve_deferred(e, deferred, result);
  });
  return promise;
}

// Rows of `x` in a tensor that may be used once the promise is kept: they are gathered beside the
// stream, off this thread. Where the device needs no such thing they come by the stream itself, and
// there is no promise.
napi_value index_select_later(Environment& environment, napi_env env, const Tensor& input,
                              const Tensor& positions) {
  Stream& stream = input.stream();
  Stream* const side = stream.capturing() ? nullptr : input.device().side_stream();
  napi_value promise = nullptr;
  if (!side) {
    environment.put_result(0, ops::index_select(input, positions));
    napi_get_undefined(env, &promise);
    return promise;
  }
  const Tensor x = ops::contiguous(input), index = ops::contiguous(positions);
  side->begin_capture();
  Tensor out;
  try {
    out = ops::index_select_on(*side, x, index);
  } catch (...) {
    side->abort_capture();
    throw;
  }
  std::shared_ptr<Graph> graph = side->end_capture();
  napi_deferred deferred;
  napi_create_promise(env, &deferred, &promise);
  // What is read and written lives until the gather has run.
  auto done = environment.on_this_thread([x, index, out, deferred](napi_env e) {
    napi_value nothing;
    napi_get_undefined(e, &nothing);
    napi_resolve_deferred(e, deferred, nothing);
  });
  stream.notify([graph, side, done = std::move(done)] {
    graph->replay(*side);
    side->notify(done);
  });
  environment.put_result(0, out);
  return promise;
}

float float_from_half_bits(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) return fraction ? NAN : sign ? -INFINITY : INFINITY;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return sign ? -magnitude : magnitude;
}

double number_from_bytes(const char* bytes, DType dtype) {
  auto as = [bytes](auto value) {
    std::memcpy(&value, bytes, sizeof value);
    return value;
  };
  switch (dtype) {
    case DType::float32:
      return as(float{});
    case DType::float64:
      return as(double{});
    case DType::bfloat16:
      return std::bit_cast<float>(static_cast<uint32_t>(as(uint16_t{})) << 16);
    case DType::float16:
      return float_from_half_bits(as(uint16_t{}));
    case DType::int32:
      return as(int32_t{});
    case DType::int64:
      return static_cast<double>(as(int64_t{}));
    case DType::uint8:
    case DType::boolean:
      return as(uint8_t{});
  }
  return 0;
}

// The one element of a tensor, as a number.
double item(const Tensor& x) {
  refuse_while_capturing("item", x);
  if (x.elements() != 1) {
    fail("item: needs a tensor of one element, got shape %s", shape_text(x.view).c_str());
  }
  char bytes[8];
  x.stream().copy_to_host(bytes, x.view.data, item_size(x.dtype()));
  return number_from_bytes(bytes, x.dtype());
}

double in_row_major(const Tensor& x) { return x.contiguous() ? 1 : 0; }

void release(Environment& environment, napi_env, double handle) { environment.release(handle); }

// Releases many handles in one call; zeros are skipped.
void release_all(Environment& environment, napi_env env, const std::vector<double>& handles) {
  (void)env;
  for (double handle : handles) {
    if (handle != 0) environment.release(handle);
  }
}

// Tells V8 of memory that JavaScript objects hold outside its heap.
void adjust_external_memory(Environment&, napi_env env, int64_t bytes) {
  int64_t total = 0;
  napi_adjust_external_memory(env, bytes, &total);
}

void synchronize(Device& device) { device.synchronize(); }

napi_value synchronize_later(Environment& environment, napi_env env, Device& device) {
  napi_deferred deferred;
  napi_value promise;
  napi_create_promise(env, &deferred, &promise);
  environment.when_reached(device.stream(), [deferred](napi_env e) {
    napi_value nothing;
    napi_get_undefined(e, &nothing);
    napi_resolve_deferred(e, deferred, nothing);
  });
  return promise;
}

// Why a device is not there, or an empty text where it is.
std::string device_missing(int64_t type) {
  std::string reason;
  if (type < 0 || type >= kDeviceTypes) return "unknown device";
  return device_count(static_cast<DeviceType>(type), reason) > 0 ? "" : reason;
}

double devices_of_type(int64_t type) {
  std::string reason;
  if (type < 0 || type >= kDeviceTypes) return 0;
  return device_count(static_cast<DeviceType>(type), reason);
}

std::string describe_device(Device& device) { return device.physical().driver->description(); }

napi_value memory_stats(Environment& environment, napi_env env, Device& device) {
  const MemoryStats stats = device.allocator().stats();
  const std::pair<const char*, int64_t> fields[] = {
      {"allocated", stats.allocated},
      {"peakAllocated", stats.peak_allocated},
      {"reserved", stats.reserved},
      {"blocks", stats.blocks},
      {"driverCalls", stats.driver_calls},
      {"limit", device.physical().account.limit.load()},
      {"liveTensors", environment.live_handles()}};
  napi_value object;
  napi_create_object(env, &object);
  for (auto [name, number] : fields) {
    napi_value value;
    napi_create_double(env, static_cast<double>(number), &value);
    napi_set_named_property(env, object, name, value);
  }
  return object;
}

void set_memory_limit(Device& device, int64_t bytes) {
  if (bytes < 0) fail("memory.setLimit: bytes must not be negative, got %lld", (long long)bytes);
  device.physical().account.limit.store(bytes);
}

void empty_cache(Device& device) {
  device.stream().synchronize();
  device.allocator().release_cached();
}

void reset_peak(Device& device) { device.allocator().reset_peak(); }

void set_threads(int64_t threads) {
  if (threads < 1 || threads > 1024) {
    fail("setNumThreads: must be in [1,1024], got %lld", (long long)threads);
  }
  Executor::instance().set_threads(static_cast<int>(threads));
}

double num_threads(Environment&, napi_env) { return Executor::instance().threads(); }

void profile_begin(Environment&, napi_env) { profile::begin(); }
std::string profile_end() { return profile::end(); }

void attach(Environment& environment, napi_env, napi_value results) {
  environment.attach_results(results);
}

void nothing(Environment&, napi_env) {}

}  // namespace

template <>
struct Argument<napi_value> {
  static napi_value from(const Place&, napi_value value) { return value; }
};
template <>
struct Argument<const std::vector<double>&> {
  static std::vector<double> from(const Place& at, napi_value value) {
    std::vector<double> numbers;
    for_each_number(at, value, [&](double number) { numbers.push_back(number); });
    return numbers;
  }
};

void register_tensors(Registry& registry) {
  registry.add("attach", attach);
  registry.add("nothing", nothing);  // the cost of crossing the boundary, for the benchmarks
  registry.add("fromBytes", from_bytes);
  registry.add("writeBytes", write_bytes);
  registry.add("read", read);
  registry.add("readLater", read_later, "read");
  registry.add("indexSelectLater", index_select_later, "indexSelect");
  registry.add("item", item);
  registry.add("isContiguous", in_row_major);
  registry.add("release", release);
  registry.add("releaseAll", release_all);
  registry.add("adjustExternalMemory", adjust_external_memory);
  registry.add("synchronize", synchronize);
  registry.add("synchronizeLater", synchronize_later);
  registry.add("deviceMissing", device_missing);
  registry.add("deviceCount", devices_of_type);
  registry.add("describeDevice", describe_device);
  registry.add("memoryStats", memory_stats);
  registry.add("setMemoryLimit", set_memory_limit);
  registry.add("emptyCache", empty_cache);
  registry.add("resetPeakMemory", reset_peak);
  registry.add("setNumThreads", set_threads);
  registry.add("numThreads", num_threads);
  registry.add("profileBegin", profile_begin);
  registry.add("profileEnd", profile_end);
}

}  // namespace nodegrad
