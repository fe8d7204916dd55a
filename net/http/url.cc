// SPDX-License-Identifier: MIT
// Cutting a text into the parts of a URL, checking them, and putting parts together again.
#include <troth/net/http/url.h>

#include <troth/net/http/text_detail.h>
#include <troth/net/http/uri_text_detail.h>
#include <troth/net/socket_address.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace http {

using detail::isUriCharacter;

/// The parts of a URL, or of a reference to one, as they are written.
struct Url::Parts {
  std::optional<std::string_view> scheme;
  std::optional<std::string_view> userInfo;
  std::optional<std::string_view> host; // if there is an authority
  std::optional<std::string_view> port; // digits, or nothing, behind a colon
  std::string_view path;
  std::optional<std::string_view> query;
  std::optional<std::string_view> fragment;
};

namespace {

bool isAlpha(char c) noexcept { return static_cast<unsigned char>(detail::toLower(c) - 'a') < 26; }

// RFC 3986, section 3.1.
bool isScheme(std::string_view text) noexcept {
  if (text.empty() || !isAlpha(text.front())) return false;
  return std::ranges::all_of(
      text, [](char c) { return isAlpha(c) || detail::isDigit(c) || c == '+' || c == '-' || c == '.'; });
}

// The schemes that are known to have a host and a default port.
bool isHttpLike(std::string_view scheme) noexcept { return defaultPort(scheme).has_value(); }

std::string describe(std::string_view part, std::string_view text, std::size_t at) {
  std::string reason = "its ";
  reason.append(part);
  if (text[at] == '%') return reason + " has a % without two hexadecimal digits behind it";
  return reason + " has the character " + troth::detail::quote(text.substr(at, 1)) + ", which must be percent-encoded";
}

// What is wrong with a part; empty if nothing is.
std::string check(std::string_view part, std::string_view text, std::uint8_t kinds) {
  const std::size_t bad = detail::findBadUriCharacter(text, kinds);
  return bad == text.size() ? std::string() : describe(part, text, bad);
}

// The address within the brackets as RFC 5952 writes it; nothing if it is none. Zones (RFC 6874) are not of a URL that
// is sent to anybody.
std::optional<std::string> canonicalIpv6(std::string_view address) {
  const auto fits = [](char c) { return detail::hexValue(c) >= 0 || c == ':' || c == '.'; };
  if (address.size() > 45 || !std::ranges::all_of(address, fits)) return std::nullopt;
  try {
    const std::string text = SocketAddress::parse("[" + std::string(address) + "]:0").toString();
    return text.substr(0, text.find(']') + 1);
  } catch (const Exception&) {
    return std::nullopt;
  }
}

// IPvFuture of RFC 3986, section 3.2.2, without its brackets.
bool isFutureAddress(std::string_view text) noexcept {
  if (text.size() < 4 || detail::toLower(text.front()) != 'v') return false;
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos || dot < 2 || dot + 1 == text.size()) return false;
  const auto isHex = [](char c) { return detail::hexValue(c) >= 0; };
  const auto fits = [](char c) { return isUriCharacter(c, detail::URI_USER_INFO); };
  return std::ranges::all_of(text.substr(1, dot - 1), isHex) && std::ranges::all_of(text.substr(dot + 1), fits);
}

std::string checkHost(std::string_view host) {
  if (!host.starts_with('[')) return check("host", host, detail::URI_REG_NAME);
  const std::string_view address = host.substr(1, host.size() - 2);
  if (canonicalIpv6(address) || isFutureAddress(address)) return {};
  return "its host " + troth::detail::quote(host) + " is no IPv6 address";
}

std::string checkPort(std::string_view digits) {
  if (digits.empty()) return {};
  if (!std::ranges::all_of(digits, detail::isDigit))
    return "its port " + troth::detail::quote(digits) + " is no number";
  const std::optional<std::uint64_t> port = detail::parseDecimal(digits);
  if (!port || *port > 65535) return "its port " + troth::detail::quote(digits) + " is larger than 65535";
  return {};
}

