// SPDX-License-Identifier: MIT
// How the messages of a WebSocket are compressed: what a side wishes, and what the two have agreed on.
#pragma once

#include <cstddef>

namespace troth {
inline namespace v0 {
namespace http {

/// Wishes for permessage-deflate (RFC 7692). Compression has its price: some 260 kB of memory for each connection that
/// has sent a compressed message and 40 kB for one that has got one, and a secret in a message beside text that an
/// attacker chooses can be guessed from its length. So it is off unless it is asked for.
///
/// A smaller window costs less memory and compresses less. So do contexts that are not kept from one message to the
/// next: for them memory is held only while there is a message.
struct WebSocketDeflateOptions {
  /// 9 to 15: the window with which this side compresses has at most 2 to the power of so many bytes.
  int ownWindowBits = 15;
  /// The same for the peer, which is asked to keep to it.
  int peerWindowBits = 15;
  /// Whether this side forgets after each message what it has compressed.
  bool ownNoContextTakeover = false;
  /// Whether the peer is asked to do so.
  bool peerNoContextTakeover = false;
  /// zlib's: 1 is fast, 9 is small.
  int level = 6;
  /// Messages of fewer bytes are sent as they are.
  std::size_t smallest = 128;
};

/// What was agreed on with the handshake: made by answerWebSocket() and WebSocketHandshake::check().
struct WebSocketDeflateTerms {
  int ownWindowBits = 15;
  int peerWindowBits = 15;
  bool ownNoContextTakeover = false;
  bool peerNoContextTakeover = false;
  int level = 6;
  std::size_t smallest = 128;
};

} // namespace http
} // namespace v0
} // namespace troth
