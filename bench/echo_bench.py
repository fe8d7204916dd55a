# SPDX-License-Identifier: MIT
# The echo benchmark: measures troth's echo server beside the libuv yardstick and its peers.
"""Compares echo servers: CPU time, throughput, system calls, instructions and memory.

Run it by `tools/bench echo`, which builds first. How each figure is taken:

rounds         In each round every server is started anew, alone on one core, with the load
               generator on another; every round has another order. Ratios are formed within a
               round, between neighbours in time, and their median is reported: what disturbs the
               machine for longer than a round disturbs both sides of a ratio. A server compared
               with itself (`--peer again=...`) shows how far a ratio is to be believed.
CPU time       The scheduler's own count in nanoseconds (the first number of
               /proc/PID/task/*/schedstat), read when all connections are open and warm, and again
               when the last echo has come. Both times the server sleeps, so the count is settled.
               (utime and stime in /proc/PID/stat have a resolution of 10 ms.)
system calls   `strace -c -f` on a short and on a long run. The difference, divided by the
               difference of the messages, is free of start-up and shut-down.
instructions   The same difference, with callgrind: user mode only, the same on every machine up to
               how many connections were ready each time the server looked.
memory         Private dirty memory (/proc/PID/smaps_rollup) with many and with few connections
               that have each echoed one message and are idle. What the kernel keeps is not in it.
"""

import contextlib
import json
import os
import re
import resource
import select
import shlex
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from command_line import Parser, print_lines, print_tables, run as run_benchmark, status_after, warn_if_busy
from common import (BenchError, STOP_LIMIT, SYSTEM_CALL_KINDS, Table, busy_share, child_of, end_process, end_tracer,
                    instructions_in, machine_line, median_cells, order_of_round, output_of, paired_ratio_cells,
                    progress, quartiles, start, system_calls_in, with_ratio)

YARDSTICK = "libuv"
START_LIMIT = 30  # seconds until a server says where it listens (under valgrind too)
LOAD_LIMIT = 120  # seconds for the part of a load that is a count of messages
TOTAL_LIMIT = 30 * 60


# --- Processes -----------------------------------------------------------------------------------


class Bench:
    """What all measurements share: where the programs are, the cores, and the size of the load."""

    def __init__(self, options, load_arguments=(), load_program="echo_load"):
        self.options = options
        self.load_arguments = list(load_arguments)
        self.load_program = options.build / "bench" / load_program
        cores = sorted(os.sched_getaffinity(0))
        self.pinned = len(cores) > 1 and shutil.which("taskset") is not None
        self.server_core, self.load_core = (cores[0], cores[1]) if self.pinned else (None, None)

    def on_core(self, core, command):
        return ["taskset", "-c", core, *command] if self.pinned else command

    def load_command(self, port, *arguments):
        options = self.options
        command = [self.load_program, "--port", port, "--size", options.size]
        if "--idle" not in arguments:
            command += ["--connections", options.connections]
        return self.on_core(self.load_core, command + self.load_arguments + list(arguments))


