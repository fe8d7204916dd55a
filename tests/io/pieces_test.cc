// SPDX-License-Identifier: MIT
// Tests of Pieces: nothing is lost or doubled, however a write is cut.
#include <troth/io/pieces_detail.h>

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

using namespace troth;
using detail::Pieces;

namespace {

using Spans = std::vector<std::span<const std::byte>>;

Spans spansOf(const std::vector<std::string_view>& texts) {
  Spans spans;
  for (const std::string_view text : texts) spans.push_back(std::as_bytes(std::span(text)));
  return spans;
}

std::string textOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::string> listed(const Pieces& pieces) {
  std::vector<std::string> texts;
  pieces.forEach([&](std::span<const std::byte> piece) {
    texts.push_back(textOf(piece));
    return true;
  });
  return texts;
}

using Texts = std::vector<std::string>;

} // namespace

TEST_CASE("pieces are kept in their order, without the empty ones") {
  const Pieces pieces(spansOf({"", "ab", "", "c", "def", ""}));
  CHECK(listed(pieces) == Texts{"ab", "c", "def"});
  CHECK(textOf(pieces.front()) == "ab");
  CHECK_FALSE(pieces.empty());
  CHECK_FALSE(pieces.isOne());
}

TEST_CASE("no pieces, and only empty ones, are nothing to write") {
  for (const Pieces& pieces : {Pieces(), Pieces(Spans()), Pieces(spansOf({"", ""}))}) {
    CHECK(pieces.empty());
    CHECK(listed(pieces).empty());
    CHECK(pieces.first(10).empty());
  }
}

TEST_CASE("what was written already is passed over, wherever it ends") {
  const Spans spans = spansOf({"ab", "", "c", "def"});
  for (std::size_t skip = 0; skip <= 6; ++skip) {
    CAPTURE(skip);
    const Pieces skipped(spans, skip);
    Pieces dropped(spans);
    dropped.drop(skip);
    std::string rest;
    for (const std::string& text : listed(skipped)) rest += text;
    CHECK(rest == std::string("abcdef").substr(skip));
    CHECK(listed(dropped) == listed(skipped));
    CHECK(skipped.empty() == (skip == 6));
  }
}

TEST_CASE("a visit ends when it is told to") {
  const Pieces pieces(spansOf({"a", "b", "c"}));
  std::string seen;
  pieces.forEach([&](std::span<const std::byte> piece) {
    seen += textOf(piece);
    return seen.size() < 2;
  });
  CHECK(seen == "ab");
}

TEST_CASE("the first bytes come in their pieces, the last one cut") {
  const Pieces pieces(spansOf({"ab", "c", "def"}));
  Texts texts;
  for (const auto& piece : pieces.first(4)) texts.push_back(textOf(piece));
  CHECK(texts == Texts{"ab", "c", "d"});
  CHECK(pieces.first(0).empty());
  CHECK(pieces.first(100).size() == 3);
}

TEST_CASE("moving takes what there is room for, and no more than there is") {
  Pieces pieces(spansOf({"ab", "c", "def"}));
  std::array<std::byte, 4> some;
  CHECK(pieces.moveTo(some) == 4);
  CHECK(textOf(some) == "abcd");
  CHECK(listed(pieces) == Texts{"ef"});
  CHECK(pieces.isOne());
  CHECK(pieces.moveTo(some) == 2);
  CHECK(textOf(std::span(some).first(2)) == "ef");
  CHECK(pieces.empty());
  CHECK(pieces.moveTo(some) == 0);
}
