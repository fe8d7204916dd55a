// SPDX-License-Identifier: MIT
// A node addon for the tests: an HTTP server and a client of troth's in node's loop, beside node's own, in whose
// process there is another llhttp.
#include "../../examples/node_addon/bridge.h"

#include <troth/net/http/client.h>
#include <troth/net/http/server.h>
#include <troth/net/network.h>

using namespace troth;
using http::Request;
using http::Response;

namespace {

class Addon final : public Bridge {
public:
  explicit Addon(napi_env env) : Bridge(env), network_(newNetwork(io())) {}
  static Addon& of(napi_env env) { return static_cast<Addon&>(Bridge::of(env)); }

  /// Serves on a port, which is the result. JavaScript's `answer("METHOD target content")` gives what is answered.
  Promise<double> serve(std::shared_ptr<JsValue> answer) {
    service_ = http::newService([this, answer](Request& request, Response& response) -> Promise<void> {
      const std::string content = co_await request.body().readAllText(1'000'000);
      std::string text = std::string(request.methodText()) + " " + std::string(request.target()) + " " + content;
      const std::string reply = co_await call<std::string>(answer, std::move(text));
      co_await response.send(200, reply);
    });
    server_.emplace(*service_, io().timer(), log_);
    client_.emplace(*network_, io().timer());
    const std::unique_ptr<NetworkAddress> address = co_await network_->parseAddress("127.0.0.1:0");
    std::unique_ptr<ConnectionReceiver> port = address->listen();
    const double number = port->getPort();
    serving_.emplace(server_->serve(std::move(port)).eagerlyEvaluate(nullptr));
    co_return number;
  }

  /// "status text" of what the URL gives.
  Promise<std::string> fetch(std::string url) {
    http::ClientResponse response = co_await client_->get(url);
    const std::string text = co_await response.readText(1'000'000);
    co_return std::to_string(response.status()) + " " + text;
  }

  /// Ends gracefully; gives what the server had to report.
  Promise<std::string> close() {
    client_.reset();
    co_await server_->drain(std::chrono::seconds(5));
    closing();
    co_return log_.text;
  }

private:
  struct Log : TaskSet::ErrorHandler {
    std::string text;
    void taskFailed(Exception e) override { text.append(e.what()).append("\n"); }
  };

  Log log_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<http::Service> service_;
  std::optional<http::Server> server_;
  std::optional<http::Client> client_;
  std::optional<Promise<void>> serving_;

  void closing() noexcept override {
    serving_.reset();
    client_.reset();
    server_.reset();
    service_.reset();
    network_.reset();
  }
};

napi_value argument(napi_env env, napi_callback_info info) {
  std::size_t count = 1;
  napi_value value;
  check(env, napi_get_cb_info(env, info, &count, &value, nullptr, nullptr));
  return value;
}

napi_value serve(napi_env env, napi_callback_info info) {
  return fromCpp(env,
                 [&] { return toJs(env, Addon::of(env).serve(std::make_shared<JsValue>(env, argument(env, info)))); });
}

napi_value fetch(napi_env env, napi_callback_info info) {
  return fromCpp(env, [&] { return toJs(env, Addon::of(env).fetch(Js<std::string>::from(env, argument(env, info)))); });
}

napi_value close(napi_env env, napi_callback_info) {
  return fromCpp(env, [&] { return toJs(env, Addon::of(env).close()); });
}

} // namespace

NAPI_MODULE_INIT() {
  return fromCpp(env, [&] {
    Bridge::open<Addon>(env);
    const std::pair<const char*, napi_callback> functions[] = {{"serve", serve}, {"fetch", fetch}, {"close", close}};
    for (const auto& [name, function] : functions) {
      napi_value value;
      check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value));
      check(env, napi_set_named_property(env, exports, name, value));
    }
    return exports;
  });
}
