# SPDX-License-Identifier: MIT
# The promise benchmark: counts and times the operations of promise_bench.cc beside those of its peers.
"""Compares what promises and coroutines cost: instructions, heap allocations and time an operation.

Run it by `tools/bench promise`, which builds first. How each figure is taken:

instructions   callgrind's count between the beginning and the end of 1000 operations, after a warm-up,
               less that of as many passes through an empty loop. User mode only, malloc included: the
               same on every machine with the same compiler and libraries.
allocations    Calls of malloc and its relatives during those 1000 operations.
time           Google Benchmark's CPU time. In each round every case is timed once for each program, one
               program right after the other and in another order every round. Ratios are formed within
               a round, and their median is reported.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import (BenchError, ROOT, Table, busy_share, commit, limit_time, order_of_round, output_of, pattern,
                    processor, progress, system)

OPERATIONS = 1000
RUN_LIMIT = 120  # seconds for one start of a program
TOTAL_LIMIT = 30 * 60
EMPTY = "empty"
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


class Program:
    """A benchmark program: troth's or a peer's."""

    def __init__(self, name, path):
        self.name = name
        self.path = str(path)
        self.cases = self.output("--list").splitlines()
        self.version, self.compiler = self.output("--version").splitlines()

    def output(self, *arguments, prefix=()):
        command = [*prefix, self.path, *arguments]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=RUN_LIMIT, text=True)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} took longer than {RUN_LIMIT} s") from None
        except OSError as error:
            raise BenchError(f"cannot run {command[0]}: {error.strerror}") from None
        if done.returncode != 0:
            words = done.stderr.strip().splitlines() or ["(it printed nothing)"]
            raise BenchError(f"{self.name} ended with status {done.returncode}: {words[0]}")
        return done.stdout

    def count(self, cases):
        """Instructions and allocations per operation, for each case."""
        with tempfile.TemporaryDirectory(prefix="promise-bench-") as directory:
            profile = Path(directory) / "callgrind.out"
            # A dump at each end of counting, numbered from 1; the cases come in the program's own order.
            valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--zero-before=countingBegins",
                        "--dump-before=countingEnds", f"--callgrind-out-file={profile}"]
            lines = self.output("--count", EMPTY, *cases, str(OPERATIONS), prefix=valgrind).splitlines()
            counts = {}
            for number, line in enumerate(lines, 1):
                case, allocations = line.split("\t")
                dump = Path(f"{profile}.{number}").read_text()
                total = re.search(r"^totals: (\d+)", dump, re.M)
                if not total:
                    raise BenchError(f"{self.name}: callgrind wrote no count")
                counts[case] = int(total[1]) / OPERATIONS, float(allocations)
        loop = counts.pop(EMPTY)[0]
        return {case: (instructions - loop, allocations)
                for case, (instructions, allocations) in counts.items()}

    def time(self, case, seconds, prefix):
        """Nanoseconds of CPU time per operation."""
        text = self.output(f"--benchmark_filter=^{case}$", f"--benchmark_min_time={seconds}",
                           "--benchmark_format=json", prefix=prefix)
        return json.loads(text)["benchmarks"][0]["cpu_time"]


def time_in_rounds(programs, cases, options):
    """For each program and case the times of all rounds, None where the program lacks the case."""
    # The last core: the first one serves most interrupts.
    core = max(os.sched_getaffinity(0))
    prefix = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    times = {(name, case): [] for name in programs for case in cases}
    for number in range(options.rounds):
        progress(f"round {number + 1} of {options.rounds}")
        for case in cases:
            for name in order_of_round(list(programs), number):
                program = programs[name]
                measured = program.time(case, options.seconds, prefix) if case in program.cases else None
                times[name, case].append(measured)
    return times


# --- The table -----------------------------------------------------------------------------------


def number(value):
    return f"{value:,.0f}"


def few(value):
    """A small count, usually whole."""
    return f"{value:.0f}" if abs(value - round(value)) < 0.005 else f"{value:.2f}"


def median_ratio(mine, theirs):
    """The median of the ratios within each round, or None."""
    ratios = [a / b for a, b in zip(mine, theirs) if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


def make_table(programs, cases, counts, times):
    peers = [name for name in programs if name != SUBJECT]
    table = Table("operation", column_titles(programs, peers, times))
    for case, label, reference in CASES:
        if case not in cases:
            continue
        cells = {"KJ 2026": reference and number(reference)}
        for name in programs:
            instructions = counts[name].get(case, (None,))[0]
            if instructions is not None:
                cells[instruction_title(programs, name)] = number(instructions)
                if name == SUBJECT and reference:
                    cells["troth : KJ 2026"] = f"{instructions / reference:.2f}"
        allocations = [few(counts[name][case][1]) if case in counts[name] else "–" for name in programs]
        cells[allocation_title(programs)] = " / ".join(allocations)
        for name in programs if times else ():
            measured = [time for time in times[name, case] if time is not None]
            if not measured:
                continue
            cell = f"{statistics.median(measured):,.0f}"
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


def libc():
    match = re.search(r"[\d.]+$", output_of(["ldd", "--version"]) or "")
    return f"glibc {match[0]}" if match else ""


def describe(programs, options, busy):
    """The lines below the table: enough to run it again elsewhere and to doubt it here."""
    revision = commit(ROOT)
    compilers = sorted({program.compiler for program in programs.values()})
    kernel = re.match(r"[0-9.]*[0-9]", os.uname().release)[0]
    machine = [processor(), f"{len(os.sched_getaffinity(0))} cores", system(), f"Linux {kernel}",
               f"{' and '.join(compilers)} at -O2", libc(),
               *(program.version for name, program in programs.items() if name != SUBJECT)]
    if revision:
        machine.append(f"troth {revision}")
    machine.append(datetime.date.today().isoformat())
    if not options.instructions_only:
        machine.append(f"machine {max(busy, 0):.0%} busy with other things before the start")
    lines = [", ".join(filter(None, machine)) + "."]
    lines.append(f"Instructions (callgrind, user mode) and heap allocations: {OPERATIONS} operations after a "
                 "warm-up, the empty loop subtracted, `wait()` and malloc included.")
    lines.append("KJ 2026: KJ's source of 2026 built by clang 16 at -O2, a constant here. The KJ of the other column "
                 "is the distribution's library as it is packaged: older, without coroutines and arenas.")
    if "asio" in programs:
        lines.append("Asio's operation begins with `co_spawn` and ends with `io_context::run()`.")
    if not options.instructions_only:
        lines.append(f"Times: CPU time by Google Benchmark, median of {options.rounds} rounds of {options.seconds:g} s "
                     "a case; ratio: troth's time divided by the peer's, median of the ratios within each round.")
    lines.append("Command: `" + shlex.join(["tools/bench", "promise", *options.said]) + "`.")
    return lines


# --- The command line ----------------------------------------------------------------------------


def parse_options(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/bench promise",
        description="Counts and times promises and coroutines, and compares them with other libraries'.")
    parser.add_argument("--quick", action="store_true", help="less precise times")
    parser.add_argument("--rounds", type=int, help="rounds of the timed part (15; 3 if quick)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--only", type=pattern, metavar="REGEX", help="only the cases whose name has a match")
    parser.add_argument("--instructions-only", action="store_true", help="no times: seconds, and no noise")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "bench-clang++-16", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 3 if options.quick else 15
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.seconds = 0.02 if options.quick else 0.05
    options.said = arguments[2:] if arguments[:1] == ["--build"] else arguments
    return options


def find_programs(options):
    programs = {}
    for name in (SUBJECT, *PEERS):
        path = options.build / "bench" / ("promise_bench" if name == SUBJECT else f"promise_{name}")
        if path.exists():
            programs[name] = Program(name, path)
        elif name == SUBJECT:
            raise SystemExit(f"tools/bench: {path.name} has not been built (Debian: libbenchmark-dev)")
        else:
            progress(f"{name} is left out: not built for want of its library (Debian: {PEERS[name]})")
    return programs


def main(arguments):
    options = parse_options(arguments)
    limit_time(TOTAL_LIMIT)

    programs = find_programs(options)
    known = {case for case, _, _ in CASES} | {EMPTY}
    for program in programs.values():
        for case in sorted(set(program.cases) - known):
            raise SystemExit(f"tools/bench: {program.name} has a case that this script does not know: {case}")
    there = {case for program in programs.values() for case in program.cases}
    cases = [case for case, _, _ in CASES
             if case in there and (options.only is None or options.only.search(case))]
    if not cases:
        raise SystemExit("tools/bench: no such case; there are: " + ", ".join(case for case, _, _ in CASES))

    busy = 0 if options.instructions_only else busy_share()
    if busy > 0.1:
        progress(f"the machine is {busy:.0%} busy with other things: trust the instructions more than the times")
    counts = {}
    for name, program in programs.items():
        progress(f"instructions: {name}")
        wanted = [case for case in cases if case in program.cases]
        counts[name] = program.count(wanted) if wanted else {}
    times = None if options.instructions_only else time_in_rounds(programs, cases, options)

    print(make_table(programs, cases, counts, times).render(options.markdown))
    print()
    lines = describe(programs, options, busy)
    print("\n".join("- " + line for line in lines) if options.markdown else "\n".join(lines))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"tools/bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
