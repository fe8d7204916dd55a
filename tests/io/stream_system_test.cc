// SPDX-License-Identifier: MIT
// Streams and what surrounds them: signals that interrupt, threads at the other end, small stacks, sockets that were
// dead before they became streams.
#include "../runtime/helpers.h"
#include "raw_descriptors.h"
#include "stream_kinds.h"

#include <troth/io/capability_stream.h>
#include <troth/io/descriptor.h>
#include <troth/runtime/join.h>

#include <pthread.h>
#include <sys/time.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

std::atomic<int> interruptions = 0; // the pool's threads are interrupted, too

/// While it lives, a signal comes again and again, which makes system calls return EINTR.
class Interruptions {
public:
  Interruptions() {
    struct sigaction action {};
    action.sa_handler = [](int) { interruptions.fetch_add(1, std::memory_order_relaxed); };
    REQUIRE(sigaction(SIGALRM, &action, &before_) == 0); // without SA_RESTART
    const itimerval often{{0, 200}, {0, 200}};
    REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  }
  Interruptions(const Interruptions&) = delete;
  Interruptions& operator=(const Interruptions&) = delete;
  ~Interruptions() {
    const itimerval never{};
    setitimer(ITIMER_REAL, &never, nullptr);
    sigaction(SIGALRM, &before_, nullptr);
  }

private:
  struct sigaction before_ {};
};

/// Runs `body` on a thread with a stack of 256 KiB.
void onSmallStack(std::function<void()> body) {
  pthread_attr_t small;
  REQUIRE(pthread_attr_init(&small) == 0);
  REQUIRE(pthread_attr_setstacksize(&small, 256 * 1024) == 0);
  pthread_t thread;
  const auto run = [](void* function) -> void* {
    (*static_cast<std::function<void()>*>(function))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &small, run, &body) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&small);
}

} // namespace

