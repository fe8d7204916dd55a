// SPDX-License-Identifier: MIT
// HeaderFields and HeaderMap: the fields of a head, to look at and to make.
#pragma once

#include <troth/net/http/byte_buffer_detail.h>
#include <troth/net/http/header_name.h>
#include <troth/net/http/pool_allocator_detail.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

/// One field of a head.
struct HeaderField {
  HeaderId id;            // OTHER if it is none of the common ones
  std::string_view name;  // as it was sent
  std::string_view value; // without white space around it
};

namespace detail {

/// The bit that stands for a common field; 0 for OTHER.
constexpr std::uint64_t headerBit(HeaderId id) noexcept {
  return id == HeaderId::OTHER ? 0 : std::uint64_t(1) << static_cast<unsigned>(id);
}

/// Where a field stands in the text of its head.
struct HeaderEntry {
  std::uint32_t nameAt;
  std::uint32_t nameLength;
  std::uint32_t valueAt;
  std::uint32_t valueLength : 24;
  std::uint32_t id : 8;
};
inline constexpr std::size_t LONGEST_VALUE = (1u << 24) - 1;

} // namespace detail

/// The fields of a head in their order, to look at: a view, valid as long as the head that it was asked of. Names are
/// found in any case. A value is as it was sent: whatever bytes RFC 9110, section 5.5 lets pass, those from 0x80 among
/// them. 32 bytes; pass it by value.
class HeaderFields {
public:
  HeaderFields() noexcept = default;

  std::size_t size() const noexcept { return count_; }
  bool empty() const noexcept { return count_ == 0; }

  /// The field at `index`, which is less than size().
  HeaderField operator[](std::size_t index) const noexcept {
    const detail::HeaderEntry& entry = entries_[index];
    return {static_cast<HeaderId>(entry.id), std::string_view(text_ + entry.nameAt, entry.nameLength),
            std::string_view(text_ + entry.valueAt, entry.valueLength)};
  }

  /// Whether there is such a field. Of the common ones this looks at one bit.
  bool has(HeaderId id) const noexcept { return (present_ & detail::headerBit(id)) != 0; }
  bool has(std::string_view name) const noexcept { return get(name).has_value(); }

  /// The value of the first field of this name; nothing if there is none. (HeaderId::OTHER has none.)
  std::optional<std::string_view> get(HeaderId id) const noexcept;
  std::optional<std::string_view> get(std::string_view name) const noexcept;

  /// The value of the first field of this name, or `otherwise`, which must outlive what it is used for.
  std::string_view valueOr(HeaderId id, std::string_view otherwise) const noexcept {
    return get(id).value_or(otherwise);
  }

  /// How many fields have this name.
  std::size_t count(HeaderId id) const noexcept;

  /// Whether `token` is an element, in any case, of the comma-separated list that the fields of this name make together
  /// (RFC 9110, section 5.3): `hasToken(HeaderId::CONNECTION, "close")`.
  bool hasToken(HeaderId id, std::string_view token) const noexcept;

  /// The values of all fields of this name, joined by ", " (RFC 9110, section 5.3); empty if there is none. Not for
  /// Set-Cookie, whose values hold commas.
  std::string combined(HeaderId id) const;

  class Iterator {
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = HeaderField;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = HeaderField;

    Iterator() noexcept = default;
    HeaderField operator*() const noexcept { return (*fields_)[index_]; }
    Iterator& operator++() noexcept {
      ++index_;
      return *this;
    }
    Iterator operator++(int) noexcept { return Iterator(*fields_, index_++); }
    friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.index_ == b.index_; }

  private:
    friend class HeaderFields;
    Iterator(const HeaderFields& fields, std::size_t index) noexcept : fields_(&fields), index_(index) {}

    const HeaderFields* fields_ = nullptr;
    std::size_t index_ = 0;
  };
  /// Valid as long as this object.
  Iterator begin() const noexcept { return Iterator(*this, 0); }
  Iterator end() const noexcept { return Iterator(*this, count_); }

  /// For implementers: the entries of `text`; `present` has the bit of each common field that is among them.
  HeaderFields(const char* text, const detail::HeaderEntry* entries, std::size_t count, std::uint64_t present) noexcept
      : text_(text), entries_(entries), count_(count), present_(present) {}

