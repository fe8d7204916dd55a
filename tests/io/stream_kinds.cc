// SPDX-License-Identifier: MIT
// The table of the kinds of streams, and what their tests share.
#include "stream_kinds.h"

#include "raw_descriptors.h"
#include "temporary_directory.h"

#include <troth/io/buffered.h>
#include <troth/io/capability_stream.h>
#include <troth/io/file.h>
#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/promised_stream.h>
#include <troth/io/tee.h>
#include <troth/io/testing.h>
#include <troth/io/tty.h>
#include <troth/net/testing.h>

#include <algorithm>
#include <random>

namespace troth::test {

namespace {

/// There at once.
template <typename Stream>
Promise<std::unique_ptr<Stream>> atOnce(std::unique_ptr<Stream> stream) {
  return stream;
}

/// There after some turns.
template <typename Stream>
Promise<std::unique_ptr<Stream>> later(std::unique_ptr<Stream> stream) {
  for (int i = 0; i < 3; ++i) co_await yield();
  co_return std::move(stream);
}

// ------------------------------------------------------------------------------------------ breaking off

void breakPump(Way& way) {
  OneWayPipe silent = newOneWayPipe();
  std::optional<Promise<std::uint64_t>> pump = way.output->tryPumpFrom(*silent.input, ALL_BYTES);
  REQUIRE(pump);
  way.output = nullptr;
}

void breakTcp(Way& way) {
  const linger atOnce{1, 0};
  const int fd = dynamic_cast<AsyncIoStream&>(*way.output).descriptor().value();
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &atOnce, sizeof atOnce) == 0);
  way.output = nullptr;
}

void breakUnix(Way& way) {
  Promise<void> unread = dynamic_cast<AsyncIoStream&>(*way.input).write("unread");
  way.output = nullptr;
}

// ------------------------------------------------------------------------------------------------- pairs

StreamPair newMemoryPair(IoTest&) {
  TwoWayPipe pipe = newTwoWayPipe();
  return {std::move(pipe.ends[0]), std::move(pipe.ends[1])};
}

/// A connection, as `setUp` wants it.
StreamPair newMemoryConnection(IoTest& test, void (*setUp)(MemoryNetwork& network)) {
  MemoryNetwork network(test.io.timer());
  setUp(network);
  const auto address = network.parseAddress("10.0.0.1:80").wait(test.scope);
  const auto receiver = address->listen();
  Promise<std::unique_ptr<AsyncIoStream>> accepted = receiver->accept();
  auto client = address->connect().wait(test.scope);
  return {std::move(client), std::move(accepted).wait(test.scope)};
}

StreamPair newTerminalPair(IoTest& test) {
  PseudoTerminal pty = newPseudoTerminal();
  makeRaw(pty.terminal.get());
  StreamPair pair;
  pair.left = newIoStream(test.io, pty.emulator.get(), Ownership::TAKE);
  pty.emulator.release();
  std::unique_ptr<Tty> tty = newTty(test.io, pty.terminal.get(), Ownership::TAKE);
  pty.terminal.release();
  tty->setMode(Tty::Mode::RAW);
  pair.right = std::move(tty);
  return pair;
}

} // namespace

const std::vector<PairKind>& pairKinds() {
  static const std::vector<PairKind> kinds{
      {"a pipe in memory", newMemoryPair, {.breakOff = breakPump, .tellsAbort = true}},
      {"a connection in memory",
       [](IoTest& test) { return newMemoryConnection(test, [](MemoryNetwork&) {}); },
       {.breakOff = breakPump, .tellsAbort = true}},
      {"a connection in memory that is going to be reset, with short reads",
       [](IoTest& test) {
         return newMemoryConnection(test, [](MemoryNetwork& network) {
           for (const auto direction : {MemoryNetwork::Direction::TO_SERVER, MemoryNetwork::Direction::TO_CLIENT})
             network.resetAfter("10.0.0.1", direction, std::uint64_t(1) << 40); // never
           network.shortReads("10.0.0.1", 1000);
         });
       },
       {.tellsAbort = true}},
      {"a Unix socket", [](IoTest& test) { return newStreamPair(test.io); }, {.breakOff = breakUnix}},
      {"TCP",
       [](IoTest& test) { return newTcpStreamPair(test.io); },
       {.learns = Learns::BY_WRITING, .much = 8 << 20, .breakOff = breakTcp, .tellsAbort = true}},
      {"a socketpair",
       [](IoTest& test) {
         OsSocketpair pair = newOsSocketpair(test.io);
         return StreamPair{std::move(pair.left), std::move(pair.right)};
       },
       {.breakOff = breakUnix}},
      {"a capability stream",
       [](IoTest& test) {
         CapabilityPair pair = newCapabilityPair(test.io);
         return StreamPair{std::move(pair.left), std::move(pair.right)};
       },
       {.breakOff = breakUnix}},
      {"promised streams that are there",
       [](IoTest& test) {
         StreamPair pair = newMemoryPair(test);
         return StreamPair{newPromisedStream(atOnce(std::move(pair.left))),
                           newPromisedStream(atOnce(std::move(pair.right)))};
       },
       {.tellsAbort = true}},
      {"promised streams that come later",
       [](IoTest& test) {
         StreamPair pair = newMemoryPair(test);
         return StreamPair{newPromisedStream(later(std::move(pair.left))),
                           newPromisedStream(later(std::move(pair.right)))};
       },
       {.tellsAbort = true}},
      {"a terminal", newTerminalPair, {.ends = false, .learns = Learns::NEVER}},
      {"a terminal's emulator",
       [](IoTest& test) {
         StreamPair pair = newTerminalPair(test);
         std::swap(pair.left, pair.right);
         return pair;
       },
       {.ends = false, .learns = Learns::NEVER}}, // but for the system's error, which is EIO
  };
  return kinds;
}

