// SPDX-License-Identifier: MIT
// Cookies, media types, and negotiation.
#include <fixtures.h>

#include <troth/net/http/cookie.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/media_type.h>
#include <troth/net/http/negotiation.h>

#include <array>

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

TEST_CASE("a request's cookies are found by name, from all of its fields, as they were sent") {
  const HeaderMap request{{"Cookie", "a=1; b=\"x y\" ;c=d=e;;  ; noequals; =noname; A=2"}, {"Host", "h"}, {"cookie", "z=;a=3"}};
  const Cookies cookies = Cookies::of(request);
  std::string shown;
  for (const Cookies::Cookie& cookie : cookies) shown.append("[").append(cookie.name).append("|").append(cookie.value).append("]");
  CHECK(shown == "[a|1][b|\"x y\"][c|d=e][A|2][z|][a|3]");
  CHECK(cookies.get("a") == "1");
  CHECK(cookies.get("A") == "2");
  CHECK(cookies.get("z") == "");
  CHECK(!cookies.has("noequals"));
  CHECK(Cookies::parse("").empty());
}

TEST_CASE("cookies beyond their limits are refused with 431") {
  const CookieLimits limits{.maxBytes = 10, .maxCookies = 2};
  CHECK(statusOf([&] { Cookies::parse("a=1;b=2", limits); }) == 0);
  CHECK(statusOf([&] { Cookies::parse("a=1;b=;c=", limits); }) == 431);
  CHECK(statusOf([&] { Cookies::parse("a=123456789", limits); }) == 431);
  const HeaderMap two{{"Cookie", "a=1234"}, {"Cookie", "b=1234"}};
  CHECK(statusOf([&] { Cookies::of(two, limits); }) == 431);
  CHECK(statusOf([&] { Cookies::of(two); }) == 0);
  CHECK(statusOf([] { Cookies::parse(std::string(16'000, ';')); }) == 0);
}

TEST_CASE("a cookie is set with its attributes, which a client reads back") {
  const SetCookie full{.name = "__Secure-id", .value = "a=b/%20", .path = "/x, y", .domain = "Example.com", .maxAge = 3600s,
                       .expires = sys_days(1994y / 11 / 6) + 8h + 49min + 37s, .secure = true, .httpOnly = true,
                       .sameSite = SameSite::NONE, .partitioned = true};
  const std::string text = full.toString();
  CHECK(text == "__Secure-id=a=b/%20; Path=/x, y; Domain=Example.com; Max-Age=3600; Expires=Sun, 06 Nov 1994 08:49:37 GMT; "
                "Secure; HttpOnly; SameSite=None; Partitioned");
  const SetCookie read = SetCookie::parse(text).value();
  CHECK(read.domain == "example.com");
  SetCookie same = read;
  same.domain = full.domain;
  CHECK(same.toString() == text);
  CHECK(SetCookie{.name = "a", .value = "\"quoted\""}.toString() == "a=\"quoted\"");
  CHECK(SetCookie{.name = "a", .maxAge = -5s, .sameSite = SameSite::LAX}.toString() == "a=; Max-Age=0; SameSite=Lax");
}

TEST_CASE("no value gets an attribute or a field into a cookie") {
  const auto refused = [](SetCookie cookie, std::string_view reason) {
    const Exception e = thrownBy([&] { cookie.toString(); });
    CHECK_MESSAGE(contains(e.description(), reason), e.description());
    CHECK(contains(e.where().file_name(), "cookie_test.cc"));
  };
  for (const char* name : {"", "a b", "a=b", "a;b", "a\r\nb", "\xc3\xa4", "a,"}) refused({.name = name}, "its name is no token");
  for (const char* value : {"a;b", "a b", "a,b", "a\"b", "\"", "\"a", "\"\"\"", "a\\b", "a\r\nSet-Cookie: b=c", "\x01", "\x7f", "\xc3\xa4"})
    refused({.name = "a", .value = value}, "what a cookie cannot hold");
  for (const char* path : {"a", "/a;Secure", "/a\r\n", "/\xc3\xa4", " /"}) refused({.name = "a", .path = path}, "its path");
  for (const char* domain : {"a;b", "a b", ".", "a..b", ".a", "a.", "a_b", "a\r\n", "[::1]"}) refused({.name = "a", .domain = domain}, "its domain");
  refused({.name = "a", .value = std::string(4096, 'x')}, "more than 4096");
  refused({.name = "a", .sameSite = SameSite::NONE}, "without Secure");
  refused({.name = "a", .partitioned = true}, "without Secure");
  refused({.name = "__secure-a"}, "needs Secure");
  refused({.name = "__Host-a", .path = "/x", .secure = true}, "the path /");
  refused({.name = "__Host-a", .path = "/", .domain = "h", .secure = true}, "no domain");
  CHECK(SetCookie{.name = "__Host-a", .path = "/", .secure = true}.toString() == "__Host-a=; Path=/; Secure");
}

TEST_CASE("a client reads Set-Cookie leniently, and drops what is odd about it") {
  const SetCookie odd = SetCookie::parse(" a = b c ; path=x; DOMAIN=.Ex.COM; max-age=1x; Max-Age=-1; expires=never; secure=no;samesite=maybe; junk; =; Path=/y").value();
  CHECK(odd.name == "a");
  CHECK(odd.value == "b c");
  CHECK(odd.path == "/y");
  CHECK(odd.domain == "ex.com");
  CHECK(odd.maxAge == 0s);
  CHECK(odd.expires == std::nullopt);
  CHECK(odd.secure);
  CHECK(odd.sameSite == SameSite::UNSET);
  CHECK(SetCookie::parse("a=b; Max-Age=99999999999999999999999")->maxAge == seconds(2147483647));
  CHECK(SetCookie::parse("a=b; Path=/x; Path=x")->path == "");
  for (std::string_view bad : {"", "a", "=b", ";a=b", "a=b\x01", "a=b\r\nc"}) CHECK(!SetCookie::parse(bad));
  const auto expires = [](std::string_view date) { return SetCookie::parse("a=b; Expires=" + std::string(date))->expires; };
  const sys_seconds moment = sys_days(2015y / 10 / 21) + 7h + 28min;
  for (std::string_view date : {"Wed, 21 Oct 2015 07:28:00 GMT", "21-oct-15 7:28:0", "Oct 21 2015 07:28:00", "07:28:00 2015 21 October", "21th Oct 15 07:28:00x"})
    CHECK_MESSAGE(expires(date) == moment, date);
  CHECK(expires("1 Jan 69 00:00:00") == sys_days(2069y / 1 / 1));
  CHECK(expires("1 Jan 70 00:00:00") == sys_days(1970y / 1 / 1));
  for (std::string_view bad : {"21 Oct 2015", "Oct 2015 07:28:00", "31 Feb 2015 07:28:00", "21 Oct 2015 24:00:00", "21 Oct 2015 07:28:60", "21 Oct 1600 07:28:00", "21 Oct 20155 07:28:00"})
    CHECK_MESSAGE(expires(bad) == std::nullopt, bad);
}

TEST_CASE("media types have parameters, quoted or not, and others are refused") {
  const MediaType type = MediaType::parse(" Text/HTML ; Charset=\"utf\\-8\";; boundary=\"a b;,\\\"\" ");
  CHECK(type.essence() == "text/html");
  CHECK(type.type() == "text");
  CHECK(type.subtype() == "html");
  CHECK(type.is("TEXT/html"));
  CHECK(type.get("CHARSET") == "utf-8");
  CHECK(type.get("boundary") == "a b;,\"");
  CHECK(type.get("q") == std::nullopt);
  CHECK(type.toString() == "text/html; charset=utf-8; boundary=\"a b;,\\\"\"");
  CHECK(MediaType::parse("a/b").toString() == "a/b");
  for (std::string_view bad : {"", "text", "/", "a/", "/b", "a /b", "a/b/c", "a/b c", "a/b;x", "a/b;x=", "a/b;=y", "a/b;x=\"y", "a/b;x=\"y\"z",
                               "a/b;x=y z", "a/b;x=\"\x01\"", "a/b;x=\"\\", "a/b\r\n", "a/b;x =y"}) {
    CHECK_MESSAGE(!MediaType::tryParse(bad), bad);
    CHECK_THROWS_AS(MediaType::parse(bad), Exception);
  }
  std::string many = "a/b";
  for (int i = 0; i < 33; ++i) many += ";x=y";
  CHECK(!MediaType::tryParse(many));
}

constexpr std::array<std::string_view, 3> TYPES = {"text/html", "application/json", "text/plain; charset=utf-8"};

TEST_CASE("the media type that Accept likes best is chosen, by the most specific range") {
  struct Row { std::string_view accept, best; };
  for (const Row& row : {Row{"*/*", TYPES[0]}, {"application/json", TYPES[1]}, {"application/*, text/html;q=0.9", TYPES[1]},
                         {"text/*;q=0.5, text/html;q=0.1", TYPES[2]}, {"*/*;q=0.1, text/html;q=0", TYPES[1]},
                         {"TEXT/HTML ; Q=0.001", TYPES[0]}, {"text/plain;charset=UTF-8, */*;q=0.9", TYPES[2]},
                         {"text/plain;charset=latin1, */*;q=0.1", TYPES[0]}, {"text/plain;charset=\"utf-8\";q=0.7;ext=1, text/html;q=0.6", TYPES[2]},
                         {"image/png", ""}, {"", ""}, {"text/html;q=0", ""}, {"text/html;q=2", ""}, {"text/html;q=1.001", ""},
                         {"text/html;q=0.0001", ""}, {"text/html;q=x", ""}, {"text/html;q=\"1\"", ""}, {"*/html", ""}, {"*", ""}, {",,;q=1,/,text/html;", TYPES[0]},
                         {"a/b;x=\"1,2\", application/json", TYPES[1]}}) {
    CAPTURE(row.accept);
    CHECK(negotiateMediaType(row.accept, TYPES).value_or("") == row.best);
  }
  CHECK(negotiateMediaType(HeaderMap(), TYPES) == TYPES[0]);
  const HeaderMap two{{"Accept", "text/html;q=0.5"}, {"Accept", "application/json"}};
  CHECK(negotiateMediaType(two, TYPES) == TYPES[1]);
  CHECK(negotiateMediaType(HeaderMap(), {}) == std::nullopt);
  const std::array<std::string_view, 1> wrong = {"html"};
  CHECK_THROWS_AS(negotiateMediaType("*/*", wrong), Exception);
  std::string many;
  for (int i = 0; i < 100; ++i) many += "a/b,";
  CHECK(negotiateMediaType(many + "text/html", TYPES) == std::nullopt);
}

TEST_CASE("the coding that Accept-Encoding likes best is chosen, or identity, or none") {
  constexpr std::array<std::string_view, 2> CODINGS = {"br", "gzip"};
  struct Row { std::string_view accept, best; };
  for (const Row& row : {Row{"gzip", "gzip"}, {"gzip, br", "br"}, {"gzip;q=1.0, br;q=0.8", "gzip"}, {"X-GZIP", "gzip"}, {"*", "br"},
                         {"*;q=0.5, br;q=0", "gzip"}, {"", "identity"}, {"zstd", "identity"}, {"gzip;q=0", "identity"},
                         {"gzip;q=0.5, identity", "identity"}, {"gzip;q=0.5, identity;q=0.5", "gzip"}, {"identity;q=0", "(none)"},
                         {"*;q=0", "(none)"}, {"*;q=0, identity;q=0.1", "identity"}, {"gzip, *;q=0", "gzip"},
                         {"identity;q=0, gzip;q=0.001", "gzip"}, {"gzip;q=zzz", "identity"}}) {
    CAPTURE(row.accept);
    CHECK(negotiateCoding(row.accept, CODINGS).value_or("(none)") == row.best);
  }
  CHECK(negotiateCoding(HeaderMap(), CODINGS) == "identity");
  CHECK(negotiateCoding("gzip", {}) == "identity");
}

TEST_CASE("the language that Accept-Language likes best is chosen") {
  constexpr std::array<std::string_view, 4> LANGUAGES = {"de", "en", "en-US", "zh-Hant"};
  struct Row { std::string_view accept, best; };
  for (const Row& row : {Row{"en", "en"}, {"en-US", "en-US"}, {"en-GB, de;q=0.9", "en"}, {"fr, en;q=0.3", "en"}, {"zh", "zh-Hant"},
                         {"zh-Hant-TW", "zh-Hant"}, {"*", "de"}, {"*;q=0.1, en-us", "en-US"}, {"fr", ""}, {"", ""}, {"en;q=0, *", "de"},
                         {"e", ""}, {"en-GB;q=0, en;q=0.2, de;q=0.1", "en"}, {"DE", "de"},
                         {"en-GB;q=0, *;q=0.5, de;q=0", "en"}}) {
    CAPTURE(row.accept);
    CHECK(negotiateLanguage(row.accept, LANGUAGES).value_or("") == row.best);
  }
  CHECK(negotiateLanguage(HeaderMap(), LANGUAGES) == "de");
}

} // namespace
