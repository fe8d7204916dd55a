// SPDX-License-Identifier: MIT
// Tests of inherited sockets, as far as they need no other process: what is not for us, and what makes no sense. (A
// server that gets its socket so is among the tests of the examples.)
#include "../io/peer.h"
#include "../io/raw_descriptors.h"
#include "../runtime/helpers.h"

#include <troth/net/inherited_sockets.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include <unistd.h>

using namespace troth;
using namespace troth::test;

namespace {

/// The variables, as a supervisor sets them.
void set(const std::string& pid, const std::string& count, const std::string& names = "") {
  REQUIRE(setenv("LISTEN_PID", pid.c_str(), 1) == 0);
  REQUIRE(setenv("LISTEN_FDS", count.c_str(), 1) == 0);
  REQUIRE(setenv("LISTEN_FDNAMES", names.c_str(), 1) == 0);
}

bool isAnySet() {
  return std::getenv("LISTEN_PID") != nullptr || std::getenv("LISTEN_FDS") != nullptr || std::getenv("LISTEN_FDNAMES") != nullptr;
}

} // namespace

TEST_CASE("without a supervisor there are no sockets") { CHECK(takeInheritedSockets().empty()); }

TEST_CASE("sockets that are meant for another process are not taken, nor handed on") {
  set(std::to_string(getpid() + 1), "1");
  CHECK(takeInheritedSockets().empty());
  CHECK(!isAnySet());
  set(std::to_string(getpid()), "0");
  CHECK(takeInheritedSockets().empty());
  REQUIRE(setenv("LISTEN_FDS", "1", 1) == 0); // by whomever, and without LISTEN_PID
  CHECK(takeInheritedSockets().empty());
  CHECK(!isAnySet());
}

TEST_CASE("the sockets come with their numbers and names, closed on exec") {
  struct Case {
    std::string variable, names; // "a b c"
  };
  for (const Case& c : {Case{"web:admin:x", "web admin x"}, Case{"", "unknown unknown unknown"}, Case{"a::c", "a unknown c"},
                        Case{"a", "a unknown unknown"}, Case{"a:b:c:d", "a b c"}}) {
    CAPTURE(c.variable);
    const ChildEnd end = runInChild([&] {
      const OwnedDescriptor high(fcntl(rawPipe().in.get(), F_DUPFD, 100));
      for (const int number : {3, 4, 5}) dup2(high.get(), number);
      set(std::to_string(getpid()), "3", c.variable);
      std::string names;
      int number = 3;
      for (const InheritedSocket& socket : takeInheritedSockets()) {
        names += (names.empty() ? "" : " ") + socket.name;
        if (socket.descriptor.get() != number++ || !isClosedOnExec(socket.descriptor.get())) throw std::runtime_error("descriptor");
      }
      if (names != c.names) throw std::runtime_error(names);
      if (isAnySet() || isOpen(3)) throw std::runtime_error("something is left");
    });
    CAPTURE(end.errors);
    CHECK(end.finished);
  }
}

TEST_CASE("if one descriptor is not open, those that are stay open") {
  const ChildEnd end = runInChild([] {
    const OwnedDescriptor high(fcntl(rawPipe().in.get(), F_DUPFD, 100));
    dup2(high.get(), 3);
    close(4);
    set(std::to_string(getpid()), "2");
    if (!contains(thrownBy([] { takeInheritedSockets(); }).description(), "LISTEN_FDS=\"2\": descriptor 4 is not open")) throw std::runtime_error("text");
    if (!isOpen(3)) throw std::runtime_error("closed");
  });
  CAPTURE(end.errors);
  CHECK(end.finished);
}

TEST_CASE("what makes no sense is told by its variable, and nothing is taken") {
  const std::string self = std::to_string(getpid());
  struct Case {
    std::string pid, count, part;
  };
  for (const Case& c : {Case{"x", "1", "LISTEN_PID=\"x\": is no number"}, Case{"", "1", "LISTEN_PID=\"\""},
                        Case{"99999999999", "1", "LISTEN_PID=\"99999999999\""}, Case{self, "-1", "LISTEN_FDS=\"-1\""},
                        Case{self, "1x", "LISTEN_FDS=\"1x\""}, Case{self, "5000", "LISTEN_FDS=\"5000\": is more than 4096"},
                        Case{self, "4096", "is not open"}}) {
    CAPTURE(c.part);
    set(c.pid, c.count);
    const Exception e = thrownBy([] { takeInheritedSockets(); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), c.part));
    CHECK(madeIn(e, "inherited_sockets_test.cc"));
    CHECK(!isAnySet());
  }
}
