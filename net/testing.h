// SPDX-License-Identifier: MIT
// MemoryNetwork: a network for tests, on which servers and clients meet without an operating system.
#pragma once

#include <troth/net/network.h>
#include <troth/net/resolver.h>
#include <troth/timers/timer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {

namespace detail {
class MemoryWorld;
}

/// A network in memory. Servers and clients that take a `Network&` are tested on it by themselves: no ports that others
/// might have, no waiting, and what is rare out there (a host that does not answer, a connection that breaks after the
/// third byte) happens when the test says so. It needs a loop, but no libuv.
///
///     ManualTimer timer;
///     MemoryNetwork network(timer);
///     network.addHost("db.example", {"2001:db8::1", "10.0.0.1"}).setSilent("2001:db8::1");
///
/// The contracts are those of Network, with the same errors. Connecting is Happy Eyeballs by the same code; what takes
/// time (latency, look-ups, delays, time-outs) takes it on the timer. Every address belongs to this network: one can
/// listen on "10.0.0.1:80" as well as on "unix:/run/x.sock", which makes no file. It knows its own names only,
/// of which "localhost" is one from the start.
///
/// A receiver holds `ListenOptions::backlog` connections that nobody has accepted, at least one. Beyond that an attempt
/// to connect waits for a place, and to a Unix socket it is OVERLOADED. Who shares a port by `reusePort` gets the
/// connections in turn. When a receiver goes, those that it holds are reset. adoptListener() and datagrams are
/// UNIMPLEMENTED.
///
/// Connections are pipes in memory (newTwoWayPipe()): nothing is under way between two ends, so a write completes when
/// the other side has read it. That is stricter than sockets are, whose buffers let small writes pass. Code that writes
/// on both sides before it reads on either works there by luck, and waits for ever here. TCP options have no meaning.
///
/// Belongs to one thread. The network, its addresses, receivers, connections and their operations may be destroyed in
/// any order; `timer` (a ManualTimer, as a rule) must outlive them. The functions that set something up return the
/// network itself.
class MemoryNetwork final : public Network {
public:
  explicit MemoryNetwork(Timer& timer);
  ~MemoryNetwork() override;
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  // --- Names.

  /// From now on `name` (in any case) stands for these IP addresses, of which there is at least one, in this order.
  /// Other names do not exist: looking them up is FAILED with LookupErrc::NOT_FOUND.
  MemoryNetwork& addHost(std::string_view name, const std::vector<std::string>& addresses,
                         std::source_location where = std::source_location::current());
  /// From now on looking up `name` fails.
  MemoryNetwork& failHost(std::string_view name, LookupErrc error);
  /// How long each look-up takes from now on; no time at first.
  MemoryNetwork& setLookupDelay(Duration delay);
  /// How many look-ups have begun.
  std::size_t lookups() const noexcept;

  // --- Destinations. `destination` is what is connected to: "10.0.0.1:80", "10.0.0.1" for all of its ports where
  // nothing else was said of one, or "unix:/run/x.sock". Throws FAILED for other texts, names among them. Connections
  // that exist are not affected.

  /// How long each attempt to connect takes from now on, also if it is refused; no time at first.
  MemoryNetwork& setLatency(std::string_view destination, Duration latency,
                            std::source_location where = std::source_location::current());
  /// Attempts to connect get no answer, neither a connection nor a refusal, until setAnswering(): a host that is down,
  /// or a firewall.
  MemoryNetwork& setSilent(std::string_view destination, std::source_location where = std::source_location::current());
  /// Attempts to connect fail at once, with DISCONNECTED and std::errc::host_unreachable.
  MemoryNetwork& setUnreachable(std::string_view destination,
                                std::source_location where = std::source_location::current());
  /// As in the beginning: whoever listens gets the connections, also those that wait in silence. If nobody does, they
  /// are refused (DISCONNECTED, std::errc::connection_refused).
  MemoryNetwork& setAnswering(std::string_view destination,
                              std::source_location where = std::source_location::current());

  /// The bytes that are counted: those from the one that connects, or those to it.
  enum class Direction : std::uint8_t { TO_SERVER, TO_CLIENT };
  /// Which connections are concerned. After several calls with NEXT, each concerns one.
  enum class Connections : std::uint8_t { NEXT, EACH };
  /// Connections are reset when `bytes` bytes have been read in one direction: what is pending at either end then, and
  /// what comes later, fails with DISCONNECTED and std::errc::connection_reset. All that a cancelled write
  /// was to bring counts as read; if the last byte was among it, the reset comes with the next write.
  MemoryNetwork& resetAfter(std::string_view destination, Direction direction, std::uint64_t bytes,
                            Connections connections = Connections::NEXT,
                            std::source_location where = std::source_location::current());

  /// A read at either end of a connection gets at most `most` bytes (1 or more), unless its minBytes asks for more.
  MemoryNetwork& shortReads(std::string_view destination, std::size_t most,
                            std::source_location where = std::source_location::current());

  /// Clients come from this IP address from now on, where they connect to one of the same family. At first they come
  /// from the address that they connect to, as programs of one machine do. Their ports count up from 32768.
  MemoryNetwork& setClientHost(std::string_view host, std::source_location where = std::source_location::current());

  // --- The network. For the contracts see Network.

  Promise<std::unique_ptr<NetworkAddress>>
  parseAddress(std::string_view text, std::uint16_t defaultPort = 0,
               std::source_location where = std::source_location::current()) override;
  std::unique_ptr<Network> restrictPeers(const std::vector<std::string>& allow,
                                         const std::vector<std::string>& deny = {},
                                         std::source_location where = std::source_location::current()) override;

private:
  std::shared_ptr<detail::MemoryWorld> world_; // shared with all that came from this network
};

} // namespace v0
} // namespace troth
