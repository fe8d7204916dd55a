// SPDX-License-Identifier: MIT
// Thousands of well-behaved, slow and vanishing clients of an echo server, every byte compared.
//
//   soak PATH-OF-ECHO-SERVER [--clients N] [--large N] [--concurrency N] [--seed S]
//
// The driver starts the server itself and knows it only by its command line, its port and /proc.
// Each client follows a plan drawn from the seed: how much it sends, in which pieces, with which
// socket buffers, when it pauses, and how it ends. What it sends is a pseudo-random stream of its
// own, so that a byte that is lost, doubled, or delivered to the wrong client cannot pass for the
// right one. Afterwards the server must be as it was: as many descriptors open, and SIGTERM ends it
// with status 0 and nothing on stderr (where the reports of AddressSanitizer and LeakSanitizer go).
// The same seed gives the same plans, though not the same timing.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;
constexpr std::size_t MAX_PIECE = 64 * KIB;
constexpr std::uint64_t MAX_LENGTH = 256 * KIB;
constexpr std::uint64_t LARGE_LENGTH = 8 * MIB;
constexpr seconds STALL_LIMIT{30};    // a client that makes no progress for so long has been forgotten
constexpr seconds OVERALL_LIMIT{280}; // and nothing here goes on for longer than this
constexpr std::size_t MAX_REPORTED = 20;

// --- pseudo-random numbers
// ------------------------------------------------------------------------

std::uint64_t mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

class Random {
public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() { return mix(state_++); }

  /// Uniform in [low, high].
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + next() % (high - low + 1); }

  bool chance(std::uint64_t percent) { return next() % 100 < percent; }

  /// Between 1 and `high`, each power of two as likely as the next: mostly small, with a tail.
  std::uint64_t skewed(std::uint64_t high) {
    unsigned bits = 1;
    while ((std::uint64_t{1} << bits) <= high) ++bits;
    std::uint64_t top = std::uint64_t{1} << between(0, bits - 1);
    return std::min(high, between((top + 1) / 2, top));
  }

private:
  std::uint64_t state_;
};

/// Bytes [offset, offset + out.size()) of the endless stream that belongs to `seed`.
void fillStream(std::uint64_t seed, std::uint64_t offset, char* out, std::size_t size) {
  std::uint64_t word = offset / 8;
  std::size_t skip = offset % 8;
  while (size > 0) {
    std::uint64_t value = mix(seed ^ (word++ * 0x2545f4914f6cdd1dU));
    std::array<char, 8> bytes;
    std::memcpy(bytes.data(), &value, sizeof value);
    std::size_t count = std::min(size, bytes.size() - skip);
    std::memcpy(out, bytes.data() + skip, count);
    out += count;
    size -= count;
    skip = 0;
  }
}

// --- what a client intends
// ------------------------------------------------------------------------

enum class Ending : std::uint8_t {
  HALF_CLOSE,      // sends all, shuts down its sending side, reads until EOF: the length must be exact
  CLOSE_AFTER_ALL, // closes once everything has come back
  RESET,           // SO_LINGER 0 at the stage
  EARLY_CLOSE,     // close() at the stage, which is a reset if something is unread and a FIN otherwise
};

enum class Stage : std::uint8_t {
  CONNECTED,             // before anything was sent
  SENDING,               // when `stagePoint` bytes have been sent
  RECEIVING,             // when `stagePoint` bytes have come back
  SENT_UNREAD,           // when all was sent and nothing was read
  HALF_CLOSED,           // directly after the half-close
  HALF_CLOSED_RECEIVING, // after the half-close, when `stagePoint` bytes have come back
  COMPLETE,              // when everything has come back
};

constexpr std::array<const char*, 4> ENDING_NAMES{"half-close", "close after all", "reset", "early close"};
constexpr std::array<const char*, 7> STAGE_NAMES{
    "connected", "sending", "receiving", "sent, unread", "half-closed", "half-closed, receiving", "complete"};

