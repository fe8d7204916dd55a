// SPDX-License-Identifier: MIT
// Fetches URLs, many side by side. Shows libcurl on the loop: it says which sockets to watch and until when, an
// FdObserver and a timer do so, and a transfer is a promise that can be dropped.
//
//   fetch https://www.debian.org https://www.kernel.org https://nowhere.invalid
//   fetch --show body --redirects 5 http://debian.org        what curl would print
//   fetch --parallel 2 --timeout 10 --max-size 1000000 URL…  so many at once, so many seconds and bytes for each
#include "fetcher.h"

#include "../options.h"

#include <troth/timers/timer.h>

#include <cstdio>

using namespace troth;

struct Fetched {
  FetchResponse response;
  std::chrono::duration<double> took;
};

Promise<Fetched> fetch(Fetcher& fetcher, Timer& timer, std::string url, FetchOptions options) {
  const TimePoint begin = timer.now();
  FetchResponse response = co_await fetcher.get(std::move(url), std::move(options));
  co_return Fetched{std::move(response), timer.now() - begin};
}

void print(const Fetched& fetched, bool body) {
  const FetchResponse& response = fetched.response;
  if (body)
    std::fwrite(response.body.data(), 1, response.body.size(), stdout);
  else
    std::printf("%ld %9zu bytes %7.3f s  %s\n", response.status, response.body.size(), fetched.took.count(),
                response.url.c_str());
}

int main(int argc, char** argv) try {
  int first = 1; // of the URLs
  while (first < argc && std::string_view(argv[first]).starts_with("--")) first += 2;
  first = std::min(first, argc);
  const Options options(
      first, argv,
      {{"parallel", "16"}, {"timeout", "30"}, {"max-size", "16777216"}, {"redirects", "0"}, {"show", "summary"}});
  const std::vector<std::string> urls(argv + first, argv + argc);
  if (urls.empty()) throw std::invalid_argument("say which URLs to fetch: fetch URL…");
  FetchOptions each;
  each.timeout = std::chrono::seconds(options.number("timeout", 1'000'000));
  each.maxBody = options.number("max-size", 2'000'000'000);
  each.maxRedirects = options.number("redirects", 100);
  AsyncIoContext io = setupAsyncIo();
  Fetcher fetcher(io, options.number("parallel", 10'000));

  std::vector<Promise<Fetched>> results; // all begin now
  for (const std::string& url : urls) results.push_back(fetch(fetcher, io.timer(), url, each));
  int status = 0;
  for (Promise<Fetched>& result : results) {
    try {
      print(std::move(result).wait(io.waitScope()), options.text("show") == "body");
    } catch (...) {
      status = failed("fetch"); // and on with the next
    }
  }
  return status;
} catch (...) {
  return failed("fetch");
}
