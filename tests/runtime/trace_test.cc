// SPDX-License-Identifier: MIT
// Traces: of promises, of what runs, of exceptions, through every sort of step; their bounds.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <charconv>
#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

unsigned here(std::source_location where = std::source_location::current()) { return where.line(); }

/// A trace as "step+N" words, N being the number of lines below `base`; one ">" for each level of indentation. A step
/// without a place is its name in brackets.
std::string outline(std::string_view trace, unsigned base) {
  std::string words;
  while (!trace.empty()) {
    const std::size_t end = trace.find('\n');
    std::string_view line = trace.substr(0, end);
    trace.remove_prefix(end == std::string_view::npos ? trace.size() : end + 1);
    if (!words.empty()) words += ' ';
    for (; line.starts_with("  "); line.remove_prefix(2)) words += '>';
    const std::size_t at = line.find(" at ");
    if (at == std::string_view::npos) {
      words += '[' + std::string(line) + ']';
      continue;
    }
    const std::size_t colon = line.find(".cc:", at);
    unsigned number = 0;
    if (colon != std::string_view::npos) std::from_chars(line.data() + colon + 4, line.data() + line.size(), number);
    words += std::string(line.substr(0, at)) + '+' + std::to_string(number - base);
  }
  return words;
}

std::size_t linesOf(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += c == '\n' ? 1 : 0;
  return count;
}

struct Errors final : TaskSet::ErrorHandler {
  std::vector<Exception> seen;
  std::function<void()> also;
  void taskFailed(Exception exception) override {
    seen.push_back(std::move(exception));
    if (also) also();
  }
};

Promise<int> innermost(Promise<int> promise) {
  co_return co_await std::move(promise);
}
constexpr unsigned INNERMOST = __LINE__ - 2;

Promise<int> middle(Promise<int> promise) {
  co_return co_await innermost(std::move(promise));
}
constexpr unsigned MIDDLE = __LINE__ - 2;

/// Lines of the coroutines above, relative to a test.
std::string coroutines(unsigned base) {
  return "coroutine+" + std::to_string(INNERMOST - base) + " coroutine+" + std::to_string(MIDDLE - base);
}

} // namespace

// ------------------------------------------------------------------------------------ Promise::trace

TEST_CASE_FIXTURE(LoopTest, "a trace line names the step, its file, line and function") {
  const unsigned base = here();
  Promise<int> promise = evalLater([] { return 1; });
  CHECK(contains(promise.trace(), "then at tests/runtime/trace_test.cc:" + std::to_string(base + 1) + " in "));
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a chain has its steps, the last first, to what it began with") {
  const unsigned base = here();
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = std::move(pair.promise)
                             .then([](int x) { return x; })
                             .attach(1)
                             .catch_([](Exception) { return 1; })
                             .then([](int x) -> Promise<int> { return x; })
                             .eagerlyEvaluate(nullptr);
  const std::string steps = outline(promise.trace(), base);
  CAPTURE(promise.trace());
  CHECK(steps.starts_with("eagerlyEvaluate+"));
  CHECK(contains(steps, "then, for a promise+"));
  CHECK(steps.ends_with("fulfiller+1"));
  CHECK(linesOf(promise.trace()) == 6);
}

