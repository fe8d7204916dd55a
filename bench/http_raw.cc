// SPDX-License-Identifier: MIT
// The yardstick of the HTTP benchmark: a server on bare libuv and llhttp, as quick as careful code makes it.

// What troth and its peers are measured against, so it spends nothing that the task does not need:
//
//   - a connection is its `uv_tcp_t`, its parser and the beginning of a target: header fields are parsed and forgotten;
//   - all connections read into one buffer, which is free again when the read callback returns;
//   - the answers to everything that one read brought leave in one write, and small ones lie side by side;
//   - the answer to `/` is made once a second, with its date;
//   - `/large` is sent from where it is, and what is echoed, from the read buffer: bodies pass through, they are not
//   kept;
//   - `uv_try_write` sends at once. Only what the socket does not take is kept (copied, unless it is a constant), and
//     until that has gone the connection is not read: a peer that sends without reading costs one read's answers.
//
// At `/ws` it echoes WebSocket frames in the same way. It is a yardstick and no more: it does not look for `Host` or
// `Expect`, and has no time limits.

#include "program.h"
#include "raw_output.h"
#include "raw_websocket.h"

#include <llhttp.h>
#include <netinet/in.h>
#include <strings.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#ifdef TROTH_HAS_LLHTTP_SSE42
// The parser once more, compiled for SSE4.2 (see net/http/meson.build).
extern "C" int llhttp__internal_execute_sse42(llhttp_t* parser, const char* begin, const char* end);
#endif

namespace {

constexpr std::string_view HELLO = "Hello, world!";
constexpr std::size_t LARGE_SIZE = std::size_t{1} << 20;

/// What can be asked for.
enum class Route : std::uint8_t { GREETING, LARGE, ECHO_BODY, WEBSOCKET, NONE };

/// Fields of the request for `/ws`.
struct Handshake {
  std::string field; // the name of the one that is coming
  std::string key;
};

/// What only those connections have that ask for `/ws`.
struct WebSocket {
  std::unique_ptr<Handshake> handshake; // until it is over, and the connection is one of frames
  FrameEcho frames;
};

struct Connection {
  uv_tcp_t tcp;
  llhttp_t parser;
  Route route;
  bool echoing; // the head of an echo has left, and its body is still coming
  bool last;    // no more requests: what is being sent is the connection's last
  std::uint8_t targetSize;
  char target[12]; // its beginning, which is enough to tell the routes apart
  std::unique_ptr<WebSocket> webSocket;

  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&tcp); }
};

Connection& connectionOf(uv_stream_t* stream) { return *static_cast<Connection*>(stream->data); }

Connection& connectionOf(llhttp_t* parser) { return *static_cast<Connection*>(parser->data); }

/// Bytes that a socket did not take, and the request that sends them.
struct Rest {
  uv_write_t request;
  std::unique_ptr<char[]> bytes;
};

/// What depends on the second: the value of `Date`, and the whole answer to `/`.
class Second {
public:
  void look(const uv_loop_t* loop) {
    const std::uint64_t now = uv_now(loop) / 1000;
    if (now != second) make(now);
  }

  std::string_view date() const { return dateField; }
  std::string_view greetingAnswer() const { return answer; }

private:
  void make(std::uint64_t now) {
    second = now;
    const std::time_t time = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&time, &parts);
    char text[64];
    std::strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts); // IMF-fixdate, RFC 9110, 5.6.7
    dateField = text;
    answer = "HTTP/1.1 200 OK\r\n" + dateField +
             "Content-Type: text/plain\r\nContent-Length: " + std::to_string(HELLO.size()) + "\r\n\r\n" +
             std::string(HELLO);
  }

  std::uint64_t second = UINT64_MAX;
  std::string dateField;
  std::string answer;
};

// One thread, one loop: what is needed while a read is handled belongs to no connection.
std::array<char, 64 * 1024> readBuffer;
const std::string LARGE_BODY(LARGE_SIZE, 'x');
Output output;
std::vector<uv_buf_t> buffers;
Second second;
llhttp_settings_t callbacks;
llhttp_settings_t webSocketCallbacks; // those, and the ones for fields, which other requests do not pay for
uv_tcp_t listener;
uv_signal_t onSigterm, onSigint;

void startReading(Connection& connection);

// --- Answers ---

std::string_view targetOf(const Connection& connection) { return {connection.target, connection.targetSize}; }

