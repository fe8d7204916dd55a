// SPDX-License-Identifier: MIT
// The template bodies of bridge.h.
#pragma once
#ifndef NAPI_VERSION
#error "include bridge.h"
#endif

/// Something in C++ that waits for JavaScript. JavaScript knows its number only, and may use that when it has gone.
class Bridge::Waiter {
public:
  explicit Waiter(Bridge& bridge) : bridge_(bridge), id_(++bridge.lastWaiter_) { bridge_.waiters_.emplace(id_, this); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  virtual ~Waiter() { bridge_.waiters_.erase(id_); }
  virtual void fulfilled(napi_env env, napi_value value) = 0;
  virtual void rejected(troth::Exception reason) = 0;

protected:
  Bridge& bridge_;
  const std::uintptr_t id_;
};

template <typename T>
class Bridge::PromiseAdapter : public Waiter {
public:
  PromiseAdapter(troth::PromiseFulfiller<T>& fulfiller, Bridge& bridge) : Waiter(bridge), fulfiller_(fulfiller) {}
  PromiseAdapter(troth::PromiseFulfiller<T>& fulfiller, Bridge& bridge, napi_value value)
      : PromiseAdapter(fulfiller, bridge) {
    bridge.subscribe(value, this->id_);
  }
  void fulfilled([[maybe_unused]] napi_env env, [[maybe_unused]] napi_value value) override {
    fulfiller_.rejectIfThrows([&] {
      if constexpr (std::is_void_v<T>)
        fulfiller_.fulfill();
      else
        fulfiller_.fulfill(Js<T>::from(env, value));
    });
  }
  void rejected(troth::Exception reason) override { fulfiller_.reject(std::move(reason)); }

private:
  troth::PromiseFulfiller<T>& fulfiller_;
};

template <typename T, typename... Args>
class Bridge::CallAdapter final : public PromiseAdapter<T> {
public:
  CallAdapter(troth::PromiseFulfiller<T>& fulfiller, Bridge& bridge, std::shared_ptr<JsValue> function, Args... args)
      : PromiseAdapter<T>(fulfiller, bridge), function_(std::move(function)), args_(std::move(args)...) {
    bridge.deliver([&bridge, id = this->id_](napi_env env) { call(bridge, id, env); });
  }

private:
  std::shared_ptr<JsValue> function_;
  std::tuple<Args...> args_;

  // Nothing of the adapter is touched that may have gone: before the call, or by what it does.
  static void call(Bridge& bridge, std::uintptr_t id, napi_env env) {
    auto* adapter = static_cast<CallAdapter*>(bridge.find(id));
    if (adapter == nullptr) return;
    try {
      const napi_value result = adapter->callFunction(env);
      if (bridge.find(id) != nullptr) bridge.subscribe(result, id);
    } catch (...) {
      if (Waiter* waiter = bridge.find(id)) waiter->rejected(troth::Exception::fromCurrent());
    }
  }

  napi_value callFunction(napi_env env) const {
    const napi_value function = function_->get();
    const auto arguments = std::apply(
        [env](const Args&... args) { return std::array<napi_value, sizeof...(Args)>{Js<Args>::to(env, args)...}; },
        args_);
    napi_value undefined, result;
    check(env, napi_get_undefined(env, &undefined));
    check(env, napi_call_function(env, undefined, function, arguments.size(), arguments.data(), &result));
    return result;
  }
};

namespace bridge_detail {

template <typename T>
napi_value valueOf(napi_env env, const troth::Result<T>& result) {
  if constexpr (std::is_void_v<T>) {
    napi_value undefined;
    check(env, napi_get_undefined(env, &undefined));
    return undefined;
  } else {
    return Js<T>::to(env, *result);
  }
}

template <typename T>
void settle(napi_env env, napi_deferred deferred, const troth::Result<T>& result) {
  napi_value value = nullptr;
  std::optional<troth::Exception> failure;
  try {
    if (result)
      value = valueOf(env, result);
    else
      failure.emplace(result.error());
  } catch (...) {
    failure.emplace(troth::Exception::fromCurrent());
  }
  // Once, whatever comes of it: `deferred` has gone then, also if node could not do it because the environment ends.
  if (failure)
    napi_reject_deferred(env, deferred, toJsError(env, *failure));
  else
    napi_resolve_deferred(env, deferred, value);
}

template <typename T>
troth::Promise<void> settleWith(Bridge& bridge, napi_deferred deferred, troth::Promise<T> promise) {
  auto result = std::make_shared<troth::Result<T>>(co_await std::move(promise).asResult());
  bridge.deliver([deferred, result](napi_env env) { settle(env, deferred, *result); });
}

} // namespace bridge_detail

template <typename T>
napi_value toJs(napi_env env, troth::Promise<T> promise) {
  Bridge& bridge = Bridge::of(env);
  napi_deferred deferred;
  napi_value js;
  check(env, napi_create_promise(env, &deferred, &js));
  bridge.tasks_.add(bridge_detail::settleWith(bridge, deferred, std::move(promise)));
  return js;
}

template <typename T>
troth::Promise<T> fromJs(napi_env env, napi_value value) {
  return troth::newAdaptedPromise<T, Bridge::PromiseAdapter<T>>(Bridge::of(env), value);
}