class Server:
    """A server under test, from its start until it has ended. Use it as a context manager."""

    def __init__(self, bench, command, tool=(), traced=False):
        self.command = command
        self.traced = traced  # the tool is the server's parent (strace), not its shell (valgrind)
        self.pid = None
        self.port = None
        self.output = tempfile.TemporaryFile("w+")
        self.process = start(
            bench.on_core(bench.server_core, list(tool) + command),
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT)

    def __enter__(self):
        try:
            self.wait_until_listening()
        except BaseException:
            self.stop()
            self.output.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        status = self.stop()
        words = self.last_words()
        self.output.close()
        if kind is None and status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise BenchError(f"the server ended with status {status}: {words}")

    def wait_until_listening(self):
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            # pread: the file's offset belongs to the server, which writes there.
            text = os.pread(self.output.fileno(), 65536, 0).decode(errors="replace")
            match = re.search(r"listening on \S*:(\d+)", text)
            if match:
                self.port = int(match[1])
                self.pid = child_of(self.process.pid) if self.traced else self.process.pid
                return
            if self.process.poll() is not None:
                raise BenchError(f"the server did not start: {self.last_words()}")
            time.sleep(0.01)
        raise BenchError("the server did not say `listening on ADDRESS:PORT`")

    def last_words(self):
        text = os.pread(self.output.fileno(), 65536, 0).decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "(it printed nothing)"

    def stop(self):
        return end_tracer(self.process) if self.traced else end_process(self.process)

    def cpu_ns(self):
        """Nanoseconds that the server's threads have run."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def private_bytes(self):
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Private_Dirty:\s+(\d+) kB", rollup, re.M)[1]) * 1024


class Load:
    """A load generator that is talked to line by line. Use it as a context manager."""

    def __init__(self, bench, port, *arguments):
        self.process = start(
            bench.load_command(port, *arguments),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # lets it close its connections and end
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        end_process(self.process)
        self.process.stdout.close()
        self.process.stderr.close()

    def line(self, limit):
        deadline = time.monotonic() + limit
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise BenchError(f"the load generator took longer than {limit:.0f} s")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                reason = self.process.stderr.read().decode(errors="replace").strip()
                raise BenchError(reason or "the load generator ended early")
            self.pending += more
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def expect_ready(self):
        if self.line(LOAD_LIMIT) != "ready":
            raise BenchError("the load generator did not get ready")

    def go(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def result(self, limit):
        result = json.loads(self.line(limit))
        if result["errors"] or not result["messages"]:
            raise BenchError(f"{result['errors']} connections failed")
        return result


def exchange(bench, server, messages):
    with Load(bench, server.port, "--messages", str(messages)) as load:
        result = load.result(LOAD_LIMIT)
    if result["messages"] != messages:
        raise BenchError(f"{result['messages']} messages of {messages} were exchanged")


# --- Measurements --------------------------------------------------------------------------------


def measure_round(bench, command):
    """One server under full load: throughput, latency and CPU time per message."""
    options = bench.options
    with Server(bench, command) as server, \
         Load(bench, server.port, "--seconds", str(options.seconds),
              "--warmup", str(options.warmup), "--gate") as load:
        load.expect_ready()
        time.sleep(0.02)  # until the server sleeps
        before = server.cpu_ns()
        load.go()
        result = load.result(options.seconds + LOAD_LIMIT)
        time.sleep(0.02)
        after = server.cpu_ns()
    return {
        "rate": result["messages_per_second"],
        "p50": result["p50_us"],
        "p99": result["p99_us"],
        "cpu": (after - before) / 1e3 / result["messages"],
    }


def system_calls_of_run(bench, command, messages, directory):
    report = directory / "strace.txt"
    tool = ["strace", "-f", "-c", "-o", report]
    with Server(bench, command, tool, traced=True) as server:
        exchange(bench, server, messages)
    return system_calls_in(report)


def instructions_of_run(bench, command, messages, directory):
    log = directory / "callgrind.log"
    tool = ["valgrind", "--tool=callgrind", f"--log-file={log}",
            f"--callgrind-out-file={directory / 'callgrind.out'}"]
    with Server(bench, command, tool) as server:
        exchange(bench, server, messages)
    return instructions_in(log)


def measure_system_calls(bench, command, directory):
    """System calls per message, by kind: medians over the repetitions."""
    few, many = bench.options.strace_messages
    samples = []
    for _ in range(bench.options.repeats):
        short = system_calls_of_run(bench, command, few, directory)
        long = system_calls_of_run(bench, command, many, directory)
        calls = {kind: (long[kind] - short[kind]) / (many - few) for kind in short}
        samples.append(calls | {"total": sum(calls.values())})
    return {kind: statistics.median(calls[kind] for calls in samples) for kind in samples[0]}


def measure_instructions(bench, command, directory):
    """User-mode instructions per message: the median over the repetitions."""
    few, many = bench.options.callgrind_messages
    samples = []
    for _ in range(bench.options.repeats):
        short = instructions_of_run(bench, command, few, directory)
        long = instructions_of_run(bench, command, many, directory)
        samples.append((long - short) / (many - few))
    return statistics.median(samples)


def idle_connections(few, many):
    """These numbers, or less if so many descriptors are not allowed. Servers inherit the limit, which is raised."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < many + 100:
        return hard // 8, hard - 100
    return few, many


def measure_memory(bench, command):
    """Bytes for each further idle connection that has echoed one message."""
    few, many = bench.options.idle
    samples = []
    for _ in range(bench.options.repeats):
        with Server(bench, command) as server, \
             Load(bench, server.port, "--idle", str(few)) as first:
            first.expect_ready()
            time.sleep(0.1)
            before = server.private_bytes()
            with Load(bench, server.port, "--idle", str(many - few)) as second:
                second.expect_ready()
                time.sleep(0.1)
                after = server.private_bytes()
            samples.append((after - before) / (many - few))
    return statistics.median(samples)


