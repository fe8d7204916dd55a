// SPDX-License-Identifier: MIT
// Errors and values, deliveries, and the end of an environment.
#include "bridge.h"

#include "../plugin/when_closed.h"

#include <cstdio>
#include <utility>

using namespace troth;

// -------------------------------------------------------------------------------------------- errors

namespace {

/// The JavaScript exception that is pending, if there is one, which it is no more.
std::optional<napi_value> takeException(napi_env env) {
  bool pending = false;
  napi_value thrown;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending ||
      napi_get_and_clear_last_exception(env, &thrown) != napi_ok)
    return std::nullopt;
  return thrown;
}

/// The text of a property of an error, or "". Whatever goes wrong here is not worth hiding the error for.
std::string textOf(napi_env env, napi_value error, const char* property) {
  napi_value value;
  std::size_t size;
  if (napi_get_named_property(env, error, property, &value) != napi_ok ||
      napi_get_value_string_utf8(env, value, nullptr, 0, &size) != napi_ok) {
    takeException(env); // of a getter: it is not looked at, since its own getters may throw as well
    return {};
  }
  return Js<std::string>::from(env, value);
}

} // namespace

void check(napi_env env, napi_status status, std::source_location where) {
  if (status == napi_ok) return;
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  const std::string text = info != nullptr && info->error_message != nullptr ? info->error_message : "unknown error";
  if (const std::optional<napi_value> thrown = takeException(env)) throw fromJsError(env, *thrown);
  throw Exception(Exception::Kind::FAILED, "node: " + text, {}, where);
}

napi_value toJsError(napi_env env, const Exception& exception) {
  const auto text = [env](std::string_view characters) {
    napi_value string = nullptr;
    napi_create_string_utf8(env, characters.data(), characters.size(), &string);
    return string;
  };
  napi_value error = nullptr;
  napi_create_error(env, text(kindName(exception.kind())), text(exception.description()), &error);
  return error;
}

Exception fromJsError(napi_env env, napi_value error) {
  using enum Exception::Kind;
  bool isError = false;
  if (napi_is_error(env, error, &isError) != napi_ok || !isError) {
    napi_value string;
    if (napi_coerce_to_string(env, error, &string) == napi_ok)
      return Exception(FAILED, Js<std::string>::from(env, string));
    takeException(env); // of its toString()
    return Exception(FAILED, "an error of JavaScript");
  }
  const std::string code = textOf(env, error, "code");
  Exception::Kind kind = FAILED;
  for (const Exception::Kind known : {OVERLOADED, DISCONNECTED, UNIMPLEMENTED})
    if (code == kindName(known)) kind = known;
  return Exception(kind, textOf(env, error, "message"));
}

napi_value fromCpp(napi_env env, const std::function<napi_value()>& body) noexcept {
  try {
    return body();
  } catch (...) {
    napi_throw(env, toJsError(env, Exception::fromCurrent()));
    return nullptr;
  }
}

// -------------------------------------------------------------------------------------------- values

JsValue::JsValue(napi_env env, napi_value value) : env_(env) {
  napi_value box;
  check(env, napi_create_array(env, &box));
  check(env, napi_set_element(env, box, 0, value));
  check(env, napi_create_reference(env, box, 1, &box_));
}

JsValue::~JsValue() {
  if (box_ != nullptr) napi_delete_reference(env_, box_);
}

napi_value JsValue::get() const {
  napi_value box, value;
  check(env_, napi_get_reference_value(env_, box_, &box));
  check(env_, napi_get_element(env_, box, 0, &value));
  return value;
}

napi_value Js<double>::to(napi_env env, double value) {
  napi_value number;
  check(env, napi_create_double(env, value, &number));
  return number;
}

double Js<double>::from(napi_env env, napi_value value) {
  double number;
  check(env, napi_get_value_double(env, value, &number));
  return number;
}

napi_value Js<std::string>::to(napi_env env, const std::string& value) {
  napi_value string;
  check(env, napi_create_string_utf8(env, value.data(), value.size(), &string));
  return string;
}

std::string Js<std::string>::from(napi_env env, napi_value value) {
  std::size_t size = 0;
  check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &size));
  std::string text(size, '\0');
  check(env, napi_get_value_string_utf8(env, value, text.data(), size + 1, &size));
  return text;
}

// -------------------------------------------------------------------------------------------- bridge

namespace {

uv_loop_t* loopOf(napi_env env) {
  uv_loop_t* loop = nullptr;
  check(env, napi_get_uv_event_loop(env, &loop));
  return loop;
}

} // namespace

