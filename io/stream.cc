// SPDX-License-Identifier: MIT
// What the stream interfaces do in terms of each other.
#include <troth/io/stream.h>

#include <troth/io/read_op_detail.h>
#include <troth/io/stream_watch_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {

// ------------------------------------------------------------------------------------------------ watching

namespace detail {

StreamWatch::StreamWatch(WatchedStream& stream) noexcept
    : stream_(&stream), next_(std::exchange(stream.watches_, this)) {}

StreamWatch::~StreamWatch() {
  if (stream_ == nullptr) return;
  StreamWatch** link = &stream_->watches_;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
}

void StreamWatch::require(std::source_location where) const {
  if (stream_ == nullptr)
    throw Exception(Exception::Kind::DISCONNECTED, "a stream was destroyed in the middle of the operation", {}, where);
}

void WatchedStream::tellWatches() noexcept {
  for (StreamWatch* watch = watches_; watch != nullptr; watch = watch->next_) watch->stream_ = nullptr;
}

} // namespace detail

// ------------------------------------------------------------------------------------------------ reading

namespace {

/// The most that is allocated because a stream says that it is so long: that may be no more than a peer's word.
constexpr std::uint64_t MOST_RESERVED = 1 << 20;

/// Collects what a stream gives until it ends. `Bytes` is a std::string or a vector of bytes.
template <typename Bytes>
Promise<Bytes> readAll(AsyncInputStream& input, std::uint64_t limit, std::source_location where) {
  const detail::StreamWatch watch(input);
  Bytes all;
  if (const std::optional<std::uint64_t> length = input.tryGetLength(); length && *length <= limit)
    all.reserve(static_cast<std::size_t>(std::min(*length, MOST_RESERVED)));
  for (;;) {
    // One byte more than there may be shows that there are too many.
    const std::uint64_t left = limit - all.size();
    const Chunk chunk = co_await input.tryReadChunk(
        static_cast<std::size_t>(left < Chunk::CAPACITY ? left + 1 : Chunk::CAPACITY), where);
    if (chunk.empty()) co_return all;
    if (chunk.size() > left)
      throw Exception(Exception::Kind::FAILED,
                      fmt::format("the stream has more than the {} bytes that are allowed", limit), {}, where);
    const auto* bytes = reinterpret_cast<const typename Bytes::value_type*>(chunk.bytes().data());
    all.insert(all.end(), bytes, bytes + chunk.size());
    watch.require(where);
  }
}

/// Gives a block of the pool back.
struct Deallocate {
  std::size_t size;
  void operator()(std::byte* block) const noexcept { detail::deallocate(block, size); }
};

} // namespace

Promise<void> AsyncInputStream::read(std::span<std::byte> buffer, std::source_location where) {
  if (buffer.empty()) return READY_NOW;
  const std::size_t wanted = buffer.size();
  return tryRead(buffer, wanted, where)
      .then(
          [wanted, where](std::size_t got) {
            if (got < wanted)
              throw Exception(Exception::Kind::DISCONNECTED,
                              fmt::format("read: the stream ended after {} of {} bytes", got, wanted), {}, where);
          },
          detail::PropagateException(), where);
}

Promise<Chunk> AsyncInputStream::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  const std::size_t size = detail::chunkSize(maxBytes, where);
  std::unique_ptr<std::byte, Deallocate> block(static_cast<std::byte*>(detail::allocate(size)), {size});
  const std::span<std::byte> buffer(block.get(), size);
  // The continuation runs when the chunk is taken: until then the bytes are tryRead's, which gives them back.
  return tryRead(buffer, 1, where)
      .then(
          [block = std::move(block)](std::size_t count) mutable {
            try {
              return Chunk::copyOf(std::span(block.get(), count));
            } catch (const std::bad_alloc&) { // the bytes have been read, and must not be lost
              return Chunk::adopt(block.release(), count, block.get_deleter().size);
            }
          },
          detail::PropagateException(), where);
}

Promise<std::vector<std::byte>> AsyncInputStream::readAllBytes(std::uint64_t limit, std::source_location where) {
  return readAll<std::vector<std::byte>>(*this, limit, where);
}

Promise<std::string> AsyncInputStream::readAllText(std::uint64_t limit, std::source_location where) {
  return readAll<std::string>(*this, limit, where);
}

Promise<std::uint64_t> AsyncInputStream::pumpTo(AsyncOutputStream& output, std::uint64_t amount,
                                                std::source_location where) {
  if (std::optional<Promise<std::uint64_t>> pump = output.tryPumpFrom(*this, amount, where)) return std::move(*pump);
  return pumpByBuffer(*this, output, amount, where);
}

std::unique_ptr<AsyncInputStream> AsyncInputStream::tryTee(std::size_t) { return nullptr; }

std::optional<Promise<std::uint64_t>> AsyncOutputStream::tryPumpFrom(AsyncInputStream&, std::uint64_t,
                                                                     std::source_location) {
  return std::nullopt;
}

Promise<void> AsyncOutputStream::whenWriteDisconnected(std::source_location) { return NEVER_DONE; }

void AsyncOutputStream::abortWrite(std::source_location) {}

std::optional<std::uint64_t> AsyncOutputStream::tryGetUndelivered() const noexcept { return std::nullopt; }

Promise<std::uint64_t> pumpByBuffer(AsyncInputStream& input, AsyncOutputStream& output, std::uint64_t amount,
                                    std::source_location where) {
  const detail::StreamWatch inputWatch(input);
  const detail::StreamWatch outputWatch(output);
  std::uint64_t done = 0;
  while (done < amount) {
    inputWatch.require(where);
    const Chunk chunk = co_await input.tryReadChunk(
        static_cast<std::size_t>(std::min<std::uint64_t>(amount - done, Chunk::CAPACITY)), where);
    if (chunk.empty()) break;
    outputWatch.require(where);
    co_await output.write(chunk.bytes(), where);
    done += chunk.size();
  }
  co_return done;
}

} // namespace v0
} // namespace troth
