// SPDX-License-Identifier: MIT
// TaskSet: tasks run, fail, are cancelled; what the handler and the tasks may do to the set.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

class Errors final : public TaskSet::ErrorHandler {
public:
  std::vector<Exception> seen;
  std::function<void()> also;

  void taskFailed(Exception exception) override {
    seen.push_back(std::move(exception));
    if (also) also();
  }
};

struct SetTest : LoopTest {
  Errors errors;
};

} // namespace

TEST_CASE_FIXTURE(SetTest, "tasks run unasked and leave the set when they are done") {
  TaskSet tasks(errors);
  int ran = 0;
  CHECK(tasks.isEmpty());
  for (int i = 0; i < 3; ++i) tasks.add(evalLater([&] { ++ran; }));
  tasks.add(READY_NOW);
  tasks.add(NEVER_DONE);
  CHECK(tasks.size() == 5);
  CHECK_FALSE(tasks.isEmpty());
  CHECK(ran == 0);
  scope.poll();
  CHECK(ran == 3);
  CHECK(tasks.size() == 1);
  CHECK(errors.seen.empty());
}

TEST_CASE_FIXTURE(SetTest, "a failure is reported once, with its task destroyed and out of the set") {
  TaskSet tasks(errors);
  std::string log;
  errors.also = [&] {
    log += "handler ";
    CHECK(tasks.isEmpty());
  };
  tasks.add(evalLater([]() { throw std::out_of_range("x"); }).attach(Noted(log, "task")));
  scope.poll();
  scope.poll();
  CHECK(log == "task handler ");
  REQUIRE(errors.seen.size() == 1);
  CHECK(errors.seen[0].description() == "x");
  CHECK_THROWS_AS(errors.seen[0].rethrow(), std::out_of_range);
}

TEST_CASE_FIXTURE(SetTest, "a failing task leaves the others alone") {
  TaskSet tasks(errors);
  int ran = 0;
  tasks.add(evalLater([&] { ++ran; }));
  tasks.add(Exception(Exception::Kind::DISCONNECTED, "gone"));
  tasks.add(evalLater([&] { ++ran; }));
  scope.poll();
  CHECK(ran == 2);
  REQUIRE(errors.seen.size() == 1);
  CHECK(kindName(errors.seen[0]) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(SetTest, "destroying the set cancels its tasks") {
  std::string log;
  {
    TaskSet tasks(errors);
    tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
    tasks.add(evalLater([&] { log += "never "; }).attach(Noted(log, "b")));
  }
  CHECK(log.size() == 4);
  scope.poll();
  CHECK(log.size() == 4);
  CHECK(errors.seen.empty());
}

TEST_CASE_FIXTURE(SetTest, "clear cancels the tasks, and the set goes on") {
  TaskSet tasks(errors);
  std::string log;
  tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  tasks.clear();
  CHECK(log == "a ");
  CHECK(tasks.isEmpty());
  CHECK(tasks.size() == 0);
  tasks.add(evalLater([&] { log += "b "; }));
  scope.poll();
  CHECK(log == "a b ");
}

TEST_CASE_FIXTURE(SetTest, "the handler may clear the set") {
  TaskSet tasks(errors);
  std::string log;
  errors.also = [&] { tasks.clear(); };
  tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  tasks.add(evalLater([] { throw 1; }));
  tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "b")));
  scope.poll();
  CHECK(log.size() == 4);
  CHECK(tasks.isEmpty());
  CHECK(errors.seen.size() == 1);
}