TEST_CASE_FIXTURE(LoopTest, "tracing does not consume, run or change anything") {
  int ran = 0;
  Promise<int> promise = evalLater([&] { return ++ran; });
  const std::string before = promise.trace();
  CHECK(promise.trace() == before);
  CHECK(ran == 0);
  CHECK(promise.poll(scope));
  CHECK(std::move(promise).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a constant names it, and of a consumed promise says so") {
  CHECK(Promise<void>(READY_NOW).trace() == "READY_NOW\n");
  CHECK(Promise<int>(NEVER_DONE).trace() == "NEVER_DONE\n");
  CHECK(contains(constPromise<int, 1>().trace(), "constPromise"));
  CHECK(linesOf(yield().trace()) == 1);
  CHECK(linesOf(yieldUntilQueueEmpty().trace()) == 1);
  CHECK(linesOf(yieldUntilWouldSleep().trace()) == 1);
  Promise<int> promise = 1;
  CHECK(contains(promise.trace(), "value at"));
  std::move(promise).wait(scope);
  CHECK(contains(promise.trace(), "consumed"));
  CHECK(contains(Promise<int>(Exception(Kind::FAILED, "x")).trace(), "failed promise at"));
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a coroutine says where it waits, and for what") {
  const unsigned base = here();
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = middle(std::move(pair.promise));
  CHECK(outline(promise.trace(), base) == "coroutine+" + std::to_string(MIDDLE - base) + " coroutine+" +
                                              std::to_string(INNERMOST - base) + " fulfiller+1");
  CHECK(contains(promise.trace(), "innermost"));
  CHECK(contains(promise.trace(), "middle"));
}

TEST_CASE_FIXTURE(LoopTest, "the trace of joins indents what they wait for") {
  const unsigned base = here();
  auto a = newPromiseAndFulfiller<int>();
  auto b = newPromiseAndFulfiller<int>();
  std::vector<Promise<int>> parts;
  parts.push_back(std::move(a.promise).then([](int x) { return x; }));
  parts.push_back(std::move(b.promise));
  SUBCASE("joinPromises") {
    const unsigned line = here() - base;
    auto all = joinPromises(std::move(parts));
    CHECK(outline(all.trace(), base) == "joinPromises+" + std::to_string(line + 1) + " >then+4 >fulfiller+1 >fulfiller+2");
  }
  SUBCASE("joinPromisesFailFast") {
    const unsigned line = here() - base;
    auto all = joinPromisesFailFast(std::move(parts));
    CHECK(outline(all.trace(), base) == "joinPromisesFailFast+" + std::to_string(line + 1) + " >then+4 >fulfiller+1 >fulfiller+2");
  }
  SUBCASE("raceSuccessful") {
    const unsigned line = here() - base;
    auto race = raceSuccessful(std::move(parts));
    CHECK(outline(race.trace(), base) == "raceSuccessful+" + std::to_string(line + 1) + " >then+4 >fulfiller+1 >fulfiller+2");
  }
  SUBCASE("exclusiveJoin") {
    const unsigned line = here() - base;
    auto join = std::move(parts[0]).exclusiveJoin(std::move(parts[1]));
    CHECK(outline(join.trace(), base) == "exclusiveJoin+" + std::to_string(line + 1) + " >then+4 >fulfiller+1 >fulfiller+2");
  }
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a join has only the parts that are still waited for") {
  const unsigned base = here();
  auto a = newPromiseAndFulfiller<int>();
  auto b = newPromiseAndFulfiller<int>();
  std::vector<Promise<int>> parts;
  parts.push_back(std::move(a.promise));
  parts.push_back(std::move(b.promise));
  auto all = joinPromisesFailFast(std::move(parts));
  a.fulfiller->fulfill(1);
  scope.poll();
  CHECK(contains(outline(all.trace(), base), "fulfiller+2"));
  CHECK_FALSE(contains(outline(all.trace(), base), "fulfiller+1"));
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a branch goes on through its fork") {
  const unsigned base = here();
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).then([](int x) { return x; }).fork();
  Promise<int> branch = fork.addBranch();
  CHECK(outline(branch.trace(), base) == "branch+3 fork+2 then+2 fulfiller+1");
  auto parts = evalLater([] { return std::tuple(1, 2); }).split();
  CHECK(contains(outline(std::get<1>(parts).trace(), base), "fork+5 then+5"));
}

TEST_CASE_FIXTURE(LoopTest, "the trace of wrapped work names the wrapping") {
  const unsigned base = here();
  Canceler canceler;
  Promise<void> promise = canceler.wrap(Promise<void>(NEVER_DONE));
  CHECK(outline(promise.trace(), base) == "Canceler::wrap+2 [NEVER_DONE]");
}

TEST_CASE_FIXTURE(LoopTest, "a trace is bounded, and says that it left something out") {
  Promise<int> chain = NEVER_DONE;
  for (int i = 0; i < 1000; ++i) chain = std::move(chain).then([](int x) { return x; });
  CHECK(linesOf(chain.trace()) < 100);
  CHECK(contains(chain.trace(), "…"));
  std::vector<Promise<int>> parts;
  for (int i = 0; i < 1000; ++i) parts.push_back(NEVER_DONE);
  Promise<std::vector<int>> join = joinPromises(std::move(parts));
  CHECK(linesOf(join.trace()) < 100);
  CHECK(contains(join.trace(), "…"));
  Promise<int> shortOne = Promise<int>(NEVER_DONE).then([](int x) { return x; });
  CHECK_FALSE(contains(shortOne.trace(), "…"));
}

