# SPDX-License-Identifier: MIT
# The HTTP benchmark: measures troth's HTTP and WebSocket server beside the libuv and llhttp yardstick and its peers.
"""Compares HTTP servers: CPU time, throughput, latency, system calls, instructions and memory.

Run it by `tools/bench http`, which builds first. Every server answers `/` with 13 bytes, `/large` with 1 MiB, and
`POST /echo` with the request's body; at `/ws` it echoes WebSocket messages. What it answers is checked before anything
is measured. How each figure is taken:

rounds         In each round all servers are started anew, on one core, and are given load from another, one after the
               other; those that have none sleep. What is compared is measured in neighbouring seconds: all servers in
               one case, then all in the next. Each round has another order. Ratios are formed within a round.
load           `wrk` with one thread, for HTTP; ws_load for WebSockets, which checks every echo.
CPU time       As in echo_bench.py; here the opening of the connections is in it.
p99            wrk's, of all requests; not for pipelined ones, for which wrk takes the time of no single request.
system calls,  A long run less a short one, under `strace -c` and callgrind, of a fixed number of requests. This script
instructions   makes them itself: all connections send, and when all have sent, all answers are read.
memory         Private dirty memory with many connections and with few, each idle after one request.
"""

import contextlib
import json
import os
import random
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import echo_bench
from command_line import Parser, pattern, print_lines, print_tables, run as run_benchmark, status_after, warn_if_busy
from common import (BenchError, ROOT, SYSTEM_CALL_KINDS, Table, busy_share, instructions_in, machine_line, median_cells,
                    order_of_round, output_of, paired_ratio_cells, progress, start, system_calls_in, with_ratio)
from echo_bench import START_LIMIT, Bench, Server, idle_connections, measure_each, without_paths

YARDSTICK = "raw"
NAMES = (YARDSTICK, "troth", "nginx", "beast", "kj", "node", "python")
GREETING = b"Hello, world!"
MIB = 1 << 20
ANSWER_LIMIT = 120  # seconds for one answer (under valgrind too)
WRK_GRACE = 30  # seconds beyond those that wrk is told
WARM_UP = 1  # seconds; it has to make a JIT compiler ready, too
TOTAL_LIMIT = 60 * 60


BROWSER_FIELDS = (
    "Host: 127.0.0.1\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
    "Accept-Language: en-GB,en;q=0.5\r\n",
    "Accept-Encoding: gzip, deflate, br\r\n",
    "Referer: http://127.0.0.1/\r\n",
    "Connection: keep-alive\r\n",
    "Upgrade-Insecure-Requests: 1\r\n",
    "Sec-Fetch-Dest: document\r\n",
    "Sec-Fetch-Mode: navigate\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Cookie: session=",  # behind which a number stands
)


@dataclass(frozen=True)
class Case:
    """One kind of load."""
    title: str
    path: str
    connections: int
    depth: int = 1  # of pipelining
    upload: int = 0  # bytes that are posted
    browser: bool = False  # heads are as a browser sends them, and no two are alike
    seconds: int = 1
    counted: tuple = ()  # exchanges on all connections, for what is counted: in the short run, and in the long one

    def wrk_arguments(self):
        arguments = ["--pipeline", self.depth] if self.depth > 1 else []
        arguments += ["--fields", "".join(BROWSER_FIELDS)] if self.browser else []
        return arguments + (["--post", self.upload] if self.upload else [])

    def request(self, number=0):
        """What a connection sends at a time."""
        if self.browser:
            return f"GET {self.path} HTTP/1.1\r\n{''.join(BROWSER_FIELDS)}{number:09}\r\n\r\n".encode()
        if self.upload:
            head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {self.upload}\r\n\r\n"
            return head.encode() + b"x" * self.upload
        return f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * self.depth


