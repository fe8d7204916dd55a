// SPDX-License-Identifier: MIT
// URLs: parts, refusals, normal forms, and what references mean; percent-encoding.
#include <fixtures.h>

#include <troth/net/http/percent.h>
#include <troth/net/http/url.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

std::string text(const std::optional<std::string_view>& part) { return part ? std::string(*part) : "(none)"; }

TEST_CASE("a URL is cut into its parts, which stay as they are written") {
  const Url url = Url::parse("HTTPS://me:pw%20x@Example.com:08443/a/b;c=1/%7e?x=1&y=/?#top?");
  CHECK(url.scheme() == "HTTPS");
  CHECK(url.hasScheme("https"));
  CHECK(text(url.userInfo()) == "me:pw%20x");
  CHECK(url.host() == "Example.com");
  CHECK(url.port() == 8443);
  CHECK(url.path() == "/a/b;c=1/%7e");
  CHECK(text(url.query()) == "x=1&y=/?");
  CHECK(text(url.fragment()) == "top?");
  CHECK(url.authority() == "Example.com:8443");
  CHECK(url.origin() == "https://example.com:8443");
  CHECK(url.requestTarget() == "/a/b;c=1/%7e?x=1&y=/?");
  CHECK(url.toString() == "HTTPS://me:pw%20x@Example.com:08443/a/b;c=1/%7e?x=1&y=/?#top?");
  CHECK(url.withoutUserInfo().withoutQuery().withoutFragment().toString() == "HTTPS://Example.com:08443/a/b;c=1/%7e");
}

TEST_CASE("parts that are not there differ from those that are empty") {
  struct Row { std::string_view url, user, host, path, query, fragment, target; bool authority; };
  for (const Row& row : {Row{"http://h", "(none)", "h", "", "(none)", "(none)", "/", true},
                         Row{"http://@h:?#", "", "h", "", "", "", "/?", true},
                         Row{"file:///etc/x", "(none)", "", "/etc/x", "(none)", "(none)", "/etc/x", true},
                         Row{"mailto:a@b.c", "(none)", "", "a@b.c", "(none)", "(none)", "/a@b.c", false},
                         Row{"x:", "(none)", "", "", "(none)", "(none)", "/", false},
                         Row{"urn:a:b?c", "(none)", "", "a:b", "c", "(none)", "/a:b?c", false},
                         Row{"ws://[::1]:81?q", "(none)", "[::1]", "", "q", "(none)", "/?q", true}}) {
    CAPTURE(row.url);
    const Url url = Url::parse(row.url);
    CHECK(text(url.userInfo()) == row.user);
    CHECK(url.host() == row.host);
    CHECK(url.path() == row.path);
    CHECK(text(url.query()) == row.query);
    CHECK(text(url.fragment()) == row.fragment);
    CHECK(url.requestTarget() == row.target);
    CHECK(url.hasAuthority() == row.authority);
    CHECK(url.toString() == row.url);
  }
  CHECK(Url::parse("http://h:").port() == std::nullopt);
  CHECK(Url::parse("http://h:0").port() == 0);
  CHECK(Url::parse("wss://h").portOrDefault() == 443);
  CHECK(Url::parse("ws://h:443").portOrDefault() == 443);
  CHECK(Url::parse("HTTP://h:80").authority() == "h");
  CHECK(Url::parse("ftp://h").portOrDefault() == std::nullopt);
  CHECK(Url::parse("ftp://h").origin() == "null");
  CHECK(Url::parse("http://[::1]").hasIpv6Host());
  CHECK(!Url::parse("http://[v1.a:b]").hasIpv6Host());
  CHECK(!Url::parse("x:y").hasIpv6Host());
}

