// SPDX-License-Identifier: MIT
// The client's tests: servers in memory that say exactly what a test tells them to.
#pragma once

#include <fixtures.h>

#include <troth/net/http/client.h>
#include <troth/net/testing.h>
#include <troth/timers/manual_timer.h>

#include <string>
#include <utility>
#include <vector>

namespace troth::test {

using http::Client;
using http::ClientRequest;
using http::ClientResponse;
using http::ClientSettings;
using Kind = Exception::Kind;
using StreamPtr = std::unique_ptr<AsyncIoStream>;
using Responses = Promise<ClientResponse>;

// A server's end of a connection.
class Peer {
public:
  Peer(StreamPtr stream, WaitScope& scope) : stream_(std::move(stream)), scope_(&scope) {}

  // Everything that has been sent so far.
  std::string heard() {
    for (;;) {
      if (!reading_) reading_ = std::make_unique<Promise<Chunk>>(stream_->tryReadChunk());
      if (!reading_->poll(*scope_)) return std::exchange(heard_, {});
      Promise<Chunk> read = std::move(*reading_);
      reading_.reset();
      try {
        const Chunk chunk = std::move(read).wait(*scope_);
        if (chunk.empty()) return std::exchange(heard_, {}) + "(end)";
        heard_ += chunk.text();
      } catch (const Exception&) {
        return std::exchange(heard_, {}) + "(gone)";
      }
    }
  }
  // Sends `text` as far as somebody reads it.
  void say(std::string text) {
    said_.push_back(std::make_unique<std::string>(std::move(text)));
    writing_ = std::make_unique<Promise<void>>(
        std::move(*writing_)
            .then([this, said = said_.back().get()] { return stream_->write(*said); })
            .catch_([](const Exception&) {})
            .eagerlyEvaluate(nullptr));
    writing_->poll(*scope_);
  }
  void finish() {
    stream_->shutdownWrite();
  }
  AsyncIoStream& stream() { return *stream_; }
  StreamPtr take() {
    reading_.reset();
    return std::move(stream_);
  }

private:
  StreamPtr stream_;
  WaitScope* scope_;
  std::string heard_;
  std::vector<std::unique_ptr<std::string>> said_;
  std::unique_ptr<Promise<void>> writing_ = std::make_unique<Promise<void>>(READY_NOW);
  std::unique_ptr<Promise<Chunk>> reading_;
};

class ClientTest : public LoopTest {
public:
  ManualTimer timer;
  MemoryNetwork network{timer};
  std::unique_ptr<ConnectionReceiver> port = listen("10.0.0.1:80");
  ClientSettings settings;
  std::unique_ptr<Client> made;

  ClientTest() {
    network.addHost("a", {"10.0.0.1"}).addHost("b", {"10.0.0.1"});
    settings.userAgent.clear();
  }

  std::unique_ptr<ConnectionReceiver> listen(std::string_view address) {
    return network.parseAddress(address).wait(scope)->listen();
  }
  Client& client() {
    if (made == nullptr) made = std::make_unique<Client>(network, timer, settings);
    return *made;
  }
  Peer accept() {
    Promise<StreamPtr> accepted = port->accept();
    REQUIRE(accepted.poll(scope));
    return Peer(std::move(accepted).wait(scope), scope);
  }
  bool nobodyConnects() {
    Promise<StreamPtr> accepted = port->accept();
    return !accepted.poll(scope);
  }
  ClientResponse take(Responses& promise) {
    REQUIRE(promise.poll(scope));
    return std::move(promise).wait(scope);
  }
  std::string text(ClientResponse& response) { return response.readText(1 << 20).wait(scope); }
  // One exchange whose response is `reply`, on a new connection or one that is kept.
  std::string exchange(Peer& peer, Responses promise, std::string reply) {
    peer.heard();
    peer.say(std::move(reply));
    ClientResponse response = take(promise);
    return text(response);
  }
};

inline const std::string OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

} // namespace troth::test
