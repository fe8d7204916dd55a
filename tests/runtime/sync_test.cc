// SPDX-License-Identifier: MIT
// AsyncMutex, Semaphore and AsyncEvent: fairness, hand-over, cancellation, destruction, misuse.
#include "cancel_check.h"
#include "helpers.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Lock = AsyncMutex::Lock;
using Permit = Semaphore::Permit;

struct NoErrors final : TaskSet::ErrorHandler {
  void taskFailed(Exception exception) override { FAIL(exception.what()); }
};

} // namespace

// --- AsyncMutex

TEST_CASE_FIXTURE(LoopTest, "a mutex that is not locked is locked at once") {
  AsyncMutex mutex;
  CHECK_FALSE(mutex.isLocked());
  Promise<Lock> promise = mutex.lock();
  CHECK(mutex.isLocked());
  {
    const Lock lock = std::move(promise).wait(scope);
    CHECK(lock.isHeld());
    CHECK(mutex.isLocked());
  }
  CHECK_FALSE(mutex.isLocked());
}

TEST_CASE_FIXTURE(LoopTest, "a mutex is handed over in the order of lock(), and is locked all the while") {
  AsyncMutex mutex;
  Lock held = mutex.lock().wait(scope);
  Promise<Lock> second = mutex.lock();
  Promise<Lock> third = mutex.lock();
  CHECK_FALSE(third.poll(scope));
  Lock next = takeAfter(second, scope, [&] { held.unlock(); });
  CHECK_FALSE(held.isHeld());
  CHECK(mutex.isLocked());
  takeAfter(third, scope, [&] { next = Lock(); }).unlock();
  CHECK_FALSE(mutex.isLocked());
}

