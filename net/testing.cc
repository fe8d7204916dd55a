// SPDX-License-Identifier: MIT
// The network in memory: who listens where, what becomes of attempts to connect, and when connections break.
//
// The MemoryWorld is what all parts of one network share and own together: the table of hosts, what the test has said
// of destinations, and the list of those who listen. A receiver leaves that list when it is destroyed, and its listener
// stays alive as long as an accept needs it.
//
// An attempt to connect is a coroutine that looks whether it can be served, and sleeps if not: in silence until the
// test changes something, or at a listener whose queue is full until there is room. Whoever wakes it lets it look
// again.
//
// A connection is a pipe with a Wire around it, which counts the bytes that are written and breaks when it is time.
// Breaking gives up reading at both ends of the pipe, which fails whatever is pending. That happens in an event of its
// own: the last byte may have been carried by a pump that must not be destroyed while it writes.
#include <troth/net/testing.h>

#include <troth/io/operation_detail.h>
#include <troth/io/pipe.h>
#include <troth/net/happy_eyeballs_detail.h>
#include <troth/net/ip_bytes_detail.h>
#include <troth/net/peer_filter_detail.h>
#include <troth/net/peer_identity.h>
#include <troth/net/target_detail.h>
#include <troth/net/uv_tcp_options_detail.h>
#include <troth/net/uv_unix_socket_detail.h>
#include <troth/runtime/item_queue_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using Filter = std::shared_ptr<const detail::PeerFilter>; // null allows all
using WorldPtr = std::shared_ptr<detail::MemoryWorld>;

constexpr std::uint16_t FIRST_CLIENT_PORT = 32768;
constexpr std::uint16_t FIRST_FREE_PORT = 49152; // RFC 6335 §6: dynamic ports
constexpr std::uint16_t LAST_PORT = 65535;

// ---------------------------------------------------------------------------------------- connections

/// What breaks a connection, and cuts its reads.
struct Faults {
  std::optional<std::uint64_t> resetAfter[2]; // by direction
  std::size_t mostRead = SIZE_MAX;
};

/// What the two ends of a connection share.
class Wire final : public std::enable_shared_from_this<Wire> {
public:
  Wire(TwoWayPipe pipe, const Faults& faults)
      : ends{std::move(pipe.ends[0]), std::move(pipe.ends[1])}, faults_(faults) {
    if (faults_.resetAfter[0] == 0 || faults_.resetAfter[1] == 0) resetSoon();
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  StreamPtr ends[2]; // the client's and the server's; null when that one is gone

  std::size_t mostRead() const noexcept { return faults_.mostRead; }
  bool countsFrom(std::size_t side) const noexcept { return faults_.resetAfter[side].has_value(); }

  Promise<void> write(std::size_t side, std::span<const std::span<const std::byte>> pieces, std::source_location where);

  /// The same operation, which says so if it fails because of a reset.
  template <typename T>
  Promise<T> tellReset(Promise<T> operation, std::source_location where) {
    return std::move(operation).catch_(
        [wire = shared_from_this(), where](Exception e) -> T {
          if (wire->isReset_) throw resetError(where);
          e.rethrow();
        },
        where);
  }

  void reset() noexcept {
    isReset_ = true;
    for (const StreamPtr& end : ends)
      if (end != nullptr) end->abortRead();
    cutOff_.failAll(resetError(std::source_location()));
  }

private:
  class Reset final : public detail::Event {
  public:
    explicit Reset(Wire& wire) : Event(EventLoop::current()), wire_(wire) {}

  private:
    Wire& wire_;
    void fire() noexcept override { wire_.reset(); }
  };

  Faults faults_; // how many bytes are left until then
  bool isReset_ = false;
  detail::Sleepers cutOff_; // writes of which not all bytes pass
  std::optional<Reset> soon_;

  void resetSoon() {
    if (!soon_ && !isReset_) soon_.emplace(*this).armBreadthFirst();
  }
  static Exception resetError(std::source_location where) noexcept {
    return uvException(UV_ECONNRESET, "the connection", where);
  }
};

Promise<void> Wire::write(std::size_t side, std::span<const std::span<const std::byte>> pieces,
                          std::source_location where) {
  if (!faults_.resetAfter[side] || isReset_) return tellReset(ends[side]->write(pieces, where), where);
  std::uint64_t& left = *faults_.resetAfter[side];
  const std::uint64_t size = detail::totalSize(pieces);
  const detail::PieceList passing = detail::Pieces(pieces).first(left);
  Promise<void> passed = tellReset(ends[side]->write(passing, where), where);
  const bool isWhole = size <= left;
  left -= std::min(left, size);
  if (left > 0) return passed;
  return std::move(passed).then(
      [wire = shared_from_this(), isWhole, where]() -> Promise<void> {
        wire->resetSoon();
        if (isWhole) return READY_NOW;
        if (wire->isReset_) throw resetError(where);
        return wire->tellReset(wire->cutOff_.sleep(where), where);
      },
      detail::PropagateException(), where);
}

/// One end of a connection.
class MemoryStream final : public AsyncIoStream {
public:
  MemoryStream(std::shared_ptr<Wire> wire, std::size_t side, const SocketAddress& peer) noexcept
      : wire_(std::move(wire)), side_(side), peer_(peer) {}
  ~MemoryStream() override {
    wire_->ends[side_] = nullptr;
    pumps_.disconnect();
  }
  MemoryStream(const MemoryStream&) = delete;
  MemoryStream& operator=(const MemoryStream&) = delete;

