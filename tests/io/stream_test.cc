// SPDX-License-Identifier: MIT
// Tests of what the stream interfaces do by themselves: read() in terms of tryRead().
#include "peer.h"

#include <troth/io/limited.h>
#include <troth/io/stream.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>

using namespace troth;
using namespace troth::test;

namespace {

/// Gives the pieces one after the other, as a stream would that gets them so; then the end, or an error.
class Scripted final : public AsyncInputStream {
public:
  explicit Scripted(std::deque<std::string> pieces) : pieces_(std::move(pieces)) {}

  std::optional<Exception> error;
  std::size_t lastMinBytes = 0;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location) override {
    lastMinBytes = minBytes;
    std::size_t got = 0;
    while (got < minBytes) {
      if (pieces_.empty()) {
        if (error) return *error;
        break;
      }
      std::string& piece = pieces_.front();
      const std::size_t part = std::min(piece.size(), buffer.size() - got);
      std::memcpy(buffer.data() + got, piece.data(), part);
      got += part;
      piece.erase(0, part);
      if (piece.empty()) pieces_.pop_front();
    }
    return evalLater([got] { return got; });
  }


private:
  std::deque<std::string> pieces_;
};

} // namespace

TEST_CASE("a text is seen as its bytes, without a copy") {
  const std::string_view text = "ab\0c";
  const std::span<const std::byte> bytes = asBytes(text);
  CHECK(bytes.size() == text.size());
  CHECK(static_cast<const void*>(bytes.data()) == text.data());
}

TEST_CASE_FIXTURE(LoopTest, "read fills the buffer, however the bytes come") {
  for (const std::deque<std::string>& pieces :
       {std::deque<std::string>{"abcdef"}, {"abc", "def"}, {"a", "b", "c", "d", "e", "f"}, {"abcd", "efgh"}}) {
    Scripted stream(pieces);
    std::string buffer(6, '.');
    stream.read(bufferOf(buffer)).wait(scope);
    CHECK(buffer == "abcdef");
    CHECK(stream.lastMinBytes == 6);
  }
}

TEST_CASE_FIXTURE(LoopTest, "read at the end of the stream is DISCONNECTED and says how much was missing") {
  Scripted stream({"abc"});
  std::string buffer(10, '.');
  const Exception e = failureOf(stream.read(bufferOf(buffer)), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "3 of 10 bytes"));
  CHECK(madeIn(e, "stream_test.cc"));
  const Exception again = failureOf(stream.read(bufferOf(buffer)), scope);
  CHECK((again.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(again.description(), "0 of 10 bytes"));
}

TEST_CASE_FIXTURE(LoopTest, "read into an empty buffer is done at once, even at the end of the stream") {
  Scripted stream({});
  stream.read({}).wait(scope);
  CHECK(stream.lastMinBytes == 0); // the stream was not even asked
}

TEST_CASE_FIXTURE(LoopTest, "readAll does not allocate what a stream only says to have") {
  const std::unique_ptr<AsyncInputStream> stream =
      newLimitedInputStream(std::make_unique<Scripted>(std::deque<std::string>{"abc"}), std::uint64_t(1) << 63);
  const Exception e = failureOf(stream->readAllText(ALL_BYTES), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "3 of 9223372036854775808 bytes"));
}

TEST_CASE_FIXTURE(LoopTest, "read passes the stream's own error on") {
  Scripted stream({"ab"});
  stream.error = Exception(Exception::Kind::OVERLOADED, "no memory for it");
  std::string buffer(3, '.');
  const Exception e = failureOf(stream.read(bufferOf(buffer)), scope);
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  CHECK(e.description() == "no memory for it");
}
