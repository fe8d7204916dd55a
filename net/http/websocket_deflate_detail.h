// SPDX-License-Identifier: MIT
// permessage-deflate (RFC 7692): its negotiation, and the compression of messages.
#pragma once

#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/websocket_deflate.h>
#include <troth/net/http/websocket_frame_detail.h>

#include <cstddef>
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

/// Decompresses messages. Takes its memory with the first one.
class WebSocketInflater {
public:
  explicit WebSocketInflater(const WebSocketDeflateTerms& terms) noexcept
      : windowBits_(terms.peerWindowBits), forgets_(terms.peerNoContextTakeover) {}

  /// Decompresses a part of a message, which it appends to `message`. Stops with MESSAGE_TOO_BIG before that would have
  /// more than `limit` bytes, and with NOT_UTF8 if `utf8`, which may be null, says so.
  WebSocketFault inflate(std::span<const std::byte> input, std::size_t limit, Utf8Validator* utf8, PoolString& message);
  /// The same for the end of the message.
  WebSocketFault finish(std::size_t limit, Utf8Validator* utf8, PoolString& message);

private:
  std::unique_ptr<z_stream_s, DeleteInflate> stream_;
  int windowBits_;
  bool forgets_;
};

/// Compresses messages. Takes its memory with the first one.
class WebSocketDeflater {
public:
  explicit WebSocketDeflater(const WebSocketDeflateTerms& terms) noexcept
      : windowBits_(terms.ownWindowBits), level_(terms.level), forgets_(terms.ownNoContextTakeover) {}

  /// The payload of the compressed message.
  PoolString deflate(std::span<const std::byte> message);

private:
  std::unique_ptr<z_stream_s, DeleteDeflate> stream_;
  int windowBits_;
  int level_;
  bool forgets_;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