  void reset() noexcept { wire_->reset(); }

  /// A client of a Unix socket has no address: its peers know the process, which is this one.
  std::unique_ptr<PeerIdentity> peerIdentity() const {
    if (peer_.isUnix())
      return std::make_unique<LocalPeerIdentity>(LocalPeerIdentity::Credentials{::getpid(), ::getuid(), ::getgid()});
    return std::make_unique<NetworkPeerIdentity>(peer_);
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    const std::size_t most = std::max(wire_->mostRead(), minBytes);
    return wire_->tellReset(inner().tryRead(buffer.first(std::min(buffer.size(), most)), minBytes, where), where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return wire_->tellReset(inner().tryReadChunk(std::min(maxBytes, wire_->mostRead()), where), where);
  }
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    if (wire_->mostRead() != SIZE_MAX) // by reads; it ends with this stream, even while nobody takes what was read
      return pumps_.endWithStream(AsyncInputStream::pumpTo(output, amount, where), where);
    return wire_->tellReset(inner().pumpTo(output, amount, where), where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return wire_->write(side_, {&bytes, 1}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return wire_->write(side_, pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    if (wire_->countsFrom(side_)) return std::nullopt;
    std::optional<Promise<std::uint64_t>> pump = inner().tryPumpFrom(input, amount, where);
    if (pump) pump = wire_->tellReset(std::move(*pump), where);
    return pump;
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return inner().whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override { inner().shutdownWrite(where); }
  void abortWrite(std::source_location where) override { inner().abortWrite(where); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return inner().tryGetUndelivered(); }
  void abortRead(std::source_location where) override { inner().abortRead(where); }

private:
  std::shared_ptr<Wire> wire_;
  std::size_t side_;
  SocketAddress peer_;
  detail::Direction pumps_{detail::Direction::Kind::READ};

  AsyncIoStream& inner() const noexcept { return *wire_->ends[side_]; }
};

using MemoryStreamPtr = std::unique_ptr<MemoryStream>;

AuthenticatedStream authenticateInMemory(StreamPtr stream) {
  std::unique_ptr<PeerIdentity> identity = static_cast<const MemoryStream&>(*stream).peerIdentity();
  return {std::move(stream), std::move(identity)};
}

// ------------------------------------------------------------------------------------------ addresses

bool isAny(const SocketAddress& address) noexcept {
  return !address.isUnix() && address == SocketAddress::any(address.family(), address.port());
}

std::string hostOfIp(const SocketAddress& ip) {
  const std::string text = ip.toString();
  return text.substr(0, text.rfind(':'));
}

/// "::ffff:10.0.0.1" is 10.0.0.1.
SocketAddress withoutMapping(const SocketAddress& address) {
  if (address.family() != SocketAddress::Family::IPV6) return address;
  const std::array<std::uint8_t, 16> bytes = detail::ipv6Bytes(address);
  if (!detail::isIpv4Mapped(bytes)) return address;
  return SocketAddress::parse(
      fmt::format("{}.{}.{}.{}:{}", bytes[12], bytes[13], bytes[14], bytes[15], address.port()));
}

SocketAddress withMapping(const SocketAddress& ipv4) {
  return SocketAddress::parse(fmt::format("[::ffff:{}]:{}", hostOfIp(ipv4), ipv4.port()));
}

/// Where an attempt to connect to `address` arrives: "0.0.0.0" and "::" are this machine.
SocketAddress arrivalOf(const SocketAddress& address) {
  const SocketAddress plain = withoutMapping(address);
  if (!isAny(plain)) return plain;
  return SocketAddress::parse(plain.family() == SocketAddress::Family::IPV4 ? "127.0.0.1" : "::1", plain.port());
}

/// How well what one listens on fits where a connection arrives.
enum class Fit : std::uint8_t { NONE, OTHER_FAMILY, WILDCARD, EXACT };

Fit fitOf(const SocketAddress& listened, bool ipv6Only, const SocketAddress& arrival) {
  if (listened == arrival) return Fit::EXACT;
  if (listened.isUnix() || arrival.isUnix() || listened.port() != arrival.port() || !isAny(listened)) return Fit::NONE;
  if (listened.family() == arrival.family()) return Fit::WILDCARD;
  return listened.family() == SocketAddress::Family::IPV6 && !ipv6Only ? Fit::OTHER_FAMILY : Fit::NONE;
}

// ------------------------------------------------------------------------------------------ listening

/// A receiver's other half, in the world's list as long as the receiver lives.
class Listener final : public std::enable_shared_from_this<Listener> {
public:
  Listener(const SocketAddress& address, std::string_view name, Filter filter, const ListenOptions& options)
      : address_(address),
        arrivals_(withoutMapping(address)),
        operation_(fmt::format("accepting on {}", name)),
        filter_(std::move(filter)),
        options_(options),
        backlog_(static_cast<std::size_t>(options.backlog)) {}

  const SocketAddress& address() const noexcept { return address_; }
  Fit fits(const SocketAddress& arrival) const { return fitOf(arrivals_, options_.ipv6Only, arrival); }
  /// Whether no other one may listen on `arrivals`.
  bool isInTheWayOf(const Listener& other) const {
    if (fits(other.arrivals_) == Fit::NONE && other.fits(arrivals_) == Fit::NONE) return false;
    return !(options_.reusePort && other.options_.reusePort);
  }

  bool hasRoom() const noexcept { return queue_.unclaimed() < backlog_; }
  /// Completes when there may be room, or the receiver is gone.
  Promise<void> untilChanged(std::source_location where) { return changed_.sleep(where); }

  /// Puts the server's end of a connection into the queue. `client` is where it comes from.
  StreamPtr connect(const SocketAddress& arrival, const SocketAddress& client, const Faults& faults);

  Promise<MemoryStreamPtr> accept(std::source_location where);
  void close() noexcept;

private:
  /// The one accept: pending, or ready with its result not taken.
  class Turn {
  public:
    explicit Turn(Listener& listener) : listener_(listener.shared_from_this()) { listener_->isAccepting_ = true; }
    Turn(Turn&&) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn() { end(); }
    void end() noexcept {
      if (listener_ != nullptr) listener_->isAccepting_ = false;
      listener_ = nullptr;
    }

  private:
    std::shared_ptr<Listener> listener_;
  };

  SocketAddress address_;
  SocketAddress arrivals_;
  std::string operation_; // what an accept does, for the text of its failures
  Filter filter_;
  ListenOptions options_;
  std::size_t backlog_;
  bool isAccepting_ = false;
  std::source_location acceptedAt_;
  detail::Sleepers changed_;
  detail::ItemQueue<MemoryStreamPtr, false> queue_;
};

StreamPtr Listener::connect(const SocketAddress& arrival, const SocketAddress& client, const Faults& faults) {
  const bool isMapped =
      client.family() == SocketAddress::Family::IPV4 && address_.family() == SocketAddress::Family::IPV6;
  const SocketAddress seen = isMapped ? withMapping(client) : client;
  const auto wire = std::make_shared<Wire>(newTwoWayPipe(), faults);
  auto near = std::make_unique<MemoryStream>(wire, 0, arrival);
  auto far = std::make_unique<MemoryStream>(wire, 1, seen);
  const bool isAllowed = filter_ == nullptr || seen.isUnix() || filter_->allows(seen);
  if (isAllowed) queue_.push(std::move(far)); // else it is closed at once
  return near;
}

Promise<MemoryStreamPtr> Listener::accept(std::source_location where) {
  queue_.require("accept was called", where);
  if (isAccepting_)
    detail::throwMisuse("accept: another accept on this receiver is pending, or its result has not been taken", where);
  Turn turn(*this);
  acceptedAt_ = where;
  Promise<MemoryStreamPtr> accepted = detail::PromiseAccess::wrap<MemoryStreamPtr>(queue_.take(false, where));
  changed_.wake(); // it has a claim to one of the queue, which makes room
  return std::move(accepted).then(
      [ending = std::move(turn)](MemoryStreamPtr stream) mutable {
        ending.end();
        return stream;
      },
      detail::PropagateException(), where);
}

// Those that nobody has accepted are reset; an accept that is ready keeps its own.
void Listener::close() noexcept {
  queue_.failWaiting(
      Exception(Exception::Kind::DISCONNECTED, "the receiver was destroyed", {}, acceptedAt_).withContext(operation_));
  while (std::optional<MemoryStreamPtr> unaccepted = queue_.tryTake()) (*unaccepted)->reset();
  changed_.wake();
}

} // namespace

// ------------------------------------------------------------------------------------------ the world

namespace detail {

class MemoryWorld final {
public:
  explicit MemoryWorld(Timer& t) : timer(t) {}
  MemoryWorld(const MemoryWorld&) = delete;
  MemoryWorld& operator=(const MemoryWorld&) = delete;

  enum class Answer : std::uint8_t { ANSWERS, SILENT, UNREACHABLE };

  /// What the test has said of a destination.
  struct Rule {
    std::optional<Duration> latency;
    std::optional<Answer> answer;
    std::optional<std::size_t> mostRead;
    std::optional<std::uint64_t> resetEach[2]; // by direction
    std::deque<std::uint64_t> resetNext[2];
  };
  struct Host {
    std::vector<SocketAddress> addresses;
    int error = 0; // of libuv, if looking it up fails
  };

  Timer& timer;
  Duration lookupDelay = Duration::zero();
  std::size_t lookups = 0;
  std::map<std::string, Host> hosts; // by their names as hostKey() gives them
  std::optional<SocketAddress> clientHosts[2];
  detail::Sleepers changed; // attempts to connect that wait in silence

  Rule& ruleFor(std::string_view destination, std::source_location where);
  void setAnswer(std::string_view destination, Answer answer, std::source_location where);

  /// What holds for a connection to `arrival`: what was said of its port, or else of its host.
  template <typename T>
  T find(std::optional<T> Rule::*what, const SocketAddress& arrival, T otherwise) {
    for (const Rule* rule : {ruleOf(arrival), ruleOf(arrival.withPort(0))})
      if (rule != nullptr && rule->*what) return *(rule->*what);
    return otherwise;
  }
  /// Of the next connection to `arrival`, which this is for.
  Faults takeFaults(const SocketAddress& arrival);

  /// Who gets the next connection that arrives there, if anybody listens. Those who share a port take turns.
  std::shared_ptr<Listener> nextListener(const SocketAddress& arrival);
  /// A listener on `address`, if that is free. It gets no connections before add().
  std::shared_ptr<Listener> newListener(SocketAddress address, const std::string& name, Filter filter,
                                        const ListenOptions& options, std::source_location where);
  void add(Listener& listener) { listeners_.push_back(&listener); }
  void remove(const Listener& listener) noexcept {
    std::erase_if(listeners_, [&](const Listener* one) { return one == &listener; });
  }

  /// Where a client that connects to `arrival` comes from.
  SocketAddress newClient(const SocketAddress& arrival);

private:
  std::vector<std::pair<SocketAddress, Rule>> rules_;
  std::vector<Listener*> listeners_;
  std::uint16_t nextClientPort_ = FIRST_CLIENT_PORT;
  std::uint16_t nextFreePort_ = FIRST_FREE_PORT;

  Rule* ruleOf(const SocketAddress& destination) noexcept {
    const auto found = std::ranges::find(rules_, destination, &std::pair<SocketAddress, Rule>::first);
    return found == rules_.end() ? nullptr : &found->second;
  }
  bool isTaken(const Listener& wanted) const {
    return std::ranges::any_of(listeners_, [&](const Listener* one) { return one->isInTheWayOf(wanted); });
  }
};

MemoryWorld::Rule& MemoryWorld::ruleFor(std::string_view destination, std::source_location where) {
  const SocketAddress address = arrivalOf(SocketAddress::parse(destination, 0, where));
  if (Rule* known = ruleOf(address)) return *known;
  return rules_.emplace_back(address, Rule()).second;
}

void MemoryWorld::setAnswer(std::string_view destination, Answer answer, std::source_location where) {
  ruleFor(destination, where).answer = answer;
  changed.wake();
}

Faults MemoryWorld::takeFaults(const SocketAddress& arrival) {
  Faults faults;
  faults.mostRead = find(&Rule::mostRead, arrival, faults.mostRead);
  for (const SocketAddress& destination : {arrival.withPort(0), arrival}) { // the port has the last word
    Rule* rule = ruleOf(destination);
    for (std::size_t direction = 0; rule != nullptr && direction < 2; ++direction) {
      if (rule->resetEach[direction]) faults.resetAfter[direction] = rule->resetEach[direction];
      std::deque<std::uint64_t>& next = rule->resetNext[direction];
      if (next.empty()) continue;
      faults.resetAfter[direction] = next.front();
      next.pop_front();
    }
    if (arrival.isUnix()) break; // it has no ports: that was all
  }
  return faults;
}

std::shared_ptr<Listener> MemoryWorld::nextListener(const SocketAddress& arrival) {
  const auto best = std::ranges::max_element(
      listeners_, {}, [&](const Listener* one) { return one->fits(arrival); }); // of equal ones, the first
  if (best == listeners_.end() || (*best)->fits(arrival) == Fit::NONE) return nullptr;
  std::rotate(best, best + 1, listeners_.end());
  return listeners_.back()->shared_from_this();
}

std::shared_ptr<Listener> MemoryWorld::newListener(SocketAddress address, const std::string& name, Filter filter,
                                                   const ListenOptions& options, std::source_location where) {
  const std::string operation = fmt::format("cannot listen on {}", name);
  if (address.isUnix() && options.reusePort) throwNoReusePort(operation, where);
  const bool isFreePort = !address.isUnix() && address.port() == 0;
  for (int tries = isFreePort ? LAST_PORT - FIRST_FREE_PORT : 0; tries >= 0; --tries) {
    if (isFreePort) {
      address = address.withPort(nextFreePort_);
      nextFreePort_ = nextFreePort_ == LAST_PORT ? FIRST_FREE_PORT : static_cast<std::uint16_t>(nextFreePort_ + 1);
    }
    auto listener = std::make_shared<Listener>(address, name, filter, options);
    if (!isTaken(*listener)) return listener;
  }
  if (address.isUnix() && !address.isAbstract()) throwUnixPathTaken(operation, where);
  throw uvException(UV_EADDRINUSE, operation, where);
}

SocketAddress MemoryWorld::newClient(const SocketAddress& arrival) {
  if (arrival.isUnix()) return arrival;
  const auto& given = clientHosts[arrival.family() == SocketAddress::Family::IPV6];
  const SocketAddress client = given.value_or(arrival).withPort(nextClientPort_);
  nextClientPort_ =
      nextClientPort_ == FIRST_FREE_PORT - 1 ? FIRST_CLIENT_PORT : static_cast<std::uint16_t>(nextClientPort_ + 1);
  return client;
}

} // namespace detail

namespace {

using detail::MemoryWorld;

/// Host names are the same in any case, and with a dot at their end.
std::string hostKey(std::string_view name) {
  std::string key(name);
  if (key.ends_with('.')) key.pop_back();
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return key;
}

Promise<std::vector<SocketAddress>> lookUp(WorldPtr world, std::string host, std::source_location where) {
  ++world->lookups;
  if (world->lookupDelay > Duration::zero()) co_await world->timer.afterDelay(world->lookupDelay, where);
  const auto found = world->hosts.find(hostKey(host));
  const int error = found == world->hosts.end() ? UV_EAI_NONAME : found->second.error;
  uvCheck(error, fmt::format("looking up host {}", detail::quote(host)), where);
  co_return found->second.addresses;
}

/// What an attempt to connect meets where nobody listens.
int noListener(const SocketAddress& arrival) noexcept {
  return arrival.isUnix() && !arrival.isAbstract() ? UV_ENOENT : UV_ECONNREFUSED;
}

/// Connects to one address.
Promise<StreamPtr> connectTo(WorldPtr world, SocketAddress address, Filter filter, std::source_location where) {
  using Rule = MemoryWorld::Rule;
  detail::requireAllowed(filter.get(), address, where);
  const SocketAddress arrival = arrivalOf(address);
  const Duration latency = world->find(&Rule::latency, arrival, Duration::zero());
  if (latency > Duration::zero()) co_await world->timer.afterDelay(latency, where);
  for (;;) {
    const MemoryWorld::Answer answer = world->find(&Rule::answer, arrival, MemoryWorld::Answer::ANSWERS);
    if (answer == MemoryWorld::Answer::UNREACHABLE) throw uvException(UV_EHOSTUNREACH, address.toString(), where);
    if (answer == MemoryWorld::Answer::SILENT) {
      co_await world->changed.sleep(where);
      continue;
    }
    const std::shared_ptr<Listener> listener = world->nextListener(arrival);
    if (listener == nullptr) throw uvException(noListener(arrival), address.toString(), where);
    if (listener->hasRoom())
      co_return listener->connect(arrival, world->newClient(arrival), world->takeFaults(arrival));
    if (arrival.isUnix()) throw uvException(UV_EAGAIN, address.toString(), where);
    co_await listener->untilChanged(where);
  }
}

// ----------------------------------------------------------------------------------- what users hold

class MemoryReceiver final : public ConnectionReceiver {
public:
  MemoryReceiver(WorldPtr world, std::shared_ptr<Listener> listener)
      : world_(std::move(world)), listener_(std::move(listener)) {
    world_->add(*listener_); // here, so that it is removed in any case
  }
  ~MemoryReceiver() override {
    world_->remove(*listener_);
    listener_->close();
  }
  MemoryReceiver(const MemoryReceiver&) = delete;
  MemoryReceiver& operator=(const MemoryReceiver&) = delete;

  Promise<StreamPtr> accept(std::source_location where) override {
    return listener_->accept(where).then([](MemoryStreamPtr stream) -> StreamPtr { return stream; });
  }
  Promise<AuthenticatedStream> acceptAuthenticated(std::source_location where) override {
    return listener_->accept(where).then(
        [](MemoryStreamPtr stream) { return authenticateInMemory(std::move(stream)); });
  }
  std::uint16_t getPort() const override { return listener_->address().port(); }
  std::string toString() const override { return listener_->address().toString(); }

private:
  WorldPtr world_;
  std::shared_ptr<Listener> listener_;
};

/// What an address and its clones are, and its connections while they are made.
struct MemoryTarget : detail::Target {
  WorldPtr world;
  Filter filter;
};

class MemoryAddress final : public NetworkAddress {
public:
  MemoryAddress(WorldPtr world, Filter filter, detail::Target target)
      : target_(std::make_shared<const MemoryTarget>(
            MemoryTarget{std::move(target), std::move(world), std::move(filter)})) {}

  Promise<StreamPtr> connect(ConnectOptions options, std::source_location where) override {
    detail::requireConnectable(*target_, where);
    return detail::connectToFirst(
               target_->addresses, target_->name,
               [&target = *target_, where](const SocketAddress& address) {
                 return connectTo(target.world, address, target.filter, where);
               },
               target_->world->timer, options, where)
        .attach(target_);
  }
  Promise<AuthenticatedStream> connectAuthenticated(ConnectOptions options, std::source_location where) override {
    return connect(options, where).then([](StreamPtr stream) { return authenticateInMemory(std::move(stream)); });
  }
  std::unique_ptr<ConnectionReceiver> listen(ListenOptions options, std::source_location where) override {
    const SocketAddress& address = target_->addresses.front(); // every address exists
    detail::requireListening(target_->filter.get(), address, "cannot listen on", target_->name, where);
    detail::requireBacklog(options, target_->name, where);
    return std::make_unique<MemoryReceiver>(
        target_->world, target_->world->newListener(address, target_->name, target_->filter, options, where));
  }
  std::unique_ptr<NetworkAddress> clone() const override { return std::make_unique<MemoryAddress>(*this); }
  std::string toString() const override { return target_->name; }

private:
  std::shared_ptr<const MemoryTarget> target_;
};

using AddressPtr = std::unique_ptr<NetworkAddress>;

Promise<AddressPtr> parse(const WorldPtr& world, const Filter& filter, std::string_view text, std::uint16_t defaultPort,
                          std::source_location where) {
  return evalNow([&]() -> Promise<AddressPtr> {
    detail::ParsedAddress parsed = detail::parseAddressText(text, defaultPort, where);
    if (parsed.kind != detail::ParsedAddress::Kind::NAME)
      return std::make_unique<MemoryAddress>(world, filter, detail::targetOf(parsed));
    Promise<std::vector<SocketAddress>> found = lookUp(world, parsed.name, where);
    return std::move(found).then([world, filter, parsed = std::move(parsed),
                                  where](std::vector<SocketAddress> addresses) -> AddressPtr {
      return std::make_unique<MemoryAddress>(world, filter, detail::targetOfHost(parsed, std::move(addresses), where));
    });
  });
}

/// A part of the network: what restrictPeers() allows.
class RestrictedMemoryNetwork final : public Network {
public:
  RestrictedMemoryNetwork(WorldPtr world, Filter filter) noexcept
      : world_(std::move(world)), filter_(std::move(filter)) {}

  Promise<AddressPtr> parseAddress(std::string_view text, std::uint16_t defaultPort,
                                   std::source_location where) override {
    return parse(world_, filter_, text, defaultPort, where);
  }
  std::unique_ptr<Network> restrictPeers(const std::vector<std::string>& allow, const std::vector<std::string>& deny,
                                         std::source_location where) override {
    return std::make_unique<RestrictedMemoryNetwork>(
        world_, std::make_shared<const detail::PeerFilter>(allow, deny, filter_, where));
  }

private:
  WorldPtr world_;
  Filter filter_;
};

SocketAddress parseHost(std::string_view text, std::source_location where) {
  const SocketAddress address = SocketAddress::parse(text, 0, where);
  if (address.isUnix() || address.port() != 0)
    detail::throwMisuse(fmt::format("{} is not an IP address without a port", detail::quote(text)), where);
  return address;
}

int lookupError(LookupErrc error) noexcept {
  switch (error) {
  case LookupErrc::UNAVAILABLE:
    return UV_EAI_AGAIN;
  case LookupErrc::SERVER_FAILED:
    return UV_EAI_FAIL;
  case LookupErrc::NOT_FOUND:
    break;
  }
  return UV_EAI_NONAME;
}

} // namespace

// ---------------------------------------------------------------------------------------- the network

MemoryNetwork::MemoryNetwork(Timer& timer) : world_(std::make_shared<MemoryWorld>(timer)) {
  addHost("localhost", {"127.0.0.1", "::1"});
}

MemoryNetwork::~MemoryNetwork() = default;

MemoryNetwork& MemoryNetwork::addHost(std::string_view name, const std::vector<std::string>& addresses,
                                      std::source_location where) {
  if (addresses.empty()) detail::throwMisuse("addHost: a host has at least one address", where);
  MemoryWorld::Host host;
  for (const std::string& address : addresses) host.addresses.push_back(parseHost(address, where));
  world_->hosts[hostKey(name)] = std::move(host);
  return *this;
}

MemoryNetwork& MemoryNetwork::failHost(std::string_view name, LookupErrc error) {
  world_->hosts[hostKey(name)] = {{}, lookupError(error)};
  return *this;
}

MemoryNetwork& MemoryNetwork::setLookupDelay(Duration delay) {
  world_->lookupDelay = delay;
  return *this;
}

std::size_t MemoryNetwork::lookups() const noexcept { return world_->lookups; }

MemoryNetwork& MemoryNetwork::setLatency(std::string_view destination, Duration latency, std::source_location where) {
  world_->ruleFor(destination, where).latency = latency;
  return *this;
}

MemoryNetwork& MemoryNetwork::setSilent(std::string_view destination, std::source_location where) {
  world_->setAnswer(destination, MemoryWorld::Answer::SILENT, where);
  return *this;
}

MemoryNetwork& MemoryNetwork::setUnreachable(std::string_view destination, std::source_location where) {
  world_->setAnswer(destination, MemoryWorld::Answer::UNREACHABLE, where);
  return *this;
}

MemoryNetwork& MemoryNetwork::setAnswering(std::string_view destination, std::source_location where) {
  world_->setAnswer(destination, MemoryWorld::Answer::ANSWERS, where);
  return *this;
}

MemoryNetwork& MemoryNetwork::resetAfter(std::string_view destination, Direction direction, std::uint64_t bytes,
                                         Connections connections, std::source_location where) {
  MemoryWorld::Rule& rule = world_->ruleFor(destination, where);
  const auto index = static_cast<std::size_t>(direction);
  if (connections == Connections::EACH)
    rule.resetEach[index] = bytes;
  else
    rule.resetNext[index].push_back(bytes);
  return *this;
}

MemoryNetwork& MemoryNetwork::shortReads(std::string_view destination, std::size_t most, std::source_location where) {
  if (most == 0) detail::throwMisuse("shortReads: 0 bytes at a time would never come to an end", where);
  world_->ruleFor(destination, where).mostRead = most;
  return *this;
}

MemoryNetwork& MemoryNetwork::setClientHost(std::string_view host, std::source_location where) {
  const SocketAddress address = parseHost(host, where);
  world_->clientHosts[address.family() == SocketAddress::Family::IPV6] = address;
  return *this;
}

Promise<AddressPtr> MemoryNetwork::parseAddress(std::string_view text, std::uint16_t defaultPort,
                                                std::source_location where) {
  return parse(world_, nullptr, text, defaultPort, where);
}

std::unique_ptr<Network> MemoryNetwork::restrictPeers(const std::vector<std::string>& allow,
                                                      const std::vector<std::string>& deny,
                                                      std::source_location where) {
  return std::make_unique<RestrictedMemoryNetwork>(
      world_, std::make_shared<const detail::PeerFilter>(allow, deny, nullptr, where));
}

} // namespace v0
} // namespace troth
