// SPDX-License-Identifier: MIT
// RedisClient on hiredis 0.14 and later.
//
// hiredis calls hooks when it wants to read or write, and is called back when it can: that is all that an event loop
// has to do for it. The adapter to libuv that comes with it does not call it when libuv reports an error, so that a
// refused connection is never heard of (https://github.com/redis/hiredis/issues/508); FdObserver wakes both directions
// then.
//
// hiredis frees its context by itself when the connection is lost, within redisAsyncHandleRead() or -Write(). `cleanup`
// is called before that, and from then on `context_` is null. It also calls back with each answer. These callbacks do
// nothing but fulfil promises, and whoever waits for these runs in a later turn of the loop: so nobody can destroy the
// client, or call hiredis, from inside of hiredis.
//
// An answer that nobody has asked for fails an assertion of hiredis's (redisProcessCallbacks), that is, the server ends
// the process. So the connection is given up before hiredis sees it. An error it takes: so a server refuses a client.
#include "redis_client.h"

#include <hiredis/async.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <utility>

using namespace troth;

namespace {

constexpr const char* UNASKED = "the server has sent what nobody has asked for";

// What answers are made of may be made of others, so deep. (hiredis 0.14 takes 9, later versions any number.)
constexpr int DEEPEST = 32;

RedisReply valueOf(const redisReply& reply, int depth = 0) {
  if (depth > DEEPEST) throw Exception(Exception::Kind::FAILED, "redis: an answer is nested too deep");
  RedisReply value;
  switch (reply.type) {
  case REDIS_REPLY_INTEGER:
    value.kind = RedisReply::Kind::INTEGER;
    break;
  case REDIS_REPLY_STRING:
    value.kind = RedisReply::Kind::TEXT;
    break;
  case REDIS_REPLY_STATUS:
    value.kind = RedisReply::Kind::STATUS;
    break;
  case REDIS_REPLY_ERROR:
    value.kind = RedisReply::Kind::ERROR;
    break;
  case REDIS_REPLY_ARRAY:
    value.kind = RedisReply::Kind::ARRAY;
    break;
  default:
    value.kind = reply.elements != 0 ? RedisReply::Kind::ARRAY : RedisReply::Kind::NIL;
  }
  if (value.kind == RedisReply::Kind::INTEGER) value.integer = reply.integer;
  if (reply.str != nullptr) value.text.assign(reply.str, static_cast<std::size_t>(reply.len));
  for (std::size_t i = 0; i < reply.elements; ++i) value.elements.push_back(valueOf(*reply.element[i], depth + 1));
  return value;
}

// Whether something is left in hiredis's buffer, which no command has asked for.
bool hasUnaskedAnswer(const redisAsyncContext& context) {
  const redisReader& reader = *context.c.reader;
  return context.replies.head == nullptr && reader.pos < reader.len && reader.buf[reader.pos] != '-';
}

// Whether such a thing comes next from the socket.
bool receivesUnaskedAnswer(const redisAsyncContext& context) {
  const redisReader& reader = *context.c.reader;
  if (context.replies.head != nullptr || reader.pos < reader.len) return false;
  char first;
  return recv(context.c.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && first != '-';
}

// Commands that have other answers than one: hiredis would keep our callback for more of them.
bool hasManyAnswers(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  return upper.ends_with("SUBSCRIBE") || upper == "MONITOR";
}

} // namespace

/// A command that is under way. hiredis has a ticket, which it gives back with the answer, or with none when the
/// connection goes; a promise that is destroyed before takes its name off the ticket.
class RedisClient::Command {
public:
  Command(PromiseFulfiller<RedisReply>& fulfiller, RedisClient& client, std::span<const std::string_view> words)
      : fulfiller_(fulfiller), client_(client) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string_view word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto ticket = std::make_unique<Ticket>(Ticket{this});
    if (redisAsyncCommandArgv(client.context_, onReply, ticket.get(), static_cast<int>(words.size()), texts.data(),
                              sizes.data()) == REDIS_OK)
      ticket_ = ticket.release();
    else
      fulfiller.reject(client.lost("the command was not taken"));
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  ~Command() {
    if (ticket_ != nullptr) ticket_->command = nullptr;
  }

private:
  struct Ticket {
    Command* command;
  };

  PromiseFulfiller<RedisReply>& fulfiller_;
  RedisClient& client_; // which takes the tickets back before it goes
  Ticket* ticket_ = nullptr;

  static void onReply(redisAsyncContext* context, void* reply, void* data) noexcept {
    const std::unique_ptr<Ticket> ticket(static_cast<Ticket*>(data));
    if (Command* const command = ticket->command; command != nullptr) { // somebody still waits
      command->ticket_ = nullptr;
      command->fulfiller_.rejectIfThrows([&] { command->end(*context, static_cast<const redisReply*>(reply)); });
    }
    if (reply != nullptr && hasUnaskedAnswer(*context)) static_cast<RedisClient*>(context->data)->giveUp(UNASKED);
  }

  void end(const redisAsyncContext& context, const redisReply* reply) {
    if (reply == nullptr) return fulfiller_.reject(client_.lost(context.err != 0 ? context.errstr : client_.lost_));
    RedisReply value = valueOf(*reply);
    if (value.kind == RedisReply::Kind::ERROR)
      return fulfiller_.reject(Exception(Exception::Kind::FAILED, "redis: " + value.text));
    fulfiller_.fulfill(std::move(value));
  }
};

/// What hiredis calls.
struct RedisClient::Hooks {
  static RedisClient& of(void* data) noexcept { return *static_cast<RedisClient*>(data); }

