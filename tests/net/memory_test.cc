// SPDX-License-Identifier: MIT
// Out of memory anywhere between listening and closing: every allocation fails once, the library's and libuv's (R6).
#include "../runtime/helpers.h"
#include "loopback.h"

#include <troth/net/aggregate_receiver.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>

#include <uv.h>

#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <unistd.h>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

// libuv takes another allocator only before its first call. Its realloc() does not fail here: it is for the table of
// descriptors alone, and libuv aborts when that cannot grow.
[[maybe_unused]] const int replaced = uv_replace_allocator(starvedMalloc, std::realloc, starvedCalloc, std::free);

Promise<void> echoOnce(ConnectionReceiver& receiver) {
  const StreamPtr stream = co_await receiver.accept();
  for (;;) {
    const Chunk chunk = co_await stream->tryReadChunk();
    if (chunk.empty()) co_return;
    co_await stream->write(chunk.bytes());
  }
}

Promise<void> ask(NetworkAddress& address, std::string_view question) {
  const StreamPtr stream = co_await address.connect();
  co_await stream->write(question);
  std::string reply(question.size(), '.');
  co_await stream->read(bufferOf(reply));
  stream->shutdownWrite();
  if (reply != question) throw Exception(Exception::Kind::FAILED, "the reply is wrong");
}

/// One connection from its listener to its end, over `host`.
void converse(IoTest& test, std::string_view host, std::size_t size) {
  const auto network = newNetwork(test.io);
  const auto address = network->parseAddress(host).wait(test.scope);
  const auto receiver = address->listen();
  const auto target = network->parseAddress(host, receiver->getPort()).wait(test.scope);
  joinPromisesFailFast(echoOnce(*receiver), ask(*target, numberedBytes(size))).wait(test.scope);
}

/// The same over a Unix socket, where connecting needs no accept, and a receiver without memory does not end the wait.
void converseLocally(IoTest& test, std::string_view name) {
  const auto address = newNetwork(test.io)->parseAddress(name).wait(test.scope);
  const auto receiver = address->listen();
  const StreamPtr client = address->connect().wait(test.scope);
  Promise<StreamPtr> accept = receiver->accept();
  for (int i = 0; i < 5 && !accept.poll(test.scope); ++i) {}
  if (!accept.poll(test.scope)) throw Exception(Exception::Kind::OVERLOADED, "not accepted in time");
  const StreamPtr server = std::move(accept).wait(test.scope);
  client->write("hello").wait(test.scope);
  if (server->tryReadChunk().wait(test.scope).text() != "hello")
    throw Exception(Exception::Kind::FAILED, "what was sent is wrong");
}

/// The same over the last of several receivers that were taken over.
void converseWithSeveral(IoTest& test) {
  const auto network = newNetwork(test.io);
  std::vector<std::unique_ptr<ConnectionReceiver>> receivers;
  std::uint16_t port = 0;
  for (int i = 0; i < 3; ++i) {
    Peer socket = plainListener(port);
    receivers.push_back(network->adoptListener(OwnedDescriptor(socket.release())));
  }
  const auto receiver = newAggregateReceiver(std::move(receivers));
  const auto target = network->parseAddress("127.0.0.1", port).wait(test.scope);
  joinPromisesFailFast(echoOnce(*receiver), ask(*target, numberedBytes(64))).wait(test.scope);
}

} // namespace

TEST_CASE("when an allocation fails between listening and closing, that is reported, nothing is lost and the loop goes "
          "on (R6)") {
  CHECK((starveSweep([](IoTest& test) { converse(test, "127.0.0.1", 64); }) > 10 || SANITIZED));
}

TEST_CASE("when an allocation fails between listening on a Unix socket and closing, that is reported (R6)") {
  const std::string name = "unix-abstract:troth-memory-test-" + std::to_string(::getpid());
  CHECK((starveSweep([&](IoTest& test) { converseLocally(test, name); }) > 10 || SANITIZED));
}

TEST_CASE("when an allocation of receivers that are made of sockets, and are one, fails, that is reported (R6)") {
  CHECK((starveSweep([](IoTest& test) { converseWithSeveral(test); }) > 10 || SANITIZED));
}

TEST_CASE("when an allocation of a look-up fails, that is reported, nothing is lost and the loop goes on (R6)") {
  CHECK((starveSweep([](IoTest& test) { converse(test, "localhost", 64); }) > 10 || SANITIZED));
}

TEST_CASE("when an allocation fails while more is sent than fits, that is reported, nothing is lost and the loop goes "
          "on (R6)") {
  CHECK((starveSweep([](IoTest& test) { converse(test, "127.0.0.1", 4 << 20); }) > 10 || SANITIZED));
}

TEST_CASE("a write that finds no memory after its first bytes ends the direction, so that nothing follows a gap (R6)") {
  const std::string text = numberedBytes(4 << 20);
  for (std::uint64_t after = 0; after < 2 && !SANITIZED; ++after) { // the operation, and the list of what is left
    CAPTURE(after);
    IoTest test;
    detail::trimPool();
    StreamPair pair = connectedPair(test);
    bool failed = false;
    {
      const NoMemory none(after);
      try {
        Promise<void> write = pair.left->write(text);
        failed = write.poll(test.scope);
        if (failed) std::move(write).wait(test.scope);
      } catch (const std::bad_alloc&) {
        failed = true;
      } catch (const Exception& e) {
        CHECK((e.kind() == Exception::Kind::OVERLOADED));
      }
    }
    REQUIRE(failed);
    CHECK(kindName(failureOf(pair.left->write("after the gap"), test.scope)) == "OVERLOADED");
    pair.left.reset();
    std::size_t received = 0;
    while (true) {
      const Chunk chunk = pair.right->tryReadChunk().wait(test.scope);
      if (chunk.empty()) break;
      CHECK(areNumbered({reinterpret_cast<const char*>(chunk.bytes().data()), chunk.bytes().size()}, received));
      received += chunk.bytes().size();
    }
    CHECK(received > 0);
    CHECK(received < text.size());
  }
}