# --- The whole run -------------------------------------------------------------------------------


def run_rounds(bench, servers, complaints):
    """All rounds: a list, for each server, of the figures of each round (None where it failed)."""
    figures = {name: [] for name in servers}
    failed = set()
    for number in range(bench.options.rounds):
        progress(f"round {number + 1} of {bench.options.rounds}")
        order = order_of_round(list(servers), number)
        for name in order:
            figure = None
            if name not in failed:
                try:
                    figure = measure_round(bench, servers[name])
                except (BenchError, OSError) as error:
                    failed.add(name)  # a stalled server would take its time limit in every round
                    complaints.append(f"{name}, round {number + 1} (the last for it): {error}")
            figures[name].append(figure)
    return figures


def add_round_rows(table, figures):
    def row(label, key, form):
        table.add(label, median_cells(figures, key, form))

    def ratio_row(label, key):
        table.add(f"  {label} to libuv in the same round", paired_ratio_cells(figures, key, YARDSTICK))

    def lower_quartile(name):
        return quartiles([figure["cpu"] for figure in figures[name] if figure])[0]

    row("server CPU per message, µs: median", "cpu", lambda v: f"{v:.2f}")
    table.add("  lower quartile", {name: f"{lower_quartile(name):.2f}" for name in figures if any(figures[name])})
    ratio_row("CPU", "cpu")
    row("messages per second: median", "rate", lambda v: f"{v:,.0f}")
    ratio_row("throughput", "rate")
    row("round trip p50, µs: median", "p50", lambda v: f"{v:,.0f}")
    ratio_row("p50", "p50")
    row("round trip p99, µs: median", "p99", lambda v: f"{v:,.0f}")
    ratio_row("p99", "p99")


def measure_each(servers, what, measure, complaints):
    """One measurement on every server; a server that it fails on has no value."""
    values = {}
    for name, command in servers.items():
        progress(f"{what}: {name}")
        try:
            values[name] = measure(command)
        except (BenchError, OSError) as error:
            complaints.append(f"{name}, {what}: {error}")
    return values


def only_those_that_start(bench, servers, complaints):
    able = {}
    for name, command in servers.items():
        try:
            with Server(bench, command) as server:
                exchange(bench, server, bench.options.connections)
            able[name] = command
        except (BenchError, OSError) as error:
            complaints.append(f"{name} is left out: {error}")
    return able


def run(bench, servers, complaints):
    options = bench.options
    title = f"{options.size}-byte echo on {options.connections} connections"
    table = Table(title, servers)
    add_round_rows(table, run_rounds(bench, servers, complaints))

    with tempfile.TemporaryDirectory(prefix="echo-bench-") as name:
        directory = Path(name)
        instructions = measure_each(
            servers, "instructions",
            lambda command: measure_instructions(bench, command, directory), complaints)
        calls = measure_each(
            servers, "system calls",
            lambda command: measure_system_calls(bench, command, directory), complaints)
    memory = measure_each(
        servers, "memory", lambda command: measure_memory(bench, command), complaints)

    table.add("user-mode instructions per message",
              with_ratio(instructions, lambda v: f"{v:,.0f}", YARDSTICK))
    totals = {name: counts["total"] for name, counts in calls.items()}
    table.add("system calls per message", with_ratio(totals, lambda v: f"{v:.2f}", YARDSTICK))
    for kind in [*SYSTEM_CALL_KINDS, "other"]:
        table.add(f"  {kind}", {name: f"{round(counts[kind], 2) + 0.0:.2f}"
                                  for name, counts in calls.items()})
    table.add("memory per idle connection, bytes", with_ratio(memory, lambda v: f"{v:,.0f}", YARDSTICK))
    return table


# --- What was measured, and where ----------------------------------------------------------------


def without_paths(command):
    """The command as one would tell it to somebody on another machine."""
    return shlex.join(os.path.basename(part) if part.startswith("/") else part for part in command)


