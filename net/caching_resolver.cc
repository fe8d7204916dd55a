// SPDX-License-Identifier: MIT
// The caching resolver: what was answered a short time ago, and what is being asked for.
//
// Answers stand in a list, the one used last in front, and in an index by key; they are forgotten when they are found
// to be too old, or at the end of the list. A look-up that goes on is a Pending, owned by the promises of those who
// wait for it: so it is cancelled when the last of them goes.
#include <troth/net/resolver.h>

#include <troth/runtime/canceler.h>
#include <troth/timers/time_math_detail.h>

#include <list>
#include <map>
#include <unordered_map>
#include <utility>
#include <variant>

namespace troth {
inline namespace v0 {
namespace {

/// Answers of one sort.
template <typename T>
class Cache {
public:
  Cache(Timer& timer, CachingResolverOptions options) noexcept : timer_(timer), options_(options) {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  ~Cache() {
    for (const auto& [key, pending] : pending_) pending->cache = nullptr;
    if (!canceler_.isEmpty()) canceler_.cancel("the resolver was destroyed while a look-up was pending");
  }

  /// The answer for `key`: the one that is known, or what the promise that `ask()` gives comes to.
  template <typename Ask>
  Promise<T> get(const std::string& key, Ask&& ask, std::source_location where) {
    if (const Answer* known = find(key)) {
      if (const T* value = std::get_if<T>(known)) return *value;
      const Exception& e = std::get<Exception>(*known);
      return Exception(e.kind(), e.description(), e.code(), where);
    }
    const auto pending = pending_.find(key);
    std::shared_ptr<Pending> joined =
        pending != pending_.end() ? pending->second->shared_from_this() : begin(key, ask());
    Promise<T> answer = joined->answer.addBranch(where);
    return std::move(answer).attach(std::move(joined));
  }

private:
  using Answer = std::variant<T, Exception>;

  struct Entry {
    std::string key;
    Answer answer;
    TimePoint end;
  };

  struct Pending : std::enable_shared_from_this<Pending> {
    Pending(Cache& c, std::string k, ForkedPromise<T> a) noexcept
        : cache(&c), key(std::move(k)), answer(std::move(a)) {}
    ~Pending() {
      if (cache != nullptr) cache->pending_.erase(key);
    }

    Cache* cache; // null once it is not in `pending_`
    std::string key;
    ForkedPromise<T> answer;
  };

  Timer& timer_;
  CachingResolverOptions options_;
  std::list<Entry> entries_;
  std::unordered_map<std::string_view, typename std::list<Entry>::iterator> index_; // keys are the entries' own
  std::map<std::string, Pending*, std::less<>> pending_;
  Canceler canceler_; // of all that is pending: what it runs refers to this

  /// Finds an answer that still holds.
  const Answer* find(std::string_view key) {
    const auto known = index_.find(key);
    if (known == index_.end()) return nullptr;
    if (known->second->end <= timer_.now()) {
      forget(known->second);
      return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, known->second);
    return &entries_.front().answer;
  }

  std::shared_ptr<Pending> begin(const std::string& key, Promise<T> asked) {
    Promise<T> kept = std::move(asked).then(
        [this, key](T value) {
          keep(key, value, options_.timeToLive);
          return value;
        },
        [this, key](Exception e) -> T {
          keep(key, e, options_.errorTimeToLive);
          e.rethrow();
        });
    auto pending = std::make_shared<Pending>(*this, key, canceler_.wrap(std::move(kept)).fork());
    pending_.emplace(key, pending.get());
    return pending;
  }

  void keep(const std::string& key, Answer answer, Duration timeToLive) {
    const auto pending = pending_.find(key);
    pending->second->cache = nullptr;
    pending_.erase(pending);
    if (timeToLive <= Duration::zero() || options_.capacity == 0) return;
    if (entries_.size() >= options_.capacity) forget(std::prev(entries_.end()));
    entries_.push_front(Entry{key, std::move(answer), detail::timeAfter(timer_.now(), timeToLive)});
    try {
      index_.emplace(entries_.front().key, entries_.begin());
    } catch (...) {
      entries_.pop_front();
      throw;
    }
  }

  void forget(typename std::list<Entry>::iterator entry) noexcept {
    index_.erase(entry->key);
    entries_.erase(entry);
  }
};

class CachingResolver final : public Resolver {
public:
  CachingResolver(Resolver& resolver, Timer& timer, CachingResolverOptions options) noexcept
      : resolver_(resolver), addresses_(timer, options), names_(timer, options) {}

  Promise<std::vector<SocketAddress>> lookUp(std::string_view host, std::source_location where) override {
    return evalNow([&] {
      return addresses_.get(
          std::string(host), [&] { return resolver_.lookUp(host, where); }, where);
    });
  }

  Promise<std::string> lookUpName(const SocketAddress& address, std::source_location where) override {
    const SocketAddress withoutPort = address.withPort(0);
    return evalNow([&] {
      return names_.get(
          withoutPort.toString(), [&] { return resolver_.lookUpName(withoutPort, where); }, where);
    });
  }

private:
  Resolver& resolver_;
  Cache<std::vector<SocketAddress>> addresses_;
  Cache<std::string> names_;
};

} // namespace

std::unique_ptr<Resolver> newCachingResolver(Resolver& resolver, Timer& timer, CachingResolverOptions options) {
  return std::make_unique<CachingResolver>(resolver, timer, options);
}

} // namespace v0
} // namespace troth