Route routeOf(const Connection& connection) {
  const std::string_view target = targetOf(connection);
  if (target == "/") return Route::GREETING;
  if (target == "/large") return Route::LARGE;
  if (target == "/echo" && connection.parser.method == HTTP_POST) return Route::ECHO_BODY;
  const bool upgrade = target == "/ws" && connection.parser.upgrade != 0 && connection.parser.method == HTTP_GET;
  return upgrade && !connection.webSocket->handshake->key.empty() ? Route::WEBSOCKET : Route::NONE;
}

/// The field `Connection`, where HTTP/1.1's default is not what happens (RFC 9112, 9.3).
std::string_view connectionField(const Connection& connection) {
  if (connection.last || llhttp_should_keep_alive(&connection.parser) == 0) return "Connection: close\r\n";
  return connection.parser.http_minor == 0 ? "Connection: keep-alive\r\n" : "";
}

void putHead(const Connection& connection, std::string_view status, std::string_view bodyFields) {
  output.copy("HTTP/1.1 ");
  output.copy(status);
  output.copy("\r\n");
  output.copy(second.date());
  output.copy(connectionField(connection));
  output.copy(bodyFields);
  output.copy("\r\n");
}

void putLengthHead(const Connection& connection, std::string_view status, std::uint64_t size) {
  putHead(connection, status, "Content-Type: text/plain\r\nContent-Length: " + std::to_string(size) + "\r\n");
}

/// Answers with a constant: to HEAD, without it (RFC 9110, 9.3.2).
void putConstant(const Connection& connection, std::string_view status, std::string_view body) {
  putLengthHead(connection, status, body.size());
  if (connection.parser.method != HTTP_HEAD) output.refer(body);
}

bool isChunked(const Connection& connection) { return (connection.parser.flags & F_CHUNKED) != 0; }

/// The head of an echo leaves before its body has come, framed as the request is.
void beginEcho(const Connection& connection) {
  if (isChunked(connection)) {
    putHead(connection, "200 OK", "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n");
  } else {
    putLengthHead(connection, "200 OK", connection.parser.content_length);
  }
}

void passBody(const Connection& connection, std::string_view bytes) {
  if (!isChunked(connection)) {
    output.pass(bytes);
    return;
  }
  char size[24];
  const int length = std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  output.copy({size, static_cast<std::size_t>(length)});
  output.pass(bytes);
  output.copy("\r\n");
}

