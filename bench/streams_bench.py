# SPDX-License-Identifier: MIT
# The streams benchmark: measures troth's pumps, and what idle connections hold, beside bare libuv.
"""Compares pumps: CPU time, system calls, instructions and throughput; and the memory of idle connections.

Run it by `tools/bench streams`, which builds first. How each figure is taken:

programs       streams_troth pumps by `pumpTo`; streams_libuv does by hand what the case needs, with buffers of the
               same size. A third program, streams_peer, starts the one that is measured, feeds it, takes what it
               sends and compares every byte with what it should be. In memory there is no peer: the yardstick is the
               one copy from the writer's memory to the reader's, without any library, and the bytes are compared
               during the warm-up.
rounds         In each round every case is run once with each program, one right after the other and in another order
               every round, alone on one core, with the peer on another. Ratios are formed within a round, and their
               median is reported.
CPU time       CLOCK_PROCESS_CPUTIME_ID of the measured program, all its threads, user mode and kernel, from the end
               of the warm-up to the last byte. What the peer takes is not in it.
system calls   `strace -c -f` on a short and on a long run; their difference, divided by the difference of the bytes.
instructions   The same difference, with callgrind: user mode only. Under both tools the program is slow, so that it
               finds its input full and its output empty more often than at full speed.
memory         Private dirty memory of an echo server with many and with few connections that have each echoed one
               message and are idle, as `tools/bench echo` measures it. What the kernel keeps is not in it.
"""

import dataclasses
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from command_line import Parser, print_lines, print_tables, run, status_after, warn_if_busy
from common import (BenchError, SYSTEM_CALL_KINDS, Table, busy_share, end_process, instructions_in, machine_line,
                    order_of_round, output_of, progress, quartiles, start, system_calls_in)
from echo_bench import Bench, idle_connections, measure_memory

MIB = 1024 * 1024
WARMUP = 8 * MIB
RUN_LIMIT = 120  # seconds for one run of a program
TOTAL_LIMIT = 30 * 60
SUBJECT = "troth"
IDLE = "idle"
IDLE_LABEL = "an idle connection"


@dataclasses.dataclass(frozen=True)
class Case:
    """Where the bytes come from and go to, and what is measured on the way."""

    name: str
    label: str
    arguments: tuple  # of the programs: what they pump, and its kind
    peer: tuple = ()  # arguments of streams_peer; none: there is no peer
    mib: int = 128  # in a round
    reads_file: bool = False
    yardsticks: tuple = ("libuv",)


SMALL_BUFFER = 16 * 1024
BY_SENDFILE = ("uv_fs_sendfile", "sendfile")  # other ways from a file to a socket
CASES = [
    Case("memory", "memory pipe to memory pipe", ("memory", 64 * 1024), mib=512),
    Case("memory-4k", "the same, 4 KiB a write", ("memory", 4 * 1024)),
    Case("unix", "Unix socket to Unix socket", ("sockets", "unix"), ("--input", "unix", "--output", "unix")),
    Case("unix-full", "the same, with a small send buffer", ("sockets", "unix"),
         ("--input", "unix", "--output", "unix", "--send-buffer", SMALL_BUFFER), mib=32),
    Case("tcp", "TCP to TCP", ("sockets", "tcp"), ("--input", "tcp", "--output", "tcp")),
    Case("file-unix", "file to Unix socket", ("file", "unix"), ("--output", "unix"), reads_file=True,
         yardsticks=("libuv", *BY_SENDFILE)),
    Case("file-tcp", "file to TCP", ("file", "tcp"), ("--output", "tcp"), reads_file=True,
         yardsticks=("libuv", *BY_SENDFILE)),
]


# --- Running -------------------------------------------------------------------------------------