// For messages: without what may be a password.
std::string shown(std::string_view text) {
  const std::size_t slashes = text.find("//");
  if (slashes == std::string_view::npos) return troth::detail::quote(text);
  const std::size_t from = slashes + 2, end = std::min(text.find_first_of("/?#", from), text.size());
  const std::size_t at = text.substr(from, end - from).rfind('@');
  if (at == std::string_view::npos) return troth::detail::quote(text);
  return troth::detail::quote(std::string(text.substr(0, from)).append("...").append(text.substr(from + at)));
}

// Appends the path without its dot segments (RFC 3986, section 5.2.4). Each byte is appended and taken off once.
class DotRemover {
public:
  explicit DotRemover(std::string_view path) noexcept : rest_(path) { out_.reserve(path.size()); }

  std::string run() && {
    while (!rest_.empty()) step();
    return std::move(out_);
  }

private:
  std::string_view rest_;
  std::string out_;

  void step() {
    if (rest_.starts_with("../")) {
      rest_.remove_prefix(3);
    } else if (rest_.starts_with("./") || rest_.starts_with("/./")) {
      rest_.remove_prefix(2);
    } else if (rest_ == "/.") {
      rest_ = "/";
    } else if (rest_.starts_with("/../") || rest_ == "/..") {
      rest_ = rest_.size() > 3 ? rest_.substr(3) : std::string_view("/");
      const std::size_t slash = out_.rfind('/');
      out_.resize(slash == std::string::npos ? 0 : slash);
    } else if (rest_ == "." || rest_ == "..") {
      rest_ = {};
    } else {
      const std::size_t length = std::min(rest_.find('/', 1), rest_.size());
      out_.append(rest_.substr(0, length));
      rest_.remove_prefix(length);
    }
  }
};

std::string withoutDots(std::string_view path) { return DotRemover(path).run(); }

// RFC 3986, section 5.2.3.
std::string mergedPath(std::string_view basePath, bool baseHasAuthority, std::string_view path) {
  if (baseHasAuthority && basePath.empty()) return std::string("/").append(path);
  const std::size_t slash = basePath.rfind('/');
  return std::string(basePath.substr(0, slash == std::string_view::npos ? 0 : slash + 1)).append(path);
}

enum class Letters : std::uint8_t { KEEP, LOWER };

// Percent-encodings of unreserved characters decoded, the others in upper case (RFC 3986, sections 6.2.2.1
// and 6.2.2.2).
std::string normalizedText(std::string_view text, Letters letters = Letters::KEEP) {
  std::string out;
  out.reserve(text.size());
  const auto cased = [&](char c) { return letters == Letters::LOWER ? detail::toLower(c) : c; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int byte = detail::percentByte(text, i);
    if (byte < 0) {
      out += cased(text[i]);
      continue;
    }
    if (const auto c = static_cast<char>(byte); isUriCharacter(c, detail::URI_UNRESERVED)) {
      out += cased(c);
    } else {
      detail::appendPercent(out, c);
    }
    i += 2;
  }
  return out;
}

std::string normalizedHost(std::string_view host) {
  if (host.starts_with('[')) {
    if (std::optional<std::string> address = canonicalIpv6(host.substr(1, host.size() - 2))) return *std::move(address);
  }
  return normalizedText(host, Letters::LOWER);
}

} // namespace

/// Cuts and checks. What is wrong is left in `reason`.
struct Url::Parser {
  std::string reason;

