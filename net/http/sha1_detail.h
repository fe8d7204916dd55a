// SPDX-License-Identifier: MIT
// SHA-1 and base64, as the handshake of WebSocket needs them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// SHA-1 (FIPS 180-4, section 6.1). Not for secrets: it is broken for signatures, and here only proves that a peer
/// speaks WebSocket.
std::array<std::byte, 20> sha1(std::string_view text);

/// Base64 with padding (RFC 4648, section 4).
std::string base64(std::span<const std::byte> bytes);

/// How many bytes this is the base64 of: nothing unless it is what base64() makes of some.
std::optional<std::size_t> base64DecodedSize(std::string_view text) noexcept;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
