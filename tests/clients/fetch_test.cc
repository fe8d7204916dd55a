// SPDX-License-Identifier: MIT
// Tests of examples/fetch against a server on the same loop.
#include "fetcher.h"

#include "fixtures.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/runtime/uv/uv_error.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

/// A web server with pages of all sorts. Each answer ends its connection, as HTTP/1.0 has it.
class Site : TaskSet::ErrorHandler {
public:
  Site(AsyncIo& io, WaitScope& scope)
      : receiver_(newNetwork(io)->parseAddress("127.0.0.1:0").wait(scope)->listen()), tasks_(*this) {
    tasks_.add(serve());
  }

  std::string url(std::string_view path) const { return "http://" + receiver_->toString() + std::string(path); }
  /// Nobody listens there any more.
  void leave() {
    tasks_.clear();
    receiver_.reset();
  }

  AsyncEvent release;     // of /hold
  int clients = 0;        // at present
  int mostClients = 0;    // at a time
  std::string lastHeader; // of a request

private:
  std::unique_ptr<ConnectionReceiver> receiver_;
  TaskSet tasks_;

  void taskFailed(Exception) override {} // clients go away

  Promise<void> serve() {
    for (;;) tasks_.add(answer(co_await receiver_->accept()));
  }

  Promise<void> answer(std::unique_ptr<AsyncIoStream> client) {
    struct Count {
      int& clients;
      ~Count() { --clients; }
    } count{++clients};
    mostClients = std::max(mostClients, clients);
    std::string request;
    while (!request.ends_with("\r\n\r\n")) {
      const Chunk bytes = co_await client->tryReadChunk();
      if (bytes.empty()) co_return;
      request += bytes.text();
    }
    lastHeader = request;
    const std::string path = request.substr(4, request.find(' ', 4) - 4);
    if (path == "/hold") {
      Promise<void> gone = client->tryReadChunk().ignoreResult(); // a client that hangs up
      co_await release.wait().exclusiveJoin(std::move(gone));
    }
    const std::string text = answerTo(path);
    co_await client->write(text);
    if (path == "/silent") co_await client->whenWriteDisconnected();
  }

  static std::string answerTo(const std::string& path) {
    if (path == "/moved") return "HTTP/1.0 302 Found\r\nLocation: /text\r\n\r\nelsewhere";
    if (path == "/loop") return "HTTP/1.0 302 Found\r\nLocation: /loop\r\n\r\n";
    if (path == "/cut") return "HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nbeginning";
    if (path == "/garbage") return "what?\r\n\r\n";
    if (path == "/none") return "HTTP/1.0 404 Not Found\r\n\r\nno such page";
    if (path == "/silent" || path == "/nothing") return "";
    if (path.starts_with("/bytes/"))
      return "HTTP/1.0 200 OK\r\n\r\n" + std::string(static_cast<std::size_t>(std::stoi(path.substr(7))), 'x');
    return "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + path;
  }
};

