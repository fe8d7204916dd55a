# SPDX-License-Identifier: MIT
# Faults that an echo server must survive: no descriptors, failing calls, vanishing peers.
"""
python3 faults.py --server PATH [--client PATH] [--proxy PATH] [--shim PATH] [--release PATH] [--list] [CASE ...]

Each case is named for the row of the reliability list that it shows (A1, S3, ...) or for a part of
the contract (idle, grace, input, client, address, proxy). `A2` runs every case that begins with A2; no
name runs all. The last line counts them; the status is 1 if one failed, 77 if all were skipped.

The server is known only by its command line, its sockets, signals and /proc. Memory is measured on
a binary without sanitizers where there is one: `--release PATH`, or the environment's
TROTH_RELEASE_DIR, a build directory. Without it the sanitizer build is measured against looser
limits, and the output says so.

All connections are on loopback. What a case starts is ended by its pid, also when the case fails.
"""

import argparse
import ctypes
import errno
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

MIB = 1024 * 1024
CASE_LIMIT = 90  # seconds; a case that takes longer has hung
START_LIMIT = 20
SANITIZER_REPORT = re.compile(r"Sanitizer|runtime error:")

# UBSan's vptr check opens a pipe to find out whether memory is readable. With no descriptor free it
# takes the memory of every object for unreadable and says so; a real finding shows the memory.
BLIND_VPTR_REPORT = re.compile(
    r".*runtime error: .* does not point to an object of type .*\n"
    r".*note: object has invalid vptr\n"
    r"<memory cannot be printed>\n"
    r"(SUMMARY: UndefinedBehaviorSanitizer: .*\n)?"
)


class Failure(Exception):
    """Something was not as it must be; the text is what was seen."""


class Skip(Exception):
    """The case cannot be shown on this machine; the text is why."""


def expect(condition, seen):
    if not condition:
        raise Failure(seen)


def note(text):
    print("    " + text, flush=True)


def poll_until(question, patience, pause=0.02):
    """Asks until the answer is true or the time is over, and returns the last answer."""
    limit = time.monotonic() + patience
    while True:
        answer = question()
        if answer or time.monotonic() > limit:
            return answer
        time.sleep(pause)


# --- processes ------------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
running = []  # every process that was started and not yet reaped
servers = []  # those of the case at hand, for the report when it fails


def with_sanitizer_options(environment, extra):
    """Adds to ASAN_OPTIONS what is there already."""
    options = [part for part in (environment.get("ASAN_OPTIONS", ""), extra) if part]
    environment["ASAN_OPTIONS"] = ":".join(options)


def start_process(arguments, environment=None, descriptors=None, **pipes):
    """Starts a child that dies with this process, SIGPIPE having its default action."""

    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        env={**os.environ, **(environment or {})},
        preexec_fn=prepare,
        **pipes,
    )
    running.append(process)
    return process


