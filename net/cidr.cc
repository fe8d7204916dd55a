// SPDX-License-Identifier: MIT
// Parsing ranges of IP addresses and comparing the first bits.
#include <troth/net/cidr.h>

#include <troth/net/ip_bytes_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace troth {
inline namespace v0 {
namespace {

using Family = SocketAddress::Family;
using AddressBytes = std::array<std::uint8_t, 16>;

constexpr unsigned IPV4_BITS = 32;
constexpr unsigned IPV6_BITS = 128;
constexpr unsigned MAPPED_BITS = IPV6_BITS - IPV4_BITS; // of the prefix of IPv4-mapped addresses

/// The bits of byte `index` that belong to a prefix of `bits`.
std::uint8_t maskOf(std::size_t index, unsigned bits) noexcept {
  const std::size_t before = index * 8;
  const std::size_t ofThis = bits <= before ? 0 : std::min<std::size_t>(bits - before, 8);
  return static_cast<std::uint8_t>(0xff00U >> ofThis);
}

bool beginsWith(std::span<const std::uint8_t> address, const AddressBytes& prefix, unsigned bits) noexcept {
  for (std::size_t i = 0; i < address.size(); ++i)
    if ((address[i] & maskOf(i, bits)) != prefix[i]) return false;
  return true;
}

/// The number of bits, or none if `text` is not a number up to `most`.
std::optional<unsigned> parseBits(std::string_view text, unsigned most) noexcept {
  unsigned bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
  const bool hasLeadingZero = text.size() > 1 && text.front() == '0';
  if (error != std::errc() || end != text.data() + text.size() || hasLeadingZero || bits > most) return std::nullopt;
  return bits;
}

} // namespace

CidrRange::CidrRange(Family family, unsigned bits, const AddressBytes& address) noexcept
    : family_(family), bits_(static_cast<std::uint8_t>(bits)) {
  for (std::size_t i = 0; i < prefix_.size(); ++i) prefix_[i] = static_cast<std::uint8_t>(address[i] & maskOf(i, bits));
}

CidrRange CidrRange::parse(std::string_view text, std::source_location where) {
  const auto fail = [&](std::string_view reason) {
    throw Exception(Exception::Kind::FAILED,
                    fmt::format("invalid range of addresses {}: {}", detail::quote(text), reason),
                    std::make_error_code(std::errc::invalid_argument), where);
  };
  const std::size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  const bool isIpv6 = address.find(':') != std::string::npos;
  AddressBytes bytes{};
  if (address.find('%') != std::string::npos) fail("a range has no zone");
  if (address.find('\0') != std::string::npos ||
      uv_inet_pton(isIpv6 ? AF_INET6 : AF_INET, address.c_str(), &bytes) != 0)
    fail("it does not begin with an IPv4 or IPv6 address");
  const unsigned most = isIpv6 ? IPV6_BITS : IPV4_BITS;
  const std::optional<unsigned> bits = slash == std::string_view::npos ? most : parseBits(text.substr(slash + 1), most);
  if (!bits) fail(fmt::format("after the slash must be a number of bits from 0 to {}", most));
  if (!isIpv6) return CidrRange(Family::IPV4, *bits, bytes);
  if (*bits < MAPPED_BITS || !detail::isIpv4Mapped(bytes)) return CidrRange(Family::IPV6, *bits, bytes);
  std::shift_left(bytes.begin(), bytes.end(), MAPPED_BITS / 8);
  return CidrRange(Family::IPV4, *bits - MAPPED_BITS, bytes);
}

bool CidrRange::matches(const SocketAddress& address) const noexcept {
  if (address.family() == Family::IPV4)
    return family_ == Family::IPV4 && beginsWith(detail::ipv4Bytes(address), prefix_, bits_);
  if (address.family() != Family::IPV6) return false;
  const AddressBytes bytes = detail::ipv6Bytes(address);
  if (family_ == Family::IPV6) return beginsWith(bytes, prefix_, bits_);
  return detail::isIpv4Mapped(bytes) && beginsWith(std::span(bytes).last<4>(), prefix_, bits_);
}

std::string CidrRange::toString() const {
  char text[INET6_ADDRSTRLEN] = "?";
  uv_inet_ntop(family_ == Family::IPV6 ? AF_INET6 : AF_INET, prefix_.data(), text, sizeof text);
  return fmt::format("{}/{}", text, bits_);
}

} // namespace v0
} // namespace troth