CASES = [
    Case("13 bytes, 64 connections", "/", 64, counted=(50, 250)),
    Case("13 bytes, 64 connections, a browser's heads, each another", "/", 64, browser=True, counted=(50, 250)),
    Case("13 bytes, 1 connection", "/", 1),
    Case("13 bytes, 1000 connections", "/", 1000, seconds=2),
    Case("13 bytes, 64 connections, pipelined 16 deep", "/", 64, depth=16, counted=(5, 25)),
    Case("1 MiB down, 16 connections", "/large", 16, counted=(2, 12)),
    Case("1 MiB up and down again, 16 connections", "/echo", 16, upload=MIB, counted=(2, 12)),
]
IDLE = "an idle keep-alive connection"
WEBSOCKET = "WebSocket: 64 bytes of text, 64 connections"


# --- Servers -------------------------------------------------------------------------------------


class Peer:
    """A server that can be started by a command, and says itself where it listens."""

    def __init__(self, command, without=(), countable=True):
        self.command = [str(part) for part in command]
        self.without = without  # paths that it does not have
        self.countable = countable  # callgrind says something about it

    def prepare(self):
        """The command of one start, and the port, if that is known before."""
        return self.command, None

    def described(self):
        return without_paths(self.command)


class Nginx(Peer):
    """nginx as one process that needs no rights, with a configuration made for each start."""

    CONFIGURATION = """
        daemon off;
        master_process off;
        pid nginx.pid;
        error_log stderr crit;
        events {{ worker_connections 16384; }}
        http {{
          access_log off;
          client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
          uwsgi_temp_path uwsgi; scgi_temp_path scgi;
          default_type text/plain;
          sendfile on;
          open_file_cache max=16;
          keepalive_requests 1000000000;
          keepalive_timeout 1h;
          server {{
            listen 127.0.0.1:{port} backlog=4096;
            location = / {{ return 200 "{greeting}"; }}
            location = /large {{ root {directory}; }}
          }}
        }}
    """

    def __init__(self, program, directory):
        # Its core cannot answer with a request's body, nor speak WebSocket.
        super().__init__([program], without=("/echo", "/ws"))
        self.directory = directory
        (directory / "large").write_bytes(b"x" * MIB)

    def prepare(self):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        configuration = self.directory / "nginx.conf"
        configuration.write_text(self.CONFIGURATION.format(
            port=port, greeting=GREETING.decode(), directory=self.directory))
        return [*self.command, "-p", self.directory, "-e", "stderr", "-c", configuration], port


class HttpServer(Server):
    """A server under test, from its start until it has ended; it may be one that does not say where it listens."""

    def __init__(self, bench, peer, tool=(), traced=False):
        command, self.known_port = peer.prepare()
        self.peer = peer
        super().__init__(bench, command, tool, traced)

    def wait_until_listening(self):
        if self.known_port is None:
            super().wait_until_listening()
            return
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.known_port), START_LIMIT).close()
                self.port = self.known_port
                self.pid = echo_bench.child_of(self.process.pid) if self.traced else self.process.pid
                return
            time.sleep(0.01)
        raise BenchError(f"the server did not start: {self.last_words()}")