struct Plan {
  std::uint64_t seed = 0;
  std::uint64_t length = 0;
  std::uint64_t stagePoint = 0;
  std::uint64_t pauseAt = 0; // stops reading when so much has come back …
  milliseconds pause{0};     // … for so long
  std::size_t maxPiece = MAX_PIECE;
  std::size_t maxRead = MAX_PIECE;
  int bufferSize = 0;  // SO_SNDBUF and SO_RCVBUF; 0: the system's
  int segmentSize = 0; // TCP_MAXSEG; 0: the system's, 64 KiB on loopback
  Ending ending = Ending::HALF_CLOSE;
  Stage stage = Stage::COMPLETE;

  bool vanishes() const { return ending == Ending::RESET || ending == Ending::EARLY_CLOSE; }

  bool halfCloses() const {
    return ending == Ending::HALF_CLOSE ||
           (vanishes() && (stage == Stage::HALF_CLOSED || stage == Stage::HALF_CLOSED_RECEIVING));
  }

  bool readsNothing() const { return vanishes() && stage == Stage::SENT_UNREAD; }
};

Plan makePlan(std::uint64_t seed, bool large) {
  Random random(seed);
  Plan plan;
  plan.seed = random.next();
  plan.length = large ? LARGE_LENGTH : random.skewed(MAX_LENGTH);
  if (!large && random.chance(2)) plan.length = MAX_LENGTH;
  if (!large && random.chance(1)) plan.length = 0;

  if (plan.length <= 2 * KIB && random.chance(20)) {
    plan.maxPiece = 1;
  } else if (plan.length <= 32 * KIB && random.chance(20)) {
    plan.maxPiece = 200;
  } else if (random.chance(40)) {
    plan.maxPiece = static_cast<std::size_t>(random.between(1, 8 * KIB));
  }
  if (large) plan.maxPiece = std::max<std::size_t>(plan.maxPiece, 4 * KIB);
  if (random.chance(30)) plan.maxRead = std::max<std::size_t>(plan.maxPiece, 512);
  if (random.chance(15)) {
    plan.bufferSize = 4096;
    // A segment that does not fit into the buffer leaves TCP waiting for timers, at 50 kB a second.
    if (plan.length > 64 * KIB || random.chance(50)) plan.segmentSize = 1000;
  }
  if (random.chance(15)) {
    plan.pauseAt = random.chance(50) ? 0 : random.between(0, plan.length);
    plan.pause = milliseconds(random.between(5, 200));
  }

  std::uint64_t die = random.between(0, 99);
  if (die < 5) {
    plan.ending = Ending::RESET;
  } else if (die < 10) {
    plan.ending = Ending::EARLY_CLOSE;
  } else if (die < 25) {
    plan.ending = Ending::CLOSE_AFTER_ALL;
  }
  if (plan.vanishes()) plan.stage = static_cast<Stage>(random.between(0, STAGE_NAMES.size() - 1));
  // What is neither read nor sent any more must fit between the two, or the stage is never reached.
  if (plan.readsNothing()) plan.length = std::min(plan.length, random.between(1, 16 * KIB));
  plan.stagePoint = random.between(0, plan.length);
  return plan;
}

// --- the server
// -----------------------------------------------------------------------------------

/// The server as a child process. Whatever happens here, the destructor ends it.
class Server {
public:
  /// Returns an empty pointer and prints why if the server does not say where it listens.
  static std::unique_ptr<Server> start(const char* path);

