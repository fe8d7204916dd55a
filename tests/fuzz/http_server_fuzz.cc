// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): any bytes as what a client says to the server, in memory.
//
// The first byte says what kind of run it is, the second how the bytes that follow are split and how much time passes
// between the pieces; bytes from 0x80 on may stand for the words below, so that requests are found from nothing. The
// bytes are sent as a whole and again in pieces: the replies are the same but for what depends on time. Behind what is
// no request nothing is answered; and in the end nothing is left.
#include <troth/io/pipe.h>
#include <troth/net/http/server.h>
#include <troth/runtime/pool_detail.h>
#include <troth/timers/manual_timer.h>
#include <troth/timers/random.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;
using namespace std::chrono_literals;

namespace {

void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "http_server_fuzz: %s\n", what.c_str());
  std::abort();
}

constexpr std::string_view WORDS[] = {"GET / HTTP/1.1\r\n",
                                      "POST /echo HTTP/1.1\r\n",
                                      "HEAD / HTTP/1.1\r\n",
                                      "PUT /unread HTTP/1.1\r\n",
                                      "CONNECT a:1 HTTP/1.1\r\n",
                                      "GET / HTTP/1.0\r\n",
                                      "OPTIONS * HTTP/1.1\r\n",
                                      "GET http://a/stream HTTP/1.1\r\n",
                                      "POST /fails HTTP/1.1\r\n",
                                      "Host: a\r\n",
                                      "Content-Length: ",
                                      "Content-Length: 5\r\n\r\n",
                                      "Transfer-Encoding: chunked\r\n\r\n",
                                      "Transfer-Encoding: ",
                                      "chunked",
                                      "Connection: close\r\n",
                                      "Connection: keep-alive\r\n",
                                      "Connection: upgrade\r\n",
                                      "Upgrade: x\r\n",
                                      "Expect: 100-continue\r\n",
                                      "\r\n",
                                      "\r\n\r\n",
                                      "0\r\n\r\n",
                                      "5\r\nhello\r\n",
                                      "a;b=c\r\n0123456789\r\n",
                                      "0\r\nTrailer: x\r\n\r\n",
                                      "hello",
                                      "FFFFFFFFFFFFFFFF\r\n",
                                      "18446744073709551615\r\n",
                                      "A: b\r\n",
                                      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                      "POST /echo HTTP/1.1\r\nHost: a\r\n"};

std::string expand(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    if (byte < 0x80)
      text += static_cast<char>(byte);
    else
      text += WORDS[byte % std::size(WORDS)];
  }
  return text;
}

/// How a run goes, by the first byte.
struct Plan {
  explicit Plan(unsigned bits)
      : hasWords((bits & 1) != 0),
        isStrict((bits & 2) != 0),
        shutsDown((bits & 4) != 0),
        reads((bits & 8) == 0),
        takesTime((bits & 16) != 0),
        passesMethods((bits & 32) != 0) {}
  bool hasWords, isStrict, shutsDown, reads, takesTime, passesMethods;

  ServerSettings settings() const {
    ServerSettings settings;
    if (passesMethods) settings.unknownMethods = ServerSettings::UnknownMethods::PASS;
    if (!isStrict) return settings;
    settings.headBytes = 128;
    settings.targetBytes = 20;
    settings.headerFields = 4;
    settings.bodyBytes = 40;
    settings.skippedBytes = 100'000; // what is skipped of a body depends on its pieces
    settings.requestsPerConnection = 4;
    return settings;
  }
};

Promise<void> readAll(AsyncInputStream& stream, std::string& received, bool& isOver) {
  try {
    for (;;) {
      const Chunk chunk = co_await stream.tryReadChunk();
      if (chunk.empty()) break;
      received += chunk.text();
    }
    received += "(end)";
  } catch (const Exception&) {
    received += "(reset)";
  }
  isOver = true;
}

Promise<void> writeAll(AsyncIoStream& stream, std::string_view bytes, bool shutsDown) {
  try {
    co_await stream.write(bytes);
    if (shutsDown) stream.shutdownWrite();
  } catch (const Exception&) { // the server has had enough
  }
}

/// A server, and one client of it.
class Run : Service, TaskSet::ErrorHandler {
public:
  explicit Run(Plan plan) : plan_(plan), server_(*this, timer_, *this, settings()) {
    TwoWayPipe pipe = newTwoWayPipe();
    client_ = std::move(pipe.ends[1]);
    server_.serveConnection(std::move(pipe.ends[0]));
    if (plan.reads) reading_ = readAll(*client_, received_, isOver_);
  }