/// RFC 6455, 4.2.2.
void putHandshake(const Handshake& handshake) {
  output.copy(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
  output.copy(acceptOf(handshake.key));
  output.copy("\r\n\r\n");
}

void answer(const Connection& connection) {
  const bool usual = !connection.last && connection.parser.http_minor == 1 && connection.parser.method != HTTP_HEAD;
  switch (connection.route) {
  case Route::GREETING:
    if (usual) {
      output.copy(second.greetingAnswer());
    } else {
      putConstant(connection, "200 OK", HELLO);
    }
    break;
  case Route::LARGE:
    putConstant(connection, "200 OK", LARGE_BODY);
    break;
  case Route::ECHO_BODY:
    if (isChunked(connection)) output.copy("0\r\n\r\n");
    break;
  case Route::WEBSOCKET:
    break; // answered by its handshake
  case Route::NONE:
    putConstant(connection, "404 Not Found", "not found");
    break;
  }
}

// --- What the parser says ---

int targetCame(llhttp_t* parser, const char* bytes, std::size_t size) {
  Connection& connection = connectionOf(parser);
  const std::size_t taken = std::min(size, sizeof connection.target - connection.targetSize);
  std::copy_n(bytes, taken, connection.target + connection.targetSize);
  connection.targetSize = static_cast<std::uint8_t>(connection.targetSize + taken);
  const bool webSocket = targetOf(connection) == "/ws";
  if (webSocket) connection.webSocket.reset(new WebSocket{std::make_unique<Handshake>(), {}});
  parser->settings = webSocket ? &webSocketCallbacks : &callbacks;
  return 0;
}

/// Appends what has come, as far as any name or key that is wanted goes.
void appendSome(std::string& text, const char* bytes, std::size_t size) {
  constexpr std::size_t ENOUGH = 64;
  text.append(bytes, std::min(size, ENOUGH - text.size()));
}

int fieldCame(llhttp_t* parser, const char* bytes, std::size_t size) {
  appendSome(connectionOf(parser).webSocket->handshake->field, bytes, size);
  return 0;
}

int valueCame(llhttp_t* parser, const char* bytes, std::size_t size) {
  Handshake& handshake = *connectionOf(parser).webSocket->handshake;
  if (strcasecmp(handshake.field.c_str(), "Sec-WebSocket-Key") == 0) appendSome(handshake.key, bytes, size);
  return 0;
}

int valueEnded(llhttp_t* parser) {
  connectionOf(parser).webSocket->handshake->field.clear();
  return 0;
}

int headCame(llhttp_t* parser) {
  Connection& connection = connectionOf(parser);
  connection.route = routeOf(connection);
  connection.targetSize = 0;
  if (connection.route == Route::WEBSOCKET) {
    putHandshake(*connection.webSocket->handshake);
    connection.webSocket->handshake = nullptr;
    return 2; // to llhttp: what follows is not HTTP
  }
  parser->upgrade = 0; // there is no other protocol to change to
  connection.echoing = connection.route == Route::ECHO_BODY;
  if (connection.echoing) beginEcho(connection);
  return 0;
}

int bodyCame(llhttp_t* parser, const char* bytes, std::size_t size) {
  Connection& connection = connectionOf(parser);
  if (connection.echoing) passBody(connection, {bytes, size});
  return 0;
}

int messageCame(llhttp_t* parser) {
  Connection& connection = connectionOf(parser);
  if (connection.route == Route::WEBSOCKET) return 0;
  connection.last = llhttp_should_keep_alive(parser) == 0;
  answer(connection);
  connection.echoing = false;
  return connection.last ? HPE_PAUSED : 0; // whatever follows the last request is not looked at
}

llhttp_errno_t parse(llhttp_t& parser, const char* bytes, std::size_t size) {
#ifdef TROTH_HAS_LLHTTP_SSE42
  static const bool vectors = __builtin_cpu_supports("sse4.2") != 0;
  if (vectors) return static_cast<llhttp_errno_t>(llhttp__internal_execute_sse42(&parser, bytes, bytes + size));
#endif
  return llhttp_execute(&parser, bytes, size);
}

/// Answers what cannot be parsed, unless that would become a part of an echo; either way it is the end.
void refuse(Connection& connection) {
  connection.last = true;
  connection.parser.method = HTTP_GET; // it may not be known
  if (!connection.echoing) putConstant(connection, "400 Bad Request", "bad request");
}

// --- Reading and writing ---

void freeConnection(uv_handle_t* handle) { delete static_cast<Connection*>(handle->data); }

void drop(Connection& connection) {
  auto* handle = reinterpret_cast<uv_handle_t*>(&connection.tcp);
  if (uv_is_closing(handle) == 0) uv_close(handle, freeConnection);
}

void restSent(uv_write_t* request, int status) {
  const std::unique_ptr<Rest> rest(static_cast<Rest*>(request->data));
  Connection& connection = connectionOf(request->handle);
  if (status < 0 || connection.last) {
    drop(connection);
  } else if (uv_is_closing(reinterpret_cast<uv_handle_t*>(&connection.tcp)) == 0) {
    startReading(connection);
  }
}

void sendRest(Connection& connection, std::size_t sent) {
  auto rest = std::make_unique<Rest>();
  output.rest(sent, buffers, rest->bytes);
  rest->request.data = rest.get();
  uv_read_stop(connection.stream());
  if (uv_write(&rest->request, connection.stream(), buffers.data(), static_cast<unsigned>(buffers.size()), restSent) ==
      0) {
    rest.release(); // restSent() takes it back
  } else {
    drop(connection);
  }
}

/// Sends all that the read has brought about.
void flush(Connection& connection) {
  const std::size_t total = output.buffers(buffers);
  int sent = uv_try_write(connection.stream(), buffers.data(), static_cast<unsigned>(buffers.size()));
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0 || (static_cast<std::size_t>(sent) == total && connection.last)) {
    drop(connection);
  } else if (static_cast<std::size_t>(sent) < total) {
    sendRest(connection, static_cast<std::size_t>(sent));
  }
}

void lendBuffer(uv_handle_t*, std::size_t, uv_buf_t* buffer) {
  *buffer = uv_buf_init(readBuffer.data(), static_cast<unsigned>(readBuffer.size()));
}

void takeFrames(Connection& connection, char* bytes, std::size_t size) {
  connection.last = !connection.webSocket->frames.take(bytes, size, output);
}

void takeRequests(Connection& connection, char* bytes, std::size_t size) {
  const llhttp_errno_t error = parse(connection.parser, bytes, size);
  if (error == HPE_OK || (error == HPE_PAUSED && connection.last)) return;
  if (error == HPE_PAUSED_UPGRADE && connection.route == Route::WEBSOCKET) {
    const auto parsed = static_cast<std::size_t>(llhttp_get_error_pos(&connection.parser) - bytes);
    takeFrames(connection, bytes + parsed, size - parsed);
  } else {
    refuse(connection);
  }
}

