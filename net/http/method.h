// SPDX-License-Identifier: MIT
// Method: the request methods of HTTP.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The methods of RFC 9110, section 9.3, and PATCH (RFC 5789). Every other one is OTHER: its name is asked for as text.
enum class Method : std::uint8_t { GET, HEAD, POST, PUT, DELETE_, CONNECT, OPTIONS, TRACE, PATCH, OTHER };

/// "GET" and so on; empty for OTHER.
std::string_view methodName(Method method) noexcept;

/// The method of that name, which is case-sensitive; OTHER if it is none of them.
Method findMethod(std::string_view name) noexcept;

/// Whether a request with it is meant to change nothing (RFC 9110, section 9.2.1).
bool isSafe(Method method) noexcept;

/// Whether sending it twice is meant to do what sending it once does (RFC 9110, section 9.2.2).
bool isIdempotent(Method method) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