  // RFC 3986, appendix B. False if it is no reference.
  bool cut(std::string_view text, Parts& parts) {
    if (text.size() > MAX_LENGTH) return refuse("it has more than " + std::to_string(MAX_LENGTH) + " bytes");
    if (const std::size_t hash = text.find('#'); hash != std::string_view::npos) {
      parts.fragment = text.substr(hash + 1);
      text = text.substr(0, hash);
    }
    if (const std::size_t mark = text.find('?'); mark != std::string_view::npos) {
      parts.query = text.substr(mark + 1);
      text = text.substr(0, mark);
    }
    const std::size_t end = text.find_first_of(":/");
    if (end != std::string_view::npos && text[end] == ':') {
      parts.scheme = text.substr(0, end);
      if (!isScheme(*parts.scheme)) return refuse("it has no scheme in front of its first colon");
      text.remove_prefix(end + 1);
    }
    if (text.starts_with("//")) {
      const std::size_t path = std::min(text.find('/', 2), text.size());
      if (!cutAuthority(text.substr(2, path - 2), parts)) return false;
      text.remove_prefix(path);
    }
    parts.path = text;
    return true;
  }

  bool cutAuthority(std::string_view text, Parts& parts) {
    if (const std::size_t at = text.find('@'); at != std::string_view::npos) {
      parts.userInfo = text.substr(0, at);
      text.remove_prefix(at + 1);
    }
    std::size_t hostEnd = 0;
    if (text.starts_with('[')) {
      hostEnd = text.find(']') + 1; // 0 if there is none
      if (hostEnd == 0) return refuse("its host has a [ without a ]");
      if (hostEnd < text.size() && text[hostEnd] != ':') return refuse("its host has something behind the ]");
    } else {
      hostEnd = std::min(text.find(':'), text.size());
    }
    parts.host = text.substr(0, hostEnd);
    if (hostEnd < text.size()) parts.port = text.substr(hostEnd + 1);
    return true;
  }

  bool checkParts(const Parts& parts) {
    if (parts.userInfo) reason = check("user info", *parts.userInfo, detail::URI_USER_INFO);
    if (reason.empty() && parts.host) reason = checkHost(*parts.host);
    if (reason.empty() && parts.port) reason = checkPort(*parts.port);
    if (reason.empty()) reason = check("path", parts.path, detail::URI_PATH);
    if (reason.empty() && parts.query) reason = check("query", *parts.query, detail::URI_QUERY);
    if (reason.empty() && parts.fragment) reason = check("fragment", *parts.fragment, detail::URI_QUERY);
    // RFC 9110, section 4.2.1: such a URL is invalid.
    if (reason.empty() && parts.scheme && isHttpLike(*parts.scheme) && parts.host.value_or("").empty())
      reason = "it has no host";
    return reason.empty();
  }

  bool parse(std::string_view text, Parts& parts) { return cut(text, parts) && checkParts(parts); }

  bool refuse(std::string why) {
    reason = std::move(why);
    return false;
  }
};

std::optional<std::uint16_t> defaultPort(std::string_view scheme) noexcept {
  if (detail::equalsIgnoringCase(scheme, "http") || detail::equalsIgnoringCase(scheme, "ws")) return 80;
  if (detail::equalsIgnoringCase(scheme, "https") || detail::equalsIgnoringCase(scheme, "wss")) return 443;
  return std::nullopt;
}

std::string normalizePath(std::string_view path) { return withoutDots(normalizedText(path)); }

std::optional<Url> Url::tryParse(std::string_view text, std::string* reason) {
  Parser parser;
  Parts parts;
  if (parser.parse(text, parts)) {
    if (parts.scheme) return compose(parts);
    parser.reason = "it has no scheme";
  }
  if (reason != nullptr) *reason = std::move(parser.reason);
  return std::nullopt;
}

Url Url::parse(std::string_view text, std::source_location where) {
  std::string reason;
  std::optional<Url> url = tryParse(text, &reason);
  if (!url) troth::detail::throwMisuse("Url: " + shown(text) + " is no URL: " + reason, where);
  return *std::move(url);
}