TEST_CASE_FIXTURE(SetTest, "the handler may destroy the set") {
  auto tasks = std::make_unique<TaskSet>(errors);
  std::string log;
  errors.also = [&] { tasks.reset(); };
  tasks->add(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  tasks->add(evalLater([] { throw 1; }));
  scope.poll();
  CHECK(log == "a ");
  CHECK(tasks == nullptr);
}

TEST_CASE_FIXTURE(SetTest, "the handler may add tasks, which may fail in turn") {
  TaskSet tasks(errors);
  errors.also = [&] {
    if (errors.seen.size() < 3) tasks.add(evalLater([] { throw 1; }));
  };
  tasks.add(evalLater([] { throw 1; }));
  scope.poll();
  CHECK(errors.seen.size() == 3);
  CHECK(tasks.isEmpty());
}

TEST_CASE_FIXTURE(SetTest, "a task may add tasks") {
  TaskSet tasks(errors);
  std::string log;
  tasks.add(evalLater([&] {
    tasks.add(evalLater([&] { log += "inner "; }));
    log += "outer ";
  }));
  scope.poll();
  CHECK(log == "outer inner ");
}

TEST_CASE_FIXTURE(SetTest, "a task that is added while the set is torn down is cancelled at once") {
  std::string log;
  SUBCASE("by its destructor") {
    auto tasks = std::make_unique<TaskSet>(errors);
    TaskSet* set = tasks.get();
    set->add(Promise<void>(NEVER_DONE).attach(OnExit([&, set] {
      set->add(evalLater([&] { log += "never "; }).attach(Noted(log, "late")));
      log += "added ";
    })));
    tasks.reset();
    CHECK(log == "late added ");
  }
  SUBCASE("by clear") {
    TaskSet tasks(errors);
    tasks.add(Promise<void>(NEVER_DONE).attach(OnExit([&] {
      tasks.add(evalLater([&] { log += "never "; }).attach(Noted(log, "late")));
      log += "added ";
    })));
    tasks.clear();
    CHECK(log == "late added ");
    CHECK(tasks.isEmpty());
  }
  scope.poll();
  CHECK_FALSE(contains(log, "never"));
}

TEST_CASE_FIXTURE(SetTest, "a task's destructor may clear the set that is being cleared") {
  TaskSet tasks(errors);
  std::string log;
  tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  tasks.add(Promise<void>(NEVER_DONE).attach(OnExit([&] { tasks.clear(); })));
  tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "b")));
  tasks.clear();
  CHECK(log.size() == 4);
  CHECK(tasks.isEmpty());
  tasks.add(evalLater([&] { log += "on"; }));
  scope.poll();
  CHECK(contains(log, "on"));
}

TEST_CASE_FIXTURE(SetTest, "onEmpty is ready at once on an empty set") {
  TaskSet tasks(errors);
  CHECK(tasks.onEmpty().poll(scope));
}

TEST_CASE_FIXTURE(SetTest, "onEmpty waits for the last task, also when it fails or is cleared") {
  TaskSet tasks(errors);
  auto a = newPromiseAndFulfiller<void>();
  auto b = newPromiseAndFulfiller<void>();
  tasks.add(std::move(a.promise));
  tasks.add(std::move(b.promise));
  Promise<void> empty = tasks.onEmpty();
  CHECK_FALSE(empty.poll(scope));
  a.fulfiller->fulfill();
  SUBCASE("done") {
    takeAfter(empty, scope, [&] { b.fulfiller->fulfill(); });
  }
  SUBCASE("failed") {
    takeAfter(empty, scope, [&] { b.fulfiller->reject(Exception(Exception::Kind::FAILED, "x")); });
    CHECK(errors.seen.size() == 1);
  }
  SUBCASE("cleared") {
    takeAfter(empty, scope, [&] { tasks.clear(); });
  }
}

TEST_CASE_FIXTURE(SetTest, "onEmpty is fulfilled when the set is destroyed") {
  auto tasks = std::make_unique<TaskSet>(errors);
  tasks->add(NEVER_DONE);
  Promise<void> empty = tasks->onEmpty();
  takeAfter(empty, scope, [&] { tasks.reset(); });
}

TEST_CASE_FIXTURE(SetTest, "onEmpty of a set whose failing task's handler adds another waits for that one") {
  TaskSet tasks(errors);
  auto late = newPromiseAndFulfiller<void>();
  errors.also = [&] { tasks.add(std::move(late.promise)); };
  auto pair = newPromiseAndFulfiller<void>();
  tasks.add(std::move(pair.promise));
  Promise<void> empty = tasks.onEmpty();
  pair.fulfiller->reject(Exception(Exception::Kind::FAILED, "x"));
  takeAfter(empty, scope, [&] { late.fulfiller->fulfill(); });
}

TEST_CASE_FIXTURE(SetTest, "a second pending onEmpty throws, and one after a cancelled one does not") {
  TaskSet tasks(errors);
  tasks.add(NEVER_DONE);
  std::optional<Promise<void>> first = tasks.onEmpty();
  const Exception e = thrownBy([&] { (void)tasks.onEmpty(); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "onEmpty"));
  CHECK(fileOf(e) == "task_set_test.cc");
  first.reset();
  Promise<void> again = tasks.onEmpty();
  takeAfter(again, scope, [&] { tasks.clear(); });
}

