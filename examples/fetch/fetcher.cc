// SPDX-License-Identifier: MIT
// Fetcher on libcurl's multi socket interface.
//
// libcurl says which sockets it wants to have watched, and when it wants to be called at the latest. An FdObserver
// watches each socket, a promise waits for the time. When something is ready this is only noted, and one coroutine,
// drive(), calls libcurl for all of it. So it is the only one that can be inside of libcurl while libcurl calls back,
// and these callbacks may drop any other promise: the wait for a socket that libcurl closes, the time that it changes.
//
// Callbacks of libcurl do nothing else but note, copy bytes and fulfil promises. Whoever waits for these runs in a
// later turn of the loop, never inside of a callback: that a transfer is cancelled, which calls
// curl_multi_remove_handle(), can therefore not happen where libcurl forbids it.
#include "fetcher.h"

#include <troth/io/async_io.h>
#include <troth/io/fd_observer.h>
#include <troth/runtime/sync.h>
#include <troth/timers/timer.h>

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <map>
#include <new>
#include <set>
#include <stdexcept>
#include <utility>

using namespace troth;

namespace {

Exception::Kind kindOf(CURLcode code) noexcept {
  switch (code) {
  case CURLE_COULDNT_CONNECT:
  case CURLE_SEND_ERROR:
  case CURLE_RECV_ERROR:
  case CURLE_GOT_NOTHING:
  case CURLE_PARTIAL_FILE:
    return Exception::Kind::DISCONNECTED;
  case CURLE_OPERATION_TIMEDOUT:
  case CURLE_OUT_OF_MEMORY:
    return Exception::Kind::OVERLOADED;
  default:
    return Exception::Kind::FAILED;
  }
}

template <typename Value>
void setOption(CURL* easy, CURLoption option, Value value) {
  if (const CURLcode code = curl_easy_setopt(easy, option, value); code != CURLE_OK)
    throw Exception(kindOf(code), curl_easy_strerror(code));
}

template <typename T>
T infoOf(CURL* easy, CURLINFO info) {
  T value{};
  curl_easy_getinfo(easy, info, &value);
  return value;
}

std::string textOf(CURL* easy, CURLINFO info) {
  const char* const text = infoOf<const char*>(easy, info);
  return text != nullptr ? text : "";
}

void initializeCurl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (code != CURLE_OK) throw Exception(Exception::Kind::FAILED, curl_easy_strerror(code));
}

} // namespace

/// A socket that libcurl wants to have watched.
class Fetcher::Socket {
public:
  Socket(Core& core, AsyncIo& io, curl_socket_t socket)
      : core_(core), socket_(socket), observer_(newFdObserver(io, socket, Ownership::BORROW)) {}

  /// CURL_POLL_IN, CURL_POLL_OUT or both.
  void want(int events) {
    wanted_ = events;
    watch();
  }
  /// Waits for what is wanted, as far as it does not wait already.
  void watch() {
    watch(input_, CURL_POLL_IN, CURL_CSELECT_IN, &FdObserver::whenBecomesReadable);
    watch(output_, CURL_POLL_OUT, CURL_CSELECT_OUT, &FdObserver::whenBecomesWritable);
  }

private:
  struct Wait {
    bool pending = false;
    Promise<void> promise = READY_NOW;
  };

  Core& core_;
  curl_socket_t socket_;
  int wanted_ = 0;
  std::unique_ptr<FdObserver> observer_;
  Wait input_, output_;

  void watch(Wait& wait, int wanted, int ready, Promise<void> (FdObserver::*when)(std::source_location));
};

class Fetcher::Core {
public:
  Core(AsyncIo& io, std::size_t maxParallel);

  static Promise<FetchResponse> get(std::shared_ptr<Core> core, std::string url, FetchOptions options);

  /// The fetcher is destroyed.
  void close() noexcept;

