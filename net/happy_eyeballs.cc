// SPDX-License-Identifier: MIT
// The race of connection attempts.
//
// A race of one is no race (connectToOnly). Any other is a coroutine (connectToFastest): it begins attempts as long as
// any are due, and then waits for something to happen. What can happen only takes notes: an attempt is won or lost, the
// pause is over, the time is up. The first note of a connection counts; a second one that is made in the same turn is
// closed.
#include <troth/net/happy_eyeballs_detail.h>

#include <troth/runtime/sync.h>
#include <troth/timers/duration_text_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

struct Attempt {
  Promise<void> work;
  std::optional<Exception> failure; // none while it goes on
};

/// The attempts that were begun, and the notes.
struct Race {
  AsyncEvent changed;
  StreamPtr winner;
  std::optional<Exception> lastFailure;
  std::size_t failed = 0;
  std::size_t due = 1; // attempts to be begun
  bool timeIsUp = false;
  std::vector<Attempt> attempts; // the last, so destroyed first: their work refers to the notes

  void begin(Promise<StreamPtr> attempt) {
    const std::size_t index = attempts.size();
    attempts.push_back({NEVER_DONE, std::nullopt});
    attempts.back().work = std::move(attempt)
                               .then([this](StreamPtr stream) { won(std::move(stream)); },
                                     [this, index](Exception e) { lost(index, std::move(e)); })
                               .eagerlyEvaluate(nullptr);
  }
  void won(StreamPtr stream) {
    if (winner == nullptr) winner = std::move(stream);
    changed.set();
  }
  void lost(std::size_t index, Exception failure) {
    lastFailure = attempts[index].failure = std::move(failure);
    ++failed;
    ++due;
    changed.set();
  }
  void pauseIsOver() {
    ++due;
    changed.set();
  }
  void timeOut() {
    timeIsUp = true;
    changed.set();
  }
};

/// "10.0.0.1:80: connection refused (ECONNREFUSED); 10.0.0.2:80: no answer; 10.0.0.3:80: not tried".
std::string describe(const Race& race, std::span<const SocketAddress> addresses) {
  std::string text;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (i > 0) text += "; ";
    if (i >= race.attempts.size())
      text += fmt::format("{}: not tried", addresses[i].toString());
    else if (!race.attempts[i].failure)
      text += fmt::format("{}: no answer", addresses[i].toString());
    else
      text += race.attempts[i].failure->description();
  }
  return text;
}

/// `attempts` says what became of each address, and `last` is the failure that came last.
Exception allFailed(const Exception& last, std::string_view attempts, std::string_view name,
                    std::source_location where) {
  return Exception(last.kind(), fmt::format("cannot connect to {}: {}", name, attempts), last.code(), where);
}

Exception timedOut(std::string_view attempts, std::string_view name, Duration timeout, std::source_location where) {
  return Exception(Exception::Kind::OVERLOADED,
                   fmt::format("cannot connect to {}: timed out after {}: {}", name, durationText(timeout), attempts),
                   std::make_error_code(std::errc::timed_out), where);
}

/// The race of one, which most are: the attempt, within its time.
Promise<StreamPtr> connectToOnly(const SocketAddress& address, std::string_view name, Promise<StreamPtr> attempt,
                                 Timer& timer, Duration timeout, std::source_location where) {
  return std::move(attempt)
      .catch_([name, where](Exception e) -> StreamPtr { throw allFailed(e, e.description(), name, where); })
      .exclusiveJoin(timer.afterDelay(timeout, where).then([&address, name, timeout, where]() -> StreamPtr {
        throw timedOut(address.toString() + ": no answer", name, timeout, where);
      }));
}

Promise<StreamPtr> connectToFastest(std::span<const SocketAddress> addresses, std::string_view name,
                                    ConnectionAttempt attempt, Timer& timer, ConnectOptions options,
                                    std::source_location where) {
  Race race; // outlives what refers to it
  Promise<void> pause = NEVER_DONE;
  const Promise<void> timeUp =
      timer.afterDelay(options.timeout, where).then([&race] { race.timeOut(); }).eagerlyEvaluate(nullptr);
  for (;;) {
    for (; race.due > 0 && race.attempts.size() < addresses.size(); --race.due) {
      race.begin(evalNow([&] { return attempt(addresses[race.attempts.size()]); }));
      pause = NEVER_DONE;
      if (race.attempts.size() < addresses.size())
        pause = timer.afterDelay(options.attemptDelay, where)
                    .then([&race] { race.pauseIsOver(); })
                    .eagerlyEvaluate(nullptr);
    }
    co_await race.changed.wait(where);
    race.changed.reset();
    if (race.winner != nullptr) {
      race.attempts.clear();
      co_return std::move(race.winner);
    }
    if (race.failed == addresses.size()) throw allFailed(*race.lastFailure, describe(race, addresses), name, where);
    if (race.timeIsUp) throw timedOut(describe(race, addresses), name, options.timeout, where);
  }
}

} // namespace

void interleaveFamilies(std::vector<SocketAddress>& addresses) {
  if (addresses.empty()) return;
  const SocketAddress::Family preferred = addresses.front().family();
  const auto others =
      std::ranges::stable_partition(addresses, [preferred](auto& a) { return a.family() == preferred; }).begin();
  std::vector<SocketAddress> order;
  order.reserve(addresses.size());
  auto first = addresses.begin();
  auto second = others;
  while (order.size() < addresses.size()) {
    if (first != others) order.push_back(*first++);
    if (second != addresses.end()) order.push_back(*second++);
  }
  addresses = std::move(order);
}

Promise<StreamPtr> connectToFirst(std::span<const SocketAddress> addresses, std::string_view name,
                                  ConnectionAttempt attempt, Timer& timer, ConnectOptions options,
                                  std::source_location where) {
  if (addresses.size() > 1) return connectToFastest(addresses, name, std::move(attempt), timer, options, where);
  return connectToOnly(addresses.front(), name, evalNow([&] { return attempt(addresses.front()); }), timer,
                       options.timeout, where);
}

} // namespace detail
} // namespace v0
} // namespace troth