  static void addRead(void* data) noexcept { of(data).want(of(data).reads_, &RedisClient::handleReads); }
  static void addWrite(void* data) noexcept { of(data).want(of(data).writes_, &RedisClient::handleWrites); }
  static void delRead(void* data) noexcept { of(data).reads_.wanted = false; }
  static void delWrite(void* data) noexcept { of(data).writes_.wanted = false; }

  // hiredis frees its context next, and closes the socket. Later versions call this twice.
  static void cleanup(void* data) noexcept {
    RedisClient& client = of(data);
    if (client.context_ == nullptr) return;
    const redisAsyncContext* const context = std::exchange(client.context_, nullptr);
    if (context->err != 0) client.lost_ = context->errstr;
    client.reads_.wanted = client.writes_.wanted = false;
    client.observer_.reset(); // ends the loop that waits; the other one is what we are called from
  }

  static void onConnect(const redisAsyncContext* context, int status) noexcept {
    RedisClient& client = of(context->data);
    client.connected_ = status == REDIS_OK;
    if (status == REDIS_OK)
      client.connecting_->fulfill();
    else
      client.connecting_->reject(client.lost(context->c.errstr));
  }
};

Promise<std::unique_ptr<RedisClient>> RedisClient::connect(AsyncIo& io, SocketAddress server) {
  std::unique_ptr<RedisClient> client(new RedisClient(server.toString()));
  PromiseFulfillerPair<void> connected = newPromiseAndFulfiller<void>();
  client->connecting_ = std::move(connected.fulfiller);
  client->open(io, server);
  co_await std::move(connected.promise);
  co_return client;
}

void RedisClient::open(AsyncIo& io, const SocketAddress& server) {
  if (server.isAbstract()) throw Exception(Exception::Kind::UNIMPLEMENTED, "hiredis knows no abstract socket");
  // A numeric address: hiredis would block while it looks up a name.
  std::string host = server.isUnix() ? std::string(server.unixName()) : server_.substr(0, server_.rfind(':'));
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  std::unique_ptr<redisAsyncContext, void (*)(redisAsyncContext*)> made(
      server.isUnix() ? redisAsyncConnectUnix(host.c_str()) : redisAsyncConnect(host.c_str(), server.port()),
      redisAsyncFree);
  if (made == nullptr) throw std::bad_alloc();
  if (made->err != 0) throw lost(made->errstr);
  observer_ = newFdObserver(io, made->c.fd, Ownership::BORROW);
  context_ = made.release();
  context_->data = context_->ev.data = this;
  context_->ev.addRead = Hooks::addRead;
  context_->ev.delRead = Hooks::delRead;
  context_->ev.addWrite = Hooks::addWrite;
  context_->ev.delWrite = Hooks::delWrite;
  context_->ev.cleanup = Hooks::cleanup;
  redisAsyncSetConnectCallback(context_,
                               Hooks::onConnect); // which asks to write, that is, to be told of the connection
}

// A loop begins with a wait, so hiredis, which we are called from, is not called from here.
void RedisClient::want(Direction& direction, Promise<void> (RedisClient::*loop)()) {
  direction.wanted = true;
  if (std::exchange(direction.runs, true)) return;
  direction.loop = (this->*loop)().eagerlyEvaluate([this](const Exception& e) { loopFailed(e); });
}

Promise<void> RedisClient::handleReads() {
  while (reads_.wanted) {
    co_await observer_->whenBecomesReadable();
    if (!reads_.wanted) break;
    if (receivesUnaskedAnswer(*context_))
      giveUp(UNASKED);
    else
      redisAsyncHandleRead(context_);
  }
  reads_.runs = false;
}

// The socket nearly always has room: it is tried first, when all that is queued has added its commands. While it
// connects it must be waited for, or hiredis 0.14 takes it for connected.
Promise<void> RedisClient::handleWrites() {
  if (connected_)
    co_await yield();
  else
    co_await observer_->whenBecomesWritable();
  while (writes_.wanted) {
    redisAsyncHandleWrite(context_);
    if (writes_.wanted) co_await observer_->whenBecomesWritable();
  }
  writes_.runs = false;
}

// The observer went with the context, which everybody knows already; or there was no memory to wait.
void RedisClient::loopFailed(const Exception& exception) noexcept {
  if (context_ != nullptr) giveUp(exception.description());
}

// hiredis frees its context now or, if it is calling us back, right after.
void RedisClient::giveUp(std::string_view why) {
  lost_ = why;
  connecting_->reject(lost(why));
  redisAsyncFree(context_);
}

RedisClient::~RedisClient() {
  if (context_ == nullptr) return;
  lost_ = "the client was destroyed";
  redisAsyncFree(context_); // answers all commands with nothing, and cleans up
}

Promise<RedisReply> RedisClient::commandOf(std::span<const std::string_view> words) {
  if (words.empty()) throw std::invalid_argument("RedisClient::commandOf: there is no command");
  if (hasManyAnswers(words.front()))
    return Exception(Exception::Kind::UNIMPLEMENTED,
                     "redis: " + std::string(words.front()) + " has more than one answer");
  if (context_ == nullptr) return lost(lost_);
  return newAdaptedPromise<RedisReply, Command>(*this, words);
}

Exception RedisClient::lost(std::string_view why) const {
  return Exception(Exception::Kind::DISCONNECTED, "redis at " + server_ + ": " + std::string(why));
}
