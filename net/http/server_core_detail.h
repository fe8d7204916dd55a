// SPDX-License-Identifier: MIT
// ServerCore: what the connections of a server share.
#pragma once

#include <troth/net/http/date.h>
#include <troth/net/http/server.h>
#include <troth/net/http/timeout_list_detail.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/ref_detail.h>
#include <troth/runtime/sync.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

class ServerConnection;
class Exchange;

/// What a connection waits for, when there is a time by which it must have come.
enum class Timeout : std::uint8_t { HEAD, IDLE, BODY, WRITE, HALF_CLOSE, LINGER };
inline constexpr std::size_t TIMEOUTS = 6;

/// A deadline of a connection.
struct ConnectionTimeout : TimeoutLink {
  explicit ConnectionTimeout(ServerConnection& owner) noexcept : connection(owner) {}
  ServerConnection& connection;
  Timeout kind = Timeout::IDLE;
};

/// "HTTP/1.1 200 OK" and the Date of a second, each with CRLF: the beginning of most responses.
inline constexpr std::string_view OK_LINE = "HTTP/1.1 200 OK\r\n", DATE_NAME = "Date: ";
using OkAndDate = std::array<char, OK_LINE.size() + DATE_NAME.size() + HTTP_DATE_SIZE + 2>;

class ServerCore {
public:
  ServerCore(Service& service, Timer& timer, TaskSet::ErrorHandler& errors, ServerSettings settings,
             std::source_location where);
  ServerCore(const ServerCore&) = delete;
  ServerCore& operator=(const ServerCore&) = delete;
  ~ServerCore();

  Service& service() const noexcept { return service_; }
  const ServerSettings& settings() const noexcept { return settings_; }
  Timer& timer() const noexcept { return timer_; }
  void report(Exception exception) { errors_.taskFailed(std::move(exception)); }

  // --- Connections.

  void add(std::unique_ptr<AsyncIoStream> stream, Semaphore::Permit place);
  /// It is about to be destroyed.
  void remove(ServerConnection& connection) noexcept;
  std::size_t connections() const noexcept { return count_; }
  std::size_t requests() const noexcept { return requests_; }
  /// One that was used before, or a new one.
  troth::detail::Ref<Exchange> takeExchange();
  /// It has been left.
  void giveBack(troth::detail::Ref<Exchange> exchange) noexcept;
  void requestBegins() noexcept { ++requests_; }
  void requestEnds() noexcept { --requests_; }
  bool isDraining() const noexcept { return draining_.isSet(); }

  Promise<void> serve(std::unique_ptr<ConnectionReceiver> port, std::source_location where);
  Promise<std::size_t> drain(Duration grace, std::source_location where);

  // --- Time.

  /// Sets a deadline, in place of the one that was set.
  void setTimeout(ConnectionTimeout& timeout, Timeout kind) noexcept;

  const OkAndDate& okAndDate() {
    if (const TimePoint now = timer_.now(); now >= dateUntil_) [[unlikely]]
      renewDate(now);
    return okAndDate_;
  }
  /// "Date: …" with CRLF.
  std::string_view date() { return std::string_view(okAndDate().data(), okAndDate_.size()).substr(OK_LINE.size()); }

private:
  Service& service_;
  Timer& timer_;
  TaskSet::ErrorHandler& errors_;
  const ServerSettings settings_;
  std::unique_ptr<Semaphore> places_; // null: no limit
  AsyncEvent draining_;
  std::array<TimeoutList, TIMEOUTS> timeouts_;
  ServerConnection* first_ = nullptr;
  std::size_t count_ = 0;
  std::size_t requests_ = 0;
  std::unique_ptr<PromiseFulfiller<void>> whenEmpty_;
  // As many as there are connections with requests at a time, at most.
  static constexpr std::size_t MOST_SPARE = 64;
  std::array<troth::detail::Ref<Exchange>, MOST_SPARE> spare_;
  std::size_t spares_ = 0;

  // The deadline that is waited for: as early as any, or earlier.
  TimePoint watchedUntil_ = TimePoint::max();
  bool isExpiring_ = false;
  bool isClosing_ = false;

  OkAndDate okAndDate_;
  TimePoint dateUntil_ = TimePoint::min();

  Promise<void> watch_; // after what it refers to
  Canceler operations_; // last: it goes first

  Promise<void> acceptAll(std::unique_ptr<ConnectionReceiver> port);
  Promise<std::size_t> drainAll(Duration grace);
  Promise<void> watchTimeouts();
  TimePoint earliest() const noexcept;
  void expire(TimePoint now);
  void renewDate(TimePoint now);

  friend class ServerConnection;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