def describe(bench, servers, busy):
    """The lines below the table: enough to run it again elsewhere and to doubt it here."""
    options = bench.options
    versions = [output_of([str(bench.load_program), "--version"]) or "compiler unknown"]
    versions += [output_of([str(options.build / "bench" / f"echo_{name}"), "--version"])
                 for name in ("libuv", "asio", "kj") if name in servers]
    lines = [machine_line(versions, busy)]
    place = (f"server on core {bench.server_core}, load on core {bench.load_core}"
             if bench.pinned else "not pinned to cores")
    lines.append(f"{options.rounds} rounds of {options.seconds:g} s, {place}; "
                 "ratios: median (and quartiles) of the ratios within each round.")
    lines.append("CPU time: /proc/PID/task/*/schedstat. Throughput and round trip are bounded by "
                 "the slower side, at times the load generator; the CPU time is the "
                 "server's alone.")
    lines.append("System calls: strace -c -f. Instructions: callgrind. Both: a long run less a "
                 "short one; under both a server is slow, so that more connections than usual are "
                 "ready each time that it looks.")
    lines.append(f"Memory: private dirty memory at {options.idle[1]} connections less that at "
                 f"{options.idle[0]}, each after one echo; the kernel's part is not in it.")
    if {"asio", "kj"} & set(servers):
        lines.append("The asio and kj servers keep a read buffer of 4096 bytes for each "
                     "connection.")
    extra = [f"{name} is `{without_paths(command)}`" for name, command in options.peer]
    lines.append(f"Command: `{options.command}`"
                 + "".join("; " + text for text in extra) + ".")
    return lines


# --- The command line ----------------------------------------------------------------------------


def parse_options(arguments):
    parser = Parser(
        "echo", "Compares troth's echo server with bare libuv and other libraries.",
        quick="less than a minute, and less precise", rounds=(" of the timed part", 25, 5),
        epilog="A peer's command must be the server itself (a script that starts it ends in "
               "`exec`), listen on 127.0.0.1, print `listening on 127.0.0.1:PORT`, and end on "
               "SIGTERM.")
    parser.add_peer()
    parser.add_argument("--size", type=int, default=64, help="bytes of a message (64)")
    parser.add_argument("--connections", type=int, default=64, help="connections under load (64)")
    options = parser.options(arguments)
    if options.size < 1 or options.connections < 1:
        parser.error("--size and --connections must be at least 1")

    # Many short rounds rather than few long ones: the speed of a shared machine changes within
    # seconds, and ratios are only as good as their two sides are near in time.
    options.seconds = 0.4 if options.quick else 0.7
    options.warmup = options.connections * 100
    # The short run is long enough for buffers, caches and lazily bound symbols to be warm.
    options.callgrind_messages = (2_560, 12_800) if options.quick else (6_400, 64_000)
    options.strace_messages = (1_280, 5_120) if options.quick else (1_280, 12_800)
    options.idle = (400, 2_000)
    options.repeats = 1 if options.quick else 3
    return options


def find_servers(options, complaints):
    candidates = {
        YARDSTICK: [options.build / "bench" / "echo_libuv", "--port", "0"],
        "troth": [options.build / "examples" / "echo_server", "--port", "0"],
        "asio": [options.build / "bench" / "echo_asio", "--port", "0"],
        "kj": [options.build / "bench" / "echo_kj", "--port", "0"],
    }
    servers = {}
    for name, command in candidates.items():
        if command[0].exists():
            servers[name] = [str(part) for part in command]
        elif name in ("asio", "kj"):
            package = {"asio": "libasio-dev", "kj": "libcapnp-dev"}[name]
            progress(f"{name} is left out: not built for want of its library (Debian: {package})")
        else:
            complaints.append(f"{name}: {command[0].name} has not been built")
    for name, command in options.peer:
        if name in servers:
            raise SystemExit(f"tools/bench: there are two servers named {name}")
        servers[name] = command
    return servers


def main(arguments):
    options = parse_options(arguments)
    options.idle = idle_connections(*options.idle)

    bench = Bench(options)
    complaints = []
    servers = find_servers(options, complaints)
    if not bench.load_program.exists():
        raise SystemExit(f"tools/bench: {bench.load_program.name} has not been built")
    busy = busy_share()
    warn_if_busy(busy, "the ratios, the instructions and the system calls")

    servers = only_those_that_start(bench, servers, complaints)
    table = run(bench, servers, complaints)
    lines = describe(bench, servers, busy)
    print_tables([table], options)
    print_lines(lines, options)
    return status_after(complaints)


if __name__ == "__main__":
    run_benchmark(main, TOTAL_LIMIT)
