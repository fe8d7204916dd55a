// SPDX-License-Identifier: MIT
// Streams for tests: one that plays a script, and ones that pass bytes on a few at a time.
#pragma once

#include <troth/io/stream.h>
#include <troth/timers/timer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {

/// A stream whose other end is a script: what it sends, and what it expects to get, one step after the other. It needs
/// no operating system, so a test of a protocol is quick and always runs the same way.
///
///     ScriptedStream stream;
///     stream.giveRead("220 ready\r\n").expectWrite("QUIT\r\n").giveRead("221 bye\r\n").giveEnd();
///     talk(stream).wait(scope);
///     stream.checkFinished();
///
/// The other end acts by itself, as a peer does. What it gives is there to be read once the steps before are done,
/// whether somebody reads or not; it goes on from an expectWrite() when those bytes have been written, and from a
/// delay when that is over. The script begins with the first operation. Steps may be added at any time. When it is
/// over, the other end is silent: reads wait, and writes fail.
///
/// The contracts are those of AsyncIoStream. Reads are never ready before the loop has turned; writes are done at once,
/// unless shortWrites() or a delay is in the way. Code that wants to own its stream can own a
/// newShortIoStream() of this one, so that the test still has it at the end.
///
/// Belongs to one thread. The functions that build the script return the stream itself.
class ScriptedStream final : public AsyncIoStream {
public:
  ScriptedStream();
  /// Rejects what is pending with DISCONNECTED. Does not check that the script is finished.
  ~ScriptedStream() override;
  ScriptedStream(const ScriptedStream&) = delete;
  ScriptedStream& operator=(const ScriptedStream&) = delete;

  // --- The steps of the script.

  /// Gets exactly these bytes, in as many writes as there may be. A write of something else, here or when the script
  /// expects none, fails with FAILED, as does each one after it; the error tells the offset, what was expected and what
  /// came.
  ScriptedStream& expectWrite(std::string_view bytes);
  /// Sends these bytes. A read gets those of one giveRead() at most, unless its minBytes asks for more.
  ScriptedStream& giveRead(std::string_view bytes);
  /// Ends the stream: reads get what was given before, and then the end.
  ScriptedStream& giveEnd();
  /// Waits for shutdownWrite().
  ScriptedStream& expectShutdown();
  /// Waits for abortWrite().
  ScriptedStream& expectAbort();
  /// Waits; a write meanwhile waits too. `timer`, which may be a ManualTimer, must outlive the delay.
  ScriptedStream& delay(Timer& timer, Duration duration);
  /// Waits for `turns` trips through the loop's queue.
  ScriptedStream& delayTurns(std::size_t turns);

  // --- What applies to the whole stream, whatever the step.

  /// Reading fails with `error` after `offset` bytes. What was given before can be read.
  ScriptedStream& failReadAt(std::uint64_t offset, Exception error = Exception(Exception::Kind::DISCONNECTED,
                                                                               "an error that the test asked for"));
  /// Writing fails with `error` after `offset` bytes, of which the script expects each.
  ScriptedStream& failWriteAt(std::uint64_t offset, Exception error = Exception(Exception::Kind::DISCONNECTED,
                                                                                "an error that the test asked for"));
  /// A read gets at most `most` bytes (1 or more), unless its minBytes asks for more.
  ScriptedStream& shortReads(std::size_t most, std::source_location where = std::source_location::current());
  /// A write goes on by at most `most` bytes (1 or more) a turn.
  ScriptedStream& shortWrites(std::size_t most, std::source_location where = std::source_location::current());

  // --- What has become of it.

  /// Whether all went as the script says: everything given was read, ends and errors included, everything expected
  /// came, and no write differed, even if nobody looked at its error.
  bool isFinished() const;
  /// Throws FAILED if not, and tells what differed and what was not used.
  void checkFinished(std::source_location where = std::source_location::current()) const;

  // --- The stream. For the contracts see AsyncIoStream.

  using AsyncOutputStream::write;
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes = 1,
                               std::source_location where = std::source_location::current()) override;
  Promise<void> write(std::span<const std::byte> bytes,
                      std::source_location where = std::source_location::current()) override;
  Promise<void> write(std::span<const std::span<const std::byte>> pieces,
                      std::source_location where = std::source_location::current()) override;
  /// Completes when a write has failed, for whatever reason, or the stream is destroyed.
  Promise<void> whenWriteDisconnected(std::source_location where = std::source_location::current()) override;
  void shutdownWrite(std::source_location where = std::source_location::current()) override;
  void abortWrite(std::source_location where = std::source_location::current()) override;
  /// What was given and not read counts as not used, as before.
  void abortRead(std::source_location where = std::source_location::current()) override;

private:
  struct State;
  std::shared_ptr<State> state_;
};

/// A stream that reads and writes `stream` at most `most` bytes (1 or more) at a time: a read that asks for more by its
/// minBytes gets that, and a write becomes several. It does not own `stream`, which must outlive it; destroying it
/// rejects what is pending and leaves `stream` as it is.
std::unique_ptr<AsyncIoStream> newShortIoStream(AsyncIoStream& stream, std::size_t most,
                                                std::source_location where = std::source_location::current());
/// The same for reading alone.
std::unique_ptr<AsyncInputStream> newShortInputStream(AsyncInputStream& stream, std::size_t most,
                                                      std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
