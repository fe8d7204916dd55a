// SPDX-License-Identifier: MIT
// A server to be probed over sockets: it says what it has understood of each request.
//
//   probe_server [MILLISECONDS [DIRECTORY]]
//
// Answers "METHOD target length-of-content", at /large with 8 MB, at /file with the file "large" of DIRECTORY, at /slow
// after a second. All its times are MILLISECONDS (a minute if not given), but for the grace of SIGTERM, which is 2 s.
// Prints its port first.
#include <troth/io/async_io.h>
#include <troth/io/file.h>
#include <troth/net/http/file_service.h>
#include <troth/net/http/server.h>
#include <troth/net/network.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace troth;
using namespace troth::http;
using namespace std::chrono_literals;

namespace {

struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override { std::fprintf(stderr, "probe_server: %s\n", e.what()); }
};

Promise<std::uint64_t> sizeOf(AsyncInputStream& body) {
  std::uint64_t size = 0;
  for (;;) {
    const Chunk chunk = co_await body.tryReadChunk();
    if (chunk.empty()) co_return size;
    size += chunk.size();
  }
}

Promise<void> answer(Timer& timer, const std::string& large, Directory* directory, Request& request,
                     Response& response) {
  if (request.path() == "/large") {
    co_await response.send(200, large);
    co_return;
  }
  if (request.path() == "/file" && directory != nullptr) {
    co_await sendFile(request, response, *directory, Path::parse("large"));
    co_return;
  }
  const std::uint64_t size = co_await sizeOf(request.body());
  if (request.path() == "/slow") co_await timer.afterDelay(1s);
  std::string text(request.methodText());
  text.append(" ").append(request.target()).append(" ").append(std::to_string(size)).append("\n");
  co_await response.send(200, text);
}

} // namespace

int main(int argc, char** argv) {
  const auto time = std::chrono::milliseconds(argc > 1 ? std::atoi(argv[1]) : 60'000);
  ServerSettings settings;
  settings.headTimeout = settings.idleTimeout = settings.bodyTimeout = settings.writeTimeout = settings.lingerTimeout = time;
  AsyncIoContext io = setupAsyncIo();
  Log log;
  const std::string large(8'000'000, 'x');
  std::unique_ptr<Directory> directory;
  if (argc > 2) directory = openDirectory(io, argv[2]).wait(io.waitScope());
  const auto service = newService([&](Request& request, Response& response) {
    return answer(io.timer(), large, directory.get(), request, response);
  });
  Server server(*service, io.timer(), log, settings);
  auto network = newNetwork(io);
  auto port = network->parseAddress("127.0.0.1:0").wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM);
  std::printf("%u\n", static_cast<unsigned>(port->getPort()));
  std::fflush(stdout);
  server.serve(std::move(port)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  const std::size_t cancelled = server.drain(2s).wait(io.waitScope());
  std::printf("%zu cancelled\n", cancelled);
}
