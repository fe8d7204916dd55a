// SPDX-License-Identifier: MIT
// permessage-deflate (RFC 7692): its negotiation, and the compression of messages.
#pragma once

#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/websocket_deflate.h>
#include <troth/net/http/websocket_frame_detail.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

struct z_stream_s; // zlib's z_stream

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Whether this library was built with zlib. Without it nothing is ever negotiated.
bool canDeflate() noexcept;

/// Throws FAILED if they make no sense, or canDeflate() does not hold.
void requireDeflateOptions(const WebSocketDeflateOptions& options, const std::source_location& where);

/// What a client offers.
std::string deflateOffer(const WebSocketDeflateOptions& options);

/// Terms, and the element with which a server says that it accepts them.
struct AcceptedDeflate {
  WebSocketDeflateTerms terms;
  std::string response;
};

/// Goes through a client's list of offers (RFC 7692, section 5) and accepts the first that it can. Nothing if there is
/// none. `malformed` is set if the list does not follow the grammar (RFC 6455, section 9.1), which ends the handshake.
std::optional<AcceptedDeflate> acceptDeflate(std::string_view offers, const WebSocketDeflateOptions* options,
                                             bool& malformed);

/// What a server has accepted, of what deflateOffer(options) offers; nothing if it has accepted no extension. Throws
/// FAILED if it has accepted something else.
std::optional<WebSocketDeflateTerms> checkDeflate(std::string_view accepted, const WebSocketDeflateOptions* options,
                                                  const std::source_location& where);

/// Ends one of zlib's streams and frees it.
struct DeleteInflate {
  void operator()(z_stream_s* stream) const noexcept;
};
struct DeleteDeflate {
  void operator()(z_stream_s* stream) const noexcept;
};

/// Decompresses messages, a step at a time. Takes its memory with the first one.
class WebSocketInflater {
public:
  explicit WebSocketInflater(const WebSocketDeflateTerms& terms) noexcept
      : windowBits_(terms.peerWindowBits), forgets_(terms.peerNoContextTakeover) {}

  /// Takes bytes off the front of `input`, which is a part of a message, and appends at most 64 KiB of what comes of
  /// them to `message`. Call it until `input` is empty and hasMore() says no. Stops with MESSAGE_TOO_BIG before the
  /// message would have more than `limit` bytes, and with NOT_UTF8 if `utf8`, which may be null, says so. Throws
  /// std::bad_alloc.
  WebSocketFault inflate(std::span<const std::byte>& input, std::size_t limit, Utf8Validator* utf8,
                         PoolString& message);
  bool hasMore() const noexcept { return hasMore_; }
  /// The end of the message, once all of that was called for.
  WebSocketFault finish(std::size_t limit, Utf8Validator* utf8, PoolString& message);

private:
  std::unique_ptr<z_stream_s, DeleteInflate> stream_;
  int windowBits_;
  bool forgets_;
  bool hasMore_ = false;
};

/// Compresses messages, a part at a time. Takes its memory with the first one.
class WebSocketDeflater {
public:
  enum class Part : std::uint8_t { NOT_LAST, LAST };

  explicit WebSocketDeflater(const WebSocketDeflateTerms& terms) noexcept
      : smallest_(terms.smallest),
        windowBits_(terms.ownWindowBits),
        level_(terms.level),
        forgets_(terms.ownNoContextTakeover) {}

  /// Of fewer bytes a message is not worth it.
  std::size_t smallest() const noexcept { return smallest_; }

  /// Compresses a part of a message, of less than 4 GiB, and appends what comes of it to `payload`; that may be nothing
  /// yet, but for the last part, which is empty only if the message is. Throws std::bad_alloc.
  void deflate(std::span<const std::byte> bytes, Part part, PoolString& payload);
  /// What was compressed of a message goes nowhere: the next one refers to nothing before it.
  void reset() noexcept;

private:
  std::unique_ptr<z_stream_s, DeleteDeflate> stream_;
  std::size_t smallest_;
  int windowBits_;
  int level_;
  bool forgets_;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