void handleRead(uv_stream_t* stream, ssize_t received, const uv_buf_t* read) {
  Connection& connection = connectionOf(stream);
  if (received < 0) {
    drop(connection);
    return;
  }
  if (received == 0) return; // libuv's word for "nothing yet", not for the end of the stream

  second.look(stream->loop);
  output.clear();
  const bool framed = connection.webSocket != nullptr && connection.webSocket->handshake == nullptr;
  (framed ? takeFrames : takeRequests)(connection, read->base, static_cast<std::size_t>(received));
  if (!output.empty()) {
    flush(connection);
  } else if (connection.last) {
    drop(connection);
  }
}

void startReading(Connection& connection) {
  if (uv_read_start(connection.stream(), lendBuffer, handleRead) != 0) drop(connection);
}

void acceptConnection(uv_stream_t* server, int status) {
  if (status < 0) {
    std::fprintf(stderr, "http_raw: accept: %s\n", uv_strerror(status));
    return;
  }
  auto* connection = new Connection{};
  uv_tcp_init(server->loop, &connection->tcp);
  connection->tcp.data = connection;
  llhttp_init(&connection->parser, HTTP_REQUEST, &callbacks);
  connection->parser.data = connection;
  if (uv_accept(server, connection->stream()) != 0) {
    drop(*connection);
    return;
  }
  uv_tcp_nodelay(&connection->tcp, 1);
  startReading(*connection);
}

// --- Start and end ---

void closeHandle(uv_handle_t* handle, void*) {
  if (uv_is_closing(handle) != 0) return;
  const bool isConnection = handle->type == UV_TCP && handle != reinterpret_cast<uv_handle_t*>(&listener);
  uv_close(handle, isConnection ? freeConnection : nullptr);
}

void shutDown(uv_signal_t* handle, int) { uv_walk(handle->loop, closeHandle, nullptr); }

/// Ends the program if a step of the start-up failed.
void check(int status, const char* step) {
  if (status >= 0) return;
  std::fprintf(stderr, "http_raw: %s: %s\n", step, uv_strerror(status));
  std::exit(1);
}

void prepareParser() {
  llhttp_settings_init(&callbacks);
  callbacks.on_url = targetCame;
  callbacks.on_headers_complete = headCame;
  callbacks.on_body = bodyCame;
  callbacks.on_message_complete = messageCame;
  webSocketCallbacks = callbacks;
  webSocketCallbacks.on_header_field = fieldCame;
  webSocketCallbacks.on_header_value = valueCame;
  webSocketCallbacks.on_header_value_complete = valueEnded;
}

[[noreturn]] void usage() {
  std::fputs("usage: http_raw [--port N] | --version\n", stderr);
  std::exit(2);
}

void printVersion() {
  std::printf("libuv %s, llhttp %d.%d.%d\n", uv_version_string(), LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR,
              LLHTTP_VERSION_PATCH);
}

} // namespace

int main(int argc, char** argv) {
  const std::optional<std::uint16_t> port = parsePort(argc, argv, usage, printVersion);
  if (!port) return 0;

  std::signal(SIGPIPE, SIG_IGN); // libuv sends with write(), which raises it when the peer has gone
  prepareParser();
  uv_loop_t loop;
  check(uv_loop_init(&loop), "loop");
  check(uv_signal_init(&loop, &onSigterm), "signal");
  check(uv_signal_start(&onSigterm, shutDown, SIGTERM), "SIGTERM");
  check(uv_signal_init(&loop, &onSigint), "signal");
  check(uv_signal_start(&onSigint, shutDown, SIGINT), "SIGINT");

  sockaddr_in local{};
  int localSize = sizeof local;
  check(uv_ip4_addr("127.0.0.1", *port, &local), "address");
  check(uv_tcp_init(&loop, &listener), "socket");
  check(uv_tcp_bind(&listener, reinterpret_cast<const sockaddr*>(&local), 0), "bind");
  check(uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, acceptConnection), "listen");
  check(uv_tcp_getsockname(&listener, reinterpret_cast<sockaddr*>(&local), &localSize), "getsockname");
  std::printf("listening on http://127.0.0.1:%d\n", ntohs(local.sin_port));
  std::fflush(stdout);

  uv_run(&loop, UV_RUN_DEFAULT);
  check(uv_loop_close(&loop), "uv_loop_close");
  return 0;
}