/// No descriptor can be made with a number of `spare` above the lowest free one or more.
class FewDescriptors {
public:
  explicit FewDescriptors(rlim_t spare) {
    REQUIRE((uvException(-EMFILE, "UBSan opens a pipe to look at what it has not seen").code().value() != 0));
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
    REQUIRE(lowest >= 0);
    ::close(lowest);
    const rlimit few{static_cast<rlim_t>(lowest) + spare, before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

} // namespace

TEST_CASE_FIXTURE(IoTest, "an answer is its status, type and body, and that it is 404 is no error") {
  Site site(io, scope);
  Fetcher fetcher(io);
  FetchOptions options;
  options.headers = {"X-Test: one", "X-Other: two"};
  const FetchResponse text = fetcher.get(site.url("/text"), options).wait(scope);
  CHECK(text.status == 200);
  CHECK(text.url == site.url("/text"));
  CHECK(text.contentType == "text/plain");
  CHECK(text.body == "/text");
  CHECK(contains(site.lastHeader, "\r\nX-Test: one\r\nX-Other: two\r\n"));
  const FetchResponse none = fetcher.get(site.url("/none")).wait(scope);
  CHECK(none.status == 404);
  CHECK(none.body == "no such page");
  CHECK(none.contentType.empty());
  CHECK(fetcher.get(site.url("/bytes/1000000")).wait(scope).body == std::string(1'000'000, 'x'));
}

TEST_CASE_FIXTURE(IoTest, "redirects are answers, unless they are to be followed, and then not without end") {
  Site site(io, scope);
  Fetcher fetcher(io);
  const FetchResponse moved = fetcher.get(site.url("/moved")).wait(scope);
  CHECK(moved.status == 302);
  CHECK(moved.body == "elsewhere");
  FetchOptions options;
  options.maxRedirects = 3;
  const FetchResponse followed = fetcher.get(site.url("/moved"), options).wait(scope);
  CHECK(followed.url == site.url("/text"));
  CHECK(followed.body == "/text");
  CHECK(contains(failureOf(fetcher.get(site.url("/loop"), options), scope).description(), "redirects"));
}

TEST_CASE_FIXTURE(IoTest, "many are fetched side by side, so many at a time and the others in line") {
  Site site(io, scope);
  Fetcher fetcher(io, 3);
  std::vector<Promise<FetchResponse>> pages;
  for (int i = 0; i < 20; ++i) pages.push_back(fetcher.get(site.url(i < 3 ? "/hold" : "/page" + std::to_string(i))));
  while (site.clients < 3) step();
  for (Promise<FetchResponse>& page : pages) CHECK(!page.poll(scope));
  site.release.set();
  for (std::size_t i = 0; i < pages.size(); ++i)
    CHECK(std::move(pages[i]).wait(scope).body == (i < 3 ? "/hold" : "/page" + std::to_string(i)));
  CHECK(site.mostClients == 3);
}

TEST_CASE_FIXTURE(IoTest, "a transfer that is cancelled gives up its connection and its place, and leaves others alone") {
  Site site(io, scope);
  Fetcher fetcher(io, 2);
  Promise<FetchResponse> kept = fetcher.get(site.url("/hold"));
  Promise<FetchResponse> inLine = fetcher.get(site.url("/one"));
  {
    Promise<FetchResponse> cancelled = fetcher.get(site.url("/hold"));
    const Promise<FetchResponse> neverBegun = fetcher.get(site.url("/never"));
    CHECK(std::move(inLine).wait(scope).body == "/one");
    while (site.clients < 2) step();
    CHECK(!cancelled.poll(scope));
  }
  CHECK(fetcher.get(site.url("/two")).wait(scope).body == "/two");
  while (site.clients > 1) step();
  CHECK(!kept.poll(scope));
  site.release.set();
  CHECK(std::move(kept).wait(scope).body == "/hold");
  CHECK(!contains(site.lastHeader, "/never"));
}

TEST_CASE_FIXTURE(IoTest, "a fetcher that is destroyed fails what is under way and what waits in line") {
  Site site(io, scope);
  auto fetcher = std::make_unique<Fetcher>(io, 1);
  std::vector<Promise<FetchResponse>> pages;
  for (int i = 0; i < 3; ++i) pages.push_back(fetcher->get(site.url("/silent")));
  while (site.clients < 1) step();
  const Promise<FetchResponse> neverRun = fetcher->get(site.url("/silent"));
  fetcher.reset();
  for (Promise<FetchResponse>& page : pages)
    CHECK((failureOf(std::move(page), scope).kind() == Exception::Kind::DISCONNECTED));

  // Whose turn it is when it goes, but who has not begun.
  fetcher = std::make_unique<Fetcher>(io, 1);
  Promise<void> first = fetcher->get(site.url("/one")).then([&](FetchResponse) { fetcher.reset(); }).eagerlyEvaluate(nullptr);
  Promise<FetchResponse> second = fetcher->get(site.url("/two"));
  CHECK((failureOf(std::move(second), scope).kind() == Exception::Kind::DISCONNECTED));
  std::move(first).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "errors tell the URL and libcurl's reason, and what one may do about them") {
  Site site(io, scope);
  Fetcher fetcher(io);
  const auto error = [&](const std::string& url, Exception::Kind kind, FetchOptions options = {}) {
    const Exception e = failureOf(fetcher.get(url, std::move(options)), scope);
    CHECK((e.kind() == kind));
    CHECK(e.description().starts_with("fetch " + url + ": "));
    return std::string(e.description());
  };
  FetchOptions options;
  options.maxBody = 1000;
  CHECK(fetcher.get(site.url("/bytes/1000"), options).wait(scope).body.size() == 1000);
  CHECK(contains(error(site.url("/bytes/1001"), Exception::Kind::FAILED, options), "longer than 1000 bytes"));
  options.timeout = 20ms;
  CHECK(contains(error(site.url("/silent"), Exception::Kind::OVERLOADED, options), "timed out"));
  CHECK(contains(error(site.url("/cut"), Exception::Kind::DISCONNECTED), "bytes remaining"));
  CHECK(contains(error(site.url("/nothing"), Exception::Kind::DISCONNECTED), "Empty reply"));
  error(site.url("/garbage"), Exception::Kind::FAILED);
  error("file:///etc/passwd", Exception::Kind::FAILED);
  error("http://", Exception::Kind::FAILED);
  site.leave();
  CHECK_THROWS_AS(fetcher.get(std::string("http://127.0.0.1/\0", 18)).wait(scope), std::invalid_argument);
  CHECK_THROWS_AS(Fetcher(io, 0), std::invalid_argument);
}

TEST_CASE_FIXTURE(IoTest, "a refused connection is an error at once, and so are too few descriptors, for one transfer alone") {
  Site site(io, scope);
  Fetcher fetcher(io);
  CHECK(fetcher.get(site.url("/warm")).wait(scope).body == "/warm");
  {
    const FewDescriptors one(1); // for libcurl's socket, and none to observe it
    const Exception e = failureOf(fetcher.get(site.url("/text")), scope);
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
    CHECK(contains(e.description(), "newFdObserver"));
  }
  CHECK(fetcher.get(site.url("/text")).wait(scope).body == "/text");
  const std::string url = site.url("/text");
  site.leave();
  CHECK((failureOf(fetcher.get(url), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE("fetching can be cancelled at every step") {
  const auto body = [](IoTest& test) -> Promise<void> {
    const std::unique_ptr<NetworkAddress> address = co_await newNetwork(test.io)->parseAddress("127.0.0.1:0");
    const std::unique_ptr<ConnectionReceiver> receiver = address->listen();
    Fetcher fetcher(test.io, 1);
    Promise<FetchResponse> one = fetcher.get("http://" + receiver->toString());
    Promise<FetchResponse> two = fetcher.get("http://" + receiver->toString());
    for (Promise<FetchResponse>* page : {&one, &two}) {
      const std::unique_ptr<AsyncIoStream> client = co_await receiver->accept();
      co_await client->tryReadChunk();
      co_await client->write("HTTP/1.0 200 OK\r\n\r\nbe");
      co_await client->write("gun");
      client->shutdownWrite();
      const FetchResponse response = co_await std::move(*page);
      CHECK(response.body == "begun");
    }
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(body)) > 10);
}