TEST_CASE("signals that interrupt system calls are not seen by whoever reads and writes (S2)") {
  constexpr std::size_t COUNT = 200'000;
  onEachWay(
      [](IoTest& test, Way way, const Traits&) {
        const Interruptions signals;
        joinPromisesFailFast(sendNumbered(*way.output, COUNT, 30'000, 1), receiveNumbered(*way.input, COUNT, 30'000, 2))
            .wait(test.scope);
      },
      COUNT);
  onEachSource(numberedBytes(COUNT), [](IoTest& test, Source source) {
    const Interruptions signals;
    receiveNumbered(*source.input, COUNT, 30'000, 1).wait(test.scope);
  });
  onEachSink([](IoTest& test, Sink sink) {
    const Interruptions signals;
    sendNumbered(*sink.output, COUNT, 30'000, 1).wait(test.scope);
    sink.output = nullptr;
    CHECK(areNumbered(sink.contents().wait(test.scope)));
  });
  CHECK(interruptions > 0);
}

TEST_CASE("50 MB through a socket with the smallest send buffer arrive intact (S1)") {
  static constexpr std::size_t BLOCK = 251 * 4096; // numbered bytes begin anew after 251
  static constexpr std::size_t BLOCKS = 49;
  static const std::string block = numberedBytes(BLOCK);
  struct Ends {
    static Promise<void> send(AsyncIoStream& stream) {
      for (std::size_t i = 0; i < BLOCKS; ++i) co_await stream.write(block);
      stream.shutdownWrite();
    }
    static Promise<std::size_t> receive(AsyncIoStream& stream) {
      for (std::size_t received = 0;;) {
        const Chunk chunk = co_await stream.tryReadChunk();
        if (chunk.empty()) co_return received;
        REQUIRE((std::string_view(block).substr(received % 251, chunk.size()) == chunk.text()));
        received += chunk.size();
      }
    }
  };
  for (const char* name : {"a Unix socket", "TCP"}) {
    CAPTURE(name);
    IoTest test;
    StreamPair pair;
    for (const PairKind& kind : pairKinds())
      if (std::string_view(kind.name) == name) pair = kind.make(test);
    const int least = 1;
    REQUIRE(setsockopt(pair.left->descriptor().value(), SOL_SOCKET, SO_SNDBUF, &least, sizeof least) == 0);
    Promise<void> send = Ends::send(*pair.left).eagerlyEvaluate(nullptr);
    CHECK(Ends::receive(*pair.right).wait(test.scope) == BLOCK * BLOCKS);
    std::move(send).wait(test.scope);
  }
}

TEST_CASE("100 000 reads of what is there already (20 000 under a sanitizer) take a stack of 256 KiB (R4)") {
  constexpr std::size_t COUNT = SANITIZED ? 20'000 : 100'000;
  struct Loops {
    static Promise<std::size_t> byCoroutine(AsyncInputStream& input) {
      std::size_t count = 0;
      std::byte byte;
      while (count < COUNT / 2 && co_await input.tryRead({&byte, 1}) == 1) ++count;
      co_return count;
    }
    static Promise<std::size_t> byContinuation(AsyncInputStream& input, std::size_t count) {
      if (count == COUNT / 2) return count;
      return input.tryReadChunk(1).then([&input, count](Chunk) { return byContinuation(input, count + 1); });
    }
  };
  const std::string text(COUNT, 'x');
  for (const SourceKind& kind : sourceKinds()) {
    if (kind.name.ends_with("file")) continue; // a trip through the thread pool each
    CAPTURE(kind.name);
    std::size_t count = 0;
    onSmallStack([&] {
      IoTest test;
      Source source = kind.make(test, text);
      count += Loops::byCoroutine(*source.input).wait(test.scope);
      count += Loops::byContinuation(*source.input, 0).wait(test.scope);
    });
    CHECK(count == COUNT);
  }
}

TEST_CASE("two threads, each with a loop of its own, talk over a socketpair") {
  RawPair sockets = rawSocketpair();
  std::string question;
  std::thread other([descriptor = sockets.in.release(), &question] {
    AsyncIoContext io = setupAsyncIo();
    const std::unique_ptr<AsyncIoStream> stream = newIoStream(io, descriptor, Ownership::TAKE);
    stream->write("foo").wait(io.waitScope());
    question = stream->readAllText(100).wait(io.waitScope());
  });
  {
    AsyncIoContext io = setupAsyncIo();
    const std::unique_ptr<AsyncIoStream> stream = newIoStream(io, sockets.out.get(), Ownership::BORROW);
    sockets.out.close();
    std::string buffer(3, '.');
    stream->read(bufferOf(buffer)).wait(io.waitScope());
    CHECK(buffer == "foo");
    stream->write("bar").wait(io.waitScope());
    SUBCASE("this one ends") {
      stream->shutdownWrite();
      CHECK(stream->tryReadChunk().wait(io.waitScope()).empty()); // the other one has gone
    }
    SUBCASE("this one goes") {}
  }
  other.join();
  CHECK(question == "bar");
}

TEST_CASE_FIXTURE(IoTest, "a socket whose peer has gone before is disconnected for writing, and gives what was sent") {
  for (const bool capability : {false, true}) {
    CAPTURE(capability);
    RawPair sockets = rawSocketpair();
    REQUIRE(::write(sockets.in.get(), "foo", 3) == 3);
    sockets.in.close();
    std::unique_ptr<AsyncIoStream> stream;
    if (capability)
      stream = newCapabilityStream(io, sockets.out.get(), Ownership::TAKE);
    else
      stream = newIoStream(io, sockets.out.get(), Ownership::TAKE);
    sockets.out.release();
    Promise<void> told = stream->whenWriteDisconnected();
    untilReady(*this, told);
    CHECK((failureOf(stream->write("x"), scope).kind() == Kind::DISCONNECTED));
    std::string buffer(4, '.');
    CHECK(stream->tryRead(bufferOf(buffer), 4).wait(scope) == 3);
    CHECK(buffer == "foo.");
  }
}

TEST_CASE_FIXTURE(IoTest, "what a peer wrote before it went can be read when writing is disconnected already") {
  OsSocketpair pair = newOsSocketpair(io);
  pair.left->write("foo").wait(scope);
  pair.right->write("bar").wait(scope);
  Promise<void> told = pair.left->whenWriteDisconnected();
  CHECK(!told.poll(scope));
  pair.right = nullptr;
  untilReady(*this, told);
  std::string buffer(3, '.');
  pair.left->read(bufferOf(buffer)).wait(scope);
  CHECK(buffer == "bar");
  CHECK((failureOf(pair.left->tryReadChunk(), scope).kind() == Kind::DISCONNECTED)); // "foo" was never read
}

TEST_CASE_FIXTURE(IoTest, "streams are sent until the socket is full, and the one that had to wait arrives too") {
  CapabilityPair pair = newCapabilityPair(io);
  std::size_t sent = 0;
  OsSocketpair last;
  Promise<void> waiting = NEVER_DONE;
  do {
    last = newOsSocketpair(io);
    waiting = pair.left->sendStream(std::move(last.right));
    ++sent;
    REQUIRE(sent < 10'000);
  } while (waiting.poll(scope) && (std::move(waiting).wait(scope), true));
  std::unique_ptr<AsyncIoStream> received;
  for (std::size_t i = 0; i < sent; ++i) received = pair.right->receiveStream().wait(scope);
  std::move(waiting).wait(scope);
  last.left->write("foo").wait(scope);
  last.left->shutdownWrite();
  CHECK(received->readAllText(10).wait(scope) == "foo");
}

TEST_CASE_FIXTURE(IoTest, "however many descriptors come, those beyond what a read wants are closed (S8)") {
  for (std::size_t sent = 1; sent <= 5; ++sent) {
    for (std::size_t wanted = 0; wanted < sent; ++wanted) {
      CAPTURE(sent);
      CAPTURE(wanted);
      CapabilityPair pair = newCapabilityPair(io);
      std::vector<RawPair> pipes;
      std::vector<int> numbers;
      for (std::size_t i = 0; i < sent; ++i) numbers.push_back(pipes.emplace_back(rawPipe()).in.get());
      pair.left->writeWithDescriptors(asBytes("foo"), numbers).wait(scope);
      for (RawPair& pipe : pipes) pipe.in.close();
      std::string buffer(3, '.');
      BytesAndDescriptors got = pair.right->tryReadWithDescriptors(bufferOf(buffer), 3, wanted).wait(scope);
      CHECK(got.descriptors.size() == wanted);
      for (std::size_t i = 0; i < sent; ++i) {
        char byte;
        REQUIRE(fcntl(pipes[i].out.get(), F_SETFL, O_NONBLOCK) == 0);
        const ssize_t count = ::read(pipes[i].out.get(), &byte, 1); // at the end once nobody can write
        CHECK((count == 0) == (i >= wanted));
      }
    }
  }
}