  ~Server() {
    if (pid_ > 0 && !status_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (output_ >= 0) ::close(output_);
    if (errors_ != nullptr) std::fclose(errors_);
  }

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const { return port_; }

  bool running() {
    reap(WNOHANG);
    return !status_;
  }

  /// The number of open descriptors, or -1 if the process is gone. The timer's timerfd, which is made when a delay is
  /// short, and kept, does not count.
  int openDescriptors() const {
    std::string path = "/proc/" + std::to_string(pid_) + "/fd";
    DIR* directory = ::opendir(path.c_str());
    if (directory == nullptr) return -1;
    int count = 0;
    while (const dirent* entry = ::readdir(directory)) {
      std::array<char, 64> target{};
      if (entry->d_name[0] == '.') continue;
      if (::readlinkat(::dirfd(directory), entry->d_name, target.data(), target.size() - 1) < 0) continue;
      if (std::string_view(target.data()) != "anon_inode:[timerfd]") ++count;
    }
    ::closedir(directory);
    return count;
  }

  std::string descriptorList() const {
    std::string path = "/proc/" + std::to_string(pid_) + "/fd";
    std::string list;
    DIR* directory = ::opendir(path.c_str());
    if (directory == nullptr) return list;
    int listed = 0;
    while (const dirent* entry = ::readdir(directory)) {
      if (entry->d_name[0] == '.' || ++listed > 40) continue;
      std::array<char, 256> target{};
      std::string link = path + "/" + entry->d_name;
      if (::readlink(link.c_str(), target.data(), target.size() - 1) < 0) continue;
      list += std::string(" ") + entry->d_name + "=" + target.data();
    }
    ::closedir(directory);
    return list;
  }

  /// Asks the server to end and waits; empty if it has not ended in time.
  std::optional<int> terminate(seconds patience) {
    if (!status_) ::kill(pid_, SIGTERM);
    Clock::time_point limit = Clock::now() + patience;
    while (running() && Clock::now() < limit) std::this_thread::sleep_for(milliseconds(10));
    return status_;
  }

  std::string errorOutput() const {
    std::string text;
    std::array<char, 4096> block;
    std::rewind(errors_);
    while (text.size() < 64 * KIB) {
      std::size_t count = std::fread(block.data(), 1, block.size(), errors_);
      if (count == 0) break;
      text.append(block.data(), count);
    }
    return text;
  }

private:
  Server() = default;

  [[noreturn]] void becomeServer(const char* path, int output);
  bool readAddress();

  void reap(int flags) {
    int status = 0;
    if (!status_ && ::waitpid(pid_, &status, flags) == pid_) status_ = status;
  }

  pid_t pid_ = -1;
  int output_ = -1;
  std::FILE* errors_ = nullptr; // an unnamed file: unlike a pipe it never makes the server wait
  std::uint16_t port_ = 0;
  std::optional<int> status_;
};

void Server::becomeServer(const char* path, int output) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(::fileno(errors_), STDERR_FILENO);
  ::close_range(3, ~0U, 0);
  ::execl(path, "echo_server", "--address", "127.0.0.1", "--port", "0", nullptr);
  std::fprintf(stderr, "cannot run %s: %s\n", path, std::strerror(errno));
  ::_exit(127);
}

bool Server::readAddress() {
  std::string line;
  Clock::time_point limit = Clock::now() + seconds(20);
  while (line.find('\n') == std::string::npos && Clock::now() < limit) {
    pollfd ready{output_, POLLIN, 0};
    if (::poll(&ready, 1, 200) <= 0) continue;
    std::array<char, 256> block;
    ssize_t count = ::read(output_, block.data(), block.size());
    if (count <= 0) break;
    line.append(block.data(), static_cast<std::size_t>(count));
  }
  unsigned port = 0;
  if (std::sscanf(line.c_str(), "listening on 127.0.0.1:%u", &port) != 1 || port == 0 || port > 65535) {
    std::printf("FAILED: no line `listening on 127.0.0.1:PORT`, but: \"%s\", stderr: \"%s\"\n", line.c_str(),
                errorOutput().c_str());
    return false;
  }
  port_ = static_cast<std::uint16_t>(port);
  return true;
}

std::unique_ptr<Server> Server::start(const char* path) {
  std::unique_ptr<Server> server(new Server);
  std::array<int, 2> ends{};
  server->errors_ = std::tmpfile();
  if (server->errors_ == nullptr || ::pipe2(ends.data(), O_CLOEXEC) != 0) {
    std::perror("FAILED: soak");
    return nullptr;
  }
  server->output_ = ends[0];
  std::fflush(stdout);
  server->pid_ = ::fork();
  if (server->pid_ == 0) server->becomeServer(path, ends[1]);
  ::close(ends[1]);
  if (server->pid_ < 0 || !server->readAddress()) return nullptr;
  return server;
}

// --- one client
// -----------------------------------------------------------------------------------

enum class Progress : std::uint8_t { GOES_ON, DONE, FAILED, NO_PORT };

/// One connection that follows its plan. Driven by readiness; never blocks.
class Client {
public:
  Client(std::uint64_t number, const Plan& plan) : number_(number), plan_(plan), random_(plan.seed) {}

