// SPDX-License-Identifier: MIT
// Clients that read all the time.
#include "server_fixture.h"

namespace troth::test {

std::string ErrorLog::only() {
  CHECK(texts.size() == 1);
  std::string text = texts.empty() ? std::string() : texts.front();
  texts.clear();
  return text;
}

RawClient::RawClient(std::unique_ptr<AsyncIoStream> stream)
    : stream_(std::move(stream)), reading_(readAll()), writing_(READY_NOW) {}

Promise<void> RawClient::readAll() {
  try {
    for (;;) {
      const Chunk chunk = co_await stream_->tryReadChunk();
      if (chunk.empty()) break;
      received += chunk.text();
      ++pieces;
    }
    ended = true;
  } catch (const Exception&) {
    wasReset = true;
  }
}

Promise<void> RawClient::readSome(std::size_t bytes) {
  std::string piece(bytes, '.');
  co_await stream_->read(std::as_writable_bytes(std::span(piece)));
  received += piece;
}

void RawClient::send(std::string_view bytes) {
  writing_ = std::move(writing_)
                 .then([this, text = std::string(bytes)]() mutable {
                   auto kept = std::make_unique<std::string>(std::move(text));
                   Promise<void> written = stream_->write(*kept);
                   return std::move(written).attach(std::move(kept));
                 })
                 .catch_([this](Exception) { writeFailed = true; })
                 .eagerlyEvaluate(nullptr);
}

void RawClient::shutdown() {
  writing_ = std::move(writing_).then([this] { stream_->shutdownWrite(); }).eagerlyEvaluate(nullptr);
}

void RawClient::close() {
  reading_ = READY_NOW;
  writing_ = READY_NOW;
  stream_.reset();
}

void RawClient::reset() {
  stream_->abortWrite();
  close();
}

HttpTest::~HttpTest() {
  settle();
  CHECK_MESSAGE(errors.texts.empty(), "the server has reported: " << (errors.texts.empty() ? "" : errors.texts.front()));
}

http::Server& HttpTest::server() {
  if (server_ == nullptr)
    server_ = std::make_unique<http::Server>(service != nullptr ? *service : calls_, timer, errors, settings);
  return *server_;
}

std::unique_ptr<RawClient> HttpTest::connect() {
  TwoWayPipe pipe = newTwoWayPipe();
  server().serveConnection(std::move(pipe.ends[0]));
  return std::make_unique<RawClient>(std::move(pipe.ends[1]));
}

void HttpTest::settle() { yieldUntilWouldSleep().wait(scope); }

void HttpTest::pass(Duration delay) {
  settle();
  timer.advanceBy(delay);
  settle();
}

std::string HttpTest::talk(std::string_view bytes) {
  auto client = connect();
  client->send(bytes);
  settle();
  return withoutDate(client->take());
}

std::string withoutDate(std::string text) {
  for (std::size_t at = 0; (at = text.find("Date: ", at)) != std::string::npos;) {
    REQUIRE(text.substr(at + 35, 2) == "\r\n");
    text.erase(at, 37);
  }
  return text;
}

} // namespace troth::test
