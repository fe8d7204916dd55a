// SPDX-License-Identifier: MIT
// Bridge: troth inside of node: promises of C++ for JavaScript, and promises of JavaScript for C++.
//
// Copy it, with bridge-inl.h, bridge.cc and ../plugin/when_closed.*; derive a class from Bridge for what your addon
// keeps for each environment, and open it in NAPI_MODULE_INIT. A function is then:
//
//     napi_value sleep(napi_env env, napi_callback_info info) {
//       return fromCpp(env, [&] { return toJs(env, Bridge::of(env).io().timer().afterDelay(1s)); });
//     }
//
// Three rules are built in:
// - JavaScript never runs inside of a turn of troth's loop. It may do anything, such as closing what called it; so what
//   concerns it is queued, and delivered from a callback of the loop that belongs to the bridge.
// - Whatever is delivered runs in a callback scope; without one node does not run the microtasks, and so what awaits.
// - When the environment ends (the program, or a worker), everything of troth's is destroyed first, and node is told
//   when its handles have left the loop. What JavaScript still waits for then stays pending: nobody is left to hear.
#pragma once

#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>

#include <troth/io/async_io.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/task_set.h>
#include <troth/runtime/uv/uv_handle.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

// -------------------------------------------------------------------------------------------- errors

/// Throws if a call of Node-API has failed: the JavaScript exception if there is one, else what node says.
void check(napi_env env, napi_status status, std::source_location where = std::source_location::current());

/// An Error whose `message` is the description, and whose `code` is the kind: "FAILED", "OVERLOADED", "DISCONNECTED",
/// "UNIMPLEMENTED". fromJsError() reads it again; any other code, and what is no Error, is FAILED.
napi_value toJsError(napi_env env, const troth::Exception& exception);
troth::Exception fromJsError(napi_env env, napi_value error);

/// Runs the body of a function that JavaScript calls. What it throws is thrown there.
napi_value fromCpp(napi_env env, const std::function<napi_value()>& body) noexcept;

// -------------------------------------------------------------------------------------------- values

/// A value of JavaScript, kept alive. Belongs to the environment's thread; the bridge's tasks and what derives from
/// Bridge may hold it, since they end before the environment does.
class JsValue {
public:
  JsValue(napi_env env, napi_value value);
  JsValue(JsValue&& other) noexcept : env_(other.env_), box_(std::exchange(other.box_, nullptr)) {}
  JsValue& operator=(JsValue&&) = delete;
  ~JsValue();
  napi_value get() const;

private:
  napi_env env_;
  napi_ref box_; // of an array with the value in it: only objects can be referred to
};

/// How a T looks in JavaScript: `static napi_value to(napi_env, const T&)`, `static T from(napi_env, napi_value)`. Both
/// throw if they cannot. Specialise it for your types.
template <typename T>
struct Js;

template <>
struct Js<double> {
  static napi_value to(napi_env env, double value);
  static double from(napi_env env, napi_value value);
};
template <>
struct Js<std::string> {
  static napi_value to(napi_env env, const std::string& value);
  static std::string from(napi_env env, napi_value value);
};
template <>
struct Js<JsValue> {
  static napi_value to(napi_env, const JsValue& value) { return value.get(); }
  static JsValue from(napi_env env, napi_value value) { return JsValue(env, value); }
};

// -------------------------------------------------------------------------------------------- bridge

/// troth in one environment of node's. Derive from it to keep what belongs to that.
class Bridge : private troth::TaskSet::ErrorHandler {
public:
  /// Opens a bridge for the environment, which owns it: for NAPI_MODULE_INIT. Throws FAILED if the thread has a troth
  /// context already, such as that of the same addon loaded twice.
  template <typename Derived>
  static void open(napi_env env) {
    own(std::make_unique<Derived>(env));
  }
  /// That bridge. Throws FAILED when the environment ends.
  static Bridge& of(napi_env env);

  explicit Bridge(napi_env env);
  ~Bridge() override;

  troth::AsyncIo& io() { return *io_; }
  /// For what runs in the background.
  troth::TaskSet& tasks() { return tasks_; }

  /// Has `delivery` called soon, where JavaScript may be called; it must not throw. It is dropped if the environment
  /// ends before.
  void deliver(std::function<void(napi_env)> delivery);

  /// Calls a function of JavaScript, with arguments that Js can convert, from anywhere on this thread.
  ///
  /// Completes:    when it has returned, and the promise, if that is what it has returned, is settled.
  /// Errors:       what it throws, or rejects with.
  /// Cancellation: clean if it was not called yet; otherwise nobody hears of its result.
  template <typename T, typename... Args>
  troth::Promise<T> call(std::shared_ptr<JsValue> function, Args... args) {
    return troth::newAdaptedPromise<T, CallAdapter<T, Args...>>(*this, std::move(function), std::move(args)...);
  }

protected:
  /// The environment ends: destroy what refers to io() or holds a JsValue. The tasks are cancelled already.
  virtual void closing() noexcept {}

private:
  class Waiter;
  template <typename T>
  class PromiseAdapter;
  template <typename T, typename... Args>
  class CallAdapter;

  napi_env env_;
  std::unordered_map<std::uintptr_t, Waiter*>
      waiters_; // by a number, which JavaScript may keep for as long as it likes
  std::uintptr_t lastWaiter_ = 0;
  std::vector<std::function<void(napi_env)>> deliveries_;
  napi_async_context asyncContext_ = nullptr;
  std::optional<troth::HostedAsyncIoContext> io_; // nothing: closed
  troth::UvHandle<uv_idle_t> deliverer_;          // active while there is something to deliver
  troth::TaskSet tasks_;

  static void own(std::unique_ptr<Bridge> bridge);
  void close() noexcept;
  void deliverAll() noexcept;
  void subscribe(napi_value value, std::uintptr_t waiter);
  Waiter* find(std::uintptr_t waiter) const;
  template <bool FULFILLED>
  static napi_value onSettled(napi_env env, napi_callback_info info) noexcept;
  void taskFailed(troth::Exception exception) override;

  template <typename T>
  friend napi_value toJs(napi_env env, troth::Promise<T> promise);
  template <typename T>
  friend troth::Promise<T> fromJs(napi_env env, napi_value value);
};

/// A JavaScript Promise for the result of `promise`, which runs in the background. To be called by JavaScript.
///
/// If the environment ends first, `promise` is cancelled, and the Promise stays pending; node keeps the 8 bytes that it
/// has for it, and has no way to give them back.
template <typename T>
napi_value toJs(napi_env env, troth::Promise<T> promise);

/// A promise for what a Promise of JavaScript comes to; of any other value, that value. To be called by JavaScript.
///
/// Completes:    when the Promise is settled.
/// Errors:       what it is rejected with (fromJsError()), or if the value is no T.
/// Cancellation: clean. The Promise of JavaScript does not notice, and may be settled at any time, or never.
/// Lifetime:     waiting for JavaScript alone does not keep node from ending, as in JavaScript.
template <typename T>
troth::Promise<T> fromJs(napi_env env, napi_value value);

#include "bridge-inl.h"
