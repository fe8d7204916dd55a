# SPDX-License-Identifier: MIT
# An echo server without descriptors, with failing calls and vanishing peers, and under load (rows A and S).

import os
import select
import socket
import time

from basics import MIB, case, expect, note, options, poll_until
from processes import (
    Server,
    Shim,
    Strace,
    has_sanitizer,
    run_and_expect_error,
    with_sanitizer_options,
)
from sockets import connect, difference, echo, exchange, pattern, reset, send_unread, state_of


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
        server.process, "trace=accept,accept4", f"inject=accept,accept4:error={error}:when=1..50"
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


@case("A7.inherited")
def a7_inherited():
    """A socket that a supervisor holds: over a restart its clients wait, and none is refused."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        server = Server("--address", "ignored.invalid", inherited=held)
        expect(server.port == port, f"port {server.port} instead of {port}")
        server.expect_serves()
        server.stop()
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(b"early")
            server = Server(inherited=held)
            expect(early.recv(16) == b"early", "a client that came during the restart is not served")
        server.expect_serves()
        server.stop()
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}  # another process's
    server = Server(environment=environment)
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
    strace = Strace(server.process, f"trace={calls}", f"inject={calls}:error=EINTR:when=2+3")
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
