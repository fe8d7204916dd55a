// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): WebSocket's codec and handshake. Any bytes, in whatever pieces they come, are the same
// messages and the same fault, within the limits; what is made of any message is read back as it was.
#include <troth/io/stream.h>
#include <troth/net/http/websocket_decoder_detail.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/net/http/websocket_handshake.h>
#include <troth/runtime/exception.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;
using http::detail::WebSocketDecoder;
using http::detail::WebSocketInflater;
using http::detail::WebSocketMasking;
using http::detail::WebSocketOpcode;

namespace {

constexpr http::detail::WebSocketLimits LIMITS{150'000, 20}; // more than is decompressed at once
constexpr http::detail::WebSocketMask MASK{std::byte{0x9a}, std::byte{0}, std::byte{0xff}, std::byte{0x31}};

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "websocket_fuzz: %s\n", what);
  std::abort();
}

enum class Compression : std::uint8_t { NONE, NEGOTIATED };

/// What a decoder makes of `bytes`, which come `step` at a time.
std::string decode(std::string_view bytes, std::size_t step, WebSocketMasking masking, Compression compression) {
  using Event = WebSocketDecoder::Event;
  WebSocketInflater inflater({});
  WebSocketDecoder decoder(masking, LIMITS, compression == Compression::NONE ? nullptr : &inflater);
  std::string seen;
  while (!bytes.empty()) {
    std::span<const std::byte> input = asBytes(bytes.substr(0, step));
    bytes.remove_prefix(std::min(step, bytes.size()));
    for (;;) {
      const Event event = decoder.next(input);
      if (event == Event::NEED_MORE) break;
      if (event == Event::PAUSE) continue;
      if (event == Event::FAULT) return seen + "fault " + std::string(textOf(decoder.fault()));
      if (event == Event::CLOSE) return seen + "close " + std::to_string(decoder.closeFrame().code);
      if (event == Event::MESSAGE) {
        const auto message = decoder.takeMessage();
        require(message.size() <= LIMITS.messageSize, "a message beyond the limit");
        seen.append(decoder.messageType() == WebSocketOpcode::TEXT ? "text " : "binary ").append(message);
      } else {
        require(decoder.controlPayload().size() <= http::detail::LONGEST_CONTROL_PAYLOAD, "a long control frame");
        seen.append(event == Event::PING ? "ping " : "pong ").append(decoder.controlPayload());
      }
    }
    require(input.empty(), "bytes that nobody has looked at");
  }
  return seen + (decoder.isInside() ? "more" : "");
}

void tryBytes(std::string_view bytes, std::size_t step) {
  for (const WebSocketMasking masking : {WebSocketMasking::REQUIRED, WebSocketMasking::FORBIDDEN}) {
    for (const Compression compression : {Compression::NONE, Compression::NEGOTIATED}) {
      const std::string whole = decode(bytes, SIZE_MAX, masking, compression);
      require(decode(bytes, 1, masking, compression) == whole, "single bytes are something else");
      require(decode(bytes, step, masking, compression) == whole, "the pieces are something else");
    }
  }
}

std::string frame(const http::detail::WebSocketFrameHeader& header, std::string payload) {
  if (header.mask) http::detail::applyMask(std::as_writable_bytes(std::span(payload)), *header.mask);
  std::array<std::byte, http::detail::LONGEST_FRAME_HEADER> out;
  const std::size_t size = writeFrameHeader(out, header);
  return std::string(reinterpret_cast<const char*>(out.data()), size) + payload;
}

/// The payload of a compressed message, which is compressed in two parts.
std::string compress(std::string_view message, std::size_t cut) {
  using http::detail::WebSocketDeflater;
  WebSocketDeflater deflater({});
  http::detail::PoolString payload;
  if (cut > 0 && cut < message.size()) {
    deflater.deflate(asBytes(message.substr(0, cut)), WebSocketDeflater::Part::NOT_LAST, payload);
    message.remove_prefix(cut);
  }
  deflater.deflate(asBytes(message), WebSocketDeflater::Part::LAST, payload);
  return std::string(payload);
}

/// The message in two frames, compressed or not, with a ping between.
void tryMessage(std::string_view message, std::size_t cut) {
  if (message.size() > LIMITS.messageSize) return;
  std::string payload(message);
  const bool compressed = cut % 2 == 0 && http::detail::canDeflate();
  if (compressed) payload = compress(message, cut);
  cut = std::min(cut, payload.size());
  const std::string bytes =
      frame({WebSocketOpcode::BINARY, false, compressed, MASK, cut}, payload.substr(0, cut)) +
      frame({WebSocketOpcode::PING, true, false, MASK, 1}, "p") +
      frame({WebSocketOpcode::CONTINUATION, true, false, MASK, payload.size() - cut}, payload.substr(cut));
  require(decode(bytes, SIZE_MAX, WebSocketMasking::REQUIRED, Compression::NEGOTIATED) ==
              "ping pbinary " + std::string(message),
          "a message is another one on the other side");
}

/// Any text as the extensions that a client offers, or a server accepts.
void tryExtensions(std::string_view text) {
  if (!http::detail::canDeflate()) return;
  const WebSocketDeflateOptions options;
  bool malformed = false;
  const auto accepted = http::detail::acceptDeflate(text, &options, malformed);
  require(!accepted || !malformed, "a malformed offer was accepted");
  if (accepted) {
    const auto terms = http::detail::checkDeflate(accepted->response, &options, std::source_location::current());
    require(terms && terms->ownWindowBits == accepted->terms.peerWindowBits &&
                terms->peerWindowBits == accepted->terms.ownWindowBits,
            "the two sides have agreed on different terms");
  }
  try {
    http::detail::checkDeflate(text, &options, std::source_location::current());
  } catch (const Exception& e) {
    require(e.kind() == Exception::Kind::FAILED, e.what());
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t choice = data[0];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  tryBytes(text, 2 + choice % 40);
  tryMessage(text, choice);
  tryExtensions(text);
  return 0;
}
