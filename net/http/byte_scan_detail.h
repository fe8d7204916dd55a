// SPDX-License-Identifier: MIT
// Looking at eight bytes of a text at a time, in an ordinary register: most texts of a head are shorter than what
// vector instructions are made for.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

// What a head is looked at by, for most of its bytes: in vectors where every processor has them.

/// Control characters: those that no field's value holds, and tab.
struct ControlMarks {
  Word operator()(Word word) const noexcept { return marksBelow(word, 0x20) | marksOf(word, 0x7f); }
#ifdef __SSE2__
  __m128i operator()(__m128i bytes) const noexcept {
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    return _mm_or_si128(low, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)));
  }
#endif
};

/// What a name ends with: a colon, as it should, or space or a control character.
struct NameEndMarks {
  Word operator()(Word word) const noexcept { return marksBelow(word, 0x21) | marksOf(word, ':'); }
#ifdef __SSE2__
  __m128i operator()(__m128i bytes) const noexcept {
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x20)), bytes);
    return _mm_or_si128(low, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(':')));
  }
#endif
};

/// As scan(), in a text of which at least eight bytes stand before `end`.
template <typename Marks>
inline const char* scanBehind(const char* at, const char* end, Marks marksOfWord) noexcept {
#ifdef __SSE2__
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    if (const int marks = _mm_movemask_epi8(marksOfWord(bytes)); marks != 0)
      return at + std::countr_zero(static_cast<unsigned>(marks));
  }
#endif
  for (; end - at >= 8; at += 8)
    if (const Word marks = marksOfWord(loadWord(at)); marks != 0) return at + firstMarked(marks);
  if (at == end) return end;
  const Word marks = marksOfWord(loadWord(end - 8) >> 8 * (8 - (end - at)));
  const char* const first = at + firstMarked(marks);
  return first < end ? first : end;
}

/// The first byte from `at` on that no field's value holds; `end` if there is none. At least eight bytes stand before
/// `end`.
inline const char* scanValue(const char* at, const char* end) noexcept {
  for (;; ++at) {
    at = scanBehind(at, end, ControlMarks());
    if (at == end || *at != '\t') return at;
  }
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
