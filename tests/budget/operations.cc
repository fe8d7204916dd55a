// SPDX-License-Identifier: MIT
// The table of what operations allocate.
#include "operations.h"

namespace troth::budget {
namespace {

// What is on the heap: the body of an exception; a vector of promises, which the caller makes; a vector of values,
// which is the result of a join.
constexpr Operation ALL[] = {
    {"ready", 0, bench::ready},
    {"immediate", 0, bench::immediate},
    {"then", 0, bench::then},
    {"then_10", 0, bench::then10},
    {"then_50", 0, bench::then50},
    {"then_promise", 0, bench::thenPromise},
    {"catch_nothing", 0, bench::catchNothing},
    {"rejected", 1, bench::rejected},
    {"as_result", 0, bench::asResult},
    {"as_failed_result", 1, bench::asFailedResult},
    {"attach", 0, bench::attach},
    {"ignore_result", 0, bench::ignoreResult},
    {"eagerly_evaluate", 0, bench::eagerlyEvaluate},
    {"const_promise", 0, bench::constPromise},

    {"eval_now", 0, bench::evalNow},
    {"eval_later", 0, bench::evalLater},
    {"eval_last", 0, bench::evalLast},
    {"yields", 0, bench::yields},
    {"retry_on_disconnect", 1, bench::retryOnDisconnect},
    {"poll", 0, bench::poll},

    {"coroutine", 0, bench::coroutine},
    {"await_ready", 0, bench::coroutineAwaitsReady},
    {"await_coroutine", 0, bench::coroutineAwaitsCoroutine},
    {"await_100_coroutines", 0, bench::coroutineAwaits100Coroutines},
    {"recursion_20", 0, bench::recursion20},
    {"await_fork", 0, bench::coroutineAwaitsFork},
    {"coroutine_cancelled", 0, bench::coroutineCancelled},
    {"await_failure_as_result", 1, bench::coroutineTakesFailure},
    {"co_capture", 0, bench::coCapture},

    {"fulfiller", 0, bench::fulfiller},
    {"fulfiller_of_promise", 0, bench::fulfillerOfPromise},
    {"await_fulfiller", 0, bench::coroutineAwaitsFulfiller},
    {"adapted", 0, bench::adapted},
    {"adapted_cancelled", 0, bench::adaptedCancelled},

    {"fork_2", 0, bench::fork2},
    {"split_2", 0, bench::split2},
    {"exclusive_join", 0, bench::exclusiveJoin},
    {"join_10_all", 1, bench::join10All},
    {"join_10", 1, bench::join10},
    {"join_10_variadic", 0, bench::join10Variadic},
    {"join_3_variadic", 0, bench::join3Variadic},
    {"join_values", 2, bench::joinValues},
    {"join_values_fail_fast", 3, bench::joinValuesFailFast},
    {"race_10", 1, bench::race10},
    {"race_2_variadic", 0, bench::race2Variadic},

    {"task_set", 0, bench::taskSet},
    {"task_set_ready", 0, bench::taskSetReady},
    {"task_set_empty", 0, bench::taskSetEmpty},
    {"task_set_cleared", 0, bench::taskSetCleared},
    {"detach", 0, bench::detach},
    {"canceler", 0, bench::canceler},
    {"canceler_releases", 0, bench::cancelerReleases},

    {"queue", 0, bench::queue},
    {"queue_awaited", 0, bench::queueAwaited},
    {"channel", 0, bench::channel},
    {"channel_full", 0, bench::channelFull},
    {"mutex", 0, bench::mutex},
    {"semaphore", 0, bench::semaphore},

    {"timer", 0, bench::timer},
    {"timer_cancelled", 0, bench::timerCancelled},
    {"timeout_not_reached", 0, bench::timeoutNotReached},
};

} // namespace

std::span<const Operation> operations() noexcept { return ALL; }

} // namespace troth::budget
