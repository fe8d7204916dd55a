# SPDX-License-Identifier: MIT
# What the echo server and its client promise: time-outs, the graceful end, arguments, files, addresses.

import os
import select
import signal
import socket
import subprocess
import tempfile
import time

from basics import MIB, Failure, Skip, case, expect, note, options, poll_until
from processes import (
    SANITIZER_REPORT,
    Server,
    describe_status,
    need_client,
    run_and_expect_error,
    start_process,
)
from sockets import connect, difference, exchange, pattern, reset, send_unread, state_of


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
