// SPDX-License-Identifier: MIT
// Status codes of HTTP, and what they are called.
#pragma once

#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The phrase that the registry has for a status code (RFC 9110, section 15, and IANA's list), such as "Not Found";
/// empty for one that it does not have.
std::string_view reasonPhrase(int status) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
