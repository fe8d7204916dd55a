// SPDX-License-Identifier: MIT
// A node addon: a troth server in node's loop, whose answers JavaScript may give, and promises in both directions.
//
//   node examples/node_addon/demo.js BUILD/examples/node_addon/troth.node
//
// For JavaScript:
//   listen({port: 0, host: '127.0.0.1'}, answer?)   a Promise of a server. `host` is numeric. `answer(line)` returns
//                                                   a string, or a Promise of one; without it the server answers in
//                                                   capitals
//     server.port
//     server.counters()                             {connections, accepted, answered, failed}; zeros once it is closed
//     server.close(graceMs = 1000)                  a Promise of how many connections were cut off
//   sleep(ms)                                       a Promise that C++ makes
//   timeout(ms, promise)                            a Promise that C++ awaits, for so long; then an error, 'OVERLOADED'
// An open server keeps node alive, as those of node's own do.
#include "bridge.h"

#include "../plugin/line_server.h"

#include <troth/net/socket_address.h>

#include <algorithm>
#include <cctype>
#include <map>

using namespace troth;

namespace {

/// What the addon keeps for each environment: its servers.
class Addon final : public Bridge {
public:
  using Bridge::Bridge;
  static Addon& of(napi_env env) { return static_cast<Addon&>(Bridge::of(env)); }

  /// Listens; gives the number of the server.
  Promise<std::uintptr_t> listen(SocketAddress address, LineServer::Answer answer) {
    const std::uintptr_t id = ++lastServer_;
    Server& server = servers_.try_emplace(id, io(), std::move(answer)).first->second;
    try {
      server.port = co_await server.lines.listen(address.toString());
    } catch (...) {
      servers_.erase(id);
      throw;
    }
    co_return id;
  }

  /// Ends a server. Of one that has ended that is nothing, and of one that is ending the same.
  Promise<double> close(std::uintptr_t id, std::chrono::milliseconds grace) {
    const auto found = servers_.find(id);
    if (found == servers_.end()) co_return 0;
    Server& server = found->second;
    if (!server.stopping) server.stopping.emplace(server.lines.stop(grace).fork());
    const std::size_t cutOff = co_await server.stopping->addBranch();
    servers_.erase(id);
    co_return static_cast<double>(cutOff);
  }

  struct Server {
    Server(AsyncIo& io, LineServer::Answer answer) : lines(io, std::move(answer)) {}
    LineServer lines;
    std::uint16_t port = 0;
    std::optional<ForkedPromise<std::size_t>> stopping;
  };

  /// Null if it has ended.
  const Server* find(std::uintptr_t id) const {
    const auto found = servers_.find(id);
    return found == servers_.end() ? nullptr : &found->second;
  }

private:
  std::map<std::uintptr_t, Server> servers_;
  std::uintptr_t lastServer_ = 0;

  void closing() noexcept override { servers_.clear(); }
};

/// What a function was called with.
struct Call {
  napi_env env;
  std::array<napi_value, 2> arguments{};
  void* data = nullptr;

  Call(napi_env environment, napi_callback_info info) : env(environment) {
    std::size_t count = arguments.size(); // those that are missing are undefined
    check(env, napi_get_cb_info(env, info, &count, arguments.data(), nullptr, &data));
  }

  napi_valuetype typeOf(napi_value value) const {
    napi_valuetype type;
    check(env, napi_typeof(env, value, &type));
    return type;
  }
  /// A number from 0 to `most`, rounded down, or `otherwise` for undefined.
  unsigned number(napi_value value, const char* what, unsigned most, std::optional<unsigned> otherwise = {}) const {
    if (otherwise && typeOf(value) == napi_undefined) return *otherwise;
    const double given = typeOf(value) == napi_number ? Js<double>::from(env, value) : -1;
    if (!(given >= 0 && given <= most))
      throw Exception(Exception::Kind::FAILED,
                      std::string(what) + " must be a number from 0 to " + std::to_string(most));
    return static_cast<unsigned>(given);
  }
  napi_value property(const char* name) const {
    napi_value value;
    check(env, napi_get_named_property(env, arguments[0], name, &value));
    return value;
  }
};

constexpr unsigned LONGEST_MS = 1U << 31; // 24 days

using Function = napi_value(const Call&);

/// `FUNCTION` for JavaScript.
template <Function FUNCTION>
napi_value newFunction(napi_env env, const char* name, std::uintptr_t data = 0) {
  const auto called = [](napi_env e, napi_callback_info info) -> napi_value {
    return fromCpp(e, [&] { return FUNCTION(Call(e, info)); });
  };
  napi_value function;
  check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, called, reinterpret_cast<void*>(data), &function));
  return function;
}

