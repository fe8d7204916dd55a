// SPDX-License-Identifier: MIT
// The methods and their names.
#include <troth/net/http/method.h>

#include <array>
#include <cstddef>

namespace troth {
inline namespace v0 {
namespace http {

namespace {
// In the order of the enumeration.
constexpr std::array<std::string_view, 9> METHOD_NAMES = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                          "CONNECT", "OPTIONS", "TRACE", "PATCH"};
} // namespace

std::string_view methodName(Method method) noexcept {
  const auto index = static_cast<std::size_t>(method);
  return index < METHOD_NAMES.size() ? METHOD_NAMES[index] : std::string_view();
}

Method findMethod(std::string_view name) noexcept {
  for (std::size_t i = 0; i < METHOD_NAMES.size(); ++i)
    if (name == METHOD_NAMES[i]) return static_cast<Method>(i);
  return Method::OTHER;
}

bool isSafe(Method method) noexcept {
  return method == Method::GET || method == Method::HEAD || method == Method::OPTIONS || method == Method::TRACE;
}

bool isIdempotent(Method method) noexcept {
  return isSafe(method) || method == Method::PUT || method == Method::DELETE_;
}

} // namespace http
} // namespace v0
} // namespace troth
