// SPDX-License-Identifier: MIT
// WebSocket: what its functions check before its state does the rest.
#include <troth/net/http/websocket_state_detail.h>

#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace {

using detail::WebSocketMasking;
using detail::WebSocketOpcode;
using troth::detail::Ref;

// RFC 6455, section 5.5: the payload of a control frame has 125 bytes, and the code takes two.
constexpr std::size_t LONGEST_REASON = detail::LONGEST_CONTROL_PAYLOAD - 2;

class CloseCodes final : public std::error_category {
public:
  const char* name() const noexcept override { return "WebSocket"; }
  std::string message(int code) const override { return fmt::format("closed with code {}", code); }
};

bool isUtf8(std::string_view text) noexcept {
  detail::Utf8Validator utf8;
  return utf8.feed(asBytes(text)) && utf8.isComplete();
}

} // namespace

std::error_code make_error_code(WebSocketCloseCode code) noexcept {
  static const CloseCodes category;
  return {static_cast<int>(code), category};
}

Exception detail::webSocketDisconnected(std::string_view what, const std::source_location& where,
                                        std::error_code code) noexcept {
  try {
    return Exception(Exception::Kind::DISCONNECTED, fmt::format("WebSocket: {}", what), code, where);
  } catch (...) {
    return Exception::fromCurrent(); // no memory to say so
  }
}

WebSocket::State::State(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement,
                        const WebSocketOptions& options)
    : stream_(std::move(stream)),
      subprotocol_(std::move(agreement.subprotocol)),
      codecs_(agreement.deflate ? std::make_unique<Codecs>(*agreement.deflate) : nullptr),
      role_(role),
      decoder_(role == Role::SERVER ? WebSocketMasking::REQUIRED : WebSocketMasking::FORBIDDEN,
               {options.maxMessageSize, options.maxFragments}, codecs_ != nullptr ? &codecs_->inflater : nullptr),
      controls_(role, options.maxQueuedPongs),
      timer_(options.timer),
      closeTimeout_(options.closeTimeout),
      pingInterval_(options.pingInterval),
      pingTimeout_(options.pingTimeout) {}

WebSocket::WebSocket(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement,
                     const WebSocketOptions& options, std::source_location where) {
  troth::detail::requireStream(stream, "WebSocket", where);
  if (options.maxQueuedPongs == 0) troth::detail::throwMisuse("WebSocket: a queue for 0 pongs", where);
  for (const Duration time : {options.closeTimeout, options.pingInterval, options.pingTimeout})
    if (time < Duration::zero()) troth::detail::throwMisuse("WebSocket: a time-out that is negative", where);
  if (options.pingInterval > Duration::zero() && options.timer == nullptr)
    troth::detail::throwMisuse("WebSocket: a pingInterval needs a timer", where);
  if (agreement.deflate && !detail::canDeflate())
    troth::detail::throwMisuse("WebSocket: this troth was built without zlib, and has not agreed on it", where);
  state_ = Ref<State>(*new State(std::move(stream), role, std::move(agreement), options));
  state_->start();
}

WebSocket::WebSocket(WebSocket&& other) noexcept = default;

WebSocket& WebSocket::operator=(WebSocket&& other) noexcept {
  WebSocket old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

WebSocket::~WebSocket() {
  if (state_) state_->stop(detail::webSocketDisconnected("it was destroyed", std::source_location::current()));
}

WebSocket::State& WebSocket::state(const std::source_location& where) const {
  if (!state_) troth::detail::throwMisuse("WebSocket: it was moved from", where);
  return *state_;
}

Promise<WebSocketMessage> WebSocket::receive(std::source_location where) { return State::receive(state(where), where); }

Promise<void> WebSocket::send(std::string_view text, std::source_location where) {
  if (text.size() <= State::CHECKED_AT_ONCE && !isUtf8(text)) State::throwNotUtf8(where);
  return State::send(state(where), WebSocketOpcode::TEXT, asBytes(text), where);
}

Promise<void> WebSocket::send(std::span<const std::byte> bytes, std::source_location where) {
  return State::send(state(where), WebSocketOpcode::BINARY, bytes, where);
}

Promise<void> WebSocket::ping(std::source_location where) { return State::ping(state(where), where); }

Promise<void> WebSocket::close(WebSocketCloseCode code, std::string_view reason, std::source_location where) {
  if (!detail::mayBeSent(static_cast<std::uint16_t>(code)))
    troth::detail::throwMisuse(fmt::format("WebSocket::close: {} is no code to send", static_cast<unsigned>(code)),
                               where);
  if (reason.size() > LONGEST_REASON || !isUtf8(reason))
    troth::detail::throwMisuse(
        "WebSocket::close: the reason " + troth::detail::quote(reason) + " is not UTF-8 of at most 123 bytes", where);
  return State::close(state(where), code, reason, where);
}

void WebSocket::abort(std::source_location where) { state(where).abort(where); }

const std::string& WebSocket::subprotocol() const noexcept {
  static const std::string NONE;
  return state_ ? state_->subprotocol() : NONE;
}

} // namespace http
} // namespace v0
} // namespace troth
