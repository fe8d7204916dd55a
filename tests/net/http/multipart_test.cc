// SPDX-License-Identifier: MIT
// Multipart bodies: the grammar, any split of them, limits, and parts as streams.
#include <fixtures.h>

#include <troth/io/limited.h>
#include <troth/io/testing.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/multipart.h>
#include <troth/net/http/multipart_parser_detail.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

using http::detail::MultipartParser;
using Event = MultipartParser::Event;

/// What a parser tells of pieces: "{fields}" "body" "." for each part, "$" at the end; or the status and text of an error.
class Transcript {
public:
  explicit Transcript(std::string_view boundary = "b", const MultipartLimits& limits = {}) : parser_(boundary, limits) {}

  Transcript& feed(std::string_view input) {
    try {
      std::string_view bytes;
      for (;;) {
        const Event event = parser_.next(input, bytes);
        if (event == Event::NEED_INPUT) break;
        if (event == Event::HEADERS) text_.append("{").append(parser_.takeHeaders().text()).append("}");
        if (event == Event::BODY) text_.append(bytes);
        if (event == Event::PART_END) text_ += ".";
        if (event == Event::END) text_ += "$";
      }
    } catch (const HttpError& e) {
      fail(e);
    }
    return *this;
  }
  std::string end() {
    try {
      if (!failed_) parser_.endInput();
    } catch (const HttpError& e) {
      fail(e);
    }
    return failed_ ? error_ : text_;
  }

private:
  MultipartParser parser_;
  std::string text_, error_;
  bool failed_ = false;

  void fail(const HttpError& e) {
    if (!failed_) error_ = std::to_string(e.status()) + " " + std::string(e.description());
    failed_ = true;
  }
};

TEST_CASE("a body is cut into its parts, however it is split") {
  struct Row { std::string_view body, parts; };
  for (const Row& row : {Row{"--b\r\nA: 1\r\nB:2 \r\n\r\nbody\r\n--b--", "{A: 1\r\nB: 2\r\n}body.$"},
                         Row{"--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n", "{}x.{}y.$"},
                         Row{"pre\r\n-\r\n--\r\n--b \t\r\n\r\nx\r\n--b--epilogue\r\n--b\r\n\r\n", "{}x.$"},
                         Row{"--b--", "$"}, Row{"\r\n--b--", "$"}, Row{"--b\r\n\r\n--b--", "{}.$"}, Row{"--b\r\nA: 1\r\n\r\n--b--", "{A: 1\r\n}.$"},
                         Row{"--b\r\n\r\n\r\n--b--", "{}.$"}, Row{"--b\r\n\r\n\r\n\r\n--b--", "{}\r\n.$"},
                         Row{"--b\r\n\r\n\r\r\n\r\n-\r\n--\r\n-\r\n--a--b\n--b\r--b\r\n\r\n--b--", "{}\r\r\n\r\n-\r\n--\r\n-\r\n--a--b\n--b\r--b\r\n.$"},
                         Row{"--b\r\n\r\n-\r\n--b--", "{}-.$"}, Row{"--b\r\n\r\n--\r\n--b--", "{}--.$"}, Row{"--b\r\nA:\r\n\r\n\r\r\n--b--", "{A: \r\n}\r.$"}}) {
    CAPTURE(row.body);
    REQUIRE(Transcript().feed(row.body).end() == row.parts);
    Transcript single;
    for (char c : row.body) single.feed({&c, 1});
    CHECK(single.end() == row.parts);
    for (std::size_t first = 0; first <= row.body.size(); ++first)
      for (std::size_t second = first; second <= row.body.size(); ++second) {
        const std::string shown = Transcript().feed(row.body.substr(0, first)).feed(row.body.substr(first, second - first)).feed(row.body.substr(second)).end();
        if (shown != row.parts) FAIL("split at " << first << " and " << second << ": " << shown);
      }
  }
}