private:
  const char* text_ = nullptr;
  const detail::HeaderEntry* entries_ = nullptr;
  std::size_t count_ = 0;
  std::uint64_t present_ = 0;
};

/// The fields of a head that is to be sent. It owns its text, which is kept as it goes over the wire.
///
///     HeaderMap headers;
///     headers.set(HeaderId::CONTENT_TYPE, "text/html");
///     headers.add("X-Trace", id);
///
/// What would break the head is refused when it is set, so nobody can put a field, or a whole response, into another
/// one's value: names are tokens, and values hold neither CR, LF, NUL nor other control characters (RFC 9110, sections
/// 5.1 and 5.5); FAILED names what was wrong. White space around a value is taken off. A value has at most 16 MiB, the
/// whole at most 4 GiB. The memory comes from the thread's pool; it belongs to one thread at a time.
class HeaderMap {
public:
  HeaderMap() noexcept = default;
  /// With these fields. (Not within a co_await: g++ 12 gets a braced list there wrong.)
  HeaderMap(std::initializer_list<std::pair<std::string_view, std::string_view>> fields,
            std::source_location where = std::source_location::current());
  /// A copy of these fields.
  explicit HeaderMap(const HeaderFields& fields);
  HeaderMap(const HeaderMap&) = default;
  /// What is moved from is empty.
  HeaderMap(HeaderMap&& other) noexcept
      : text_(std::move(other.text_)),
        entries_(std::exchange(other.entries_, {})),
        present_(std::exchange(other.present_, 0)) {}
  HeaderMap& operator=(const HeaderMap&) = default;
  HeaderMap& operator=(HeaderMap&& other) noexcept {
    HeaderMap moved(std::move(other));
    text_.swap(moved.text_);
    entries_.swap(moved.entries_);
    std::swap(present_, moved.present_);
    return *this;
  }

  /// Makes `value` the only one of this name: others are removed.
  HeaderMap& set(HeaderId id, std::string_view value, std::source_location where = std::source_location::current());
  HeaderMap& set(std::string_view name, std::string_view value,
                 std::source_location where = std::source_location::current());

  /// Adds one more field, behind the others.
  HeaderMap& add(HeaderId id, std::string_view value, std::source_location where = std::source_location::current());
  HeaderMap& add(std::string_view name, std::string_view value,
                 std::source_location where = std::source_location::current());

  /// Adds copies of `fields`, which may be a part of this map.
  HeaderMap& addAll(const HeaderFields& fields);

  /// Removes all fields of this name; returns how many there were.
  std::size_t remove(HeaderId id) noexcept;
  std::size_t remove(std::string_view name);
  /// Removes all. The memory stays for the next ones, if it is not much.
  void clear() noexcept {
    text_.clearTo(KEPT_TEXT);
    entries_.clear();
    if (entries_.capacity() > KEPT_ENTRIES) [[unlikely]]
      entries_.shrink_to_fit();
    present_ = 0;
  }

  /// The fields, valid until the map is changed or destroyed.
  HeaderFields fields() const noexcept { return {text_.data(), entries_.data(), entries_.size(), present_}; }
  operator HeaderFields() const noexcept { return fields(); } // NOLINT: a map is a head's fields

  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }
  bool has(HeaderId id) const noexcept { return fields().has(id); }
  bool has(std::string_view name) const noexcept { return fields().has(name); }
  std::optional<std::string_view> get(HeaderId id) const noexcept { return fields().get(id); }
  std::optional<std::string_view> get(std::string_view name) const noexcept { return fields().get(name); }

  /// As it is sent: "Name: value" and CRLF for each field, valid until the map is changed or destroyed.
  std::string_view text() const noexcept { return text_.text(); }

private:
  // What a map keeps that is used again.
  static constexpr std::size_t KEPT_TEXT = 4096, KEPT_ENTRIES = 128;

  detail::ByteBuffer text_;
  detail::PoolVector<detail::HeaderEntry> entries_;
  std::uint64_t present_ = 0;

  void append(HeaderId id, std::string_view name, std::string_view value, const std::source_location& where);
  template <typename Matches>
  std::size_t removeIf(Matches&& matches) noexcept;
  void erase(std::size_t index) noexcept;
};

} // namespace http
} // namespace v0
} // namespace troth