  ~Client() {
    if (fd_ >= 0) ::close(fd_);
  }

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Begins to connect; NO_PORT if the system has no free port now and it is worth trying later.
  Progress connect(std::uint16_t port, int epoll);

  /// Does what the events (of epoll) and the passing of time allow.
  Progress advance(std::uint32_t events, Clock::time_point now);

  /// True while only the passing of time can make it go on.
  bool pausing() const { return pauseEnds_.has_value(); }
  Clock::time_point pauseEnds() const { return *pauseEnds_; }
  Clock::time_point lastProgress() const { return lastProgress_; }
  std::uint64_t received() const { return received_; }
  const std::string& problem() const { return problem_; }

  /// Tells epoll what is of interest now.
  void subscribe(int epoll);

  std::string description() const;

private:
  Progress fail(const std::string& what) {
    problem_ = what;
    return Progress::FAILED;
  }

  bool stageReached() const;
  Progress vanish();
  Progress sendSome();
  Progress receiveSome();
  Progress checkReceived(const char* data, std::size_t size);
  bool wantsToSend() const { return connected_ && sent_ < sendLimit(); }
  bool wantsToReceive() const { return connected_ && !pausing() && !plan_.readsNothing(); }

  std::uint64_t sendLimit() const {
    bool stopsThere = plan_.vanishes() && plan_.stage == Stage::SENDING;
    return stopsThere ? plan_.stagePoint : plan_.length;
  }

  std::uint64_t number_;
  Plan plan_;
  Random random_;
  int fd_ = -1;
  std::uint32_t subscribed_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  bool connected_ = false;
  bool halfClosed_ = false;
  bool paused_ = false;
  std::optional<Clock::time_point> pauseEnds_;
  Clock::time_point lastProgress_ = Clock::now();
  std::string problem_;
};

std::string Client::description() const {
  std::string text = "client " + std::to_string(number_) + " (" + ENDING_NAMES[static_cast<std::size_t>(plan_.ending)];
  if (plan_.vanishes()) {
    text += std::string(" when ") + STAGE_NAMES[static_cast<std::size_t>(plan_.stage)] + " at " +
            std::to_string(plan_.stagePoint);
  }
  return text + ", length " + std::to_string(plan_.length) + ", pieces up to " + std::to_string(plan_.maxPiece) +
         ", buffers " + std::to_string(plan_.bufferSize) + ", sent " + std::to_string(sent_) + ", received " +
         std::to_string(received_) + ")";
}

Progress Client::connect(std::uint16_t port, int epoll) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return fail(std::string("socket: ") + std::strerror(errno));
  if (plan_.bufferSize != 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &plan_.bufferSize, sizeof plan_.bufferSize);
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &plan_.bufferSize, sizeof plan_.bufferSize);
  }
  if (plan_.segmentSize != 0) {
    ::setsockopt(fd_, IPPROTO_TCP, TCP_MAXSEG, &plan_.segmentSize, sizeof plan_.segmentSize);
  }
  int on = 1; // each piece is to travel alone
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
    if (errno != EADDRNOTAVAIL) return fail(std::string("connect: ") + std::strerror(errno));
    ::close(fd_);
    fd_ = -1;
    return Progress::NO_PORT;
  }
  epoll_event event{};
  event.events = subscribed_ = EPOLLOUT;
  event.data.ptr = this;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd_, &event) != 0) return fail("epoll_ctl");
  lastProgress_ = Clock::now();
  return Progress::GOES_ON;
}

void Client::subscribe(int epoll) {
  if (fd_ < 0 || !connected_) return;
  std::uint32_t wanted = (wantsToSend() ? EPOLLOUT : 0U) | (wantsToReceive() ? EPOLLIN : 0U);
  if (wanted == subscribed_) return;
  epoll_event event{};
  event.events = subscribed_ = wanted;
  event.data.ptr = this;
  ::epoll_ctl(epoll, EPOLL_CTL_MOD, fd_, &event);
}

