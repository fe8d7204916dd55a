// SPDX-License-Identifier: MIT
// Out of memory anywhere in streams that are made of other streams: it is an error, and nothing is lost by it (R6).
#include "../runtime/helpers.h"
#include "peer.h"
#include "pump_all.h"

#include <troth/io/buffered.h>
#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/promised_stream.h>
#include <troth/io/tee.h>
#include <troth/io/testing.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>

#include <cstring>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::test;

namespace {

constexpr std::string_view TEXT = "abcdefgh";

/// What doctest's REQUIRE is for, where an exception of what is asked must get through.
void require(bool condition) { REQUIRE(condition); }

Promise<void> sendText(std::unique_ptr<AsyncOutputStream> output, bool& isSent) {
  const std::span<const std::byte> pieces[] = {asBytes(TEXT).first(2), asBytes(TEXT).subspan(2)};
  co_await output->write(pieces);
  isSent = true;
}

/// Who sends may fail before: then the text ends early.
Promise<void> receiveText(std::unique_ptr<AsyncInputStream> input, const bool& isSent) {
  std::string got;
  for (;;) {
    std::string buffer(3, '.');
    const std::size_t count = co_await input->tryRead(bufferOf(buffer), 2);
    got += buffer.substr(0, count);
    if (count < 2) break;
    const Chunk chunk = co_await input->tryReadChunk(2);
    got += chunk.text();
    if (chunk.empty()) break;
  }
  require(got == TEXT || (!isSent && TEXT.starts_with(got)));
}

} // namespace

TEST_CASE("when an allocation fails in a pipe or in a pump, that is reported (R6)") {
  for (const int kinds : {0, 1, 2, 3}) {
    CAPTURE(kinds);
    const auto body = [kinds](LoopTest& test) {
      bool isSent = false;
      OneWayPipe a = newOneWayPipe();
      OneWayPipe b = newOneWayPipe();
      OneWayPipe c = newOneWayPipe();
      Promise<void> first = pumpAll(std::move(a.input), std::move(b.output), (kinds & 1) != 0);
      Promise<void> second = pumpAll(std::move(b.input), std::move(c.output), (kinds & 2) != 0);
      joinPromisesFailFast(sendText(std::move(a.output), isSent), std::move(first), std::move(second),
                           receiveText(std::move(c.input), isSent))
          .wait(test.scope);
    };
    CHECK((starveSweep(body) > 10 || SANITIZED));
  }
}

TEST_CASE("when an allocation fails while a pump looks for the end of its stream, that is reported (R6)") {
  const auto body = [](LoopTest& test) {
    OneWayPipe from = newOneWayPipe();
    OneWayPipe to = newOneWayPipe();
    Promise<std::uint64_t> pump = *to.output->tryPumpFrom(*from.input, ALL_BYTES);
    to.input = nullptr;
    from.output = nullptr;
    require(std::move(pump).wait(test.scope) == 0);
  };
  CHECK((starveSweep(body) > 2 || SANITIZED));
}

TEST_CASE("when an allocation fails in a tee, that is reported by every branch (R6)") {
  const auto body = [](LoopTest& test) {
    bool isSent = false;
    OneWayPipe pipe = newOneWayPipe();
    Tee tee = newTee(std::move(pipe.input), 3);
    joinPromisesFailFast(sendText(std::move(pipe.output), isSent), receiveText(std::move(tee.branches[0]), isSent),
                         receiveText(std::move(tee.branches[1]), isSent))
        .wait(test.scope);
  };
  CHECK((starveSweep(body) > 10 || SANITIZED));
}

TEST_CASE("when an allocation fails in a promised, a limited, a buffered or a scripted stream, that is reported (R6)") {
  const auto body = [](LoopTest& test) {
    auto script = std::make_unique<ScriptedStream>();
    script->giveRead("first line\nsecond\nand so on").giveEnd().expectWrite("abcdef").expectShutdown().delayTurns(1);
    Promise<std::unique_ptr<AsyncIoStream>> later =
        evalLater([script = std::move(script)]() mutable -> std::unique_ptr<AsyncIoStream> { return std::move(script); });
    const std::unique_ptr<AsyncIoStream> stream = newPromisedStream(std::move(later));
    {
      BufferedInputStream lines(newLimitedInputStream(*stream, 20));
      require(*lines.readLine().wait(test.scope) == "first line");
      require(*lines.readUntil("\n").wait(test.scope) == "second");
      require(lines.readAllText(10).wait(test.scope) == "an");
    }
    BufferedOutputStream output(*stream, 4);
    output.write("abc").wait(test.scope);
    output.write("de").wait(test.scope);
    output.write("f").wait(test.scope);
    output.flush().wait(test.scope);
    const std::unique_ptr<AsyncIoStream> null = newNullStream();
    require(stream->pumpTo(*null).wait(test.scope) == 7);
    stream->shutdownWrite();
  };
  CHECK((starveSweep(body) > 10 || SANITIZED));
}

TEST_CASE_FIXTURE(LoopTest, "a chunk for which there is no memory when its bytes have come keeps them (R6)") {
  /// Has no way to read chunks of its own.
  struct Plain final : AsyncInputStream {
    Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t, std::source_location) override {
      std::memcpy(buffer.data(), "abc", 3);
      return std::size_t(3);
    }
  } stream;
  Promise<Chunk> read = stream.tryReadChunk(100);
  REQUIRE(read.poll(scope));
  detail::trimPool();
  const NoMemory none;
  CHECK(std::move(read).wait(scope).text() == "abc");
  CHECK((NoMemory::hasFailed() || SANITIZED));
}
