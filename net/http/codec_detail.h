// SPDX-License-Identifier: MIT
// Encoder and Decoder: what the compression libraries have in common.
#pragma once

#include <troth/net/http/content_coding.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

class Encoder {
public:
  enum class Step : std::uint8_t { GO_ON, FLUSH, END };

  Encoder() noexcept = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  virtual ~Encoder() = default;

  /// Takes from the front of `input` and puts into the front of `output`, until one of them is used up. Returns whether
  /// the step is done: all input was taken and, for FLUSH and END, all output put. If not, call it again with room.
  virtual bool encode(std::span<const std::byte>& input, std::span<std::byte>& output, Step step) = 0;
};

class Decoder {
public:
  enum class Status : std::uint8_t {
    NEEDS_INPUT, ///< all input was taken, and all that it gives was put
    NEEDS_ROOM,  ///< the output is full; there may be more
    ENDED        ///< the coding's end has come; what is left of the input is behind it
  };

  Decoder() noexcept = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  /// Takes from the front of `input` and puts into the front of `output`. Throws HttpError with 400 for what is
  /// malformed.
  virtual Status decode(std::span<const std::byte>& input, std::span<std::byte>& output) = 0;
  /// After ENDED, when there is more input: whether another coding may follow, which is decoded from now on.
  virtual bool restart() { return false; }
};

std::unique_ptr<Encoder> newEncoder(ContentCoding coding, CodingLevel level, const std::source_location& where);
std::unique_ptr<Decoder> newDecoder(ContentCoding coding, const std::source_location& where);

// Each in the file of its library, which is compiled if that is there.
std::unique_ptr<Encoder> newZlibEncoder(ContentCoding coding, CodingLevel level, const std::source_location& where);
std::unique_ptr<Decoder> newZlibDecoder(ContentCoding coding);
std::unique_ptr<Encoder> newBrotliEncoder(CodingLevel level, const std::source_location& where);
std::unique_ptr<Decoder> newBrotliDecoder();

/// Throws FAILED unless the level is DEFAULT_LEVEL, which gives `usual`, or 0 to `highest`.
int requireLevel(CodingLevel level, int usual, int highest, const std::source_location& where);

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