std::string Url::textOf(const Parts& parts) {
  std::string text(*parts.scheme);
  text += ':';
  if (parts.host) {
    text += "//";
    if (parts.userInfo) text.append(*parts.userInfo).append("@");
    text += *parts.host;
    if (parts.port) text.append(":").append(*parts.port);
    if (!parts.path.empty() && parts.path.front() != '/') text += '/';
  } else if (parts.path.starts_with("//")) {
    text += "/."; // it would be taken for an authority
  }
  text += parts.path;
  if (parts.query) text.append("?").append(*parts.query);
  if (parts.fragment) text.append("#").append(*parts.fragment);
  return text;
}

Url Url::compose(const Parts& parts) {
  Url url;
  url.text_ = textOf(parts);
  Marks& marks = url.marks_;
  const auto mark = [](std::size_t at) { return static_cast<std::uint32_t>(at); };
  marks.schemeEnd = mark(parts.scheme->size());
  marks.hostAt = marks.hostEnd = marks.pathAt = marks.schemeEnd + 1;
  if (parts.host) {
    marks.hostAt += 2 + (parts.userInfo ? mark(parts.userInfo->size() + 1) : 0);
    marks.hostEnd = marks.hostAt + mark(parts.host->size());
    marks.pathAt = marks.hostEnd + (parts.port ? mark(parts.port->size() + 1) : 0);
  }
  marks.fragmentAt = mark(url.text_.size() - (parts.fragment ? parts.fragment->size() + 1 : 0));
  marks.queryAt = marks.fragmentAt - (parts.query ? mark(parts.query->size() + 1) : 0);
  return url;
}

Url Url::composeChecked(const Parts& parts, const char* function, const std::source_location& where) {
  Parser parser;
  const std::string text = textOf(parts);
  if (text.size() > MAX_LENGTH) parser.reason = "it has more than " + std::to_string(MAX_LENGTH) + " bytes";
  if (!parser.reason.empty() || !parser.checkParts(parts))
    troth::detail::throwMisuse(std::string(function) + ": " + shown(text) + " is no URL: " + parser.reason, where);
  return compose(parts);
}

Url::Parts Url::parts() const noexcept {
  Parts parts;
  parts.scheme = scheme();
  parts.userInfo = userInfo();
  if (hasAuthority()) parts.host = host();
  if (marks_.pathAt > marks_.hostEnd) parts.port = part(marks_.hostEnd + 1, marks_.pathAt);
  parts.path = path();
  parts.query = query();
  parts.fragment = fragment();
  return parts;
}

bool Url::hasScheme(std::string_view lowerCase) const noexcept {
  return detail::equalsIgnoringCase(scheme(), lowerCase);
}

std::optional<std::string_view> Url::userInfo() const noexcept {
  if (marks_.hostAt <= marks_.schemeEnd + 3) return std::nullopt;
  return part(marks_.schemeEnd + 3, marks_.hostAt - 1);
}

bool Url::hasIpv6Host() const noexcept { return host().starts_with('[') && detail::toLower(host()[1]) != 'v'; }

std::optional<std::uint16_t> Url::port() const noexcept {
  if (marks_.pathAt <= marks_.hostEnd + 1) return std::nullopt;
  return static_cast<std::uint16_t>(*detail::parseDecimal(part(marks_.hostEnd + 1, marks_.pathAt)));
}

std::optional<std::uint16_t> Url::portOrDefault() const noexcept {
  const std::optional<std::uint16_t> written = port();
  return written ? written : defaultPort(scheme());
}

std::optional<std::string_view> Url::query() const noexcept {
  if (marks_.queryAt == marks_.fragmentAt) return std::nullopt;
  return part(marks_.queryAt + 1, marks_.fragmentAt);
}

std::optional<std::string_view> Url::fragment() const noexcept {
  if (marks_.fragmentAt == text_.size()) return std::nullopt;
  return part(marks_.fragmentAt + 1, text_.size());
}

std::string Url::authority() const {
  std::string text(host());
  if (const std::optional<std::uint16_t> number = port(); number && number != defaultPort(scheme()))
    text.append(":").append(std::to_string(*number));
  return text;
}

