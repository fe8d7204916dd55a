// SPDX-License-Identifier: MIT
// Result<T>: a value, or the Exception that came instead of it.
#pragma once

#include <troth/runtime/exception.h>

#include <optional>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

/// A T or an Exception: what `co_await std::move(promise).asResult()` gives, for code that handles failures without
/// catching them. Its functions are those of C++23's `std::expected<T, Exception>`.
template <typename T>
class [[nodiscard]] Result {
public:
  using value_type = T; // NOLINT: the standard library's name
  using error_type = Exception;

  Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>) : value_(std::move(value)) {} // NOLINT: implicit
  Result(Exception error) noexcept : error_(std::move(error).takeRef()) {}                        // NOLINT: implicit

  bool has_value() const noexcept { return value_.has_value(); } // NOLINT: the standard library's name
  explicit operator bool() const noexcept { return has_value(); }

  /// The value; throws the exception (in its original type) if there is none.
  T& value() & { return checked(), *value_; }
  const T& value() const& { return checked(), *value_; }
  T&& value() && { return checked(), std::move(*value_); }

  /// The value, which must be there.
  T& operator*() & noexcept { return *value_; }
  const T& operator*() const& noexcept { return *value_; }
  T&& operator*() && noexcept { return std::move(*value_); }
  T* operator->() noexcept { return &*value_; }
  const T* operator->() const noexcept { return &*value_; }

  template <typename U>
  T value_or(U&& other) const& { // NOLINT: the standard library's name
    return has_value() ? *value_ : static_cast<T>(std::forward<U>(other));
  }
  template <typename U>
  T value_or(U&& other) && { // NOLINT: the standard library's name
    return has_value() ? std::move(*value_) : static_cast<T>(std::forward<U>(other));
  }

  /// The exception. Throws FAILED if there is a value.
  Exception error() const {
    if (!error_) detail::throwMisuse("Result::error() was asked of a result that has a value");
    return Exception(error_);
  }

private:
  std::optional<T> value_;
  detail::ExceptionRef error_;

  void checked() const {
    if (!has_value()) error_.rethrow();
  }
};

template <>
class [[nodiscard]] Result<void> {
public:
  using value_type = void; // NOLINT: the standard library's name
  using error_type = Exception;

  Result() noexcept = default;
  Result(Exception error) noexcept : error_(std::move(error).takeRef()) {} // NOLINT: implicit

  bool has_value() const noexcept { return !error_; } // NOLINT: the standard library's name
  explicit operator bool() const noexcept { return has_value(); }

  /// Throws the exception if there is one.
  void value() const {
    if (error_) error_.rethrow();
  }

  Exception error() const {
    if (!error_) detail::throwMisuse("Result::error() was asked of a result that succeeded");
    return Exception(error_);
  }

private:
  detail::ExceptionRef error_;
};

} // namespace v0
} // namespace troth
