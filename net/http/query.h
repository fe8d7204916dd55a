// SPDX-License-Identifier: MIT
// Query: the names and values of a query or a form.
#pragma once

#include <troth/net/http/pool_allocator_detail.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

/// How much a query or a form may have.
struct QueryLimits {
  std::size_t maxBytes = 64 * 1024; // of the text that is parsed
  std::size_t maxPairs = 1000;
};

/// The names and values of "a=1&b=2&a=3", decoded, in their order (application/x-www-form-urlencoded: "+" is a space).
///
///     const Query query = Query::parse(request.query());
///     const std::string_view name = query.valueOr("name", "world");
///
/// A name without "=" has the empty value; empty pairs, as in "a=1&&b=2", are none. Names and values may hold any byte.
/// Looking up is linear. Views are valid until the object is changed or destroyed. The memory comes from the thread's
/// pool; it belongs to one thread at a time.
class Query {
public:
  struct Pair {
    std::string_view name;
    std::string_view value;
  };

  Query() noexcept = default;

  /// Parses a query, without its "?". Throws HttpError: 400 if a "%" is not followed by two hexadecimal digits or there
  /// are too many pairs, 414 if it is too long.
  static Query parse(std::string_view text, const QueryLimits& limits = {},
                     std::source_location where = std::source_location::current());
  /// Parses the body of a form. The same; but what is too long is answered with 413. (readForm() reads one.)
  static Query parseForm(std::string_view text, const QueryLimits& limits = {},
                         std::source_location where = std::source_location::current());

  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }
  /// The pair at `index`, which is less than size().
  Pair operator[](std::size_t index) const noexcept {
    const Entry& entry = entries_[index];
    return {std::string_view(text_).substr(entry.at, entry.nameLength),
            std::string_view(text_).substr(entry.at + entry.nameLength, entry.valueLength)};
  }

  /// The first value of this name, which is compared byte by byte; nothing if there is none.
  std::optional<std::string_view> get(std::string_view name) const noexcept;
  bool has(std::string_view name) const noexcept { return get(name).has_value(); }
  /// The first value of this name, or `otherwise`, which must outlive what it is used for.
  std::string_view valueOr(std::string_view name, std::string_view otherwise) const noexcept {
    return get(name).value_or(otherwise);
  }
  /// All values of this name, in their order.
  std::vector<std::string_view> getAll(std::string_view name) const;

  /// Adds a pair, behind the others. They are plain text, which toString() encodes. Throws FAILED if it becomes larger
  /// than 4 GiB.
  Query& add(std::string_view name, std::string_view value,
             std::source_location where = std::source_location::current());
  /// Makes `value` the only one of this name.
  Query& set(std::string_view name, std::string_view value,
             std::source_location where = std::source_location::current());
  /// Removes all pairs of this name; returns how many there were.
  std::size_t remove(std::string_view name);

  /// "a=1&b=2", encoded, for Url::withQuery() or the body of a form.
  std::string toString() const;

  class Iterator {
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Pair;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Pair;

    Iterator() noexcept = default;
    Pair operator*() const noexcept { return (*query_)[index_]; }
    Iterator& operator++() noexcept {
      ++index_;
      return *this;
    }
    Iterator operator++(int) noexcept { return Iterator(*query_, index_++); }
    friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.index_ == b.index_; }

  private:
    friend class Query;
    Iterator(const Query& query, std::size_t index) noexcept : query_(&query), index_(index) {}

    const Query* query_ = nullptr;
    std::size_t index_ = 0;
  };
  Iterator begin() const noexcept { return Iterator(*this, 0); }
  Iterator end() const noexcept { return Iterator(*this, size()); }

private:
  // The value stands behind the name.
  struct Entry {
    std::uint32_t at;
    std::uint32_t nameLength;
    std::uint32_t valueLength;
  };

  detail::PoolString text_; // decoded
  detail::PoolVector<Entry> entries_;

  void parsePairs(std::string_view text, const QueryLimits& limits, const std::source_location& where);
  std::uint32_t appendDecoded(std::string_view text, const std::source_location& where);
};

} // namespace http
} // namespace v0
} // namespace troth