def program_of(name):
    """A program that may be outside of the search path of a normal user, or None."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def python_with_websockets():
    for python in (sys.executable, "/usr/bin/python3"):
        if output_of([python, "-c", "import websockets; print(websockets.__version__)"]):
            return python
    return None


def find_peers(options, directory, complaints):
    """All servers that are there, by name. What is missing is said."""
    programs = options.build / "bench"
    scripts = ROOT / "bench" / "peers"
    peers = {}

    def add(name, found, make, package):
        if options.peers and name not in options.peers:
            return
        if found:
            peers[name] = make()
        else:
            progress(f"{name} is left out: {package}")

    def add_program(name, package, required=False):
        program = programs / f"http_{name}"
        if required and not program.exists():
            complaints.append(f"{name}: http_{name} has not been built")
        else:
            add(name, program.exists(), lambda: Peer([program, "--port", "0"]), package)

    add_program(YARDSTICK, "", required=True)
    server = programs / "http_server"
    add("troth", server.exists(), lambda: Peer([server, "--port", "0"]), "bench/http_server has not been built")
    nginx, node, python = program_of("nginx"), program_of("node"), python_with_websockets()
    add("nginx", nginx, lambda: Nginx(nginx, directory), "not there (Debian: nginx)")
    add_program("beast", "not built for want of its library (Debian: libboost-dev)")
    add_program("kj", "not built for want of its library (Debian: libcapnp-dev)")
    add("node", node, lambda: Peer([node, scripts / "http_node.js", "--port", "0"], ("/ws",), countable=False),
        "not there (Debian: nodejs)")
    add("python", python, lambda: Peer([python, "-B", scripts / "ws_python.py", "--port", "0"],
                                       ("/", "/large", "/echo"), countable=False),
        "not there (Debian: python3-websockets)")
    for name, command in options.peer:
        if name in peers:
            raise SystemExit(f"tools/bench: there are two servers named {name}")
        peers[name] = Peer(command)
    return peers


def those_with(peers, path):
    return {name: peer for name, peer in peers.items() if path not in peer.without}


# --- A client ------------------------------------------------------------------------------------


class Connection:
    """A connection on which this script makes requests; what is sent may be larger than all buffers on the way."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.poll = select.poll()
        self.unsent = b""

    def close(self):
        self.socket.close()

    def send(self, request):
        """Sends as much of a request as there is room for. The rest goes while the answer is received."""
        self.unsent = memoryview(request)
        self.send_more()

    def send_more(self):
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent):]

    def receive(self, size=None):
        """So many bytes, or one answer."""
        received = bytearray()
        while size is None or len(received) < size or self.unsent:
            try:
                part = self.socket.recv(MIB)
            except BlockingIOError:
                self.wait()
                continue
            if not part:
                raise BenchError("the server closed a connection before its answer was complete")
            received += part
            size = size or size_of_answer(received)
        if len(received) != size:
            raise BenchError("the server answered with more than one answer")
        return bytes(received)

    def wait(self):
        self.poll.register(self.socket, select.POLLIN | (select.POLLOUT if self.unsent else 0))
        events = self.poll.poll(ANSWER_LIMIT * 1000)
        if not events:
            raise BenchError("the server does not answer")
        if self.unsent and events[0][1] & select.POLLOUT:
            self.send_more()


def size_of_answer(received):
    """The size of an answer that has a length or is chunked, or None if that cannot be told yet."""
    head, found, body = bytes(received).partition(b"\r\n\r\n")
    if not found:
        return None
    length = re.search(rb"^content-length: *(\d+)", head, re.I | re.M)
    if length:
        return len(head) + 4 + int(length[1])
    return len(received) if body.endswith(b"0\r\n\r\n") else None


