// SPDX-License-Identifier: MIT
// Forking, threads with chosen stacks, and a counting operator new.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>

namespace troth::test {

ChildEnd runInChild(const std::function<void()>& body) {
  std::fflush(nullptr);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit noCore{0, 0};
    setrlimit(RLIMIT_CORE, &noCore);
    std::signal(SIGABRT, SIG_DFL); // doctest's handler would report the test as crashed
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGALRM, SIG_DFL);
    alarm(60); // a body that hangs must not hang the tests
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    int status = 0;
    try {
      body();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "the body threw: %s\n", e.what());
      status = 1;
    }
    std::fflush(stderr);
    _exit(status);
  }
  close(ends[1]);
  ChildEnd end;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) end.errors.append(buffer, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  end.finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  end.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  return end;
}

void FailOnError::taskFailed(Exception exception) { FAIL_CHECK(exception.what()); }

void onStackOf(std::size_t bytes, const std::function<void()>& body) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&body)) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

std::size_t residentBytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0;
  std::size_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

namespace {
std::atomic<std::uint64_t> allocations{0};
// What NoMemory wants. For tests with one thread.
struct {
  bool on = false;
  bool hasFailed = false;
  std::uint64_t left = 0;
  NoMemory::Failing failing = NoMemory::ALL;
} starving;

bool starves() noexcept {
  if (!starving.on) return false;
  if (starving.left != 0) {
    --starving.left;
    return false;
  }
  starving.hasFailed = true;
  starving.on = starving.failing == NoMemory::ALL;
  return true;
}
} // namespace

NoMemory::NoMemory(std::uint64_t after, Failing failing) noexcept { starving = {true, false, after, failing}; }
NoMemory::~NoMemory() { starving.on = false; }
bool NoMemory::hasFailed() noexcept { return starving.hasFailed; }

std::uint64_t heapAllocations() noexcept { return allocations.load(std::memory_order_relaxed); }

void* starvedMalloc(std::size_t size) { return starves() ? nullptr : std::malloc(size); }
void* starvedCalloc(std::size_t count, std::size_t size) { return starves() ? nullptr : std::calloc(count, size); }

namespace {

constexpr std::uint64_t MOST_ALLOCATIONS = 1000; // a body that wants more does not end

/// Returns whether `body` wanted more.
template <typename Fixture>
bool starve(const std::function<void(Fixture&)>& body, std::uint64_t after, NoMemory::Failing failing) {
  CAPTURE(after);
  CAPTURE(failing == NoMemory::ALL);
  Fixture fixture;
  detail::trimPool();
  std::string problem;
  {
    const NoMemory none(after, failing);
    try {
      body(fixture);
    } catch (const std::bad_alloc&) {
    } catch (const Exception& e) {
      if (e.kind() != Exception::Kind::OVERLOADED && e.kind() != Exception::Kind::DISCONNECTED) problem = e.what();
    }
  }
  const bool failed = NoMemory::hasFailed();
  CHECK(problem == "");
  fixture.scope.poll();
  CHECK_NOTHROW(body(fixture));
  return failed;
}

template <typename Fixture>
std::size_t starveAll(const std::function<void(Fixture&)>& body) {
  if (SANITIZED) return 0;
  std::uint64_t after = 0;
  for (const NoMemory::Failing failing : {NoMemory::ONE, NoMemory::ALL})
    for (after = 0; starve(body, after, failing);) REQUIRE(++after < MOST_ALLOCATIONS);
  return after;
}

} // namespace

std::size_t starveSweep(const std::function<void(LoopTest&)>& body) { return starveAll(body); }
std::size_t starveSweep(const std::function<void(IoTest&)>& body) { return starveAll(body); }

namespace {
[[maybe_unused]] void* countedAllocation(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = starves() ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
} // namespace

} // namespace troth::test

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TROTH_TEST_SANITIZED
#endif
#endif
#ifndef TROTH_TEST_SANITIZED
void* operator new(std::size_t size) { return troth::test::countedAllocation(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif
#endif
