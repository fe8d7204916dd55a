// SPDX-License-Identifier: MIT
// Contents at random: how they are framed, and how they are read.
#pragma once

#include <fixtures.h>

#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <charconv>
#include <random>
#include <span>
#include <string>

namespace troth::test {

inline std::string randomContent(std::mt19937& random, std::size_t size) {
  std::string content(size, '\0');
  for (char& c : content) c = static_cast<char>('a' + random() % 26);
  return content;
}

/// The fields that frame `content`, the empty line, and the content.
inline std::string framed(std::mt19937& random, const std::string& content, bool isChunked) {
  if (!isChunked) return "Content-Length: " + std::to_string(content.size()) + "\r\n\r\n" + content;
  std::string bytes = "Transfer-Encoding: chunked\r\n\r\n";
  const std::size_t most = random() % 2 == 0 ? 50 : 20'000;
  for (std::size_t at = 0; at < content.size();) {
    const std::string chunk = content.substr(at, 1 + random() % most);
    char digits[16];
    bytes.append(digits, std::to_chars(digits, digits + sizeof digits, chunk.size(), 16).ptr);
    bytes += "\r\n" + chunk + "\r\n";
    at += chunk.size();
  }
  return bytes + (random() % 2 == 0 ? "0\r\n\r\n" : "0\r\nA: b\r\n\r\n");
}

/// How a content is read: in steps of every kind, some of which are given up.
class RandomReader {
public:
  RandomReader(std::mt19937& random, std::string& got) : random_(random), got_(got) {}
  std::size_t below(std::size_t n) { return random_() % n; }

  /// At most so many of them; tells whether the content's end was met.
  static Promise<bool> read(RandomReader self, AsyncInputStream& body, std::size_t steps) {
    for (; steps > 0; --steps) {
      const std::size_t size = self.below(3) == 0 ? 1 + self.below(4) : 1 + self.below(9000);
      const bool asChunk = self.below(2) == 0;
      std::string buffer(size, '\0');
      const std::span<std::byte> bytes = std::as_writable_bytes(std::span(buffer));
      const std::size_t least = self.below(2) == 0 ? 1 : 1 + self.below(size);
      const std::size_t patience = self.below(4);
      std::string text;
      if (patience == 0) {
        Promise<void> dropped = asChunk ? body.tryReadChunk(size).ignoreResult() : body.tryRead(bytes, least).ignoreResult();
        for (std::size_t turns = self.below(4); turns > 0; --turns) co_await yield();
        continue;
      }
      if (asChunk) {
        Promise<Chunk> reading = body.tryReadChunk(size);
        if (patience == 1) co_await yield();
        const Chunk chunk = co_await std::move(reading);
        text = chunk.text();
        REQUIRE(text.size() <= size);
      } else {
        Promise<std::size_t> reading = body.tryRead(bytes, least);
        if (patience == 1) co_await yield();
        const std::size_t count = co_await std::move(reading);
        REQUIRE(count <= size);
        text = buffer.substr(0, count);
      }
      self.got_ += text;
      if (text.empty() || (!asChunk && text.size() < least)) co_return true;
    }
    co_return false;
  }

private:
  std::mt19937& random_;
  std::string& got_;
};

} // namespace troth::test
