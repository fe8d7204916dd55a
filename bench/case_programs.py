# SPDX-License-Identifier: MIT
# The programs that case_runner.h makes: their cases counted by callgrind, and timed in interleaved rounds.
"""What promise_bench.py and timers_bench.py share. How each figure is taken:

instructions   callgrind's count between the beginning and the end of some operations, after a warm-up,
               less that of as many passes through an empty loop. User mode only, malloc included: the
               same on every machine with the same compiler and libraries.
allocations    Calls of malloc and its relatives during those operations.
time           Google Benchmark's CPU time. In each round every case is timed once for each program, one
               program right after the other and in another order every round. Ratios are formed within
               a round, and their median is reported.
"""

import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from command_line import Parser
from common import BenchError, ROOT, commit, order_of_round, output_of, processor, progress, system

OPERATIONS = 1000
RUN_LIMIT = 120  # seconds for one start of a program
EMPTY = "empty"


def case_options(arguments, benchmark, description, without_times):
    """The command line; `without_times`: what a run that takes no times is like."""
    parser = Parser(benchmark, description, quick="less precise times", rounds=(" of the timed part", 15, 3),
                    build="bench-clang++-16")
    parser.add_only("cases whose name")
    parser.add_instructions_only(without_times)
    options = parser.options(arguments)
    options.seconds = 0.02 if options.quick else 0.05
    return options


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

    def count(self, cases, operations=OPERATIONS):
        """Instructions and allocations per operation, for each case."""
        with tempfile.TemporaryDirectory(prefix="troth-bench-") as directory:
            profile = Path(directory) / "callgrind.out"
            # A dump at each end of counting, numbered from 1; the cases come in the program's own order.
            valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--zero-before=countingBegins",
                        "--dump-before=countingEnds", f"--callgrind-out-file={profile}"]
            lines = self.output("--count", EMPTY, *cases, str(operations), prefix=valgrind).splitlines()
            counts = {}
            for number, line in enumerate(lines, 1):
                case, allocations = line.split("\t")
                dump = Path(f"{profile}.{number}").read_text()
                total = re.search(r"^totals: (\d+)", dump, re.M)
                if not total:
                    raise BenchError(f"{self.name}: callgrind wrote no count")
                counts[case] = int(total[1]) / operations, float(allocations)
        loop = counts.pop(EMPTY)[0]
        return {case: (instructions - loop, allocations)
                for case, (instructions, allocations) in counts.items()}

    def time(self, case, seconds, prefix):
        """Nanoseconds of CPU time per operation."""
        text = self.output(f"--benchmark_filter=^{case}$", f"--benchmark_min_time={seconds}",
                           "--benchmark_format=json", prefix=prefix)
        return json.loads(text)["benchmarks"][0]["cpu_time"]


def find_programs(build, files, packages):
    """The programs that have been built, by name; the first of `files` must have been."""
    programs = {}
    for name, file in files.items():
        path = build / "bench" / file
        if path.exists():
            programs[name] = Program(name, path)
        elif not programs:
            raise SystemExit(f"tools/bench: {file} has not been built (Debian: libbenchmark-dev)")
        else:
            progress(f"{name} is left out: not built for want of its library (Debian: {packages[name]})")
    return programs


def require_known(programs, cases):
    for program in programs.values():
        for case in sorted(set(program.cases) - set(cases) - {EMPTY}):
            raise SystemExit(f"tools/bench: {program.name} has a case that this script does not know: {case}")


def time_in_rounds(programs, cases, rounds, seconds):
    """For each program and case the times of all rounds, None where the program lacks the case."""
    # The last core: the first one serves most interrupts.
    core = max(os.sched_getaffinity(0))
    prefix = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    times = {(name, case): [] for name in programs for case in cases}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for case in cases:
            for name in order_of_round(list(programs), number):
                program = programs[name]
                measured = program.time(case, seconds, prefix) if case in program.cases else None
                times[name, case].append(measured)
    return times


# --- Figures in words ----------------------------------------------------------------------------


def whole(value):
    return f"{value:,.0f}"


def few(value):
    """A small count, usually whole."""
    return f"{value:.0f}" if abs(value - round(value)) < 0.005 else f"{value:.2f}"


def median_of(times):
    """The median of what was measured, or None."""
    measured = [time for time in times if time is not None]
    return statistics.median(measured) if measured else None


def median_ratio(mine, theirs):
    """The median of the ratios within each round, or None."""
    ratios = [a / b for a, b in zip(mine, theirs) if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


def libc():
    match = re.search(r"[\d.]+$", output_of(["ldd", "--version"]) or "")
    return f"glibc {match[0]}" if match else ""


def machine(programs, busy):
    """What was measured, and on what; `busy` is None if no time was."""
    revision = commit(ROOT)
    compilers = sorted({program.compiler for program in programs.values()})
    kernel = re.match(r"[0-9.]*[0-9]", os.uname().release)[0]
    _, *peers = programs.values()
    parts = [processor(), f"{len(os.sched_getaffinity(0))} cores", system(), f"Linux {kernel}",
             f"{' and '.join(compilers)} at -O2", libc(), *(program.version for program in peers)]
    if revision:
        parts.append(f"troth {revision}")
    parts.append(datetime.date.today().isoformat())
    if busy is not None:
        parts.append(f"machine {max(busy, 0):.0%} busy with other things before the start")
    return ", ".join(filter(None, parts)) + "."
