// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): a text as a URL and, cut at its first newline, a base and a reference. What is parsed is
// the same when it is parsed again, a normal form is its own, and what is refused says why.
#include <troth/net/http/percent.h>
#include <troth/net/http/url.h>
#include <troth/runtime/exception.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "url_fuzz: %s\n", what);
  std::abort();
}

/// Parsed from its own text it is the same, part by part.
void checkStable(const Url& url) {
  const std::optional<Url> again = Url::tryParse(url.toString());
  require(again.has_value(), "what a URL prints is no URL");
  require(again->scheme() == url.scheme() && again->userInfo() == url.userInfo() && again->host() == url.host() &&
              again->hasAuthority() == url.hasAuthority() && again->port() == url.port() && again->path() == url.path() &&
              again->query() == url.query() && again->fragment() == url.fragment(),
          "what a URL prints is another one");
}

void checkUrl(const Url& url) {
  checkStable(url);
  const Url normal = url.normalized();
  checkStable(normal);
  require(normal.normalized() == normal, "a normal form has another one");
  require(url.origin() == normal.origin(), "the origin depends on the form");
  require(url.requestTarget().starts_with('/'), "a request's target does not begin with a slash");
  for (const char c : url.requestTarget() + url.authority() + url.origin())
    require(c > ' ' && c <= '~', "a control character, a space or a byte from 0x80 is left");
  checkStable(url.withoutUserInfo().withoutQuery().withoutFragment());
}

std::optional<Url> parsed(std::string_view text) {
  std::string reason;
  const std::optional<Url> url = Url::tryParse(text, &reason);
  require(url.has_value() == reason.empty(), "a refusal does not say why");
  try {
    require(Url::parse(text) == url, "the two parsers differ");
  } catch (const Exception& e) {
    require(!url, "the two parsers differ");
    for (const char c : e.description()) require(c >= ' ' || c < 0, "a control character in the text of an error");
  }
  return url;
}

void tryUrl(std::string_view text) {
  const std::optional<Url> url = parsed(text);
  if (!url) return;
  require(url->toString() == text || text.find("//") == std::string_view::npos, "a URL is not what was parsed");
  checkUrl(*url);
}

void tryResolve(std::string_view baseText, std::string_view reference) {
  const std::optional<Url> base = Url::tryParse(baseText);
  if (!base) return;
  if (const std::optional<Url> target = base->tryResolve(reference)) checkUrl(*target);
  if (const std::optional<Url> absolute = Url::tryParse(reference)) {
    const std::optional<Url> target = base->tryResolve(reference);
    require(target && target->scheme() == absolute->scheme() && target->host() == absolute->host(),
            "an absolute reference is led elsewhere");
  }
}

void tryPercent(std::string_view text) {
  for (const UrlPart part : {UrlPart::VALUE, UrlPart::USER_INFO, UrlPart::PATH_SEGMENT, UrlPart::PATH, UrlPart::QUERY,
                             UrlPart::FRAGMENT})
    require(tryPercentDecode(percentEncode(text, part)) == text, "encoded and decoded it is another text");
  const std::string path = normalizePath(text);
  require(normalizePath(path) == path, "a path's normal form has another one");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tryUrl(text);
  tryPercent(text);
  if (const std::size_t newline = text.find('\n'); newline != std::string_view::npos)
    tryResolve(text.substr(0, newline), text.substr(newline + 1));
  return 0;
}
