# SPDX-License-Identifier: MIT
# The connect benchmark: what a connection costs to accept and to make, and a datagram to echo, beside bare libuv.
"""Compares servers that accept connections, clients that make them, and echoes of datagrams: CPU time, rate,
instructions, system calls.

Run it by `tools/bench connect`, which builds first. A connection carries one message there and back, and ends; or,
for what accepting costs alone, none. The servers are those of `tools/bench echo`, and figures are taken as
echo_bench.py says, for a connection instead of a message. Of a client:

CPU time       The process's own (CLOCK_PROCESS_CPUTIME_ID), after a warm-up, for a fixed number of connections to the
               yardstick's server, which has the other core.
the rest       `strace -c -f` and callgrind on the client: a long run less a short one.

Each part of the benchmark is a function that gives a table; see PARTS.
"""

import copy
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from command_line import Parser, print_lines, print_tables, run, status_after
from common import (BenchError, SYSTEM_CALL_KINDS, Table, busy_share, instructions_in, machine_line, median_cells,
                    order_of_round, output_of, paired_ratio_cells, progress, start, system_calls_in, with_ratio)
from echo_bench import (YARDSTICK, Bench, Server, find_servers, measure_each, measure_instructions,
                        measure_system_calls, only_those_that_start, run_rounds)

CLIENT_LIMIT = 120  # seconds for one run of a client
TOTAL_LIMIT = 30 * 60


# --- Accepting -----------------------------------------------------------------------------------


def accept_bench(options, size):
    options = copy.copy(options)
    options.size = size
    return Bench(options, ["--reconnect"])


def accepting(options, complaints):
    """Servers: the CPU time of one whole connection, with a message and without."""
    with_message, without = accept_bench(options, options.size), accept_bench(options, 0)
    servers = only_those_that_start(with_message, find_servers(options, complaints), complaints)
    table = Table(f"accepting, {options.connections} clients at a time", servers)
    add_rounds(table, f"with {options.size} bytes there and back", "server CPU",
               run_rounds(with_message, servers, complaints))
    add_rounds(table, "without a message", "server CPU", run_rounds(without, servers, complaints))
    with tempfile.TemporaryDirectory(prefix="connect-bench-") as name:
        directory = Path(name)
        add_counts(table, options,
                   measure_each(servers, "instructions",
                                lambda command: measure_instructions(with_message, command, directory), complaints),
                   measure_each(servers, "system calls",
                                lambda command: measure_system_calls(with_message, command, directory), complaints))
    return table


# --- Connecting ----------------------------------------------------------------------------------


