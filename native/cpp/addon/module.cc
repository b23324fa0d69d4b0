// The addon's entry: one Environment per JavaScript environment, every function registered.
#include "addon/capture.h"
#include "addon/convert.h"

NAPI_MODULE_INIT() {
  using namespace nodegrad;
  auto* environment = new Environment(env);
  const napi_status status = napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); },
      nullptr);
  if (status != napi_ok) {
    delete environment;
    napi_throw_error(env, "nodegrad", "nodegrad: the addon could not be initialised");
    return nullptr;
  }
  return guarded(env, "nodegrad", [&] {
    Registry registry(env, exports);
    register_ops(registry);
    register_tensors(registry);
    register_capture(registry);
    register_share(registry);
    return exports;
  });
}
