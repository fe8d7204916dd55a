// SPDX-License-Identifier: MIT
// Reading and writing block by block, each a trip through the thread pool.
#include <troth/io/file_transfer_detail.h>

#include <troth/io/blocking_detail.h>
#include <troth/io/byte_block_detail.h>
#include <troth/io/uv_file_job_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

/// What a thread has read.
struct Piece {
  ByteBlock block;
  bool isLast = false; // the file ends with it
};

/// Fills the block as far as the file goes. What comes before an error counts: the next read meets the error again.
int fill(int fd, std::int64_t offset, Piece& piece) noexcept {
  while (!piece.block.isFull()) {
    const auto done = static_cast<std::int64_t>(piece.block.bytes().size());
    const int count = readSome(fd, offset + done, piece.block.room());
    if (count < 0) return done == 0 ? count : 0;
    piece.isLast = count == 0;
    if (piece.isLast) break;
    piece.block.grow(static_cast<std::size_t>(count));
  }
  return 0;
}

Promise<Piece> readPiece(OpenedPtr file, std::uint64_t offset, std::size_t size, std::source_location where) {
  auto work = [from = checkedOffset(offset, "read", "offset", where)](const Opened& at, const Path&, Piece& piece) {
    return fill(at.fd(), from, piece);
  };
  return inPool<Piece>("read", std::move(file), {}, where, work, Piece{ByteBlock(size)});
}

} // namespace

// A negative offset would be the descriptor's own position.
std::int64_t checkedOffset(std::uint64_t offset, std::string_view function, std::string_view what,
                           std::source_location where) {
  constexpr auto MOST = std::numeric_limits<std::int64_t>::max();
  if (offset > std::uint64_t(MOST))
    throwMisuse(fmt::format("{}: the {} is {}, but must be at most {}", function, what, offset, MOST), where);
  return static_cast<std::int64_t>(offset);
}

Promise<Chunk> readToChunk(OpenedPtr file, std::uint64_t offset, std::size_t size, std::source_location where) {
  return readPiece(std::move(file), offset, size, where).then([](Piece piece) {
    return std::move(piece.block).toChunk();
  });
}

Promise<std::size_t> readToBuffer(OpenedPtr file, std::uint64_t offset, std::span<std::byte> buffer,
                                  std::size_t minBytes, std::source_location where) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const std::size_t size = std::min(buffer.size() - filled, Chunk::CAPACITY);
    const Piece piece = co_await readPiece(file, offset + filled, size, where);
    const std::span<const std::byte> bytes = piece.block.bytes();
    if (!bytes.empty()) std::memcpy(buffer.data() + filled, bytes.data(), bytes.size());
    filled += bytes.size();
    // A block that is not full, and yet not the last, ends before an error.
    if (piece.isLast || (!piece.block.isFull() && filled >= minBytes)) break;
  }
  co_return filled;
}

Promise<void> writePieces(OpenedPtr file, std::uint64_t offset, Pieces pieces, std::source_location where) {
  while (!pieces.empty()) {
    ByteBlock block = takeBlock(pieces);
    const std::int64_t to = file->appends ? AT_POSITION : checkedOffset(offset, "write", "offset", where);
    offset += block.bytes().size();
    auto work = [to, block = std::move(block)](const Opened& at, const Path&) {
      return writeAll(at.fd(), to, block.bytes());
    };
    co_await inPool<void>("write", file, Path(), where, std::move(work));
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