  void isReady(curl_socket_t socket, int events) {
    ready_[socket] |= events;
    wake_.set();
  }

private:
  friend class Transfer;

  struct Deleter {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
  };

  AsyncIo& io_;
  std::unique_ptr<CURLM, Deleter> multi_; // null when closed
  Semaphore slots_;
  std::set<Transfer*> transfers_;                            // in multi_
  std::map<curl_socket_t, std::unique_ptr<Socket>> sockets_; // that libcurl wants to have watched
  std::map<curl_socket_t, int> ready_;                       // what of that libcurl has not been told
  bool timeIsUp_ = false;                                    // nor of this
  AsyncEvent wake_;
  Promise<void> timer_ = READY_NOW;
  Promise<void> driver_ = READY_NOW;

  Promise<void> drive();
  void act(curl_socket_t socket, int events);
  void endTransfers();
  void setTimer(long milliseconds);
  void setSocket(curl_socket_t socket, int what, Socket* known);
  static int onTimer(CURLM*, long milliseconds, void* core) noexcept;
  static int onSocket(CURL* easy, curl_socket_t socket, int what, void* core, void* known) noexcept;
};

/// One that is under way, which is its promise's.
class Fetcher::Transfer {
public:
  Transfer(PromiseFulfiller<FetchResponse>& fulfiller, std::shared_ptr<Core> core, std::string url,
           const FetchOptions& options);
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer() { leave(); }

  static Transfer* of(CURL* easy) noexcept { return infoOf<Transfer*>(easy, CURLINFO_PRIVATE); }

  void end(CURLcode code) noexcept;
  void fail(const Exception& exception) noexcept { fulfiller_.reject(exception.withContext("fetch " + url_)); }
  void leave() noexcept;

private:
  struct Deleter {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
  };

  PromiseFulfiller<FetchResponse>& fulfiller_;
  std::shared_ptr<Core> core_;
  std::string url_;
  std::size_t maxBody_;
  bool isTooLong_ = false;
  std::string body_;
  std::array<char, CURL_ERROR_SIZE> error_{};
  std::unique_ptr<curl_slist, Deleter> headers_;
  std::unique_ptr<CURL, Deleter> easy_; // destroyed first: it uses the others

  void setOptions(const FetchOptions& options);
  void addHeader(const std::string& header);
  Exception failure(CURLcode code) const;
  static std::size_t onBody(const char* data, std::size_t one, std::size_t count, void* transfer) noexcept;
};

// -------------------------------------------------------------------------------------------- sockets

// Should there be no memory to wait, libcurl tries at once, and is told by the system.
void Fetcher::Socket::watch(Wait& wait, int wanted, int ready,
                            Promise<void> (FdObserver::*when)(std::source_location)) {
  if ((wanted_ & wanted) == 0) {
    wait.promise = READY_NOW;
    wait.pending = false;
  } else if (!std::exchange(wait.pending, true)) {
    const auto note = [this, &wait, ready] {
      wait.pending = false;
      core_.isReady(socket_, ready);
    };
    wait.promise = (observer_.get()->*when)(std::source_location::current())
                       .then(note, [note](const Exception&) { note(); })
                       .eagerlyEvaluate(nullptr);
  }
}

// A socket that libcurl does not know may have the number of one that it has closed without a word.
void Fetcher::Core::setSocket(curl_socket_t socket, int what, Socket* known) {
  if (known == nullptr || what == CURL_POLL_REMOVE) {
    sockets_.erase(socket);
    ready_.erase(socket);
  }
  if (what == CURL_POLL_REMOVE) return;
  if (known == nullptr) {
    known = sockets_.emplace(socket, std::make_unique<Socket>(*this, io_, socket)).first->second.get();
    curl_multi_assign(multi_.get(), socket, known);
  }
  known->want(what);
}

