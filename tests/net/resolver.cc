// SPDX-License-Identifier: MIT
// The stand-ins for getaddrinfo() and getnameinfo(): these definitions come before the C library's for the whole test
// program.
#include "resolver.h"

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <netdb.h>

#include <condition_variable>
#include <map>
#include <mutex>

namespace troth::test {

struct FakeHost::Entry {
  std::vector<std::string> addresses;
  int error = 0;
  std::size_t lookups = 0;
  bool held = false;
};

namespace {

std::mutex mutex;
std::condition_variable changed;
std::map<std::string, std::shared_ptr<FakeHost::Entry>, std::less<>> hosts;
std::map<std::string, FakeName::Entry, std::less<>> names;

using GetAddrInfo = int (*)(const char*, const char*, const addrinfo*, addrinfo**);

GetAddrInfo real() {
  static const auto function = reinterpret_cast<GetAddrInfo>(dlsym(RTLD_NEXT, "getaddrinfo"));
  return function;
}

using GetNameInfo = int (*)(const sockaddr*, socklen_t, char*, socklen_t, char*, socklen_t, int);

GetNameInfo realGetNameInfo() {
  static const auto function = reinterpret_cast<GetNameInfo>(dlsym(RTLD_NEXT, "getnameinfo"));
  return function;
}

// The system makes each address, so that its freeaddrinfo() can free the list.
int answer(const std::vector<std::string>& addresses, const char* service, const addrinfo* hints, addrinfo** result) {
  *result = nullptr;
  addrinfo** end = result;
  for (const std::string& address : addresses) {
    addrinfo numeric = hints != nullptr ? *hints : addrinfo{};
    numeric.ai_flags |= AI_NUMERICHOST;
    if (const int status = real()(address.c_str(), service, &numeric, end); status != 0) return status;
    while (*end != nullptr) end = &(*end)->ai_next;
  }
  return 0;
}

} // namespace

FakeHost::FakeHost(std::string name, std::vector<std::string> addresses) : name_(std::move(name)), entry_(std::make_shared<Entry>()) {
  entry_->addresses = std::move(addresses);
  const std::lock_guard lock(mutex);
  REQUIRE(hosts.emplace(name_, entry_).second);
}

FakeHost::FakeHost(std::string name, int error) : FakeHost(std::move(name), std::vector<std::string>()) { entry_->error = error; }

FakeHost::~FakeHost() {
  release();
  const std::lock_guard lock(mutex);
  hosts.erase(name_);
}

void FakeHost::hold() {
  const std::lock_guard lock(mutex);
  entry_->held = true;
}

void FakeHost::awaitLookup() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return entry_->lookups > 0; });
}

void FakeHost::release() {
  const std::lock_guard lock(mutex);
  entry_->held = false;
  changed.notify_all();
}

std::size_t FakeHost::lookups() const {
  const std::lock_guard lock(mutex);
  return entry_->lookups;
}

FakeName::FakeName(std::string address, std::string name) : address_(std::move(address)) {
  const std::lock_guard lock(mutex);
  REQUIRE(names.emplace(address_, Entry{std::move(name)}).second);
}

FakeName::FakeName(std::string address, int error) : FakeName(std::move(address), std::string()) {
  const std::lock_guard lock(mutex);
  names.at(address_).error = error;
}

FakeName::~FakeName() {
  const std::lock_guard lock(mutex);
  names.erase(address_);
}

std::size_t FakeName::lookups() const {
  const std::lock_guard lock(mutex);
  return names.at(address_).lookups;
}

} // namespace troth::test

extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** result) {
  using namespace troth::test;
  std::unique_lock lock(mutex);
  const auto host = node == nullptr ? hosts.end() : hosts.find(std::string_view(node));
  if (host == hosts.end()) {
    lock.unlock();
    return real()(node, service, hints, result);
  }
  const std::shared_ptr<FakeHost::Entry> entry = host->second;
  ++entry->lookups;
  changed.notify_all();
  changed.wait(lock, [&] { return !entry->held; });
  if (entry->error != 0) return entry->error;
  return answer(entry->addresses, service, hints, result);
}

extern "C" int getnameinfo(const sockaddr* address, socklen_t size, char* host, socklen_t hostSize, char* service,
                           socklen_t serviceSize, int flags) {
  using namespace troth::test;
  char text[NI_MAXHOST];
  if (const int status = realGetNameInfo()(address, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST); status != 0) return status;
  const std::lock_guard lock(mutex);
  const auto known = names.find(std::string_view(text));
  if (known == names.end()) return realGetNameInfo()(address, size, host, hostSize, service, serviceSize, flags);
  FakeName::Entry& entry = known->second;
  ++entry.lookups;
  if (entry.error != 0) return entry.error;
  if (entry.name.size() >= hostSize) return EAI_OVERFLOW;
  entry.name.copy(host, entry.name.size());
  host[entry.name.size()] = '\0';
  return 0;
}