Bridge::Bridge(napi_env env) : env_(env), io_(setupAsyncIo(loopOf(env))), tasks_(*this) {
  deliverer_ =
      UvHandle<uv_idle_t>("uv_idle_init", [this](uv_idle_t* handle) { return uv_idle_init(loopOf(env_), handle); });
  deliverer_.setData(this);
  check(env, napi_async_init(env, nullptr, Js<std::string>::to(env, "troth"), &asyncContext_));
}

Bridge::~Bridge() { close(); }

void Bridge::own(std::unique_ptr<Bridge> bridge) {
  const napi_env env = bridge->env_;
  check(env, napi_set_instance_data(
                 env, bridge.get(), [](napi_env, void* data, void*) { delete static_cast<Bridge*>(data); }, nullptr));
  Bridge& owned = *bridge.release();
  // Not a plain cleanup hook: node must not go on before the handles have left its loop.
  check(env, napi_add_async_cleanup_hook(
                 env,
                 [](napi_async_cleanup_hook_handle hook, void* data) noexcept {
                   uv_loop_t* loop = loopOf(static_cast<Bridge*>(data)->env_);
                   static_cast<Bridge*>(data)->close();
                   whenClosed(loop, [hook] { napi_remove_async_cleanup_hook(hook); });
                 },
                 &owned, nullptr));
}

Bridge& Bridge::of(napi_env env) {
  void* bridge = nullptr;
  check(env, napi_get_instance_data(env, &bridge));
  if (bridge == nullptr || !static_cast<Bridge*>(bridge)->io_)
    throw Exception(Exception::Kind::FAILED, "the environment of this addon has ended");
  return *static_cast<Bridge*>(bridge);
}

void Bridge::close() noexcept {
  if (!io_) return;
  tasks_.clear();
  closing();
  deliveries_.clear();
  deliverer_.close();
  io_.reset();
  napi_async_destroy(env_, asyncContext_);
}

void Bridge::deliver(std::function<void(napi_env)> delivery) {
  if (!deliverer_) return;
  deliveries_.push_back(std::move(delivery));
  uv_idle_start(deliverer_.get(), [](uv_idle_t* handle) {
    if (handle->data != nullptr) static_cast<Bridge*>(handle->data)->deliverAll();
  });
}

void Bridge::deliverAll() noexcept {
  uv_idle_stop(deliverer_.get()); // what is queued from now on is for the next time
  const auto deliveries = std::exchange(deliveries_, {});
  napi_handle_scope handles;
  napi_callback_scope callbacks;
  napi_value resource;
  if (napi_open_handle_scope(env_, &handles) != napi_ok) return;
  if (napi_create_object(env_, &resource) == napi_ok &&
      napi_open_callback_scope(env_, resource, asyncContext_, &callbacks) == napi_ok) {
    for (const auto& delivery : deliveries) {
      napi_handle_scope each;
      if (napi_open_handle_scope(env_, &each) != napi_ok) break;
      delivery(env_);
      napi_close_handle_scope(env_, each);
    }
    napi_close_callback_scope(env_, callbacks);
  }
  napi_close_handle_scope(env_, handles);
}

Bridge::Waiter* Bridge::find(std::uintptr_t waiter) const {
  const auto found = waiters_.find(waiter);
  return found == waiters_.end() ? nullptr : found->second;
}

template <bool FULFILLED>
napi_value Bridge::onSettled(napi_env env, napi_callback_info info) noexcept {
  return fromCpp(env, [&]() -> napi_value {
    std::size_t count = 1;
    napi_value value;
    void* id;
    check(env, napi_get_cb_info(env, info, &count, &value, nullptr, &id));
    Waiter* waiter = Bridge::of(env).find(reinterpret_cast<std::uintptr_t>(id));
    if (waiter == nullptr) return nullptr; // it was cancelled
    if constexpr (FULFILLED)
      waiter->fulfilled(env, value);
    else
      waiter->rejected(fromJsError(env, value));
    return nullptr;
  });
}

void Bridge::subscribe(napi_value value, std::uintptr_t waiter) {
  bool isPromise = false;
  check(env_, napi_is_promise(env_, value, &isPromise));
  if (!isPromise) return find(waiter)->fulfilled(env_, value);
  napi_value then, result;
  std::array<napi_value, 2> callbacks;
  void* id = reinterpret_cast<void*>(waiter);
  check(env_, napi_create_function(env_, "fulfilled", NAPI_AUTO_LENGTH, onSettled<true>, id, &callbacks[0]));
  check(env_, napi_create_function(env_, "rejected", NAPI_AUTO_LENGTH, onSettled<false>, id, &callbacks[1]));
  check(env_, napi_get_named_property(env_, value, "then", &then));
  check(env_, napi_call_function(env_, value, then, callbacks.size(), callbacks.data(), &result));
}

void Bridge::taskFailed(Exception exception) { std::fprintf(stderr, "troth addon: %s\n", exception.what()); }