def end_all():
    for process in running:
        if process.poll() is None:
            try:
                os.kill(process.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    running.clear()
    servers.clear()


def describe_status(status):
    if status is None:
        return "still running"
    if status < 0:
        return f"ended by signal {signal.Signals(-status).name}"
    return f"exit status {status}"


class Server:
    """An echo server as a child process, and what /proc says of it."""

    def __init__(self, *arguments, binary=None, environment=None, descriptors=None, port=0):
        self.errors = tempfile.TemporaryFile()
        self.starved = descriptors is not None
        self.process = start_process(
            [binary or options.server, "--port", port, *arguments],
            environment,
            descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.pid = self.process.pid
        servers.append(self)
        self.host, self.port = self._read_address()
        self.idle_descriptors = self._settled_descriptors()

    def _read_address(self):
        line = b""
        output = self.process.stdout
        limit = time.monotonic() + START_LIMIT
        while b"\n" not in line and time.monotonic() < limit:
            if select.select([output], [], [], 0.2)[0]:
                block = os.read(output.fileno(), 4096)
                if not block:
                    break
                line += block
        match = re.match(rb"listening on \[?([0-9a-f.:]+?)\]?:(\d+)\n", line)
        if not match:
            status = poll_until(lambda: self.process.poll() is not None, 1) and self.process.poll()
            raise Failure(
                f"no line `listening on ADDRESS:PORT`, but {line!r}; "
                f"{describe_status(status or None)}; stderr: {self.error_text()!r}"
            )
        return match[1].decode(), int(match[2])

    def _settled_descriptors(self):
        """The count once it has stopped changing: the line may come before the last handle."""
        count = self.descriptors()
        for _ in range(50):
            time.sleep(0.05)
            again = self.descriptors()
            if again == count:
                break
            count = again
        return count

    def error_text(self):
        self.errors.seek(0)
        text = self.errors.read(256 * 1024).decode(errors="replace")
        return BLIND_VPTR_REPORT.sub("", text) if self.starved else text

    def descriptor_names(self):
        names = {}
        folder = f"/proc/{self.pid}/fd"
        for name in os.listdir(folder):
            try:
                names[int(name)] = os.readlink(f"{folder}/{name}")
            except FileNotFoundError:
                pass
        return names

    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except FileNotFoundError:
            raise Failure(f"the server has died: {self.how_it_ended()}") from None

    def how_it_ended(self):
        poll_until(lambda: self.process.poll() is not None, 1)
        return f"{describe_status(self.process.poll())}; stderr: {self.error_text()!r}"

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        try:
            path = f"/proc/{self.pid}/smaps_rollup"
            with open(path, encoding="ascii") as file:
                return int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M)[1]) * 1024
        except (FileNotFoundError, PermissionError):
            with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
                return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M)[1]) * 1024

    def expect_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"the server has died: {self.how_it_ended()}")

    def expect_descriptors_back(self, patience=5):
        poll_until(lambda: self.descriptors() <= self.idle_descriptors, patience)
        count = self.descriptors()
        expect(
            count <= self.idle_descriptors,
            f"{count} descriptors are open, {self.idle_descriptors} before the first client: "
            f"{self.descriptor_names()}",
        )

    def expect_serves(self, clients=3, patience=5):
        """So many clients, one after the other, are each echoed in full."""
        for number in range(clients):
            data = pattern(10000, number)
            answer = echo(self, data, patience)
            expect(answer == data, f"a new client got back {difference(data, answer)}")

    def expect_calm(self, duration, limit=0.2):
        """Uses less than `limit` of a core for so many seconds."""
        before, start = self.cpu_seconds(), time.monotonic()
        time.sleep(duration)
        share = (self.cpu_seconds() - before) / (time.monotonic() - start)
        note(f"CPU {share * 100:.1f} % over {duration} s")
        expect(share < limit, f"busy: {share * 100:.0f} % of a core over {duration} s")

    def wait(self, patience=15):
        poll_until(lambda: self.process.poll() is not None, patience, 0.01)
        return self.process.poll()

    def expect_ended(self, patience=15, quiet=True):
        status = self.wait(patience)
        expect(
            status == 0,
            f"after the signal to end: {describe_status(status)}; stderr: {self.error_text()!r}",
        )
        text = self.error_text()
        expect(not SANITIZER_REPORT.search(text), f"a sanitizer reports: {text}")
        expect(not quiet or not text, f"on stderr: {text!r}")
        expect(len(text) < 16 * 1024, f"floods stderr: {text[:500]!r}")

    def stop(self, number=signal.SIGTERM, patience=15, quiet=True):
        """Ends the server as its contract says; `quiet` also demands an empty stderr."""
        self.expect_alive()
        os.kill(self.pid, number)
        self.expect_ended(patience, quiet)

    def freeze(self):
        """Stops the process and waits until it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)

        def stopped():
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                return file.read().rpartition(")")[2].split()[0] in "Tt"

        expect(poll_until(stopped, 2, 0.002), "SIGSTOP does not stop the server")

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)


def has_sanitizer(binary):
    with open(binary, "rb") as file:
        content = file.read()
    return any(name in content for name in (b"__asan_init", b"__tsan_init", b"__msan_init"))


class Strace:
    """strace attached to a running server, so that its start and its end are not disturbed."""

    def __init__(self, server, *expressions):
        if shutil.which("strace") is None:
            raise Skip("strace is not installed")
        self.log = tempfile.NamedTemporaryFile(prefix="faults-strace-")
        self.errors = tempfile.TemporaryFile()
        arguments = ["strace", "-f", "-q", "-o", self.log.name, "-p", server.pid]
        for expression in expressions:
            arguments += ["-e", expression]
        self.process = start_process(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors
        )
        self.server = server
        attached = poll_until(lambda: self._attached() or self.process.poll() is not None, 5)
        if not attached or self.process.poll() is not None:
            time.sleep(0.1)
            server.expect_alive()  # a server that does not survive it is no reason to skip
            self.errors.seek(0)
            why = self.errors.read().decode(errors="replace").strip()
            raise Skip(f"strace cannot attach here: {why}")

    def _attached(self):
        if self.server.process.poll() is not None:
            return False
        tasks = f"/proc/{self.server.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/status", encoding="ascii") as file:
                if int(re.search(r"^TracerPid:\s+(\d+)", file.read(), re.M)[1]) == 0:
                    return False
        return True

    def detach(self):
        """LeakSanitizer cannot work in a traced process: detach before ending the server."""
        self.process.terminate()
        self.process.wait(10)

    def injected(self):
        self.log.seek(0)
        return self.log.read().count(b"(INJECTED)")


class Shim:
    """The environment that makes a server's socket calls fail, see shim.cc, and its counts."""

    def __init__(self, **settings):
        if not options.shim:
            raise Skip("no --shim given")
        self.report = tempfile.NamedTemporaryFile(prefix="faults-shim-")
        self.environment = {"LD_PRELOAD": options.shim, "TROTH_SHIM_REPORT": self.report.name}
        for key, value in settings.items():
            self.environment[f"TROTH_SHIM_{key.upper()}"] = str(value)
        self.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "")
        with_sanitizer_options(self.environment, "verify_asan_link_order=0")

    def counts(self):
        with open(self.report.name, "rb") as file:
            return struct.unpack("=QQQ", file.read(24).ljust(24, b"\0"))

    def expect_faults(self, shortened=0, failed=0):
        calls, short, fails = self.counts()
        note(f"{calls} socket calls, {short} shortened, {fails} failed by the shim")
        expect(
            short >= shortened and fails >= failed,
            f"the shim met {calls} calls, shortened {short} (≥ {shortened} wanted), "
            f"made {fails} fail (≥ {failed} wanted): the case shows nothing",
        )


# --- sockets --------------------------------------------------------------------------------------


def pattern(size, seed=0):
    return random.Random(seed).randbytes(size)


def difference(wanted, got):
    """Says where two byte strings part."""
    if got is None:
        return "nothing (refused, reset or silent)"
    if wanted == got:
        return "the same"
    at = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), None)
    if at is None:
        return f"{len(got)} bytes instead of {len(wanted)}"
    return f"{len(got)} bytes of {len(wanted)}, the first wrong one at {at}"


def connect(server, patience=5, buffers=None, segment=None):
    """A connection, if wanted with its own buffer sizes and with short segments both ways: where a
    segment (64 kB on loopback) does not fit into a buffer, TCP falls back to waiting for timers."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    limit = time.monotonic() + patience
    while True:
        sock = socket.socket(family)
        if buffers is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        if segment is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.settimeout(patience)
        try:
            sock.connect((server.host, server.port))
            return sock
        except OSError as error:
            sock.close()
            # Ports in TIME_WAIT come back after a second.
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > limit:
                raise
            time.sleep(0.1)


def reset(sock):
    """Closes with a RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def exchange(sock, data, patience=60, half_close=True, piece=65536):
    """Sends and reads at the same time; returns what came back before EOF (or, without half-close,
    before as many bytes as were sent had come)."""
    sock.setblocking(False)
    view, sent, got = memoryview(data), 0, bytearray()
    limit = time.monotonic() + patience
    if half_close and not data:
        sock.shutdown(socket.SHUT_WR)
    while half_close or len(got) < len(data):
        left = limit - time.monotonic()
        if left <= 0:
            raise Failure(f"stuck: {sent} of {len(data)} bytes sent, {len(got)} came back")
        sending = [sock] if sent < len(data) else []
        readable, writable, _ = select.select([sock], sending, [], min(left, 1))
        if writable:
            try:
                sent += sock.send(view[sent : sent + piece])
            except BlockingIOError:
                pass
            if half_close and sent == len(data):
                sock.shutdown(socket.SHUT_WR)
        if readable:
            try:
                block = sock.recv(65536)
            except BlockingIOError:
                continue
            if not block:
                break
            got += block
    sock.settimeout(patience)
    return bytes(got)


def echo(server, data, patience=10):
    """A whole client: send, half-close, read until EOF. None if refused, reset or stuck."""
    try:
        with connect(server, patience) as sock:
            return exchange(sock, data, patience)
    except (OSError, Failure):
        return None


