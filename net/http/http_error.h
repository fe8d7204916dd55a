// SPDX-License-Identifier: MIT
// HttpError: a failure that says with which status a request is to be answered.
#pragma once

#include <troth/runtime/exception.h>

#include <cstddef>
#include <optional>
#include <source_location>
#include <string_view>
#include <system_error>

namespace troth {
inline namespace v0 {
namespace http {

/// The category of status codes as error codes: its values are 400 to 599, its messages "404 Not Found". As conditions,
/// 501 is std::errc::function_not_supported and 503 resource_unavailable_try_again, which gives them their kinds.
const std::error_category& httpStatusCategory() noexcept;

/// Throw it to have the request that is being handled answered with `status`:
///
///     if (!user) throw HttpError(403, "no session");
///
/// The client is told the status, not the description, which is for the log. The library throws it for requests that
/// are malformed (400) or larger than a limit (413, 431, …).
///
/// It is no troth::Exception: a promise that it rejects holds it as the original, so that `wait()` and `co_await`
/// throw an HttpError again and `catch (const HttpError&)` works. Handlers of `catch_` get an Exception with the same
/// code, of which statusOf() knows the status, also after withContext().
class HttpError : public std::system_error {
public:
  /// `status` is 400 to 599; otherwise this throws FAILED.
  HttpError(int status, std::string_view description, std::source_location where = std::source_location::current());

  /// The status to answer with.
  int status() const noexcept { return code().value(); }
  /// What was wrong. (`what()` has the status behind it.) Valid as long as this object.
  std::string_view description() const noexcept { return {what(), size_}; }
  /// Where it was made.
  const std::source_location& where() const noexcept { return where_; }

  /// The status that `exception` carries, if it comes from an HttpError.
  static std::optional<int> statusOf(const Exception& exception) noexcept;

private:
  std::size_t size_; // of the description
  std::source_location where_;
};

} // namespace http
} // namespace v0
} // namespace troth
