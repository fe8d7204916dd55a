// SPDX-License-Identifier: MIT
// The promise benchmark: what promises, coroutines and what is built of them cost. `tools/bench promise` runs it.

// The same cases, under the same names, are written for the peers in peers/promise_kj.cc and peers/promise_asio.cc.
#include "case_runner.h"
#include "operations.h"

namespace {

using namespace troth::bench;

void empty(World& world) {
  keep(world.count);
  expect(world.count == 0);
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, "troth " TROTH_VERSION,
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<ready>("ready", world),
                             bench::makeCase<immediate>("immediate", world),
                             bench::makeCase<then>("then", world),
                             bench::makeCase<then10>("then_10", world),
                             bench::makeCase<thenPromise>("then_promise", world),
                             bench::makeCase<coroutine>("coroutine", world),
                             bench::makeCase<coroutineAwaitsReady>("await_ready", world),
                             bench::makeCase<coroutineAwaitsCoroutine>("await_coroutine", world),
                             bench::makeCase<coroutineAwaits100Coroutines>("await_100_coroutines", world),
                             bench::makeCase<recursion20>("recursion_20", world),
                             bench::makeCase<rejected>("rejected", world),
                             bench::makeCase<fulfiller>("fulfiller", world),
                             bench::makeCase<coroutineAwaitsFulfiller>("await_fulfiller", world),
                             bench::makeCase<adaptedCancelled>("adapted_cancelled", world),
                             bench::makeCase<fork2>("fork_2", world),
                             bench::makeCase<exclusiveJoin>("exclusive_join", world),
                             bench::makeCase<join10>("join_10", world),
                             bench::makeCase<join10Variadic>("join_10_variadic", world),
                             bench::makeCase<race10>("race_10", world),
                             bench::makeCase<taskSet>("task_set", world),
                             bench::makeCase<taskSetReady>("task_set_ready", world),
                             bench::makeCase<evalLater>("eval_later", world),
                             bench::makeCase<canceler>("canceler", world),
                             bench::makeCase<queue>("queue", world),
                         });
}