class Pumps:
    """Runs the programs of the cases."""

    def __init__(self, bench, directory):
        self.bench = bench
        self.directory = directory
        programs = bench.options.build / "bench"
        self.peer = programs / "streams_peer"
        self.subject = programs / "streams_troth"
        self.yardstick = programs / "streams_libuv"

    def command(self, case, name, warmup, measured, tool):
        what, kind = case.arguments
        if name in BY_SENDFILE:
            what = name
        program = [*tool, self.subject if name == SUBJECT else self.yardstick, what, kind, warmup, measured]
        total = warmup + measured
        source = []
        if case.reads_file:
            path = self.directory / f"{total}.bytes"
            program.append(path)
            source = ["--file", path]
        program = self.bench.on_core(self.bench.server_core, program)
        if not case.peer:
            return program
        return self.bench.on_core(self.bench.load_core,
                                  [self.peer, *case.peer, *source, "--bytes", total, "--", *program])

    def run(self, case, name, warmup, measured, tool=()):
        """Pumps so many bytes and gives what the program says of it. Fails unless all bytes came as they should."""
        process = start(self.command(case, name, warmup, measured, tool), stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = process.communicate(timeout=RUN_LIMIT)
        except subprocess.TimeoutExpired:
            end_process(process)
            raise BenchError(f"it took longer than {RUN_LIMIT} s") from None
        if process.returncode != 0:
            words = errors.strip().splitlines() or ["(it printed nothing)"]
            raise BenchError(f"it ended with status {process.returncode}: {words[0]}")
        costs = json.loads(output)
        if costs["bytes"] < 0.9 * measured:
            raise BenchError(f"only {costs['bytes']} bytes of {measured} were counted")
        return costs

    def measure_costs(self, case, name):
        mib = max(case.mib // 4, 16) if self.bench.options.quick else case.mib
        costs = self.run(case, name, WARMUP, mib * MIB)
        pumped = costs["bytes"] / MIB
        return {"cpu": costs["cpu_ns"] / 1e3 / pumped, "rate": pumped / (costs["wall_ns"] / 1e9)}

    def system_calls(self, case, name, mib):
        report = self.directory / "strace.txt"
        self.run(case, name, 0, mib * MIB, ["strace", "-f", "-c", "-o", report])
        return system_calls_in(report)

    def measure_system_calls(self, case, name):
        """System calls per MiB, by kind: medians over the repetitions."""
        few, many = self.bench.options.strace_mib
        samples = []
        for _ in range(self.bench.options.repeats):
            short, long = self.system_calls(case, name, few), self.system_calls(case, name, many)
            calls = {kind: (long[kind] - short[kind]) / (many - few) for kind in short}
            samples.append(calls | {"total": sum(calls.values())})
        return {kind: statistics.median(calls[kind] for calls in samples) for kind in samples[0]}

    def instructions(self, case, name, mib):
        log = self.directory / "callgrind.log"
        self.run(case, name, 0, mib * MIB, ["valgrind", "--tool=callgrind", f"--log-file={log}",
                                            f"--callgrind-out-file={self.directory / 'callgrind.out'}"])
        return instructions_in(log)

    def measure_instructions(self, case, name):
        """User-mode instructions per MiB: the median over the repetitions."""
        few, many = self.bench.options.callgrind_mib
        return statistics.median((self.instructions(case, name, many) - self.instructions(case, name, few))
                                 / (many - few) for _ in range(self.bench.options.repeats))


def measure_pumps(pumps, cases, complaints):
    """For each case and program its figures: a list of rounds, system calls, instructions. Less what has failed."""
    figures = {(case, name): {"rounds": []} for case in cases for name in (SUBJECT, *case.yardsticks)}
    failed = set()

    def attempt(case, name, what, measure):
        if (case, name) in failed:
            return None
        try:
            return measure(case, name)
        except (BenchError, OSError) as error:
            failed.add((case, name))
            complaints.append(f"{case.name}, {name}, {what}: {error}")
            return None

    rounds = pumps.bench.options.rounds
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for case in cases:
            for name in order_of_round([SUBJECT, *case.yardsticks], number):
                costs = attempt(case, name, f"round {number + 1}", pumps.measure_costs)
                figures[case, name]["rounds"].append(costs)
    for (case, name), figure in figures.items():
        progress(f"system calls and instructions: {case.name}, {name}")
        figure["calls"] = attempt(case, name, "system calls", pumps.measure_system_calls)
        figure["instructions"] = attempt(case, name, "instructions", pumps.measure_instructions)
    return figures


# --- The tables ----------------------------------------------------------------------------------


def ratio_of_rounds(mine, theirs):
    ratios = [a["cpu"] / b["cpu"] for a, b in zip(mine, theirs) if a and b]
    if not ratios:
        return None
    low, middle, high = quartiles(ratios)
    return f"{middle:.2f}× ({low:.2f}–{high:.2f})"


def pair(figures, form):
    """Two figures in one cell, troth's first."""
    return " / ".join("–" if value is None else form(value) for value in figures)


def median_of_rounds(figure, key):
    values = [costs[key] for costs in figure["rounds"] if costs]
    return statistics.median(values) if values else None


def make_table(cases, figures):
    ratio, cpu, calls, instructions, rate = titles = [
        "CPU to libuv", "CPU, µs/MiB", "system calls/MiB", "instructions/MiB", "MiB/s"]
    table = Table("pump: troth / libuv", titles)
    for case in cases:
        for yardstick in case.yardsticks:
            both = figures[case, SUBJECT], figures[case, yardstick]
            label = case.label if yardstick == "libuv" else f"  beside {yardstick}"
            table.add(label, {
                ratio: ratio_of_rounds(both[0]["rounds"], both[1]["rounds"]),
                cpu: pair([median_of_rounds(figure, "cpu") for figure in both], lambda v: f"{v:,.0f}"),
                calls: pair([figure["calls"] and figure["calls"]["total"] for figure in both], lambda v: f"{v:.1f}"),
                instructions: pair([figure["instructions"] for figure in both], lambda v: f"{v:,.0f}"),
                rate: pair([median_of_rounds(figure, "rate") for figure in both], lambda v: f"{v:,.0f}"),
            })
    return table


def make_call_table(cases, figures):
    """What the system calls are."""
    kinds = [*SYSTEM_CALL_KINDS, "other"]
    table = Table("system calls/MiB: troth / libuv", kinds)
    for case in cases:
        if not case.peer:
            continue
        for yardstick in case.yardsticks:
            both = figures[case, SUBJECT]["calls"], figures[case, yardstick]["calls"]
            label = case.label if yardstick == "libuv" else f"  beside {yardstick}"
            table.add(label, {kind: pair([calls and calls[kind] for calls in both], lambda v: f"{v + 0.0:.1f}")
                              for kind in kinds})
    return table


def measure_idle(bench, complaints):
    options = bench.options
    servers = {"libuv": options.build / "bench" / "echo_libuv", SUBJECT: options.build / "examples" / "echo_server"}
    table = Table("memory, bytes", [*servers, "troth over libuv"])
    values = {}
    for name, path in servers.items():
        progress(f"memory of idle connections: {name}")
        try:
            values[name] = measure_memory(bench, [str(path), "--port", "0"])
        except (BenchError, OSError) as error:
            complaints.append(f"{IDLE}, {name}: {error}")
    cells = {name: f"{value:,.0f}" for name, value in values.items()}
    if len(values) == len(servers):
        cells["troth over libuv"] = f"{values[SUBJECT] - values['libuv']:,.0f}"
    table.add(IDLE_LABEL, cells)
    return table


def describe(bench, cases, idle, busy):
    """The lines below the tables: enough to run it again elsewhere and to doubt it here."""
    options = bench.options
    programs = options.build / "bench"
    lines = [machine_line([output_of([str(programs / "streams_peer"), "--version"]) or "compiler unknown",
                           output_of([str(programs / "streams_libuv"), "--version"])], busy)]
    if cases:
        place = (f"all threads of the measured program on core {bench.server_core}, its peer on core {bench.load_core}"
                 if bench.pinned else "not pinned to cores")
        lines.append(f"{options.rounds} rounds, {place}; ratios of CPU time: median (and quartiles) of the ratios "
                     "within each round. MiB/s is bounded by the slower side, at times the peer.")
        lines.append("System calls: strace -c -f. Instructions: callgrind. Both: a long run less a short one.")
    if any(not case.peer for case in cases):
        lines.append("In memory the yardstick is the one memcpy that a reader needs, without any library.")
    if any("--send-buffer" in case.peer for case in cases):
        lines.append(f"With a small send buffer (SO_SNDBUF of {SMALL_BUFFER}) no write of 64 KiB is taken at once.")
    if idle:
        few, many = options.idle
        lines.append(f"Memory: private dirty memory of an echo server at {many} connections less that at {few}, each "
                     "after one echo, for each connection; the kernel's part is not in it.")
    lines.append(f"Command: `{options.command}`.")
    return lines


# --- The command line ----------------------------------------------------------------------------


def parse_options(arguments):
    parser = Parser("streams", "Compares troth's pumps, and the memory of its idle connections, with bare libuv.",
                    quick="about a minute, and less precise", rounds=(" of the timed part", 15, 3),
                    epilog="The cases: " + ", ".join([*(case.name for case in CASES), IDLE]) + ".")
    parser.add_only("cases whose name")
    options = parser.options(arguments)
    options.repeats = 1 if options.quick else 3
    options.strace_mib = (2, 10) if options.quick else (2, 34)
    options.callgrind_mib = (2, 6) if options.quick else (2, 18)
    # What the servers and the load of `tools/bench echo` want to know.
    options.size, options.connections = 64, 64
    options.idle = idle_connections(1_000, 11_000)
    return options


def main(arguments):
    options = parse_options(arguments)
    wanted = [name for name in [*(case.name for case in CASES), IDLE]
              if options.only is None or options.only.search(name)]
    if not wanted:
        raise SystemExit("tools/bench: no such case; there are: " + ", ".join([*(case.name for case in CASES), IDLE]))
    cases = [case for case in CASES if case.name in wanted]
    idle = IDLE in wanted

    busy = busy_share()
    warn_if_busy(busy, "the ratios, the instructions and the system calls")
    bench = Bench(options)
    complaints = []
    tables = []
    if cases:
        with tempfile.TemporaryDirectory(prefix="streams-bench-") as directory:
            figures = measure_pumps(Pumps(bench, Path(directory)), cases, complaints)
        tables.append(make_table(cases, figures))
        if any(case.peer for case in cases):
            tables.append(make_call_table(cases, figures))
    if idle:
        tables.append(measure_idle(bench, complaints))

    print_tables(tables, options)
    lines = describe(bench, cases, idle, busy)
    print_lines(lines, options)
    return status_after(complaints)


if __name__ == "__main__":
    run(main, TOTAL_LIMIT)
