// SPDX-License-Identifier: MIT
// Of the HTTP yardstick: what one read has brought about and one write sends.
#pragma once

#include <uv.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Pieces of memory, in their order. Small ones lie side by side, so that they are one for the kernel, too.
class Output {
public:
  /// Adds bytes that are copied.
  void copy(std::string_view bytes) {
    if (pieces.empty() || pieces.back().kind != Kind::COPIED) {
      pieces.push_back({Kind::COPIED, copied.size(), nullptr, 0});
    }
    copied += bytes;
    pieces.back().size += bytes.size();
  }

  /// Adds bytes that always stay where they are.
  void refer(std::string_view constant) { add(Kind::CONSTANT, constant); }

  /// Adds bytes of the read buffer.
  void pass(std::string_view received) { add(Kind::RECEIVED, received); }

  bool empty() const { return pieces.empty(); }

  void clear() {
    pieces.clear();
    copied.clear();
  }

  /// The pieces as libuv wants them, and how many bytes that is. Valid until something is added.
  std::size_t buffers(std::vector<uv_buf_t>& result) const {
    result.clear();
    std::size_t total = 0;
    for (const Piece& piece : pieces) {
      result.push_back(buffer(begin(piece), piece.size));
      total += piece.size;
    }
    return total;
  }

  /// The pieces behind the first `sent` bytes, as libuv wants them: constants where they are, all others in `kept`.
  void rest(std::size_t sent, std::vector<uv_buf_t>& result, std::unique_ptr<char[]>& kept) const {
    result.clear();
    std::size_t keptSize = 0;
    for (const Piece& piece : pieces) {
      if (piece.kind != Kind::CONSTANT) keptSize += piece.size;
    }
    kept.reset(new char[keptSize]);
    char* place = kept.get();
    for (const Piece& piece : pieces) {
      const std::size_t skipped = std::min(sent, piece.size);
      sent -= skipped;
      const char* from = begin(piece) + skipped;
      const std::size_t size = piece.size - skipped;
      if (size == 0) continue;
      if (piece.kind != Kind::CONSTANT) {
        char* end = std::copy_n(from, size, place);
        from = place;
        place = end;
      }
      result.push_back(buffer(from, size));
    }
  }

private:
  enum class Kind : std::uint8_t { COPIED, CONSTANT, RECEIVED };

  struct Piece {
    Kind kind;
    std::size_t offset; // in `copied`, which moves when it grows
    const char* data;
    std::size_t size;
  };

  static constexpr std::size_t SMALL = 1024; // copying this is cheaper than one piece more

  static uv_buf_t buffer(const char* begin, std::size_t size) {
    return uv_buf_init(const_cast<char*>(begin), static_cast<unsigned>(size));
  }

  void add(Kind kind, std::string_view bytes) {
    if (bytes.empty()) return;
    if (bytes.size() <= SMALL) {
      copy(bytes);
    } else {
      pieces.push_back({kind, 0, bytes.data(), bytes.size()});
    }
  }

  const char* begin(const Piece& piece) const {
    return piece.kind == Kind::COPIED ? copied.data() + piece.offset : piece.data;
  }

  std::vector<Piece> pieces;
  std::string copied;
};