bool Client::stageReached() const {
  if (!plan_.vanishes()) return plan_.ending == Ending::CLOSE_AFTER_ALL && received_ == plan_.length;
  switch (plan_.stage) {
  case Stage::CONNECTED:
    return true;
  case Stage::SENDING:
    return sent_ == plan_.stagePoint;
  case Stage::RECEIVING:
    return received_ >= plan_.stagePoint;
  case Stage::SENT_UNREAD:
    return sent_ == plan_.length;
  case Stage::HALF_CLOSED:
    return halfClosed_;
  case Stage::HALF_CLOSED_RECEIVING:
    return halfClosed_ && received_ >= plan_.stagePoint;
  case Stage::COMPLETE:
    return received_ == plan_.length;
  }
  return true;
}

Progress Client::vanish() {
  if (plan_.ending == Ending::RESET) {
    linger reset{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  ::close(fd_);
  fd_ = -1;
  return Progress::DONE;
}

/// Sends one piece; what the socket does not take of it is not remembered, the stream can be
/// refilled.
Progress Client::sendSome() {
  static std::array<char, MAX_PIECE> piece;
  std::uint64_t size =
      std::min<std::uint64_t>(plan_.maxPiece == 1 ? 1 : random_.between(1, plan_.maxPiece), sendLimit() - sent_);
  fillStream(plan_.seed, sent_, piece.data(), static_cast<std::size_t>(size));
  ssize_t count = ::send(fd_, piece.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (count >= 0) {
    sent_ += static_cast<std::uint64_t>(count);
    lastProgress_ = Clock::now();
    return Progress::GOES_ON;
  }
  if (errno == EAGAIN || errno == EINTR) return Progress::GOES_ON;
  return fail(std::string("send: ") + std::strerror(errno));
}

Progress Client::checkReceived(const char* data, std::size_t size) {
  static std::array<char, MAX_PIECE> expected;
  if (received_ + size > sent_) {
    return fail(std::to_string(received_ + size - sent_) + " bytes more than were sent");
  }
  fillStream(plan_.seed, received_, expected.data(), size);
  if (std::memcmp(data, expected.data(), size) == 0) return Progress::GOES_ON;
  std::size_t at = 0;
  while (data[at] == expected[at]) ++at;
  return fail("byte " + std::to_string(received_ + at) + " came back different");
}

Progress Client::receiveSome() {
  static std::array<char, MAX_PIECE> buffer;
  ssize_t count = ::recv(fd_, buffer.data(), std::min(plan_.maxRead, buffer.size()), 0);
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return Progress::GOES_ON;
    return fail(std::string("recv: ") + std::strerror(errno));
  }
  lastProgress_ = Clock::now();
  if (count == 0) {
    if (!halfClosed_) return fail("end of the stream although the sending side is open");
    if (received_ != plan_.length) {
      return fail("end of the stream " + std::to_string(plan_.length - received_) + " bytes too early");
    }
    return Progress::DONE;
  }
  auto size = static_cast<std::size_t>(count);
  Progress progress = checkReceived(buffer.data(), size);
  received_ += size;
  return progress;
}

Progress Client::advance(std::uint32_t events, Clock::time_point now) {
  if (!connected_) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return Progress::GOES_ON;
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return fail(std::string("connect: ") + std::strerror(error));
    connected_ = true;
    lastProgress_ = now;
  }
  if (pauseEnds_ && now >= *pauseEnds_) {
    pauseEnds_.reset();
    lastProgress_ = now;
  }
  if (stageReached()) return vanish();

  if (wantsToSend() && (events & (EPOLLOUT | EPOLLERR)) != 0) {
    if (Progress progress = sendSome(); progress != Progress::GOES_ON) return progress;
  }
  if (plan_.halfCloses() && !halfClosed_ && sent_ == plan_.length) {
    halfClosed_ = true;
    ::shutdown(fd_, SHUT_WR);
  }
  if (stageReached()) return vanish();

  if (!paused_ && plan_.pause.count() != 0 && received_ >= plan_.pauseAt) {
    paused_ = true;
    pauseEnds_ = now + plan_.pause;
  }
  if (wantsToReceive() && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
    if (Progress progress = receiveSome(); progress != Progress::GOES_ON) return progress;
    if (stageReached()) return vanish();
  }
  return Progress::GOES_ON;
}

// --- all of them
// ----------------------------------------------------------------------------------

struct Options {
  std::string server;
  std::uint64_t clients = 10000;
  std::uint64_t large = 100;
  std::uint64_t concurrency = 200;
  std::uint64_t seed = 0;
};

struct Totals {
  std::uint64_t finished = 0;
  std::uint64_t failed = 0;
  std::uint64_t bytes = 0;
  std::array<std::uint64_t, 4> byEnding{};
};

/// Runs the clients, at most `concurrency` at once.
class Crowd {
public:
  Crowd(const Options& options, Server& server)
      : options_(options), server_(server), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  ~Crowd() {
    clients_.clear();
    ::close(epoll_);
  }

  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  Totals run() {
    Clock::time_point limit = Clock::now() + OVERALL_LIMIT;
    while (next_ < options_.clients || !clients_.empty()) {
      fill();
      turn();
      if (totals_.failed > MAX_REPORTED) {
        std::printf("giving up after %u failures\n", static_cast<unsigned>(totals_.failed));
        break;
      }
      if (!server_.running()) {
        ++totals_.failed;
        std::printf("FAILED: the server has died\n");
        break;
      }
      if (Clock::now() > limit) {
        ++totals_.failed;
        std::printf("FAILED: not done in time, %u clients left\n",
                    static_cast<unsigned>(clients_.size() + options_.clients - next_));
        for (std::size_t i = 0; i < std::min<std::size_t>(clients_.size(), 5); ++i) {
          std::printf("  left: %s\n", clients_[i]->description().c_str());
        }
        break;
      }
    }
    return totals_;
  }

private:
  Plan planOf(std::uint64_t number) const {
    // The large ones are spread evenly over the run.
    bool large = (number + 1) * options_.large / options_.clients != number * options_.large / options_.clients;
    return makePlan(mix(options_.seed) ^ mix(number), large);
  }

  void fill() {
    while (next_ < options_.clients && clients_.size() < options_.concurrency) {
      Plan plan = planOf(next_);
      auto client = std::make_unique<Client>(next_, plan);
      Progress progress = client->connect(server_.port(), epoll_);
      if (progress == Progress::NO_PORT) return;
      ++totals_.byEnding[static_cast<std::size_t>(plan.ending)];
      ++next_;
      if (progress == Progress::FAILED) {
        end(*client, progress);
      } else {
        clients_.push_back(std::move(client));
      }
    }
  }

  void turn() {
    std::array<epoll_event, 256> events;
    int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 10);
    Clock::time_point now = Clock::now();
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      step(*static_cast<Client*>(event.data.ptr), event.events, now);
    }
    for (const auto& client : clients_) {
      if (client->pausing() && client->pauseEnds() <= now) step(*client, 0, now);
      if (now - client->lastProgress() > STALL_LIMIT && !isOver(*client)) {
        ++totals_.failed;
        std::printf("FAILED: no progress for 30 s: %s\n", client->description().c_str());
        over_.push_back(client.get());
      }
    }
    if (over_.empty()) return;
    std::erase_if(clients_, [this](const auto& client) { return isOver(*client); });
    over_.clear();
  }

  bool isOver(const Client& client) const { return std::find(over_.begin(), over_.end(), &client) != over_.end(); }

  void step(Client& client, std::uint32_t events, Clock::time_point now) {
    if (isOver(client)) return;
    Progress progress = client.advance(events, now);
    if (progress == Progress::GOES_ON) {
      client.subscribe(epoll_);
      return;
    }
    end(client, progress);
    over_.push_back(&client);
  }

  void end(const Client& client, Progress progress) {
    totals_.bytes += client.received();
    ++totals_.finished;
    if (progress != Progress::FAILED) return;
    ++totals_.failed;
    std::printf("FAILED: %s: %s\n", client.description().c_str(), client.problem().c_str());
  }

  const Options& options_;
  Server& server_;
  int epoll_;
  std::uint64_t next_ = 0;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<const Client*> over_;
  Totals totals_;
};

