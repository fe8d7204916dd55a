// SPDX-License-Identifier: MIT
// Names to numbers, and the fields of a head.
#include <fixtures.h>

#include <troth/net/http/header_map.h>
#include <troth/net/http/text_detail.h>

#include <algorithm>
#include <memory>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

TEST_CASE("each common field is found by its name in any case, and others are not") {
  for (std::size_t i = 0; i < HEADER_IDS; ++i) {
    const auto id = static_cast<HeaderId>(i);
    std::string name(headerName(id));
    REQUIRE(!name.empty());
    CHECK(findHeader(name) == id);
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    CHECK(findHeader(name) == id);
    name.back() = '!';
    CHECK(findHeader(name) == HeaderId::OTHER);
    name.pop_back();
    CHECK(findHeader(name) == HeaderId::OTHER);
  }
  CHECK(findHeader("") == HeaderId::OTHER);
  CHECK(findHeader("Content\rType") == HeaderId::OTHER); // CR and '-' differ in the bit that letters of two cases do
  CHECK(findHeader(std::string(100'000, 'x')) == HeaderId::OTHER);
  CHECK(headerName(HeaderId::OTHER).empty());
}

TEST_CASE("texts of any length are looked at to the last byte, and no further") {
  for (std::size_t size = 0; size < 35; size += size < 18 ? 1 : 4) {
    for (std::size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        const auto byte = static_cast<char>(c);
        const auto text = std::make_unique<char[]>(size), other = std::make_unique<char[]>(size); // exactly as long
        std::fill_n(text.get(), size, '\t');
        text[at] = byte;
        const std::string_view view(text.get(), size);
        CHECK(http::detail::isFieldValue(view) == http::detail::isValueCharacter(byte));
        CHECK(http::detail::endOfFieldValue(view.data(), view.data() + size) == view.data() + (http::detail::isValueCharacter(byte) ? size : at));
        std::copy_n(text.get(), size, other.get());
        CHECK(http::detail::equalsIgnoringCase(view, {other.get(), size}));
        other[at] = static_cast<char>(c ^ 0x20);
        CHECK(http::detail::equalsIgnoringCase(view, {other.get(), size}) == (http::detail::toLower(byte) == http::detail::toLower(other[at])));
        CHECK(!http::detail::equalsIgnoringCase(view, view.substr(1)));
        // The first of several is found, whatever stands behind it.
        const char* const end = view.data() + size;
        const auto isDel = [](http::detail::Word word) { return http::detail::marksOf(word, '\x7f') | http::detail::marksFrom0x7f(word); };
        CHECK(http::detail::scan(view.data(), end, isDel) == (c >= 0x7f ? view.data() + at : end));
        if (size >= 8) CHECK(http::detail::scanValue(view.data(), end) == (http::detail::isValueCharacter(byte) ? end : view.data() + at));
        if (size >= 8) CHECK(http::detail::scanBehind(view.data() + at / 2, end, http::detail::NameEndMarks()) == view.data() + at / 2 + (at / 2 == at && c > ' ' && c != ':'));
      }
    }
  }
}

TEST_CASE("a map keeps its fields in order, in the form in which they are sent") {
  HeaderMap map{{"host", "a"}, {"X-One", " 1\t"}, {"Set-Cookie", "a=1"}, {"set-cookie", "b=2"}, {"X-Empty", ""}};
  CHECK(map.text() == "host: a\r\nX-One: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty: \r\n");
  CHECK(map.size() == 5);
  CHECK(map.get(HeaderId::HOST) == "a");
  CHECK(map.get("x-one") == "1");
  CHECK(map.get("X-EMPTY") == "");
  CHECK(map.get("x-two") == std::nullopt);
  CHECK(map.get(HeaderId::OTHER) == std::nullopt);
  CHECK(map.fields().count(HeaderId::SET_COOKIE) == 2);
  CHECK(map.fields()[1].name == "X-One");
  CHECK(map.fields()[1].id == HeaderId::OTHER);
}

TEST_CASE("set replaces all fields of a name, remove takes them away, and nothing else moves") {
  HeaderMap map{{"A", "1"}, {"Vary", "x"}, {"B", "2"}, {"vary", "y"}, {"C", "3"}};
  map.set(HeaderId::VARY, "z");
  CHECK(map.text() == "A: 1\r\nB: 2\r\nC: 3\r\nVary: z\r\n");
  map.set("b", "22");
  CHECK(map.text() == "A: 1\r\nC: 3\r\nVary: z\r\nb: 22\r\n");
  CHECK(map.remove(HeaderId::VARY) == 1);
  CHECK(!map.has(HeaderId::VARY));
  CHECK(map.remove("B") == 1);
  CHECK(map.remove("B") == 0);
  CHECK(map.get("C") == "3");
  CHECK(map.text() == "A: 1\r\nC: 3\r\n");
  map.clear();
  CHECK(map.empty());
  CHECK(map.text().empty());
}

TEST_CASE("a field may be made from the map's own text") {
  HeaderMap map;
  map.add("X-First", "some value that is long enough to matter");
  for (int i = 0; i < 100; ++i) map.add(map.fields()[0].name, map.fields()[0].value);
  CHECK(map.size() == 101);
  CHECK(map.fields()[100].value == "some value that is long enough to matter");
  map.set("x-first", *map.get("X-First"));
  CHECK(map.text() == "x-first: some value that is long enough to matter\r\n");
  map.addAll(map.fields());
  CHECK(map.size() == 2);
  map.add("Other", "1");
  CHECK(map.remove(map.fields()[0].name) == 2);
  CHECK(map.text() == "Other: 1\r\n");
}

TEST_CASE("a map that was moved from is empty") {
  HeaderMap map{{"Date", "now"}};
  const HeaderMap other(std::move(map));
  CHECK(!map.has(HeaderId::DATE)); // NOLINT: that is the question
  CHECK(map.text().empty());
  CHECK(other.get(HeaderId::DATE) == "now");
  map.set(HeaderId::VARY, "x");
  HeaderMap third;
  third = std::move(map);
  CHECK(third.text() == "Vary: x\r\n");
  CHECK(!map.has(HeaderId::VARY)); // NOLINT
}

TEST_CASE("names and values that would break a head are refused and named, and the map is as it was") {
  HeaderMap map{{"A", "1"}};
  for (std::string_view name : {std::string_view(""), std::string_view("a b"), std::string_view("a:"),
                                std::string_view("a\r\nb"), std::string_view("a\0b", 3), std::string_view("\xc3\xa4")}) {
    CHECK(contains(thrownBy([&] { map.add(name, "x"); }).description(), "is no name of a header field"));
    CHECK_THROWS(map.set(name, "x"));
  }
  for (std::string_view value : {std::string_view("a\r\nSet-Cookie: b"), std::string_view("a\nb"), std::string_view("a\rb"),
                                 std::string_view("a\0b", 3), std::string_view("\x7f"), std::string_view("\x01"),
                                 std::string_view("a\r\n b")}) {
    const Exception e = thrownBy([&] { map.set("A", value); });
    CHECK(contains(e.description(), "the header field A cannot have the value"));
    CHECK(contains(std::string(e.where().file_name()), "header_map_test.cc"));
    CHECK_THROWS(map.add(HeaderId::LOCATION, value));
  }
  CHECK(map.text() == "A: 1\r\n");
  map.set("A", "tab\there, and \xff bytes");
  CHECK(map.get("a") == "tab\there, and \xff bytes");
}

TEST_CASE("lists go over all fields of a name, and quoted strings are one element") {
  HeaderMap map{{"Connection", "keep-alive, , Upgrade"}, {"connection", "X-\"a"}, {"Accept", "a;q=\"x, close\", b"}};
  CHECK(map.fields().hasToken(HeaderId::CONNECTION, "upgrade"));
  CHECK(map.fields().hasToken(HeaderId::CONNECTION, "Keep-Alive"));
  CHECK(!map.fields().hasToken(HeaderId::CONNECTION, "close"));
  CHECK(!map.fields().hasToken(HeaderId::ACCEPT, "close"));
  CHECK(map.fields().hasToken(HeaderId::ACCEPT, "b"));
  CHECK(map.fields().combined(HeaderId::CONNECTION) == "keep-alive, , Upgrade, X-\"a");
  CHECK(map.fields().combined(HeaderId::HOST).empty());
}

TEST_CASE("numbers are digits alone, up to 2^64 - 1") {
  using http::detail::parseDecimal;
  CHECK(parseDecimal("0") == 0u);
  CHECK(parseDecimal("007") == 7u);
  CHECK(parseDecimal("18446744073709551615") == 18446744073709551615u);
  for (std::string_view bad : {"", "18446744073709551616", "18446744073709551621", "-1", "+1", " 1", "1 ", "0x1", "1a", "1,1"})
    CHECK_MESSAGE(parseDecimal(bad) == std::nullopt, bad);
}

} // namespace
