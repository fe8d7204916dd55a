# SPDX-License-Identifier: MIT
# A chat: who hears what, who is dropped, and that nobody waits for anybody else.

import select
import signal
import socket
import time

from basics import Failure, Skip, case, expect, note, options
from processes import Server
from sockets import connect, reset

PATIENCE = 10
QUESTION = "* what is your name?"


def chat(*arguments):
    if not options.chat:
        raise Skip("no --chat given")
    return Server(*arguments, binary=options.chat)


class Person:
    """A client that reads lines."""

    def __init__(self, server, name=None, **settings):
        self.socket = connect(server, PATIENCE, **settings)
        self.pending = b""
        self.expect(QUESTION)
        if name:
            self.say(name)
            self.expect_beginning(f"* welcome, {name};")

    def say(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def hear(self):
        """The next line; None at the end of the connection."""
        limit = time.monotonic() + PATIENCE
        while b"\n" not in self.pending:
            if not select.select([self.socket], [], [], max(limit - time.monotonic(), 0))[0]:
                raise Failure(f"no line within {PATIENCE} s, but {self.pending!r}")
            block = self.socket.recv(65536)
            if not block:
                expect(not self.pending, f"the connection ends within a line: {self.pending!r}")
                return None
            self.pending += block
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def expect(self, *lines):
        for wanted in lines:
            line = self.hear()
            expect(line == wanted, f"heard {line!r}, not {wanted!r}")

    def expect_beginning(self, wanted):
        line = self.hear()
        expect(line is not None and line.startswith(wanted), f"heard {line!r}, not {wanted!r}")


def part(server, *people):
    for person in people:
        person.socket.close()
    server.expect_descriptors_back()


@case("chat.talk")
def chat_talk():
    """Two talk; names, changes of names, comings and goings are told to the others."""
    server = chat()
    alice, bob = Person(server, "alice"), Person(server, "bob")
    alice.expect("* bob is here")
    alice.say("hello\x1b[2J \x9b2J\xa9 bob\r")  # without what could play tricks with a terminal
    bob.expect("alice: hello[2J 2J\xa9 bob")
    bob.say("/nick robert")
    bob.expect_beginning("* welcome, robert; here are 2")
    alice.expect("* bob is now robert")
    bob.say("/nick alice")
    bob.expect("* somebody has that name; try another one")
    bob.say("/nick two words")
    bob.expect_beginning("* a name has 1 to 20 bytes")
    nameless = Person(server)
    nameless.say("x" * 21)
    nameless.expect_beginning("* a name has 1 to 20 bytes")
    reset(nameless.socket)  # nobody knew that it was there
    bob.say("still here")
    alice.expect("robert: still here")
    bob.socket.shutdown(socket.SHUT_WR)
    bob.expect("* you have left, good-bye", None)
    alice.expect("* robert has left")
    part(server, alice, bob)
    server.stop()


@case("chat.long-line")
def chat_long_line():
    """A line that is too long is refused, whole, and the one after it is heard."""
    server = chat()
    alice, bob = Person(server, "alice"), Person(server, "bob")
    alice.expect("* bob is here")
    alice.say("a" * 1000)
    bob.expect("alice: " + "a" * 1000)
    for length in (1001, 8191, 8192, 8193, 100_000):
        alice.say("a" * length)
        alice.expect("* please, no more than 1000 bytes in a line")
        alice.say(f"that was {length}")
        bob.expect(f"alice: that was {length}")
    alice.socket.sendall(b"b" * 5000)  # and no end of it
    alice.socket.shutdown(socket.SHUT_WR)
    alice.expect("* please, no more than 1000 bytes in a line", "* you have left, good-bye", None)
    bob.expect("* alice has left")
    part(server, alice, bob)
    server.stop()


@case("chat.slow-reader")
def chat_slow_reader():
    """Who does not read is dropped; of two others each hears every line, as fast as they come."""
    server = chat("--queue", 20, "--grace", 1)
    slow = Person(server, "slow", buffers=4096, segment=500)
    alice, bob = Person(server, "alice"), Person(server, "bob")
    slow.expect("* alice is here", "* bob is here")
    alice.expect("* bob is here")
    said, dropped, longest = 0, False, 0.0
    while said < 20_000 and not dropped:
        start = time.monotonic()
        alice.say(f"{said} " + "x" * 900)
        line = bob.hear()
        dropped = line == "* slow has left"
        if dropped:
            line = bob.hear()
        expect(line is not None and line.startswith(f"alice: {said} "), f"bob heard {line!r} for line {said}")
        longest = max(longest, time.monotonic() - start)
        said += 1
    note(f"dropped after {said} lines of 900 bytes; the longest took {longest * 1000:.0f} ms")
    expect(dropped, f"not dropped after {said} lines of 900 bytes")
    expect(longest < 2, f"a line took {longest:.1f} s to a reader who reads")
    alice.expect("* slow has left")
    lines = []
    while (line := slow.hear()) is not None:  # what was queued, and what has become of it
        lines.append(line)
    expect(lines[-1] == "* you read too slowly, good-bye", f"the last that the slow one heard is {lines[-1]!r}")
    expect(len(lines) <= said, "the slow one heard more than was said")
    alice.say("good")
    bob.expect("alice: good")
    part(server, slow, alice, bob)
    server.stop()


@case("chat.flood")
def chat_flood():
    """Who says much at once drops nobody who reads; who is dropped and does not read then is disconnected."""
    server = chat("--queue", 20, "--grace", 0)
    deaf = Person(server, "deaf", buffers=4096, segment=500)
    alice, bob = Person(server, "alice"), Person(server, "bob")
    alice.expect("* bob is here")
    lines = 30_000
    text = b"".join(b"%d\n" % number for number in range(lines))  # more than a thousand come in one read
    alice.socket.setblocking(False)
    got = bytearray(bob.pending)
    last = f"alice: {lines - 1}\n".encode()
    while not got.endswith(last):
        sending = [alice.socket] if text else []
        readable, writable, _ = select.select([bob.socket], sending, [], PATIENCE)
        expect(readable or writable, f"stuck: {len(text)} bytes are not said, {len(got)} heard")
        if writable:
            text = text[alice.socket.send(text[:65536]) :]
        if readable:
            block = bob.socket.recv(65536)
            expect(block, f"bob, who reads, is dropped: {bytes(got[-200:])!r}")
            got += block
    heard = got.decode().splitlines()
    expect(heard.count("* deaf has left") == 1, "the deaf one is still there")
    heard.remove("* deaf has left")
    wanted = [f"alice: {number}" for number in range(lines)]
    expect(heard == wanted, "bob has not heard every line, in order")
    expect(server.descriptors() == server.idle_descriptors + 2, "the deaf one is still connected")
    part(server, deaf, alice, bob)
    server.stop()


@case("chat.idle")
def chat_idle():
    """Who is silent for too long is told so, and leaves; who talks stays."""
    server = chat("--idle-timeout", 1)
    silent = Person(server, "silent")
    silent.expect("* you were silent for too long, good-bye", None)
    nameless = Person(server)
    nameless.expect("* you were silent for too long, good-bye", None)
    part(server, silent, nameless)
    server.stop()


def chat_ends(number):
    """The signal ends it: all are told, connections end in order, and the status is 0."""
    server = chat()
    people = [Person(server, f"number{number}") for number in range(5)]
    people.append(Person(server))
    start = time.monotonic()
    server.stop(number)
    note(f"ended after {time.monotonic() - start:.2f} s")
    for index, person in enumerate(people):
        lines = []
        while (line := person.hear()) is not None:
            lines.append(line)
        expect(lines and lines[-1] == "* the chat ends here, good-bye", f"{index} heard {lines} in the end")


case("chat.SIGTERM", signal.SIGTERM)(chat_ends)
case("chat.SIGINT", signal.SIGINT)(chat_ends)
