// SPDX-License-Identifier: MIT
// WebSocket's frames, masks, UTF-8, and messages out of them, compressed or not; all without I/O.
#include <fixtures.h>

#include <troth/io/stream.h>
#include <troth/net/http/websocket_decoder_detail.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/runtime/pool_detail.h>
#include <troth/timers/random.h>

#include <bit>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using http::detail::applyMask;
using http::detail::PoolString;
using http::detail::Utf8Validator;
using http::detail::WebSocketDecoder;
using http::detail::WebSocketDeflater;
using http::detail::WebSocketFault;
using http::detail::WebSocketFrameHeader;
using http::detail::WebSocketInflater;
using http::detail::WebSocketMask;
using http::detail::WebSocketMasking;
using http::detail::WebSocketOpcode;
using Event = WebSocketDecoder::Event;

namespace {

constexpr http::detail::WebSocketLimits LIMITS{100'000, 1000};
constexpr WebSocketMask MASK{std::byte{0x12}, std::byte{0x34}, std::byte{0x56}, std::byte{0x78}};

std::string headerText(const WebSocketFrameHeader& header) {
  std::array<std::byte, http::detail::LONGEST_FRAME_HEADER> out;
  const std::size_t size = writeFrameHeader(out, header);
  return std::string(reinterpret_cast<const char*>(out.data()), size);
}

struct FrameParts {
  WebSocketOpcode opcode;
  std::string payload;
  bool final = true;
  bool compressed = false;
};

std::string frame(const FrameParts& parts, std::optional<WebSocketMask> mask = std::nullopt) {
  std::string payload = parts.payload;
  if (mask) applyMask(std::as_writable_bytes(std::span(payload)), *mask);
  return headerText({parts.opcode, parts.final, parts.compressed, mask, payload.size()}) + payload;
}

std::string text(std::string payload, bool final = true) {
  return frame({WebSocketOpcode::TEXT, std::move(payload), final});
}
std::string more(std::string payload, bool final) {
  return frame({WebSocketOpcode::CONTINUATION, std::move(payload), final});
}

/// What a decoder makes of `bytes` that come `step` at a time, in a form to compare; it ends with a fault or a close.
std::string decode(WebSocketDecoder decoder, std::string_view bytes, std::size_t step = SIZE_MAX) {
  std::string seen;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::string_view piece = bytes.substr(at, step);
    at += piece.size();
    std::span<const std::byte> input = asBytes(piece);
    for (Event event = decoder.next(input); event != Event::NEED_MORE; event = decoder.next(input)) {
      if (event == Event::PAUSE) continue;
      if (event == Event::FAULT) return seen + "!" + std::string(textOf(decoder.fault()));
      if (event == Event::CLOSE)
        return seen + "close " + std::to_string(decoder.closeFrame().code) + " " + std::string(decoder.closeFrame().reason);
      if (event == Event::MESSAGE) {
        seen += decoder.messageType() == WebSocketOpcode::TEXT ? "text " : "binary ";
        seen += std::string(decoder.takeMessage());
      } else {
        seen += event == Event::PING ? "ping " : "pong ";
        seen += decoder.controlPayload();
      }
      seen += ";";
    }
    REQUIRE(input.empty());
  }
  return seen + (decoder.isInside() ? "…" : "");
}

WebSocketDecoder clientDecoder(WebSocketInflater* inflater = nullptr) {
  return WebSocketDecoder(WebSocketMasking::FORBIDDEN, LIMITS, inflater);
}
WebSocketDecoder serverDecoder() { return WebSocketDecoder(WebSocketMasking::REQUIRED, LIMITS, nullptr); }

std::string raw(std::initializer_list<int> bytes) {
  std::string all;
  for (int byte : bytes) all.push_back(static_cast<char>(byte));
  return all;
}

TEST_CASE("a header is written in its shortest form, and read back as it was, wherever it is split") {
  for (std::uint64_t length : {0ull, 1ull, 125ull, 126ull, 65535ull, 65536ull, 0x7fffffffffffffffull}) {
    for (bool masked : {false, true}) {
      const WebSocketFrameHeader header{WebSocketOpcode::BINARY, length % 2 == 0, length % 3 == 0,
                                        masked ? std::optional(MASK) : std::nullopt, length};
      const std::string bytes = headerText(header);
      CHECK(bytes.size() == (length < 126 ? 2u : length < 65536 ? 4u : 10u) + (masked ? 4u : 0u));
      for (std::size_t split = 0; split <= bytes.size(); ++split) {
        http::detail::WebSocketHeaderParser parser(masked ? WebSocketMasking::REQUIRED : WebSocketMasking::FORBIDDEN,
                                                   http::detail::WebSocketHeaderParser::Compression::NEGOTIATED);
        std::span<const std::byte> first = asBytes(std::string_view(bytes).substr(0, split));
        std::span<const std::byte> second = asBytes(std::string_view(bytes).substr(split));
        const bool early = parser.parse(first);
        CHECK(early == (split == bytes.size()));
        CHECK((early || parser.parse(second)));
        CHECK(parser.header() == header);
      }
    }
  }
  CHECK(headerText({WebSocketOpcode::TEXT, true, false, std::nullopt, 5}) == "\x81\x05");
}

TEST_CASE("a mask is applied rightly at each offset, alignment and length") {
  std::vector<std::byte> memory(200);
  for (std::size_t offset = 0; offset < 5; ++offset) {
    for (std::size_t start = 0; start < 9; ++start) {
      for (std::size_t size = 0; size < 100; ++size) {
        for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 7);
        applyMask(std::span(memory).subspan(start, size), MASK, offset);
        bool right = true;
        for (std::size_t i = 0; i < memory.size(); ++i) {
          std::byte expected = static_cast<std::byte>(i * 7);
          if (i >= start && i < start + size) expected ^= MASK[(i - start + offset) % 4];
          right = right && memory[i] == expected;
        }
        REQUIRE(right);
      }
    }
  }
}

