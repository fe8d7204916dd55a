// SPDX-License-Identifier: MIT
// Listening, conversations, and their graceful end.
#include "line_server.h"

#include <troth/io/buffered.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

using namespace troth;

constexpr std::chrono::minutes LONGEST_SILENCE(5);

static bool isLineEnd(char c) { return c == '\n' || c == '\r'; }

LineServer::LineServer(AsyncIo& io, Answer answer)
    : io_(io),
      answer_(std::move(answer)),
      network_(newNetwork(io)),
      server_([this](std::unique_ptr<AsyncIoStream> client) { return converse(std::move(client)); }, *this,
              MOST_CONNECTIONS),
      accepting_(*this) {}

Promise<std::uint16_t> LineServer::listen(std::string address) {
  auto parsed = co_await network_->parseAddress(address);
  std::unique_ptr<ConnectionReceiver> port = parsed->listen();
  const std::uint16_t number = port->getPort();
  accepting_.add(server_.serve(std::move(port)));
  co_return number;
}

Promise<std::size_t> LineServer::stop(Duration grace) { return server_.drain(io_.timer(), grace); }

Promise<void> LineServer::converse(std::unique_ptr<AsyncIoStream> client) {
  ++counters_.accepted;
  BufferedInputStream lines(*client);
  for (;;) {
    // Destroying a promise cancels its work, and a cancelled read loses nothing: waiting for two things is this.
    auto next = io_.timer().timeoutAfter(LONGEST_SILENCE, lines.readLine(LONGEST_LINE));
    auto end = server_.onDrain().then([] { return std::optional<std::string>(); });
    std::optional<std::string> line = co_await std::move(next).exclusiveJoin(std::move(end));
    if (!line) co_return;
    std::string answer = co_await answerTo(std::move(*line));
    std::ranges::replace_if(answer, isLineEnd, ' '); // or the client would take the rest for its next answer
    answer += '\n';
    co_await client->write(answer);
  }
}

Promise<std::string> LineServer::answerTo(std::string line) {
  Promise<std::string> answer = evalNow([&] { return answer_(std::move(line)); });
  const Result<std::string> result = co_await std::move(answer).asResult();
  if (result) {
    ++counters_.answered;
    co_return *result;
  }
  ++counters_.failed;
  co_return "error: " + std::string(result.error().description());
}

// Clients that leave or fall silent are no news.
void LineServer::taskFailed(Exception exception) {
  if (exception.kind() == Exception::Kind::FAILED) std::fprintf(stderr, "line server: %s\n", exception.what());
}