class Clients:
    """Runs clients against the yardstick's server."""

    def __init__(self, options, directory):
        self.options = options
        self.bench = Bench(options)
        self.server = [str(options.build / "bench" / "echo_libuv"), "--port", "0"]
        self.directory = directory

    def run(self, program, count, warmup=0, tool=()):
        """What a client says of itself."""
        options = self.options
        with Server(self.bench, self.server) as server:
            command = [*tool, program, "--port", server.port, "--count", count, "--warmup", warmup,
                       "--size", options.size, "--parallel", options.parallel]
            command = self.bench.on_core(self.bench.load_core, command)
            process = start(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                output, errors = process.communicate(timeout=CLIENT_LIMIT)
            except subprocess.TimeoutExpired:
                raise BenchError(f"the client took longer than {CLIENT_LIMIT} s") from None
        if process.returncode != 0:
            raise BenchError(errors.decode(errors="replace").strip() or f"the client ended with {process.returncode}")
        return json.loads(output)

    def measure_round(self, program):
        result = self.run(program, self.options.client_count, warmup=self.options.client_count // 10)
        return {"cpu": result["cpu_seconds"] * 1e6 / result["connections"],
                "rate": result["connections"] / result["seconds"]}

    def instructions(self, program, count):
        log = self.directory / "callgrind.log"
        self.run(program, count, tool=["valgrind", "--tool=callgrind", f"--log-file={log}",
                                       f"--callgrind-out-file={self.directory / 'callgrind.out'}"])
        return {"instructions": instructions_in(log)}

    def system_calls(self, program, count):
        report = self.directory / "strace.txt"
        self.run(program, count, tool=["strace", "-f", "-c", "-o", report])
        calls = system_calls_in(report)
        return calls | {"total": sum(calls.values())}

    def per_connection(self, measure, program, counts):
        """A long run less a short one: medians over the repetitions."""
        few, many = counts
        samples = []
        for _ in range(self.options.repeats):
            short, long = measure(program, few), measure(program, many)
            samples.append({key: (long[key] - short[key]) / (many - few) for key in short})
        return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def client_rounds(clients, programs, complaints):
    figures = {name: [] for name in programs}
    for number in range(clients.options.rounds):
        progress(f"round {number + 1} of {clients.options.rounds}")
        for name in order_of_round(list(programs), number):
            try:
                figures[name].append(clients.measure_round(programs[name]))
            except (BenchError, OSError) as error:
                complaints.append(f"{name}, connecting, round {number + 1}: {error}")
                figures[name].append(None)
    return figures


def connecting(options, complaints):
    """Clients: the CPU time of making a connection, exchanging a message and closing."""
    programs = {name: options.build / "bench" / f"connect_{name}" for name in (YARDSTICK, "troth")}
    table = Table(f"connecting, {options.parallel} at a time", programs)
    with tempfile.TemporaryDirectory(prefix="connect-bench-") as name:
        clients = Clients(options, Path(name))
        add_rounds(table, f"with {options.size} bytes there and back", "client CPU",
                   client_rounds(clients, programs, complaints))
        instructions = measure_each(
            programs, "instructions of connecting",
            lambda program: clients.per_connection(clients.instructions, program, options.callgrind_messages),
            complaints)
        calls = measure_each(
            programs, "system calls of connecting",
            lambda program: clients.per_connection(clients.system_calls, program, options.strace_messages), complaints)
    add_counts(table, options, {name: value["instructions"] for name, value in instructions.items()}, calls)
    return table


# --- Datagrams -----------------------------------------------------------------------------------


def datagrams(options, complaints):
    """Servers: the CPU time of a datagram that is received and sent back."""
    bench = Bench(options, ["--datagrams"])
    servers = {YARDSTICK: [str(options.build / "bench" / "udp_libuv")],
               "troth": [str(options.build / "examples" / "udp_echo"), "127.0.0.1:0"]}
    servers = only_those_that_start(bench, servers, complaints)
    table = Table(f"UDP: an echo to {options.connections} clients at a time", servers)
    add_rounds(table, f"{options.size} bytes there and back", "server CPU", run_rounds(bench, servers, complaints),
               what_counts="datagrams")
    with tempfile.TemporaryDirectory(prefix="connect-bench-") as name:
        directory = Path(name)
        add_counts(table, options,
                   measure_each(servers, "instructions of datagrams",
                                lambda command: measure_instructions(bench, command, directory), complaints),
                   measure_each(servers, "system calls of datagrams",
                                lambda command: measure_system_calls(bench, command, directory), complaints))
    return table


# What is measured, by the name that --only takes.
PARTS = {"accepting": accepting, "connecting": connecting, "datagrams": datagrams}


# --- Rows ----------------------------------------------------------------------------------------


def add_rounds(table, what, whose, figures, what_counts="connections"):
    table.add(f"{what}: {whose}, µs", median_cells(figures, "cpu", lambda value: f"{value:.1f}"))
    table.add("  CPU to libuv in the same round", paired_ratio_cells(figures, "cpu", YARDSTICK))
    table.add(f"  {what_counts} per second", median_cells(figures, "rate", lambda value: f"{value:,.0f}"))
    table.add("  rate to libuv in the same round", paired_ratio_cells(figures, "rate", YARDSTICK))


def add_counts(table, options, instructions, calls):
    table.add(f"user-mode instructions, with {options.size} bytes",
              with_ratio(instructions, lambda value: f"{value:,.0f}", YARDSTICK))
    totals = {name: counts["total"] for name, counts in calls.items()}
    table.add(f"system calls, with {options.size} bytes", with_ratio(totals, lambda value: f"{value:.2f}", YARDSTICK))
    for kind in [*SYSTEM_CALL_KINDS, "other"]:
        table.add(f"  {kind}", {name: f"{round(counts[kind], 2) + 0.0:.2f}" for name, counts in calls.items()})


def describe(options, busy):
    """The lines below the tables."""
    bench = Bench(options)
    place = (f"servers on core {bench.server_core}, clients on core {bench.load_core}" if bench.pinned
             else "not pinned to cores")
    return [
        machine_line([output_of([str(options.build / "bench" / "echo_load"), "--version"]) or "compiler unknown",
                      output_of([str(options.build / "bench" / "echo_libuv"), "--version"])], busy),
        f"{options.rounds} rounds, {place}; ratios: median (and quartiles) of the ratios within each round. Rates are "
        "bounded by the slower side, which is the client; the CPU time is that of the one that is measured.",
        "System calls: strace -c -f. Instructions: callgrind, user mode. Both: a long run less a short one.",
        f"Command: `{options.command}`.",
    ]


# --- The command line ----------------------------------------------------------------------------


def parse_options(arguments):
    parser = Parser("connect",
                    "What a connection costs to accept and to make, and a datagram to echo, beside bare libuv.",
                    quick="less than a minute, and less precise", rounds=(" of the timed parts", 25, 5))
    parser.add_argument("--only", choices=PARTS, help="one of the tables")
    options = parser.options(arguments)
    options.peer = []
    options.size, options.connections, options.parallel = 64, 64, 16
    options.seconds = 0.4 if options.quick else 0.7
    options.warmup = options.connections * 10
    options.client_count = 2_000 if options.quick else 5_000
    options.callgrind_messages = (640, 2_560) if options.quick else (640, 6_400)
    options.strace_messages = (320, 1_280) if options.quick else (640, 3_200)
    options.repeats = 1 if options.quick else 3
    return options


def main(arguments):
    options = parse_options(arguments)
    busy = busy_share()
    complaints = []
    for name, part in PARTS.items():
        if options.only in (None, name):
            print_tables([part(options, complaints)], options)
    print_lines(describe(options, busy), options)
    return status_after(complaints)


if __name__ == "__main__":
    run(main, TOTAL_LIMIT)