TEST_CASE_FIXTURE(LoopTest, "tracing what shares its forks over and over ends soon") {
  // 60 diamonds in a row: 2^60 ways to the bottom.
  Promise<int> tower = NEVER_DONE;
  for (int i = 0; i < 60; ++i) {
    ForkedPromise<int> fork = std::move(tower).fork();
    tower = fork.addBranch().exclusiveJoin(fork.addBranch());
  }
  CHECK(linesOf(tower.trace()) < 100);
}

TEST_CASE_FIXTURE(LoopTest, "tracing a join of 100 000 promises looks at few of them") {
  std::vector<Promise<int>> parts;
  for (int i = 0; i < 100'000; ++i) parts.push_back(NEVER_DONE);
  Promise<std::vector<int>> join = joinPromises(std::move(parts));
  for (int i = 0; i < 100; ++i) CHECK(linesOf(join.trace()) < 100);
}

// ------------------------------------------------------------------------------------ getAsyncTrace

TEST_CASE_FIXTURE(LoopTest, "outside of the loop nothing is being computed") {
  CHECK(getAsyncTrace().empty());
  evalLater([] {}).wait(scope);
  CHECK(getAsyncTrace().empty());
}

TEST_CASE("without a loop nothing is being computed") { CHECK(getAsyncTrace().empty()); }

TEST_CASE_FIXTURE(LoopTest, "a continuation's trace has what it computes and what waits for that, to the wait()") {
  const unsigned base = here();
  std::string trace;
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(1);
  Promise<int> promise = std::move(pair.promise)
                             .then([&](int x) {
                               trace = getAsyncTrace();
                               return x;
                             });
  Promise<int> more = std::move(promise).then([](int x) { return x; });
  std::move(more).wait(scope);
  CAPTURE(trace);
  const std::string steps = outline(trace, base);
  CHECK(steps.starts_with("then+"));
  CHECK(steps.ends_with("then+9 wait+10"));
  CHECK(linesOf(trace) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "an event's continuation names the promise for a promise that it is part of") {
  const unsigned base = here();
  std::string trace;
  Promise<int> promise = evalLater([&]() -> Promise<int> { trace = getAsyncTrace(); return 1; }); // its line
  Promise<int> last = std::move(promise).then([](int x) { return x; });
  std::move(last).wait(scope);
  CHECK_MESSAGE(outline(trace, base) == "then+2 then, for a promise+2 then+3 wait+4", trace);
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine's trace has the coroutines that wait for it") {
  const unsigned base = here();
  std::string trace;
  auto traced = [&]() -> Promise<int> {
    co_await yield();
    trace = getAsyncTrace();
    co_return 1;
  };
  middle(traced()).wait(scope);
  CHECK_MESSAGE(outline(trace, base) == "coroutine+3 " + coroutines(base) + " wait+7", trace);
}

TEST_CASE_FIXTURE(LoopTest, "a trace goes up through forks, joins, races and eager work") {
  const unsigned base = here();
  std::string trace;
  auto traced = [&]() -> Promise<int> {
    co_await yield();
    trace = getAsyncTrace();
    co_return 1;
  };
  SUBCASE("a fork") {
    ForkedPromise<int> fork = traced().fork();
    Promise<int> branch = fork.addBranch().then([](int x) { return x; });
    std::move(branch).wait(scope);
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3 fork+8 then+9 wait+10", trace);
  }
  SUBCASE("an exclusiveJoin") {
    Promise<int> join = traced().exclusiveJoin(NEVER_DONE);
    std::move(join).wait(scope);
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3 exclusiveJoin+14 wait+15", trace);
  }
  SUBCASE("a join") {
    std::vector<Promise<int>> parts;
    parts.push_back(traced());
    auto all = joinPromisesFailFast(std::move(parts));
    std::move(all).wait(scope);
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3 joinPromisesFailFast+21 wait+22", trace);
  }
  SUBCASE("eager work") {
    Promise<int> eager = traced().eagerlyEvaluate(nullptr);
    std::move(eager).wait(scope);
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3 eagerlyEvaluate+26 wait+27", trace);
  }
  SUBCASE("wrapped work") {
    Canceler canceler;
    Promise<int> wrapped = canceler.wrap(traced());
    std::move(wrapped).wait(scope);
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3 Canceler::wrap+32 wait+33", trace);
  }
  SUBCASE("nobody") {
    Promise<int> alone = traced();
    scope.poll();
    CHECK_MESSAGE(outline(trace, base) == "coroutine+3", trace);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a trailing continuation of a join is traced to the join and who asked for it") {
  const unsigned base = here();
  std::string trace;
  std::vector<Promise<int>> parts;
  parts.push_back(Promise<int>(1).then([&](int x) { trace = getAsyncTrace(); return x; })); // its line
  Promise<std::vector<int>> all = joinPromises(std::move(parts));
  std::move(all).wait(scope);
  CHECK_MESSAGE(contains(outline(trace, base), "then+3"), trace);
  CHECK_MESSAGE(outline(trace, base).ends_with("wait+5"), trace);
  CHECK_MESSAGE(contains(outline(trace, base), "joinPromises+4"), trace);
}

TEST_CASE_FIXTURE(LoopTest, "a task's trace ends with the task's place") {
  const unsigned base = here();
  Errors errors;
  TaskSet tasks(errors);
  std::string trace;
  tasks.add(evalLater([&] { trace = getAsyncTrace(); })); // its line
  scope.poll();
  CHECK_MESSAGE(outline(trace, base) == "then+4 task+4", trace);
}

TEST_CASE_FIXTURE(LoopTest, "what has ended is not blamed for what runs after it") {
  Errors errors;
  TaskSet tasks(errors);
  std::string trace = "none";
  evalLater([] {}).wait(scope); // a wait that is over
  errors.also = [&] { trace = getAsyncTrace(); };
  tasks.add(evalLater([] { throw 1; }));
  scope.poll();
  CHECK_FALSE(contains(trace, "wait"));
}

// ---------------------------------------------------------------------------------- Exception::trace

TEST_CASE_FIXTURE(LoopTest, "an exception from a continuation knows what waited for it") {
  const unsigned base = here();
  Promise<int> promise = evalLater([]() -> int { throw std::runtime_error("x"); });
  Promise<int> more = std::move(promise).then([](int x) { return x; }).then([](int x) { return x; });
  const Result<int> result = std::move(more).asResult().wait(scope);
  CHECK_MESSAGE(outline(result.error().trace(), base) == "then+1 then+2 then+2 wait+3", result.error().trace());
}

TEST_CASE_FIXTURE(LoopTest, "an exception that a fulfiller gives knows the chain that waited for it") {
  const unsigned base = here();
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = middle(std::move(pair.promise).then([](int x) { return x; })).eagerlyEvaluate(nullptr);
  scope.poll();
  pair.fulfiller->reject(Exception(Kind::FAILED, "x"));
  const Exception e = failureOf(std::move(promise), scope);
  CHECK_MESSAGE(outline(e.trace(), base) == "fulfiller+1 then+2 " + coroutines(base) + " eagerlyEvaluate+2", e.trace());
}

TEST_CASE_FIXTURE(LoopTest, "an exception from a coroutine knows the coroutines that waited for it, and keeps that on the way up") {
  const unsigned base = here();
  auto failing = []() -> Promise<int> {
    co_await yield();
    throw std::out_of_range("x");
  };
  const Result<int> result = middle(failing()).asResult().wait(scope);
  CHECK_MESSAGE(outline(result.error().trace(), base) == "coroutine+2 " + coroutines(base) + " wait+5", result.error().trace());
}

TEST_CASE_FIXTURE(LoopTest, "an exception that reaches a task set knows its task") {
  const unsigned base = here();
  Errors errors;
  TaskSet tasks(errors);
  tasks.add(evalLater([] { throw std::runtime_error("x"); })); // its line
  scope.poll();
  REQUIRE(errors.seen.size() == 1);
  CHECK_MESSAGE(outline(errors.seen[0].trace(), base) == "then+3 task+3", errors.seen[0].trace());
}

TEST_CASE_FIXTURE(LoopTest, "an exception that nobody waited for has no trace, nor has one that was never thrown") {
  CHECK(Exception(Kind::FAILED, "x").trace().empty());
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->reject(Exception(Kind::FAILED, "x"));
  CHECK(failureOf(std::move(pair.promise), scope).trace().empty());
}

TEST_CASE_FIXTURE(LoopTest, "giving one exception to several promises gives each a trace of its own, and leaves it as it was") {
  const unsigned base = here();
  const Exception e(Kind::OVERLOADED, "shared");
  auto a = newPromiseAndFulfiller<int>();
  auto b = newPromiseAndFulfiller<int>();
  Promise<int> first = std::move(a.promise).eagerlyEvaluate(nullptr);
  Promise<int> second = innermost(std::move(b.promise)).eagerlyEvaluate(nullptr);
  scope.poll();
  a.fulfiller->reject(e);
  b.fulfiller->reject(e);
  CHECK(e.trace().empty());
  CHECK_MESSAGE(outline(failureOf(std::move(first), scope).trace(), base) == "fulfiller+2 eagerlyEvaluate+4", base);
  const Exception seen = failureOf(std::move(second), scope);
  CHECK(contains(outline(seen.trace(), base), "fulfiller+3 coroutine+"));
  CHECK(seen.description() == "shared");
  CHECK(kindName(seen) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "branches of a failed fork share the trace of the failure") {
  const unsigned base = here();
  ForkedPromise<int> fork = evalLater([]() -> int { throw std::runtime_error("x"); }).fork();
  Promise<int> a = fork.addBranch();
  Promise<int> b = fork.addBranch();
  const Result<int> first = std::move(a).asResult().wait(scope);
  const Result<int> second = std::move(b).asResult().wait(scope);
  CHECK_MESSAGE(outline(first.error().trace(), base).starts_with("then+1 fork+1 "), first.error().trace());
  CHECK(second.error().trace() == first.error().trace());
}

TEST_CASE_FIXTURE(LoopTest, "a deep failure's trace is bounded") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = std::move(pair.promise);
  for (int i = 0; i < 10'000; ++i) promise = innermost(std::move(promise));
  CHECK_FALSE(promise.poll(scope));
  pair.fulfiller->reject(Exception(Kind::FAILED, "x"));
  const Exception e = failureOf(std::move(promise), scope);
  CHECK(linesOf(e.trace()) >= 16);
  CHECK(linesOf(e.trace()) < 100);
}

// ----------------------------------------------------------------------------------- lists of tasks

TEST_CASE_FIXTURE(LoopTest, "a set and its loop list what each task waits for") {
  const unsigned base = here();
  Errors errors;
  TaskSet tasks(errors);
  CHECK(tasks.trace().empty());
  tasks.add(middle(NEVER_DONE).ignoreResult());
  tasks.add(Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr));
  scope.poll();
  for (const std::string& trace : {tasks.trace(), loop.traceTasks()}) {
    CAPTURE(trace);
    CHECK(contains(outline(trace, base), "task+4"));
    CHECK(contains(outline(trace, base), "task+5"));
    CHECK(contains(trace, "innermost"));
    CHECK(contains(trace, "middle"));
    CHECK(contains(outline(trace, base), "eagerlyEvaluate+5"));
  }
  tasks.clear();
  CHECK(tasks.trace().empty());
  CHECK_FALSE(contains(loop.traceTasks(), "task"));
}

TEST_CASE_FIXTURE(LoopTest, "a loop lists the tasks of all its sets and what was detached") {
  Errors errors;
  TaskSet first(errors);
  TaskSet second(errors);
  const unsigned base = here();
  first.add(NEVER_DONE);
  second.add(NEVER_DONE);
  Promise<void>(NEVER_DONE).detach([](Exception) {});
  const std::string steps = outline(loop.traceTasks(), base);
  CAPTURE(steps);
  CHECK(contains(steps, "task+1"));
  CHECK(contains(steps, "task+2"));
  CHECK(contains(steps, "task+3"));
}
