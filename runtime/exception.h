// SPDX-License-Identifier: MIT
// Exception: the one error value of troth: a kind, a description, a place, an optional error code.
#pragma once

#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace troth {
inline namespace v0 {

namespace detail {

class Trace;
struct ExceptionData;

/// A nullable reference to the shared, immutable body of an Exception. 8 bytes; null means "no error",
/// so that a result that succeeded costs one word.
class ExceptionRef {
public:
  ExceptionRef() noexcept = default;
  explicit ExceptionRef(ExceptionData* owned) noexcept : data_(owned) {}
  ExceptionRef(const ExceptionRef& other) noexcept : data_(other.data_) {
    if (data_ != nullptr) addRef();
  }
  ExceptionRef(ExceptionRef&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  ExceptionRef& operator=(ExceptionRef other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~ExceptionRef() {
    if (data_ != nullptr) release();
  }

  explicit operator bool() const noexcept { return data_ != nullptr; }
  ExceptionData* get() const noexcept { return data_; }

  bool hasTrace() const noexcept;
  /// Gives the exception a trace; one that others share is copied first.
  void setTrace(const Trace& trace) noexcept;

  /// Throws the original object if a foreign exception was captured, else a troth::Exception.
  [[noreturn]] void rethrow() const;
  /// The same from a co_await: should the exception end the coroutine, Exception::fromCurrent() knows it again.
  [[noreturn]] void rethrowFromAwait() const;

private:
  ExceptionData* data_ = nullptr;

  void addRef() const noexcept;
  void release() noexcept;
};

} // namespace detail

/// Why something failed, and what a caller may do about it.
///
/// A cheap-to-copy value: copies share one immutable body with an atomic count, so an Exception may be
/// passed between threads. It is what `catch_` handlers receive, whatever was thrown; a foreign
/// exception (`std::out_of_range`, …) travels inside and is what `wait()` and `co_await` throw again.
class Exception : public std::exception {
public:
  /// What a caller may do. (The four kinds are KJ's.)
  enum class Kind : std::uint8_t {
    FAILED,       ///< A bug or bad input: trying again gives the same error.
    OVERLOADED,   ///< Short of memory, descriptors or time: try again later.
    DISCONNECTED, ///< The connection or peer is gone: connect again, or try elsewhere.
    UNIMPLEMENTED ///< The platform, library or peer cannot do this.
  };

  /// Makes an exception. Never throws: without memory it becomes a fixed OVERLOADED "out of memory".
  ///
  /// `code` is kept for `code()`; it does not appear in the text by itself.
  Exception(Kind kind, std::string_view description, std::error_code code = {},
            std::source_location where = std::source_location::current()) noexcept;

  // Copied, never moved from: a moved-from exception would have nothing to say.
  Exception(const Exception&) noexcept = default;
  Exception& operator=(const Exception&) noexcept = default;
  ~Exception() override = default;

  /// The exception being handled: call inside a `catch` block. A troth::Exception gives itself;
  /// `std::bad_alloc` is OVERLOADED, `std::system_error` gets the kind of its code, and anything else
  /// is FAILED; all of these keep the original object.
  static Exception fromCurrent() noexcept;

  /// As fromCurrent(), for an exception held elsewhere. `exception` must not be null.
  static Exception from(const std::exception_ptr& exception) noexcept;

  /// The kind that fits `code`: lost connections are DISCONNECTED, exhausted resources and time-outs
  /// OVERLOADED, missing features UNIMPLEMENTED, everything else FAILED.
  static Kind kindOf(const std::error_code& code) noexcept;

  Kind kind() const noexcept;
  /// What went wrong, with the operation and its subject. Valid as long as any copy lives.
  std::string_view description() const noexcept;
  /// Where the exception was made, or the library was misused. For a foreign exception: unknown.
  const std::source_location& where() const noexcept;
  /// The error of the system or of libuv behind this, or an empty code.
  const std::error_code& code() const noexcept;
  /// The foreign exception that was captured, or null.
  std::exception_ptr original() const noexcept;

  /// What waited for the operation that failed, one step a line: continuations, joins and coroutines with their
  /// places, up to the wait() or task at the end. Empty if the failure met nobody who waited.
  std::string trace() const;

  /// The same error with `context` and ": " before its description; kind, code and place are kept,
  /// the original is not (its type says nothing of the context). Without memory for the text it is the same error.
  Exception withContext(std::string_view context) const noexcept;

  /// Throws the original object if there is one, else this. What is destroyed while this flies, such as a
  /// PromiseFulfiller, passes it on; of an original, and of what is thrown with `throw`, it cannot know.
  [[noreturn]] void rethrow() const { ref_.rethrow(); }

  /// "description [KIND, file:line]".
  const char* what() const noexcept override;

  /// For the library: the shared body.
  explicit Exception(detail::ExceptionRef ref) noexcept : ref_(std::move(ref)) {}
  const detail::ExceptionRef& ref() const noexcept { return ref_; }
  detail::ExceptionRef takeRef() && noexcept { return std::move(ref_); }

private:
  detail::ExceptionRef ref_; // never null
};

/// "FAILED", "OVERLOADED", …
std::string_view kindName(Exception::Kind kind) noexcept;

namespace detail {

/// The OVERLOADED exception that stands for one that there was no memory for.
ExceptionRef outOfMemory() noexcept;

/// The exception that is unwinding the stack of this thread, if the library threw it; else null.
ExceptionRef exceptionInFlight() noexcept;

/// Throws a FAILED exception that says how the caller misused the library.
[[noreturn]] void throwMisuse(std::string_view what, std::source_location where = std::source_location::current());

/// Reports a broken invariant on standard error and aborts: for what cannot be thrown, as in destructors.
[[noreturn]] void fatal(std::string_view what, std::source_location where = std::source_location::current()) noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
