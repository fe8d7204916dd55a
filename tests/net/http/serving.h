// SPDX-License-Identifier: MIT
// For tests of services: one request to a server in memory, and what comes back.
#pragma once

#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/net/http/server.h>
#include <troth/timers/manual_timer.h>

#include <string>
#include <string_view>
#include <utility>

namespace troth::test {

/// A response as it came over the wire.
struct Reply {
  std::string wire, head, body; // the body without its chunks
  int status = 0;

  /// The value of the only field of that name (in this case); "" if there is none.
  std::string field(std::string_view name) const {
    const std::string line = "\r\n" + std::string(name) + ": ";
    const std::size_t at = head.find(line);
    if (at == std::string::npos) return "";
    CHECK(head.find(line, at + 1) == std::string::npos);
    return head.substr(at + line.size(), head.find("\r\n", at + 2) - at - line.size());
  }

  static Reply parse(std::string text) {
    Reply reply;
    reply.wire = std::move(text);
    const std::size_t end = reply.wire.find("\r\n\r\n");
    REQUIRE_MESSAGE(end != std::string::npos, reply.wire);
    reply.head = reply.wire.substr(0, end + 2);
    reply.body = reply.wire.substr(end + 4);
    REQUIRE(reply.head.starts_with("HTTP/1.1 "));
    reply.status = std::stoi(reply.head.substr(9, 3));
    if (reply.field("Transfer-Encoding") == "chunked") reply.body = withoutChunks(reply.body);
    return reply;
  }

private:
  static std::string withoutChunks(std::string_view coded) {
    std::string plain;
    for (;;) {
      const std::size_t line = coded.find("\r\n");
      REQUIRE_MESSAGE(line != std::string_view::npos, "the chunks have no end");
      const std::size_t size = std::stoul(std::string(coded.substr(0, line)), nullptr, 16);
      if (size == 0) return plain;
      REQUIRE(coded.size() >= line + 2 + size + 2);
      plain += coded.substr(line + 2, size);
      coded.remove_prefix(line + 2 + size + 2);
    }
  }
};

/// Serves `service` in memory. Failures that are the server's own fail the test, but for those that were expected.
class Serving : private TaskSet::ErrorHandler {
public:
  Serving(http::Service& service, WaitScope& waitScope, http::ServerSettings settings = {})
      : scope(waitScope), server(service, timer, *this, std::move(settings)) {}
  ~Serving() { CHECK_MESSAGE(failures.empty(), failures); }

  /// Sends the bytes of a request, which asks to close the connection, and reads what comes.
  std::string exchange(std::string request) { return exchangeLater(std::move(request)).wait(scope); }

  /// The same for a request of this method and path, with fields ("Name: value\r\n…") and a body.
  Reply send(std::string_view method, std::string_view path, std::string_view fields = "", std::string_view body = "") {
    std::string request(method);
    request.append(" ").append(path).append(" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n").append(fields);
    if (!body.empty()) request.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
    request.append("\r\n").append(body);
    return Reply::parse(exchange(std::move(request)));
  }
  Reply get(std::string_view path, std::string_view fields = "") { return send("GET", path, fields); }

  /// The end of a new connection that a client has.
  std::unique_ptr<AsyncIoStream> connect() {
    TwoWayPipe pipe = newTwoWayPipe();
    server.serveConnection(std::move(pipe.ends[0]));
    return std::move(pipe.ends[1]);
  }

  WaitScope& scope;
  ManualTimer timer;
  std::string failures;
  http::Server server;

private:
  Promise<std::string> exchangeLater(std::string request) {
    const std::unique_ptr<AsyncIoStream> client = connect();
    Promise<void> sent = client->write(request).catch_([](Exception) {}).eagerlyEvaluate(nullptr);
    std::string reply = co_await client->readAllText(64 * 1024 * 1024);
    co_return reply;
  }

  void taskFailed(Exception e) override { failures.append(e.what()).append("\n"); }
};

} // namespace troth::test