TEST_CASE_FIXTURE(LoopTest, "nobody gets in between an unlock and the one who waits") {
  AsyncMutex mutex;
  std::optional<Lock> held = mutex.tryLock();
  REQUIRE(held);
  CHECK_FALSE(mutex.tryLock());
  Promise<Lock> waiting = mutex.lock();
  held.reset();
  CHECK_FALSE(mutex.tryLock());
  Promise<Lock> late = mutex.lock();
  CHECK_FALSE(late.poll(scope));
  std::move(waiting).wait(scope).unlock();
  CHECK(late.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a lock moves, and only its last owner unlocks") {
  AsyncMutex mutex;
  AsyncMutex other;
  Lock a = mutex.lock().wait(scope);
  Lock b = std::move(a);
  CHECK_FALSE(a.isHeld()); // NOLINT: what is left of a is what is tested
  a.unlock();
  CHECK(mutex.isLocked());
  Lock c = other.lock().wait(scope);
  c = std::move(b);
  CHECK_FALSE(other.isLocked());
  CHECK(mutex.isLocked());
  c.unlock();
  c.unlock();
  CHECK_FALSE(mutex.isLocked());
}

TEST_CASE_FIXTURE(LoopTest, "a cancelled lock() is passed over, and one that was handed the mutex hands it on") {
  AsyncMutex mutex;
  Lock held = mutex.lock().wait(scope);
  std::optional<Promise<Lock>> first = mutex.lock();
  std::optional<Promise<Lock>> second = mutex.lock();
  Promise<Lock> third = mutex.lock();
  first.reset();
  held.unlock();
  CHECK(second->poll(scope));
  Lock lock = takeAfter(third, scope, [&] { second.reset(); });
  { Promise<Lock> dropped = mutex.lock(); }
  lock.unlock();
  CHECK_FALSE(mutex.isLocked());
  { Promise<Lock> dropped = mutex.lock(); }
  CHECK_FALSE(mutex.isLocked());
}

TEST_CASE_FIXTURE(LoopTest, "what a mutex protects is whole whenever it is locked") {
  AsyncMutex mutex;
  NoErrors errors;
  TaskSet tasks(errors);
  std::vector<int> order;
  bool inside = false;
  for (int i = 0; i < 5; ++i)
    tasks.add([](AsyncMutex& m, bool& in, std::vector<int>& done, int number) -> Promise<void> {
      const Lock lock = co_await m.lock();
      CHECK_FALSE(in);
      in = true;
      co_await evalLast([] {});
      in = false;
      done.push_back(number);
    }(mutex, inside, order, i));
  scope.poll();
  CHECK(order == std::vector{0, 1, 2, 3, 4});
  int byContinuation = 0;
  mutex.lock().then([&](Lock) { byContinuation = mutex.isLocked() ? 1 : 2; }).wait(scope);
  CHECK(byContinuation == 1);
  CHECK_FALSE(mutex.isLocked());
}

TEST_CASE_FIXTURE(LoopTest, "destroying a mutex rejects those who wait; a lock that is held does no harm any more") {
  auto mutex = std::make_unique<AsyncMutex>();
  std::optional<Lock> held = mutex->lock().wait(scope);
  Promise<Lock> waiting = mutex->lock();
  mutex.reset();
  const Exception e = failureOf(std::move(waiting).ignoreResult(), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "sync_test.cc");
  Lock moved = std::move(*held);
  held.reset();
  CHECK(moved.isHeld());
  moved.unlock();
}

TEST_CASE_FIXTURE(LoopTest, "whoever gets the lock may destroy the mutex") {
  auto mutex = std::make_unique<AsyncMutex>();
  Lock held = mutex->lock().wait(scope);
  Promise<void> coroutine = [](std::unique_ptr<AsyncMutex>& m) -> Promise<void> {
    const Lock lock = co_await m->lock();
    m.reset();
  }(mutex);
  Promise<Lock> other = mutex->lock();
  held.unlock();
  std::move(coroutine).wait(scope);
  CHECK(mutex == nullptr);
  CHECK(kindName(failureOf(std::move(other).ignoreResult(), scope)) == "DISCONNECTED");

  auto second = std::make_unique<AsyncMutex>();
  second->lock().then([&](Lock) { second.reset(); }).wait(scope);
  Promise<Lock> untaken = (second = std::make_unique<AsyncMutex>())->lock();
  second.reset();
  CHECK(std::move(untaken).wait(scope).isHeld());
}

// --- Semaphore

TEST_CASE_FIXTURE(LoopTest, "a semaphore gives its permits and gets them back") {
  Semaphore semaphore(3);
  CHECK(semaphore.available() == 3);
  Permit two = semaphore.acquire(2).wait(scope);
  CHECK(two.count() == 2);
  CHECK(semaphore.available() == 1);
  CHECK_FALSE(semaphore.tryAcquire(2));
  std::optional<Permit> one = semaphore.tryAcquire();
  REQUIRE(one);
  Promise<Permit> waiting = semaphore.acquire(2);
  one.reset();
  CHECK(semaphore.available() == 1);
  CHECK(takeAfter(waiting, scope, [&] { two.release(); }).count() == 2);
  CHECK(two.count() == 0);
  CHECK(semaphore.available() == 3);
}

TEST_CASE_FIXTURE(LoopTest, "a large request at the head of the line is not starved by small ones") {
  Semaphore semaphore(3);
  Permit a = semaphore.acquire().wait(scope);
  Permit b = semaphore.acquire().wait(scope);
  Promise<Permit> large = semaphore.acquire(3);
  Promise<Permit> small = semaphore.acquire();
  CHECK(semaphore.available() == 1);
  CHECK_FALSE(small.poll(scope));
  CHECK_FALSE(semaphore.tryAcquire());
  a.release();
  CHECK_FALSE(large.poll(scope));
  Permit all = takeAfter(large, scope, [&] { b.release(); });
  CHECK_FALSE(small.poll(scope));
  takeAfter(small, scope, [&] { all.release(); }).release();
}

TEST_CASE_FIXTURE(LoopTest, "when a large request is cancelled the smaller ones behind it are served") {
  Semaphore semaphore(3);
  Permit held = semaphore.acquire().wait(scope);
  std::optional<Promise<Permit>> large = semaphore.acquire(3);
  Promise<Permit> small = semaphore.acquire();
  Promise<Permit> other = semaphore.acquire();
  Promise<Permit> last = semaphore.acquire();
  takeAfter(small, scope, [&] { large.reset(); }).release();
  CHECK(std::move(other).wait(scope).count() == 1);
  CHECK(last.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "the permits of a ready acquire that is cancelled go to the next") {
  Semaphore semaphore(2);
  std::optional<Promise<Permit>> first = semaphore.acquire(2);
  Promise<Permit> second = semaphore.acquire();
  Promise<Permit> third = semaphore.acquire();
  CHECK(first->poll(scope));
  first.reset();
  CHECK(second.poll(scope));
  CHECK(third.poll(scope));
  CHECK(semaphore.available() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "asking for more permits than there are in all throws and names the caller") {
  Semaphore semaphore(2);
  const Exception e = thrownBy([&] { (void)semaphore.acquire(3); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "more permits"));
  CHECK(fileOf(e) == "sync_test.cc");
  CHECK(fileOf(thrownBy([&] { (void)semaphore.tryAcquire(3); })) == "sync_test.cc");
  CHECK(semaphore.acquire(2).wait(scope).count() == 2);
  CHECK(semaphore.acquire(0).wait(scope).count() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "destroying a semaphore rejects those who wait; permits that are held do no harm any more") {
  auto semaphore = std::make_unique<Semaphore>(2);
  std::optional<Permit> a = semaphore->tryAcquire();
  Permit b = semaphore->acquire().wait(scope);
  Promise<Permit> waiting = semaphore->acquire();
  semaphore.reset();
  CHECK(kindName(failureOf(std::move(waiting).ignoreResult(), scope)) == "DISCONNECTED");
  a.reset();
  Permit moved = std::move(b);
  moved.release();
}

TEST_CASE_FIXTURE(LoopTest, "random acquisitions, releases and cancellations agree with a model") {
  struct Request {
    std::size_t count;
    Promise<Permit> promise;
  };
  for (unsigned seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    auto below = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    constexpr std::size_t TOTAL = 7;
    Semaphore semaphore(TOTAL);
    // The model: requests that wait, those that were served, and permits that are held.
    std::size_t available = TOTAL;
    std::deque<Request> waiting;
    std::vector<Request> served;
    std::vector<Permit> held;
    auto serve = [&] {
      while (!waiting.empty() && waiting.front().count <= available) {
        available -= waiting.front().count;
        CHECK(waiting.front().promise.poll(scope));
        served.push_back(std::move(waiting.front()));
        waiting.pop_front();
      }
    };
    for (int operation = 0; operation < 1'000; ++operation) {
      const std::size_t dice = below(100);
      const std::size_t count = below(TOTAL) / (1 + below(3)) + (below(20) == 0 ? 0 : 1);
      if (dice < 30) {
        waiting.push_back({count, semaphore.acquire(count)});
        serve();
      } else if (dice < 40) {
        std::optional<Permit> permit = semaphore.tryAcquire(count);
        CHECK(permit.has_value() == (waiting.empty() && count <= available));
        if (permit) {
          available -= count;
          held.push_back(std::move(*permit));
        }
      } else if (dice < 60 && !served.empty()) {
        const std::size_t i = below(served.size());
        held.push_back(std::move(served[i].promise).wait(scope));
        CHECK(held.back().count() == served[i].count);
        served.erase(served.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (dice < 80 && !held.empty()) {
        const std::size_t i = below(held.size());
        available += held[i].count();
        if (below(2) == 0) held[i].release();
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
        serve();
      } else if (dice < 90 && !waiting.empty()) {
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(below(waiting.size())));
        serve();
      } else if (dice < 95 && !served.empty()) {
        const std::size_t i = below(served.size());
        available += served[i].count;
        served.erase(served.begin() + static_cast<std::ptrdiff_t>(i));
        serve();
      }
      CHECK(semaphore.available() == available);
      for (Request& request : waiting) CHECK_FALSE(request.promise.poll(scope));
    }
    waiting.clear();
    served.clear();
    held.clear();
    CHECK(semaphore.available() == TOTAL);
  }
}

// --- AsyncEvent

TEST_CASE_FIXTURE(LoopTest, "an event lets all go on who wait, in their order, and those who come until it is reset") {
  AsyncEvent event;
  CHECK_FALSE(event.isSet());
  std::string log;
  Promise<void> first = event.wait().then([&] { log += "1"; }).eagerlyEvaluate(nullptr);
  Promise<void> second = event.wait().then([&] { log += "2"; }).eagerlyEvaluate(nullptr);
  takeAfter(second, scope, [&] { event.set(); });
  std::move(first).wait(scope);
  CHECK(log == "12");
  CHECK(event.isSet());
  event.set();
  event.wait().wait(scope);
  event.reset();
  CHECK_FALSE(event.isSet());
  Promise<void> later = event.wait();
  takeAfter(later, scope, [&] { event.set(); });
}

TEST_CASE_FIXTURE(LoopTest, "who was let go on by an event goes on, though it is reset at once") {
  AsyncEvent event;
  Promise<void> waiting = event.wait();
  event.set();
  event.reset();
  CHECK(waiting.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "cancelling a wait for an event does not concern the others") {
  AsyncEvent event;
  std::vector<std::optional<Promise<void>>> waits;
  for (int i = 0; i < 3; ++i) waits.emplace_back(event.wait());
  waits[1].reset();
  takeAfter(*waits[2], scope, [&] { event.set(); });
  CHECK(waits[0]->poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "destroying an event rejects those who wait, who may do it themselves") {
  auto event = std::make_unique<AsyncEvent>();
  Promise<void> waiting = event->wait();
  event.reset();
  const Exception e = failureOf(std::move(waiting).ignoreResult(), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "sync_test.cc");
  event = std::make_unique<AsyncEvent>();
  Promise<void> destroys = event->wait().then([&] { event.reset(); });
  Promise<void> other = event->wait();
  event->set();
  std::move(destroys).wait(scope);
  CHECK(event == nullptr);
  std::move(other).wait(scope);
}

// --- Cancellation at every step

namespace {

/// One of three users of a mutex and of a semaphore is cancelled.
struct ThreeUsers {
  AsyncMutex mutex;
  Semaphore semaphore{3};
  int inside = 0;
  int done = 0;
  NoErrors errors;
  TaskSet others{errors};

  struct Inside {
    explicit Inside(int& n) : count(n) { CHECK(++count == 1); }
    ~Inside() { --count; }
    int& count;
  };

  static Promise<void> use(ThreeUsers& t, std::size_t permits) {
    for (int lap = 0; lap < 3; ++lap) {
      const Permit permit = co_await t.semaphore.acquire(permits);
      const Lock lock = co_await t.mutex.lock().exclusiveJoin(NEVER_DONE);
      const Inside in(t.inside);
      co_await evalLater([] {});
    }
    ++t.done;
  }

  Promise<void> cancelled() {
    others.add(use(*this, 1));
    Promise<void> promise = use(*this, 2);
    others.add(use(*this, 3));
    return promise;
  }

  void check(WaitScope& scope) {
    scope.poll();
    CHECK(others.isEmpty());
    CHECK(done >= 2);
    CHECK(inside == 0);
    CHECK_FALSE(mutex.isLocked());
    CHECK(semaphore.available() == 3);
  }
};

} // namespace

TEST_CASE("a user of a mutex and a semaphore that is cancelled anywhere keeps neither lock nor permit (R5)") {
  CHECK(cancelAndCheck<ThreeUsers>() >= 10);
}

TEST_CASE("a coroutine that owns locks and their users is cancelled anywhere and leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    ThreeUsers users;
    AsyncEvent started;
    users.others.add([](AsyncEvent& event, ThreeUsers& u) -> Promise<void> {
      co_await event.wait();
      co_await ThreeUsers::use(u, 2);
    }(started, users));
    Promise<void> promise = users.cancelled();
    co_await evalLater([&] { started.set(); });
    co_await std::move(promise);
    co_await users.others.onEmpty();
    CHECK(users.done == 4);
  });
  CHECK(steps >= 10);
}

TEST_CASE_FIXTURE(LoopTest, "traces say what is waited for, and where") {
  AsyncMutex mutex;
  Semaphore semaphore(1);
  AsyncEvent event;
  const Lock lock = mutex.lock().wait(scope);
  const Permit permit = semaphore.acquire().wait(scope);
  CHECK(contains(mutex.lock().trace(), "AsyncMutex::lock at tests/runtime/sync_test.cc"));
  CHECK(contains(semaphore.acquire().trace(), "Semaphore::acquire at tests/runtime/sync_test.cc"));
  CHECK(contains(event.wait().trace(), "AsyncEvent::wait at tests/runtime/sync_test.cc"));
}

// --- Misuse, large numbers, costs

TEST_CASE_FIXTURE(LoopTest, "using a lock, semaphore or event on another thread throws and names the caller") {
  AsyncMutex mutex;
  Semaphore semaphore(1);
  AsyncEvent event;
  CHECK(mutex.tryLock());
  CHECK(semaphore.tryAcquire());
  Promise<void> waiting = event.wait();
  std::thread([&] {
    const Exception locked = thrownBy([&] { (void)mutex.lock(); });
    CHECK(kindName(locked) == "FAILED");
    CHECK(contains(locked.description(), "AsyncMutex::lock"));
    CHECK(contains(locked.description(), "another thread"));
    CHECK(fileOf(locked) == "sync_test.cc");
    EventLoop other;
    WaitScope otherScope(other);
    CHECK(contains(thrownBy([&] { (void)mutex.tryLock(); }).description(), "AsyncMutex::tryLock"));
    CHECK(contains(thrownBy([&] { (void)semaphore.acquire(); }).description(), "Semaphore::acquire"));
    CHECK(contains(thrownBy([&] { (void)semaphore.tryAcquire(); }).description(), "Semaphore::tryAcquire"));
    CHECK(contains(thrownBy([&] { event.set(); }).description(), "AsyncEvent::set"));
    CHECK(contains(thrownBy([&] { (void)event.wait(); }).description(), "AsyncEvent::wait"));
  }).join();
  CHECK_FALSE(waiting.poll(scope));
}

TEST_CASE("unlocking on another thread, or destroying there what somebody waits for, aborts and says so") {
  struct World {
    std::unique_ptr<AsyncMutex> mutex = std::make_unique<AsyncMutex>();
    std::optional<Lock> held = mutex->tryLock();
    std::optional<Promise<Lock>> waiting = mutex->lock();
    std::unique_ptr<AsyncEvent> event = std::make_unique<AsyncEvent>();
    Promise<void> eventWaiting = event->wait();
  };
  for (void (*body)(World&) : {+[](World& world) { world.held.reset(); }, +[](World& world) { world.waiting.reset(); },
                               +[](World& world) { world.mutex.reset(); }, +[](World& world) { world.event.reset(); }}) {
    const ChildEnd end = runInChild([body] {
      EventLoop loop;
      WaitScope scope(loop);
      World world;
      std::thread([&] { body(world); }).join();
    });
    CHECK(end.aborted);
    CHECK(contains(end.errors, "another thread"));
  }
}

TEST_CASE("a million waiters for a mutex are destroyed, or served, in constant stack and linear time") {
  onStackOf(256 * 1024, [] {
    constexpr int COUNT = SANITIZED ? 200'000 : 1'000'000;
    LoopTest test;
    auto mutex = std::make_unique<AsyncMutex>();
    std::vector<std::optional<Promise<Lock>>> waiting(COUNT);
    auto lockAll = [&] {
      for (auto& lock : waiting) lock.emplace(mutex->lock());
    };
    lockAll();
    for (auto& lock : waiting) lock.reset(); // each hands it to the next
    CHECK_FALSE(mutex->isLocked());
    lockAll();
    std::size_t held = 0;
    for (auto& lock : waiting) held += std::move(*lock).wait(test.scope).isHeld();
    CHECK(held == COUNT);
    lockAll();
    mutex.reset();
    CHECK(std::move(*waiting.front()).wait(test.scope).isHeld());
    CHECK(kindName(failureOf(std::move(*waiting.back()).ignoreResult(), test.scope)) == "DISCONNECTED");
    waiting.clear();

    AsyncEvent event;
    std::vector<Promise<void>> waits;
    for (int i = 0; i < COUNT; ++i) waits.push_back(event.wait());
    event.set();
    std::size_t ready = 0;
    for (Promise<void>& wait : waits) ready += wait.poll(test.scope);
    CHECK(ready == COUNT);
  });
}

TEST_CASE_FIXTURE(LoopTest, "a hundred thousand coroutines get a mutex one after the other") {
  AsyncMutex mutex;
  NoErrors errors;
  TaskSet tasks(errors);
  int order = 0;
  for (int i = 0; i < 100'000; ++i)
    tasks.add([](AsyncMutex& m, int& last, int number) -> Promise<void> {
      const Lock lock = co_await m.lock();
      if (last != number) throw std::runtime_error("out of order");
      ++last;
    }(mutex, order, i));
  scope.poll();
  CHECK(order == 100'000);
  CHECK(tasks.isEmpty());
}

TEST_CASE_FIXTURE(LoopTest, "locks, permits and events allocate nothing from the heap") {
  if (SANITIZED) return; // the pool keeps nothing then
  AsyncMutex mutex;
  Semaphore semaphore(2);
  AsyncEvent event;
  auto run = [&] {
    Lock lock = mutex.lock().wait(scope);
    Promise<Lock> next = mutex.lock();
    lock.unlock();
    std::move(next).wait(scope).unlock();
    const Permit permit = semaphore.acquire(2).wait(scope);
    Promise<void> wait = event.wait();
    event.set();
    event.reset();
    std::move(wait).wait(scope);
  };
  run();
  const std::uint64_t before = heapAllocations();
  for (int i = 0; i < 100; ++i) run();
  CHECK(heapAllocations() == before);
}
