// SPDX-License-Identifier: MIT
// A server in memory, a clock that the test sets, and clients that speak in bytes.
#pragma once

#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/net/http/server.h>
#include <troth/timers/manual_timer.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace troth::test {

/// Keeps what nobody else sees.
struct ErrorLog : TaskSet::ErrorHandler {
  std::vector<std::string> texts;
  void taskFailed(Exception e) override { texts.push_back(std::string(e.description())); }
  /// The only one, which is forgotten; empty, with a failed check, if there is not exactly one.
  std::string only();
};

/// A client that reads all the time, and notes what comes.
class RawClient {
public:
  explicit RawClient(std::unique_ptr<AsyncIoStream> stream);

  /// Writes in the background, one text after the other.
  void send(std::string_view bytes);
  /// Ends its direction, behind what was sent.
  void shutdown();
  /// Stops reading, or goes on.
  void stopReading() { reading_ = READY_NOW; }
  void goOnReading() { reading_ = readAll(); }
  /// Reads so many bytes and no more.
  void read(std::size_t bytes) { reading_ = readSome(bytes); }
  /// Goes away.
  void close();
  /// The same, as a reset.
  void reset();

  std::string received;       // since the last take()
  std::size_t pieces = 0;     // in which that came
  bool ended = false;         // the server has ended its direction
  bool wasReset = false;      // or has broken it off
  bool writeFailed = false;   // what was sent was not read

  std::string take() {
    pieces = 0;
    return std::exchange(received, {});
  }

private:
  std::unique_ptr<AsyncIoStream> stream_;
  Promise<void> reading_;
  Promise<void> writing_;

  Promise<void> readAll();
  Promise<void> readSome(std::size_t bytes);
};

class HttpTest : public LoopTest {
public:
  HttpTest() : timer(TimePoint(std::chrono::hours(1))) {}
  ~HttpTest();

  using Handler = std::function<Promise<void>(http::Request&, http::Response&)>;

  /// The server, made with the first connection.
  http::Server& server();
  /// A client whose connection the server has.
  std::unique_ptr<RawClient> connect();

  /// Runs until nothing is left to do at this time.
  void settle();
  /// The same after some time.
  void pass(Duration delay);

  /// What comes for these bytes on a connection of their own, without the Date.
  std::string talk(std::string_view bytes);

  ManualTimer timer;
  ErrorLog errors;
  http::ServerSettings settings;
  Handler handler;
  http::Service* service = nullptr; // in place of the handler

private:
  struct Calls : http::Service {
    explicit Calls(HttpTest& test) : test_(test) {}
    Promise<void> handle(http::Request& request, http::Response& response) override {
      return test_.handler(request, response);
    }
    HttpTest& test_;
  };

  Calls calls_{*this};
  std::unique_ptr<http::Server> server_;
  friend struct Calls;

public:
  /// Destroys the server, with all that it does.
  void dropServer() { server_.reset(); }
};

/// `text` without the Date fields.
std::string withoutDate(std::string text);

} // namespace troth::test