TEST_CASE("what is no URL is refused with what is wrong about it, and without its password") {
  struct Row { std::string_view text, reason; };
  using namespace std::string_view_literals;
  for (const Row& row : {Row{"", "it has no scheme"}, {"/a", "it has no scheme"}, {"//h/a", "it has no scheme"},
                         {":x", "no scheme in front of its first colon"}, {"1a:x", "no scheme in front of its first colon"},
                         {"a_b://h", "no scheme in front"}, {"http://h/a b", "its path has the character \" \""},
                         {"http://h/\r\nHost: x", "its path has the character \"\\x0d\""}, {"http://h/\0"sv, "\\x00"},
                         {"http://h/\x7f", "\\x7f"}, {"http://h/\xc3\xa4", "its path has the character \"\\xc3\""},
                         {"http://h/%", "% without two"}, {"http://h/%4", "% without two"}, {"http://h/?%4g", "query has a %"},
                         {"http://h/#a#b", "its fragment has the character \"#\""}, {"http://h/[a]", "\"[\""},
                         {"http://h\\x/", "its host has the character \"\\\\\""}, {"http://a@b@c/", "its host has the character \"@\""},
                         {"http://", "it has no host"}, {"https:///x", "it has no host"}, {"http:/x", "it has no host"},
                         {"http:x", "it has no host"}, {"WS://:80", "it has no host"},
                         {"http://h:65536/", "its port \"65536\" is larger"}, {"http://h:99999999999999999999999/", "is larger"},
                         {"http://h:8x/", "its port \"8x\" is no number"}, {"http://h:-1/", "is no number"}, {"http://h:+1/", "is no number"},
                         {"http://h:1:2/", "is no number"}, {"http://[::1/", "[ without a ]"}, {"http://[::1]x/", "behind the ]"},
                         {"http://[]/", "is no IPv6 address"}, {"http://[1.2.3.4]/", "is no IPv6 address"},
                         {"http://[::1%25eth0]/", "is no IPv6 address"}, {"http://[::g]/", "is no IPv6 address"},
                         {"http://[1:2:3:4:5:6:7:8:9]/", "is no IPv6 address"}, {"http://[v.x]/", "is no IPv6 address"},
                         {"http://[v1.]/", "is no IPv6 address"}, {"http://h]/", "its host has the character \"]\""}}) {
    CAPTURE(row.text);
    std::string reason;
    CHECK(!Url::tryParse(row.text, &reason));
    CHECK_MESSAGE(contains(reason, row.reason), reason);
    CHECK(!Url::tryParse(row.text));
  }
  CHECK(contains(*[] { std::string why; (void)Url::tryParse("x:" + std::string(Url::MAX_LENGTH, 'a'), &why); return std::optional(why); }(), "more than 65536 bytes"));
  const Exception e = thrownBy([] { Url::parse("http://me:secret@h/ "); });
  CHECK(contains(e.description(), "\"http://...@h/ \" is no URL: its path has"));
  CHECK(!contains(e.description(), "secret"));
  CHECK(contains(e.where().file_name(), "url_test.cc"));
}

TEST_CASE("the normal form is the same for URLs that mean the same, and normal itself") {
  struct Row { std::string_view text, normal; };
  for (const Row& row : {Row{"HTTP://User@EXAMPLE.com:80", "http://User@example.com/"}, {"https://h:443/", "https://h/"},
                         {"https://h:80/", "https://h:80/"}, {"http://h:", "http://h/"}, {"http://h:0080/", "http://h/"},
                         {"http://h:08080/", "http://h:8080/"},
                         {"http://h/%7Efoo/%2fx%c3%a4?%41=%3d#%5f%5B", "http://h/~foo/%2Fx%C3%A4?A=%3D#_%5B"},
                         {"http://h/a/./b/../c/%2e%2E/d", "http://h/a/d"}, {"http://h/../../x", "http://h/x"},
                         {"http://h/a/..", "http://h/"}, {"http://h/a//../b", "http://h/a/b"}, {"http://h/.", "http://h/"},
                         {"http://h/...", "http://h/..."}, {"http://%48/", "http://h/"}, {"http://h%2F/", "http://h%2F/"},
                         {"http://[2001:DB8:0:0:0:0:0:1]/", "http://[2001:db8::1]/"}, {"http://[V1.A]/", "http://[v1.a]/"},
                         {"x:/.//a", "x:/.//a"}, {"x:/a/..//b", "x:/.//b"}, {"file:///a/../b", "file:///b"},
                         {"MAILTO:A@B", "mailto:A@B"}}) {
    CAPTURE(row.text);
    const Url normal = Url::parse(row.text).normalized();
    CHECK(normal.toString() == row.normal);
    CHECK(normal.normalized() == normal);
    CHECK(Url::parse(normal.toString()) == normal);
  }
  CHECK(normalizePath("/a/%2e%2e/%73ecret/%2F..%zz") == "/secret/%2F..%zz");
  CHECK(normalizePath("/../..") == "/");
}

