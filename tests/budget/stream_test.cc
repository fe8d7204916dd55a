// SPDX-License-Identifier: MIT
// What streams in memory take from the heap for each operation: nothing.
#include "counting.h"

#include <troth/io/buffered.h>
#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/promised_stream.h>
#include <troth/io/tee.h>
#include <troth/runtime/event_loop.h>

#include <doctest/doctest.h>

#include <array>
#include <span>

namespace troth::budget {
namespace {

struct StreamBudget {
  EventLoop loop;
  WaitScope scope{loop};
  OneWayPipe pipe = newOneWayPipe();
  std::array<std::byte, 64> buffer;

  const std::span<const std::byte> pieces[3] = {asBytes("hello "), asBytes("wor"), asBytes("ld")};

  /// Reads so many bytes, which somebody writes.
  void read(AsyncInputStream& input, std::size_t count) { input.read(std::span(buffer).first(count)).wait(scope); }
};

} // namespace

TEST_CASE_FIXTURE(StreamBudget, "writing to a pipe and reading from it allocate nothing, whoever comes first") {
  CHECK(allocationsOf([&] {
          Promise<void> write = pipe.output->write("hello");
          read(*pipe.input, 5);
          std::move(write).wait(scope);
        }) == 0);
  CHECK(allocationsOf([&] {
          Promise<Chunk> chunk = pipe.input->tryReadChunk();
          pipe.output->write("hello").wait(scope);
          std::move(chunk).wait(scope);
        }) == 0);
  CHECK(allocationsOf([&] {
          Promise<void> write = pipe.output->write(pieces);
          read(*pipe.input, 11);
          std::move(write).wait(scope);
        }) == 0);
  CHECK(allocationsOf([&] {
          { Promise<Chunk> cancelled = pipe.input->tryReadChunk(); }
          { Promise<void> cancelled = pipe.output->write(pieces); }
        }) == 0);
}

TEST_CASE_FIXTURE(StreamBudget, "pumping to a pipe, from one, and through one allocates nothing") {
  OneWayPipe second = newOneWayPipe();
  OneWayPipe third = newOneWayPipe();
  const auto pumpOnce = [&](auto&& pump, AsyncInputStream& end) {
    return allocationsOf([&] {
      Promise<std::uint64_t> pumping = pump();
      Promise<void> write = pipe.output->write("hello ");
      read(end, 6);
      std::move(write).wait(scope);
      Promise<void> more = pipe.output->write(pieces);
      read(end, 7);
      read(end, 4);
      std::move(more).wait(scope);
      std::move(pumping).wait(scope);
    });
  };
  CHECK(pumpOnce([&] { return pipe.input->pumpTo(*second.output, 17); }, *second.input) == 0);
  CHECK(pumpOnce([&] { return *second.output->tryPumpFrom(*pipe.input, 17); }, *second.input) == 0);
  CHECK(pumpOnce([&] { return pumpByBuffer(*pipe.input, *second.output, 17); }, *second.input) == 0);
  CHECK(allocationsOf([&] {
          Promise<std::uint64_t> from = *second.output->tryPumpFrom(*pipe.input, 5);
          Promise<std::uint64_t> to = second.input->pumpTo(*third.output, 5);
          Promise<void> write = pipe.output->write("hello");
          read(*third.input, 5);
          std::move(write).wait(scope);
          std::move(from).wait(scope);
          std::move(to).wait(scope);
        }) == 0);
}

TEST_CASE_FIXTURE(StreamBudget, "the branches of a tee allocate nothing for a read") {
  Tee tee = newTee(std::move(pipe.input), 100);
  CHECK(allocationsOf([&] {
          Promise<void> write = pipe.output->write("hello");
          read(*tee.branches[0], 5);
          std::move(write).wait(scope);
          read(*tee.branches[1], 5);
        }) == 0);
}

TEST_CASE_FIXTURE(StreamBudget, "a limited stream and a promised stream that has come allocate nothing for a read or write") {
  const std::unique_ptr<AsyncInputStream> limited = newLimitedInputStream(*pipe.input, std::uint64_t(1) << 40);
  const std::unique_ptr<AsyncOutputStream> promised =
      newPromisedStream(Promise<std::unique_ptr<AsyncOutputStream>>(std::move(pipe.output)));
  promised->write("").wait(scope);
  CHECK(allocationsOf([&] {
          Promise<void> write = promised->write("hello");
          read(*limited, 5);
          std::move(write).wait(scope);
        }) == 0);
}

TEST_CASE_FIXTURE(StreamBudget, "lines and flushes allocate nothing but the text of a long line") {
  BufferedInputStream lines(*pipe.input);
  BufferedOutputStream output(*pipe.output);
  CHECK(allocationsOf([&] {
          output.write("short\nand more\n").wait(scope);
          output.write("last\n").wait(scope);
          Promise<void> flush = output.flush();
          for (int i = 0; i < 3; ++i) lines.readLine().wait(scope);
          std::move(flush).wait(scope);
        }) == 0);
}

} // namespace troth::budget