def body_of(answer):
    """The body of an answer, which is to be a good one."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"the server answers with {answer[:40]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    if re.search(rb"^connection: *close", head, re.I | re.M):
        raise BenchError("the server wants to close a connection that is to be kept alive")
    if not re.search(rb"^transfer-encoding: *chunked", head, re.I | re.M):
        return body
    parts = []
    while not body.startswith(b"0\r\n"):
        size, _, body = body.partition(b"\r\n")
        parts.append(body[:int(size, 16)])
        body = body[int(size, 16) + 2:]
    return b"".join(parts)


@contextlib.contextmanager
def connections_to(port, count):
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(Connection(port))
            stack.callback(connections[-1].close)
        yield connections


def exchange(server, case, times):
    """So many requests (or batches) of a case on each of its connections: all send, then all answers are read."""
    with connections_to(server.port, case.connections) as connections:
        answer = answer_of(connections[0], replace(case, depth=1).request())
        for i in range(times):
            for j, connection in enumerate(connections):
                connection.send(case.request(i * case.connections + j))
            for connection in connections:
                body_of(connection.receive(len(answer) * case.depth))
    return times * case.connections * case.depth


def answer_of(connection, request):
    connection.send(request)
    return connection.receive()


# --- Whether a server does what is measured ------------------------------------------------------


def checked(server):
    """The paths at which the server answers as it should, and what is wrong at others that it is said to have."""
    good, wrong = [], []
    for path, check in (("/", check_greeting), ("/large", check_large), ("/echo", check_echo)):
        if path in server.peer.without:
            continue
        try:
            with connections_to(server.port, 1) as (connection,):
                check(connection)
            good.append(path)
        except (BenchError, OSError) as error:
            wrong.append(f"{path} is left out: {error}")
    return good, wrong


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def check_greeting(connection):
    answer = answer_of(connection, get("/"))
    if len(body_of(answer)) != len(GREETING):
        raise BenchError(f"the answer has not {len(GREETING)} bytes")
    connection.send(get("/") * 16)
    batch = connection.receive(16 * len(answer))
    if batch.count(body_of(answer)) != 16:
        raise BenchError("pipelined requests are not answered as single ones are")


def check_large(connection):
    if len(body_of(answer_of(connection, get("/large")))) != MIB:
        raise BenchError("the answer has not 1 MiB")


def check_echo(connection):
    head = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for size in (0, 1, 1000, MIB):
        body = random.randbytes(size)
        whole = head + b"Content-Length: %d\r\n\r\n" % size + body
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part)
                          for part in (body[at:at + 50_000] for at in range(0, size, 50_000)))
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        for request in (whole, chunked):
            if body_of(answer_of(connection, request)) != body:
                raise BenchError(f"the echo of {size} bytes is not what was sent")


def those_that_work(bench, peers, complaints):
    """The servers that start, each without the paths at which it answers wrongly."""
    able = {}
    for name, peer in peers.items():
        try:
            with HttpServer(bench, peer) as server:
                good, wrong = checked(server)
        except (BenchError, OSError) as error:
            complaints.append(f"{name} is left out: {error}")
            continue
        complaints += [f"{name}, {what}" for what in wrong]
        if "/" in good:
            able[name] = peer
            peer.without = {*peer.without, *({"/large", "/echo"} - set(good))}
    return able


# --- Measurements --------------------------------------------------------------------------------


def run_wrk(bench, port, case, seconds):
    """What wrk says of a run."""
    command = ["wrk", "-t", "1", "-c", case.connections, "-d", seconds, "--timeout", "10", "-s",
               ROOT / "bench" / "http_wrk.lua", f"http://127.0.0.1:{port}{case.path}", "--", *case.wrk_arguments()]
    process = start(bench.on_core(bench.load_core, command),
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output = process.communicate(timeout=seconds + WRK_GRACE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise BenchError("wrk did not end in time") from None
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines:
        raise BenchError(f"wrk failed: {output.strip()[-200:]}")
    result = json.loads(lines[-1])
    if result["errors"] or result["bad_statuses"] or not result["requests"]:
        raise BenchError(f"wrk counted {result['errors']} errors, {result['bad_statuses']} bad statuses and "
                         f"{result['requests']} requests")
    return result


def measure_load(bench, server, case):
    """One server under full load: throughput, latency and CPU time per request."""
    before = server.cpu_ns()
    result = run_wrk(bench, server.port, case, case.seconds)
    time.sleep(0.02)  # until the server sleeps
    after = server.cpu_ns()
    return {
        "rate": result["requests"] / result["seconds"],
        "p50": result["p50_us"],
        "p99": result["p99_us"],
        "cpu": (after - before) / 1e3 / result["requests"],
    }


def run_round(bench, cases, peers, number, figures, complaints):
    """All servers side by side, and one case after the other on all of them."""
    order = order_of_round(list(peers), number)
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in order:
            servers[name] = stack.enter_context(HttpServer(bench, peers[name]))
            run_wrk(bench, servers[name].port, CASES[0], WARM_UP)
        for case in cases:
            for name, rounds in figures[case].items():
                rounds.append(None)
            for name in order:
                # A server that has stalled once would take its time limit in every round.
                if name not in figures[case] or any(figure is None for figure in figures[case][name][:-1]):
                    continue
                try:
                    figures[case][name][-1] = measure_load(bench, servers[name], case)
                except (BenchError, OSError) as error:
                    complaints.append(f"{name}, {case.title}, round {number + 1} (the last for it): {error}")


def run_rounds(bench, cases, peers, complaints):
    """For each case, and each server that has its path, the figures of all rounds (None where it failed)."""
    figures = {case: {name: [] for name in those_with(peers, case.path)} for case in cases}
    for number in range(bench.options.rounds):
        progress(f"round {number + 1} of {bench.options.rounds}")
        try:
            run_round(bench, cases, peers, number, figures, complaints)
        except (BenchError, OSError) as error:
            complaints.append(f"round {number + 1} ended early: {error}")
    return figures


@contextlib.contextmanager
def on_load_core(bench):
    """While this script is the client itself, it leaves the server's core alone."""
    cores = os.sched_getaffinity(0)
    if bench.pinned:
        os.sched_setaffinity(0, {bench.load_core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def per_request(bench, case, count):
    """Medians of what `count`, called with a number of exchanges, counts in a long run more than in a short one."""
    few, many = case.counted
    samples = []
    for _ in range(bench.options.repeats):
        (short, requests_in_short), (long, requests_in_long) = count(few), count(many)
        requests = requests_in_long - requests_in_short
        samples.append({key: (long[key] - short[key]) / requests for key in short})
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def measure_instructions(bench, peer, case, directory):
    """User-mode instructions per request."""
    log = directory / "callgrind.log"
    tool = ["valgrind", "--tool=callgrind", f"--log-file={log}",
            f"--callgrind-out-file={directory / 'callgrind.out'}"]

    def count(times):
        with HttpServer(bench, peer, tool) as server:
            requests = exchange(server, case, times)
        return {"instructions": instructions_in(log)}, requests

    return per_request(bench, case, count)["instructions"]


def measure_system_calls(bench, peer, case, directory):
    """System calls per request, by kind."""
    report = directory / "strace.txt"

    def count(times):
        with HttpServer(bench, peer, ["strace", "-f", "-c", "-o", report], traced=True) as server:
            requests = exchange(server, case, times)
        calls = system_calls_in(report)
        return calls | {"total": sum(calls.values())}, requests

    return per_request(bench, case, count)


def measure_memory(bench, peer):
    """Bytes for each further connection that has had one answer and is idle."""
    few, many = bench.options.idle
    samples = []
    for _ in range(bench.options.repeats):
        with HttpServer(bench, peer) as server, contextlib.ExitStack() as stack:
            before = private_bytes_with(stack, server, few)
            after = private_bytes_with(stack, server, many - few)
        samples.append((after - before) / (many - few))
    return statistics.median(samples)


def private_bytes_with(stack, server, count):
    """The server's memory when so many more connections are idle."""
    for _ in range(count):
        connection = Connection(server.port)
        stack.callback(connection.close)
        body_of(answer_of(connection, get("/")))
    time.sleep(0.1)
    return server.private_bytes()


# --- The parts -----------------------------------------------------------------------------------


def add_rounds(table, figures, unit):
    def row(label, key, form):
        table.add(label, median_cells(figures, key, form))

    def ratio_row(label, key):
        if YARDSTICK in figures:
            table.add(f"  {label} to {YARDSTICK} in the same round", paired_ratio_cells(figures, key, YARDSTICK))

    row(f"server CPU per {unit}, µs: median", "cpu", lambda v: f"{v:,.2f}")
    ratio_row("CPU", "cpu")
    row(f"{unit}s per second: median", "rate", lambda v: f"{v:,.0f}")
    ratio_row("throughput", "rate")


def add_latency(table, figures):
    for key in ("p50", "p99"):
        table.add(f"{key}, µs: median", median_cells(figures, key, lambda v: f"{v:,.0f}"))


def add_instructions(table, unit, instructions):
    table.add(f"user-mode instructions per {unit}", with_ratio(instructions, lambda v: f"{v:,.0f}", YARDSTICK))


def add_system_calls(table, unit, calls):
    totals = {name: counts["total"] for name, counts in calls.items()}
    table.add(f"system calls per {unit}", with_ratio(totals, lambda v: f"{v:.2f}", YARDSTICK))
    for kind in [*SYSTEM_CALL_KINDS, "other"]:
        table.add(f"  {kind}", {name: f"{round(counts[kind], 2) + 0.0:.2f}" for name, counts in calls.items()})


def countable(peers):
    return {name: peer for name, peer in peers.items() if peer.countable}


def add_counts(table, bench, case, peers, complaints):
    able = those_with(peers, case.path)
    with tempfile.TemporaryDirectory(prefix="http-bench-") as name, on_load_core(bench):
        directory = Path(name)
        instructions = measure_each(
            countable(able), f"instructions, {case.title}",
            lambda peer: measure_instructions(bench, peer, case, directory), complaints)
        add_instructions(table, "request", instructions)
        if not bench.options.instructions_only:
            calls = measure_each(
                able, f"system calls, {case.title}",
                lambda peer: measure_system_calls(bench, peer, case, directory), complaints)
            add_system_calls(table, "request", calls)


def http_tables(bench, cases, peers, complaints):
    figures = {} if bench.options.instructions_only else run_rounds(bench, cases, peers, complaints)
    tables = []
    for case in cases:
        if not figures and not case.counted:
            continue
        table = Table(case.title, peers)
        if figures:
            add_rounds(table, figures[case], "request")
            if case.depth == 1:
                add_latency(table, figures[case])
        if case.counted:
            add_counts(table, bench, case, peers, complaints)
        tables.append(table)
    return tables


def memory_table(bench, peers, complaints):
    table = Table(IDLE, peers)
    with on_load_core(bench):
        memory = measure_each(peers, "memory", lambda peer: measure_memory(bench, peer), complaints)
    table.add("memory, bytes", with_ratio(memory, lambda v: f"{v:,.0f}", YARDSTICK))
    return table


def websocket_table(bench, peers, complaints):
    """Messages there and back: as echo_bench.py measures bytes there and back, with another load."""
    servers = echo_bench.only_those_that_start(bench, {name: peer.command for name, peer in peers.items()}, complaints)
    table = Table(WEBSOCKET, servers)
    options = bench.options
    if not options.instructions_only:
        figures = echo_bench.run_rounds(bench, servers, complaints)
        add_rounds(table, figures, "message")
        add_latency(table, figures)
    with tempfile.TemporaryDirectory(prefix="http-bench-") as name:
        directory = Path(name)
        counted = {name: command for name, command in servers.items() if peers[name].countable}
        add_instructions(table, "message", measure_each(
            counted, "instructions, WebSocket",
            lambda command: echo_bench.measure_instructions(bench, command, directory), complaints))
        if not options.instructions_only:
            add_system_calls(table, "message", measure_each(
                servers, "system calls, WebSocket",
                lambda command: echo_bench.measure_system_calls(bench, command, directory), complaints))
    if not options.instructions_only:
        memory = measure_each(servers, "memory, WebSocket", lambda command: echo_bench.measure_memory(bench, command),
                              complaints)
        table.add("memory per idle connection, bytes", with_ratio(memory, lambda v: f"{v:,.0f}", YARDSTICK))
    return table


def run(bench, peers, complaints):
    options = bench.options
    cases = [case for case in CASES if options.only.search(case.title)]
    tables = []
    http_peers = {name: peer for name, peer in peers.items() if "/" not in peer.without}
    if cases or options.only.search(IDLE):
        http_peers = those_that_work(bench, http_peers, complaints)
    if cases:
        tables += http_tables(bench, cases, http_peers, complaints)
    if options.only.search(IDLE) and not options.instructions_only:
        tables.append(memory_table(bench, http_peers, complaints))
    if options.only.search(WEBSOCKET):
        tables.append(websocket_table(bench, those_with(peers, "/ws"), complaints))
    return [table for table in tables if len(table.rows) > 1]


def describe(bench, peers, busy):
    """The lines below the tables: enough to run it again elsewhere and to doubt it here."""
    options = bench.options
    versions = [output_of([str(bench.load_program), "--version"]) or "compiler unknown"]
    versions += [version_of(name, peer) for name, peer in peers.items()] + [version_of_wrk()]
    place = (f"servers on core {bench.server_core}, load on core {bench.load_core}"
             if bench.pinned else "not pinned to cores")
    lines = [machine_line(versions, busy)]
    if not options.instructions_only:
        lines.append(f"{options.rounds} rounds of a second or two per case, {place}; ratios: median (and quartiles) of "
                     "the ratios within each round. Throughput is bounded by the slower side, at times wrk; the CPU "
                     "time is the server's alone, the opening of the connections included.")
        lines.append(f"Memory: private dirty memory at {options.idle[1]} connections less that at {options.idle[0]}, "
                     "each after one request or message; the kernel's part is not in it, nor what a server allots to "
                     "connections when it starts (nginx: its table of them).")
    lines.append("System calls: strace -c -f. Instructions: callgrind. Both: a long run less a short one, in which all "
                 "connections send before any answer is read. callgrind counts a byte that memcpy moves by rep movsb "
                 "as an instruction; a JIT compiler's instructions are not counted.")
    lines.append("Answers differ in what fields a server adds by itself: raw, nginx and node send a Date, Beast and KJ "
                 "do not. nginx answers `/` from its configuration and `/large` from a file, by sendfile (among the "
                 "other system calls); its core has no way to echo a body.")
    lines += [f"{name} is `{peers[name].described()}`." for name, _ in options.peer if name in peers]
    lines.append(f"Command: `{options.command}`.")
    return lines


def version_of(name, peer):
    if isinstance(peer, Nginx):
        return "nginx " + everything_from([*peer.command, "-v"]).strip().rpartition("/")[2]
    if name == "node":
        return "node " + (output_of([peer.command[0], "--version"]) or "unknown")
    if name in (YARDSTICK, "beast", "kj", "python"):
        return output_of([*peer.command[:-2], "--version"])
    return None


def version_of_wrk():
    match = re.match(r"wrk \S+", everything_from(["wrk", "-v"]))
    return match[0] if match else None


def everything_from(command):
    """What a program prints, for those that say their version on standard error or end with an error."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=10, check=False, text=True).stdout


# --- The command line ----------------------------------------------------------------------------


def parse_options(arguments):
    parser = Parser(
        "http", "Compares troth's HTTP server with bare libuv and llhttp, and with other libraries and programs.",
        quick="some minutes, and less precise", rounds=(" of the timed part", 9, 2),
        epilog="A peer's command must be the server itself (a script that starts it ends in `exec`), listen on "
               "127.0.0.1, print `listening on http://127.0.0.1:PORT`, and end on SIGTERM.")
    parser.add_only("tables in whose title it", default=pattern(""))
    parser.add_instructions_only("count instructions, time nothing")
    parser.add_argument("--peers", type=lambda text: text.split(","), metavar="NAME[,NAME]...",
                        help=f"only these: {', '.join(NAMES)}")
    parser.add_peer()
    options = parser.options(arguments)
    unknown = set(options.peers or ()) - set(NAMES)
    if unknown:
        parser.error(f"there is no peer named {min(unknown)}")

    options.repeats = 1 if options.quick else 3
    options.idle = (1_000, 10_000)
    # For WebSockets, what echo_bench.py wants to know.
    options.size, options.connections = 64, 64
    options.seconds, options.warmup = 1, 6_400
    options.callgrind_messages = (2_560, 12_800)
    options.strace_messages = (1_280, 5_120)
    return options


def main(arguments):
    options = parse_options(arguments)
    options.idle = idle_connections(*options.idle)

    bench = Bench(options, load_program="ws_load")
    complaints = []
    if not bench.load_program.exists():
        raise SystemExit(f"tools/bench: {bench.load_program.name} has not been built")
    busy = busy_share()
    warn_if_busy(busy, "the ratios, the instructions and the system calls")
    with tempfile.TemporaryDirectory(prefix="http-bench-") as name:
        peers = find_peers(options, Path(name), complaints)
        tables = run(bench, peers, complaints)
        lines = describe(bench, peers, busy)
    print_tables(tables, options)
    print_lines(lines, options)
    return status_after(complaints)


if __name__ == "__main__":
    run_benchmark(main, TOTAL_LIMIT)