// ------------------------------------------------------------------------------------------------- layers

const std::vector<Layer>& inputLayers() {
  constexpr std::size_t ENOUGH = 64 << 20; // for a branch that nobody reads
  static const std::vector<Layer> layers{
      {"a promised input that is there",
       [](Way& way, std::uint64_t) { way.input = newPromisedStream(atOnce(std::move(way.input))); }},
      {"a promised input that comes later",
       [](Way& way, std::uint64_t) { way.input = newPromisedStream(later(std::move(way.input))); }},
      {"a buffered reader",
       [](Way& way, std::uint64_t) { way.input = std::make_unique<BufferedInputStream>(std::move(way.input), 16); }},
      {"a limited input",
       [](Way& way, std::uint64_t length) { way.input = newLimitedInputStream(std::move(way.input), length); }},
      {"the branch of a tee that is left",
       [](Way& way, std::uint64_t) { way.input = std::move(newTee(std::move(way.input), 1000).branches[0]); }},
      {"a branch of a tee",
       [](Way& way, std::uint64_t) {
         Tee tee = newTee(std::move(way.input), ENOUGH);
         way.input = std::move(tee.branches[0]);
         way.others.push_back(std::move(tee.branches[1]));
       }},
  };
  return layers;
}

const std::vector<Layer>& outputLayers() {
  static const std::vector<Layer> layers{
      {"a promised output that is there",
       [](Way& way, std::uint64_t) { way.output = newPromisedStream(atOnce(std::move(way.output))); }},
      {"a promised output that comes later",
       [](Way& way, std::uint64_t) { way.output = newPromisedStream(later(std::move(way.output))); }},
      {"a buffered writer",
       [](Way& way, std::uint64_t) { way.output = std::make_unique<BufferedOutputStream>(std::move(way.output), 16); }},
  };
  return layers;
}

// -------------------------------------------------------------------------------------------------- ways

namespace {

Way memoryWay() {
  OneWayPipe pipe = newOneWayPipe();
  return {std::move(pipe.input), std::move(pipe.output), {}};
}

std::vector<WayKind> makeWayKinds() {
  std::vector<WayKind> kinds;
  for (const PairKind& pair : pairKinds())
    kinds.push_back({pair.name,
                     [make = pair.make](IoTest& test, std::uint64_t) {
                       StreamPair streams = make(test);
                       return Way{std::move(streams.right), std::move(streams.left), {}};
                     },
                     pair.traits});
  kinds.push_back({"a one-way pipe in memory", [](IoTest&, std::uint64_t) { return memoryWay(); },
                   {.breakOff = breakPump, .tellsAbort = true}});
  kinds.push_back({"a pipe of a known length",
                   [](IoTest&, std::uint64_t length) {
                     OneWayPipe pipe = newOneWayPipe(length);
                     return Way{std::move(pipe.input), std::move(pipe.output), {}};
                   },
                   {.breakOff = breakPump, .tellsAbort = true}});
  kinds.push_back({"a pipe of the system",
                   [](IoTest& test, std::uint64_t) {
                     OsPipe pipe = newOsPipe(test.io);
                     return Way{std::move(pipe.input), std::move(pipe.output), {}};
                   },
                   {}});
  const auto addLayer = [&](const Layer& layer, void (*breakOff)(Way& way)) {
    kinds.push_back({layer.name,
                     [put = layer.put](IoTest&, std::uint64_t length) {
                       Way way = memoryWay();
                       put(way, length);
                       return way;
                     },
                     {.breakOff = breakOff, .tellsAbort = true}});
  };
  for (const Layer& layer : inputLayers()) addLayer(layer, breakPump);
  for (const Layer& layer : outputLayers()) addLayer(layer, nullptr);
  return kinds;
}

/// Sends `text`, and ends the stream.
Promise<void> sendAll(Way way, std::string text) {
  co_await way.write(text);
  way.output = nullptr;
}

/// A file in a directory of its own, which goes with it.
struct TestFile {
  TemporaryDirectory disk;
  std::unique_ptr<Directory> directory;
  std::unique_ptr<File> file;