TEST_CASE("an error handler that throws aborts and says what") {
  const ChildEnd end = runInChild([] {
    struct Throwing final : TaskSet::ErrorHandler {
      void taskFailed(Exception) override { throw std::runtime_error("from the handler"); }
    } handler;
    EventLoop loop;
    WaitScope scope(loop);
    TaskSet tasks(handler);
    tasks.add(evalLater([] { throw 1; }));
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK_MESSAGE(contains(end.errors, "the error handler of a TaskSet threw"), end.errors);
  CHECK(contains(end.errors, "from the handler"));
}

TEST_CASE_FIXTURE(SetTest, "adding a consumed promise throws and names the caller") {
  TaskSet tasks(errors);
  Promise<void> promise = READY_NOW;
  tasks.add(std::move(promise));
  const Exception e = thrownBy([&] { tasks.add(std::move(promise)); });
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "task_set_test.cc");
  CHECK(tasks.size() == 1);
}

TEST_CASE("adding to a set on a thread without a loop throws and names the caller") {
  NothingLeft nothingLeft;
  Errors errors;
  TaskSet tasks(errors);
  const Exception e = thrownBy([&] { tasks.add(READY_NOW); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "task_set_test.cc");
  CHECK(tasks.isEmpty());
}

TEST_CASE("destroying the set from one of its tasks aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    Errors errors;
    std::optional<TaskSet> tasks;
    tasks.emplace(errors);
    tasks->add(evalLater([&] { tasks.reset(); }));
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

TEST_CASE_FIXTURE(SetTest, "100 000 tasks run, and 100 000 pending ones are cancelled") {
  std::size_t ran = 0;
  const auto blocks = detail::liveBlocks();
  TaskSet tasks(errors);
  for (int i = 0; i < 100'000; ++i) tasks.add(evalLater([&] { ++ran; }));
  scope.poll();
  CHECK(ran == 100'000);
  CHECK(tasks.isEmpty());
  CHECK(detail::liveBlocks() == blocks);
  for (int i = 0; i < 100'000; ++i) tasks.add(NEVER_DONE);
  CHECK(tasks.size() == 100'000);
  tasks.clear();
  CHECK(detail::liveBlocks() == blocks);
}

TEST_CASE("sets inside tasks inside sets, 2 000 deep, are cancelled with the outermost") {
  onStackOf(8 * 1024 * 1024, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    Errors errors;
    auto outer = std::make_unique<TaskSet>(errors);
    for (int i = 0; i < 2'000; ++i) {
      auto next = std::make_unique<TaskSet>(errors);
      next->add(Promise<void>(NEVER_DONE).attach(std::move(outer)));
      outer = std::move(next);
    }
    outer.reset();
    CHECK(loop.liveEvents() == 0);
  });
}

TEST_CASE("cancelling a coroutine that owns a set at every step leaves nothing (R5)") {
  struct Quiet : TaskSet::ErrorHandler {
    std::size_t failures = 0;
    void taskFailed(Exception) override { ++failures; }
  };
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    Quiet handler;
    TaskSet tasks(handler);
    for (int i = 0; i < 4; ++i) {
      tasks.add([](int laps) -> Promise<void> {
        auto local = std::make_unique<int>(laps);
        for (int lap = 0; lap < *local; ++lap) co_await evalLater([] {});
        if (laps == 2) throw std::runtime_error("x");
      }(i));
    }
    co_await tasks.onEmpty();
    CHECK(handler.failures == 1);
    tasks.add(evalLast([] {}).attach(std::make_shared<int>(1)));
    co_await tasks.onEmpty();
  });
  CHECK(steps >= 8);
}

TEST_CASE_FIXTURE(LoopTest, "a task whose destructor destroys the set may be cleared") {
  struct Ignore : TaskSet::ErrorHandler {
    void taskFailed(Exception) override {}
  } handler;
  auto set = std::make_unique<TaskSet>(handler);
  int destroyed = 0;
  const auto end = [&](int*) {
    ++destroyed;
    set.reset();
  };
  int token = 0;
  set->add(Promise<void>(NEVER_DONE).attach(std::string("older")));
  set->add(Promise<void>(NEVER_DONE).attach(std::unique_ptr<int, decltype(end)>(&token, end)));
  TaskSet& raw = *set;
  raw.clear();
  CHECK(destroyed == 1);
  CHECK(set == nullptr);
}
