// SPDX-License-Identifier: MIT
// How long after a callback of a host's loop the promise runs on that it has fulfilled.
//
// The host writes a byte to each of its pipes before it polls; each pipe's callback takes the time and fulfils a
// promise, and the coroutine that awaits it takes the time again. The yardstick does the same with a uv_check_t of its
// own that goes through the pipes whose callbacks have run: the least that a C program can do to run its work on a
// fresh stack. With --flood a promise loop that never ends goes on all the while.
#include "program.h"

#include <troth/io/async_io.h>
#include <troth/runtime/promise.h>

#include <uv.h>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

using namespace troth;

namespace {

[[noreturn]] void usage() {
  std::fputs("usage: turn_latency troth|libuv [--descriptors N] [--rounds N] [--flood]\n", stderr);
  std::exit(2);
}

void require(int status) {
  if (status >= 0) return;
  std::fprintf(stderr, "turn_latency: %s\n", uv_strerror(status));
  std::exit(1);
}

struct Bench;

struct Source {
  Bench* bench;
  uv_file ends[2];
  uv_poll_t poll;
  std::uint64_t calledAt = 0;
  bool called = false; // for the yardstick
  std::unique_ptr<PromiseFulfiller<void>> fulfiller;
};

struct Bench {
  uv_loop_t loop;
  uv_prepare_t prepare;
  uv_check_t check;
  bool withPromises = true;
  std::size_t rounds = 20'000;
  std::size_t done = 0;
  bool stop = false;
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<std::uint32_t> latencies;

  void record(const Source& source) { latencies.push_back(static_cast<std::uint32_t>(uv_hrtime() - source.calledAt)); }
};

void onReadable(uv_poll_t* handle, int, int) {
  auto& source = *static_cast<Source*>(handle->data);
  char byte;
  if (read(source.ends[0], &byte, 1) != 1) std::abort();
  source.calledAt = uv_hrtime();
  if (source.fulfiller)
    source.fulfiller->fulfill();
  else
    source.called = true;
}

// Next round: all that were called have been recorded.
void onPrepare(uv_prepare_t* handle) {
  auto& bench = *static_cast<Bench*>(handle->data);
  if (bench.latencies.size() < bench.done * bench.sources.size()) return;
  if (bench.done++ == bench.rounds) {
    bench.stop = true;
    return uv_stop(&bench.loop);
  }
  for (const auto& source : bench.sources)
    if (write(source->ends[1], "x", 1) != 1) std::abort();
}

void onCheck(uv_check_t* handle) {
  auto& bench = *static_cast<Bench*>(handle->data);
  for (const auto& source : bench.sources)
    if (std::exchange(source->called, false)) bench.record(*source);
}

Promise<void> follow(Source& source) {
  for (;;) {
    auto pair = newPromiseAndFulfiller<void>();
    source.fulfiller = std::move(pair.fulfiller);
    co_await std::move(pair.promise);
    source.bench->record(source);
  }
}

Promise<void> flood(const bool& stop) {
  while (!stop) co_await evalLater([] {});
}

void addSource(Bench& bench) {
  auto& source = *bench.sources.emplace_back(std::make_unique<Source>());
  source.bench = &bench;
  require(uv_pipe(source.ends, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE));
  require(uv_poll_init(&bench.loop, &source.poll, source.ends[0]));
  source.poll.data = &source;
  require(uv_poll_start(&source.poll, UV_READABLE, onReadable));
}

void report(std::vector<std::uint32_t>& latencies) {
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double share) {
    return latencies[static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1))];
  };
  std::printf("%zu %u %u %u\n", latencies.size(), at(0.5), at(0.99), at(0.999));
}

} // namespace

int main(int argc, char** argv) {
  Bench bench;
  std::size_t descriptors = 1;
  bool flooded = false;
  if (argc < 2) usage();
  if (const std::string_view mode = argv[1]; mode == "--version")
    return printCompiler(), 0;
  else if (mode == "libuv")
    bench.withPromises = false;
  else if (mode != "troth")
    usage();
  for (int i = 2; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--flood")
      flooded = true;
    else if (option == "--descriptors" && i + 1 < argc)
      descriptors = parseNumber<std::size_t>(argv[++i], usage);
    else if (option == "--rounds" && i + 1 < argc)
      bench.rounds = parseNumber<std::size_t>(argv[++i], usage);
    else
      usage();
  }
  if (descriptors == 0 || bench.rounds == 0) usage();

  require(uv_loop_init(&bench.loop));
  for (std::size_t i = 0; i < descriptors; ++i) addSource(bench);
  bench.latencies.reserve(descriptors * bench.rounds);
  require(uv_prepare_init(&bench.loop, &bench.prepare));
  require(uv_check_init(&bench.loop, &bench.check));
  bench.prepare.data = bench.check.data = &bench;
  {
    std::optional<HostedAsyncIoContext> io;
    std::vector<Promise<void>> promises;
    if (bench.withPromises) {
      io.emplace(setupAsyncIo(&bench.loop));
      for (const auto& source : bench.sources) promises.push_back(follow(*source));
      if (flooded) promises.push_back(flood(bench.stop).eagerlyEvaluate(nullptr));
    } else {
      uv_check_start(&bench.check, onCheck);
    }
    uv_prepare_start(&bench.prepare, onPrepare);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    for (const auto& source : bench.sources) source->fulfiller.reset();
  }
  const auto close = [](auto& handle) { uv_close(reinterpret_cast<uv_handle_t*>(&handle), nullptr); };
  for (const auto& source : bench.sources) close(source->poll);
  close(bench.prepare);
  close(bench.check);
  uv_run(&bench.loop, UV_RUN_DEFAULT);
  require(uv_loop_close(&bench.loop));
  report(bench.latencies);
}