// RFC 3986, section 5.4.
TEST_CASE("references mean what the RFC's examples say, normal and abnormal") {
  struct Row { std::string_view reference, target; };
  const Url base = Url::parse("http://a/b/c/d;p?q");
  for (const Row& row : {Row{"g:h", "g:h"}, {"g", "http://a/b/c/g"}, {"./g", "http://a/b/c/g"}, {"g/", "http://a/b/c/g/"},
                         {"/g", "http://a/g"}, {"//g", "http://g"}, {"?y", "http://a/b/c/d;p?y"}, {"g?y", "http://a/b/c/g?y"},
                         {"#s", "http://a/b/c/d;p?q#s"}, {"g#s", "http://a/b/c/g#s"}, {"g?y#s", "http://a/b/c/g?y#s"},
                         {";x", "http://a/b/c/;x"}, {"g;x", "http://a/b/c/g;x"}, {"g;x?y#s", "http://a/b/c/g;x?y#s"},
                         {"", "http://a/b/c/d;p?q"}, {".", "http://a/b/c/"}, {"./", "http://a/b/c/"}, {"..", "http://a/b/"},
                         {"../", "http://a/b/"}, {"../g", "http://a/b/g"}, {"../..", "http://a/"}, {"../../", "http://a/"},
                         {"../../g", "http://a/g"},
                         {"../../../g", "http://a/g"}, {"../../../../g", "http://a/g"}, {"/./g", "http://a/g"},
                         {"/../g", "http://a/g"}, {"g.", "http://a/b/c/g."}, {".g", "http://a/b/c/.g"}, {"g..", "http://a/b/c/g.."},
                         {"..g", "http://a/b/c/..g"}, {"./../g", "http://a/b/g"}, {"./g/.", "http://a/b/c/g/"},
                         {"g/./h", "http://a/b/c/g/h"}, {"g/../h", "http://a/b/c/h"}, {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
                         {"g;x=1/../y", "http://a/b/c/y"}, {"g?y/./x", "http://a/b/c/g?y/./x"}, {"g?y/../x", "http://a/b/c/g?y/../x"},
                         {"g#s/./x", "http://a/b/c/g#s/./x"}, {"g#s/../x", "http://a/b/c/g#s/../x"}}) {
    CAPTURE(row.reference);
    const Url target = base.resolve(row.reference);
    CHECK(target.toString() == row.target);
    CHECK(Url::parse(row.target) == target);
  }
  CHECK(Url::parse("http://u@a:1").resolve("g").toString() == "http://u@a:1/g");
  CHECK(Url::parse("x:/a/b").resolve("/..//g").toString() == "x:/.//g");
  CHECK(Url::parse("x:/a/b").resolve("/..//g").path() == "/.//g");
  CHECK(Url::parse("x:").resolve("//h").toString() == "x://h");
}

TEST_CASE("references that make no URL are refused") {
  const Url base = Url::parse("http://a/b");
  for (std::string_view bad : {"//", "http:", "http:g", "1:2", "a b", "//h:x", "\n", "%"}) {
    CAPTURE(bad);
    std::string reason;
    CHECK(!base.tryResolve(bad, &reason));
    CHECK(!reason.empty());
    CHECK(contains(thrownBy([&] { base.resolve(bad); }).description(), "is no reference to a URL"));
  }
  const Url large = Url::parse("http://a/" + std::string(40'000, 'x') + "/");
  CHECK(contains(thrownBy([&] { large.resolve(std::string(40'000, 'y')); }).description(), "more than 65536 bytes"));
}

TEST_CASE("a URL with another path or query is a URL") {
  const Url url = Url::parse("http://h/a?x#f");
  CHECK(url.withPath("/b%20c").toString() == "http://h/b%20c?x#f");
  CHECK(url.withPath("b").toString() == "http://h/b?x#f");
  CHECK(url.withPath("").toString() == "http://h?x#f");
  CHECK(url.withPath("//b").host() == "h");
  CHECK(Url::parse("x:a").withPath("//b").toString() == "x:/.//b");
  CHECK(url.withQuery("a=b").toString() == "http://h/a?a=b#f");
  CHECK(url.withQuery("").toString() == "http://h/a?#f");
  for (std::string_view bad : {"a b", "a#b", "a?b\r\n", "%x"}) CHECK_THROWS_AS(url.withPath(bad), Exception);
  CHECK_THROWS_AS(url.withPath("a?b"), Exception);
  CHECK_THROWS_AS(url.withQuery("a#b"), Exception);
}

TEST_CASE("dot segments of a hostile path are removed in linear time") {
  std::string path;
  while (path.size() < 60'000) path += "/a/b/../..";
  CHECK(Url::parse("http://h" + path).normalized().path() == "/");
}

TEST_CASE("percent-encoding keeps what a part may hold, and decoding gives every byte back") {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (UrlPart part : {UrlPart::VALUE, UrlPart::USER_INFO, UrlPart::PATH_SEGMENT, UrlPart::PATH, UrlPart::QUERY, UrlPart::FRAGMENT})
    CHECK(percentDecode(percentEncode(all, part)) == all);
  const std::string_view some = "aZ09-._~ /?:@&=+#%[\xff";
  CHECK(percentEncode(some) == "aZ09-._~%20%2F%3F%3A%40%26%3D%2B%23%25%5B%FF");
  CHECK(percentEncode(some, UrlPart::USER_INFO) == "aZ09-._~%20%2F%3F:%40&=+%23%25%5B%FF");
  CHECK(percentEncode(some, UrlPart::PATH_SEGMENT) == "aZ09-._~%20%2F%3F:@&=+%23%25%5B%FF");
  CHECK(percentEncode(some, UrlPart::PATH) == "aZ09-._~%20/%3F:@&=+%23%25%5B%FF");
  CHECK(percentEncode(some, UrlPart::QUERY) == "aZ09-._~%20/?:@&=+%23%25%5B%FF");
  CHECK(percentDecode("a+b%2bc%00") == std::string("a+b+c\0", 6));
  for (std::string_view bad : {"%", "%2", "a%2", "%g0", "%0g", "%%41"}) {
    CHECK(tryPercentDecode(bad) == std::nullopt);
    CHECK(contains(thrownBy([&] { percentDecode(bad); }).description(), "% without two hexadecimal digits"));
  }
}

} // namespace
