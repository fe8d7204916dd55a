# SPDX-License-Identifier: MIT
# The timer benchmark: counts and times setting, cancelling and firing of 100 000 timers beside that of peers.
"""Compares what timers cost: time, instructions and heap allocations for each.

Run it by `tools/bench timers`, which builds first. How each figure is taken stands in case_programs.py. What all
programs do alike (deadlines that look random and are the same in each) stands in timer_workload.h; each checks that
every timer that is to fire has done so once, and that no other has.
"""


from case_programs import (case_options, find_programs, few, machine, median_of, median_ratio, require_known,
                           time_in_rounds, whole)
from command_line import print_lines, print_tables, run, warn_if_busy
from common import Table, busy_share, progress

TOTAL_LIMIT = 30 * 60
SUBJECT = "troth"
FILES = {SUBJECT: "timer_bench", "libuv": "timer_libuv", "kj": "timer_kj", "asio": "timer_asio"}
PACKAGES = {"libuv": "libuv1-dev", "kj": "libcapnp-dev", "asio": "libasio-dev"}
TIMERS = 100_000  # also the operations that are counted

# The cases: name, and what it is.
CASES = [
    ("set_cancel", "100,000 pending: set one more, cancel it"),
    ("delay_cancel", "  the same, by a delay from now"),
    ("queue_set_cancel", "  the same, the queue alone"),
    ("replace", "100,000 pending: cancel any one, set another"),
    ("queue_replace", "  the same, the queue alone"),
    ("rearm", "none but one, which is set anew"),
    ("fire", "100,000 set, all fire, a continuation each"),
    ("fire_awaited", "  the same, a coroutine each"),
    ("queue_fire", "  the same, the queue alone, nobody waits"),
]


def make_table(programs, cases, counts, times):
    titles = {name: program.version if name != SUBJECT else SUBJECT for name, program in programs.items()}
    short = " / ".join({"kj": "KJ", "asio": "Asio"}.get(name, name) for name in programs)
    time_titles = {name: f"ns: {title}" for name, title in titles.items()}
    table = Table("for each timer", [*(time_titles.values() if times else ()), f"instructions: {short}",
                                     f"allocations: {short}"])

    def row_of(case, index, form):
        return " / ".join(form(counts[name][case][index]) if case in counts[name] else "–" for name in programs)

    for case, label in CASES:
        if case not in cases:
            continue
        cells = {f"instructions: {short}": row_of(case, 0, whole), f"allocations: {short}": row_of(case, 1, few)}
        for name in programs if times else ():
            measured = median_of(times[name, case])
            if measured is None:
                continue
            cells[time_titles[name]] = whole(measured)
            if name != SUBJECT:
                cells[time_titles[name]] += f" ({median_ratio(times[name, case], times[SUBJECT, case]):.1f}×)"
        table.add(label, cells)
    return table


def describe(programs, options, busy):
    """The lines below the table: enough to run it again elsewhere and to doubt it here."""
    lines = [machine(programs, None if options.instructions_only else busy)]
    if not options.instructions_only:
        lines.append(f"Times: CPU time by Google Benchmark, median of {options.rounds} rounds of {options.seconds:g} s "
                     "a case; in parentheses the median of the ratios to troth's time in the same round.")
    lines.append(f"Instructions (callgrind, user mode) and heap allocations: {TIMERS:,} operations after a warm-up, "
                 "the empty loop subtracted, malloc included.")
    lines.append("Pending timers have random deadlines in one to two hours; those that fire, within 50 ms, which pass "
                 "before the loop runs. Deadlines and delays are nanoseconds, but milliseconds for libuv.")
    lines.append("troth: a promise for each timer. KJ: the same, on a `TimerImpl` without a loop that polls. libuv: "
                 "initialised handles, a callback each. Asio: `steady_timer`s that are there already, a handler each, "
                 "which runs for a wait that is cancelled, too; a coroutine has a timer of its own.")
    lines.append(f"Command: `{options.command}`.")
    return lines


def main(arguments):
    options = case_options(
        arguments, "timers", "Counts and times timers that are set, cancelled and fire, beside other libraries'.",
        without_times="no times: less than a minute, and no noise")
    programs = find_programs(options.build, FILES, PACKAGES)
    require_known(programs, [case for case, _ in CASES])
    cases = [case for case, _ in CASES if options.only is None or options.only.search(case)]
    if not cases:
        raise SystemExit("tools/bench: no such case; there are: " + ", ".join(case for case, _ in CASES))

    busy = 0 if options.instructions_only else busy_share()
    warn_if_busy(busy, "the instructions")
    counts = {}
    for name, program in programs.items():
        progress(f"instructions: {name}")
        counts[name] = program.count([case for case in cases if case in program.cases], TIMERS)
    times = None
    if not options.instructions_only:
        times = time_in_rounds(programs, cases, options.rounds, options.seconds)

    print_tables([make_table(programs, cases, counts, times)], options)
    lines = describe(programs, options, busy)
    print_lines(lines, options)
    return 0


if __name__ == "__main__":
    run(main, TOTAL_LIMIT)
