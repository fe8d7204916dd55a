# SPDX-License-Identifier: MIT
# A proxy: both directions, vanishing peers, failing and short calls, no descriptors.

import resource
import select
import signal
import subprocess

from basics import MIB, Skip, case, expect, note, options, poll_until
from call_cases import fail_on_one_connection, fail_while_serving, fail_while_starting
from injection import faulty_environment, run_program
from processes import Server, Shim, Strace
from sockets import connect, difference, echo, exchange, pattern, reset, send_unread, state_of


def proxy_to(server, *arguments, **settings):
    if not options.proxy:
        raise Skip("no --proxy given")
    return Server("--to", f"{server.host}:{server.port}", *arguments, binary=options.proxy, **settings)


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
    server = Server("--grace", 0)
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


# --- failing calls --------------------------------------------------------------------------------

# What its sockets may report, and what is no more than a reason to try again.
ERRORS = {
    "read": ("ECONNRESET", "ENOMEM", "ENOBUFS", "ETIMEDOUT"),
    "write": ("ECONNRESET", "EPIPE", "ENOMEM"),
    "shutdown": ("ENOBUFS", "ENOMEM"),
}
TRANSIENT = {"read": ("EINTR", "EAGAIN"), "write": ("EINTR", "EAGAIN", "ENOBUFS")}


def proxy_failing(call):
    """One call after the other fails on the sockets of one client: it alone is dropped, or nobody notices."""
    server = Server()
    proxy = proxy_to(server)
    fail_on_one_connection(proxy, call, ERRORS[call], TRANSIENT.get(call, ()), sockets=2)
    server.expect_descriptors_back()
    proxy.stop(quiet=False)
    expect_own_lines(proxy)
    server.stop()


def expect_own_lines(proxy):
    for line in proxy.error_text().splitlines():
        expect(line.startswith("proxy: "), f"on stderr: {line!r}")


for proxy_call in ERRORS:
    case(f"proxy.failing-{proxy_call}", proxy_call)(proxy_failing)

