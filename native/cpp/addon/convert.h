// From a C++ function's signature to a JavaScript function: arguments are converted by type, the
// results go to the environment's result array (tensors) or are returned (numbers). Nothing is
// parsed by hand anywhere else.
#pragma once

#include <node_api.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "addon/environment.h"
#include "core/error.h"
#include "core/exception.h"
#include "core/profile.h"

namespace nodegrad {

// Where an argument stands, for its error sentence.
struct Place {
  Environment& environment;
  napi_env env;
  const char* op;
  int argument;
};

[[noreturn]] inline void refuse(const Place& at, const char* expected) {
  fail("%s: argument %d must be %s", at.op, at.argument + 1, expected);
}

inline double to_double(const Place& at, napi_value value, const char* expected = "a number") {
  double number;
  if (napi_get_value_double(at.env, value, &number) != napi_ok) refuse(at, expected);
  return number;
}

inline int64_t to_integer(const Place& at, napi_value value) {
  const double number = to_double(at, value, "an integer");
  if (!(number >= -9007199254740992.0 && number <= 9007199254740992.0) ||
      number != static_cast<double>(static_cast<int64_t>(number))) {
    refuse(at, "an integer");
  }
  return static_cast<int64_t>(number);
}

// Calls `each(number)` over an array or a Float64Array.
template <class F>
void for_each_number(const Place& at, napi_value value, F each) {
  bool is_typed = false, is_array = false;
  napi_is_typedarray(at.env, value, &is_typed);
  if (is_typed) {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    napi_get_typedarray_info(at.env, value, &type, &length, &data, nullptr, nullptr);
    if (type != napi_float64_array) refuse(at, "an array of numbers");
    for (size_t i = 0; i < length; ++i) each(static_cast<const double*>(data)[i]);
    return;
  }
  napi_is_array(at.env, value, &is_array);
  if (!is_array) refuse(at, "an array of numbers");
  uint32_t length = 0;
  napi_get_array_length(at.env, value, &length);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value item;
    napi_get_element(at.env, value, i, &item);
    each(to_double(at, item, "an array of numbers"));
  }
}

template <class T>
struct Argument;

template <>
struct Argument<double> {
  static double from(const Place& at, napi_value value) { return to_double(at, value); }
};
template <>
struct Argument<int64_t> {
  static int64_t from(const Place& at, napi_value value) { return to_integer(at, value); }
};
template <>
struct Argument<bool> {
  static bool from(const Place& at, napi_value value) {
    bool flag;
    if (napi_get_value_bool(at.env, value, &flag) != napi_ok) refuse(at, "true or false");
    return flag;
  }
};
template <>
struct Argument<DType> {
  static DType from(const Place& at, napi_value value) {
    const int64_t code = to_integer(at, value);
    if (code < 0 || code >= kDTypes) refuse(at, "a dtype");
    return static_cast<DType>(code);
  }
};
template <>
struct Argument<Device&> {
  static Device& from(const Place& at, napi_value value) {
    return at.environment.device(to_integer(at, value));
  }
};
template <>
struct Argument<const Tensor&> {
  static const Tensor& from(const Place& at, napi_value value) {
    return at.environment.tensor(to_double(at, value, "a tensor"), at.op, at.argument);
  }
};
template <>
struct Argument<const std::optional<Tensor>&> {
  static std::optional<Tensor> from(const Place& at, napi_value value) {
    napi_valuetype type;
    napi_typeof(at.env, value, &type);
    if (type == napi_undefined || type == napi_null) return std::nullopt;
    return Argument<const Tensor&>::from(at, value);
  }
};
template <>
struct Argument<const Shape&> {
  static Shape from(const Place& at, napi_value value) {
    Shape shape;
    for_each_number(at, value, [&](double size) {
      if (!(size >= -9007199254740992.0 && size <= 9007199254740992.0) ||
          size != static_cast<double>(static_cast<int64_t>(size))) {
        refuse(at, "an array of integers");
      }
      shape.push_back(static_cast<int64_t>(size));
    });
    return shape;
  }
};
template <>
struct Argument<const std::vector<Tensor>&> {
  static std::vector<Tensor> from(const Place& at, napi_value value) {
    std::vector<Tensor> tensors;
    for_each_number(at, value, [&](double handle) {
      tensors.push_back(at.environment.tensor(handle, at.op, at.argument));
    });
    return tensors;
  }
};
template <>
struct Argument<const std::string&> {
  static std::string from(const Place& at, napi_value value) {
    size_t length = 0;
    if (napi_get_value_string_utf8(at.env, value, nullptr, 0, &length) != napi_ok) {
      refuse(at, "a string");
    }
    std::string text(length, '\0');
    napi_get_value_string_utf8(at.env, value, text.data(), length + 1, &length);
    return text;
  }
};

