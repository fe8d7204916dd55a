// SPDX-License-Identifier: MIT
// The parser by raw bytes: what it takes, what it refuses and why, and that no split changes either.
#include "malformed_requests.h"
#include "well_formed_messages.h"

#include <fixtures.h>

#include <troth/net/http/message_parser_detail.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::http::detail;
using namespace troth::test;
using std::literals::operator""s;

namespace {

using Outcome = MessageParser::Outcome;

// All that a parser says of a message, as one text.
struct Parsing {
  explicit Parsing(MessageParser::Kind kind, HeadLimits limits = {}) : parser(kind, limits) {}

  MessageParser parser;
  std::string head; // what has come so far; anew each time, so that views into an old one would be noticed
  std::string verdict;

  // Takes the next bytes; returns false when the message is over or refused.
  bool take(std::string_view bytes) {
    if (!inBody_) {
      auto moved = std::make_unique<std::string>(head + std::string(bytes));
      head_ = std::move(moved);
      head = *head_;
      const Outcome outcome = parser.parseHead(*head_);
      if (outcome == Outcome::NEEDS_MORE) return true;
      if (outcome == Outcome::FAULT) return fail();
      describeHead();
      bytes = std::string_view(*head_).substr(parser.headLength());
      inBody_ = true;
      left_ = parser.framing() == Framing::LENGTH ? parser.contentLength() : 0;
      if (parser.framing() == Framing::NONE) return end(bytes);
    }
    if (parser.framing() == Framing::LENGTH) {
      const std::size_t taken = std::min<std::uint64_t>(left_, bytes.size());
      body += bytes.substr(0, taken);
      left_ -= taken;
      return left_ > 0 || end(bytes.substr(taken));
    }
    while (!bytes.empty()) {
      const MessageParser::Piece piece = parser.decodeChunked(bytes);
      if (piece.outcome == Outcome::FAULT) return fail();
      body += piece.data;
      bytes.remove_prefix(piece.consumed);
      if (piece.outcome == Outcome::COMPLETE) return end(bytes);
    }
    return true;
  }

private:
  std::unique_ptr<std::string> head_;
  std::string body;
  std::uint64_t left_ = 0;
  bool inBody_ = false;

