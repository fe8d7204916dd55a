// SPDX-License-Identifier: MIT
// TROTH_REQUIRE and its family: checks that throw an Exception with the condition, the values and the place.
#pragma once

#include <troth/runtime/exception.h>
#include <troth/runtime/require_detail.h>

#include <source_location>
#include <string_view>

// Which one?
//
//   TROTH_REQUIRE(condition, values…)    the caller's mistake, or bad input
//   TROTH_ASSERT(condition, values…)     our own mistake: what the code around it guarantees
//   TROTH_DASSERT(condition, values…)    the same, too costly for release builds
//   TROTH_FAIL(values…)                  a place that must not be reached
//   TROTH_EXCEPTION(cause, values…)      an Exception of any kind, to throw or to reject a promise with
//   TROTH_SYSCALL(call, values…)         a call of the system that reports by -1 and errno
//
//     TROTH_REQUIRE(index < size(), "no such row", name);
//
// throws an Exception of kind FAILED from this line:
//
//     requirement failed: index < size() (7 < 3); no such row; name = "people" [FAILED, table.cc:12]
//
// The condition is anything that an `if` takes, and is evaluated once. If it is a single comparison, the message shows
// both sides (pointers to char as addresses if both sides are pointers). The preprocessor takes a comma outside of
// parentheses for the end of the condition: write `TROTH_REQUIRE((std::is_same_v<A, B>))`. An assignment, or a
// comparison of a comparison's result, needs such parentheses too. Compare pointers with `nullptr`, not with `NULL` or
// `0`.
//
// The values are evaluated only on failure, from left to right. Each is shown with the text of its expression; a string
// literal stands for itself. What can be shown: bool, numbers, characters, enumerations, pointers, text (also `char*`),
// `std::error_code`, exceptions, durations, ranges of bytes in one piece, optionals of these, and whatever has a member
// `toString()` or a function `toString(x)` in its namespace. Anything else does not compile. Text and bytes are
// shortened to a few hundred characters.
//
// A check that passes costs its condition and one branch; all else is out of line. Checks are on in every build. They
// throw like any `throw`: a coroutine or continuation rejects its promise, a `noexcept` function ends the program.
// They may be used in `constexpr` functions.

/// Throws a FAILED Exception, "requirement failed: …", unless `condition` holds. For what the caller has to see to.
#define TROTH_REQUIRE(condition, ...)                                                                                  \
  TROTH_DETAIL_CHECK(requirementFailed, condition, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__)

/// Throws a FAILED Exception, "assertion failed: …", unless `condition` holds. For what cannot be, short of a bug here.
#define TROTH_ASSERT(condition, ...)                                                                                   \
  TROTH_DETAIL_CHECK(assertionFailed, condition, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__)

/// TROTH_ASSERT in debug builds; with NDEBUG the condition is compiled but not evaluated.
#ifdef NDEBUG
#define TROTH_DASSERT(condition, ...)                                                                                  \
  do {                                                                                                                 \
    if (false) TROTH_DETAIL_CHECK(assertionFailed, condition, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__);    \
  } while (false)
#else
#define TROTH_DASSERT(condition, ...)                                                                                  \
  TROTH_DETAIL_CHECK(assertionFailed, condition, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__)
#endif

/// Throws a FAILED Exception that shows the values. The compiler knows that it does not return.
#define TROTH_FAIL(...)                                                                                                \
  ::troth::detail::fail(#__VA_ARGS__, std::source_location::current(), TROTH_DETAIL_VALUES(__VA_ARGS__))

/// An Exception that shows the values: `throw TROTH_EXCEPTION(Exception::Kind::OVERLOADED, "the queue is full",
/// size);`. `cause` is a kind, or a `std::error_code` or `std::errc`, which gives the kind, `code()` and the message of
/// the code.
#define TROTH_EXCEPTION(cause, ...)                                                                                    \
  ::troth::detail::makeException(cause, #__VA_ARGS__, std::source_location::current(), TROTH_DETAIL_VALUES(__VA_ARGS__))

/// The result of `call`, which gives -1 and sets errno if it fails: `int fd = TROTH_SYSCALL(open(path, O_RDONLY),
/// path);`. It is called again while it fails with EINTR; another failure throws systemException() with the text of the
/// call and the values. Only within functions. Not for `close` and `connect`, which must not be called again after
/// EINTR.
#define TROTH_SYSCALL(call, ...)                                                                                       \
  ::troth::detail::systemCall([&] { return (call); },                                                                  \
                              [&](const ::troth::detail::FailedSystemCall& trothFailedCall) {                          \
                                trothFailedCall.raise(TROTH_DETAIL_VALUES(__VA_ARGS__));                               \
                              },                                                                                       \
                              #call, #__VA_ARGS__, std::source_location::current())

namespace troth {
inline namespace v0 {

/// An exception that says "`operation`: the system's message", with `error`, a value of errno, as its code (it compares
/// equal to `std::errc`) and the kind that fits it. Never throws.
Exception systemException(int error, std::string_view operation,
                          std::source_location where = std::source_location::current()) noexcept;

} // namespace v0
} // namespace troth