TEST_CASE("what is wrong with a frame is found with the first byte that is") {
  struct Case {
    std::string bytes; // the last one is the one that is wrong
    std::string_view fault;
  };
  const std::string longControl = raw({0x89, 126});
  const Case cases[] = {
      {raw({0xc1}), "reserved bits"},  {raw({0xa1}), "reserved bits"},    {raw({0x91}), "reserved bits"},
      {raw({0xc9}), "reserved bits"},  {raw({0x83}), "reserved opcode"},  {raw({0x87}), "reserved opcode"},
      {raw({0x8b}), "reserved opcode"},{raw({0x8f}), "reserved opcode"},  {raw({0x09}), "control frame in fragments"},
      {raw({0x08}), "control frame in fragments"},                        {longControl, "more than 125"},
      {raw({0x88, 127}), "more than 125"},                                {raw({0x81, 0x80}), "server that is masked"},
      {raw({0x81, 126, 0, 125}), "shortest form"},
      {raw({0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}), "shortest form"},
      {raw({0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}), "2^63"},
      {raw({0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), "too big"},
      {raw({0x80, 0}), "continuation of no message"},                     {text("a", false) + raw({0x81, 0}), "before the end"},
      {text("a", false) + more("b", true) + raw({0x80, 0}), "continuation of no message"},
      {raw({0x88, 1, 3}), "close frame of one byte"},
  };
  for (const Case& c : cases) {
    for (std::size_t step : {std::size_t(1), SIZE_MAX}) {
      CHECK_MESSAGE(contains(decode(clientDecoder(), c.bytes, step), c.fault), c.fault);
      CHECK(!contains(decode(clientDecoder(), c.bytes.substr(0, c.bytes.size() - 1), step), "!"));
    }
  }
  CHECK(contains(decode(serverDecoder(), raw({0x81, 0x05})), "client that is not masked"));
}

TEST_CASE("the codes of faults, and which codes a close frame may carry") {
  CHECK(closeCodeOf(WebSocketFault::RESERVED_BITS) == 1002);
  CHECK(closeCodeOf(WebSocketFault::NOT_MASKED) == 1002);
  CHECK(closeCodeOf(WebSocketFault::BAD_CLOSE_CODE) == 1002);
  CHECK(closeCodeOf(WebSocketFault::NOT_UTF8) == 1007);
  CHECK(closeCodeOf(WebSocketFault::NOT_DEFLATED) == 1007);
  CHECK(closeCodeOf(WebSocketFault::MESSAGE_TOO_BIG) == 1009);
  CHECK(closeCodeOf(WebSocketFault::TOO_MANY_FRAGMENTS) == 1009);
  CHECK(contains(textOf(WebSocketFault::TOO_MANY_FRAGMENTS), "fragments"));
  auto closing = [](unsigned code) {
    const auto payload = raw({static_cast<int>(code >> 8), static_cast<int>(code & 0xff)}) + "bye";
    return decode(clientDecoder(), frame({WebSocketOpcode::CLOSE, payload}));
  };
  for (unsigned good : {1000u, 1001u, 1002u, 1003u, 1007u, 1011u, 1014u, 3000u, 4999u})
    CHECK(closing(good) == "close " + std::to_string(good) + " bye");
  for (unsigned bad : {0u, 999u, 1004u, 1005u, 1006u, 1015u, 1016u, 2999u, 5000u, 65535u})
    CHECK_MESSAGE(contains(closing(bad), "must not be sent"), bad);
  CHECK(decode(clientDecoder(), raw({0x88, 0})) == "close 1005 ");
  CHECK(contains(decode(clientDecoder(), raw({0x88, 3, 0x03, 0xe8, 0xff})), "not UTF-8"));
  CHECK(contains(decode(clientDecoder(), raw({0x88, 3, 0x03, 0xe8, 0xc3})), "not UTF-8"));
}

TEST_CASE("UTF-8 is told from what is not, with the first bad byte, in any pieces") {
  struct Case {
    std::string bytes;
    std::size_t good; // bytes that can be the begin of some UTF-8
    bool complete;
  };
  const Case cases[] = {
      {"", 0, true},
      {"plain", 5, true},
      {"\xce\xba\xe1\xbd\xb9\xcf\x83", 7, true},
      {"\xf4\x8f\xbf\xbf", 4, true}, // U+10FFFF
      {"\xed\x9f\xbf\xee\x80\x80", 6, true}, // around the surrogates
      {"\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80", 14, true}, // the ends of each length
      {raw({0, 0x7f}), 2, true},
      {"\x80", 0, false},
      {"\xbf", 0, false},
      {"\xc0\x80", 0, false}, // too long
      {"\xc1\xbf", 0, false},
      {"\xe0\x9f\xbf", 1, false},
      {"\xf0\x8f\xbf\xbf", 1, false},
      {"\xed\xa0\x80", 1, false}, // a surrogate
      {"\xed\xbf\xbf", 1, false},
      {"\xf4\x90\x80\x80", 1, false}, // beyond U+10FFFF
      {"\xf5\x80\x80\x80", 0, false},
      {"\xff", 0, false},
      {"\xce\xba\xc3\x28", 3, false},
      {"\xe2\x82\x28", 2, false},
      {"\xc3\xc3", 1, false},
      {"\xf0\x9f\x98", 3, false}, // not finished
      {"\xe2", 1, false},
  };
  for (const Case& c : cases) {
    for (std::size_t ascii : {0u, 1u, 7u, 8u, 31u, 40u, 64u}) {
      const std::string bytes = std::string(ascii, 'x') + c.bytes;
      Utf8Validator one;
      std::size_t good = 0;
      while (good < bytes.size() && one.feed(asBytes(std::string_view(bytes).substr(good, 1)))) ++good;
      CHECK(good == ascii + c.good);
      Utf8Validator whole;
      const bool valid = whole.feed(asBytes(bytes));
      CHECK(valid == (good == bytes.size()));
      CHECK((valid && whole.isComplete()) == c.complete);
      if (valid) CHECK(whole.feed(asBytes("x")) == c.complete); // what is not finished wants no ASCII
    }
  }
}

TEST_CASE("text that is no UTF-8 fails with the first bad byte of a message that has not ended") {
  const std::string bad = text("\xce\xba\xf4", false) + more("\x90", false);
  CHECK(contains(decode(clientDecoder(), bad), "not UTF-8"));
  CHECK(decode(clientDecoder(), bad.substr(0, bad.size() - 1)) == "…");
  CHECK(contains(decode(clientDecoder(), text("\xce\xba\xf4", false) + raw({0x80, 100, 0x90})), "not UTF-8"));
  CHECK(decode(clientDecoder(), text("\xe2", false) + frame({WebSocketOpcode::PING, "\xff"}) + more("\x82", false) + more("\xac", true)) ==
        "ping \xff;text \xe2\x82\xac;");
  CHECK(contains(decode(clientDecoder(), text("\xe2\x82")), "not UTF-8"));
  CHECK(decode(clientDecoder(), frame({WebSocketOpcode::BINARY, "\xff\xfe"})) == "binary \xff\xfe;");
}

TEST_CASE("messages and their fragments have limits") {
  const WebSocketDecoder decoder(WebSocketMasking::FORBIDDEN, {10, 3}, nullptr);
  CHECK(decode(decoder, text("0123456789")) == "text 0123456789;");
  CHECK(contains(decode(decoder, text("01234567890")), "too big"));
  CHECK(contains(decode(decoder, text("01234567890").substr(0, 2)), "too big")); // by the header alone
  CHECK(decode(decoder, text("01234", false) + more("56789", true)) == "text 0123456789;");
  CHECK(contains(decode(decoder, text("01234", false) + more("567890", true)), "too big"));
  CHECK(decode(decoder, text("", false) + more("", false) + more("a", true) + text("b")) == "text a;text b;");
  CHECK(contains(decode(decoder, text("", false) + more("", false) + more("", false) + more("", true)), "too many fragments"));
}

WebSocketMask randomMaskOf(SeededRandom& random) {
  return std::bit_cast<WebSocketMask>(static_cast<std::uint32_t>(random.upTo(UINT32_MAX)));
}

std::string randomMessage(SeededRandom& random, bool binary) {
  std::string message;
  for (std::size_t n = random.upTo(3) == 0 ? random.upTo(70'000) : random.upTo(300); n > 0; --n)
    message.push_back(static_cast<char>(random.upTo(binary ? 255 : 127)));
  return message;
}

/// The message in masked fragments, with pings between them; appends to `seen` what a decoder should make of it.
std::string randomFragments(SeededRandom& random, bool binary, std::string_view message, std::string& seen) {
  std::string bytes;
  WebSocketOpcode opcode = binary ? WebSocketOpcode::BINARY : WebSocketOpcode::TEXT;
  std::string_view rest = message;
  for (bool last = false; !last; opcode = WebSocketOpcode::CONTINUATION) {
    const std::size_t size = random.upTo(1) == 0 ? rest.size() : random.upTo(rest.size());
    last = size == rest.size() && random.upTo(1) == 0;
    bytes += frame({opcode, std::string(rest.substr(0, size)), last}, randomMaskOf(random));
    rest.remove_prefix(size);
    if (last || random.upTo(2) > 0) continue;
    bytes += frame({WebSocketOpcode::PING, "between"}, randomMaskOf(random));
    seen += "ping between;";
  }
  seen += (binary ? "binary " : "text ") + std::string(message) + ";";
  return bytes;
}

TEST_CASE("what a header promises gets its memory when a part of it has come, and then at once") {
  constexpr std::size_t SIZE = 7'000'000;
  WebSocketDecoder decoder(WebSocketMasking::FORBIDDEN, {SIZE, 1}, nullptr);
  const std::string bytes = headerText({WebSocketOpcode::BINARY, true, false, std::nullopt, SIZE}) + std::string(SIZE, 'x');
  Event event = Event::NEED_MORE;
  for (std::size_t at = 0; at < bytes.size(); at += 65536) {
    REQUIRE(event == Event::NEED_MORE);
    std::span<const std::byte> input = asBytes(std::string_view(bytes).substr(at, 65536));
    event = decoder.next(input);
  }
  REQUIRE(event == Event::MESSAGE);
  const PoolString message = decoder.takeMessage();
  CHECK(message.size() == SIZE);
  CHECK(message.capacity() < SIZE + 65536); // doubling would have made it 8 MiB
}

TEST_CASE("any fragments, with control frames between and bytes in any pieces, are the same messages") {
  SeededRandom random(20'26);
  for (int round = 0; round < 60; ++round) {
    std::string bytes;
    std::string expected;
    for (int i = 0; i < 4; ++i) {
      const bool binary = random.upTo(1) == 1;
      bytes += randomFragments(random, binary, randomMessage(random, binary), expected);
    }
    CHECK((decode(serverDecoder(), bytes) == expected));
    CHECK((decode(serverDecoder(), bytes, 1 + random.upTo(5000)) == expected));
    if (round < 4) CHECK((decode(serverDecoder(), bytes, 1) == expected));
  }
}

#ifdef TROTH_HAS_ZLIB

/// The payload of the compressed message; one that is long is compressed in three parts.
std::string compressed(WebSocketDeflater& deflater, std::string_view message) {
  PoolString payload;
  if (const std::size_t third = message.size() / 3; third > 20) {
    for (int i = 0; i < 2; ++i, message.remove_prefix(third))
      deflater.deflate(asBytes(message.substr(0, third)), WebSocketDeflater::Part::NOT_LAST, payload);
  }
  deflater.deflate(asBytes(message), WebSocketDeflater::Part::LAST, payload);
  return std::string(payload);
}

TEST_CASE("a compressed message is what RFC 7692 shows, in one frame or two, with and without a context") {
  // Section 7.2.3.
  const std::string hello = raw({0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00});
  WebSocketInflater inflater({});
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x07}) + hello) == "text Hello;");
  CHECK(decode(clientDecoder(&inflater), raw({0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00})) == "text Hello;");
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00})) == "text Hello;"); // from the one before
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 'H', 'e', 'l', 'l', 'o', 0x00})) == "text Hello;");
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00})) == "text Hello;");
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00})) == "text Hello;");
  CHECK(decode(clientDecoder(&inflater), raw({0xc1, 0x01, 0x00})) == "text ;");
  WebSocketDeflater deflater({});
  CHECK(compressed(deflater, "Hello") == hello);
  CHECK(compressed(deflater, "Hello").size() == 5);
  CHECK(compressed(deflater, "") == std::string(1, '\0'));
  WebSocketDeflater forgetful({.ownNoContextTakeover = true});
  for (int i = 0; i < 2; ++i) CHECK(compressed(forgetful, "Hello") == hello);
}

