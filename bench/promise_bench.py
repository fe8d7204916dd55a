# SPDX-License-Identifier: MIT
# The promise benchmark: counts and times the operations of promise_bench.cc beside those of its peers.
"""Compares what promises and coroutines cost: instructions, heap allocations and time an operation.

Run it by `tools/bench promise`, which builds first. How each figure is taken stands in case_programs.py.
"""


from case_programs import (OPERATIONS, case_options, find_programs, few, machine, median_of, median_ratio,
                           require_known, time_in_rounds, whole)
from command_line import print_lines, print_tables, run, warn_if_busy
from common import Table, busy_share, progress

TOTAL_LIMIT = 30 * 60
SUBJECT = "troth"
PEERS = {"kj": "libcapnp-dev", "asio": "libasio-dev"}

# The cases: name, what it is, and the instructions that KJ's source of 2026 takes for it (clang 16 -O2, the same way
# of counting; measured once, since no distribution has it).
CASES = [
    ("ready", "ready promise, wait", 300),
    ("immediate", "immediate value, wait", 486),
    ("then", "one then", 611),
    ("then_10", "ten thens", 1877),
    ("then_promise", "then returning a promise", 1166),
    ("coroutine", "coroutine: co_return 42", 597),
    ("await_ready", "co_await of a ready promise", 863),
    ("await_coroutine", "co_await of an immediate coroutine", 1164),
    ("await_100_coroutines", "100 × co_await of an immediate coroutine", 50584),
    ("recursion_20", "coroutine recursion, 20 deep", 15007),
    ("rejected", "rejected promise into an error handler", 2043),
    ("fulfiller", "fulfiller pair, fulfil, wait", 718),
    ("await_fulfiller", "coroutine suspended on a fulfiller, fulfil, wait", 1309),
    ("adapted_cancelled", "adapted promise, cancelled", 178),
    ("fork_2", "fork, 2 branches, wait for both", 1783),
    ("exclusive_join", "exclusiveJoin(immediate, NEVER_DONE)", 862),
    ("join_10", "joinPromisesFailFast of 10 ready promises", 4455),
    ("join_10_variadic", "  the same, variadic", None),
    ("race_10", "raceSuccessful of 10 immediate values", 6014),
    ("task_set", "TaskSet: add a coroutine, poll", 1028),
    ("task_set_ready", "TaskSet: add a ready promise, poll", 735),
    ("eval_later", "evalLater", 592),
    ("canceler", "Canceler: wrap an immediate value, wait", 1310),
    ("queue", "ProducerConsumerQueue: push, pop", 715),
]


# --- The table -----------------------------------------------------------------------------------


def make_table(programs, cases, counts, times):
    peers = [name for name in programs if name != SUBJECT]
    table = Table("operation", column_titles(programs, peers, times))
    for case, label, reference in CASES:
        if case not in cases:
            continue
        cells = {"KJ 2026": reference and whole(reference)}
        for name in programs:
            instructions = counts[name].get(case, (None,))[0]
            if instructions is not None:
                cells[instruction_title(programs, name)] = whole(instructions)
                if name == SUBJECT and reference:
                    cells["troth : KJ 2026"] = f"{instructions / reference:.2f}"
        allocations = [few(counts[name][case][1]) if case in counts[name] else "–" for name in programs]
        cells[allocation_title(programs)] = " / ".join(allocations)
        for name in programs if times else ():
            measured = median_of(times[name, case])
            if measured is None:
                continue
            cell = whole(measured)
            ratio = median_ratio(times[SUBJECT, case], times[name, case])
            if name != SUBJECT and ratio is not None:
                cell += f" ({ratio:.2f})"
            cells[time_title(programs, name)] = cell
        table.add(label, cells)
    return table


def instruction_title(programs, name):
    return "instructions: troth" if name == SUBJECT else programs[name].version


def allocation_title(programs):
    return "allocations: " + " / ".join({"kj": "KJ", "asio": "Asio"}.get(name, name) for name in programs)


def time_title(programs, name):
    return "ns: troth" if name == SUBJECT else f"ns: {programs[name].version} (ratio)"


def column_titles(programs, peers, times):
    titles = [instruction_title(programs, SUBJECT), "KJ 2026", "troth : KJ 2026",
              *(instruction_title(programs, name) for name in peers), allocation_title(programs)]
    return titles + ([time_title(programs, name) for name in programs] if times else [])


def describe(programs, options, busy):
    """The lines below the table: enough to run it again elsewhere and to doubt it here."""
    lines = [machine(programs, None if options.instructions_only else busy)]
    lines.append(f"Instructions (callgrind, user mode) and heap allocations: {OPERATIONS} operations after a "
                 "warm-up, the empty loop subtracted, `wait()` and malloc included.")
    lines.append("KJ 2026: KJ's source of 2026 built by clang 16 at -O2, a constant here. The KJ of the other column "
                 "is the distribution's library as it is packaged: older, without coroutines and arenas.")
    if "asio" in programs:
        lines.append("Asio's operation begins with `co_spawn` and ends with `io_context::run()`.")
    if not options.instructions_only:
        lines.append(f"Times: CPU time by Google Benchmark, median of {options.rounds} rounds of {options.seconds:g} s "
                     "a case; ratio: troth's time divided by the peer's, median of the ratios within each round.")
    lines.append(f"Command: `{options.command}`.")
    return lines


def main(arguments):
    options = case_options(
        arguments, "promise", "Counts and times promises and coroutines, and compares them with other libraries'.",
        without_times="no times: seconds, and no noise")

    files = {SUBJECT: "promise_bench", **{name: f"promise_{name}" for name in PEERS}}
    programs = find_programs(options.build, files, PEERS)
    require_known(programs, [case for case, _, _ in CASES])
    there = {case for program in programs.values() for case in program.cases}
    cases = [case for case, _, _ in CASES
             if case in there and (options.only is None or options.only.search(case))]
    if not cases:
        raise SystemExit("tools/bench: no such case; there are: " + ", ".join(case for case, _, _ in CASES))

    busy = 0 if options.instructions_only else busy_share()
    warn_if_busy(busy, "the instructions")
    counts = {}
    for name, program in programs.items():
        progress(f"instructions: {name}")
        wanted = [case for case in cases if case in program.cases]
        counts[name] = program.count(wanted) if wanted else {}
    times = None if options.instructions_only else time_in_rounds(programs, cases, options.rounds, options.seconds)

    print_tables([make_table(programs, cases, counts, times)], options)
    lines = describe(programs, options, busy)
    print_lines(lines, options)
    return 0


if __name__ == "__main__":
    run(main, TOTAL_LIMIT)
