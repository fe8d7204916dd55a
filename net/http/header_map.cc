// SPDX-License-Identifier: MIT
// Looking for fields; keeping them in the form in which they are sent.
#include <troth/net/http/header_map.h>

#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

char* copyTo(char* at, std::string_view text) noexcept {
  if (!text.empty()) std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

[[noreturn, gnu::cold]] void refuseName(std::string_view name, const std::source_location& where) {
  troth::detail::throwMisuse("HTTP: " + troth::detail::quote(name) + " is no name of a header field", where);
}

[[noreturn, gnu::cold]] void refuseValue(std::string_view name, std::string_view value,
                                         const std::source_location& where) {
  troth::detail::throwMisuse("HTTP: the header field " + std::string(name) + " cannot have the value " +
                                 troth::detail::quote(value) + ", which holds a control character",
                             where);
}

[[noreturn, gnu::cold]] void refuseSize(std::string_view name, const std::source_location& where) {
  troth::detail::throwMisuse("HTTP: the header field " + troth::detail::quote(name) + " is too large", where);
}

} // namespace

std::optional<std::string_view> HeaderFields::get(HeaderId id) const noexcept {
  if (!has(id)) return std::nullopt;
  for (std::size_t i = 0; i < count_; ++i)
    if (entries_[i].id == static_cast<unsigned>(id)) return (*this)[i].value;
  return std::nullopt;
}

std::optional<std::string_view> HeaderFields::get(std::string_view name) const noexcept {
  if (const HeaderId id = findHeader(name); id != HeaderId::OTHER) return get(id);
  for (std::size_t i = 0; i < count_; ++i)
    if (detail::equalsIgnoringCase((*this)[i].name, name)) return (*this)[i].value;
  return std::nullopt;
}

std::size_t HeaderFields::count(HeaderId id) const noexcept {
  if (!has(id)) return 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < count_; ++i) count += entries_[i].id == static_cast<unsigned>(id) ? 1 : 0;
  return count;
}

bool HeaderFields::hasToken(HeaderId id, std::string_view token) const noexcept {
  if (!has(id)) return false;
  for (std::size_t i = 0; i < count_; ++i) {
    if (entries_[i].id != static_cast<unsigned>(id)) continue;
    std::string_view list = (*this)[i].value;
    while (const std::optional<std::string_view> element = detail::nextElement(list))
      if (detail::equalsIgnoringCase(*element, token)) return true;
  }
  return false;
}

std::string HeaderFields::combined(HeaderId id) const {
  std::string all;
  bool first = true;
  for (const HeaderField field : *this) {
    if (field.id != id) continue;
    if (!std::exchange(first, false)) all += ", ";
    all += field.value;
  }
  return all;
}

HeaderMap::HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields,
                     std::source_location where) {
  for (const auto& [name, value] : fields) add(name, value, where);
}

HeaderMap::HeaderMap(const HeaderFields& fields) { addAll(fields); }

HeaderMap& HeaderMap::set(HeaderId id, std::string_view value, std::source_location where) {
  // Added first: `value` may be a part of what is removed, and what is refused changes nothing.
  const bool replaces = has(id);
  append(id, headerName(id), value, where);
  if (replaces) [[unlikely]] {
    const std::size_t last = entries_.size() - 1;
    std::size_t index = 0;
    removeIf([&](const HeaderField& field) { return index++ != last && field.id == id; });
  }
  return *this;
}

HeaderMap& HeaderMap::set(std::string_view name, std::string_view value, std::source_location where) {
  if (const HeaderId id = findHeader(name); id != HeaderId::OTHER) return set(id, value, where);
  append(HeaderId::OTHER, name, value, where);
  const std::size_t last = entries_.size() - 1;
  std::size_t index = 0;
  removeIf([&](const HeaderField& field) {
    return index++ != last && detail::equalsIgnoringCase(field.name, fields()[entries_.size() - 1].name);
  });
  return *this;
}

HeaderMap& HeaderMap::add(HeaderId id, std::string_view value, std::source_location where) {
  append(id, headerName(id), value, where);
  return *this;
}

HeaderMap& HeaderMap::add(std::string_view name, std::string_view value, std::source_location where) {
  append(findHeader(name), name, value, where);
  return *this;
}

HeaderMap& HeaderMap::addAll(const HeaderFields& fields) {
  if (fields.empty()) return *this;
  const char* const first = fields[0].name.data();
  if (first >= text_.data() && first < text_.data() + text_.size()) {
    const HeaderMap copy(fields); // a part of this map, which moves when the map grows
    return addAll(copy.fields());
  }
  for (const HeaderField field : fields) add(field.name, field.value);
  return *this;
}

void HeaderMap::append(HeaderId id, std::string_view name, std::string_view value, const std::source_location& where) {
  if (id == HeaderId::OTHER && !detail::isToken(name)) refuseName(name, where);
  value = detail::trimmed(value);
  if (!detail::isFieldValue(value)) refuseValue(name, value, where);
  const std::size_t start = text_.size(), length = name.size() + 2 + value.size() + 2;
  if (value.size() > detail::LONGEST_VALUE || length > std::numeric_limits<std::uint32_t>::max() - start)
    refuseSize(name, where);
  if (entries_.size() == entries_.capacity()) [[unlikely]]
    entries_.reserve(2 * entries_.size() + 4);
  detail::ByteBuffer old; // which `name` and `value` may be a part of
  if (text_.capacityLeft() < length) [[unlikely]] {
    detail::ByteBuffer grown;
    grown.room(start + std::max(length, start));
    grown.append(text_.text());
    old.swap(text_);
    text_.swap(grown);
  }
  char* at = text_.room(length);
  at = copyTo(at, name);
  *at++ = ':';
  *at++ = ' ';
  at = copyTo(at, value);
  *at++ = '\r';
  *at++ = '\n';
  text_.added(length);
  entries_.push_back({static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(name.size()),
                      static_cast<std::uint32_t>(start + name.size() + 2),
                      static_cast<std::uint32_t>(value.size()) & 0xffffffu, static_cast<std::uint8_t>(id)});
  present_ |= detail::headerBit(id);
}

std::size_t HeaderMap::remove(HeaderId id) noexcept {
  if (!has(id)) return 0;
  return removeIf([&](const HeaderField& field) { return field.id == id; });
}

std::size_t HeaderMap::remove(std::string_view name) {
  if (const HeaderId id = findHeader(name); id != HeaderId::OTHER) return remove(id);
  const std::string kept(name); // it may be a field's own
  return removeIf([&](const HeaderField& field) { return detail::equalsIgnoringCase(field.name, kept); });
}

template <typename Matches>
std::size_t HeaderMap::removeIf(Matches&& matches) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < entries_.size();) {
    if (matches(fields()[i])) {
      erase(i);
      ++count;
    } else {
      ++i;
    }
  }
  return count;
}

void HeaderMap::erase(std::size_t index) noexcept {
  const detail::HeaderEntry gone = entries_[index];
  const std::uint32_t length = gone.nameLength + gone.valueLength + 4;
  text_.erase(gone.nameAt, length);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
  present_ = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (i >= index) {
      entries_[i].nameAt -= length;
      entries_[i].valueAt -= length;
    }
    present_ |= detail::headerBit(static_cast<HeaderId>(entries_[i].id));
  }
}

} // namespace http
} // namespace v0
} // namespace troth
