// SPDX-License-Identifier: MIT
// What a hostile client, or a careless handler, does to a server: framing that must not slip, handlers that must end.
#include "server_fixture.h"

#include <troth/net/http/http_error.h>
#include <troth/runtime/task_set.h>

#include <optional>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

Promise<void> target(Request& request, Response& response) { return response.send(200, std::string(request.target())); }

TEST_CASE_FIXTURE(HttpTest, "an upgraded connection whose reading is given up gives nothing that was read too far") {
  std::optional<std::string> failure;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::UPGRADE, "x");
    auto stream = response.upgrade();
    std::byte buffer[4];
    try {
      if (request.path() == "/chunk") {
        Promise<Chunk> read = stream->tryReadChunk();
        stream->abortRead();
        co_await std::move(read);
      } else {
        Promise<std::size_t> read = stream->tryRead(buffer, 4);
        stream->abortRead();
        co_await std::move(read);
      }
    } catch (const Exception& e) {
      failure = e.description();
    }
  };
  auto client = connect();
  std::string path;
  SUBCASE("a chunk") { path = "/chunk"; }
  SUBCASE("bytes") { path = "/bytes"; }
  client->send("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly");
  settle();
  CHECK(failure == "read: reading was given up, by abortRead()");
}

TEST_CASE_FIXTURE(HttpTest, "authorities that are none are refused") {
  handler = target;
  for (const std::string line : {"CONNECT a", "CONNECT a:", "CONNECT :1", "CONNECT a:0", "CONNECT a:65536",
                                 "CONNECT u@a:1", "CONNECT [::1]", "GET http://user@a/", "GET http://u:p@a/x",
                                 "GET http://[::1/", "GET http://a:b/", "GET http:///x", "GET http://?q",
                                 "GET http://a:999999/"}) {
    CAPTURE(line);
    CHECK(contains(talk(std::string(line) + " HTTP/1.1\r\nHost: a\r\n\r\n"), "400 Bad Request"));
  }
  for (const std::string line : {"GET http://a:/", "GET http://[::1]:80/", "GET http://a", "GET http://a?x@y",
                                 "GET /u@b", "CONNECT [::1]:443"}) {
    CAPTURE(line);
    CHECK(contains(talk(std::string(line) + " HTTP/1.1\r\nHost: a\r\n\r\n"), "200 OK"));
  }
}

} // namespace
