// SPDX-License-Identifier: MIT
// gzip and deflate, by zlib. Without it this file is empty.
#ifdef TROTH_HAS_ZLIB
#include <troth/net/http/codec_detail.h>
#include <troth/net/http/http_error.h>

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>
#include <string>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

// What zlib calls the formats: the size of the window, 2^15 bytes, and 16 more for gzip, or negated for no header.
constexpr int ZLIB_WINDOW_BITS = 15;
constexpr int GZIP_BITS = ZLIB_WINDOW_BITS + 16;
constexpr int MEMORY_LEVEL = 8;

// zlib counts in 32 bits.
uInt countOf(std::size_t size) noexcept {
  return static_cast<uInt>(std::min<std::size_t>(size, std::numeric_limits<uInt>::max()));
}

/// Lends zlib the spans for the time of one call, and moves their fronts on afterwards.
class LentToZlib {
public:
  LentToZlib(z_stream& stream, std::span<const std::byte>& input, std::span<std::byte>& output) noexcept
      : stream_(stream), input_(input), output_(output) {
    stream.next_in = reinterpret_cast<const Bytef*>(input.data());
    stream.avail_in = countOf(input.size());
    stream.next_out = reinterpret_cast<Bytef*>(output.data());
    stream.avail_out = countOf(output.size());
  }
  LentToZlib(const LentToZlib&) = delete;
  LentToZlib& operator=(const LentToZlib&) = delete;
  ~LentToZlib() {
    input_ = input_.subspan(countOf(input_.size()) - stream_.avail_in);
    output_ = output_.subspan(countOf(output_.size()) - stream_.avail_out);
  }

private:
  z_stream& stream_;
  std::span<const std::byte>& input_;
  std::span<std::byte>& output_;
};

class ZlibEncoder final : public Encoder {
public:
  ZlibEncoder(int windowBits, int level) {
    if (deflateInit2(&stream_, level, Z_DEFLATED, windowBits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~ZlibEncoder() override { deflateEnd(&stream_); }

  bool encode(std::span<const std::byte>& input, std::span<std::byte>& output, Step step) override {
    for (;;) {
      const bool isLast = input.size() <= std::numeric_limits<uInt>::max();
      const int flush = !isLast || step == Step::GO_ON ? Z_NO_FLUSH : step == Step::FLUSH ? Z_SYNC_FLUSH : Z_FINISH;
      int result = Z_OK;
      {
        const LentToZlib lent(stream_, input, output);
        result = deflate(&stream_, flush);
      }
      if (result == Z_STREAM_END) return true;
      // A flush is done when it leaves room; so is anything else that took all input. (A flush that has filled the
      // output to its last byte is asked for again, and may then have nothing more to say: Z_BUF_ERROR.)
      if (output.empty()) return step == Step::GO_ON && input.empty();
      if (input.empty() && step != Step::END) return true;
    }
  }

private:
  z_stream stream_{};
};

class ZlibDecoder final : public Decoder {
public:
  explicit ZlibDecoder(ContentCoding coding) noexcept : isGzip_(coding == ContentCoding::GZIP) {}
  ~ZlibDecoder() override {
    if (isOpen_) inflateEnd(&stream_);
  }

  Status decode(std::span<const std::byte>& input, std::span<std::byte>& output) override {
    if (!isOpen_) {
      if (input.empty()) return Status::NEEDS_INPUT;
      open(input.front());
    }
    for (;;) {
      int result = Z_OK;
      {
        const LentToZlib lent(stream_, input, output);
        result = inflate(&stream_, Z_NO_FLUSH);
      }
      if (result == Z_STREAM_END) return Status::ENDED;
      if (result == Z_MEM_ERROR) throw std::bad_alloc();
      if (result != Z_OK && result != Z_BUF_ERROR) refuse(result);
      if (output.empty()) return Status::NEEDS_ROOM;
      if (input.empty()) return Status::NEEDS_INPUT;
    }
  }

  bool restart() override { return isGzip_ && inflateReset(&stream_) == Z_OK; }

private:
  z_stream stream_{};
  bool isGzip_;
  bool isOpen_ = false;

  // Some senders take "deflate" for the bare format (RFC 9110, section 8.4.1.2). The first byte tells: in zlib's format
  // it has the method, 8, and the window's size, at most 7 (RFC 1950, section 2.2); a bare block that begins so would
  // be a stored one whose padding is not zero, which nobody makes.
  void open(std::byte first) {
    const auto header = static_cast<unsigned>(first);
    const bool isBare = !isGzip_ && ((header & 15) != 8 || header >> 4 > 7);
    if (inflateInit2(&stream_, isGzip_ ? GZIP_BITS : isBare ? -ZLIB_WINDOW_BITS : ZLIB_WINDOW_BITS) != Z_OK)
      throw std::bad_alloc();
    isOpen_ = true;
  }

  [[noreturn, gnu::cold]] void refuse(int result) const {
    const char* why = result == Z_NEED_DICT ? "it needs a dictionary" : stream_.msg;
    throw HttpError(400, std::string("a body in ") + (isGzip_ ? "gzip" : "deflate") +
                             " is malformed: " + (why == nullptr ? "invalid data" : why));
  }
};

} // namespace

std::unique_ptr<Encoder> newZlibEncoder(ContentCoding coding, CodingLevel level, const std::source_location& where) {
  return std::make_unique<ZlibEncoder>(coding == ContentCoding::GZIP ? GZIP_BITS : ZLIB_WINDOW_BITS,
                                       requireLevel(level, 6, 9, where));
}

std::unique_ptr<Decoder> newZlibDecoder(ContentCoding coding) { return std::make_unique<ZlibDecoder>(coding); }

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
#endif