// --- the test cases
// -------------------------------------------------------------------------------

/// Counts the cases and prints the line that a person and the other test programs agree on.
class Summary {
public:
  void check(bool ok, const std::string& name, const std::string& seen) {
    ++(ok ? passed_ : failed_);
    std::printf("%s: %s%s%s\n", ok ? "passed" : "FAILED", name.c_str(), seen.empty() ? "" : ": ", seen.c_str());
  }

  int finish() const {
    std::printf("test cases: %u | %u passed | %u failed | 0 skipped\n", passed_ + failed_, passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

private:
  unsigned passed_ = 0;
  unsigned failed_ = 0;
};

/// Descriptors that are still being closed are given some time.
int settledDescriptors(const Server& server, int target) {
  int count = server.openDescriptors();
  for (int i = 0; i < 250 && count > target; ++i) {
    std::this_thread::sleep_for(milliseconds(20));
    count = server.openDescriptors();
  }
  return count;
}

/// The count once it has stopped changing: the line with the address may come before the last
/// handle.
int baseline(const Server& server) {
  int count = server.openDescriptors();
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    int again = server.openDescriptors();
    if (again == count) break;
    count = again;
  }
  return count;
}

std::string describeStatus(const std::optional<int>& status) {
  if (!status) return "it has not ended within 15 s";
  if (WIFSIGNALED(*status)) return "ended by signal " + std::to_string(WTERMSIG(*status));
  return "exit status " + std::to_string(WEXITSTATUS(*status));
}

int soak(const Options& options) {
  Summary summary;
  std::unique_ptr<Server> server = Server::start(options.server.c_str());
  if (!server) {
    summary.check(false, "the server starts", "");
    return summary.finish();
  }
  int before = baseline(*server);
  Clock::time_point start = Clock::now();
  Totals totals;
  {
    Crowd crowd(options, *server);
    totals = crowd.run();
  }
  double took = std::chrono::duration<double>(Clock::now() - start).count();
  std::array<char, 200> line;
  std::snprintf(line.data(), line.size(),
                "%llu clients, %llu failed, %.1f MB compared in %.1f s (%llu half-closed, %llu "
                "closed after all, %llu reset, %llu closed early)",
                static_cast<unsigned long long>(totals.finished), static_cast<unsigned long long>(totals.failed),
                static_cast<double>(totals.bytes) / 1e6, took, static_cast<unsigned long long>(totals.byEnding[0]),
                static_cast<unsigned long long>(totals.byEnding[1]),
                static_cast<unsigned long long>(totals.byEnding[2]),
                static_cast<unsigned long long>(totals.byEnding[3]));
  summary.check(totals.failed == 0 && totals.finished == options.clients, "every byte comes back, once and in order",
                line.data());

  int after = settledDescriptors(*server, before);
  bool restored = after >= 0 && after <= before;
  summary.check(restored, "descriptors are closed again",
                std::to_string(before) + " before, " + std::to_string(after) + " after" +
                    (restored ? "" : server->descriptorList()));

  std::optional<int> status = server->terminate(seconds(15));
  summary.check(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0, "SIGTERM ends the server with status 0",
                describeStatus(status));
  std::string errors = server->errorOutput();
  summary.check(errors.empty(), "nothing is written to stderr", errors);
  return summary.finish();
}

int usage(const std::string& problem) {
  std::fprintf(stderr,
               "soak: %s\nusage: soak ECHO_SERVER [--clients N] [--large N] [--concurrency N] "
               "[--seed S]\n",
               problem.c_str());
  return 2;
}

} // namespace

int main(int argc, char** argv) {
  Options options;
  options.seed = std::random_device{}();
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    std::uint64_t* target = argument == "--clients"       ? &options.clients
                            : argument == "--large"       ? &options.large
                            : argument == "--concurrency" ? &options.concurrency
                            : argument == "--seed"        ? &options.seed
                                                          : nullptr;
    if (target == nullptr) {
      if (argument.starts_with("--") || !options.server.empty()) {
        return usage("unknown argument " + std::string(argument));
      }
      options.server = argument;
      continue;
    }
    if (++i == argc) return usage(std::string(argument) + " needs a number");
    char* end = nullptr;
    *target = std::strtoull(argv[i], &end, 10);
    if (end == argv[i] || *end != '\0') return usage("not a number: " + std::string(argv[i]));
  }
  if (options.server.empty()) return usage("which server?");
  if (options.clients == 0 || options.concurrency == 0 || options.large > options.clients) {
    return usage("numbers out of range");
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("seed %llu (repeat with --seed)\n", static_cast<unsigned long long>(options.seed));
  return soak(options);
}