int Fetcher::Core::onSocket(CURL* easy, curl_socket_t socket, int what, void* data, void* known) noexcept {
  Core& core = *static_cast<Core*>(data);
  try {
    core.setSocket(socket, what, static_cast<Socket*>(known));
  } catch (...) { // memory or descriptors are short: that is the end of this transfer, not of all, as -1 would be
    if (Transfer* const transfer = Transfer::of(easy)) transfer->fail(Exception::fromCurrent());
  }
  return 0;
}

void Fetcher::Core::setTimer(long milliseconds) {
  timer_ = READY_NOW;
  if (milliseconds < 0) return;
  timer_ = io_.timer()
               .afterDelay(std::chrono::milliseconds(milliseconds))
               .then([this] {
                 timeIsUp_ = true;
                 wake_.set();
               })
               .eagerlyEvaluate(nullptr);
}

int Fetcher::Core::onTimer(CURLM*, long milliseconds, void* data) noexcept {
  try {
    static_cast<Core*>(data)->setTimer(milliseconds);
    return 0;
  } catch (...) {
    return -1;
  }
}

// ------------------------------------------------------------------------------------------- driving

Fetcher::Core::Core(AsyncIo& io, std::size_t maxParallel) : io_(io), slots_(maxParallel) {
  initializeCurl();
  multi_.reset(curl_multi_init());
  if (multi_ == nullptr) throw std::bad_alloc();
  curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &onSocket);
  curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &onTimer);
  curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
  driver_ = drive().eagerlyEvaluate([this](const Exception& e) { // there is no memory
    for (Transfer* const transfer : transfers_) transfer->fail(e);
  });
}

Promise<void> Fetcher::Core::drive() {
  for (;;) {
    co_await wake_.wait();
    wake_.reset();
    if (std::exchange(timeIsUp_, false)) act(CURL_SOCKET_TIMEOUT, 0);
    while (!ready_.empty()) {
      const auto ready = ready_.extract(ready_.begin());
      act(ready.key(), ready.mapped());
      const auto socket = sockets_.find(ready.key());
      if (socket != sockets_.end()) socket->second->watch();
    }
  }
}

void Fetcher::Core::act(curl_socket_t socket, int events) {
  int running;
  curl_multi_socket_action(multi_.get(), socket, events, &running);
  endTransfers();
}

void Fetcher::Core::endTransfers() {
  int left;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left))
    if (message->msg == CURLMSG_DONE) Transfer::of(message->easy_handle)->end(message->data.result);
}

void Fetcher::Core::close() noexcept {
  driver_ = READY_NOW;
  while (!transfers_.empty()) {
    Transfer& transfer = **transfers_.begin();
    transfer.leave();
    transfer.fail(Exception(Exception::Kind::DISCONNECTED, "the fetcher was destroyed"));
  }
  curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, static_cast<curl_socket_callback>(nullptr));
  curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, static_cast<curl_multi_timer_callback>(nullptr));
  sockets_.clear();
  timer_ = READY_NOW;
  multi_.reset();
}

// ------------------------------------------------------------------------------------------ transfers

Promise<FetchResponse> Fetcher::Core::get(std::shared_ptr<Core> core, std::string url, FetchOptions options) {
  const Semaphore::Permit slot = co_await core->slots_.acquire();
  if (core->multi_ == nullptr) throw Exception(Exception::Kind::DISCONNECTED, "the fetcher was destroyed");
  co_return co_await newAdaptedPromise<FetchResponse, Transfer>(core, std::move(url), options);
}

Fetcher::Transfer::Transfer(PromiseFulfiller<FetchResponse>& fulfiller, std::shared_ptr<Core> core, std::string url,
                            const FetchOptions& options)
    : fulfiller_(fulfiller),
      core_(std::move(core)),
      url_(std::move(url)),
      maxBody_(options.maxBody),
      easy_(curl_easy_init()) {
  if (easy_ == nullptr) throw std::bad_alloc();
  setOptions(options);
  core_->transfers_.insert(this);
  if (const CURLMcode code = curl_multi_add_handle(core_->multi_.get(), easy_.get()); code != CURLM_OK) {
    core_->transfers_.erase(this);
    throw Exception(Exception::Kind::FAILED, curl_multi_strerror(code));
  }
}

