#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A C program with a troth server in its loop: embed_c.py EMBED_C [COMMAND…] (what to run it under, such as valgrind)."""
import signal
import sys

from cases import Client, Program, case, client_that_does_not_read, expect, handles, refuses, run

PROGRAM, UNDER = sys.argv[1], sys.argv[2:]
WATCHED = ["A signal", "A signal", "A signal"]  # the host's own, for three signals
LEFT = "the shouting server has left"
RETURNED = "uv_run has returned 0 after ticks of the clock"
CLOSED = "uv_loop_close has returned 0; loop->data is untouched"


class Host(Program):
    def __init__(self):
        super().__init__(*UNDER, PROGRAM)
        self.clock = self.port("the clock is on")
        self.shouter = self.port("shouting on")

    def time(self) -> int:
        with Client(self.clock) as client:
            return int(client.line().removeprefix("tick "))

    def ticks_on(self) -> None:
        """Asks until the clock has ticked; each connection is a round of the loop at least."""
        before = self.time()
        while self.time() == before:
            pass


@case
def both():
    """the host's timer and server and the troth server go on side by side, and uv_run returns when both are done"""
    with Host() as host:
        with Client(host.shouter) as first, Client(host.shouter) as second:
            expect(first.ask("hello") == "HELLO")
            host.ticks_on()
            expect(second.ask("") == "")
            expect(first.ask("again") == "AGAIN")
            host.signal(signal.SIGINT)
            expect(first.is_hung_up_on() and second.is_hung_up_on(), "a silent client is kept")
        output, errors = host.ends()
    lines = output.splitlines()
    expect(lines[0] == "3 lines were answered" and RETURNED in lines and lines[-1] == CLOSED, output)
    expect(not errors, errors)


@case
def alone():
    """the troth server ends, leaves no handle behind, and the host goes on without it"""
    with Host() as host:
        with Client(host.shouter) as client:
            expect(client.ask("hello") == "HELLO")
            host.signal(signal.SIGUSR1)
            expect(client.is_hung_up_on())
        expect(host.line() == "1 lines were answered")
        expect(host.line().startswith(LEFT))
        host.ticks_on()
        expect(refuses(host.shouter), "the port is still open")
        host.signal(signal.SIGUSR1)  # nothing to stop any more
        host.ticks_on()
        host.signal(signal.SIGTERM)
        output, errors = host.ends()
    at_leaving, rest = output.split(RETURNED)
    expect(sorted(handles(at_leaving)) == sorted([*WATCHED, "A timer", "A tcp"]), output)
    expect(not handles(rest) and CLOSED in rest, output)
    expect(not errors, errors)


@case
def busy():
    """a client that does not read what it is sent is cut off when the grace is over, and the host's clock ticks on"""
    with Host() as host:
        with client_that_does_not_read(host.shouter):
            host.signal(signal.SIGUSR1)
            expect(host.line().endswith(" lines were answered"))
            host.ticks_on()
            expect(host.line().startswith(LEFT))
        host.signal(signal.SIGINT)
        output, errors = host.ends()
    expect(CLOSED in output and not errors, output, errors)


@case
def long_line():
    """a line without end costs its client the connection, and nobody else anything"""
    with Host() as host:
        with Client(host.shouter) as client, Client(host.shouter) as other:
            client.socket.sendall(b"x" * 100_000)
            try:
                expect(client.is_hung_up_on())
            except ConnectionResetError:
                pass  # so it was, with bytes that nobody has read
            expect(other.ask("still here") == "STILL HERE")
        host.signal(signal.SIGINT)
        output, errors = host.ends()
    expect(CLOSED in output and "more than 4096 bytes" in errors, output, errors)


if __name__ == "__main__":
    sys.exit(run())