  /// Sends the bytes in pieces that follow from `seed`; 0: as a whole. Returns what came back.
  std::string talk(std::string_view bytes, std::uint64_t seed) {
    SeededRandom random(seed);
    Duration left = 5s; // less than any time-out
    for (std::size_t at = 0; at < bytes.size() || at == 0;) {
      const std::size_t most = bytes.size() - at;
      const std::size_t size = seed == 0 ? most : std::min(most, static_cast<std::size_t>(1 + random.upTo(seed % 16)));
      at += std::max<std::size_t>(size, 1);
      writing_ = std::move(writing_)
                     .then([this, piece = bytes.substr(at - std::max<std::size_t>(size, 1), size),
                            last = at >= bytes.size()] { return writeAll(*client_, piece, last && plan_.shutsDown); })
                     .eagerlyEvaluate(nullptr);
      settle();
      if (seed == 0) continue;
      const Duration unit = plan_.takesTime ? Duration(5ms) : Duration(1ms);
      const Duration delay = static_cast<std::int64_t>(random.upTo(1000)) * unit;
      if (plan_.takesTime || left > delay) timer_.advanceBy(delay);
      left -= std::min(left, delay);
    }
    // All that is left is over when its time is.
    for (int i = 0; i < 100 && server_.connections() > 0; ++i) {
      timer_.advanceBy(1s);
      settle();
    }
    require(server_.connections() == 0, "the connection has no end");
    require(server_.requests() == 0, "a request is left");
    require(!plan_.reads || isOver_, "the client waits for ever");
    return without(std::move(received_));
  }

private:
  EventLoop loop_;
  WaitScope scope_{loop_};
  ManualTimer timer_;
  Plan plan_;
  std::unique_ptr<AsyncIoStream> client_;
  std::string received_;
  bool isOver_ = false, isRefused_ = false;
  Server server_;
  Promise<void> reading_ = READY_NOW, writing_ = READY_NOW;

  void settle() { yieldUntilWouldSleep().wait(scope_); }

  ServerSettings settings() {
    ServerSettings settings = plan_.settings();
    settings.accessLog = [this](const AccessRecord& record) {
      require(!isRefused_, "what stands behind a fault was answered");
      isRefused_ = record.request == nullptr;
    };
    return settings;
  }

  Promise<void> handle(Request& request, Response& response) override {
    if (request.path() == "/unread") return response.send(200, "unread");
    if (request.path() == "/fails") throw Exception(Exception::Kind::FAILED, "planned");
    return answer(request, response);
  }

  Promise<void> answer(Request& request, Response& response) {
    const bool isUpgrade = request.method() == Method::CONNECT ||
                           (request.headers().has(HeaderId::UPGRADE) && request.path() == "/stream");
    const std::string body = co_await request.body().readAllText(100'000);
    if (isUpgrade) {
      if (request.method() != Method::CONNECT) response.headers().set(HeaderId::UPGRADE, "x");
      response.upgrade(request.method() == Method::CONNECT ? 200 : 101);
      co_return;
    }
    const std::string text = std::string(request.methodText()) + " " + std::string(request.target()) + ": " + body;
    if (request.path() != "/stream") {
      co_await response.send(200, text);
      co_return;
    }
    HeaderMap trailers;
    for (const HeaderField field : request.trailers()) trailers.add(field.name, field.value);
    co_await response.start(200).write(text);
    co_await response.end(trailers);
  }

  // Misuse that a client can provoke is what an upgrade may be: the handler asks for one that was not offered.
  void taskFailed(Exception e) override {
    const std::string_view text = e.description();
    require(text == "planned" || text.find("upgrade") != std::string_view::npos, "reported: " + std::string(text));
  }

  // Without what depends on the clock, or on whether the body was there already when it was asked for.
  static std::string without(std::string text) {
    for (std::size_t at = 0; (at = text.find("\r\nDate: ", at)) != std::string::npos;) text.erase(at, 37);
    constexpr std::string_view CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";
    for (std::size_t at = 0; (at = text.find(CONTINUE, at)) != std::string::npos;) text.erase(at, CONTINUE.size());
    return text;
  }
};

/// Of a head with several faults, which one is found first depends on how it is split: any refusal is like another.
std::string_view withoutRefusal(std::string_view text) {
  const std::size_t last = text.rfind("HTTP/1.1 ");
  if (last == std::string_view::npos) return text;
  for (const std::string_view status : {"400 ", "413 ", "414 ", "431 ", "501 ", "505 "})
    if (text.substr(last + 9).starts_with(status)) return text.substr(0, last + 9);
  return text;
}

/// A line end behind a request may be the beginning of the next, or not, depending on how it comes; which decides between
/// two times for the connection, whether it is told that it is late, and nothing else.
std::string_view withoutLateness(std::string_view text) {
  constexpr std::string_view END = "(end)";
  if (text.ends_with(END)) text.remove_suffix(END.size());
  const std::size_t last = text.rfind("HTTP/1.1 408 ");
  return last == std::string_view::npos ? text : text.substr(0, last);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::int64_t blocks = troth::detail::liveBlocks();
  {
    const Plan plan(data[0]);
    const std::span<const std::uint8_t> rest(data + 2, size - 2);
    const std::string bytes = plan.hasWords ? expand(rest) : std::string(rest.begin(), rest.end());
    const std::string whole = Run(plan).talk(bytes, 0);
    const std::string split = Run(plan).talk(bytes, data[1] + 1u);
    require(plan.takesTime || withoutRefusal(whole) == withoutRefusal(split) ||
                withoutLateness(whole) == withoutLateness(split),
            "split otherwise, the bytes mean something else:\n" + whole + "\n---\n" + split);
  }
  require(troth::detail::liveBlocks() == blocks, "something was left alive");
  return 0;
}
