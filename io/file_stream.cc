// SPDX-License-Identifier: MIT
// Streams of files: each reads or writes at a position of its own.
#include <troth/io/file.h>

#include <troth/io/blocking_detail.h>
#include <troth/io/file_transfer_detail.h>
#include <troth/io/operation_detail.h>
#include <troth/io/stream_watch_detail.h>
#include <troth/io/uv_file_job_detail.h>
#include <troth/io/uv_sendfile_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace {

using detail::Busy;
using detail::Direction;

/// What a stream and its operations share.
struct StreamState {
  StreamState(detail::OpenedPtr f, std::uint64_t offset, Direction::Kind kind) noexcept
      : file(std::move(f)), position(offset), direction(kind) {}

  detail::OpenedPtr file;
  std::uint64_t position;
  Direction direction;
};

using StatePtr = std::shared_ptr<StreamState>;

Busy begin(const StatePtr& state, std::string_view function, std::source_location where) {
  return Busy(std::shared_ptr<Direction>(state, &state->direction), function, where);
}

Promise<Chunk> readAt(const StreamState& state, std::uint64_t position, std::uint64_t most,
                      std::source_location where) {
  return detail::readToChunk(state.file, position,
                             static_cast<std::size_t>(std::min<std::uint64_t>(most, Chunk::CAPACITY)), where);
}

/// Reads the next chunk while one is written: a third faster to a local socket than one after the other.
Promise<std::uint64_t> pumpAhead(StatePtr state, [[maybe_unused]] Busy busy, AsyncOutputStream& output,
                                 std::uint64_t amount, std::source_location where) {
  const detail::StreamWatch outputWatch(output);
  std::uint64_t done = 0;
  Promise<Chunk> next = amount == 0 ? Promise<Chunk>(Chunk()) : readAt(*state, state->position, amount, where);
  for (;;) {
    const Chunk chunk = co_await std::move(next);
    if (chunk.empty()) co_return done;
    const std::uint64_t left = amount - done - chunk.size();
    next = left == 0 ? Promise<Chunk>(Chunk()) : readAt(*state, state->position + chunk.size(), left, where);
    outputWatch.require(where);
    co_await output.write(chunk.bytes(), where);
    state->position += chunk.size();
    done += chunk.size();
  }
}

/// Goes on where sending the file has ended.
Promise<std::uint64_t> pumpRest(Promise<detail::Sent> sending, StatePtr state, Busy busy, AsyncOutputStream& output,
                                std::uint64_t amount, std::source_location where) {
  const detail::StreamWatch outputWatch(output);
  const detail::Sent sent = co_await std::move(sending);
  if (sent.finished) co_return sent.size;
  outputWatch.require(where);
  const std::uint64_t rest = co_await pumpAhead(std::move(state), std::move(busy), output, amount - sent.size, where);
  co_return sent.size + rest;
}

class FileInputStream final : public AsyncInputStream, public detail::FileSource, public detail::Pooled {
public:
  FileInputStream(detail::OpenedPtr file, std::uint64_t offset)
      : state_(std::make_shared<StreamState>(std::move(file), offset, Direction::Kind::READ)) {}
  ~FileInputStream() override { state_->direction.disconnect(); }

  // The position advances when the result is taken: until then nothing has been read.
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    detail::requireReadable(buffer, minBytes, where);
    Busy busy = begin(state_, "tryRead", where);
    return state_->direction
        .endWithStream(detail::readToBuffer(state_->file, state_->position, buffer, minBytes, where), where)
        .then([busy = std::move(busy), state = state_](std::size_t size) {
          state->position += size;
          return size;
        });
  }

  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    const std::size_t most = detail::chunkSize(maxBytes, where);
    Busy busy = begin(state_, "tryReadChunk", where);
    return state_->direction.endWithStream(readAt(*state_, state_->position, most, where), where)
        .then([busy = std::move(busy), state = state_](Chunk chunk) {
          state->position += chunk.size();
          return chunk;
        });
  }

  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    if (std::optional<Promise<std::uint64_t>> pump = output.tryPumpFrom(*this, amount, where)) return std::move(*pump);
    return state_->direction.endWithStream(pumpAhead(state_, begin(state_, "pumpTo", where), output, amount, where),
                                           where);
  }

  Promise<std::uint64_t> pumpToSink(detail::FileSink& sink, AsyncOutputStream& output, std::uint64_t amount,
                                    std::source_location where) override {
    Busy busy = begin(state_, "pumpTo", where);
    Promise<detail::Sent> sending =
        sink.sendFile({state_->file, std::shared_ptr<std::uint64_t>(state_, &state_->position)}, amount, where);
    return state_->direction.endWithStream(pumpRest(std::move(sending), state_, std::move(busy), output, amount, where),
                                           where);
  }

  std::optional<std::uint64_t> tryGetLength() const override {
    FileInfo info{};
    if (detail::getInfo(state_->file->fd(), info) < 0) return std::nullopt;
    return info.size - std::min(info.size, state_->position);
  }

private:
  StatePtr state_;
};

class FileOutputStream final : public AsyncOutputStream, public detail::Pooled {
public:
  FileOutputStream(detail::OpenedPtr file, std::uint64_t offset)
      : state_(std::make_shared<StreamState>(std::move(file), offset, Direction::Kind::WRITE)) {}
  ~FileOutputStream() override { state_->direction.disconnect(); }

  using AsyncOutputStream::write;
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    Busy busy = begin(state_, "write", where);
    const std::uint64_t offset = state_->position;
    state_->position += detail::totalSize(pieces);
    return state_->direction
        .endWithStream(detail::writePieces(state_->file, offset, detail::Pieces(pieces), where), where)
        .attach(std::move(busy));
  }

private:
  StatePtr state_;
};

} // namespace

std::unique_ptr<AsyncInputStream> newFileInputStream(File& file, std::uint64_t offset) {
  return std::make_unique<FileInputStream>(file.parts_->opened(), offset);
}

std::unique_ptr<AsyncOutputStream> newFileOutputStream(File& file, std::uint64_t offset) {
  return std::make_unique<FileOutputStream>(file.parts_->opened(), offset);
}

} // namespace v0
} // namespace troth