TEST_CASE("what is malformed is refused with 400 and what is wrong, however it is split") {
  struct Row { std::string_view body, error; };
  using namespace std::string_view_literals;
  for (const Row& row : {Row{"", "ends before its last boundary"}, Row{"--b\r\n\r\nx", "ends before"}, Row{"--b\r\n\r\nx\r\n--b", "ends before"},
                         Row{"--b\r\n\r\nx\r\n--b-", "ends before"}, Row{"--b\r\nA: 1", "ends before"}, Row{"--b\r\n\r\nx\r\n--b\r\n", "ends before"},
                         Row{"--a\r\n\r\nx\r\n--a--", "ends before"}, Row{"--bb\r\n\r\nx", "a boundary has \"b\" behind it"},
                         Row{"--b\r\n\r\nx\r\n--bx\r\n\r\n", "a boundary has \"x\" behind it"}, Row{"--b\n\nx\n--b--", "a boundary has \"\\x0a\" behind it"},
                         Row{"--b-\r\n", "a single -"}, Row{"--b\rx", "CR alone"}, Row{"--b\r\nA: 1\n\r\n", "LF alone"}, Row{"--b\r\nA\r\n\r\n", "\"A\" is no field"},
                         Row{"--b\r\nA : 1\r\n\r\n", "is no field"}, Row{"--b\r\n: 1\r\n\r\n", "is no field"}, Row{"--b\r\nA: 1\r\n b\r\n\r\n", "folded"},
                         Row{"--b\r\nA: \x01\r\n\r\n", "has the value \"\\x01\""}, Row{"--b\r\nA: b\rc\r\n\r\n", "has the value"},
                         Row{"--b\r\nA: \0\r\n\r\n"sv, "\\x00"}}) {
    CAPTURE(row.body);
    const std::string whole = Transcript().feed(row.body).end();
    CHECK_MESSAGE(whole.starts_with("400 multipart: "), whole);
    CHECK_MESSAGE(contains(whole, row.error), whole);
    Transcript single;
    for (char c : row.body) single.feed({&c, 1});
    CHECK(single.end() == whole);
  }
}

