// SPDX-License-Identifier: MIT
// The streams benchmark's program on troth: pumps between pipes in memory, sockets and files.
#include "streams_common.h"

#include <troth/io/async_io.h>
#include <troth/io/descriptor.h>
#include <troth/io/file.h>
#include <troth/io/pipe.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

using namespace troth;

namespace {

struct Amount {
  std::uint64_t warmup, measured; // bytes
};

Promise<void> pump(AsyncInputStream& input, AsyncOutputStream& output, Amount amount) {
  co_await input.pumpTo(output, amount.warmup);
  const stream_clocks begin = read_clocks();
  print_costs(co_await input.pumpTo(output, amount.measured), begin);
}

Promise<void> pumpSockets(AsyncIo& io, Amount amount) {
  const auto input = newIoStream(io, INPUT_DESCRIPTOR, Ownership::TAKE);
  const auto output = newIoStream(io, OUTPUT_DESCRIPTOR, Ownership::TAKE);
  co_await pump(*input, *output, amount);
}

Promise<void> pumpFile(AsyncIo& io, std::string path, Amount amount) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) throw std::invalid_argument("the path of the file must be absolute");
  const auto directory = co_await openDirectory(io, path.substr(0, slash + 1));
  const auto file = co_await directory->openFile(Path::parse(path.substr(slash + 1)));
  const auto input = newFileInputStream(*file);
  const auto output = newIoStream(io, OUTPUT_DESCRIPTOR, Ownership::TAKE);
  co_await pump(*input, *output, amount);
}

// ------------------------------------------------------------------------------------------------- memory

/// Bytes of the pattern on their way: from a writer, through two pipes and the pump between them, to a reader.
class MemoryPump {
public:
  explicit MemoryPump(std::size_t pieceSize) : pieceSize_(pieceSize), pattern_(std::make_unique<stream_pattern>()) {
    make_pattern(pattern_.get());
  }

  enum class Check { EACH_PIECE, LENGTH };

  Promise<void> run(std::uint64_t bytes, Check check) {
    Promise<void> writing = write(bytes);
    Promise<std::uint64_t> pumping = first_.input->pumpTo(*second_.output, bytes);
    co_await read(bytes, check);
    co_await std::move(writing);
    co_await std::move(pumping);
  }

private:
  std::size_t pieceSize_;
  std::unique_ptr<stream_pattern> pattern_;
  OneWayPipe first_ = newOneWayPipe();
  OneWayPipe second_ = newOneWayPipe();
  std::array<char, PIECE_SIZE> buffer_;

  std::string_view pieceAt(std::uint64_t offset, std::uint64_t end) const {
    return {piece_at(pattern_.get(), offset),
            static_cast<std::size_t>(std::min<std::uint64_t>(pieceSize_, end - offset))};
  }

  Promise<void> write(std::uint64_t bytes) {
    for (std::uint64_t done = 0; done < bytes; done += pieceSize_) co_await first_.output->write(pieceAt(done, bytes));
  }

  Promise<void> read(std::uint64_t bytes, Check check) {
    const auto space = std::as_writable_bytes(std::span(buffer_).first(pieceSize_));
    for (std::uint64_t done = 0; done < bytes;) {
      const std::string_view expected = pieceAt(done, bytes);
      const std::size_t size = co_await second_.input->tryRead(space);
      done += size;
      if (check == Check::EACH_PIECE || done == bytes) requireSame(std::string_view(buffer_.data(), size), expected);
    }
  }

  static void requireSame(std::string_view received, std::string_view expected) {
    if (received != expected) throw std::runtime_error("wrong bytes came");
  }
};

Promise<void> pumpMemory(std::size_t pieceSize, Amount amount) {
  MemoryPump memory(pieceSize);
  co_await memory.run(amount.warmup, MemoryPump::Check::EACH_PIECE);
  const stream_clocks begin = read_clocks();
  co_await memory.run(amount.measured, MemoryPump::Check::LENGTH);
  print_costs(amount.measured, begin);
}

// --------------------------------------------------------------------------------------------------- main

int usage() {
  std::fputs("usage: streams_troth memory PIECE_SIZE WARMUP BYTES\n"
             "       streams_troth sockets unix|tcp WARMUP BYTES\n"
             "       streams_troth file unix|tcp WARMUP BYTES FILE\n",
             stderr);
  return 2;
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) throw std::invalid_argument(std::string(text));
  return value;
}

} // namespace

int main(int argc, char** argv) try {
  if (argc < 5) return usage();
  const std::string_view what = argv[1];
  const Amount amount{number(argv[3]), number(argv[4])};
  AsyncIoContext io = setupAsyncIo();
  if (what == "memory")
    pumpMemory(std::clamp<std::size_t>(number(argv[2]), 1, PIECE_SIZE), amount).wait(io.waitScope());
  else if (what == "sockets") // of whatever kind they are
    pumpSockets(io, amount).wait(io.waitScope());
  else if (what == "file" && argc == 6)
    pumpFile(io, argv[5], amount).wait(io.waitScope());
  else
    return usage();
} catch (const std::exception& e) {
  std::fprintf(stderr, "streams_troth: %s\n", e.what());
  return 1;
}
