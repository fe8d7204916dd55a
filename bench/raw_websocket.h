// SPDX-License-Identifier: MIT
// Of the HTTP yardstick: WebSocket, as little of it as an echo needs.
#pragma once

#include "raw_output.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

/// SHA-1 (RFC 3174), for handshakes.
inline std::array<std::uint8_t, 20> sha1(std::string message) {
  const std::uint64_t bits = std::uint64_t{message.size()} * 8;
  message.push_back(static_cast<char>(0x80));
  while (message.size() % 64 != 56) message.push_back('\0');
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(static_cast<char>(bits >> shift));

  std::array<std::uint32_t, 5> hash{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for (std::size_t block = 0; block < message.size(); block += 64) {
    std::array<std::uint32_t, 80> words{};
    for (std::size_t i = 0; i < 64; ++i) {
      words[i / 4] = words[i / 4] << 8 | static_cast<std::uint8_t>(message[block + i]);
    }
    for (std::size_t i = 16; i < 80; ++i) {
      words[i] = std::rotl(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    }
    auto [a, b, c, d, e] = hash;
    for (std::size_t i = 0; i < 80; ++i) {
      std::uint32_t mixed = 0;
      if (i < 20) {
        mixed = ((b & c) | (~b & d)) + 0x5a827999;
      } else if (i < 40) {
        mixed = (b ^ c ^ d) + 0x6ed9eba1;
      } else if (i < 60) {
        mixed = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
      } else {
        mixed = (b ^ c ^ d) + 0xca62c1d6;
      }
      const std::uint32_t next = std::rotl(a, 5) + mixed + e + words[i];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    hash = {hash[0] + a, hash[1] + b, hash[2] + c, hash[3] + d, hash[4] + e};
  }

  std::array<std::uint8_t, 20> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(hash[i / 4] >> (24 - i % 4 * 8));
  return bytes;
}

/// Base64 (RFC 4648, 4).
template <std::size_t size>
std::string base64(const std::array<std::uint8_t, size>& bytes) {
  constexpr std::string_view ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < size; i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = i; j < i + 3; ++j) group = group << 8 | (j < size ? bytes[j] : 0U);
    for (std::size_t j = 0; j < 4; ++j) text.push_back(i + j > size ? '=' : ALPHABET[group >> (18 - 6 * j) & 63]);
  }
  return text;
}

/// The value of Sec-WebSocket-Accept for a key (RFC 6455, 4.2.2).
inline std::string acceptOf(std::string_view key) {
  return base64(sha1(std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
}

/// Sends a client's frames (RFC 6455, 5.2) back as they come, without their mask: no message is ever kept. Answers
/// pings and the end. It does not look whether text is UTF-8, nor whether fragments are in order.
class FrameEcho {
public:
  /// Takes bytes that have come, which it unmasks where they are. False after the last that is of interest.
  bool take(char* bytes, std::size_t size, Output& output) {
    while (size > 0 && !ended) {
      const std::size_t taken = left > 0 ? takePayload(bytes, size, output) : takeHead(bytes, size, output);
      bytes += taken;
      size -= taken;
    }
    return !ended;
  }

private:
  enum Opcode : std::uint8_t { CLOSE = 0x8, PING = 0x9, PONG = 0xA };

  static constexpr std::uint8_t FIN = 0x80;
  static constexpr std::uint8_t RESERVED = 0x70;
  static constexpr std::uint8_t MASKED = 0x80;
  static constexpr std::size_t KEY_SIZE = 4;

  // How many bytes of the length follow the first two.
  std::size_t moreLength() const {
    const int length = head[1] & ~MASKED;
    return length < 126 ? 0 : length == 126 ? 2 : 8;
  }

  std::uint8_t opcode() const { return head[0] & 0x0f; }

  std::size_t takeHead(const char* bytes, std::size_t size, Output& output) {
    const std::size_t wanted = headSize < 2 ? 2 : 2 + moreLength() + KEY_SIZE;
    const std::size_t taken = std::min(size, wanted - headSize);
    std::memcpy(head.data() + headSize, bytes, taken);
    headSize = static_cast<std::uint8_t>(headSize + taken);
    if (headSize > 2 && headSize == wanted) beginFrame(output);
    return taken;
  }

  void beginFrame(Output& output) {
    const std::size_t lengthEnd = headSize - KEY_SIZE;
    left = head[1] & ~MASKED;
    if (lengthEnd > 2) {
      left = 0;
      for (std::size_t i = 2; i < lengthEnd; ++i) left = left << 8 | head[i];
    }
    std::memcpy(key.data(), head.data() + lengthEnd, KEY_SIZE);
    headSize = 0;
    const bool control = opcode() >= CLOSE;
    if ((head[0] & RESERVED) != 0 || (head[1] & MASKED) == 0 || (control && left > 125)) {
      output.copy(std::string_view("\x88\x02\x03\xea", 4)); // a protocol error, 1002
      ended = true;
      return;
    }
    silent = opcode() == PONG;
    if (opcode() == PING) head[0] = FIN | PONG;
    head[1] &= static_cast<std::uint8_t>(~MASKED);
    if (!silent) output.copy({reinterpret_cast<const char*>(head.data()), lengthEnd});
    if (left == 0) endFrame();
  }

  std::size_t takePayload(char* bytes, std::size_t size, Output& output) {
    const std::size_t taken = std::min<std::uint64_t>(size, left);
    unmask(bytes, taken);
    if (!silent) output.pass({bytes, taken});
    left -= taken;
    if (left == 0) endFrame();
    return taken;
  }

  void unmask(char* bytes, std::size_t size) {
    std::uint64_t mask = 0;
    for (std::size_t i = 0; i < sizeof mask; i += KEY_SIZE) {
      std::memcpy(reinterpret_cast<char*>(&mask) + i, key.data(), KEY_SIZE);
    }
    std::size_t i = 0;
    for (; i + sizeof mask <= size; i += sizeof mask) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + i, sizeof word);
      word ^= mask;
      std::memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < size; ++i) bytes[i] = static_cast<char>(bytes[i] ^ key[i % KEY_SIZE]);
    const auto old = key;
    for (std::size_t j = 0; j < KEY_SIZE; ++j) key[j] = old[(size + j) % KEY_SIZE]; // for the rest of the frame
  }

  void endFrame() {
    if (opcode() == CLOSE) ended = true;
  }

  std::array<std::uint8_t, 14> head{};
  std::uint8_t headSize = 0;
  bool silent = false; // this frame is not answered
  bool ended = false;
  std::array<std::uint8_t, KEY_SIZE> key{};
  std::uint64_t left = 0; // of the frame's payload
};
