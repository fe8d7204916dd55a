# SPDX-License-Identifier: MIT
# A forwarded port: who may use it, both directions, a half-close, and the end.

import os
import select
import signal
import socket

from basics import MIB, Skip, case, expect, options, poll_until
from processes import Server, run_and_expect_error
from sockets import connect, difference, echo, exchange, pattern, state_of


def forward_to(host, port, *arguments):
    if not options.port_forward:
        raise Skip("no --port-forward given")
    return Server(*arguments, binary=options.port_forward, listen=("127.0.0.1:0", f"{host}:{port}"))


def open_target():
    """A listening socket of our own, which shows whether anybody comes."""
    target = socket.create_server(("127.0.0.1", 0))
    target.settimeout(5)
    return target


def is_knocked_at(target):
    return bool(select.select([target], [], [], 0)[0])


def expect_refused(*rules):
    """The client is disconnected at once, and nobody comes to the target."""
    with open_target() as target:
        forward = forward_to("127.0.0.1", target.getsockname()[1], *rules)
        for _ in range(20):
            client = connect(forward)
            try:
                client.sendall(b"let me in")
            except ConnectionError:
                pass
            expect(state_of(client, 5) == "closed", f"{rules}: who may not is not disconnected")
            client.close()
        expect(not is_knocked_at(target), f"{rules}: the target hears of a client that may not")
        forward.expect_descriptors_back()
        forward.stop()


def expect_allowed(*rules):
    with open_target() as target:
        forward = forward_to("127.0.0.1", target.getsockname()[1], *rules)
        client = connect(forward)
        client.sendall(b"let me in")
        inside, _ = target.accept()
        inside.settimeout(5)
        expect(inside.recv(20) == b"let me in", f"{rules}: the target gets something else")
        inside.sendall(b"welcome")
        expect(client.recv(20) == b"welcome", f"{rules}: the client gets something else")
        client.close()
        expect(inside.recv(20) == b"", f"{rules}: the end of the client is not passed on")
        inside.close()
        forward.expect_descriptors_back()
        forward.stop()


@case("port_forward.denied")
def port_forward_denied():
    """Who may not is disconnected at once, and no byte reaches the target."""
    expect_refused("--deny", "127.0.0.0/8")
    expect_refused("--allow", "10.0.0.0/8", "--allow", "192.168.0.0/16")
    expect_refused("--allow", "127.0.0.0/8", "--deny", "127.0.0.1/32")


@case("port_forward.allowed")
def port_forward_allowed():
    """Who may gets through, also where a more specific rule makes an exception."""
    expect_allowed()
    expect_allowed("--allow", "local")
    expect_allowed("--deny", "127.0.0.0/8", "--allow", "127.0.0.1")
    expect_allowed("--deny", "10.0.0.0/8", "--deny", "192.168.0.0/16")


@case("port_forward.both-directions")
def port_forward_both_directions():
    """Each direction whole, and the half-close passed on."""
    server = Server()
    forward = forward_to(server.host, server.port, "--allow", "local")
    data = pattern(3 * MIB)
    answer = echo(forward, data, 30)
    expect(answer == data, f"a client got back {difference(data, answer)}")
    forward.expect_serves(5)
    forward.expect_descriptors_back()
    server.expect_descriptors_back()
    forward.stop()
    server.stop()


@case("port_forward.limit")
def port_forward_limit():
    """No more clients at once than it was told: the next one waits for a place."""
    server = Server()
    forward = forward_to(server.host, server.port, "--clients", 1)
    first, second = connect(forward), connect(forward)
    for client in (first, second):
        client.sendall(b"hello")
    expect(first.recv(10) == b"hello", "the first is not served")
    expect(not select.select([second], [], [], 0.3)[0], "a second is served beyond the limit of 1")
    first.close()
    expect(second.recv(10) == b"hello", "the second is not served once there is room")
    second.close()
    forward.stop()
    server.stop()


@case("port_forward.drain")
def port_forward_drain():
    """After SIGTERM nobody new is served; who is there comes to an end, or is cut off after the grace."""
    server = Server()
    forward = forward_to(server.host, server.port, "--grace", 10)
    client = connect(forward)
    expect(exchange(client, b"hello", 5, half_close=False) == b"hello", "no echo")
    os.kill(forward.pid, signal.SIGTERM)
    expect(poll_until(lambda: echo(forward, b"new", 1) is None, 5), "a new client is served after SIGTERM")
    forward.expect_alive()
    data = pattern(MIB)
    answer = exchange(client, data, 10)
    expect(answer == data, f"who was there before got back {difference(data, answer)}")
    client.close()
    forward.expect_ended()

    forward = forward_to(server.host, server.port, "--grace", 0)
    client = connect(forward)
    expect(exchange(client, b"hello", 5, half_close=False) == b"hello", "no echo")
    forward.stop()
    expect(state_of(client, 5) == "closed", "still connected after the end")
    client.close()
    server.expect_descriptors_back()
    server.stop()


@case("port_forward.input")
def port_forward_input():
    """What is wrong on its command line is named."""
    if not options.port_forward:
        raise Skip("no --port-forward given")

    def expect_error(arguments, mentions):
        run_and_expect_error(arguments, mentions, "port_forward")

    expect_error([], ["LISTEN"])
    expect_error(["127.0.0.1:0"], ["TARGET"])
    expect_error(["127.0.0.1:0", "127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:2"])
    expect_error(["127.0.0.1:0", "127.0.0.1:1", "--allow"], ["--allow", "value"])
    expect_error(["127.0.0.1:0", "127.0.0.1:1", "--allow", "300.0.0.0/8"], ["300.0.0.0/8"])
    expect_error(["127.0.0.1:0", "127.0.0.1:1", "--clients", "none"], ["--clients", "none"])
    expect_error(["127.0.0.1:0", "127.0.0.1:1", "--allow", "unix"], ["restrictPeers()"])
