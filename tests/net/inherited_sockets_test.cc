// SPDX-License-Identifier: MIT
// Tests of inherited sockets, as far as they need no other process: what is not for us, and what makes no sense. (A
// server that gets its socket so is among the tests of the examples.)
#include "../io/peer.h"

#include <troth/net/inherited_sockets.h>

#include <cstdlib>
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
