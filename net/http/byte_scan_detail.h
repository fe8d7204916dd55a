// SPDX-License-Identifier: MIT
// Looking at eight bytes of a text at a time, in an ordinary register: most texts of a head are shorter than what
// vector instructions are made for.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Eight bytes, the first of them lowest.
using Word = std::uint64_t;
inline constexpr Word EACH_BYTE = 0x0101'0101'0101'0101;
inline constexpr Word HIGH_BITS = 0x80 * EACH_BYTE;

inline Word loadWord(const char* at) noexcept {
  Word word;
  std::memcpy(&word, at, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

/// The same of `count` bytes, 1 to 7; what is beyond them is 0.
inline Word loadPart(const char* at, std::size_t count) noexcept {
  const auto byte = [at](std::size_t index) { return static_cast<Word>(static_cast<unsigned char>(at[index])); };
  if (count < 4) return byte(0) | byte(count / 2) << 8 * (count / 2) | byte(count - 1) << 8 * (count - 1);
  const auto half = [at](std::size_t index) {
    std::uint32_t four;
    std::memcpy(&four, at + index, sizeof four);
    if constexpr (std::endian::native == std::endian::big) four = __builtin_bswap32(four);
    return static_cast<Word>(four);
  };
  return half(0) | half(count - 4) << 8 * (count - 4);
}

// Marks: the highest bit of the first byte of which something holds, and perhaps of others behind it. The first one is
// exact also if marks of several sorts are joined by '|'. (The method: Mycroft, 1987.)

/// Bytes less than `limit`, which is at most 0x80.
constexpr Word marksBelow(Word word, unsigned limit) noexcept { return (word - limit * EACH_BYTE) & ~word & HIGH_BITS; }
/// Bytes that are `c`.
constexpr Word marksOf(Word word, char c) noexcept {
  return marksBelow(word ^ static_cast<unsigned char>(c) * EACH_BYTE, 1);
}
/// Bytes from 0x7f on.
constexpr Word marksFrom0x7f(Word word) noexcept { return ((word + EACH_BYTE) | word) & HIGH_BITS; }

/// Which byte is the first one that is marked; 8 if none is.
constexpr std::size_t firstMarked(Word marks) noexcept { return static_cast<std::size_t>(std::countr_zero(marks)) / 8; }

/// The first byte from `at` on that `marksOfWord(Word)` marks; `end` if none is.
template <typename MarksOfWord>
inline const char* scan(const char* at, const char* end, MarksOfWord marksOfWord) noexcept {
  for (; end - at >= 8; at += 8)
    if (const Word marks = marksOfWord(loadWord(at)); marks != 0) return at + firstMarked(marks);
  if (at == end) return end;
  const auto left = static_cast<std::size_t>(end - at);
  const Word marks = marksOfWord(loadPart(at, left));
  if (marks == 0) return end;
  const std::size_t first = firstMarked(marks);
  return first < left ? at + first : end;
}

/// The same in a text of which at least eight bytes stand before `end`.
template <typename MarksOfWord>
inline const char* scanBehind(const char* at, const char* end, MarksOfWord marksOfWord) noexcept {
  for (; end - at >= 8; at += 8)
    if (const Word marks = marksOfWord(loadWord(at)); marks != 0) return at + firstMarked(marks);
  if (at == end) return end;
  const Word marks = marksOfWord(loadWord(end - 8) >> 8 * (8 - (end - at)));
  const char* const first = at + firstMarked(marks);
  return first < end ? first : end;
}

/// Letters of ASCII in lower case, all else as it is.
constexpr Word lowerCased(Word word) noexcept {
  const Word low = word & ~HIGH_BITS; // so that no sum runs over into the next byte
  const Word fromA = low + (0x80 - 'A') * EACH_BYTE, beyondZ = low + (0x7f - 'Z') * EACH_BYTE;
  return word | (fromA & ~beyondZ & ~word & HIGH_BITS) >> 2;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
