// SPDX-License-Identifier: MIT
// A web server: routes, bodies that are streamed, files, server-sent events, a WebSocket, counters, a graceful end.
//
//   http_server --port 8080                 then open http://127.0.0.1:8080/ in a browser, or, in another terminal:
//     curl http://127.0.0.1:8080/hello/you                    a parameter in the path
//     curl --data-binary @FILE http://127.0.0.1:8080/echo     the body, as it comes
//     curl http://127.0.0.1:8080/json
//     curl -N http://127.0.0.1:8080/events                    one event a second
//     curl http://127.0.0.1:8080/metrics
//   http_server --root DIR                  and the files in DIR are under /files/
//   http_server --log common                a line on standard error for each request
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/io/file.h>
#include <troth/net/http/access_log.h>
#include <troth/net/http/compress.h>
#include <troth/net/http/event_stream.h>
#include <troth/net/http/file_service.h>
#include <troth/net/http/handlers.h>
#include <troth/net/http/router.h>
#include <troth/net/http/server.h>
#include <troth/net/http/websocket_server.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

using namespace troth;
using http::HeaderId;
using http::Request;
using http::Response;
using std::chrono::seconds;

// What is the server's own fault. What clients do wrong they are told, over HTTP or WebSocket, and it is no news.
struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override {
    const bool isClients = e.code().category() == make_error_code(http::WebSocketCloseCode::NORMAL).category();
    if (e.kind() == Exception::Kind::FAILED && !isClients) std::fprintf(stderr, "http_server: %s\n", e.what());
  }
};

struct Counters {
  std::uint64_t requests = 0, received = 0, sent = 0, broken = 0;
  std::array<std::uint64_t, 6> byClass{}; // of the status: [2] counts 200 to 299

  void count(const http::AccessRecord& record) {
    ++requests;
    received += record.received;
    sent += record.sent;
    if (!record.complete) ++broken;
    ++byClass[static_cast<std::size_t>(record.status / 100) % byClass.size()];
  }
};

constexpr std::string_view PAGE = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>troth</title>
<style>body { font: 1.1em sans-serif; max-width: 40em; margin: 2em auto } output { font-family: monospace }</style>
<h1>It works</h1>
<p>Events of the server: <output id="events">none yet</output></p>
<p>WebSocket: <output id="socket">not connected</output></p>
<form id="say"><input id="text" value="hello" aria-label="text"> <button>Send it, and get it back</button></form>
<p><a href="/hello/you">/hello/you</a> · <a href="/json">/json</a> · <a href="/metrics">/metrics</a> ·
<a href="/files/">/files/</a> (with <code>--root</code>)</p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text };
  const events = new EventSource("/events");
  events.onmessage = event => {
    show("events", event.data);
    if (location.search === "?once") events.close();
  };
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
  const say = () => socket.send(document.getElementById("text").value);
  socket.onopen = say;
  socket.onmessage = event => show("socket", "the server said: " + event.data);
  socket.onclose = () => show("socket", "closed");
  document.getElementById("say").onsubmit = event => { event.preventDefault(); say() };
</script>
)html";

Promise<void> page(Request& request, Response& response) {
  response.headers().set(HeaderId::CONTENT_TYPE, "text/html; charset=utf-8");
  return http::sendCompressed(request, response, 200, std::string(PAGE));
}

Promise<void> hello(Request& request, Response& response) {
  const std::string_view name = request.parameter("name");
  response.headers().set(HeaderId::CONTENT_TYPE, "text/plain; charset=utf-8");
  return response.send(200, "hello, " + std::string(name.empty() ? "world" : name) + "\n");
}

// Whatever its size is, no more of it is in memory than what is between reading and writing.
Promise<void> echo(Request& request, Response& response) {
  response.headers().set(HeaderId::CONTENT_TYPE,
                         request.headers().valueOr(HeaderId::CONTENT_TYPE, "application/octet-stream"));
  AsyncOutputStream& output = response.start(200, request.body().tryGetLength());
  co_await request.body().pumpTo(output);
}

// Counts the seconds. A client that connects again goes on where it was.
Promise<void> ticks(Request& request, Response& response, Timer& timer) {
  const std::string_view last = http::lastEventId(request);
  std::uint32_t number = 0;
  std::from_chars(last.data(), last.data() + last.size(), number);
  http::EventStream events(response);
  if (request.method() == http::Method::HEAD) co_return;
  for (;;) {
    const std::string text = std::to_string(++number);
    const http::ServerEvent event{.data = text, .id = text};
    co_await events.send(event);
    co_await timer.afterDelay(seconds(1));
  }
}

