// SPDX-License-Identifier: MIT
// Content codings: there and back, cut off, made up, too large, cancelled.
#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/io/testing.h>
#include <troth/net/http/content_coding.h>
#include <troth/net/http/http_error.h>

#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

std::string_view textOf(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::vector<ContentCoding> codings() {
  std::vector<ContentCoding> all{ContentCoding::IDENTITY};
  for (std::string_view name : supportedCodings()) all.push_back(findCoding(name).value());
  return all;
}

std::string sample(std::size_t size) {
  std::string text;
  std::uint32_t random = 1;
  while (text.size() < size) {
    random = random * 1664525 + 1013904223;
    text += (random >> 24) % 3 == 0 ? "some words again " : std::string(1, static_cast<char>(random >> 16));
  }
  text.resize(size);
  return text;
}

std::unique_ptr<AsyncInputStream> streamOf(std::string_view bytes, std::size_t most = 1 << 20) {
  auto stream = std::make_unique<ScriptedStream>();
  if (!bytes.empty()) stream->giveRead(bytes);
  stream->giveEnd().shortReads(most);
  return stream;
}

std::string encoded(ContentCoding coding, std::string_view text, CodingLevel level = DEFAULT_LEVEL) {
  return std::string(textOf(encode(coding, asBytes(text), level)));
}

/// The status of the HttpError that `call` throws; 0 if it throws none.
template <typename Call>
int statusOf(Call&& call) {
  try {
    call();
  } catch (const HttpError& e) {
    return e.status();
  }
  return 0;
}

#ifdef TROTH_HAS_ZLIB
constexpr bool HAS_ZLIB = true;
#else
constexpr bool HAS_ZLIB = false;
#endif
#ifdef TROTH_HAS_BROTLI
constexpr bool HAS_BROTLI = true;
#else
constexpr bool HAS_BROTLI = false;
#endif

TEST_CASE("codings have names, and what this build has not got is UNIMPLEMENTED") {
  CHECK(supportedCodings().size() == (HAS_ZLIB ? 2 : 0) + (HAS_BROTLI ? 1 : 0));
  for (std::string_view name : {"gzip", "deflate", "br", "identity"}) CHECK(codingName(findCoding(name).value()) == name);
  CHECK(isSupported(ContentCoding::IDENTITY));
  CHECK(isSupported(ContentCoding::GZIP) == HAS_ZLIB);
  CHECK(isSupported(ContentCoding::BROTLI) == HAS_BROTLI);
  for (ContentCoding coding : {ContentCoding::GZIP, ContentCoding::DEFLATE, ContentCoding::BROTLI})
    if (!isSupported(coding)) {
      CHECK((thrownBy([&] { encode(coding, {}); }).kind() == Exception::Kind::UNIMPLEMENTED));
      CHECK((thrownBy([&] { decode(coding, {}); }).kind() == Exception::Kind::UNIMPLEMENTED));
    }
  CHECK((findCoding("X-GZIP") == ContentCoding::GZIP));
  CHECK(!findCoding("zstd"));
  CHECK_THROWS_AS(encode(ContentCoding::GZIP, {}, 10), Exception); // or because there is none
  CHECK_THROWS_AS(encode(ContentCoding::BROTLI, {}, 12), Exception);
  CHECK_THROWS_AS(encode(ContentCoding::GZIP, {}, -2), Exception);
}

TEST_CASE_FIXTURE(LoopTest, "what was coded is decoded to the same, in every coding, size and level, however it comes") {
  for (ContentCoding coding : codings())
    for (std::size_t size : {0u, 1u, 100u, 70'000u, 300'000u}) {
      CAPTURE(codingName(coding));
      CAPTURE(size);
      const std::string text = sample(size);
      for (CodingLevel level : {DEFAULT_LEVEL, 0, 1, 9}) CHECK(textOf(decode(coding, encode(coding, asBytes(text), level))) == text);
      const std::string bytes = encoded(coding, text);
      if (size == 300'000 && coding != ContentCoding::IDENTITY) CHECK(bytes.size() < size / 2);
      for (std::size_t most : {std::size_t(1), std::size_t(1000), std::size_t(1 << 20)}) {
        if (most == 1 && size > 1000) continue;
        CHECK(newDecodingStream(coding, streamOf(bytes, most))->readAllText(size).wait(scope) == text);
      }
    }
}

Promise<std::string> codeByStream(ContentCoding coding, std::string_view text, std::size_t piece) {
  TwoWayPipe pipe = newTwoWayPipe();
  std::unique_ptr<EncodingStream> encoder = newEncodingStream(coding, *pipe.ends[0]);
  std::unique_ptr<AsyncInputStream> decoder = newDecodingStream(coding, std::move(pipe.ends[1]));
  Promise<std::string> reading = decoder->readAllText(text.size()).eagerlyEvaluate(nullptr);
  while (!text.empty()) {
    co_await encoder->write(text.substr(0, piece));
    text.remove_prefix(std::min(piece, text.size()));
  }
  co_await encoder->end();
  pipe.ends[0]->shutdownWrite();
  co_return co_await std::move(reading);
}

TEST_CASE_FIXTURE(LoopTest, "a stream codes what is written in pieces of any size") {
  for (ContentCoding coding : codings())
    for (std::size_t piece : {std::size_t(7), std::size_t(5000), std::size_t(1) << 20}) {
      const std::string text = sample(piece == 7 ? 2000 : 400'000);
      CHECK(codeByStream(coding, text, piece).wait(scope) == text);
    }
}

TEST_CASE_FIXTURE(LoopTest, "what was flushed can be decoded, and what was not waits") {
  for (ContentCoding coding : codings()) {
    CAPTURE(codingName(coding));
    TwoWayPipe pipe = newTwoWayPipe();
    std::unique_ptr<EncodingStream> encoder = newEncodingStream(coding, *pipe.ends[0]);
    std::unique_ptr<AsyncInputStream> decoder = newDecodingStream(coding, std::move(pipe.ends[1]));
    std::string buffer(5, '.');
    Promise<std::size_t> read = decoder->tryRead(std::as_writable_bytes(std::span(buffer)), 5);
    encoder->write("hello").wait(scope);
    CHECK(!read.poll(scope));
    encoder->flush().wait(scope);
    CHECK(std::move(read).wait(scope) == 5);
    CHECK(buffer == "hello");
    Promise<void> ending = encoder->end();
    Promise<Chunk> chunk = decoder->tryReadChunk();
    std::move(ending).wait(scope);
    CHECK(!chunk.poll(scope)); // something may follow, which would be an error
    pipe.ends[0]->shutdownWrite();
    CHECK(std::move(chunk).wait(scope).empty());
    CHECK(contains(thrownBy([&] { (void)encoder->write("more"); }).description(), "was ended by end()"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "a body that is cut off at any byte, or has something behind it, is an error") {
  const std::string text = sample(200);
  for (ContentCoding coding : codings()) {
    if (coding == ContentCoding::IDENTITY) continue;
    CAPTURE(codingName(coding));
    const std::string bytes = encoded(coding, text);
    for (std::size_t length = 1; length < bytes.size(); ++length) {
      if (statusOf([&] { decode(coding, asBytes(bytes).first(length)); }) != 400) FAIL("cut off at " << length);
      if (length % 16 == 1)
        CHECK(statusOf([&] { newDecodingStream(coding, streamOf(bytes.substr(0, length)))->readAllText(1000).wait(scope); }) == 400);
    }
    CHECK(statusOf([&] { decode(coding, asBytes(bytes + "x")); }) == 400);
    CHECK(statusOf([&] { newDecodingStream(coding, streamOf(bytes + "x", bytes.size()))->readAllText(1000).wait(scope); }) == 400);
    for (std::size_t at = 0; at < bytes.size(); ++at) { // whatever it becomes, it is no crash
      std::string wrong = bytes;
      wrong[at] = static_cast<char>(wrong[at] ^ 0x55);
      (void)statusOf([&] { decode(coding, asBytes(wrong)); });
    }
    CHECK(statusOf([&] { decode(coding, asBytes("this is no such body")); }) == 400);
  }
}

TEST_CASE_FIXTURE(LoopTest, "no byte at all is an empty body, whatever the coding") {
  for (ContentCoding coding : codings()) {
    CAPTURE(codingName(coding));
    CHECK(decode(coding, {}).empty());
    CHECK(newDecodingStream(coding, streamOf(""))->readAllText(10).wait(scope).empty());
  }
}

TEST_CASE_FIXTURE(LoopTest, "an error at any byte of the stream below comes out") {
  const std::string text = sample(200);
  for (ContentCoding coding : codings()) {
    const std::string bytes = encoded(coding, text);
    for (std::size_t at = 0; at <= bytes.size(); ++at) {
      auto broken = std::make_unique<ScriptedStream>();
      broken->giveRead(bytes).failReadAt(at).shortReads(7);
      if (failureOf(newDecodingStream(coding, std::move(broken))->readAllText(1000), scope).kind() != Exception::Kind::DISCONNECTED)
        FAIL(codingName(coding) << " at " << at);
    }
  }
}

#ifdef TROTH_HAS_ZLIB // these need a coding that is one
TEST_CASE_FIXTURE(LoopTest, "an error stays") {
  const std::unique_ptr<AsyncInputStream> stream = newDecodingStream(ContentCoding::GZIP, streamOf("xyz"));
  for (int i = 0; i < 2; ++i) CHECK(statusOf([&] { stream->tryReadChunk().wait(scope); }) == 400);
  const std::unique_ptr<AsyncInputStream> cut = newDecodingStream(ContentCoding::GZIP, streamOf(encoded(ContentCoding::GZIP, sample(100)).substr(0, 12)));
  for (int i = 0; i < 2; ++i) CHECK(statusOf([&] { cut->readAllText(1000).wait(scope); }) == 400);
  auto broken = std::make_unique<ScriptedStream>();
  broken->giveRead(encoded(ContentCoding::GZIP, sample(100))).failReadAt(50);
  CHECK((failureOf(newDecodingStream(ContentCoding::GZIP, std::move(broken))->readAllText(1000), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE("gzip may have several members, and deflate no header") {
  CHECK(textOf(decode(ContentCoding::GZIP, asBytes(encoded(ContentCoding::GZIP, "one, ") + encoded(ContentCoding::GZIP, "") + encoded(ContentCoding::GZIP, "two")))) == "one, two");
  const std::string zlib = encoded(ContentCoding::DEFLATE, "some text");
  CHECK(textOf(decode(ContentCoding::DEFLATE, asBytes(zlib.substr(2, zlib.size() - 6)))) == "some text");
  CHECK(statusOf([&] { decode(ContentCoding::DEFLATE, asBytes(zlib + zlib)); }) == 400);
  CHECK(statusOf([&] { decode(ContentCoding::GZIP, asBytes(zlib)); }) == 400);
}

TEST_CASE_FIXTURE(LoopTest, "a few bytes do not become very many") {
  const std::string zeroes(8 << 20, '\0');
  for (ContentCoding coding : codings()) {
    CAPTURE(codingName(coding));
    const std::string bytes = encoded(coding, zeroes);
    const DecodingLimits small{.maxBytes = 1'000'000, .maxRatio = 1'000'000'000}, ratio{.maxRatio = 100};
    CHECK(statusOf([&] { decode(coding, asBytes(bytes), small); }) == 413);
    CHECK(statusOf([&] { newDecodingStream(coding, streamOf(bytes), small)->readAllText(zeroes.size()).wait(scope); }) == 413);
    CHECK(statusOf([&] { decode(coding, asBytes(bytes), ratio); }) == (coding == ContentCoding::IDENTITY ? 0 : 413));
    CHECK(statusOf([&] { decode(coding, asBytes(bytes), {.maxRatio = 0}); }) == (coding == ContentCoding::IDENTITY ? 0 : 413)); // as 1
    CHECK(statusOf([&] { decode(coding, asBytes(bytes), {.maxBytes = zeroes.size(), .maxRatio = 1'000'000'000}); }) == 0);
    CHECK(statusOf([&] { decode(coding, asBytes(encoded(coding, zeroes.substr(0, 1 << 20))), ratio); }) == 0); // small enough not to matter
  }
}

Promise<void> countTurns(std::size_t& turns) {
  for (;;) {
    co_await yield();
    ++turns;
  }
}

TEST_CASE_FIXTURE(LoopTest, "others run between the slices of a large body") {
  const std::string text(4 << 20, 'x'); // 64 slices of 64 KiB
  const std::string bytes = encoded(ContentCoding::GZIP, text);
  std::size_t turns = 0;
  Promise<void> counting = countTurns(turns).eagerlyEvaluate(nullptr);
  std::string back(text.size(), '.');
  const auto stream = newDecodingStream(ContentCoding::GZIP, streamOf(bytes), {.maxRatio = 2000});
  CHECK(stream->tryRead(std::as_writable_bytes(std::span(back)), back.size()).wait(scope) == back.size());
  CHECK(back == text);
  CHECK(turns >= 60);
  turns = 0;
  TwoWayPipe pipe = newTwoWayPipe();
  const std::unique_ptr<EncodingStream> encoder = newEncodingStream(ContentCoding::GZIP, *pipe.ends[0]);
  encoder->write(text).wait(scope);
  CHECK(turns >= 60);
}

TEST_CASE_FIXTURE(LoopTest, "a read that is dropped, pending or ready, loses no byte") {
  auto script = std::make_unique<ScriptedStream>();
  const std::string bytes = encoded(ContentCoding::GZIP, "0123456789");
  script->giveRead(std::string_view(bytes).substr(0, 12)).delayTurns(4).giveRead(std::string_view(bytes).substr(12)).giveEnd();
  const std::unique_ptr<AsyncInputStream> stream = newDecodingStream(ContentCoding::GZIP, std::move(script));
  std::string buffer(10, '.');
  const auto space = std::as_writable_bytes(std::span(buffer));
  { Promise<std::size_t> dropped = stream->tryRead(space, 10); }
  { Promise<std::size_t> dropped = stream->tryRead(space, 10); CHECK(dropped.poll(scope)); }
  CHECK(buffer == "..........");
  CHECK(contains(thrownBy([&] { Promise<Chunk> one = stream->tryReadChunk(); (void)stream->tryReadChunk(); }).description(), "another read"));
  CHECK(stream->tryRead(space.first(3), 3).wait(scope) == 3);
  CHECK(stream->tryReadChunk(4).wait(scope).text() == "3456");
  CHECK(stream->tryRead(space.subspan(3), 7).wait(scope) == 3);
  CHECK(buffer == "012789....");
}

TEST_CASE_FIXTURE(LoopTest, "destroying a stream rejects what is pending on it") {
  auto decoder = newDecodingStream(ContentCoding::GZIP, std::make_unique<ScriptedStream>());
  Promise<Chunk> read = decoder->tryReadChunk();
  CHECK(!read.poll(scope));
  decoder.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  TwoWayPipe pipe = newTwoWayPipe();
  auto encoder = newEncodingStream(ContentCoding::GZIP, *pipe.ends[0]);
  encoder->write("x").wait(scope);
  Promise<void> flush = encoder->flush();
  CHECK(!flush.poll(scope));
  CHECK(contains(thrownBy([&] { (void)encoder->write("y"); }).description(), "another write"));
  encoder.reset();
  CHECK((failureOf(std::move(flush), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK_THROWS_AS(newDecodingStream(ContentCoding::GZIP, nullptr), Exception);
}

TEST_CASE_FIXTURE(LoopTest, "a write that could go on when its stream is destroyed does not touch the one below, which may be gone") {
  const std::string text(40'000, 'x'); // three times what is sent at once
  TwoWayPipe pipe = newTwoWayPipe();
  auto encoder = newEncodingStream(ContentCoding::IDENTITY, *pipe.ends[0]);
  Promise<void> write = encoder->write(text);
  CHECK(!write.poll(scope));
  std::string buffer(16 * 1024, '.');
  Promise<std::size_t> read = pipe.ends[1]->tryRead(std::as_writable_bytes(std::span(buffer)), buffer.size());
  encoder.reset();
  pipe.ends[0].reset();
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(std::move(read).wait(scope) == buffer.size());
}

TEST_CASE_FIXTURE(LoopTest, "after a cancelled or failed write nothing is sent any more") {
  TwoWayPipe pipe = newTwoWayPipe();
  auto encoder = newEncodingStream(ContentCoding::GZIP, *pipe.ends[0]);
  encoder->write("x").wait(scope);
  { Promise<void> cancelled = encoder->flush(); CHECK(!cancelled.poll(scope)); }
  CHECK(contains(failureOf(encoder->write("y"), scope).description(), "was cancelled"));
  ScriptedStream broken;
  broken.failWriteAt(0);
  auto other = newEncodingStream(ContentCoding::GZIP, broken);
  other->write("x").wait(scope);
  for (int i = 0; i < 2; ++i) CHECK((failureOf(other->flush(), scope).kind() == Exception::Kind::DISCONNECTED));
  ScriptedStream aborted;
  auto given = newEncodingStream(ContentCoding::GZIP, aborted);
  aborted.expectAbort();
  given->abortWrite();
  CHECK(contains(failureOf(given->write("x"), scope).description(), "given up"));
  aborted.checkFinished();
}

#endif

TEST_CASE("sweep: coding and decoding can be cancelled anywhere") {
  const std::string text = sample(150'000);
  for (ContentCoding coding : codings())
    CHECK(cancelSweep(std::function<Promise<void>(LoopTest&)>([&](LoopTest&) {
            return codeByStream(coding, text, 70'000).then([&](const std::string& back) { CHECK(back == text); });
          })) > 5);
}

} // namespace