void Fetcher::Transfer::addHeader(const std::string& header) {
  curl_slist* const longer = curl_slist_append(headers_.get(), header.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  (void)headers_.release();
  headers_.reset(longer);
}

void Fetcher::Transfer::setOptions(const FetchOptions& options) {
  CURL* const easy = easy_.get();
  setOption(easy, CURLOPT_URL, url_.c_str());
  setOption(easy, CURLOPT_PRIVATE, this);
  setOption(easy, CURLOPT_ERRORBUFFER, error_.data());
  setOption(easy, CURLOPT_WRITEFUNCTION, &onBody);
  setOption(easy, CURLOPT_WRITEDATA, this);
  setOption(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout.count()));
  setOption(easy, CURLOPT_FOLLOWLOCATION, options.maxRedirects != 0 ? 1L : 0L);
  setOption(easy, CURLOPT_MAXREDIRS, static_cast<long>(options.maxRedirects));
  setOption(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
  setOption(easy, CURLOPT_PROTOCOLS_STR, "http,https"); // not file:, whatever the URL says
#else
  setOption(easy, CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
  setOption(easy, CURLOPT_QUICK_EXIT, 1L); // a transfer that is removed does not wait for a look-up to end
#endif
  for (const std::string& header : options.headers) addHeader(header);
  setOption(easy, CURLOPT_HTTPHEADER, headers_.get());
}

std::size_t Fetcher::Transfer::onBody(const char* data, std::size_t one, std::size_t count, void* self) noexcept {
  Transfer& transfer = *static_cast<Transfer*>(self);
  const std::size_t size = one * count;
  transfer.isTooLong_ = size > transfer.maxBody_ - transfer.body_.size();
  if (transfer.isTooLong_) return 0; // an error
  try {
    transfer.body_.append(data, size);
    return size;
  } catch (...) {
    transfer.fail(Exception::fromCurrent());
    return 0;
  }
}

void Fetcher::Transfer::end(CURLcode code) noexcept {
  try {
    CURL* const easy = easy_.get();
    if (code != CURLE_OK) throw failure(code);
    fulfiller_.fulfill({infoOf<long>(easy, CURLINFO_RESPONSE_CODE), textOf(easy, CURLINFO_EFFECTIVE_URL),
                        textOf(easy, CURLINFO_CONTENT_TYPE), std::move(body_)});
  } catch (...) {
    fail(Exception::fromCurrent());
  }
  leave();
}

Exception Fetcher::Transfer::failure(CURLcode code) const {
  if (isTooLong_)
    return Exception(Exception::Kind::FAILED, "the body is longer than " + std::to_string(maxBody_) + " bytes");
  return Exception(kindOf(code), error_[0] != '\0' ? error_.data() : curl_easy_strerror(code));
}

/// libcurl has no more to do with it.
void Fetcher::Transfer::leave() noexcept {
  if (core_->transfers_.erase(this) != 0) curl_multi_remove_handle(core_->multi_.get(), easy_.get());
}

// -------------------------------------------------------------------------------------------- fetcher

Fetcher::Fetcher(AsyncIo& io, std::size_t maxParallel) {
  if (maxParallel == 0) throw std::invalid_argument("Fetcher: at least one transfer must be allowed at a time");
  core_ = std::make_shared<Core>(io, maxParallel);
}

Fetcher::~Fetcher() { core_->close(); }

Promise<FetchResponse> Fetcher::get(std::string url, FetchOptions options) {
  if (url.find('\0') != std::string::npos) throw std::invalid_argument("Fetcher::get: the URL has a NUL character");
  return Core::get(core_, std::move(url), std::move(options));
}
