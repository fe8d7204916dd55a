// SPDX-License-Identifier: MIT
// Status codes as error codes: that is how they come through promises.
#include <troth/net/http/http_error.h>

#include <troth/net/http/status.h>

#include <string>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

class StatusCategory final : public std::error_category {
public:
  const char* name() const noexcept override { return "http-status"; }

  std::string message(int status) const override {
    std::string text = std::to_string(status);
    if (const std::string_view phrase = reasonPhrase(status); !phrase.empty()) text.append(" ").append(phrase);
    return text;
  }

  std::error_condition default_error_condition(int status) const noexcept override {
    switch (status) {
    case 501:
      return std::make_error_condition(std::errc::function_not_supported);
    case 503:
      return std::make_error_condition(std::errc::resource_unavailable_try_again);
    default:
      return {status, *this};
    }
  }
};

constexpr bool isOfError(int status) noexcept { return status >= 400 && status <= 599; }

std::error_code codeOf(int status, const std::source_location& where) {
  if (!isOfError(status))
    troth::detail::throwMisuse("HttpError: " + std::to_string(status) + " is no status of an error", where);
  return {status, httpStatusCategory()};
}

} // namespace

const std::error_category& httpStatusCategory() noexcept {
  static const StatusCategory category;
  return category;
}

HttpError::HttpError(int status, std::string_view description, std::source_location where)
    : std::system_error(codeOf(status, where), std::string(description)), size_(description.size()), where_(where) {}

std::optional<int> HttpError::statusOf(const Exception& exception) noexcept {
  const int status = exception.code().value();
  if (exception.code().category() != httpStatusCategory() || !isOfError(status)) return std::nullopt;
  return status;
}

} // namespace http
} // namespace v0
} // namespace troth