std::string Url::origin() const {
  if (!isHttpLike(scheme())) return "null";
  const Url normal = normalized();
  return std::string(normal.scheme()).append("://").append(normal.authority());
}

std::string Url::requestTarget() const {
  std::string target(path());
  if (!target.starts_with('/')) target.insert(target.begin(), '/');
  if (const std::optional<std::string_view> text = query()) target.append("?").append(*text);
  return target;
}

Url Url::normalized() const {
  Parts normal = parts();
  const std::string lowerScheme = normalizedText(scheme(), Letters::LOWER);
  const std::string lowerHost = normalizedHost(host());
  const auto optionalText = [](const std::optional<std::string_view>& text) {
    return text ? normalizedText(*text) : std::string();
  };
  const std::string user = optionalText(userInfo()), queryText = optionalText(query()),
                    fragmentText = optionalText(fragment());
  std::string pathText = normalizePath(path());
  if (pathText.empty() && isHttpLike(lowerScheme)) pathText = "/";
  const std::optional<std::uint16_t> number = port();
  const std::string portText = number ? std::to_string(*number) : std::string();

  normal.scheme = lowerScheme;
  if (normal.userInfo) normal.userInfo = user;
  if (normal.host) normal.host = lowerHost;
  if (!number || number == defaultPort(lowerScheme)) {
    normal.port.reset();
  } else {
    normal.port = portText;
  }
  normal.path = pathText;
  if (normal.query) normal.query = queryText;
  if (normal.fragment) normal.fragment = fragmentText;
  return compose(normal);
}

// RFC 3986, section 5.2.2.
std::optional<Url> Url::tryResolve(std::string_view reference, std::string* reason) const {
  Parser parser;
  Parts target;
  if (!parser.parse(reference, target)) {
    if (reason != nullptr) *reason = std::move(parser.reason);
    return std::nullopt;
  }
  const Parts base = parts();
  std::string merged;
  if (target.scheme || target.host) {
    merged = withoutDots(target.path);
  } else {
    if (target.path.empty()) {
      merged = base.path;
      if (!target.query) target.query = base.query;
    } else if (target.path.front() == '/') {
      merged = withoutDots(target.path);
    } else {
      merged = withoutDots(mergedPath(base.path, base.host.has_value(), target.path));
    }
    target.userInfo = base.userInfo;
    target.host = base.host;
    target.port = base.port;
  }
  if (!target.scheme) target.scheme = base.scheme;
  target.path = merged;
  // A reference can be "//", which is no URL of http; and two texts of the greatest length make a longer one.
  if (!parser.checkParts(target) || textOf(target).size() > MAX_LENGTH) {
    if (parser.reason.empty()) parser.reason = "the result has more than " + std::to_string(MAX_LENGTH) + " bytes";
    if (reason != nullptr) *reason = std::move(parser.reason);
    return std::nullopt;
  }
  return compose(target);
}

Url Url::resolve(std::string_view reference, std::source_location where) const {
  std::string reason;
  std::optional<Url> url = tryResolve(reference, &reason);
  if (!url) troth::detail::throwMisuse("Url: " + shown(reference) + " is no reference to a URL: " + reason, where);
  return *std::move(url);
}

Url Url::withPath(std::string_view path, std::source_location where) const {
  Parts changed = parts();
  changed.path = path;
  return composeChecked(changed, "Url::withPath", where);
}

Url Url::withQuery(std::string_view query, std::source_location where) const {
  Parts changed = parts();
  changed.query = query;
  return composeChecked(changed, "Url::withQuery", where);
}

Url Url::withoutQuery() const {
  Parts changed = parts();
  changed.query.reset();
  return compose(changed);
}

Url Url::withoutFragment() const {
  Parts changed = parts();
  changed.fragment.reset();
  return compose(changed);
}

Url Url::withoutUserInfo() const {
  Parts changed = parts();
  changed.userInfo.reset();
  return compose(changed);
}

} // namespace http
} // namespace v0
} // namespace troth
