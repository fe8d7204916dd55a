// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): any bytes as what a server says, through the client, in memory.
//
// The first byte says what is asked, the second how what follows is split. The bytes go to a client as a whole and
// again in pieces; what comes of it must be the same, and nothing may be left.
#include <troth/net/http/client.h>
#include <troth/net/testing.h>
#include <troth/runtime/pool_detail.h>
#include <troth/timers/manual_timer.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;

namespace {

void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "http_client_fuzz: %s\n", what.c_str());
  std::abort();
}

// Says `reply`, `piece` bytes at a time, to each that connects, after it has read something.
Promise<void> serve(ConnectionReceiver& port, std::string_view reply, std::size_t piece) {
  for (;;) {
    const std::unique_ptr<AsyncIoStream> stream = co_await port.accept();
    co_await stream->tryReadChunk();
    try {
      for (std::size_t at = 0; at < reply.size(); at += piece) co_await stream->write(reply.substr(at, piece));
    } catch (const Exception&) { // the client has had enough
    }
  }
}

Promise<std::string> ask(Client& client, unsigned choice) {
  constexpr Method METHODS[] = {Method::GET, Method::HEAD, Method::POST, Method::PUT};
  ClientRequest request(METHODS[choice % 4], "http://10.0.0.1/");
  if (choice % 4 >= 2) request.setBody("body");
  RequestOptions& options = request.options.emplace();
  if ((choice & 4) != 0) options.redirects = 2;
  if ((choice & 8) != 0) options.decoding = RequestOptions::Decoding::DECODE;
  std::string told;
  options.onInformational = [&](int status, const HeaderFields&) { told += std::to_string(status) + " "; };
  ClientResponse response = co_await client.request(std::move(request));
  told += std::to_string(response.status()) + " " + std::string(response.reason());
  for (const HeaderField field : response.headers()) told.append(field.name).append("|").append(field.value);
  told += co_await response.readText(1 << 20);
  for (const HeaderField field : response.trailers()) told.append(field.name).append("|").append(field.value);
  co_return told;
}

std::string outcome(std::string_view reply, unsigned choice, std::size_t piece) {
  EventLoop loop;
  WaitScope scope(loop);
  ManualTimer timer;
  MemoryNetwork network(timer);
  const auto port = network.parseAddress("10.0.0.1:80").wait(scope)->listen();
  Promise<void> server = serve(*port, reply, piece);
  Client client(network, timer);
  Promise<std::string> asked = ask(client, choice);
  if (!asked.poll(scope)) return "(waits)"; // to be told to go on with the next request, by the same words
  try {
    return std::move(asked).wait(scope);
  } catch (const Exception& e) {
    // What is quoted is what there was by then; and a server that goes on writing may be heard or not.
    const std::string_view text = e.description();
    return std::string(kindName(e.kind())) + std::string(text.substr(0, std::min(text.find('"'), text.size())));
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::int64_t blocks = troth::detail::liveBlocks();
  {
    const std::string_view reply(reinterpret_cast<const char*>(data) + 2, size - 2);
    const std::string whole = outcome(reply, data[0], std::max<std::size_t>(reply.size(), 1));
    const std::string split = outcome(reply, data[0], 1 + data[1] % 64);
    require(whole == split, "split otherwise, the reply means something else:\n" + whole + "\n" + split);
  }
  require(troth::detail::liveBlocks() == blocks, "something was left alive");
  return 0;
}