TEST_CASE("bodies beyond the limits are refused, and at the limits they are not") {
  const std::string_view body = "--b\r\nA: 1\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--";
  CHECK(Transcript("b", {.maxParts = 2, .maxHeaderBytes = 8, .maxBytes = body.size()}).feed(body).end() == "{A: 1\r\n}x.{}y.$");
  CHECK(Transcript("b", {.maxParts = 1}).feed(body).end().starts_with("413 multipart: the body has more than 1 parts"));
  CHECK(Transcript("b", {.maxHeaderBytes = 7}).feed(body).end().starts_with("431 multipart: the head of a part has more than 7 bytes"));
  CHECK(Transcript("b", {.maxBytes = body.size() - 1}).feed(body).end().starts_with("413 multipart: the body has more than"));
  CHECK(Transcript("b", {.maxBytes = 100}).feed(body).feed(std::string(100, ' ')).end().starts_with("413"));
  CHECK(Transcript("b", {.maxHeaderBytes = 100}).feed("--b\r\n").feed(std::string(101, 'a')).end().starts_with("431"));
  CHECK(Transcript("b").feed(std::string(100'000, '\r')).feed("\r\n--b--").end() == "$");
}

std::string_view FORM = "--x\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nHello\r\n"
                        "--x\r\ncontent-disposition: FORM-DATA; filename=\"C:\\dir\\a \\\"b\\\".txt\"; name=file; name=other\r\nContent-Type: text/plain\r\n\r\n0123456789\r\n--xy\r\n"
                        "--x\r\n\r\nbare\r\n--x--\r\n";

Promise<std::string> describe(AsyncInputStream& body, std::string boundary) {
  MultipartReader reader(body, boundary);
  std::string text;
  while (std::optional<MultipartPart> part = co_await reader.next()) {
    text += part->name.value_or("-") + "/" + part->fileName.value_or("-") + "/" + std::string(part->headers.get("content-type").value_or("-")) + ":";
    text += co_await part->body->readAllText(1000);
    text += ";";
  }
  CHECK(!(co_await reader.next()));
  co_return text;
}

TEST_CASE_FIXTURE(LoopTest, "the parts of a form have names, files and bodies, however the bytes come") {
  std::string form(FORM); // "--xy" is no line of its own here
  form.replace(form.find("\r\n--xy"), 6, "\n--xy");
  for (std::size_t most : {std::size_t(1), std::size_t(2), std::size_t(7), std::size_t(1000)}) {
    ScriptedStream body;
    body.giveRead(form).giveEnd().shortReads(most);
    CHECK(describe(body, "x").wait(scope) == "title/-/-:Hello;file/C:\\dir\\a \"b\".txt/text/plain:0123456789\n--xy;-/-/-:bare;");
    body.checkFinished();
  }
  ScriptedStream body;
  body.giveRead(FORM).giveEnd();
  CHECK_THROWS_WITH_AS(describe(body, "x").wait(scope), doctest::Contains("has \"y\" behind it"), HttpError);
}

TEST_CASE_FIXTURE(LoopTest, "what is not read of a part is skipped, and its stream is over with it") {
  ScriptedStream body;
  body.giveRead("--x\r\n\r\n0123456789\r\n--x\r\n\r\nabcdefghij\r\n--x\r\n\r\nlast\r\n--x--").giveEnd().shortReads(4);
  MultipartReader reader(body, "x");
  MultipartPart first = reader.next().wait(scope).value();
  std::string buffer(3, '.');
  CHECK(first.body->tryRead(std::as_writable_bytes(std::span(buffer)), 2).wait(scope) >= 2);
  CHECK(buffer.starts_with("01"));
  (void)reader.next().wait(scope); // dropped: its body is skipped too
  CHECK(contains(thrownBy([&] { (void)first.body->tryReadChunk(); }).description(), "the part is over"));
  MultipartPart last = reader.next().wait(scope).value();
  CHECK(last.body->readAllText(10).wait(scope) == "last");
  CHECK(last.body->tryReadChunk().wait(scope).empty());
  CHECK(!reader.next().wait(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a read that is dropped, pending or ready, loses no byte, and a next() no part") {
  ScriptedStream body;
  body.giveRead("--x\r\n\r\n01234").delayTurns(3).giveRead("56789\r\n--x--").giveEnd();
  MultipartReader reader(body, "x");
  { Promise<std::optional<MultipartPart>> dropped = reader.next(); CHECK(dropped.poll(scope)); }
  MultipartPart part = reader.next().wait(scope).value();
  std::string buffer(10, '.');
  const auto bytes = std::as_writable_bytes(std::span(buffer));
  { Promise<std::size_t> dropped = part.body->tryRead(bytes, 10); }
  { Promise<std::size_t> dropped = part.body->tryRead(bytes, 10); CHECK(dropped.poll(scope)); }
  CHECK(buffer == "..........");
  CHECK(contains(thrownBy([&] { Promise<Chunk> one = part.body->tryReadChunk(); (void)reader.next(); }).description(), "another read"));
  CHECK(part.body->tryRead(bytes.first(4), 4).wait(scope) == 4);
  CHECK(part.body->tryRead(bytes.subspan(4), 6).wait(scope) == 6);
  CHECK(buffer == "0123456789");
  CHECK(part.body->tryRead(bytes, 10).wait(scope) == 0);
}

TEST_CASE_FIXTURE(LoopTest, "destroying a part or the reader rejects what is pending") {
  ScriptedStream body;
  body.giveRead("--x\r\n\r\n0");
  auto reader = std::make_unique<MultipartReader>(body, "x");
  std::optional<MultipartPart> part = reader->next().wait(scope);
  CHECK(part->body->tryReadChunk().wait(scope).text() == "0");
  Promise<Chunk> read = part->body->tryReadChunk();
  CHECK(!read.poll(scope));
  part.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  Promise<std::optional<MultipartPart>> next = reader->next();
  CHECK(!next.poll(scope));
  reader.reset();
  CHECK((failureOf(std::move(next), scope).kind() == Exception::Kind::DISCONNECTED));
  body.giveRead("\r\n--y\r\n\r\nz");
  MultipartReader other(body, "y");
  part = other.next().wait(scope);
  CHECK(part->body->tryReadChunk().wait(scope).text() == "z");
}

TEST_CASE_FIXTURE(LoopTest, "a body outlives its reader only to say so") {
  ScriptedStream body;
  body.giveRead("--x\r\n\r\n0");
  auto reader = std::make_unique<MultipartReader>(body, "x");
  MultipartPart part = reader->next().wait(scope).value();
  reader.reset();
  CHECK(part.body->tryReadChunk().wait(scope).text() == "0"); // it was there
  CHECK((failureOf(part.body->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "errors of a body stay, and those of its stream come through") {
  ScriptedStream body;
  body.giveRead("--x\r\n\r\n01\r\n--xx").giveEnd();
  MultipartReader reader(body, "x");
  MultipartPart part = reader.next().wait(scope).value();
  CHECK(part.body->tryReadChunk().wait(scope).text() == "01");
  for (int i = 0; i < 2; ++i) CHECK_THROWS_AS(part.body->tryReadChunk().wait(scope), HttpError);
  for (int i = 0; i < 2; ++i) CHECK_THROWS_AS(reader.next().wait(scope), HttpError);
  ScriptedStream broken;
  broken.giveRead("--x\r\n\r\n01\r\n--x--").failReadAt(9);
  MultipartReader other(broken, "x");
  part = other.next().wait(scope).value();
  CHECK((failureOf(part.body->readAllText(100), scope).kind() == Exception::Kind::DISCONNECTED));
  ScriptedStream odd;
  odd.giveRead("--x\r\nContent-Disposition: form-data; name=\"a\r\n\r\n").giveEnd();
  CHECK_THROWS_WITH_AS(describe(odd, "x").wait(scope), doctest::Contains("has the Content-Disposition"), HttpError);
}

TEST_CASE("boundaries are checked where they are given") {
  CHECK(multipartBoundary("multipart/form-data; boundary=abc") == "abc");
  CHECK(multipartBoundary("Multipart/Mixed; charset=x; BOUNDARY=\"a b\"") == "a b");
  const auto statusOf = [](std::string_view type) {
    try {
      (void)multipartBoundary(type);
    } catch (const HttpError& e) {
      return e.status();
    }
    return 0;
  };
  CHECK(statusOf("text/plain; boundary=a") == 415);
  for (std::string_view bad : {"", "multipart", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
                               "multipart/form-data; boundary=\"a \"", "multipart/form-data; boundary=\"a@\"", "multipart/x; boundary=a*"})
    CHECK_MESSAGE(statusOf(bad) == 400, bad);
  CHECK(statusOf("multipart/x; boundary=" + std::string(70, 'a')) == 0);
  CHECK(statusOf("multipart/x; boundary=" + std::string(71, 'a')) == 400);
  const std::unique_ptr<AsyncIoStream> stream = newNullStream();
  CHECK_THROWS_AS(MultipartReader(*stream, "a\r\nb"), HttpError);
  CHECK_THROWS_AS(MultipartReader(std::unique_ptr<AsyncInputStream>(), "a"), Exception);
}

Promise<void> readForm(std::unique_ptr<ScriptedStream> body) {
  body->shortReads(9);
  const std::string text = co_await describe(*body, "x");
  CHECK(text.ends_with("bare;"));
}

TEST_CASE("sweep: reading a form can be cancelled anywhere") {
  std::string form(FORM);
  form.replace(form.find("\r\n--xy"), 6, "\n--xy");
  CHECK(cancelSweep(std::function<Promise<void>(LoopTest&)>([&](LoopTest&) {
          auto body = std::make_unique<ScriptedStream>();
          body->giveRead(form).giveEnd();
          return readForm(std::move(body));
        })) > 20);
}

} // namespace
