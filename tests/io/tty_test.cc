// SPDX-License-Identifier: MIT
// Tests of terminals, on pseudo-terminals whose other side the test has.
#include "peer.h"
#include "raw_descriptors.h"

#include <troth/io/tty.h>

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <string>

using namespace troth;
using namespace troth::test;

namespace {

void type(const PseudoTerminal& pty, std::string_view keys) {
  REQUIRE(::write(pty.emulator.get(), keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

/// Types keys of which the terminal gets something to read. The kernel carries them over in its own time.
void typeThrough(const PseudoTerminal& pty, std::string_view keys) {
  type(pty, keys);
  pollfd terminal{pty.terminal.get(), POLLIN, 0};
  REQUIRE(::poll(&terminal, 1, 10'000) == 1);
}

/// Waits until the emulator has been told to show `text`. The kernel carries it over in its own time and parts.
void awaitShown(const PseudoTerminal& pty, std::string_view text) {
  std::string all;
  while (!contains(all, text)) {
    char part[256];
    const ssize_t count = ::read(pty.emulator.get(), part, sizeof part);
    REQUIRE(count > 0);
    all.append(part, static_cast<std::size_t>(count));
  }
}

bool hasFlag(int fd, tcflag_t flag) {
  termios settings{};
  REQUIRE(tcgetattr(fd, &settings) == 0);
  return (settings.c_lflag & flag) != 0;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a terminal gives lines, and shows what is written") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  Promise<Chunk> read = tty->tryReadChunk();
  type(pty, "a li");
  REQUIRE(!read.poll(scope));
  CHECK(takeAfter(read, scope, [&] { typeThrough(pty, "ne\n"); }).text() == "a line\n");
  awaitShown(pty, "a line"); // the echo
  tty->write("answer").wait(scope);
  awaitShown(pty, "answer");
}

TEST_CASE_FIXTURE(IoTest, "in raw mode a terminal gives keys at once, without echo") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  tty->setMode(Tty::Mode::RAW);
  CHECK(!hasFlag(pty.terminal.get(), ICANON | ECHO));
  Promise<Chunk> read = tty->tryReadChunk();
  CHECK(takeAfter(read, scope, [&] { typeThrough(pty, "q"); }).text() == "q");
  Promise<Chunk> interrupt = tty->tryReadChunk();
  CHECK(takeAfter(interrupt, scope, [&] { typeThrough(pty, "\x03"); }).text() == "\x03");
  tty->setMode(Tty::Mode::NORMAL);
  CHECK(hasFlag(pty.terminal.get(), ICANON));
  CHECK(hasFlag(pty.terminal.get(), ECHO));
}

TEST_CASE_FIXTURE(IoTest, "a terminal has its mode back when the stream has gone, by whatever way it was made") {
  PseudoTerminal pty = newPseudoTerminal();
  {
    auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
    tty->setMode(Tty::Mode::RAW);
    tty->setMode(Tty::Mode::RAW);
    CHECK(!hasFlag(pty.terminal.get(), ICANON));
  }
  CHECK(hasFlag(pty.terminal.get(), ICANON));
  CHECK(hasFlag(pty.terminal.get(), ECHO));
  const auto stream = newIoStream(io, pty.terminal.get(), Ownership::BORROW);
  CHECK(dynamic_cast<Tty*>(stream.get()) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "the normal mode is what the terminal had before raw mode, whoever has set it and when") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  termios settings{};
  REQUIRE(tcgetattr(pty.terminal.get(), &settings) == 0);
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  REQUIRE(tcsetattr(pty.terminal.get(), TCSANOW, &settings) == 0);
  tty->setMode(Tty::Mode::NORMAL);
  CHECK(!hasFlag(pty.terminal.get(), ECHO));
  tty->setMode(Tty::Mode::RAW);
  CHECK(!hasFlag(pty.terminal.get(), ICANON));
  tty.reset();
  CHECK(hasFlag(pty.terminal.get(), ICANON));
  CHECK(!hasFlag(pty.terminal.get(), ECHO));
}

TEST_CASE_FIXTURE(IoTest, "a terminal that is open for one direction fails in the other") {
  PseudoTerminal pty = newPseudoTerminal();
  const OwnedDescriptor readable(open(ptsname(pty.emulator.get()), O_RDONLY | O_NOCTTY | O_CLOEXEC));
  const OwnedDescriptor writable(open(ptsname(pty.emulator.get()), O_WRONLY | O_NOCTTY | O_CLOEXEC));
  auto reader = newTty(io, readable.get(), Ownership::BORROW);
  auto writer = newTty(io, writable.get(), Ownership::BORROW);
  failureOf(reader->write("text"), scope);
  failureOf(writer->tryReadChunk(), scope);
  writer->write("shown").wait(scope);
  awaitShown(pty, "shown");
  Promise<Chunk> read = reader->tryReadChunk();
  CHECK(takeAfter(read, scope, [&] { typeThrough(pty, "x\n"); }).text() == "x\n");
}

TEST_CASE_FIXTURE(IoTest, "a terminal tells its size") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  CHECK(tty->windowSize().columns == 0);
  const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  REQUIRE(ioctl(pty.emulator.get(), TIOCSWINSZ, &size) == 0);
  CHECK(tty->windowSize().columns == 80);
  CHECK(tty->windowSize().rows == 24);
}

TEST_CASE_FIXTURE(IoTest, "a terminal does not become non-blocking for the others who have it, and stays theirs") {
  PseudoTerminal pty = newPseudoTerminal();
  const int before = fcntl(pty.terminal.get(), F_GETFL);
  {
    auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
    CHECK(*tty->descriptor() != pty.terminal.get());
    CHECK(isClosedOnExec(*tty->descriptor()));
    CHECK(fcntl(pty.terminal.get(), F_GETFL) == before);
    tty->write("x").wait(scope);
    CHECK(fcntl(pty.terminal.get(), F_GETFL) == before);
  }
  CHECK(fcntl(pty.terminal.get(), F_GETFL) == before);
}

TEST_CASE_FIXTURE(IoTest, "standard input and output may be a terminal, which the shell finds as it was") {
  PseudoTerminal pty = newPseudoTerminal();
  const Standard standardIn(STDIN_FILENO, pty.terminal.get());
  const Standard standardErr(STDERR_FILENO, pty.terminal.get());
  auto input = standardInput(io);
  auto error = standardError(io);
  dynamic_cast<Tty&>(*input).setMode(Tty::Mode::RAW);
  type(pty, "q");
  CHECK(input->tryReadChunk().wait(scope).text() == "q");
  error->write("shown").wait(scope);
  awaitShown(pty, "shown");
  input.reset();
  error.reset();
  CHECK(hasFlag(pty.terminal.get(), ICANON));
  for (const int fd : {STDIN_FILENO, STDERR_FILENO, pty.terminal.get()}) {
    CHECK(isOpen(fd));
    CHECK(!isNonBlocking(fd));
  }
  CHECK(!isClosedOnExec(STDIN_FILENO));
}

TEST_CASE_FIXTURE(IoTest, "a terminal that cannot be opened anew is a stream all the same, and stays blocking") {
  PseudoTerminal pty = newPseudoTerminal();
  std::unique_ptr<Tty> tty;
  {
    DescriptorLimit limit(1);
    tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  }
  CHECK(!isNonBlocking(pty.terminal.get()));
  Promise<Chunk> read = tty->tryReadChunk();
  CHECK(takeAfter(read, scope, [&] { typeThrough(pty, "line\n"); }).text() == "line\n");
  tty->setMode(Tty::Mode::RAW);
  std::string buffer(2, '.');
  Promise<void> both = tty->read(bufferOf(buffer));
  typeThrough(pty, "a");
  REQUIRE(!both.poll(scope));
  typeThrough(pty, "b");
  std::move(both).wait(scope);
  CHECK(buffer == "ab");
  tty->write("answer").wait(scope);
  awaitShown(pty, "answer");
  DescriptorLimit none;
  CHECK((thrownBy([&] { (void)newTty(io, pty.terminal.get(), Ownership::BORROW); }).kind() == Exception::Kind::OVERLOADED));
}

TEST_CASE_FIXTURE(IoTest, "a terminal that is taken is closed with the stream") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.release(), Ownership::TAKE);
  tty.reset();
  char byte;
  CHECK(::read(pty.emulator.get(), &byte, 1) < 0); // nobody has the terminal any more
  CHECK(errno == EIO);
}

TEST_CASE_FIXTURE(IoTest, "what is not a terminal is refused, also the emulator's side of one, which is a stream") {
  PseudoTerminal pty = newPseudoTerminal();
  OwnedDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {pty.emulator.get(), null.get()}) {
    const Exception e = thrownBy([&] { (void)newTty(io, fd, Ownership::TAKE); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "newTty: descriptor " + std::to_string(fd) + " is not a terminal"));
    CHECK(madeIn(e, "tty_test.cc"));
  }
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  auto emulator = newIoStream(io, pty.emulator.get(), Ownership::BORROW);
  emulator->write("typed\n").wait(scope);
  CHECK(tty->tryReadChunk().wait(scope).text() == "typed\n");
  std::string echo;
  while (!contains(echo, "typed")) echo += emulator->tryReadChunk().wait(scope).text();
}

TEST_CASE_FIXTURE(IoTest, "after shutdownWrite a terminal refuses to be written, and goes on to be read") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  tty->shutdownWrite();
  scope.poll();
  CHECK(contains(thrownBy([&] { (void)tty->write("x"); }).description(), "shut down"));
  Promise<Chunk> read = tty->tryReadChunk();
  CHECK(takeAfter(read, scope, [&] { typeThrough(pty, "x\n"); }).text() == "x\n");
}