TEST_CASE("what was not compressed is fine though compression was negotiated, before and after what was") {
  WebSocketInflater inflater({});
  WebSocketDeflater deflater({});
  std::string bytes = text("plain");
  bytes += frame({WebSocketOpcode::TEXT, compressed(deflater, "squeezed"), true, true});
  bytes += text("plain again");
  bytes += frame({WebSocketOpcode::BINARY, compressed(deflater, "squeezed"), true, true});
  CHECK(decode(clientDecoder(&inflater), bytes) == "text plain;text squeezed;text plain again;binary squeezed;");
  CHECK(contains(decode(clientDecoder(&inflater), text("a", false) + raw({0xc0})), "marked as compressed"));
  CHECK(contains(decode(clientDecoder(&inflater), raw({0xc9})), "reserved bits"));
}

TEST_CASE("random messages survive each window and each way to keep contexts, in fragments") {
  SeededRandom random(7692);
  for (int bits = 8; bits <= 15; ++bits) {
    for (bool forgets : {false, true}) {
      const WebSocketDeflateTerms terms{bits, bits, forgets, forgets, 6, 0};
      WebSocketInflater inflater(terms);
      WebSocketDeflater deflater(terms);
      std::string bytes, expected;
      for (int i = 0; i < 5; ++i) {
        std::string message = i == 0 ? "" : randomMessage(random, true);
        for (int n = 0; n < 3; ++n) message += message.substr(0, 2000); // something to find again
        const std::string payload = compressed(deflater, message);
        const std::size_t cut = random.upTo(payload.size());
        bytes += frame({WebSocketOpcode::BINARY, payload.substr(0, cut), false, true}, randomMaskOf(random));
        bytes += frame({WebSocketOpcode::CONTINUATION, payload.substr(cut), true}, randomMaskOf(random));
        expected += "binary " + message + ";";
      }
      CHECK((decode(WebSocketDecoder(WebSocketMasking::REQUIRED, LIMITS, &inflater), bytes, 1 + random.upTo(9000)) == expected));
    }
  }
}

