// SPDX-License-Identifier: MIT
// Queries and forms: pairs, limits, encoding; dates.
#include <fixtures.h>

#include <troth/io/testing.h>
#include <troth/net/http/date.h>
#include <troth/net/http/form.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/query.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono;

namespace {

template <typename Call>
int statusOf(Call&& call) {
  try {
    call();
  } catch (const HttpError& e) {
    return e.status();
  }
  return 0;
}

std::string shown(const Query& query) {
  std::string text;
  for (const Query::Pair pair : query) text.append("[").append(pair.name).append("|").append(pair.value).append("]");
  return text;
}

TEST_CASE("a query is cut into decoded pairs in their order") {
  struct Row { std::string_view text, pairs; };
  for (const Row& row : {Row{"", ""}, {"a=1&b=2&a=3", "[a|1][b|2][a|3]"}, {"a", "[a|]"}, {"a=", "[a|]"}, {"=b", "[|b]"},
                         {"=", "[|]"}, {"&&a&&", "[a|]"}, {"a=b=c", "[a|b=c]"}, {"a+b=c+%2B%26%3d", "[a b|c +&=]"},
                         {"a;b=1;c", "[a;b|1;c]"}, {"%41=%c3%a4", "[A|\xc3\xa4]"}, {"a\r\n=<", "[a\r\n|<]"}}) {
    CAPTURE(row.text);
    CHECK(shown(Query::parse(row.text)) == row.pairs);
    CHECK(shown(Query::parse(Query::parse(row.text).toString())) == row.pairs);
  }
  const Query query = Query::parse("a=1&b=2&a=3&n=%00");
  CHECK(query.get("a") == "1");
  CHECK(query.getAll("a") == std::vector<std::string_view>{"1", "3"});
  CHECK(query.get("A") == std::nullopt);
  CHECK(query.valueOr("c", "else") == "else");
  CHECK(query.get("n") == std::string_view("\0", 1));
  CHECK(query.has("b"));
}

TEST_CASE("queries and forms beyond their limits, or malformed, are refused with a status") {
  const QueryLimits limits{.maxBytes = 10, .maxPairs = 3};
  CHECK(statusOf([&] { Query::parse("a&b&c", limits); }) == 0);
  CHECK(statusOf([&] { Query::parse("a&b&c&d", limits); }) == 400);
  CHECK(statusOf([&] { Query::parse("0123456789", limits); }) == 0);
  CHECK(statusOf([&] { Query::parse("0123456789a", limits); }) == 414);
  CHECK(statusOf([&] { Query::parseForm("0123456789a", limits); }) == 413);
  for (std::string_view bad : {"%", "a=%1", "%zz=1", "a=1&b=%"}) CHECK(statusOf([&] { Query::parse(bad); }) == 400);
  CHECK(statusOf([] { Query::parse(std::string(60'000, '&')); }) == 0);
  CHECK(statusOf([] { std::string many; for (int i = 0; i < 1001; ++i) many += "a&"; Query::parse(many); }) == 400);
}

TEST_CASE("a query that is built is encoded, and may be made from itself") {
  Query query;
  query.add("q", "a b&c=d+e~*\xff").add("", "\r\n");
  CHECK(query.toString() == "q=a+b%26c%3Dd%2Be%7E*%FF&=%0D%0A");
  query.set("q", *query.get(""));
  CHECK(shown(query) == "[|\r\n][q|\r\n]");
  query.add(query[1].name, query[1].value);
  CHECK(query.remove(query[1].name) == 2);
  CHECK(query.remove("q") == 0);
  CHECK(query.size() == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a form is read to its end, and no further than its limit") {
  ScriptedStream body;
  body.giveRead("a=1&").giveRead("b=%2").giveRead("02").giveEnd();
  CHECK(shown(readForm(body).wait(scope)) == "[a|1][b| 2]");
  body.checkFinished();
  ScriptedStream endless; // never ends: the limit is met before
  endless.giveRead("0123456789").giveRead("a").giveRead("not read");
  CHECK(statusOf([&] { readForm(endless, QueryLimits{.maxBytes = 10}).wait(scope); }) == 413);
  CHECK(endless.tryReadChunk().wait(scope).text() == "not read");
}

TEST_CASE("sweep: reading a form can be cancelled anywhere") {
  CHECK(cancelSweep(std::function<Promise<void>(LoopTest&)>([](LoopTest&) -> Promise<void> {
          auto body = std::make_unique<ScriptedStream>();
          body->giveRead("a=1&").giveRead("b=2").giveEnd();
          AsyncInputStream& stream = *body;
          return readForm(stream).then([](Query query) { CHECK(query.size() == 2); }).attach(std::move(body));
        })) > 3);
}

TEST_CASE("dates are written in 29 bytes and read in three forms") {
  const sys_seconds now = sys_days(2024y / 6 / 15);
  const sys_seconds moment = sys_days(1994y / 11 / 6) + 8h + 49min + 37s;
  CHECK(formatHttpDate(moment) == "Sun, 06 Nov 1994 08:49:37 GMT");
  for (std::string_view form : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
                                "Sun Nov 06 08:49:37 1994", "Mon, 06 Nov 1994 08:49:37 GMT"})
    CHECK_MESSAGE(parseHttpDate(form, now) == moment, form);
  CHECK(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT") == moment);
  for (std::string_view bad : {"", "Sun", "Sun, ", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 GMT",
                               "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT",
                               "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
                               "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06-Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT",
                               "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 94", "Xyz, 06 Nov 1994 08:49:37 GMT",
                               "Sun, 06 Nov 1994 -8:49:37 GMT", "Sunday Nov  6 08:49:37 1994"})
    CHECK_MESSAGE(parseHttpDate(bad, now) == std::nullopt, bad);
  CHECK(parseHttpDate("Sat, 31 Dec 2016 23:59:60 GMT", now) == sys_days(2017y / 1 / 1)); // a leap second
  CHECK(formatHttpDate(sys_days(2024y / 2 / 29)) == "Thu, 29 Feb 2024 00:00:00 GMT");
  CHECK(formatHttpDate(sys_days(0y / 1 / 1)).substr(5) == "01 Jan 0000 00:00:00 GMT");
  CHECK(formatHttpDate(sys_days(10000y / 1 / 1) - 1s).substr(5) == "31 Dec 9999 23:59:59 GMT");
  CHECK_THROWS_AS(formatHttpDate(sys_days(10000y / 1 / 1)), Exception);
  CHECK_THROWS_AS(formatHttpDate(sys_days(0y / 1 / 1) - 1s), Exception);
  CHECK_THROWS_AS(formatHttpDate(sys_seconds::max()), Exception);
}

TEST_CASE("a year of two digits is never more than 50 years ahead") {
  const auto yearOf = [](std::string_view digits, int now) {
    const auto time = parseHttpDate("Sunday, 06-Nov-" + std::string(digits) + " 08:49:37 GMT", sys_days(year(now) / 1 / 1));
    return static_cast<int>(year_month_day(floor<days>(time.value())).year());
  };
  CHECK(yearOf("94", 2024) == 1994);
  CHECK(yearOf("74", 2024) == 2074);
  CHECK(yearOf("75", 2024) == 1975);
  CHECK(yearOf("00", 2024) == 2000);
  CHECK(yearOf("10", 2090) == 2110);
  CHECK(yearOf("41", 2090) == 2041);
}

TEST_CASE("every day of some centuries is written and read back") {
  for (sys_days day = 1900y / 1 / 1; day < sys_days(2120y / 1 / 1); day += days(7)) {
    const sys_seconds time = day + 12h + 34min + 56s;
    if (parseHttpDate(formatHttpDate(time), day) != time) FAIL(formatHttpDate(time));
  }
}

} // namespace
