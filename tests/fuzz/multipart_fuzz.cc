// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): the first byte says how the rest, a multipart body with the boundary "b", is cut into
// pieces. Every cut gives the same parts, or the same error.
#include <troth/net/http/http_error.h>
#include <troth/net/http/multipart_parser_detail.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;
using http::detail::MultipartParser;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "multipart_fuzz: %s\n", what);
  std::abort();
}

void feed(MultipartParser& parser, std::string_view piece, std::string& transcript) {
  using Event = MultipartParser::Event;
  std::string_view bytes;
  for (;;) {
    switch (parser.next(piece, bytes)) {
    case Event::NEED_INPUT:
      require(piece.empty(), "input is left");
      return;
    case Event::HEADERS:
      transcript.append("{").append(parser.takeHeaders().text()).append("}");
      break;
    case Event::BODY:
      require(!bytes.empty(), "a piece of a body is empty");
      transcript += bytes;
      break;
    case Event::PART_END:
      transcript += "\n.\n";
      break;
    case Event::END:
      transcript += "\n$\n";
      break;
    }
  }
}

/// What becomes of `body` in pieces of `size` bytes. After an error only that it is one counts, and which: how much of
/// the body was given out before depends on the pieces.
std::string parse(std::string_view body, std::size_t size) {
  MultipartParser parser("b", {.maxParts = 5, .maxHeaderBytes = 60, .maxBytes = 1 << 20});
  std::string transcript;
  try {
    while (!body.empty()) {
      const std::string_view piece = body.substr(0, size);
      feed(parser, piece, transcript);
      body.remove_prefix(piece.size());
    }
    parser.endInput();
  } catch (const HttpError& e) {
    require(e.status() == 400 || e.status() == 413 || e.status() == 431, "the wrong status");
    return std::to_string(e.status());
  }
  return transcript;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = parse(body, std::max<std::size_t>(body.size(), 1));
  require(parse(body, 1) == whole, "byte by byte it is another body");
  require(parse(body, data[0] % 16 + 2) == whole, "in pieces it is another body");
  return 0;
}
