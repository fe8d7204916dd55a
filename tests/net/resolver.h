// SPDX-License-Identifier: MIT
// Host names of the tests' own: a stand-in for the system's getaddrinfo() and getnameinfo() that knows them.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace troth::test {

/// While it lives, `name` resolves to `addresses` (numeric, in this order), or fails with an EAI_ code. Other names
/// go to the system as ever.
class FakeHost {
public:
  FakeHost(std::string name, std::vector<std::string> addresses);
  FakeHost(std::string name, int error);
  FakeHost(const FakeHost&) = delete;
  FakeHost& operator=(const FakeHost&) = delete;
  ~FakeHost();

  /// From now on look-ups of the name wait, in a thread of libuv's pool, until release().
  void hold();
  /// Waits until a look-up of the name has begun.
  void awaitLookup();
  void release();
  /// How many look-ups have begun.
  std::size_t lookups() const;

  struct Entry;

private:
  std::string name_;
  std::shared_ptr<Entry> entry_;
};

/// While it lives, `address` (numeric) has that name, or asking for it fails with an EAI_ code.
class FakeName {
public:
  FakeName(std::string address, std::string name);
  FakeName(std::string address, int error);
  FakeName(const FakeName&) = delete;
  FakeName& operator=(const FakeName&) = delete;
  ~FakeName();

  /// How many look-ups have begun.
  std::size_t lookups() const;

  struct Entry {
    std::string name;
    int error = 0;
    std::size_t lookups = 0;
  };

private:
  std::string address_;
};

} // namespace troth::test