def send_unread(sock, size, patience=1.0):
    """Sends up to `size` bytes, reading none, until no more is taken for a while; how many went."""
    sock.setblocking(False)
    block, sent = pattern(65536), 0
    while sent < size:
        if not select.select([], [sock], [], patience)[1]:
            break
        try:
            sent += sock.send(block[: size - sent])
        except BlockingIOError:
            pass
        except ConnectionError:
            break
    return sent


def state_of(sock, patience):
    """`answered`, `closed` (EOF or reset) or `hanging`, after at most so long."""
    if not select.select([sock], [], [], patience)[0]:
        return "hanging"
    try:
        return "answered" if sock.recv(65536) else "closed"
    except ConnectionError:
        return "closed"


# --- the cases ------------------------------------------------------------------------------------

cases = {}  # name: (function, arguments)


def case(name, *arguments):
    def register(function):
        cases[name] = (function, arguments)
        return function

    return register


def memory_binary(strict, loose):
    """The binary to measure memory on, its environment, and the limit that holds for it."""
    release = options.release or options.server
    environment = {}
    if not has_sanitizer(release):
        return release, environment, strict
    note(f"measured with sanitizers: the limit is {loose / MIB:.0f} MiB, not {strict / MIB:.0f}")
    environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "")
    with_sanitizer_options(environment, "quarantine_size_mb=1:thread_local_quarantine_size_kb=64")
    return release, environment, loose


@case("A1.small-descriptor-limit")
def a1_small_descriptor_limit():
    """60 clients at a server that may open a dozen descriptors more than it has."""
    probe = Server()
    limit = max(probe.descriptor_names()) + 1 + 12
    probe.stop()

    server = Server(descriptors=limit)
    clients = [connect(server) for _ in range(60)]
    for client in clients:
        try:
            client.send(b"hello")
        except ConnectionError:
            pass
    time.sleep(0.5)
    states = [state_of(client, 0.01) for client in clients]
    served = [client for client, state in zip(clients, states) if state == "answered"]
    note(
        f"limit {limit}: {len(served)} answered, {states.count('closed')} closed, "
        f"{states.count('hanging')} left waiting"
    )
    server.expect_alive()
    expect(len(served) >= 4, f"only {len(served)} of 60 are served with 12 free descriptors")

    # Time does not pass in silence: more clients knock while the CPU is watched.
    before, start = server.cpu_seconds(), time.monotonic()
    late = []
    while time.monotonic() < start + 2:
        late.append(connect(server))
        time.sleep(0.1)
    share = (server.cpu_seconds() - before) / (time.monotonic() - start)
    note(f"CPU {share * 100:.1f} % over 2 s")
    expect(share < 0.2, f"busy: {share * 100:.0f} % of a core while descriptors are short")

    for client in served:
        data = pattern(5000)
        answer = exchange(client, data, 5, half_close=False)
        expect(answer == data, f"a client served before got back {difference(data, answer)}")

    for client in clients + late:
        client.close()
    data = pattern(5000)
    again = poll_until(lambda: echo(server, data, 2) == data, 8)
    expect(again, "no new client is served after the others have left")
    server.expect_serves(5)
    server.expect_descriptors_back()
    server.stop(quiet=False)


def a2_accept_fails(error):
    """50 failing calls of accept in a row: afterwards the server serves and is calm."""
    server = Server()
    strace = Strace(
        server, "trace=accept,accept4", f"inject=accept,accept4:error={error}:when=1..50"
    )
    data = pattern(2000)
    limit = time.monotonic() + 20
    attempts = 0
    # A refused or dropped client tries again; one that is kept waiting waits.
    while time.monotonic() < limit:
        attempts += 1
        if echo(server, data, limit - time.monotonic()) == data and strace.injected() >= 50:
            break
        server.expect_alive()
    injected = strace.injected()
    note(f"{injected} calls failed with {error}, {attempts} clients until all was well")
    expect(injected > 0, "no call has failed: the case shows nothing")
    expect(injected >= 50, f"after {injected} failures the server does not accept any more")
    strace.detach()
    server.expect_serves(5)
    server.expect_calm(1)
    server.expect_descriptors_back()
    server.stop(quiet=False)


for a2_error in ("EMFILE", "ENFILE", "ECONNABORTED", "ENOMEM", "EPERM", "EPROTO"):
    case(f"A2.{a2_error}", a2_error)(a2_accept_fails)


@case("A3.sigpipe")
def a3_sigpipe():
    """Peers that are gone when the server writes; SIGPIPE has its default action at the start."""
    server = Server()
    for number in range(60):
        client = connect(server)
        send_unread(client, 300000, 0.05)
        if number % 3 == 0:
            client.close()  # with bytes unread: a reset
        elif number % 3 == 1:
            reset(client)
        else:
            client.shutdown(socket.SHUT_WR)
            reset(client)
        server.expect_alive()
    # Surely before the write: everything happens while the server stands still.
    for number in range(20):
        client = connect(server)
        expect(exchange(client, b"ready", 5, half_close=False) == b"ready", "no echo")
        server.freeze()
        send_unread(client, 50000, 0.05)
        if number % 2 == 0:
            client.shutdown(socket.SHUT_WR)
        reset(client)
        server.thaw()
        server.expect_serves(1)
    server.expect_descriptors_back()
    server.stop()


@case("A4.descriptors")
def a4_descriptors():
    """300 churned and 100 reset connections leave the count as it was."""
    server = Server()
    for number in range(300):
        data = pattern(1 + number * 7)
        if number % 3 == 0:
            connect(server).close()
        else:
            answer = echo(server, data)
            expect(answer == data, f"client {number} got back {difference(data, answer)}")
    for number in range(100):
        client = connect(server)
        if number % 2:
            client.send(pattern(3000))
        if number % 4 == 3:
            state_of(client, 5)
        reset(client)
    server.expect_descriptors_back()
    server.expect_serves()
    server.expect_descriptors_back()
    server.stop()


def connections_on(port, state):
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(int(row[1].rpartition(":")[2], 16) == port and row[3] == state for row in rows)


@case("A7.restart")
def a7_restart():
    """The same port again within a second, with connections in TIME_WAIT and after a crash."""
    # The side that closes first keeps the TIME_WAIT: an idle time-out makes that the server.
    server = Server("--idle-timeout", 1)
    port = server.port
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        expect(state_of(client, 8) == "closed", "an idle client is not closed")
        client.close()
    server.stop()
    stopped = time.monotonic()
    note(f"{connections_on(port, '06')} connections in TIME_WAIT on the port")
    server = Server(port=port)
    note(f"listening again after {time.monotonic() - stopped:.2f} s")
    expect(server.port == port, f"port {server.port} instead of {port}")
    server.expect_serves()

    clients = [connect(server) for _ in range(20)]
    for client in clients:
        exchange(client, b"alive", half_close=False)
    server.process.kill()
    server.process.wait()
    server = Server(port=port)
    for client in clients:
        client.close()
    server.expect_serves()
    server.stop()


