// SPDX-License-Identifier: MIT
// Resolver: asks for the addresses of host names, and for the names of addresses.
#pragma once

#include <troth/net/socket_address.h>
#include <troth/runtime/promise.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// Why a look-up failed, whichever resolver it was: `if (e.code() == LookupErrc::NOT_FOUND) …`.
///
/// The system's resolver gives libuv's codes of getaddrinfo()'s EAI_ values, which compare equal to these. The code of
/// another resolver does if its category's default_error_condition() says so.
enum class LookupErrc {
  NOT_FOUND = 1, ///< There is no such name, or it has no address; or the address has no name.
  UNAVAILABLE,   ///< The name servers could not be asked, or did not answer.
  SERVER_FAILED  ///< The name servers answered that they cannot answer this.
};

const std::error_category& lookupCategory() noexcept;
std::error_condition make_error_condition(LookupErrc condition) noexcept;

/// Looks up names. Take it as a parameter (`Resolver&`), and tests can stand in another, or a program its own.
///
/// Belongs to one thread. Destroying it while a look-up is pending rejects that with DISCONNECTED.
class Resolver {
public:
  virtual ~Resolver() = default;

  /// Looks up the addresses of a host name: IPv4 and IPv6, for TCP.
  ///
  /// Completes:    when the answer is there; at once if it is known.
  /// Result:       the addresses, at least one and none twice, the ones to be tried first in front; each with port 0.
  /// Errors:       FAILED, with `host` quoted, for what is no host name (RFC 1123 §2.1), without asking anybody, and
  ///               for names that have no address; OVERLOADED if that cannot be found out now.
  /// Cancellation: deferred: a request that has begun ends in the background.
  /// Lifetime:     `host` is needed only during the call.
  /// Overlap:      any number.
  virtual Promise<std::vector<SocketAddress>> lookUp(std::string_view host,
                                                     std::source_location where = std::source_location::current()) = 0;

  /// Looks up the host name of an address; the port does not matter. Anybody may give their address any name: it proves
  /// nothing.
  ///
  /// Completes:    when the answer is there; at once if it is known.
  /// Result:       the name; never the address itself as text.
  /// Errors:       FAILED, with the address in the text, if it has no name; OVERLOADED if that cannot be found out now.
  /// Cancellation: deferred: a request that has begun ends in the background.
  /// Overlap:      any number.
  /// Misuse:       throws FAILED for the address of a Unix socket.
  virtual Promise<std::string> lookUpName(const SocketAddress& address,
                                          std::source_location where = std::source_location::current()) = 0;
};

struct SystemResolverOptions {
  /// How many threads of libuv's pool may be busy with this resolver's look-ups, at least 1. The pool has 4 threads for
  /// the whole process, unless UV_THREADPOOL_SIZE says otherwise, and files need them too; of all look-ups together,
  /// libuv itself runs no more than half as many at once.
  std::size_t parallel = 2;
};

/// The system's resolver: getaddrinfo() and getnameinfo(), in threads of libuv's pool. An IP address as a text is its
/// own answer.
///
/// Who asks for what has been asked for already, and is not answered, waits for the same answer. What exceeds
/// `parallel` waits in line. A look-up that is cancelled there, or before a thread has begun it, was never made; one
/// that has begun cannot be stopped. It keeps its place until it ends, which may take as long as resolv.conf(5) says
/// (30 s, for example), and who asks for the same name meanwhile gets its answer. So bound look-ups by
/// Timer::timeoutAfter().
///
/// `io` must outlive it. Throws FAILED if `parallel` is 0.
std::unique_ptr<Resolver> newSystemResolver(AsyncIo& io, SystemResolverOptions options = SystemResolverOptions(),
                                            std::source_location where = std::source_location::current());

struct CachingResolverOptions {
  /// How many answers are kept of each sort (addresses, names); of more, the one that was not asked for the longest is
  /// forgotten. 0: none.
  std::size_t capacity = 1024;
  /// How long an answer holds.
  Duration timeToLive = std::chrono::minutes(1);
  /// How long an error holds. Zero: not at all.
  Duration errorTimeToLive = Duration::zero();
};

/// Remembers what `resolver` answers. Who asks for what is being asked for waits for the same answer; when nobody waits
/// for it any more, that look-up is cancelled.
///
/// `resolver` and `timer` must outlive it.
std::unique_ptr<Resolver> newCachingResolver(Resolver& resolver, Timer& timer,
                                             CachingResolverOptions options = CachingResolverOptions());

} // namespace v0
} // namespace troth

template <>
struct std::is_error_condition_enum<troth::LookupErrc> : std::true_type {};
