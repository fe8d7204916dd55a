// SPDX-License-Identifier: MIT
// libuv's status codes as std::error_code and as Exception.
#pragma once

#include <troth/runtime/exception.h>

#include <source_location>
#include <string_view>
#include <system_error>

namespace troth {
inline namespace v0 {

/// The category of libuv's (negative) status codes. Codes that stand for an errno, and UV_EAI_CANCELED and
/// UV_EAI_MEMORY, compare equal to the `std::errc` condition. (So on Unix, where libuv's codes are negated errnos.)
const std::error_category& uvCategory() noexcept;

/// `status` is a negative status code of libuv.
std::error_code uvErrorCode(int status) noexcept;

/// An exception that says "`operation`: libuv's message (ENAME)", of the kind that fits `status`.
/// Without memory it is the OVERLOADED one that says so.
Exception uvException(int status, std::string_view operation,
                      std::source_location where = std::source_location::current()) noexcept;

/// The same for an operation on a descriptor: "`operation` descriptor 7: …".
Exception uvDescriptorException(int status, std::string_view operation, int descriptor,
                                std::source_location where = std::source_location::current()) noexcept;

/// Throws uvException() if `status` is negative.
void uvCheck(int status, std::string_view operation, std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