@case("A7.taken-port")
def a7_taken_port():
    """A port in use is an error that names the address."""
    server = Server()
    run_and_expect_error(["--port", server.port], [f"127.0.0.1:{server.port}"])
    server.expect_serves()
    server.stop()


@case("A8.churn")
def a8_churn():
    """10 000 connections one after the other: no descriptor and no memory stays behind."""
    binary, environment, limit = memory_binary(strict=2 * MIB, loose=6 * MIB)
    server = Server(binary=binary, environment=environment)

    def half():
        for number in range(5000):
            client = connect(server)
            if number % 10 == 0:
                client.sendall(b"x" * 1000)
                expect(state_of(client, 5) == "answered", "no echo")
            if number % 3 == 0:
                reset(client)  # leaves no port in TIME_WAIT
            else:
                client.close()
        server.expect_serves(1)
        server.expect_descriptors_back()
        return server.resident_bytes()

    first, second = half(), half()
    note(f"resident {first / MIB:.1f} MiB after 5 000, {second / MIB:.1f} MiB after 10 000")
    expect(
        second - first < limit,
        f"5 000 connections cost {(second - first) / MIB:.1f} MiB (limit {limit / MIB:.0f})",
    )
    server.stop()


@case("S1.small-buffers")
def s1_small_buffers():
    """50 MB through a socket with buffers of 4 kB."""
    server = Server()
    data = pattern(50_000_000)
    with connect(server, buffers=4096) as sock:
        answer = exchange(sock, data)
    expect(answer == data, f"came back: {difference(data, answer)}")
    server.stop()


@case("S1.short-transfers")
def s1_short_transfers():
    """50 MB, both sides with small buffers, no call of the server moving more than 3 000 bytes."""
    shim = Shim(shorten=3000, buffers=4096)
    server = Server(environment=shim.environment)
    data = pattern(50_000_000)
    with connect(server, buffers=4096, segment=1000) as sock:
        answer = exchange(sock, data)
    expect(answer == data, f"came back: {difference(data, answer)}")
    shim.expect_faults(shortened=10000)
    server.stop()


@case("S1.single-bytes")
def s1_single_bytes():
    """No call of the server moves more than one byte."""
    shim = Shim(shorten=1)
    server = Server(environment=shim.environment)
    data = pattern(200_000)
    answer = echo(server, data, 60)
    expect(answer == data, f"came back: {difference(data, answer)}")
    shim.expect_faults(shortened=100000)
    server.stop()