void set(napi_env env, napi_value object, const char* name, napi_value value) {
  check(env, napi_set_named_property(env, object, name, value));
}

// ------------------------------------------------------------------------------------------- servers

napi_value close(const Call& call) {
  const unsigned grace = call.number(call.arguments[0], "the grace", LONGEST_MS, 1000);
  return toJs(call.env,
              Addon::of(call.env).close(reinterpret_cast<std::uintptr_t>(call.data), std::chrono::milliseconds(grace)));
}

napi_value counters(const Call& call) {
  const Addon::Server* server = Addon::of(call.env).find(reinterpret_cast<std::uintptr_t>(call.data));
  const LineServer::Counters total = server != nullptr ? server->lines.counters() : LineServer::Counters();
  const auto number = [&call](auto value) { return Js<double>::to(call.env, static_cast<double>(value)); };
  napi_value object;
  check(call.env, napi_create_object(call.env, &object));
  set(call.env, object, "connections", number(server != nullptr ? server->lines.connections() : 0));
  set(call.env, object, "accepted", number(total.accepted));
  set(call.env, object, "answered", number(total.answered));
  set(call.env, object, "failed", number(total.failed));
  return object;
}

/// A server, on its way to JavaScript.
struct Listening {
  std::uintptr_t id;
};

} // namespace

template <>
struct Js<Listening> {
  static napi_value to(napi_env env, Listening listening) {
    const Addon::Server* server = Addon::of(env).find(listening.id);
    napi_value object;
    check(env, napi_create_object(env, &object));
    set(env, object, "port", Js<double>::to(env, server != nullptr ? server->port : 0));
    set(env, object, "close", newFunction<close>(env, "close", listening.id));
    set(env, object, "counters", newFunction<counters>(env, "counters", listening.id));
    return object;
  }
};

namespace {

Promise<std::string> shout(std::string line) {
  std::ranges::transform(line, line.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return line;
}

/// What answers: the function of JavaScript, or C++ itself.
LineServer::Answer answerOf(const Call& call, napi_value function) {
  const napi_valuetype type = call.typeOf(function);
  if (type == napi_undefined) return shout;
  if (type != napi_function) throw Exception(Exception::Kind::FAILED, "what answers must be a function");
  return [&addon = Addon::of(call.env), answer = std::make_shared<JsValue>(call.env, function)](std::string line) {
    return addon.call<std::string>(answer, std::move(line));
  };
}

napi_value listen(const Call& call) {
  std::string host = "127.0.0.1";
  unsigned port = 0;
  if (const napi_valuetype type = call.typeOf(call.arguments[0]); type != napi_undefined) {
    if (type != napi_object)
      throw Exception(Exception::Kind::FAILED, "where to listen must be an object: {port, host}");
    port = call.number(call.property("port"), "the port", 65535, 0);
    const napi_value given = call.property("host");
    if (call.typeOf(given) != napi_undefined) host = Js<std::string>::from(call.env, given);
  }
  // No names: a look-up cannot be withdrawn from libuv, and a worker that ends would have to wait for it.
  const auto address = SocketAddress::parse(host, static_cast<std::uint16_t>(port));
  return toJs(call.env, Addon::of(call.env).listen(address, answerOf(call, call.arguments[1])).then([](auto id) {
    return Listening{id};
  }));
}

// ------------------------------------------------------------------------------------------ promises

napi_value sleep(const Call& call) {
  const unsigned ms = call.number(call.arguments[0], "the time", LONGEST_MS);
  return toJs(call.env, Addon::of(call.env).io().timer().afterDelay(std::chrono::milliseconds(ms)));
}

// Destroying a promise cancels its work: when the time is up, nobody waits for JavaScript any more.
napi_value timeout(const Call& call) {
  const unsigned ms = call.number(call.arguments[0], "the time", LONGEST_MS);
  Promise<JsValue> value = fromJs<JsValue>(call.env, call.arguments[1]);
  return toJs(call.env, Addon::of(call.env).io().timer().timeoutAfter(std::chrono::milliseconds(ms), std::move(value)));
}

} // namespace

NAPI_MODULE_INIT() {
  return fromCpp(env, [&] {
    Bridge::open<Addon>(env);
    set(env, exports, "listen", newFunction<listen>(env, "listen"));
    set(env, exports, "sleep", newFunction<sleep>(env, "sleep"));
    set(env, exports, "timeout", newFunction<timeout>(env, "timeout"));
    return exports;
  });
}
