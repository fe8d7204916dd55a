// SPDX-License-Identifier: MIT
// Conditional requests and ranges.
#include <fixtures.h>

#include <troth/net/http/conditional.h>
#include <troth/net/http/range.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono;

namespace {

constexpr sys_seconds MODIFIED = sys_days(1994y / 11 / 6) + 8h + 49min + 37s;
constexpr std::string_view BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT", SAME = "Sun, 06 Nov 1994 08:49:37 GMT", AFTER = "Sun, 06 Nov 1994 08:49:38 GMT";

TEST_CASE("entity tags are compared strongly and weakly, and refused if they would break a field") {
  const EntityTag strong = EntityTag::strong("1"), weak = EntityTag::weak("1"), other = EntityTag::strong("2");
  CHECK(strong.toString() == "\"1\"");
  CHECK(weak.toString() == "W/\"1\"");
  CHECK(strong.strongEquals(EntityTag::strong("1")));
  CHECK(!strong.strongEquals(weak));
  CHECK(!weak.strongEquals(weak));
  CHECK(weak.weakEquals(strong));
  CHECK(!strong.weakEquals(other));
  CHECK(EntityTag::tryParse("W/\"a\\,\xff\"")->opaque() == "a\\,\xff");
  CHECK(EntityTag::tryParse("\"\"")->toString() == "\"\"");
  for (std::string_view bad : {"", "a", "\"", "\"a", "w/\"a\"", "W/a", "\"a b\"", "\"a\"b\"", "\"a\" ", "'a'", "*"}) CHECK_MESSAGE(!EntityTag::tryParse(bad), bad);
  for (std::string_view bad : {"a\"", "a b", "a\r\nb", "\x7f"}) {
    CHECK_THROWS_AS(EntityTag::strong(bad), Exception);
    CHECK(contains(thrownBy([&] { EntityTag::weak(bad); }).where().file_name(), "range_test.cc"));
  }
}

TEST_CASE("conditions are evaluated in the RFC's order, each by its own comparison") {
  using enum Preconditions;
  using Fields = std::vector<std::pair<std::string_view, std::string_view>>;
  struct Row { Method method; Fields fields; Preconditions result; };
  const Validators strong{.etag = EntityTag::strong("a"), .lastModified = MODIFIED};
  for (const Row& row : {Row{Method::GET, {}, HOLD},
                         Row{Method::PUT, {{"If-Match", "\"a\""}}, HOLD}, Row{Method::PUT, {{"If-Match", "\"b\", \"a\""}}, HOLD},
                         Row{Method::PUT, {{"If-Match", "\"b\""}, {"if-match", "\"a\""}}, HOLD},
                         Row{Method::PUT, {{"If-Match", "*"}}, HOLD}, Row{Method::PUT, {{"If-Match", "\"b\""}}, FAILED},
                         Row{Method::PUT, {{"If-Match", "W/\"a\""}}, FAILED}, Row{Method::PUT, {{"If-Match", ""}}, FAILED},
                         Row{Method::GET, {{"If-Match", "a, \"x, \"a\""}}, HOLD}, Row{Method::GET, {{"If-Match", "\"a,b\""}}, FAILED},
                         Row{Method::PUT, {{"If-Unmodified-Since", BEFORE}}, FAILED}, Row{Method::PUT, {{"If-Unmodified-Since", SAME}}, HOLD},
                         Row{Method::PUT, {{"If-Unmodified-Since", AFTER}}, HOLD}, Row{Method::PUT, {{"If-Unmodified-Since", "x"}}, HOLD},
                         Row{Method::PUT, {{"If-Match", "\"a\""}, {"If-Unmodified-Since", BEFORE}}, HOLD},
                         Row{Method::GET, {{"If-None-Match", "\"a\""}}, NOT_MODIFIED}, Row{Method::HEAD, {{"If-None-Match", "\"b\",W/\"a\""}}, NOT_MODIFIED},
                         Row{Method::PUT, {{"If-None-Match", "\"a\""}}, FAILED}, Row{Method::PUT, {{"If-None-Match", "*"}}, FAILED},
                         Row{Method::GET, {{"If-None-Match", "*"}}, NOT_MODIFIED}, Row{Method::GET, {{"If-None-Match", "\"b\""}}, HOLD},
                         Row{Method::GET, {{"If-None-Match", "\"b\""}, {"If-Modified-Since", AFTER}}, HOLD},
                         Row{Method::GET, {{"If-Modified-Since", BEFORE}}, HOLD}, Row{Method::GET, {{"If-Modified-Since", SAME}}, NOT_MODIFIED},
                         Row{Method::HEAD, {{"If-Modified-Since", AFTER}}, NOT_MODIFIED}, Row{Method::POST, {{"If-Modified-Since", AFTER}}, HOLD},
                         Row{Method::GET, {{"If-Modified-Since", "yesterday"}}, HOLD},
                         Row{Method::GET, {{"If-Match", "\"a\""}, {"If-None-Match", "\"a\""}}, NOT_MODIFIED},
                         Row{Method::GET, {{"If-Match", "\"b\""}, {"If-None-Match", "\"a\""}}, FAILED}}) {
    HeaderMap request;
    for (const auto& [name, value] : row.fields) request.add(name, value);
    CAPTURE(request.text());
    CHECK((evaluatePreconditions(row.method, request, strong) == row.result));
  }
  const HeaderMap any{{"If-Match", "*"}}, none{{"If-None-Match", "*"}}, tag{{"If-None-Match", "\"a\""}}, since{{"If-Modified-Since", AFTER}};
  const Validators missing{.exists = false}, bare, weak{.etag = EntityTag::weak("a")};
  CHECK((evaluatePreconditions(Method::PUT, any, missing) == FAILED));
  CHECK((evaluatePreconditions(Method::PUT, none, missing) == HOLD));
  CHECK((evaluatePreconditions(Method::PUT, any, bare) == HOLD));
  CHECK((evaluatePreconditions(Method::GET, tag, bare) == HOLD));
  CHECK((evaluatePreconditions(Method::GET, since, bare) == HOLD));
  CHECK((evaluatePreconditions(Method::GET, tag, weak) == NOT_MODIFIED));
  const HeaderMap match{{"If-Match", "\"a\""}};
  CHECK((evaluatePreconditions(Method::PUT, match, weak) == FAILED));
}

TEST_CASE("a range counts for GET alone, and only if If-Range is about this very version") {
  const Validators strong{.etag = EntityTag::strong("a"), .lastModified = MODIFIED}, weak{.etag = EntityTag::weak("a")};
  HeaderMap request{{"Range", "bytes=0-1"}};
  CHECK(applicableRange(Method::GET, request, strong) == "bytes=0-1");
  CHECK(applicableRange(Method::HEAD, request, strong) == std::nullopt);
  struct Row { std::string_view condition; bool holds; };
  for (const Row& row : {Row{"\"a\"", true}, {"\"b\"", false}, {"W/\"a\"", false}, {SAME, true}, {AFTER, false}, {BEFORE, false}, {"x", false}, {"*", false}}) {
    request.set("If-Range", row.condition);
    CHECK(applicableRange(Method::GET, request, strong).has_value() == row.holds);
  }
  request.set("If-Range", "\"a\"");
  CHECK(!applicableRange(Method::GET, request, weak));
  request.remove("If-Range");
  request.add("Range", "bytes=5-6");
  CHECK(!applicableRange(Method::GET, request, strong));
  CHECK(!applicableRange(Method::GET, HeaderMap(), strong));
}

std::string shown(const ByteRanges& ranges) {
  if (ranges.kind == ByteRanges::Kind::WHOLE) return "whole";
  if (ranges.kind == ByteRanges::Kind::UNSATISFIABLE) return "416";
  std::string text;
  for (const ByteRange& range : ranges.ranges) text += contentRange(range, 100).substr(6) + " ";
  return text;
}

TEST_CASE("ranges are those within the resource, or the whole, or none") {
  struct Row { std::string_view value, result; };
  for (const Row& row : {Row{"bytes=0-0", "0-0/100 "}, {"BYTES=0-9,20-29", "0-9/100 20-29/100 "}, {"bytes=90-", "90-99/100 "},
                         {"bytes=-5", "95-99/100 "}, {"bytes=-500", "0-99/100 "}, {"bytes=50-999", "50-99/100 "},
                         {"bytes= , 1-2 ,, 4-5,", "1-2/100 4-5/100 "}, {"bytes=20-29,0-9", "20-29/100 0-9/100 "}, {"bytes=0-0,-1", "0-0/100 99-99/100 "},
                         {"bytes=99-18446744073709551616", "99-99/100 "}, {"bytes=-99999999999999999999999", "0-99/100 "},
                         {"bytes=100-", "416"}, {"bytes=-0", "416"}, {"bytes=100-200,300-", "416"}, {"bytes=99999999999999999999999-", "416"},
                         {"bytes=100-,5-6", "5-6/100 "}, {"bytes=0-9,9-10", "whole"}, {"bytes=0-,-1", "whole"}, {"bytes=5-6,5-6", "whole"},
                         {"bytes=9-5", "whole"}, {"bytes=", "whole"}, {"bytes=,", "whole"}, {"bytes", "whole"}, {"", "whole"}, {"bytes=-", "whole"},
                         {"bytes=a-b", "whole"}, {"bytes=1", "whole"}, {"bytes=1--2", "whole"}, {"bytes=--2", "whole"}, {"bytes=1 - 2", "whole"},
                         {"bytes=+1-2", "whole"}, {"items=0-1", "whole"}, {"bytes 0-1", "whole"}, {"bytes=0-1;2-3", "whole"}})
    CHECK_MESSAGE(shown(ByteRanges::of(row.value, 100)) == row.result, row.value);
  CHECK(shown(ByteRanges::of("bytes=0-", 0)) == "whole");
  CHECK(shown(ByteRanges::of("bytes=-1", 0)) == "whole");
  const ByteRanges large = ByteRanges::of("bytes=-1", UINT64_MAX);
  CHECK(large.ranges.at(0) == ByteRange{UINT64_MAX - 1, UINT64_MAX - 1});
}

TEST_CASE("a thousand ranges give no more than the resource") {
  const auto many = [](int count, int step) {
    std::string value = "bytes=";
    for (int i = 0; i < count; ++i) value += std::to_string(i * step) + "-" + std::to_string(i * step) + ",";
    return value;
  };
  CHECK((ByteRanges::of(many(1000, 2), 10'000).kind == ByteRanges::Kind::WHOLE));
  CHECK((ByteRanges::of(many(1000, 0), 10'000).kind == ByteRanges::Kind::WHOLE));
  CHECK((ByteRanges::of(many(17, 2), 10'000).kind == ByteRanges::Kind::WHOLE));
  CHECK(ByteRanges::of(many(16, 2), 10'000).ranges.size() == 16);
  CHECK(ByteRanges::of(many(3, 2), 10'000, 2).ranges.empty());
  CHECK((ByteRanges::of("bytes=" + std::string(100'000, ','), 10).kind == ByteRanges::Kind::WHOLE));
}

TEST_CASE("Content-Range is written and read, and parts of several ranges have heads") {
  CHECK(contentRange({0, 9}, 100) == "bytes 0-9/100");
  CHECK(contentRangeUnsatisfied(100) == "bytes */100");
  CHECK(ContentRange::tryParse("bytes 0-9/100")->range == ByteRange{0, 9});
  CHECK(ContentRange::tryParse("Bytes 0-9/*")->length == std::nullopt);
  CHECK(ContentRange::tryParse("bytes */100")->length == 100);
  CHECK(!ContentRange::tryParse("bytes */100")->range);
  for (std::string_view bad : {"", "bytes", "bytes ", "bytes 0-9", "bytes */*", "bytes 9-0/100", "bytes 0-100/100", "bytes 0/9-10", "bytes -1/10",
                               "items 0-9/100", "bytes 0-9/x", "bytes 0-18446744073709551615/*", "bytes=0-9/100"})
    CHECK_MESSAGE(!ContentRange::tryParse(bad), bad);
  CHECK(byteRangeHead("b", "a/b", {0, 9}, 100) == "\r\n--b\r\nContent-Type: a/b\r\nContent-Range: bytes 0-9/100\r\n\r\n");
  CHECK(byteRangeHead("b", "", {0, 9}, 100) == "\r\n--b\r\nContent-Range: bytes 0-9/100\r\n\r\n");
  CHECK(byteRangesEnd("b") == "\r\n--b--\r\n");
  CHECK_THROWS_AS(byteRangesEnd("a\r\nb"), Exception);
  CHECK_THROWS_AS(byteRangeHead("b", "a\r\nb", {0, 9}, 100), Exception);
}

} // namespace
