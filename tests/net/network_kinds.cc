// SPDX-License-Identifier: MIT
// The table of the kinds of networks.
#include "network_kinds.h"

#include "../io/temporary_directory.h"
#include "resolver.h"

#include <troth/net/testing.h>

#include <map>

#include <netdb.h>
#include <unistd.h>

namespace troth::test {

namespace {

class SystemNetwork final : public TestedNetwork {
public:
  explicit SystemNetwork(IoTest& test) : network_(newNetwork(test.io)) {}

  Network& network() override { return *network_; }
  void addHost(const std::string& name, const std::vector<std::string>& addresses) override {
    hosts_.erase(name); // one that had the name before
    lastHost_ = &hosts_.try_emplace(name, name, addresses).first->second;
  }
  void failHost(const std::string& name, LookupErrc error) override {
    const int code = error == LookupErrc::NOT_FOUND     ? EAI_NONAME
                     : error == LookupErrc::UNAVAILABLE ? EAI_AGAIN
                                                        : EAI_FAIL;
    hosts_.erase(name);
    hosts_.try_emplace(name, name, code);
  }
  std::size_t lookups() override { return lastHost_->lookups(); }

private:
  std::unique_ptr<Network> network_;
  std::map<std::string, FakeHost> hosts_;
  const FakeHost* lastHost_ = nullptr;
};

class InMemory final : public TestedNetwork {
public:
  explicit InMemory(IoTest& test) : network_(test.io.timer()) {}

  Network& network() override { return network_; }
  void addHost(const std::string& name, const std::vector<std::string>& addresses) override {
    network_.addHost(name, addresses);
    before_ = network_.lookups();
  }
  void failHost(const std::string& name, LookupErrc error) override { network_.failHost(name, error); }
  std::size_t lookups() override { return network_.lookups() - before_; }

private:
  MemoryNetwork network_;
  std::size_t before_ = 0;
};

template <typename Tested>
std::unique_ptr<TestedNetwork> make(IoTest& test) {
  return std::make_unique<Tested>(test);
}

struct Kind {
  const char* name;
  std::unique_ptr<TestedNetwork> (*make)(IoTest& test);
  AddressKind address;
};

constexpr Kind KINDS[] = {
    {"in memory, IPv4", make<InMemory>, AddressKind::IPV4},
    {"in memory, IPv6", make<InMemory>, AddressKind::IPV6},
    {"in memory, a Unix path", make<InMemory>, AddressKind::UNIX_PATH},
    {"in memory, an abstract Unix name", make<InMemory>, AddressKind::UNIX_ABSTRACT},
    {"TCP over IPv4", make<SystemNetwork>, AddressKind::IPV4},
    {"TCP over IPv6", make<SystemNetwork>, AddressKind::IPV6},
    {"a Unix path", make<SystemNetwork>, AddressKind::UNIX_PATH},
    {"an abstract Unix name", make<SystemNetwork>, AddressKind::UNIX_ABSTRACT},
};

std::string hostOf(AddressKind kind, const TemporaryDirectory& directory) {
  switch (kind) {
  case AddressKind::IPV4:
    return "127.0.0.1";
  case AddressKind::IPV6:
    return "[::1]";
  case AddressKind::UNIX_PATH:
    return "unix:" + directory.inside("socket");
  case AddressKind::UNIX_ABSTRACT:
    break;
  }
  return "unix-abstract:troth-contract-" + std::to_string(::getpid());
}

void onEach(bool (*isWanted)(AddressKind), const std::function<void(NetworkCase&)>& body) {
  for (const Kind& kind : KINDS) {
    if (!isWanted(kind.address)) continue;
    CAPTURE(std::string(kind.name));
    const TemporaryDirectory directory;
    IoTest test;
    const std::unique_ptr<TestedNetwork> tested = kind.make(test);
    NetworkCase one{test, *tested, kind.address, hostOf(kind.address, directory)};
    body(one);
  }
}

} // namespace

void onEachKind(const std::function<void(NetworkCase&)>& body) {
  onEach([](AddressKind) { return true; }, body);
}

void onEachIpKind(const std::function<void(NetworkCase&)>& body) {
  onEach([](AddressKind kind) { return kind == AddressKind::IPV4 || kind == AddressKind::IPV6; }, body);
}

void onEachNetwork(const std::function<void(NetworkCase&)>& body) {
  onEach([](AddressKind kind) { return kind == AddressKind::IPV4; }, body);
}

void cancelOnEachKind(const std::function<Promise<void>(NetworkCase&)>& body) {
  struct Owned {
    std::unique_ptr<TestedNetwork> tested;
    NetworkCase one;
  };
  for (const Kind& kind : KINDS) {
    CAPTURE(std::string(kind.name));
    const TemporaryDirectory directory;
    const std::size_t steps = cancelSweep([&](IoTest& test) {
      std::unique_ptr<TestedNetwork> tested = kind.make(test);
      TestedNetwork& network = *tested;
      auto owned = std::make_unique<Owned>(
          Owned{std::move(tested), {test, network, kind.address, hostOf(kind.address, directory)}});
      Promise<void> done = body(owned->one);
      return std::move(done).attach(std::move(owned));
    });
    CHECK(steps > 3);
  }
}

} // namespace troth::test
