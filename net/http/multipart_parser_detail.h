// SPDX-License-Identifier: MIT
// MultipartParser: cuts a multipart body into its parts, from whatever pieces it comes in.
#pragma once

#include <troth/net/http/header_map.h>
#include <troth/net/http/multipart.h>
#include <troth/net/http/pool_allocator_detail.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Does no I/O and holds no part of a body: what looks like the beginning of a delimiter at the end of a piece and
/// turns out to be none is given out from the delimiter's own text. Each byte is looked at once.
///
/// Throws HttpError: 400 for what is malformed, 413 and 431 beyond the limits. After that it is of no use.
class MultipartParser {
public:
  enum class Event : std::uint8_t {
    NEED_INPUT, ///< the input has been used up
    HEADERS,    ///< a part begins: takeHeaders()
    BODY,       ///< `bytes` are of the part's body
    PART_END,   ///< the part is complete
    END         ///< the last part was complete; what follows is thrown away
  };

  /// `boundary` is one (isBoundary()).
  MultipartParser(std::string_view boundary, const MultipartLimits& limits);

  /// Goes on to the next event, and takes what that needs off the front of `input`. `bytes` is valid as long as the
  /// input and this object.
  Event next(std::string_view& input, std::string_view& bytes);
  /// There is no more input.
  void endInput() const;

  HeaderMap takeHeaders() noexcept { return std::exchange(headers_, HeaderMap()); }

private:
  enum class State : std::uint8_t { PREAMBLE, BODY, TAIL, HEADERS, EPILOGUE };
  enum class Tail : std::uint8_t { BEGIN, DASH, PADDING, CR }; // what came behind the delimiter

  std::string delimiter_; // CRLF, "--", and the boundary
  MultipartLimits limits_;
  State state_ = State::PREAMBLE;
  Tail tail_ = Tail::BEGIN;
  bool isInPart_ = false;
  bool isEndTold_ = false;
  // How much of the delimiter has come, and how much of that was not of the body: the first delimiter may stand at the
  // very beginning, as if a line had ended there.
  std::size_t matched_ = 2;
  std::size_t assumed_ = 2;
  std::size_t parts_ = 0;
  std::uint64_t bytes_ = 0;
  PoolString head_;           // the lines of a part's head that have come
  std::size_t lineStart_ = 0; // of the last one
  HeaderMap headers_;

  Event step(std::string_view& input, std::string_view& bytes);
  Event findDelimiter(std::string_view& input, std::string_view& bytes);
  Event matchOn(std::string_view& input, std::string_view& bytes);
  Event delimiterFound() noexcept;
  Event parseTail(std::string_view& input);
  Event endPart(State next);
  Event parseHead(std::string_view& input);
  void parseFields();
  void parseField(std::string_view line);
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