  bool fail() {
    verdict += std::to_string(parser.fault().status) + " " + parser.fault().reason;
    return false;
  }
  void describeHead() {
    verdict = parser.status() != 0 ? std::to_string(parser.status()) + "(" + std::string(parser.reason()) + ")"
                                   : std::string(parser.methodText()) + "(" + std::string(parser.target()) + ")";
    verdict += parser.minorVersion() == 1 ? "1.1" : "1.0";
    verdict += parser.keepsAlive() ? "k" : "c";
    for (const HeaderField field : parser.fields())
      verdict += "[" + std::string(field.name) + "|" + std::string(field.value) + "]";
  }
  bool end(std::string_view rest) {
    verdict += "{" + body + "}";
    for (const HeaderField field : parser.trailers())
      verdict += "[" + std::string(field.name) + "|" + std::string(field.value) + "]";
    verdict += "+" + std::string(rest);
    return false;
  }
};

std::string whole(MessageParser::Kind kind, std::string_view text, HeadLimits limits = {}) {
  Parsing parsing(kind, limits);
  return parsing.take(text) ? "more" : parsing.verdict;
}

// The verdict on `text`, which is the same however it is split: in two at each byte, and byte by byte. (What follows
// the message differs: it has not come yet.)
std::string verdictOf(MessageParser::Kind kind, std::string_view text, HeadLimits limits = {}) {
  const std::string verdict = whole(kind, text, limits);
  const std::string withoutRest = verdict.substr(0, verdict.rfind('+'));
  for (std::size_t split = 0; split <= text.size(); ++split) {
    Parsing parsing(kind, limits);
    const bool more = parsing.take(text.substr(0, split)) && parsing.take(text.substr(split));
    const std::string got = more ? "more" : parsing.verdict;
    CHECK_MESSAGE(got.substr(0, got.rfind('+')) == withoutRest, "split at " << split << " of " << std::string(text));
  }
  Parsing parsing(kind, limits);
  bool more = true;
  for (std::size_t i = 0; more && i < text.size(); ++i) more = parsing.take(text.substr(i, 1));
  const std::string got = more ? "more" : parsing.verdict;
  CHECK_MESSAGE(got.substr(0, got.rfind('+')) == withoutRest, "byte by byte: " << std::string(text));
  // Nor does it matter that the parser has met the same fields before.
  const std::string_view fields = text.substr(std::min(text.size(), text.find("\r\n") + 2));
  for (const char* line : {"GET /before HTTP/1.1\r\n", "GET /before HTTP/1.0\r\n"}) {
    const std::string before = line + std::string(fields);
    Parsing second(kind, limits);
    if (kind != MessageParser::Kind::REQUEST || second.parser.parseHead(before) != Outcome::COMPLETE) continue;
    second.parser.reset();
    const std::string again = second.take(text) ? "more" : second.verdict;
    CHECK_MESSAGE(again == verdict, "after " << line << ": " << std::string(text));
  }
  return verdict;
}

std::string request(std::string_view text, HeadLimits limits = {}) {
  return verdictOf(MessageParser::Kind::REQUEST, text, limits);
}
std::string response(std::string_view text) { return verdictOf(MessageParser::Kind::RESPONSE, text); }

TEST_CASE("requests are taken apart") {
  CHECK(request("GET / HTTP/1.1\r\nHost: a\r\n\r\n") == "GET(/)1.1k[Host|a]{}+");
  CHECK(request("\r\n\r\nGET /x?y=z HTTP/1.1\r\nhost:a\r\n\r\nGET") == "GET(/x?y=z)1.1k[host|a]{}+GET");
  CHECK(request("HEAD / HTTP/1.0\r\n\r\n") == "HEAD(/)1.0c{}+");
  CHECK(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n") == "GET(/)1.0k[Connection|Keep-Alive]{}+");
  CHECK(request("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n") == "GET(/)1.1c[Host|a][Connection|x, close]{}+");
  CHECK(request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcd") == "POST(/)1.1k[Host|a][Content-Length|3]{abc}+d");
  CHECK(request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nabcd") == "POST(/)1.1k[Host|a][Content-Length|0]{}+abcd");
  CHECK(request("PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nX") ==
        "PUT(/)1.1k[Host|a][transfer-encoding|Chunked]{abc0123456789}+X");
  CHECK(request("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nx\r\n1;c;d=e\r\ny\r\n0\r\nA: b\r\nEmpty:\r\nC: d e \r\n\r\n") ==
        "PUT(/)1.1k[Host|a][Transfer-Encoding|chunked]{xy}[A|b][Empty|][C|d e]+");
  CHECK(request("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n") == "BREW(/pot)1.1k[Host|a]{}+");
  CHECK(request("SOURCE /pot HTTP/1.1\r\nHost: a\r\n\r\n") == "SOURCE(/pot)1.1k[Host|a]{}+");
  CHECK(request("get / HTTP/1.1\r\nHost: a\r\n\r\n") == "get(/)1.1k[Host|a]{}+");
  CHECK(request("GET http://a:80/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n") == "GET(http://a:80/b?c)1.1k[Host|a:80]{}+");
  CHECK(request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == "OPTIONS(*)1.1k[Host|a]{}+");
  CHECK(request("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\nbytes") == "CONNECT(a.b:443)1.1k[Host|a.b:443]{}+bytes");
  CHECK(request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nz") ==
        "GET(/)1.1k[Host|a][Upgrade|x][Connection|upgrade]{}+z");
  CHECK(request("GET / HTTP/1.1\r\nHost:   \t a  \t \r\nX-A:\r\nX-B: \t\r\nX-C: \xff y\t z\r\n\r\n") ==
        "GET(/)1.1k[Host|a][X-A|][X-B|][X-C|\xff y\t z]{}+");
  for (const char* host : {"", "a", "a-b.c_d", "127.0.0.1:80", "[::1]", "[::1]:8080", "a:", "a%20b", "a,b"})
    CHECK(request("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n") == "GET(/)1.1k[Host|" + std::string(host) + "]{}+");
}

TEST_CASE("what breaks the rules is refused with its status, however it is split") {
  for (const MalformedRequest& c : malformedRequests()) {
    const std::string verdict = request(c.bytes);
    CHECK_MESSAGE(contains(" " + verdict.substr(verdict.rfind(']') == std::string::npos ? 0 : verdict.rfind(']') + 1), std::to_string(c.status) + " "),
                  troth::detail::quote(c.bytes.substr(c.bytes.size() < 60 ? 0 : c.bytes.size() - 60)) << " → " << verdict);
  }
}

TEST_CASE("what is odd and in order is understood, and what is malformed in a response refused") {
  for (const Message& c : wellFormedRequests()) CHECK(request(c.bytes) == c.understood);
  for (const Message& c : responses()) {
    const std::string verdict = response(c.bytes);
    const bool isRefused = c.understood.ends_with(' ');
    const std::string last = verdict.substr(verdict.rfind(']') == std::string::npos ? 0 : verdict.rfind(']') + 1);
    CHECK_MESSAGE((isRefused ? last.starts_with(c.understood) : verdict == c.understood), troth::detail::quote(c.bytes) << " → " << verdict);
  }
}

TEST_CASE("what is over a limit is refused with its status") {
  HeadLimits limits;
  limits.headBytes = 100;
  limits.targetBytes = 10;
  limits.fields = 3;
  CHECK(contains(request("GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n", limits), "[Host|a]"));
  CHECK(contains(request("GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n", limits), "414 "));
  CHECK(contains(request("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n", limits), "[C|d]"));
  CHECK(contains(request("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", limits), "431 "));
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
  CHECK(contains(request(head + std::string(100 - 4 - head.size(), 'x') + "\r\n\r\n", limits), "x]{}"));
  CHECK(contains(request(head + std::string(100 - 3 - head.size(), 'x') + "\r\n\r\n", limits), "431 "));
  CHECK(contains(whole(MessageParser::Kind::REQUEST, std::string(200, 'x').replace(0, 200, 100, '\r'), limits), "400 "));
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += "\r\n";
  CHECK(contains(request(lines, limits), "400 "));
  const std::string body = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(contains(request(body + "0\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\n\r\n", limits), "431 "));
  CHECK(contains(request(body + "0\r\nA: " + std::string(100, 'x') + "\r\n\r\n", limits), "431 "));
}

TEST_CASE("extensions of chunks are bounded in sum, and what frames many small chunks is not counted") {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string small = head, wordy = head;
  for (int i = 0; i < 10'000; ++i) small += "1\r\nx\r\n";
  for (int i = 0; i < 1'000; ++i) wordy += "1;extension=of-forty-bytes-or-a-few-more\r\nx\r\n";
  CHECK(contains(whole(MessageParser::Kind::REQUEST, small + "0\r\n\r\n"), "x}+"));
  CHECK(contains(whole(MessageParser::Kind::REQUEST, wordy + "0\r\n\r\n"), "413 "));
  CHECK(contains(whole(MessageParser::Kind::REQUEST, head + "1;" + std::string(20'000, 'x')), "413 "));
  CHECK(contains(whole(MessageParser::Kind::REQUEST, head + std::string(20'000, '0')), "413 "));
}

TEST_CASE("trailers are kept, but for those that would frame or route a message") {
  CHECK(contains(request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
                         "Host: b\r\nConnection: close\r\nDigest: d\r\n\r\nrest!"),
                 "{x}[Digest|d]+rest!"));
  for (std::string_view trailer : {"Content-Length: 5", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"}) {
    const std::string verdict = request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" +
                                        std::string(trailer) + "\r\n\r\nrest!");
    CHECK_MESSAGE((contains(verdict, "400 ") || contains(verdict, "{x}+rest!")), verdict);
  }
}

TEST_CASE("responses are taken apart") {
  CHECK(response("HTTP/1.1 204 No Content\r\nA: b\r\n\r\n") == "204(No Content)1.1k[A|b]{}+");
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX") == "200(OK)1.1k[Content-Length|2]{ab}+X");
  CHECK(response("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab") == "200(OK)1.0c[Content-Length|2]{ab}+");
  CHECK(response("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n") == "200()1.1k[Content-Length|0]{}+");
  CHECK(response("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n") == "200()1.1k[Content-Length|0]{}+");
  CHECK(response("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n") == "304(Not Modified)1.1k[Content-Length|9]{}+");
  CHECK(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n") ==
        "200(OK)1.1k[Transfer-Encoding|chunked]{x}[A|b]+");
}

TEST_CASE("a reason that holds a control character is refused") {
  for (const std::string& reason : {"O\0K"s, "\x01"s, "OK\x7f"s, "\x1b[2J"s})
    CHECK(response("HTTP/1.1 200 " + reason + "\r\n\r\n").starts_with("400 "));
  CHECK(response("HTTP/1.1 204 a\tb \xff\r\n\r\n") == "204(a\tb \xff)1.1k{}+");
}

TEST_CASE("fields that were met before are those of the new head, not of the old one") {
  HeadLimits limits;
  limits.headBytes = 100;
  MessageParser parser(MessageParser::Kind::REQUEST, limits);
  const auto next = [&](const std::string& head) {
    parser.reset();
    auto text = std::make_unique<std::string>(head); // so that a view into an earlier one would be noticed
    if (parser.parseHead(*text) != Outcome::COMPLETE) return "refused " + std::to_string(parser.fault().status);
    std::string all = std::string(parser.target()) + (parser.keepsAlive() ? "k" : "c");
    for (const HeaderField field : parser.fields()) all += "|" + std::string(field.name) + "=" + std::string(field.value);
    return all + (parser.headLength() == head.size() ? "" : "+") + (parser.framing() == Framing::NONE ? "" : "…");
  };
  const std::string fields = "Host: a\r\nX: 1\r\n\r\n";
  CHECK(next("GET /1 HTTP/1.1\r\n" + fields) == "/1k|Host=a|X=1");
  CHECK(next("PUT /another HTTP/1.1\r\n" + fields) == "/anotherk|Host=a|X=1");
  CHECK(next("BREW /pot HTTP/1.1\r\n" + fields + "GET") == "/potk|Host=a|X=1+");
  CHECK(next("GET /1 HTTP/1.1\r\nHost: b\r\nX: 1\r\n\r\n") == "/1k|Host=b|X=1");
  CHECK(next("GET /1 HTTP/1.0\r\nHost: b\r\nX: 1\r\n\r\n") == "/1c|Host=b|X=1");
  CHECK(next("GET /1 HTTP/1.1\r\nHost: b\r\nX: 1\r\n\r\n") == "/1k|Host=b|X=1");
  CHECK(next("POST /1 HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n") == "/1k|Host=b|Content-Length=1…");
  CHECK(next("POST /1 HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n") == "/1k|Host=b|Content-Length=1…");
  CHECK(next("GET /2 HTTP/1.1\r\nHost: b\r\nX: 1\r\n\r\n") == "/2k|Host=b|X=1");
  CHECK(next("GET /2 HTTP/1.1\r\nHost: b\r\nX: 1\r\nY: 2\r\n\r\n") == "/2k|Host=b|X=1|Y=2");
  CHECK(next("GET /2 HTTP/1.1\r\n\r\n") == "refused 400");
  CHECK(next("GET /1 HTTP/1.1\r\n" + fields) == "/1k|Host=a|X=1");
  CHECK(next("GET /" + std::string(100 - 33, 'x') + " HTTP/1.1\r\n" + fields) == "/" + std::string(67, 'x') + "k|Host=a|X=1");
  CHECK(next("GET /1 HTTP/1.1\r\n" + fields) == "/1k|Host=a|X=1");
  CHECK(next("GET /" + std::string(100 - 32, 'x') + " HTTP/1.1\r\n" + fields) == "refused 431");
}

// Requests as they might come, and might not: parts that are in order and parts that are not, and bytes that differ.
class RandomRequests {
public:
  std::size_t below(std::size_t n) { return random_() % n; }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }
  // Each as often as it is there.
  std::string line() {
    static const std::vector<std::string> methods = {"GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "CONNECT", "BREW", "PRI", "get"};
    static const std::vector<std::string> targets = {"/", "/", "/", "/a/b?c=d&e=%20", "*", "a:80", "http://a/b", "/\x80", "/a#b", "/a\tb", "/\"<>[]^`{|}",
                                                     "", "?x", "/a-target-that-is-longer-than-others-are"};
    static const std::vector<std::string> versions = {"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"};
    if (below(2) == 0) return below(4) == 0 ? "GET / HTTP/1.0\r\n" : "GET / HTTP/1.1\r\n";
    return (below(20) == 0 ? "\r\n" : "") + pick(methods) + " " + pick(targets) + " " + pick(versions) + "\r\n";
  }
  std::string fields() {
    static const std::vector<std::string> lines = {"host:a", "Accept: */*", "User-Agent: a browser (x; y) 1.0", "Cookie: a=b; c=d", "X:", "X: \xff\t",
        "Connection: close", "Connection: keep-alive", "Connection: Upgrade, close", "Upgrade: websocket", "Expect: 100-continue", "Content-Length: 0",
        "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", " folded", "X : a", "Host: b"};
    std::string text = below(8) == 0 ? "" : "Host: a\r\n";
    for (std::size_t n = below(4); n > 0; --n) text += pick(lines) + "\r\n";
    return text + "\r\n";
  }
  std::string changed(std::string text) {
    constexpr std::string_view bytes("\r\n\t :,;#/ \0\x7f\x80GaA05%", 20);
    for (std::size_t n = below(4) / 2; n > 0 && !text.empty(); --n) {
      const std::size_t at = below(text.size());
      if (below(2) == 0)
        text.insert(at, 1, bytes[below(bytes.size())]);
      else
        text.erase(at, 1 + below(3));
    }
    return text;
  }
  std::vector<std::size_t> splits(std::size_t size) {
    std::vector<std::size_t> all;
    for (std::size_t n = below(4); n > 0; --n) all.push_back(below(size + 1));
    std::sort(all.begin(), all.end());
    all.push_back(size);
    return all;
  }

private:
  std::mt19937 random_{1};
};

// All that `parser` says of the message that `text` begins with.
std::string saysOf(MessageParser& parser, std::string_view text, const std::vector<std::size_t>& splits) {
  std::unique_ptr<std::string> all; // anew each time, so that views into an old one would be noticed
  Outcome outcome = Outcome::NEEDS_MORE;
  for (std::size_t i = 0; i < splits.size() && outcome == Outcome::NEEDS_MORE; ++i) {
    auto more = std::make_unique<std::string>(text.substr(0, splits[i]));
    all = std::move(more);
    outcome = parser.parseHead(*all);
  }
  if (outcome == Outcome::NEEDS_MORE) return "more";
  if (outcome == Outcome::FAULT) return std::to_string(parser.fault().status) + parser.fault().reason;
  std::string says = std::string(parser.methodText()) + " " + std::string(parser.target()) + (parser.keepsAlive() ? " k" : " c");
  for (const std::uint64_t number : {std::uint64_t(parser.method()), std::uint64_t(parser.minorVersion()), std::uint64_t(parser.framing()),
                                     parser.contentLength(), std::uint64_t(parser.headLength())})
    says += " " + std::to_string(number);
  for (const HeaderField field : parser.fields())
    says += "[" + std::string(field.name) + "|" + std::string(field.value) + "|" + std::to_string(static_cast<int>(field.id));
  for (std::size_t id = 0; id < HEADER_IDS; ++id) says += parser.fields().has(static_cast<HeaderId>(id)) ? '1' : '0';
  if (parser.framing() == Framing::CHUNKED) says += parser.decodeChunked(std::string_view(*all).substr(parser.headLength())).data;
  return says;
}

TEST_CASE("what a parser has met before changes nothing in what it says of the next request") {
  RandomRequests random;
  const std::vector<MalformedRequest> malformed = malformedRequests();
  std::size_t complete = 0, differences = 0;
  for (int i = 0; i < 15'000 && differences < 5; ++i) {
    HeadLimits limits;
    if (random.below(4) == 0)
      limits = {static_cast<std::uint32_t>(50 + random.below(100)), static_cast<std::uint32_t>(1 + random.below(40)),
                static_cast<std::uint32_t>(1 + random.below(5))};
    const std::string fields = random.fields(), content = random.below(3) == 0 ? "5\r\nhello\r\n0\r\n\r\nGET" : "";
    const std::string text =
        (random.below(8) == 0 ? random.pick(malformed).bytes.substr(0, 500) : random.changed(random.line() + fields)) + content;
    const std::string rest = text.substr(std::min(text.size(), text.find("\n") + 1));
    MessageParser fresh(MessageParser::Kind::REQUEST, limits), used(MessageParser::Kind::REQUEST, limits);
    std::string before;
    for (std::size_t n = 1 + random.below(3); n > 0; --n) {
      const std::string met = random.changed(random.line() + (random.below(3) == 0 ? random.fields() : random.below(2) == 0 ? fields : rest));
      saysOf(used, met, {met.size()});
      used.reset();
      before += met;
    }
    const std::vector<std::size_t> splits = random.splits(text.size());
    const std::string expected = saysOf(fresh, text, splits), got = saysOf(used, text, splits);
    if (expected.front() < '1' || expected.front() > '9') ++complete;
    if (got != expected) ++differences;
    CHECK_MESSAGE(got == expected, troth::detail::quote(text) << " after " << troth::detail::quote(before));
  }
  CHECK(complete > 3000); // or this shows little
}

TEST_CASE("a parser is used for one message after the other") {
  MessageParser parser(MessageParser::Kind::REQUEST, {});
  std::string first = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n";
  REQUIRE(parser.parseHead(first) == Outcome::COMPLETE);
  std::string_view rest = std::string_view(first).substr(parser.headLength());
  for (;;) {
    const auto piece = parser.decodeChunked(rest);
    rest.remove_prefix(piece.consumed);
    if (piece.outcome == Outcome::COMPLETE) break;
    REQUIRE(piece.outcome == Outcome::NEEDS_MORE);
  }
  CHECK(rest.empty());
  CHECK(parser.trailers().get("A") == "b");
  parser.reset();
  REQUIRE(parser.parseHead("GET /2 HTTP/1.1\r\nHost: b\r\n\r\n") == Outcome::COMPLETE);
  CHECK(parser.target() == "/2");
  CHECK(parser.framing() == Framing::NONE);
  CHECK(parser.fields().size() == 1);
  CHECK(parser.trailers().empty());
}

} // namespace
