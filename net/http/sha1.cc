// SPDX-License-Identifier: MIT
// SHA-1 (FIPS 180-4) and base64 (RFC 4648), for a few dozen bytes.
#include <troth/net/http/sha1_detail.h>

#include <bit>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

constexpr std::size_t BLOCK = 64;
constexpr std::string_view ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

using Digest = std::array<std::uint32_t, 5>;

// FIPS 180-4, section 4.1.1: the function and the constant of step `t`.
constexpr std::uint32_t mix(std::size_t t, std::uint32_t x, std::uint32_t y, std::uint32_t z) noexcept {
  if (t < 20) return ((x & y) ^ (~x & z)) + 0x5a827999;
  if (t < 40) return (x ^ y ^ z) + 0x6ed9eba1;
  if (t < 60) return ((x & y) ^ (x & z) ^ (y & z)) + 0x8f1bbcdc;
  return (x ^ y ^ z) + 0xca62c1d6;
}

// Section 6.1.2.
void addBlock(Digest& digest, std::string_view block) noexcept {
  std::array<std::uint32_t, 80> w{};
  for (std::size_t i = 0; i < BLOCK; ++i) w[i / 4] = w[i / 4] << 8 | static_cast<unsigned char>(block[i]);
  for (std::size_t t = 16; t < w.size(); ++t) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
  auto [a, b, c, d, e] = digest;
  for (std::size_t t = 0; t < w.size(); ++t) {
    const std::uint32_t next = std::rotl(a, 5) + mix(t, b, c, d) + e + w[t];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  const Digest step{a, b, c, d, e};
  for (std::size_t i = 0; i < digest.size(); ++i) digest[i] += step[i];
}

// Section 5.1.1.
std::string padded(std::string_view text) {
  std::string all(text);
  all.push_back('\x80');
  all.resize((all.size() + 8 + BLOCK - 1) / BLOCK * BLOCK - 8);
  const std::uint64_t bits = std::uint64_t(text.size()) * 8;
  for (int shift = 56; shift >= 0; shift -= 8) all.push_back(static_cast<char>(bits >> shift & 0xff));
  return all;
}

std::optional<unsigned> sextet(char c) noexcept {
  const std::size_t at = ALPHABET.find(c);
  if (at == std::string_view::npos) return std::nullopt;
  return static_cast<unsigned>(at);
}

} // namespace

std::array<std::byte, 20> sha1(std::string_view text) {
  Digest digest{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}; // section 5.3.1
  const std::string all = padded(text);
  for (std::size_t at = 0; at < all.size(); at += BLOCK) addBlock(digest, std::string_view(all).substr(at, BLOCK));
  std::array<std::byte, 20> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(digest[i / 4] >> (24 - i % 4 * 8) & 0xff);
  return bytes;
}

std::string base64(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? std::to_integer<std::uint32_t>(bytes[at + i]) : 0);
    for (std::size_t i = 0; i < 4; ++i)
      text.push_back(at + i > bytes.size() ? '=' : ALPHABET[group >> (18 - 6 * i) & 0x3f]);
  }
  return text;
}

std::optional<std::size_t> base64DecodedSize(std::string_view text) noexcept {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  const std::string_view digits = text.substr(0, text.size() - padding);
  unsigned last = 0;
  for (const char c : digits) {
    const std::optional<unsigned> value = sextet(c);
    if (!value) return std::nullopt;
    last = *value;
  }
  // RFC 4648, section 3.5: the bits that stand for nothing are zero.
  if ((padding == 1 && (last & 0x3) != 0) || (padding == 2 && (last & 0xf) != 0)) return std::nullopt;
  return digits.size() * 6 / 8;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
