// SPDX-License-Identifier: MIT
// uvRequest: requests of libuv as promises, of every kind; errors; what is cancelled, begun or not.
#include "../helpers.h"
#include "host.h"

#include <troth/runtime/uv/uv_request.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <netinet/in.h>

using namespace troth;
using namespace troth::test;

namespace {

Promise<std::string> randomBytes(UvEventPort& port, std::size_t size) {
  return uvRequest<uv_random_t>(port, "uv_random", std::string(size, '\0'),
                                [](uv_loop_t* loop, uv_random_t* request, std::string& bytes, auto done) {
                                  return uv_random(loop, request, bytes.data(), bytes.size(), 0, done);
                                });
}

Promise<std::uint64_t> sizeOf(UvEventPort& port, std::string path, std::source_location where = std::source_location::current()) {
  std::string operation = "the size of " + path;
  return uvRequest<uv_fs_t>(
      port, std::move(operation), std::move(path),
      [](uv_loop_t* loop, uv_fs_t* request, std::string& p, auto done) { return uv_fs_stat(loop, request, p.c_str(), done); },
      [](uv_fs_t& request, std::string&) { return request.statbuf.st_size; }, where);
}

/// Work that waits in the thread until it is let go, and says on which thread it went.
struct Gate {
  std::shared_ptr<std::promise<void>> entered = std::make_shared<std::promise<void>>();
  std::shared_ptr<std::promise<void>> leave = std::make_shared<std::promise<void>>();
};

struct GatedWork {
  Gate gate;
  std::shared_ptr<std::atomic<bool>> ran;
  Noted noted;
};

Promise<void> gated(UvEventPort& port, Gate gate, std::shared_ptr<std::atomic<bool>> ran, Noted noted) {
  return uvRequest<uv_work_t>(
      port, "gated work", GatedWork{std::move(gate), std::move(ran), std::move(noted)},
      [](uv_loop_t* loop, uv_work_t* request, GatedWork&, auto done) {
        return uv_queue_work(
            loop, request,
            [](uv_work_t* running) {
              auto& work = *static_cast<GatedWork*>(running->data);
              work.gate.entered->set_value();
              work.gate.leave->get_future().wait();
              *work.ran = true;
            },
            done);
      },
      [](uv_work_t&, GatedWork&) {});
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a request's state is its result, once libuv has called back") {
  Promise<std::string> bytes = randomBytes(io.uvEventPort(), 64);
  const std::string got = std::move(bytes).wait(scope);
  CHECK(got.size() == 64);
  CHECK(got != std::string(64, '\0'));
}

TEST_CASE_FIXTURE(IoTest, "requests of libuv with callbacks of every signature") {
  UvEventPort& port = io.uvEventPort();
  CHECK(sizeOf(port, "/proc/self/exe").wait(scope) > 1000);

  sockaddr_in loopback{};
  REQUIRE(uv_ip4_addr("127.0.0.1", 80, &loopback) == 0);
  const std::string service = uvRequest<uv_getnameinfo_t>(
      port, "uv_getnameinfo", loopback,
      [](uv_loop_t* loop, uv_getnameinfo_t* request, sockaddr_in& address, auto done) {
        return uv_getnameinfo(loop, request, done, reinterpret_cast<sockaddr*>(&address), NI_NUMERICHOST | NI_NUMERICSERV);
      },
      [](uv_getnameinfo_t& request, sockaddr_in&) { return std::string(request.host) + ":" + request.service; }).wait(scope);
  CHECK(service == "127.0.0.1:80");

  const int family = uvRequest<uv_getaddrinfo_t>(
      port, "uv_getaddrinfo", std::string("::1"),
      [](uv_loop_t* loop, uv_getaddrinfo_t* request, std::string& host, auto done) {
        return uv_getaddrinfo(loop, request, done, host.c_str(), nullptr, nullptr);
      },
      [](uv_getaddrinfo_t& request, std::string&) { return request.addrinfo->ai_family; }).wait(scope);
  CHECK(family == AF_INET6);

  UvHandle<uv_tcp_t> tcp("uv_tcp_init", [&](uv_tcp_t* h) { return uv_tcp_init(port.uvLoop(), h); });
  REQUIRE(uv_ip4_addr("127.0.0.1", 1, &loopback) == 0);
  const Exception refused = failureOf(uvRequest<uv_connect_t>(
      port, "uv_tcp_connect", loopback,
      [&](uv_loop_t*, uv_connect_t* request, sockaddr_in& address, auto done) {
        return uv_tcp_connect(request, tcp.get(), reinterpret_cast<sockaddr*>(&address), done);
      },
      [](uv_connect_t&, sockaddr_in&) {}), scope);
  CHECK(contains(refused.description(), "uv_tcp_connect: connection refused"));
  CHECK(kindName(refused) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(IoTest, "a request fails with the status of its callback or of its start, by the name that it was given") {
  const Exception missing = failureOf(sizeOf(io.uvEventPort(), "/no/such/file"), scope);
  CHECK(contains(missing.description(), "the size of /no/such/file: no such file or directory"));
  CHECK(missing.code() == std::errc::no_such_file_or_directory);
  CHECK(fileOf(missing) == "uv_request_test.cc");

  std::string log;
  const Exception refused = failureOf(
      uvRequest<uv_random_t>(io.uvEventPort(), "too much", Noted(log, "state"),
                             [](uv_loop_t* loop, uv_random_t* request, Noted& noted, auto done) {
                               return uv_random(loop, request, &noted, 1u << 31, 0, done);
                             }),
      scope);
  CHECK(contains(refused.description(), "too much: "));
  CHECK(log == "state ");
  CHECK(contains(failureOf(uvRequest<uv_random_t>(io.uvEventPort(), "throws", 1,
                                                  [](uv_loop_t*, uv_random_t*, int&, auto) -> int {
                                                    throw Exception(Exception::Kind::FAILED, "not begun");
                                                  }),
                           scope)
                     .description(),
                 "not begun"));
}

TEST_CASE_FIXTURE(IoTest, "a finish may throw, return a promise, and destroy what it likes") {
  UvEventPort& port = io.uvEventPort();
  const auto start = [](uv_loop_t* loop, uv_random_t* request, std::string& bytes, auto done) {
    return uv_random(loop, request, bytes.data(), bytes.size(), 0, done);
  };
  CHECK_THROWS_AS(uvRequest<uv_random_t>(port, "throws", std::string(1, 'x'), start, [](uv_random_t&, std::string&) {
                    throw std::out_of_range("no");
                  }).wait(scope),
                  std::out_of_range);
  CHECK(uvRequest<uv_random_t>(port, "promise", std::string(1, 'x'), start, [&](uv_random_t&, std::string&) {
          return randomBytes(port, 2);
        }).wait(scope).size() == 2);
}

TEST_CASE_FIXTURE(IoTest, "a request that is dropped keeps its state until libuv has called back (R14)") {
  UvEventPort& port = io.uvEventPort();
  const auto ran = std::make_shared<std::atomic<bool>>(false);
  std::string log;
  Gate gate;
  {
    Promise<void> begun = gated(port, gate, ran, Noted(log, "begun"));
    gate.entered->get_future().wait();
  }
  scope.poll();
  CHECK(log == "");
  gate.leave->set_value();
  while (log.empty()) port.wait();
  CHECK(log == "begun ");
  CHECK(*ran);
}

TEST_CASE_FIXTURE(IoTest, "a request that no thread has begun is taken back") {
  UvEventPort& port = io.uvEventPort();
  std::string log;
  std::vector<Gate> gates(64); // more than there are threads
  std::vector<Promise<void>> full;
  const auto busy = std::make_shared<std::atomic<bool>>(false);
  for (const Gate& gate : gates) full.push_back(gated(port, gate, busy, Noted(log, "")));
  const auto ran = std::make_shared<std::atomic<bool>>(false);
  { Promise<void> waiting = gated(port, Gate(), ran, Noted(log, "withdrawn")); }
  while (log.empty()) port.wait();
  CHECK(log == "withdrawn ");
  for (const Gate& gate : gates) gate.leave->set_value();
  for (Promise<void>& each : full) std::move(each).wait(scope);
  CHECK_FALSE(*ran);
}

TEST_CASE("a context may go while requests are in flight (R13)") {
  NothingLeft nothingLeft;
  AsyncIoContext io = setupAsyncIo();
  for (int i = 0; i < 10; ++i) {
    Promise<std::string> bytes = randomBytes(io.uvEventPort(), 64);
    Promise<std::uint64_t> size = sizeOf(io.uvEventPort(), "/proc/self/exe");
  }
}

TEST_CASE_FIXTURE(IoTest, "a request is refused on a thread that has another loop, or none") {
  UvEventPort& port = io.uvEventPort();
  std::thread([&] {
    CHECK(contains(thrownBy([&] { (void)randomBytes(port, 1); }).description(), "another thread"));
    AsyncIoContext other = setupAsyncIo();
    CHECK(contains(thrownBy([&] { (void)randomBytes(port, 1); }).description(), "another thread"));
  }).join();
}

TEST_CASE("cancelling requests at every step leaves nothing") {
  const std::size_t steps = cancelSweep([](IoTest& test) -> Promise<void> {
    UvEventPort& port = test.io.uvEventPort();
    const std::string bytes = co_await randomBytes(port, 16);
    CHECK(bytes.size() == 16);
    CHECK(co_await sizeOf(port, "/proc/self/exe") > 0);
  });
  CHECK(steps >= 2);
}