inline napi_value to_result(Environment& environment, napi_env, Tensor tensor) {
  environment.put_result(0, std::move(tensor));
  return nullptr;
}
inline void put_next(Environment& environment, int& at, Tensor& tensor) {
  environment.put_result(at++, std::move(tensor));
}
inline void put_next(Environment& environment, int& at, std::optional<Tensor>& tensor) {
  if (tensor) environment.put_result(at++, std::move(*tensor));
}
template <class... T>
napi_value to_result(Environment& environment, napi_env, std::tuple<T...> tensors) {
  std::apply(
      [&](auto&... tensor) {
        int at = 0;
        (put_next(environment, at, tensor), ...);
      },
      tensors);
  return nullptr;
}
inline napi_value to_result(Environment&, napi_env env, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  return value;
}
inline napi_value to_result(Environment&, napi_env env, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}
inline napi_value to_result(Environment&, napi_env, napi_value value) { return value; }

// Throws a JavaScript Error with the exception's sentence.
inline void throw_to_js(napi_env env, const char* op, const char* message) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;
  napi_throw_error(env, op, message);
}

template <class F>
napi_value guarded(napi_env env, const char* op, F body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw_to_js(env, op, (std::string(op) + ": the host is out of memory").c_str());
  } catch (const std::exception& error) {
    throw_to_js(env, op, error.what());
  }
  return nullptr;
}

// One entry: a name and a function, converted by its signature. A function whose first parameter
// is `Environment&` receives the environment.
template <class R, class... A>
struct Binding {
  const char* name;  // as errors say it
  R (*function)(A...);

  static napi_value call(napi_env env, napi_callback_info info) {
    void* data = nullptr;
    size_t count = sizeof...(A);
    napi_value values[sizeof...(A) + 1];
    napi_get_cb_info(env, info, &count, values, nullptr, &data);
    const auto& binding = *static_cast<const Binding*>(data);
    const profile::Span span(profile::Kind::call, binding.name);
    return guarded(env, binding.name,
                   [&] { return binding.invoke(env, values, std::index_sequence_for<A...>{}); });
  }

 private:
  template <size_t... I>
  napi_value invoke(napi_env env, napi_value* values, std::index_sequence<I...>) const {
    Environment& environment = Environment::of(env);
    if constexpr (std::is_void_v<R>) {
      function(Argument<A>::from({environment, env, name, int{I}}, values[I])...);
      return nullptr;
    } else {
      return to_result(environment, env,
                       function(Argument<A>::from({environment, env, name, int{I}}, values[I])...));
    }
  }
};

template <class R, class... A>
struct EnvironmentBinding {
  const char* name;
  R (*function)(Environment&, napi_env, A...);

  static napi_value call(napi_env env, napi_callback_info info) {
    void* data = nullptr;
    size_t count = sizeof...(A);
    napi_value values[sizeof...(A) + 1];
    napi_get_cb_info(env, info, &count, values, nullptr, &data);
    const auto& binding = *static_cast<const EnvironmentBinding*>(data);
    const profile::Span span(profile::Kind::call, binding.name);
    return guarded(env, binding.name,
                   [&] { return binding.invoke(env, values, std::index_sequence_for<A...>{}); });
  }

 private:
  template <size_t... I>
  napi_value invoke(napi_env env, napi_value* values, std::index_sequence<I...>) const {
    Environment& environment = Environment::of(env);
    if constexpr (std::is_void_v<R>) {
      function(environment, env, Argument<A>::from({environment, env, name, int{I}}, values[I])...);
      return nullptr;
    } else {
      return to_result(environment, env,
                       function(environment, env,
                                Argument<A>::from({environment, env, name, int{I}}, values[I])...));
    }
  }
};

// Adds functions to the addon's exports; bindings live as long as the process.
class Registry {
 public:
  Registry(napi_env env, napi_value exports) : env_(env), exports_(exports) {}

  // `said` is the op's name in errors where it differs from the function's.
  template <class R, class... A>
  void add(const char* name, R (*function)(A...), const char* said = nullptr) {
    define(name, Binding<R, A...>::call, new Binding<R, A...>{said ? said : name, function});
  }
  template <class R, class... A>
  void add(const char* name, R (*function)(Environment&, napi_env, A...),
           const char* said = nullptr) {
    define(name, EnvironmentBinding<R, A...>::call,
           new EnvironmentBinding<R, A...>{said ? said : name, function});
  }

 private:
  void define(const char* name, napi_callback call, void* data) {
    napi_value function;
    if (napi_create_function(env_, name, NAPI_AUTO_LENGTH, call, data, &function) != napi_ok ||
        napi_set_named_property(env_, exports_, name, function) != napi_ok) {
      fail("native: %s could not be registered", name);
    }
  }

  napi_env env_;
  napi_value exports_;
};

void register_ops(Registry& registry);      // addon/registry.cc
void register_tensors(Registry& registry);  // addon/tensors.cc
void register_capture(Registry& registry);  // addon/capture.cc
void register_share(Registry& registry);    // addon/share.cc

}  // namespace nodegrad