  TestFile(IoTest& test, std::string_view text) {
    disk.write("file", text);
    directory = openDirectory(test.io, disk.inside()).wait(test.scope);
    file = directory->openFile(Path::parse("file"), FileMode::MODIFY).wait(test.scope);
  }
};

/// The same, opened by a plain descriptor.
struct TestDescriptor {
  TemporaryDirectory disk;
  OwnedDescriptor descriptor;

  explicit TestDescriptor(std::string_view text) {
    disk.write("file", text);
    descriptor = OwnedDescriptor(open(disk.inside("file").c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(descriptor);
  }
};

std::vector<SourceKind> makeSourceKinds() {
  std::vector<SourceKind> kinds;
  for (const WayKind& kind : wayKinds()) {
    if (!kind.traits.ends) continue;
    kinds.push_back({kind.name, [&kind](IoTest& test, std::string_view text) {
                       Way way = kind.make(test, text.size());
                       Source source;
                       source.input = std::move(way.input);
                       source.sending = sendAll(std::move(way), std::string(text)).eagerlyEvaluate(nullptr);
                       return source;
                     }});
  }
  kinds.push_back({"a file", [](IoTest& test, std::string_view text) {
                     const TestFile opened(test, text);
                     return Source{newFileInputStream(*opened.file)};
                   }});
  kinds.push_back({"a descriptor of a file", [](IoTest& test, std::string_view text) {
                     TestDescriptor opened(text);
                     Source source{newInputStream(test.io, opened.descriptor.get(), Ownership::TAKE)};
                     opened.descriptor.release();
                     return source;
                   }});
  kinds.push_back({"a script", [](IoTest&, std::string_view text) {
                     auto script = std::make_unique<ScriptedStream>();
                     script->giveRead(text).giveEnd();
                     return Source{std::move(script)};
                   }});
  return kinds;
}

std::vector<SinkKind> makeSinkKinds() {
  std::vector<SinkKind> kinds;
  for (const WayKind& kind : wayKinds()) {
    if (!kind.traits.ends) continue;
    kinds.push_back({kind.name, [&kind](IoTest& test) {
                       auto way = std::make_shared<Way>(kind.make(test, ALL_BYTES));
                       Sink sink;
                       sink.output = std::move(way->output);
                       // A limited stream does not end before its length.
                       auto all = std::make_shared<std::string>();
                       auto reading = std::make_shared<Promise<void>>(
                           [](AsyncInputStream& input, std::string& text) -> Promise<void> {
                             try {
                               for (;;) {
                                 const Chunk chunk = co_await input.tryReadChunk();
                                 if (chunk.empty()) break;
                                 text += chunk.text();
                               }
                             } catch (const Exception& e) {
                               CHECK((e.kind() == Exception::Kind::DISCONNECTED));
                             }
                           }(*way->input, *all)
                               .eagerlyEvaluate(nullptr));
                       sink.contents = [way, all, reading] {
                         return std::move(*reading).then([way, all] { return *all; });
                       };
                       return sink;
                     }});
  }
  kinds.push_back({"a file", [](IoTest& test) {
                     auto opened = std::make_shared<TestFile>(test, "");
                     return Sink{newFileOutputStream(*opened->file),
                                 [opened] { return Promise<std::string>(opened->disk.read("file")); }};
                   }});
  kinds.push_back({"a descriptor of a file", [](IoTest& test) {
                     auto opened = std::make_shared<TestDescriptor>("");
                     return Sink{newOutputStream(test.io, opened->descriptor.get(), Ownership::BORROW),
                                 [opened] { return Promise<std::string>(opened->disk.read("file")); }};
                   }});
  return kinds;
}

} // namespace

const std::vector<WayKind>& wayKinds() {
  static const std::vector<WayKind> kinds = makeWayKinds();
  return kinds;
}

const std::vector<SourceKind>& sourceKinds() {
  static const std::vector<SourceKind> kinds = makeSourceKinds();
  return kinds;
}

const std::vector<SinkKind>& sinkKinds() {
  static const std::vector<SinkKind> kinds = makeSinkKinds();
  return kinds;
}

void onEachPair(const std::function<void(IoTest& test, StreamPair pair, const Traits& traits)>& body) {
  for (const PairKind& kind : pairKinds()) {
    CAPTURE(kind.name);
    IoTest test;
    body(test, kind.make(test), kind.traits);
  }
}

void onEachWay(const std::function<void(IoTest& test, Way way, const Traits& traits)>& body, std::uint64_t length) {
  for (const WayKind& kind : wayKinds()) {
    CAPTURE(kind.name);
    IoTest test;
    body(test, kind.make(test, length), kind.traits);
  }
}

void onEachSource(std::string_view text, const std::function<void(IoTest& test, Source source)>& body) {
  for (const SourceKind& kind : sourceKinds()) {
    CAPTURE(kind.name);
    IoTest test;
    body(test, kind.make(test, text));
  }
}

void onEachSink(const std::function<void(IoTest& test, Sink sink)>& body) {
  for (const SinkKind& kind : sinkKinds()) {
    CAPTURE(kind.name);
    IoTest test;
    body(test, kind.make(test));
  }
}

// ------------------------------------------------------------------------------------ writing and reading

namespace {

Promise<void> flush(AsyncOutputStream& output) {
  auto* gathering = dynamic_cast<BufferedOutputStream*>(&output);
  if (gathering == nullptr) return READY_NOW;
  return gathering->flush();
}

} // namespace

Promise<void> Way::write(std::string_view text) {
  return output->write(text).then([&stream = *output] { return flush(stream); });
}

Promise<void> sendNumbered(AsyncOutputStream& output, std::size_t count, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  for (std::size_t sent = 0; sent < count;) {
    const std::size_t size = std::min<std::size_t>(1 + random() % most, count - sent);
    const std::string bytes = numberedBytes(size, sent);
    const std::size_t cut = random() % (size + 1);
    const std::span<const std::byte> both[] = {asBytes(bytes).first(cut), asBytes(bytes).subspan(cut)};
    if (random() % 2 == 0)
      co_await output.write(bytes);
    else
      co_await output.write(both);
    sent += size;
  }
  co_await flush(output);
}

Promise<void> receiveNumbered(AsyncInputStream& input, std::size_t count, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  for (std::size_t received = 0; received < count;) {
    const std::size_t size = std::min<std::size_t>(1 + random() % most, count - received);
    if (random() % 2 == 0) {
      const Chunk chunk = co_await input.tryReadChunk(size);
      REQUIRE(chunk.size() >= 1);
      CHECK(chunk.size() <= size);
      CHECK(areNumbered(chunk.text(), received));
      received += chunk.size();
    } else {
      std::string buffer(size, '.');
      const std::size_t minBytes = 1 + random() % size;
      const std::size_t got = co_await input.tryRead(bufferOf(buffer), minBytes);
      REQUIRE(got >= minBytes);
      CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
      CHECK(buffer.find_first_not_of('.', got) == std::string::npos);
      received += got;
    }
  }
}

Promise<void> receiveImpatiently(AsyncInputStream& input, std::size_t count, unsigned seed, std::size_t& givenUp) {
  std::minstd_rand random(seed);
  const auto wait = [](int turns) -> Promise<std::size_t> {
    for (int i = 0; i < turns; ++i) co_await yieldUntilWouldSleep();
    co_return std::size_t(0);
  };
  for (std::size_t received = 0; received < count;) {
    const int turns = static_cast<int>(random() % 3);
    const std::size_t size = std::min<std::size_t>(1 + random() % 20, count - received);
    std::string buffer(size, '.');
    Promise<std::size_t> read = NEVER_DONE;
    if (random() % 2 == 0) {
      read = input.tryRead(bufferOf(buffer), 1 + random() % size);
    } else {
      read = input.tryReadChunk(size).then([&buffer](Chunk chunk) {
        buffer.replace(0, chunk.size(), chunk.text());
        return chunk.size();
      });
    }
    Promise<std::size_t> patience = wait(turns);
    const std::size_t got = random() % 2 == 0 ? co_await std::move(read).exclusiveJoin(std::move(patience))
                                              : co_await std::move(patience).exclusiveJoin(std::move(read));
    if (got == 0) ++givenUp;
    CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
    received += got;
  }
}

Promise<void> expectEnd(AsyncInputStream& input) {
  std::string buffer(5, '.');
  for (int i = 0; i < 2; ++i) {
    const std::size_t got = co_await input.tryRead(bufferOf(buffer), 5);
    CHECK(got == 0);
    const Chunk chunk = co_await input.tryReadChunk();
    CHECK(chunk.empty());
  }
  CHECK(buffer == ".....");
}

} // namespace troth::test
