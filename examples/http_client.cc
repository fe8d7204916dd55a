// SPDX-License-Identifier: MIT
// An HTTP client, as a small curl: sends one request and prints what comes. Adds to cat: a protocol in between; the
// bodies are streams in both directions.
//
//   http_client http://example.com/
//   http_client --method PUT --header "Content-Type: text/plain" --data-file FILE http://127.0.0.1:8080/x
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/io/descriptor.h>
#include <troth/net/http/client.h>
#include <troth/net/network.h>
#include <troth/runtime/require.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fcntl.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace troth;

constexpr const char* USAGE = "say: http_client [OPTION]... URL\n"
                              "  -X, --method METHOD    instead of GET, or of POST with data\n"
                              "      --header FIELD     such as \"Accept: text/html\"; may be given several times\n"
                              "      --data TEXT        what is sent\n"
                              "      --data-file FILE   the same; - is standard input\n"
                              "      --head             ask for the head alone, and print it\n"
                              "      --follow           follow up to 10 redirects\n"
                              "      --compressed       ask for a coded content, and decode it\n"
                              "      --include          print the response's head, too\n"
                              "      --output FILE      instead of standard output\n"
                              "      --proxy URL        by way of this one\n"
                              "      --timeout SECONDS  for all of it\n"
                              "      --retry TIMES      send it again, so often at most, if that may help";

struct Command {
  std::string url, method, output, proxy;
  std::vector<std::string> headers;
  std::optional<std::string> data, dataFile;
  bool include = false;
  http::RequestOptions options;
};

Duration parseSeconds(std::string_view text) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds > 0 && seconds < 1e9))
    throw std::invalid_argument("'" + std::string(text) + "' is no number of seconds");
  return std::max(Duration(1), std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)));
}

unsigned parseTimes(std::string_view text) {
  unsigned times = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), times);
  if (error != std::errc() || end != text.data() + text.size() || times > 1000)
    throw std::invalid_argument("'" + std::string(text) + "' is no number from 0 to 1000");
  return times;
}

Command parse(int argc, char** argv) {
  Command command;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto value = [&]() -> std::string {
      if (++i == argc) throw std::invalid_argument("option '" + std::string(name) + "' needs a value");
      return argv[i];
    };
    if (name == "-X" || name == "--method")
      command.method = value();
    else if (name == "--header")
      command.headers.push_back(value());
    else if (name == "--data")
      command.data = value();
    else if (name == "--data-file")
      command.dataFile = value();
    else if (name == "--head")
      command.method = "HEAD", command.include = true; // there is nothing else
    else if (name == "--follow")
      command.options.redirects = 10;
    else if (name == "--compressed")
      command.options.decoding = http::RequestOptions::Decoding::DECODE;
    else if (name == "--include")
      command.include = true;
    else if (name == "--output")
      command.output = value();
    else if (name == "--proxy")
      command.proxy = value();
    else if (name == "--timeout")
      command.options.timeout = parseSeconds(value());
    else if (name == "--retry")
      command.options.retry.attempts = 1 + parseTimes(value());
    else if (name.starts_with("-") || !command.url.empty())
      throw std::invalid_argument("'" + std::string(name) + "' is not understood; " + USAGE);
    else
      command.url = name;
  }
  if (command.url.empty()) throw std::invalid_argument(USAGE);
  if (command.data && command.dataFile) throw std::invalid_argument("there are both --data and --data-file");
  return command;
}

OwnedDescriptor openFile(const std::string& name, int flags) {
  return OwnedDescriptor(TROTH_SYSCALL(::open(name.c_str(), flags | O_CLOEXEC, 0666), name));
}

http::ClientRequest makeRequest(AsyncIo& io, const Command& command) {
  std::string method = command.method;
  if (method.empty()) method = command.data || command.dataFile ? "POST" : "GET";
  http::ClientRequest request(method, http::Url::parse(command.url));
  for (const std::string& header : command.headers) {
    const std::size_t colon = header.find(':');
    if (colon == std::string::npos) throw std::invalid_argument("the header '" + header + "' has no colon");
    request.headers.add(header.substr(0, colon), header.substr(colon + 1));
  }
  if (command.data)
    request.setBody(*command.data);
  else if (command.dataFile)
    request.setBody(*command.dataFile == "-" ? standardInput(io)
                                             : newInputStream(io, openFile(*command.dataFile, O_RDONLY)));
  request.options = command.options;
  return request;
}

std::string headOf(const http::ClientResponse& response) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status()) + " " + std::string(response.reason()) + "\r\n";
  for (const http::HeaderField field : response.headers())
    head.append(field.name).append(": ").append(field.value).append("\r\n");
  return head + "\r\n";
}

Promise<void> fetch(AsyncIo& io, http::Client& client, const Command& command) {
  http::ClientResponse response = co_await client.request(makeRequest(io, command));
  const auto output = command.output.empty()
                          ? standardOutput(io)
                          : newOutputStream(io, openFile(command.output, O_WRONLY | O_CREAT | O_TRUNC));
  const std::string head = command.include ? headOf(response) : std::string();
  co_await output->write(head);
  co_await response.body().pumpTo(*output);
}

int main(int argc, char** argv) try {
  const Command command = parse(argc, argv);
  AsyncIoContext io = setupAsyncIo();
  const auto network = newNetwork(io);
  http::ClientSettings settings;
  if (!command.proxy.empty()) settings.proxy = http::Url::parse(command.proxy);
  http::Client client(*network, io.timer(), std::move(settings));
  fetch(io, client, command).wait(io.waitScope());
} catch (...) {
  return failed("http_client");
}