// Sends back each message as it came.
Promise<void> webSocketEcho(Request& request, Response& response, Timer& timer) {
  http::WebSocketServerOptions wishes;
  wishes.deflate.emplace();
  http::WebSocketOptions limits;
  limits.timer = &timer;
  limits.pingInterval = seconds(30);
  std::optional<http::WebSocket> socket = co_await http::acceptWebSocket(request, response, wishes, limits);
  if (!socket) co_return; // it was told why
  for (;;) {
    const http::WebSocketMessage message = co_await socket->receive();
    if (message.isClose()) break;
    if (message.isText())
      co_await socket->send(message.text());
    else
      co_await socket->send(message.bytes());
  }
  co_await socket->close();
}

std::string metrics(const Counters& counters, const http::Server& server) {
  std::string text;
  const auto add = [&text](std::string_view name, std::uint64_t value) {
    text.append(name).append(" ").append(std::to_string(value)).append("\n");
  };
  add("http_requests_total", counters.requests);
  for (std::size_t i = 2; i < counters.byClass.size(); ++i)
    add("http_responses_total{class=\"" + std::to_string(i) + "xx\"}", counters.byClass[i]);
  add("http_responses_broken_off_total", counters.broken);
  add("http_content_received_bytes_total", counters.received);
  add("http_content_sent_bytes_total", counters.sent);
  add("http_connections", server.connections());
  add("http_requests_in_progress", server.requests());
  return text;
}

http::ServerSettings settings(const std::string& log, Counters& counters) {
  const bool isCombined = log == "combined";
  if (log != "none" && log != "common" && !isCombined)
    throw std::invalid_argument("option '--log' is '" + log + "', but must be none, common or combined");
  const bool isSilent = log == "none";
  http::ServerSettings all;
  all.accessLog = [&counters, isSilent, isCombined](const http::AccessRecord& record) {
    counters.count(record);
    if (isSilent) return;
    const auto format = isCombined ? http::AccessFormat::COMBINED : http::AccessFormat::COMMON;
    std::fprintf(stderr, "%s\n", http::formatAccess(record, std::chrono::system_clock::now(), format).c_str());
  };
  return all;
}

int main(int argc, char** argv) try {
  Options options(argc, argv,
                  {{"address", "127.0.0.1"}, {"port", "8080"}, {"root", ""}, {"grace", "5"}, {"log", "none"}});
  const seconds grace(options.number("grace", 1'000'000));
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  Log log;
  Counters counters;
  std::unique_ptr<Directory> root;
  std::optional<http::FileService> files;
  http::Router router;
  http::Server server(router, io.timer(), log, settings(options.text("log"), counters));

  const auto began = io.timer().now();
  router.get("/", page).get("/hello", hello).get("/hello/{name}", hello).post("/echo", echo);
  router.get("/events", [&](Request& request, Response& response) { return ticks(request, response, io.timer()); });
  router.get("/ws", [&](Request& request, Response& response) { return webSocketEcho(request, response, io.timer()); });
  router.get("/json", [&](Request&, Response& response) {
    const auto up = std::chrono::duration_cast<std::chrono::milliseconds>(io.timer().now() - began);
    response.headers().set(HeaderId::CONTENT_TYPE, "application/json");
    return response.send(200, "{\"hello\": \"world\", \"requests\": " + std::to_string(counters.requests) +
                                  ", \"milliseconds\": " + std::to_string(up.count()) + "}\n");
  });
  router.get("/metrics", [&](Request&, Response& response) {
    response.headers().set(HeaderId::CONTENT_TYPE, "text/plain; version=0.0.4");
    return response.send(200, metrics(counters, server));
  });

  if (!options.text("root").empty()) {
    root = openDirectory(io, options.text("root")).wait(io.waitScope());
    router.mount("/files", files.emplace(*root));
  }

  auto receiver = network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on http://%s\n", receiver->toString().c_str());
  std::fflush(stdout);
  // Destroying a promise cancels its work: the signal closes the port.
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(grace).wait(io.waitScope());
} catch (...) {
  return failed("http_server");
}
