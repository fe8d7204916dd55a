# SPDX-License-Identifier: MIT
# One system call after the other fails, in an echo server and in its client (row R7).

import re
import socket
import subprocess

from basics import case, expect, note, options
from injection import run_program, sweep
from processes import Server, Strace, need_client
from sockets import connect, difference, exchange, pattern

# What a server calls while it serves, with errors that the call may report. Not among them are epoll_ctl, on whose
# errors libuv calls abort() (the case `proxy.epoll_ctl` shows it), close, which an injected error would keep from
# closing, and write, by which UBSan finds out what memory is readable: it fails on one socket only.
SERVING = {
    "read": ("ECONNRESET", "ENOMEM", "ENOBUFS", "EIO"),
    "accept4": ("ECONNRESET", "ENOBUFS", "EMFILE"),
    "setsockopt": ("ENOBUFS", "EINVAL"),
    "getsockopt": ("ENOBUFS",),
    "epoll_wait": ("EINTR",),
}

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


def exchange_while_calls_fail(server):
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


def fail_while_serving(server, call, errors):
    """One call after the other fails while clients are served: whom it does not concern is served on."""
    failed = 0
    for error in errors:
        for number in range(1, 100):
            strace = Strace(server.process, f"trace={call}", f"inject={call}:error={error}:when={number}")
            exchange_while_calls_fail(server)
            server.expect_alive()
            injected = strace.injected()
            strace.detach()
            failed += injected
            if not injected:
                break
            server.expect_serves(1)
    note(f"{failed} calls of {call} failed, one at a time")
    expect(failed >= 2 * len(errors), "next to no call has failed: the case shows nothing")


def r7_serving(call):
    """One call after the other fails while clients are served: whom it does not concern is served on."""
    server = Server()
    fail_while_serving(server, call, SERVING[call])
    server.expect_serves(3)
    server.expect_descriptors_back()
    server.stop(quiet=False)


for r7_call in SERVING:
    case(f"R7.serving-{r7_call}", r7_call)(r7_serving)


class Victim:
    """A client whose sockets in the server are known, so that calls on them alone can be made to fail."""

    def __init__(self, server, sockets):
        before = set(server.descriptor_names().values())
        self.socket = connect(server)
        self.socket.sendall(b"hello")
        expect(self.socket.recv(10) == b"hello", "no echo")
        names = {name for name in server.descriptor_names().values() if name.startswith("socket:")}
        self.names = names - before
        expect(len(self.names) == sockets, f"a client has {self.names}, {sockets} wanted")

    def exchange(self, data):
        """What comes back; None after a reset."""
        try:
            with self.socket:
                return exchange(self.socket, data, 5)
        except OSError:
            return None


def with_fault(server, victim, bystander, data, call, error, when):
    """One connection meets the fault, the other one does not. Returns what came back, and how many calls failed."""
    strace = Strace(
        server.process, f"trace={call}", f"inject={call}:error={error}:when={when}", paths=victim.names
    )
    answer = victim.exchange(data)
    seen = f"{call} {when} fails with {error}"
    expect(answer is None or data.startswith(answer), f"{seen}: came back {difference(data, answer)}")
    beside = exchange(bystander, data, 5, half_close=False)
    expect(beside == data, f"{seen}: the other client got back {difference(data, beside)}")
    server.expect_alive()
    strace.detach()
    return answer, strace.injected()


def fail_on_one_connection(server, call, errors, transient, sockets):
    """One call after the other fails on the sockets of one client: it alone is dropped. What is to be repeated (every
    second call) nobody notices."""
    data = pattern(150_000)
    bystander = connect(server)
    expect(exchange(bystander, b"hello", 5, half_close=False) == b"hello", "no echo")
    failed = repeated = 0
    for error in errors:
        for number in range(1, 100):
            answer, injected = with_fault(server, Victim(server, sockets), bystander, data, call, error, number)
            if not injected:
                expect(answer == data, f"nothing failed, but came back {difference(data, answer)}")
                break
            failed += injected
    for error in transient:
        answer, injected = with_fault(server, Victim(server, sockets), bystander, data, call, error, "1+2")
        expect(answer == data, f"{call} is to be repeated ({error}): came back {difference(data, answer)}")
        repeated += injected
    note(f"{failed} calls failed, one at a time; {repeated} were repeated")
    expect(failed >= len(errors), "next to no call has failed: the case shows nothing")
    bystander.close()
    server.expect_serves(3)
    server.expect_descriptors_back()


@case("R7.serving-write")
def r7_serving_write():
    """One write after the other fails on the socket of one client: it alone is dropped, or nobody notices."""
    server = Server()
    fail_on_one_connection(server, "write", ("ECONNRESET", "EPIPE"), ("EINTR", "EAGAIN", "ENOBUFS"), sockets=1)
    server.stop(quiet=False)


def fail_while_starting(arguments, use, call, errors):
    """One call after the other fails while a server starts: `use` is handed it, or it says what went wrong."""

    def check(process):
        line = process.stdout.readline()
        match = re.match(rb"listening on 127\.0\.0\.1:(\d+)\n", line)
        if not match:
            expect(not line, f"printed {line!r}")
            return
        use(int(match[1]))
        process.terminate()

    def run(fault):
        return run_program(arguments, check, fault, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    sweep(call, errors, run, lambda ending, fault: ending.expect_clear())


def r7_starting(call):
    """One call after the other fails while a server starts: it serves, or says what went wrong."""

    def use(port):
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"hello")
            expect(client.recv(10) == b"hello", "what was sent is not echoed")

    fail_while_starting([options.server, "--port", "0"], use, call, STARTING[call])


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

    def run(fault):
        arguments = [options.client, "--port", server.port]
        return run_program(arguments, converse, fault, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    sweep(call, CONNECTING[call], run, lambda ending, fault: ending.expect_clear())
    server.expect_serves(1)
    server.stop(quiet=False)


for r7_call in CONNECTING:
    case(f"R7.connecting-{r7_call}", r7_call)(r7_connecting)
