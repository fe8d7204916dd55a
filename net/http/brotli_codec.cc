// SPDX-License-Identifier: MIT
// Brotli (RFC 7932), by the library of that name. Without it this file is empty.
#ifdef TROTH_HAS_BROTLI
#include <troth/net/http/codec_detail.h>
#include <troth/net/http/http_error.h>

#include <brotli/decode.h>
#include <brotli/encode.h>

#include <new>
#include <stdexcept>
#include <string>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

// The encoder's window, 2^19 bytes: with the library's own, of 4 MiB, a server's memory would go to its connections.
constexpr std::uint32_t BROTLI_WINDOW_BITS = 19;

/// The spans as brotli's functions want them; moves their fronts on afterwards.
struct LentToBrotli {
  LentToBrotli(std::span<const std::byte>& inputSpan, std::span<std::byte>& outputSpan) noexcept
      : availableIn(inputSpan.size()),
        in(reinterpret_cast<const std::uint8_t*>(inputSpan.data())),
        availableOut(outputSpan.size()),
        out(reinterpret_cast<std::uint8_t*>(outputSpan.data())),
        input(inputSpan),
        output(outputSpan) {}
  LentToBrotli(const LentToBrotli&) = delete;
  LentToBrotli& operator=(const LentToBrotli&) = delete;
  ~LentToBrotli() {
    input = input.last(availableIn);
    output = output.last(availableOut);
  }

  std::size_t availableIn;
  const std::uint8_t* in;
  std::size_t availableOut;
  std::uint8_t* out;
  std::span<const std::byte>& input;
  std::span<std::byte>& output;
};

class BrotliEncoder final : public Encoder {
public:
  explicit BrotliEncoder(int quality) : state_(BrotliEncoderCreateInstance(nullptr, nullptr, nullptr)) {
    if (state_ == nullptr) throw std::bad_alloc();
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, static_cast<std::uint32_t>(quality));
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, BROTLI_WINDOW_BITS);
  }
  ~BrotliEncoder() override { BrotliEncoderDestroyInstance(state_); }

  bool encode(std::span<const std::byte>& input, std::span<std::byte>& output, Step step) override {
    const BrotliEncoderOperation operation = step == Step::GO_ON   ? BROTLI_OPERATION_PROCESS
                                             : step == Step::FLUSH ? BROTLI_OPERATION_FLUSH
                                                                   : BROTLI_OPERATION_FINISH;
    {
      LentToBrotli lent(input, output);
      if (!BrotliEncoderCompressStream(state_, operation, &lent.availableIn, &lent.in, &lent.availableOut, &lent.out,
                                       nullptr))
        throw std::bad_alloc(); // the one thing that can go wrong in it
    }
    return input.empty() && !BrotliEncoderHasMoreOutput(state_);
  }

private:
  BrotliEncoderState* state_;
};

class BrotliDecoder final : public Decoder {
public:
  BrotliDecoder() : state_(BrotliDecoderCreateInstance(nullptr, nullptr, nullptr)) {
    if (state_ == nullptr) throw std::bad_alloc();
  }
  ~BrotliDecoder() override { BrotliDecoderDestroyInstance(state_); }

  Status decode(std::span<const std::byte>& input, std::span<std::byte>& output) override {
    LentToBrotli lent(input, output);
    switch (
        BrotliDecoderDecompressStream(state_, &lent.availableIn, &lent.in, &lent.availableOut, &lent.out, nullptr)) {
    case BROTLI_DECODER_RESULT_SUCCESS:
      return Status::ENDED;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
      return Status::NEEDS_INPUT;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
      return Status::NEEDS_ROOM;
    case BROTLI_DECODER_RESULT_ERROR:
      break;
    }
    const BrotliDecoderErrorCode code = BrotliDecoderGetErrorCode(state_);
    if (code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES)
      throw std::bad_alloc();
    throw HttpError(400, std::string("a body in br is malformed: ") + BrotliDecoderErrorString(code));
  }

private:
  BrotliDecoderState* state_;
};

} // namespace

std::unique_ptr<Encoder> newBrotliEncoder(CodingLevel level, const std::source_location& where) {
  return std::make_unique<BrotliEncoder>(requireLevel(level, 5, BROTLI_MAX_QUALITY, where));
}

std::unique_ptr<Decoder> newBrotliDecoder() { return std::make_unique<BrotliDecoder>(); }

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
#endif