def s2_clients(server):
    """Clients that come in turn and at once, of all sizes."""
    for size in (0, 1, 2, 100, 4096, 65536, 65537, MIB):
        data = pattern(size, size)
        answer = echo(server, data, 30)
        expect(answer == data, f"of {size} bytes came back {difference(data, answer)}")
    clients = [connect(server) for _ in range(30)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.sendall(pattern(3000, number + turn))
        for number, client in enumerate(clients):
            data, answer = pattern(3000, number + turn), b""
            while len(answer) < len(data):
                block = client.recv(65536)
                expect(block, f"client {number} was closed after {len(answer)} bytes")
                answer += block
            expect(answer == data, f"client {number} got back {difference(data, answer)}")
    for client in clients:
        client.close()


def s2_by_shim(error, every):
    """Every n-th call on a socket fails and the others are short; nobody notices."""
    shim = Shim(fail_every=every, errno=error, shorten=20000)
    server = Server(environment=shim.environment)
    s2_clients(server)
    shim.expect_faults(failed=50)
    server.expect_descriptors_back()
    server.stop()


for s2_error in ("EINTR", "EAGAIN"):
    for s2_every in (2, 3):
        case(f"S2.{s2_error}-every-{s2_every}", s2_error, s2_every)(s2_by_shim)


@case("S2.EINTR-by-strace")
def s2_eintr_by_strace():
    """EINTR from the system's own side of the call, waiting for events included."""
    calls = (
        "read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg,"
        "accept,accept4,epoll_wait,epoll_pwait,poll,ppoll"
    )
    server = Server()
    strace = Strace(server, f"trace={calls}", f"inject={calls}:error=EINTR:when=2+3")
    s2_clients(server)
    injected = strace.injected()
    note(f"{injected} calls interrupted")
    expect(injected >= 50, f"only {injected} calls were interrupted: the case shows nothing")
    strace.detach()
    server.expect_descriptors_back()
    server.stop()


@case("S3.deaf-peers")
def s3_deaf_peers():
    """100 peers that send 2 MiB each and read nothing cost bounded memory and nobody's service."""
    binary, environment, limit = memory_binary(strict=32 * MIB, loose=64 * MIB)
    server = Server(binary=binary, environment=environment)
    server.expect_serves(20)
    before = server.resident_bytes()
    peers = [connect(server, buffers=4096, segment=500) for _ in range(100)]
    for peer in peers:
        peer.setblocking(False)
    block, left = pattern(65536), {peer: 2 * MIB for peer in peers}
    limit_time = time.monotonic() + 20
    while left and time.monotonic() < limit_time:
        writable = select.select([], list(left), [], 0.5)[1]
        if not writable:
            break  # all are held back: that is the point
        for peer in writable:
            try:
                left[peer] -= peer.send(block[: left[peer]])
            except BlockingIOError:
                pass
            if left[peer] == 0:
                del left[peer]
    sent = 200 * MIB - sum(left.values())
    growth = server.resident_bytes() - before
    note(f"{sent / MIB:.0f} of 200 MiB taken, {growth / MIB:.1f} MiB more resident")
    expect(growth < limit, f"100 deaf peers cost {growth / MIB:.0f} MiB (limit {limit / MIB:.0f})")
    expect(len(left) >= 90, f"only {len(left)} of 100 deaf peers are held back")
    server.expect_calm(0.5)

    start = time.monotonic()
    data = pattern(100_000)
    answer = echo(server, data, 5)
    expect(answer == data, f"beside deaf peers a client gets back {difference(data, answer)}")
    note(f"another client is served in {(time.monotonic() - start) * 1000:.0f} ms")
    for number, peer in enumerate(peers):
        if number % 2:
            reset(peer)
        else:
            peer.close()
    server.expect_descriptors_back()
    server.expect_serves()
    server.stop()


@case("S3.slow-reader")
def s3_slow_reader():
    """A peer that was held back and then reads gets every byte."""
    server = Server()
    client = connect(server, buffers=4096, segment=500)
    data = pattern(4 * MIB)
    client.setblocking(False)
    sent = 0
    while sent < len(data) and select.select([], [client], [], 0.5)[1]:
        try:
            sent += client.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
    note(f"{sent} bytes taken before it began to read")
    client.settimeout(5)
    got = bytearray()
    while len(got) < sent:
        block = client.recv(65536)
        expect(block, f"closed after {len(got)} of {sent} bytes")
        got += block
    expect(bytes(got) == data[:sent], f"came back: {difference(data[:sent], bytes(got))}")
    rest = exchange(client, data[sent:], 20)
    expect(rest == data[sent:], f"the rest: {difference(data[sent:], rest)}")
    client.close()
    server.expect_descriptors_back()
    server.stop()


@case("S5.resets")
def s5_resets():
    """A reset at each stage of a connection concerns nobody else."""
    server = Server()

    def ready():
        client = connect(server)
        expect(exchange(client, b"ready", 5, half_close=False) == b"ready", "no echo")
        return client

    def before_accept():
        server.freeze()
        for client in [connect(server) for _ in range(5)]:
            reset(client)
        server.thaw()

    def before_accept_with_data():
        server.freeze()
        for client in [connect(server) for _ in range(5)]:
            client.send(pattern(5000))
            reset(client)
        server.thaw()

    def after_connect():
        reset(connect(server))

    def with_unread_input():
        client = ready()
        server.freeze()
        client.send(pattern(100))
        reset(client)
        server.thaw()

    def amid_echo():
        client = connect(server)
        send_unread(client, 200_000, 0.01)
        state_of(client, 5)
        reset(client)

    def while_the_server_writes():
        client = connect(server, buffers=4096, segment=500)
        send_unread(client, 8 * MIB, 0.1)
        reset(client)

    def after_half_close():
        client = ready()
        client.shutdown(socket.SHUT_WR)
        reset(client)

    def after_half_close_with_unread_output():
        client = connect(server, buffers=4096, segment=500)
        send_unread(client, 8 * MIB, 0.1)
        client.shutdown(socket.SHUT_WR)
        reset(client)

    def after_the_end():
        client = ready()
        exchange(client, b"", 5)
        reset(client)

    stages = (
        before_accept,
        before_accept_with_data,
        after_connect,
        with_unread_input,
        amid_echo,
        while_the_server_writes,
        after_half_close,
        after_half_close_with_unread_output,
        after_the_end,
    )
    bystander = ready()
    for stage in stages:
        for _ in range(5):
            stage()
        server.expect_alive()
        answer = exchange(bystander, b"still here", 5, half_close=False)
        expect(answer == b"still here", f"{stage.__name__}: the bystander got {answer!r}")
        server.expect_serves(1)
    bystander.close()
    server.expect_descriptors_back()
    server.stop()


@case("idle.silent-and-talking")
def idle_silent_and_talking():
    """--idle-timeout 1 closes whoever is silent for a second, and nobody else."""
    server = Server("--idle-timeout", 1)
    start = time.monotonic()
    silent, talking = connect(server), connect(server)
    mute = connect(server)
    expect(exchange(mute, b"once", 5, half_close=False) == b"once", "no echo")
    closed = {}
    while time.monotonic() < start + 3:
        answer = exchange(talking, b"x", 5, half_close=False)
        expect(
            answer == b"x",
            f"the talking client was closed after {time.monotonic() - start:.2f} s",
        )
        for client in {silent, mute} - closed.keys():
            if state_of(client, 0.05) == "closed":
                closed[client] = time.monotonic() - start
        time.sleep(0.05)
    for name, client in (("that never spoke", silent), ("that fell silent", mute)):
        expect(client in closed, f"the client {name} is not closed after 3 s")
        note(f"the client {name} was closed after {closed[client]:.2f} s")
        expect(closed[client] > 0.99, f"the client {name} was closed after {closed[client]:.2f} s")
    last = time.monotonic()
    expect(state_of(talking, 4) == "closed", "the talking client, now silent, is not closed")
    expect(time.monotonic() - last > 0.8, f"it was closed {time.monotonic() - last:.2f} s later")
    for client in (silent, mute, talking):
        client.close()
    server.expect_descriptors_back()
    server.stop()


@case("idle.client-does-not-read")
def idle_client_does_not_read():
    """--idle-timeout 1 closes a client that sends and sends and takes nothing back."""
    server = Server("--idle-timeout", 1)
    client = connect(server, buffers=4096)
    client.settimeout(10)
    start = time.monotonic()
    try:
        while time.monotonic() < start + 20:
            client.send(pattern(65536))
        raise Failure("the client is still served after 20 s")
    except ConnectionError:
        note(f"closed after {time.monotonic() - start:.2f} s")
    client.close()
    server.expect_descriptors_back()
    server.stop()


@case("idle.off-by-default")
def idle_off_by_default():
    """Without the option a silent client stays."""
    server = Server()
    client = connect(server)
    expect(state_of(client, 2) == "hanging", "a silent client was closed within 2 s")
    expect(exchange(client, b"here", 5, half_close=False) == b"here", "no echo")
    client.close()
    server.stop()


def refuses(server):
    try:
        connect(server, 1).close()
        return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@case("grace.client-finishes")
def grace_client_finishes():
    """After SIGTERM a client in the middle can finish; new ones are refused; then it ends."""
    server = Server()
    client = connect(server)
    data = pattern(300_000)
    expect(exchange(client, data[:100_000], 5, half_close=False) == data[:100_000], "no echo")
    os.kill(server.pid, signal.SIGTERM)
    expect(poll_until(lambda: refuses(server), 3), "new connections are not refused after SIGTERM")
    server.expect_alive()
    middle = exchange(client, data[100_000:200_000], 5, half_close=False)
    expect(middle == data[100_000:200_000], "the client in the middle is not served any more")
    answer = exchange(client, data[200_000:], 5)
    expect(answer == data[200_000:], f"its end: {difference(data[200_000:], answer)}")
    client.close()
    finished = time.monotonic()
    server.expect_ended(patience=3)
    note(f"ended {time.monotonic() - finished:.2f} s after its last client")


@case("grace.client-never-finishes")
def grace_client_never_finishes():
    """Clients that do not finish are closed after --grace, and the exit status is 0."""
    server = Server("--grace", 1)
    silent, deaf = connect(server), connect(server, buffers=4096, segment=500)
    expect(exchange(silent, b"here", 5, half_close=False) == b"here", "no echo")
    send_unread(deaf, 8 * MIB, 0.2)
    start = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    expect(state_of(silent, 6) == "closed", "the silent client is not closed")
    took = time.monotonic() - start
    note(f"closed after {took:.2f} s")
    expect(0.95 < took < 4, f"--grace 1, but closed after {took:.2f} s")
    server.expect_ended(patience=3)
    silent.close()
    deaf.close()


@case("grace.resets")
def grace_resets():
    """Clients that reset during the grace period: the server has nobody left and ends."""
    server = Server()
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        exchange(client, b"here", 5, half_close=False)
    os.kill(server.pid, signal.SIGTERM)
    expect(poll_until(lambda: refuses(server), 3), "new connections are not refused after SIGTERM")
    for number, client in enumerate(clients):
        if number % 2:
            send_unread(client, 100_000, 0.01)
        reset(client)
    server.expect_ended(patience=3)


@case("grace.no-clients")
def grace_no_clients():
    """SIGINT and SIGTERM end a server without clients at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        server = Server()
        start = time.monotonic()
        server.stop(number, patience=4)
        note(f"{number.name}: ended after {time.monotonic() - start:.2f} s")


def run_and_expect_error(arguments, mentions, program="echo_server", stdin=subprocess.DEVNULL):
    """The program ends with status 1 and `program: MESSAGE` on stderr with these words in it."""
    binary = options.client if program == "echo_client" else options.server
    shown = " ".join(str(argument) for argument in arguments)
    process = start_process(
        [binary, *arguments],
        # A name server that does not answer is given up soon.
        {"RES_OPTIONS": "timeout:1 attempts:1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        raise Failure(f"{program} {shown}: still running after 20 s") from None
    text = errors.decode(errors="replace")
    seen = f"{program} {shown}: {describe_status(process.returncode)}; stderr: {text!r}"
    note(seen if len(seen) < 300 else seen[:300] + " …")
    expect(process.returncode == 1, seen)
    expect(text.startswith(f"{program}: "), f"{seen}; it must begin with `{program}: `")
    expect(not SANITIZER_REPORT.search(text), seen)
    for word in mentions:
        expect(word in text, f"{seen}; it must mention {word!r}")
    expect(b"listening" not in output, f"{seen}; but it says {output!r}")


@case("input.bad-arguments")
def input_bad_arguments():
    """What the server cannot do it refuses: status 1, a message that names it, no crash."""
    for arguments, mentions in (
        (["--address", "127.0.0.1.2.3.4.5"], ["127.0.0.1.2.3.4.5"]),
        (["--address", "[::1"], ["[::1"]),
        (["--address", "no such host"], ["no such host"]),
        (["--address", "no-such-host.invalid", "--port", "0"], ["no-such-host.invalid"]),
        (["--address", "x" * 300], ["x" * 100]),
        (["--address", "192.0.2.1"], ["192.0.2.1"]),  # a documentation address: not this machine's
        (["--port", "70000"], ["70000"]),
        (["--port", "-1"], ["-1"]),
        (["--port", "65536"], ["65536"]),
        (["--port", "18446744073709551617"], ["18446744073709551617"]),
        (["--port", "12x"], ["12x"]),
        (["--port", ""], ["port"]),
        (["--port"], ["--port"]),
        (["--idle-timeout", "soon"], ["soon"]),
        (["--grace", "-3"], ["-3"]),
        (["--frobnicate"], ["--frobnicate"]),
    ):
        run_and_expect_error(arguments, mentions)


def need_client():
    if not options.client:
        raise Skip("no --client given")


def run_client(server, stdin, stdout=subprocess.PIPE, patience=30):
    arguments = [options.client, "--address", server.host, "--port", server.port]
    process = start_process(
        arguments,
        stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(
            stdin if isinstance(stdin, bytes) else None, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"echo_client is still running after {patience} s") from None
    text = errors.decode(errors="replace")
    expect(
        process.returncode == 0 and not text,
        f"echo_client: {describe_status(process.returncode)}; stderr: {text!r}",
    )
    return output


@case("client.echo")
def client_echo():
    """What goes into the client comes out of it: nothing, a line, 1 MiB, 16 MiB."""
    need_client()
    server = Server()
    for size in (0, 6, MIB, 16 * MIB):
        data = pattern(size)
        output = run_client(server, data)
        expect(output == data, f"of {size} bytes came back {difference(data, output)}")
    server.expect_descriptors_back()
    server.stop()


@case("client.files")
def client_files():
    """stdin and stdout may be files, which epoll does not take, or /dev/null."""
    need_client()
    server = Server()
    data = pattern(MIB)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(data)
        source.seek(0)
        run_client(server, source, target)
        target.seek(0)
        output = target.read()
    expect(output == data, f"through files came back {difference(data, output)}")
    expect(run_client(server, subprocess.DEVNULL) == b"", "something came back for nothing")
    server.stop()


@case("client.slow-stdin")
def client_slow_stdin():
    """A line is echoed before stdin ends, as somebody at a terminal expects."""
    need_client()
    server = Server()
    process = start_process(
        [options.client, "--address", server.host, "--port", server.port],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in (b"first\n", b"second\n"):
        os.write(process.stdin.fileno(), line)
        ready = select.select([process.stdout], [], [], 5)[0]
        got = os.read(process.stdout.fileno(), 100) if ready else None
        expect(got == line, f"{line!r} came back as {got!r} while stdin is open")
    output, errors = process.communicate(timeout=10)
    expect(process.returncode == 0 and not output and not errors, f"{output!r} {errors!r}")
    server.stop()


@case("client.errors")
def client_errors():
    """A refused connection names the address; bad arguments are refused as the server's are."""
    need_client()
    server = Server()
    server.stop()  # its port is now one where nobody listens
    for arguments, mentions in (
        (["--address", "127.0.0.1", "--port", server.port], [f"127.0.0.1:{server.port}"]),
        (["--address", "no-such-host.invalid", "--port", "1"], ["no-such-host.invalid"]),
        (["--port", "70000"], ["70000"]),
        (["--frobnicate"], ["--frobnicate"]),
    ):
        run_and_expect_error(arguments, mentions, program="echo_client")


def client_of_vanishing_peer(half_close):
    """A server that resets in the middle ends the client, but not by SIGPIPE."""
    need_client()
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as source:
        source.write(pattern(8 * MIB))
        source.seek(0)
        port = listener.getsockname()[1]
        process = start_process(
            [options.client, "--address", "127.0.0.1", "--port", port],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        listener.settimeout(10)
        peer = listener.accept()[0]
        peer.recv(1000)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.05)
        if half_close:  # after a FIN the reset shows itself as EPIPE, and with it comes SIGPIPE
            peer.shutdown(socket.SHUT_WR)
        reset(peer)
        os.kill(process.pid, signal.SIGCONT)
        try:
            errors = process.communicate(timeout=10)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            raise Failure("echo_client goes on after a reset") from None
    seen = f"after a reset: {describe_status(process.returncode)}; stderr: {errors!r}"
    note(seen)
    # Whoever reads the end of the stream before the error may take it for the end.
    ended_well = half_close and process.returncode == 0 and not errors
    expect(ended_well or (process.returncode == 1 and errors.startswith("echo_client: ")), seen)
    expect(not SANITIZER_REPORT.search(errors), seen)


case("client.reset", False)(client_of_vanishing_peer)
case("client.end-and-reset", True)(client_of_vanishing_peer)


@case("address.ipv6")
def address_ipv6():
    """--address ::1 listens there."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skip(f"no IPv6 loopback: {error}") from None
    server = Server("--address", "::1")
    expect(server.host == "::1", f"it says that it listens on {server.host}")
    server.expect_serves()
    if options.client:
        expect(run_client(server, b"hello\n") == b"hello\n", "echo_client gets nothing over IPv6")
    server.stop()


# What a server calls while it serves, with errors that the call may report. Not among them are epoll_ctl, on whose
# errors libuv calls abort(), and close, which an injected error would keep from closing.
SERVING = {
    "read": ("ECONNRESET", "ENOMEM", "ENOBUFS", "EIO"),
    "write": ("ECONNRESET", "ENOBUFS", "EPIPE"),
    "accept4": ("ECONNRESET", "ENOBUFS", "EMFILE"),
    "setsockopt": ("ENOBUFS", "EINVAL"),
    "getsockopt": ("ENOBUFS",),
    "epoll_wait": ("EINTR",),
}


def r7_binary(call):
    """The server that can be tried with this call failing: UBSan writes to find out what memory is readable."""
    if call != "write":
        return options.server
    if not options.release or has_sanitizer(options.release):
        raise Skip("needs a server without sanitizers (--release)")
    return options.release


def r7_exchanges(server):
    """Two clients at once, twice; each is answered, or turned away with a part of its answer."""
    data = pattern(5000)
    for half_close in (False, True):
        clients = [connect(server, 3) for _ in range(2)]
        for client in clients:
            try:
                answer = exchange(client, data, 3, half_close)
            except OSError:
                continue  # a reset: the call was one for this client
            expect(data.startswith(answer), f"a client got back {difference(data, answer)}")


def r7_serving(call):
    """One call after the other fails while clients are served: whom it does not concern is served on."""
    server = Server(binary=r7_binary(call))
    failed = 0
    for error in SERVING[call]:
        for number in range(1, 100):
            strace = Strace(server, f"trace={call}", f"inject={call}:error={error}:when={number}")
            r7_exchanges(server)
            server.expect_alive()
            injected = strace.injected()
            strace.detach()
            failed += injected
            if not injected:
                break
            server.expect_serves(1)
    note(f"{failed} calls failed, one at a time")
    expect(failed >= 2 * len(SERVING[call]), "next to no call has failed: the case shows nothing")
    server.expect_serves(3)
    server.expect_descriptors_back()
    server.stop(quiet=False)


for r7_call in SERVING:
    case(f"R7.serving-{r7_call}", r7_call)(r7_serving)

# Not pipe2: without its pipe for signals libuv calls abort().
STARTING = {
    "epoll_create1": ("EMFILE",),
    "eventfd2": ("ENFILE", "ENOMEM"),
    "socket": ("EMFILE", "ENOBUFS", "EACCES", "EAFNOSUPPORT"),
    "setsockopt": ("ENOBUFS",),
    "bind": ("EADDRINUSE", "EACCES", "ENOMEM"),
    "listen": ("EADDRINUSE",),
    "getsockname": ("ENOBUFS",),
    "fcntl": ("EMFILE",),
}

CONNECTING = {
    "socket": ("EMFILE", "ENOBUFS", "EACCES"),
    "connect": ("ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EINTR"),
    "setsockopt": ("ENOBUFS",),
    "shutdown": ("ENOBUFS",),
}


def r7_program(arguments, call, error, number, use, **pipes):
    """Runs a program whose n-th call fails, hands it to `use`, and tells whether the call was made. It must end
    with 0, or with 1 and one line that says why."""
    environment = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
    with_sanitizer_options(environment, "detect_leaks=0")  # does not work in a traced process
    with tempfile.NamedTemporaryFile(prefix="faults-strace-") as log, tempfile.TemporaryFile() as errors:
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}"]
        process = start_process(
            ["strace", "-D", "-f", "-q", "-o", log.name, *inject, *arguments],
            environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            **pipes,
        )
        use(process)
        status = process.wait(START_LIMIT)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        seen = f"{call} {number} fails with {error}: {describe_status(status)}; stderr: {text!r}"
        injected = poll_until(lambda: b"exited with" in open(log.name, "rb").read(), 5)
        expect(injected, f"strace has not ended: {seen}")
        injected = b"(INJECTED)" in open(log.name, "rb").read()
        expect(not SANITIZER_REPORT.search(text), f"a sanitizer reports: {seen}")
        expect(status in (0, 1), seen)
        expect(status == 0 or (injected and text.count("\n") == 1 and len(text) > 20), seen)
        return injected


def r7_sweep(call, errors, run):
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    failed = 0
    for error in errors:
        for number in range(1, 100):
            if not run(call, error, number):
                break
            failed += 1
    note(f"{failed} calls failed, one at a time")
    expect(failed >= len(errors), "not every error has been met: the case shows nothing")


def r7_starting(call):
    """One call after the other fails while a server starts: it serves, or says what went wrong."""

    def serve(process):
        line = process.stdout.readline()
        match = re.match(rb"listening on 127\.0\.0\.1:(\d+)\n", line)
        if not match:
            expect(not line, f"printed {line!r}")
            return
        with socket.create_connection(("127.0.0.1", int(match[1])), 5) as client:
            client.sendall(b"hello")
            expect(client.recv(10) == b"hello", "what was sent is not echoed")
        process.terminate()

    arguments = [options.server, "--port", "0"]
    r7_sweep(
        call,
        STARTING[call],
        lambda *which: r7_program(arguments, *which, serve, stdin=subprocess.DEVNULL),
    )


for r7_call in STARTING:
    case(f"R7.starting-{r7_call}", r7_call)(r7_starting)


def r7_connecting(call):
    """One call after the other fails in a client: it does its work, or says what went wrong."""
    need_client()
    server = Server()
    data = pattern(300000)

    def converse(process):
        answer, _ = process.communicate(data, timeout=10)
        expect(data.startswith(answer), f"printed {difference(data, answer)}")

    arguments = [options.client, "--port", str(server.port)]
    r7_sweep(
        call,
        CONNECTING[call],
        lambda *which: r7_program(arguments, *which, converse, stdin=subprocess.PIPE),
    )
    server.expect_serves(1)
    server.stop(quiet=False)


for r7_call in CONNECTING:
    case(f"R7.connecting-{r7_call}", r7_call)(r7_connecting)


# --- the proxy ------------------------------------------------------------------------------------


def proxy_to(server, *arguments):
    if not options.proxy:
        raise Skip("no --proxy given")
    return Server("--to", f"{server.host}:{server.port}", *arguments, binary=options.proxy)


@case("proxy.both-directions")
def proxy_both_directions():
    """Through a proxy: each direction whole, and the half-close passed on."""
    server = Server()
    proxy = proxy_to(server)
    proxy.expect_serves(5)
    data = pattern(3 * MIB)
    answer = echo(proxy, data, 30)
    expect(answer == data, f"a client got back {difference(data, answer)}")
    clients = [connect(proxy) for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(pattern(1000, number))
    for number, client in enumerate(clients):
        answer = exchange(client, b"", 5)
        expect(answer == pattern(1000, number), f"a client got back {len(answer)} bytes")
        client.close()
    proxy.expect_descriptors_back()
    server.expect_descriptors_back()
    proxy.stop()
    server.stop()


@case("proxy.vanishing")
def proxy_vanishing():
    """Clients that reset, and a target that goes away: the other connections and the proxy go on."""
    server = Server()
    proxy = proxy_to(server)
    for _ in range(20):
        client = connect(proxy)
        send_unread(client, 100000, 0.02)
        reset(client)
    proxy.expect_serves(3)
    proxy.expect_descriptors_back()
    last = connect(proxy)
    last.sendall(b"hello")
    expect(last.recv(10) == b"hello", "the last client is not served")
    port = server.port
    server.stop()
    expect(last.recv(10) == b"", "the end of the target is not passed on")
    last.close()
    refused = connect(proxy)
    try:
        seen = refused.recv(10)
    except ConnectionError:
        seen = b""
    expect(seen == b"", "something came from a target that is gone")
    again = Server(port=port)
    proxy.expect_serves(2)
    again.stop()
    proxy.stop(quiet=False)


@case("proxy.limit")
def proxy_limit():
    """No more clients at once than it was told: the next one waits for a place."""
    server = Server()
    proxy = proxy_to(server, "--clients", 2)
    first, second, third = (connect(proxy) for _ in range(3))
    for client in (first, second, third):
        client.sendall(b"hello")
    expect(first.recv(10) == b"hello" and second.recv(10) == b"hello", "the first two are not served")
    expect(not select.select([third], [], [], 0.3)[0], "a third is served beyond the limit of 2")
    first.close()
    expect(third.recv(10) == b"hello", "the third is not served once there is room")
    second.close()
    third.close()
    proxy.stop()
    server.stop()


# --- running them ---------------------------------------------------------------------------------


def give_up(_number, _frame):
    raise Failure(f"not done within {CASE_LIMIT} s")


def run_case(name, function, arguments):
    """Returns `passed`, `FAILED` or `skipped`."""
    print(f"{name}: {(function.__doc__ or '').strip().partition(chr(10))[0]}", flush=True)
    start = time.monotonic()
    outcome, why = "passed", ""
    signal.alarm(CASE_LIMIT)
    try:
        function(*arguments)
    except Skip as skip:
        outcome, why = "skipped", str(skip)
    except Failure as failure:
        line = traceback.extract_tb(failure.__traceback__)
        places = [frame.lineno for frame in line if frame.name not in ("expect", "run_case")]
        outcome, why = "FAILED", f"{failure} (faults.py:{', '.join(map(str, places))})"
    except Exception:  # mostly a ConnectionError where none should be
        outcome, why = "FAILED", traceback.format_exc()
    finally:
        signal.alarm(0)
        if outcome == "FAILED":
            for server in servers:
                note(f"server {server.pid}: {server.how_it_ended()}")
        end_all()
    took = time.monotonic() - start
    print(f"  {outcome} {name} in {took:.1f} s{': ' + why if why else ''}", flush=True)
    return outcome


def find_release():
    folder = os.environ.get("TROTH_RELEASE_DIR")
    if not folder:
        return None
    for path in (f"{folder}/examples/echo_server", f"{folder}/echo_server"):
        if os.path.exists(path):
            return path
    sys.exit(f"faults.py: TROTH_RELEASE_DIR is {folder}, but there is no echo_server in it")


def main():
    global options
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", help="the echo_server under test")
    parser.add_argument("--client", help="the echo_client under test")
    parser.add_argument("--proxy", help="the proxy under test")
    parser.add_argument("--shim", help="the shared library made from shim.cc")
    parser.add_argument("--release", help="an echo_server without sanitizers, to measure memory on")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="a name or the beginning of one")
    options = parser.parse_args()
    if options.list:
        print("\n".join(cases))
        return 0
    if not options.server:
        parser.error("--server is needed")
    options.release = options.release or find_release()
    for key in ("server", "client", "proxy", "shim", "release"):
        path = getattr(options, key)
        if path is not None:
            setattr(options, key, os.path.abspath(path))

    chosen = [n for n in cases if not options.cases or any(n.startswith(c) for c in options.cases)]
    if not chosen:
        parser.error(f"no such case: {' '.join(options.cases)} (see --list)")
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that `finally` ends the children
    outcomes = [run_case(name, *cases[name]) for name in chosen]
    passed, failed = outcomes.count("passed"), outcomes.count("FAILED")
    skipped = outcomes.count("skipped")
    print(
        f"test cases: {len(outcomes)} | {passed} passed | {failed} failed | {skipped} skipped",
        flush=True,
    )
    if failed:
        return 1
    return 77 if skipped == len(outcomes) else 0  # 77: meson's word for skipped


options = None

if __name__ == "__main__":
    sys.exit(main())