# What it calls for a new client, with errors that the call may report.
SERVING = {
    "accept4": ("ECONNABORTED", "ENOBUFS", "EMFILE"),
    "socket": ("EMFILE", "ENOBUFS"),
    "connect": ("ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "EINTR"),
    "setsockopt": ("ENOBUFS",),
    "epoll_wait": ("EINTR",),
}


def proxy_serving(call):
    """One call after the other fails while clients come: whom it does not concern is served on."""
    server = Server()
    proxy = proxy_to(server)
    fail_while_serving(proxy, call, SERVING[call])
    proxy.expect_serves(3)
    proxy.expect_descriptors_back()
    proxy.stop(quiet=False)
    expect_own_lines(proxy)
    server.stop()


for proxy_call in SERVING:
    case(f"proxy.serving-{proxy_call}", proxy_call)(proxy_serving)

STARTING = {
    "epoll_create1": ("EMFILE",),
    "eventfd2": ("ENFILE",),
    "socket": ("EMFILE", "EACCES"),
    "bind": ("EADDRINUSE", "EACCES"),
    "listen": ("EADDRINUSE",),
    "getsockname": ("ENOBUFS",),
    "fcntl": ("EMFILE",),
}


@case("proxy.starting")
def proxy_starting():
    """One call after the other fails while it starts: it listens, or says what went wrong."""
    server = Server()
    proxy_to(server).stop()
    arguments = [options.proxy, "--port", "0", "--to", f"127.0.0.1:{server.port}"]
    for call, errors in STARTING.items():
        fail_while_starting(arguments, lambda port: None, call, errors)
    server.stop()


@case("proxy.epoll_ctl")
def proxy_epoll_ctl():
    """Without memory for epoll libuv calls abort(), which nobody can mend; a failing removal does no harm."""
    server = Server()
    data = pattern(2000)
    aborted = served = 0
    for number in range(1, 7):
        proxy = proxy_to(server)
        strace = Strace(proxy.process, "trace=epoll_ctl", f"inject=epoll_ctl:error=ENOMEM:when={number}")
        answers = [echo(proxy, data, 3), echo(proxy, data, 3) if proxy.process.poll() is None else None]
        if strace.injected() == 0:
            expect(answers == [data, data], "nothing failed, but not every client is served")
            break
        if answers[1] == data:
            served += 1
            strace.detach()
            proxy.stop(quiet=False)
        else:
            status = proxy.wait()
            expect(status == -signal.SIGABRT and not proxy.error_text(), proxy.how_it_ended())
            aborted += 1
    note(f"{aborted} failures ended in libuv's abort(), {served} did not")
    expect(aborted + served >= 3, "next to no call has failed: the case shows nothing")
    server.stop(quiet=False)


def proxy_short(error, every, longest, size):
    """Short counts on all sockets, and every n-th call to be repeated: nobody notices."""
    shim = Shim(shorten=longest, fail_every=every, errno=error)
    server = Server()
    proxy = proxy_to(server, environment=shim.environment)
    data = pattern(size)
    answer = echo(proxy, data, 60)
    expect(answer == data, f"came back: {difference(data, answer)}")
    shim.expect_faults(shortened=size // longest, failed=size // longest // every)
    proxy.expect_descriptors_back()
    proxy.stop()
    server.stop()


case("proxy.single-bytes", "EINTR", 5, 1, 30_000)(proxy_short)
case("proxy.short", "EAGAIN", 3, 3000, 3_000_000)(proxy_short)


# --- without descriptors --------------------------------------------------------------------------


@case("proxy.starting-descriptors")
def proxy_starting_descriptors():
    """From none that is free to enough: it says that there are too few descriptors, or listens."""
    server = Server()
    proxy_to(server).stop()
    arguments = [options.proxy, "--port", "0", "--to", f"127.0.0.1:{server.port}"]
    refused = listening = 0

    def end(process):
        nonlocal listening
        listening = process.stdout.readline().startswith(b"listening on ")
        if listening:
            process.terminate()

    for limit in range(4, 40):  # with less the loader cannot open libraries, and says so itself
        ending = run_program(
            arguments, end, descriptors=limit, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        ending.expect_clear(error="EMFILE")
        if listening:
            break
        refused += 1
    note(f"{refused} limits are too few, {limit} is enough to listen")
    expect(refused and listening, f"{refused} limits too few: the case shows nothing")
    server.stop()


@case("proxy.descriptors")
def proxy_descriptors():
    """With each number of free descriptors: who is served is served on, and new ones are once there are some."""
    server = Server()
    proxy = proxy_to(server, environment=faulty_environment(traced=False))
    data = pattern(20_000)
    hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)[1]
    bystander = connect(proxy)
    expect(exchange(bystander, b"hello", 5, half_close=False) == b"hello", "no echo")
    taken = max(proxy.descriptor_names()) + 1
    for free in range(8):
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (taken + free, hard))
        clients = [connect(proxy) for _ in range(5)]
        states = []
        for client in clients:
            try:
                client.sendall(data)
                states.append(state_of(client, 0.15))
            except ConnectionError:
                states.append("closed")
        note(f"{free} free: " + ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))
        expect(states.count("answered") <= free // 2, f"{states} with {free} free descriptors")
        answer = exchange(bystander, data, 5, half_close=False)
        expect(answer == data, f"a client served before got back {difference(data, answer)}")
        for client in clients:
            client.close()
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (taken + 2, hard))
        expect(poll_until(lambda: echo(proxy, data, 2) == data, 5), "no new client is served when there is room")
        proxy.expect_alive()
    bystander.close()
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (hard, hard))
    proxy.expect_serves()
    proxy.expect_descriptors_back()
    proxy.starved = True
    proxy.stop(quiet=False)
    expect_own_lines(proxy)
    server.stop()