TEST_CASE("who keeps no context holds no memory between messages, nor before the first") {
  for (bool forgets : {true, false}) {
    PoolString payload, message;
    WebSocketDeflater deflater({.ownNoContextTakeover = forgets});
    WebSocketInflater inflater({.peerNoContextTakeover = forgets});
    payload.reserve(1000);
    message.reserve(1000);
    const auto before = troth::detail::liveBlocks();
    for (int i = 0; i < 3; ++i) {
      payload.clear();
      message.clear();
      deflater.deflate(asBytes("a message, a message, a message"), WebSocketDeflater::Part::LAST, payload);
      std::span<const std::byte> rest = asBytes(payload);
      REQUIRE(inflater.inflate(rest, SIZE_MAX, nullptr, message) == WebSocketFault::NONE);
      if (forgets) CHECK(troth::detail::liveBlocks() > before);
      REQUIRE(inflater.finish(SIZE_MAX, nullptr, message) == WebSocketFault::NONE);
      CHECK(message == "a message, a message, a message");
      CHECK((troth::detail::liveBlocks() == before) == forgets);
    }
    deflater.deflate(asBytes("what goes nowhere"), WebSocketDeflater::Part::NOT_LAST, payload);
    deflater.reset();
    CHECK((troth::detail::liveBlocks() == before) == forgets);
  }
}

