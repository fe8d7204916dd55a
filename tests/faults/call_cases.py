# SPDX-License-Identifier: MIT
# One system call after the other fails, in an echo server and in its client (row R7).

import re
import socket
import subprocess

from basics import Skip, case, expect, note, options
from injection import run_program, sweep
from processes import Server, Strace, has_sanitizer, need_client
from sockets import connect, difference, exchange, pattern

# What a server calls while it serves, with errors that the call may report. Not among them are epoll_ctl, on whose
# errors libuv calls abort() (the case `proxy.epoll_ctl` shows it), and close, which an injected error would keep from
# closing.
SERVING = {
    "read": ("ECONNRESET", "ENOMEM", "ENOBUFS", "EIO"),
    "write": ("ECONNRESET", "ENOBUFS", "EPIPE"),
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


def r7_binary(call):
    """The server that can be tried with this call failing: UBSan writes to find out what memory is readable."""
    if call != "write":
        return options.server
    if not options.release or has_sanitizer(options.release):
        raise Skip("needs a server without sanitizers (--release)")
    return options.release


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
    server = Server(binary=r7_binary(call))
    fail_while_serving(server, call, SERVING[call])
    server.expect_serves(3)
    server.expect_descriptors_back()
    server.stop(quiet=False)


for r7_call in SERVING:
    case(f"R7.serving-{r7_call}", r7_call)(r7_serving)


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