TEST_CASE_FIXTURE(IoTest, "a terminal whose emulator has gone is disconnected for writing") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  Promise<void> gone = tty->whenWriteDisconnected();
  REQUIRE(!gone.poll(scope));
  pty.emulator.close();
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a terminal whose emulator has gone has ended for reading, is disconnected for writing, and has no mode") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  tty->setMode(Tty::Mode::RAW);
  Promise<Chunk> read = tty->tryReadChunk();
  REQUIRE(!read.poll(scope));
  pty.emulator.close();
  CHECK(std::move(read).wait(scope).empty());
  const Exception e = failureOf(tty->write("x"), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "hung up"));
  CHECK(madeIn(e, "tty_test.cc"));
  CHECK(contains(thrownBy([&] { tty->setMode(Tty::Mode::NORMAL); }).description(), "setMode"));
  CHECK(contains(thrownBy([&] { (void)tty->windowSize(); }).description(), "windowSize"));
}

TEST_CASE_FIXTURE(IoTest, "reading a terminal can be cancelled, and the stream may go first (R9)") {
  PseudoTerminal pty = newPseudoTerminal();
  auto tty = newTty(io, pty.terminal.get(), Ownership::BORROW);
  {
    Promise<Chunk> cancelled = tty->tryReadChunk();
    typeThrough(pty, "kept\n");
    REQUIRE(cancelled.poll(scope));
  }
  CHECK(tty->tryReadChunk().wait(scope).text() == "kept\n");
  Promise<Chunk> read = tty->tryReadChunk();
  REQUIRE(!read.poll(scope));
  tty.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE("a dialogue on a terminal can be cancelled at every step (R5)") {
  const auto body = [](IoTest& test) -> Promise<void> {
    PseudoTerminal pty = newPseudoTerminal();
    auto tty = newTty(test.io, pty.terminal.get(), Ownership::TAKE);
    pty.terminal.release();
    tty->setMode(Tty::Mode::RAW);
    co_await tty->write("name? ");
    type(pty, "x");
    const Chunk key = co_await tty->tryReadChunk();
    CHECK(key.text() == "x");
    type(pty, "y");
    const Chunk next = co_await tty->tryReadChunk();
    CHECK(next.text() == "y");
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(body)) > 2);
}