TEST_CASE("for a window of 256 bytes only what repeats the last byte is compressed: zlib cannot make smaller windows") {
  SeededRandom random(8);
  std::string block, repeated;
  for (int i = 0; i < 200; ++i) block.push_back(static_cast<char>(random.upTo(255)));
  for (int i = 0; i < 10; ++i) repeated += block;
  WebSocketDeflater narrow({.ownWindowBits = 8});
  CHECK(compressed(narrow, repeated).size() > 1000);
  CHECK(compressed(narrow, std::string(2000, 'r')).size() < 100);
  WebSocketDeflater next({.ownWindowBits = 9});
  CHECK(compressed(next, repeated).size() < 500);
}

TEST_CASE("a decompression bomb stops at the message's limit, and damaged data with an error") {
  WebSocketDeflater deflater({});
  const std::string bomb = compressed(deflater, std::string(1'000'000, '\0'));
  CHECK(bomb.size() < 1100);
  WebSocketInflater inflater({});
  CHECK(contains(decode(clientDecoder(&inflater), frame({WebSocketOpcode::BINARY, bomb, true, true})), "too big"));
  PoolString message;
  WebSocketInflater other({});
  std::span<const std::byte> rest = asBytes(bomb);
  CHECK(other.inflate(rest, 100'000, nullptr, message) == WebSocketFault::NONE);
  CHECK((other.hasMore() && message.size() == 65'536)); // no more at a time
  CHECK(other.inflate(rest, 100'000, nullptr, message) == WebSocketFault::MESSAGE_TOO_BIG);
  CHECK(message.size() <= 100'000);
  WebSocketInflater third({});
  CHECK(contains(decode(clientDecoder(&third), frame({WebSocketOpcode::TEXT, "\xff\xff", true, true})), "cannot be decompressed"));
  WebSocketInflater forgetful({.peerNoContextTakeover = true}); // a peer that has promised not to reach back
  const std::string hello = raw({0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00});
  CHECK(contains(decode(clientDecoder(&forgetful), hello + raw({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00})), "cannot be decompressed"));
  WebSocketInflater fourth({});
  const std::string reaching = raw({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00}); // back to what was never there
  CHECK(contains(decode(clientDecoder(&fourth), reaching), "cannot be decompressed"));
}

TEST_CASE("compressed text is checked to be UTF-8 wherever its characters are cut") {
  std::string euros = "x"; // so that no character ends where a step does
  for (int i = 0; i < 30'000; ++i) euros += "\xe2\x82\xac";
  auto decoded = [](const std::string& message, bool ended = true) {
    WebSocketDeflater deflater({});
    WebSocketInflater inflater({});
    const std::string payload = compressed(deflater, message);
    std::string bytes = frame({WebSocketOpcode::TEXT, payload.substr(0, payload.size() / 2), false, true});
    bytes += more(payload.substr(payload.size() / 2), ended);
    return decode(clientDecoder(&inflater), bytes, 100);
  };
  CHECK((decoded(euros) == "text " + euros + ";"));
  CHECK(contains(decoded(euros + "\xe2\x82"), "not UTF-8"));
  CHECK(contains(decoded(euros + "\xff" + std::string(1000, 'x'), false), "not UTF-8")); // before the message's end
  CHECK(contains(decoded("\xce\xba\xff"), "not UTF-8"));
  CHECK(contains(decoded(std::string(99'999, 'x') + "\xff" + std::string(50'000, 'x')), "not UTF-8")); // what is wrong first
  CHECK(contains(decoded(std::string(100'000, 'x') + "\xff"), "too big"));
  // A stored block for whose 4 bytes the end of the message comes, 00 00 ff ff, which a sender leaves out.
  WebSocketInflater inflater({});
  CHECK(contains(decode(clientDecoder(&inflater), raw({0xc1, 0x05, 0x00, 0x04, 0x00, 0xfb, 0xff})), "not UTF-8"));
}

TEST_CASE("a lot that is decompressed comes in steps, and what is left of the input is taken later") {
  WebSocketDeflater deflater({});
  auto message = [&](std::size_t size, char letter) {
    return frame({WebSocketOpcode::BINARY, compressed(deflater, std::string(size, letter)), true, true}, MASK);
  };
  WebSocketInflater inflater({});
  WebSocketDecoder decoder(WebSocketMasking::REQUIRED, LIMITS, &inflater);
  std::string bytes = message(40'000, 'y');
  bytes += message(40'000, 'y');
  bytes += message(99'000, 'z');
  bytes += frame({WebSocketOpcode::PING, "p"}, MASK);
  std::span<const std::byte> input = asBytes(bytes);
  REQUIRE(decoder.next(input) == Event::MESSAGE);
  CHECK((decoder.takeMessage() == PoolString(40'000, 'y')));
  CHECK(decoder.next(input) == Event::PAUSE); // messages count together
  CHECK(decoder.isInside());
  REQUIRE(decoder.next(input) == Event::MESSAGE);
  CHECK((decoder.takeMessage() == PoolString(40'000, 'y')));
  CHECK(decoder.next(input) == Event::PAUSE);
  CHECK(!input.empty());
  REQUIRE(decoder.next(input) == Event::MESSAGE);
  CHECK((decoder.takeMessage() == PoolString(99'000, 'z')));
  CHECK(decoder.next(input) == Event::PING);
  CHECK(input.empty());
}

#endif

} // namespace
