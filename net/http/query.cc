// SPDX-License-Identifier: MIT
// Decoding and encoding of application/x-www-form-urlencoded.
#include <troth/net/http/query.h>

#include <troth/net/http/http_error.h>
#include <troth/net/http/uri_text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <limits>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

constexpr std::size_t MOST_BYTES = std::numeric_limits<std::uint32_t>::max();

[[gnu::cold]] std::string tooLong(const char* what, std::size_t size, std::size_t limit) {
  return std::string(what) + " has " + std::to_string(size) + " bytes; " + std::to_string(limit) + " are allowed";
}

// What forms leave as it is (the URL Standard's application/x-www-form-urlencoded percent-encode set): a little less
// than RFC 3986 would.
bool staysInForm(char c) noexcept {
  return c != '~' && (c == '*' || detail::isUriCharacter(c, detail::URI_UNRESERVED));
}

void appendEncoded(std::string& to, std::string_view text) {
  for (char c : text) {
    if (staysInForm(c)) {
      to += c;
    } else if (c == ' ') {
      to += '+';
    } else {
      detail::appendPercent(to, c);
    }
  }
}

} // namespace

Query Query::parse(std::string_view text, const QueryLimits& limits, std::source_location where) {
  if (text.size() > std::min(limits.maxBytes, MOST_BYTES))
    throw HttpError(414, tooLong("the query", text.size(), limits.maxBytes), where);
  Query query;
  query.parsePairs(text, limits, where);
  return query;
}

Query Query::parseForm(std::string_view text, const QueryLimits& limits, std::source_location where) {
  if (text.size() > std::min(limits.maxBytes, MOST_BYTES))
    throw HttpError(413, tooLong("the form", text.size(), limits.maxBytes), where);
  Query query;
  query.parsePairs(text, limits, where);
  return query;
}

void Query::parsePairs(std::string_view text, const QueryLimits& limits, const std::source_location& where) {
  text_.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (pair.empty()) continue;
    if (entries_.size() == limits.maxPairs)
      throw HttpError(400, "a query or form has more than " + std::to_string(limits.maxPairs) + " pairs", where);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    Entry entry{static_cast<std::uint32_t>(text_.size()), 0, 0};
    entry.nameLength = appendDecoded(pair.substr(0, equals), where);
    entry.valueLength = appendDecoded(pair.substr(std::min(equals + 1, pair.size())), where);
    entries_.push_back(entry);
  }
}

std::uint32_t Query::appendDecoded(std::string_view text, const std::source_location& where) {
  const std::size_t start = text_.size();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      text_ += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    const int byte = detail::percentByte(text, i);
    if (byte < 0)
      throw HttpError(
          400, troth::detail::quote(text) + " in a query or form has a % without two hexadecimal digits behind it",
          where);
    text_ += static_cast<char>(byte);
    i += 2;
  }
  return static_cast<std::uint32_t>(text_.size() - start);
}

std::optional<std::string_view> Query::get(std::string_view name) const noexcept {
  for (const Pair pair : *this)
    if (pair.name == name) return pair.value;
  return std::nullopt;
}

std::vector<std::string_view> Query::getAll(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const Pair pair : *this)
    if (pair.name == name) values.push_back(pair.value);
  return values;
}

Query& Query::add(std::string_view name, std::string_view value, std::source_location where) {
  if (name.size() > MOST_BYTES - text_.size() || value.size() > MOST_BYTES - text_.size() - name.size())
    troth::detail::throwMisuse("Query: the pair " + troth::detail::quote(name) + " is too large", where);
  const Entry entry{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(name.size()),
                    static_cast<std::uint32_t>(value.size())};
  // They may be a part of this query, whose text moves when it grows.
  detail::PoolString both;
  both.reserve(name.size() + value.size());
  both.append(name).append(value);
  entries_.reserve(entries_.size() == entries_.capacity() ? 2 * entries_.size() + 8 : 0);
  text_ += both;
  entries_.push_back(entry);
  return *this;
}

Query& Query::set(std::string_view name, std::string_view value, std::source_location where) {
  Query changed;
  for (const Pair pair : *this)
    if (pair.name != name) changed.add(pair.name, pair.value, where);
  changed.add(name, value, where);
  *this = std::move(changed);
  return *this;
}

std::size_t Query::remove(std::string_view name) {
  Query left;
  for (const Pair pair : *this)
    if (pair.name != name) left.add(pair.name, pair.value);
  const std::size_t count = size() - left.size();
  *this = std::move(left);
  return count;
}

std::string Query::toString() const {
  std::string text;
  text.reserve(text_.size() + 2 * size());
  for (const Pair pair : *this) {
    if (!text.empty()) text += '&';
    appendEncoded(text, pair.name);
    text += '=';
    appendEncoded(text, pair.value);
  }
  return text;
}

} // namespace http
} // namespace v0
} // namespace troth
