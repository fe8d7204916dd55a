# SPDX-License-Identifier: MIT
"""The cases of Autobahn|TestSuite by their numbers (groups 1 to 7, 9, 10, 12 and 13), against both sides of WebSocket:

  websocket_cases.py [--full] [--only NUMBER] SERVER [PEER]

SERVER is examples/http_server, whose /ws sends back what it gets; PEER is websocket_peer, whose client does. A case
passes only with the outcome that the suite calls OK, and with a close frame where it would let the connection just end;
its "non-strict" and "informational" outcomes fail. Where the suite waits for a second, this waits for the answer.

Without --full, messages of group 9 have a quarter of their size, and there are fewer of them in 9, 12 and 13. --only
runs the cases whose number begins so.

The last line is "N passed, N failed"; the status is 1 if one failed. All connections are on loopback."""
import argparse
import base64
import collections
import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib

TIMEOUT = 20
MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KNOWN = {MORE, TEXT, BINARY, CLOSE, PING, PONG}
FRAMES = "frames"  # how bytes are sent: each frame by itself
WHOLE = None  # or all at once; otherwise so many bytes at a time

# `steps()` are calls of methods of Connection. Then `ender` is who sends the first close frame: US, THEM, or STEPS if
# one of them did; `codes` are those with which theirs may come.
Case = collections.namedtuple("Case", "number steps ender codes offer accept")
US, THEM, STEPS = "us", "them", "steps"
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"  # Greek; its second letter has three bytes
NO_CODE = 1005  # RFC 6455, section 7.1.5
# How many cases each group of the suite has.
COUNTS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}


class Table:
    """The cases, in the suite's order."""

    def __init__(self, full):
        self.full = full
        self.cases = []
        for fill in (self.framing, self.pings, self.reserved_bits, self.opcodes, self.fragments, self.utf8,
                     self.utf8_samples, self.closes, self.large, self.round_trips, self.compression):
            fill()
        counted = collections.Counter(int(case.number.split(".")[0]) for case in self.cases)
        assert counted == COUNTS, counted

    def add(self, number, steps, ender=US, codes=(1000,), offer=None, accept=None):
        self.cases.append(Case(number, steps if callable(steps) else lambda: steps, ender, codes, offer, accept))

    def fault(self, number, *steps, code=1002):
        self.add(number, steps, THEM, (code,))

    def framing(self):
        sizes = [(size, WHOLE) for size in (0, 125, 126, 127, 128, 65535, 65536)] + [(65536, 997)]
        for group, opcode, byte in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
            for i, (size, chop) in enumerate(sizes, 1):
                self.add(f"1.{group}.{i}", echo(opcode, byte * size, chop))

    def pings(self):
        def answered(number, payload, chop=WHOLE):
            self.add(number, [("send", [frame(PING, payload)], chop), ("expect", PONG, payload)])

        unasked = frame(PONG, b"unsolicited pong payload")
        answered("2.1", b"")
        answered("2.2", b"Hello, world!")
        answered("2.3", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")
        answered("2.4", b"\xfe" * 125)
        self.fault("2.5", ("send", [frame(PING, b"\xfe" * 126)]))
        answered("2.6", b"\xfe" * 125, 1)
        self.add("2.7", [("send", [frame(PONG)])])
        self.add("2.8", [("send", [unasked])])
        self.add("2.9", [("send", [unasked, frame(PING, b"ping payload")]), ("expect", PONG, b"ping payload")])
        payloads = [b"payload-%d" % i for i in range(10)]
        for number, chop in (("2.10", WHOLE), ("2.11", 1)):
            self.add(number, [("send", [frame(PING, payload) for payload in payloads], chop)] +
                     [("expect", PONG, payload) for payload in payloads])

    def fault_between(self, number, bad, chop):
        """A fault behind a message, which still comes back, and before a ping, which is not answered."""
        hello = b"Hello, world!"
        self.fault(number, ("send", [frame(TEXT, hello), bad, frame(PING)], chop), ("expect", TEXT, hello))

    def reserved_bits(self):
        hello, bytes8 = b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
        self.fault("3.1", ("send", [frame(TEXT, hello, reserved=1)]))
        self.fault_between("3.2", frame(TEXT, hello, reserved=2), WHOLE)
        self.fault_between("3.3", frame(TEXT, hello, reserved=3), FRAMES)
        self.fault_between("3.4", frame(TEXT, hello, reserved=4), 1)
        self.fault("3.5", ("send", [frame(BINARY, bytes8, reserved=5)]))
        self.fault("3.6", ("send", [frame(BINARY, hello, reserved=6)]))
        self.fault("3.7", ("send", [frame(CLOSE, reserved=7)]))

    def opcodes(self):
        for group, first in ((1, 3), (2, 11)):
            self.fault(f"4.{group}.1", ("send", [frame(first)]))
            self.fault(f"4.{group}.2", ("send", [frame(first + 1, b"reserved opcode payload")]))
            self.fault_between(f"4.{group}.3", frame(first + 2), WHOLE)
            self.fault_between(f"4.{group}.4", frame(first + 3, b"Hello, world!"), WHOLE)
            self.fault_between(f"4.{group}.5", frame(first + 4, b"Hello, world!"), 1)

    def fragments(self):
        one, two, three, four, five = (b"fragment%d" % i for i in range(1, 6))
        start, end = frame(TEXT, one, final=False), frame(MORE, two)
        both = ("expect", TEXT, one + two)
        ping, pong = frame(PING, b"ping payload"), ("expect", PONG, b"ping payload")
        hello = frame(TEXT, b"Hello, world!")
        self.fault("5.1", ("send", [frame(PING, one, final=False), end]))
        self.fault("5.2", ("send", [frame(PONG, one, final=False), end]))
        for i, chop in enumerate((WHOLE, FRAMES, 1)):
            self.add(f"5.{3 + i}", [("send", [start, end], chop), both])
        for i, chop in enumerate((WHOLE, FRAMES, 1)):
            self.add(f"5.{6 + i}", [("send", [start, ping, end], chop), pong, both])
        for first, final in ((9, True), (12, False)):
            for i, chop in enumerate((WHOLE, FRAMES, 1)):
                astray = frame(MORE, b"non-continuation payload", final=final)
                self.fault(f"5.{first + i}", ("send", [astray, hello], chop))
        self.fault("5.15", ("send", [start, end, frame(MORE, three, final=False), frame(TEXT, four)]), both)
        for number, final in (("5.16", False), ("5.17", True)):
            astray = frame(MORE, one, final=final)
            self.fault(number, ("send", [astray, frame(TEXT, two, final=False), frame(MORE, three)] * 2))
        self.fault("5.18", ("send", [start, frame(TEXT, two)]))
        for number, chop in (("5.19", WHOLE), ("5.20", FRAMES)):
            # The first answer has to come before the message goes on.
            self.add(number, [
                ("send", [start, frame(MORE, two, final=False), frame(PING, b"pongme 1!")], chop),
                ("expect", PONG, b"pongme 1!"),
                ("send", [frame(MORE, three, final=False), frame(MORE, four, final=False), frame(PING, b"pongme 2!"),
                          frame(MORE, five)], chop),
                ("expect", PONG, b"pongme 2!"),
                ("expect", TEXT, one + two + three + four + five)])

    def utf8(self):
        def fragmented(number, *parts):
            self.add(number, [("send", fragments(TEXT, parts)), ("expect", TEXT, b"".join(parts))])

        hello = "Hello-µ@ßöäüàá-UTF-8!!".encode()
        fragmented("6.1.1", b"")
        fragmented("6.1.2", b"", b"", b"")
        fragmented("6.1.3", b"", b"middle frame payload", b"")
        fragmented("6.2.1", hello)
        fragmented("6.2.2", "Hello-µ@ßöä".encode(), "üàá-UTF-8!!".encode())
        fragmented("6.2.3", *pieces(hello, 1))
        fragmented("6.2.4", *pieces(KOSME, 1))

        surrogate = KOSME + b"\xed\xa0\x80edited"
        self.fault("6.3.1", ("send", [frame(TEXT, surrogate)]), code=1007)
        self.fault("6.3.2", ("send", fragments(TEXT, pieces(surrogate, 1))), code=1007)
        # What follows the byte that cannot be is not sent at all: the fault must have been seen without it.
        too_large = KOSME + b"\xf4\x90\x80\x80edited"
        cuts = {1: (len(KOSME), len(KOSME) + 4), 2: (12, 13)}
        for i, (good, bad) in cuts.items():
            first, second = frame(TEXT, too_large[:good], final=False), frame(MORE, too_large[good:bad], final=False)
            self.fault(f"6.4.{i}", ("send", [first]), ("silence",), ("send", [second]), code=1007)
        for i, (good, bad) in cuts.items():
            self.fault(f"6.4.{i + 2}", ("begin", frame(TEXT, too_large), good), ("silence",), ("go_on", bad), code=1007)

    def utf8_samples(self):
        cut_short = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
                     b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]
        specials = [chr(code).encode() for code in range(0xfff9, 0x10000)]
        high = (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")  # surrogates, the first of a pair
        low = (b"\xed\xb0\x80", b"\xed\xbf\xbf")
        groups = [
            [("hello%sworld" % c).encode() for c in "$¢€\U00024b62"] + [KOSME],
            [KOSME[:size] for size in range(1, len(KOSME) + 1)],
            [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
            [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
            [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
            [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
            [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"],
            [b"\x80", b"\xbf"] + [(b"\x80\xbf" * 3)[:size] for size in range(2, 7)] + [bytes(range(0x80, 0xbf))],
            [b"".join(b"%c " % c for c in range(*ends))
             for ends in ((0xc0, 0xdf), (0xe0, 0xef), (0xf0, 0xf7), (0xf8, 0xfb), (0xfc, 0xfd))],
            cut_short,
            [b"".join(cut_short)],
            [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
            [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
            [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
            [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
            [*high, low[0], b"\xed\xbe\x80", low[1]],
            [first + second for first in high for second in low],
            # The last two code points of each plane.
            [chr(plane << 16 | last).encode() for plane in range(17) for last in (0xfffe, 0xffff)],
            specials,
        ]
        for group, samples in enumerate(groups, 5):
            for i, sample in enumerate(samples, 1):
                if is_utf8(sample):
                    self.add(f"6.{group}.{i}", echo(TEXT, sample))
                else:
                    self.fault(f"6.{group}.{i}", ("send", [frame(TEXT, sample)]), code=1007)

    def closes(self):
        hello, bye = frame(TEXT, b"Hello World!"), closing(1000)

        def sends(number, *frames, codes=(1000,)):
            self.add(number, [("send", frames)], STEPS, codes)

        self.add("7.1.1", echo(TEXT, b"Hello World!"))
        sends("7.1.2", bye, frame(CLOSE))
        sends("7.1.3", bye, frame(PING))
        sends("7.1.4", bye, hello)
        sends("7.1.5", frame(TEXT, b"fragment1", final=False), bye, frame(MORE, b"fragment2"))
        long = repeated(b"BAsd7&jh23", 256 * 1024)
        self.add("7.1.6", [("send", [frame(TEXT, long), hello, bye, frame(PING)]), ("expect", TEXT, long),
                           ("expect", TEXT, b"Hello World!")], STEPS)
        sends("7.3.1", frame(CLOSE), codes=(1000, NO_CODE))
        sends("7.3.2", frame(CLOSE, b"a"), codes=(1002,))
        sends("7.3.3", bye)
        sends("7.3.4", closing(1000, b"Hello World!"))
        sends("7.3.5", closing(1000, b"*" * 123))
        sends("7.3.6", closing(1000, b"*" * 124), codes=(1002,))
        sends("7.5.1", closing(1000, KOSME + b"\xed\xa0\x80edited"), codes=(1002, 1007))
        for i, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
            sends(f"7.7.{i}", closing(code), codes=(1000, code))
        for i, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
            sends(f"7.9.{i}", closing(code), codes=(1002,))
        for i, code in enumerate((5000, 65535), 1):
            sends(f"7.13.{i}", closing(code), codes=(1000, code, 1002))

    def large(self):
        unit = 1024 if self.full else 256
        text, binary = b"BAsd7&jh23", b"\x00\xfe\x23\xfa\xf0"

        def add(number, opcode, pattern, size, **how):
            self.add(number, lambda: echo(opcode, repeated(pattern, size * unit), **how))

        for group, opcode, pattern in ((1, TEXT, text), (2, BINARY, binary)):
            for i, size in enumerate((64, 256, 1024, 4096, 8192, 16384), 1):
                add(f"9.{group}.{i}", opcode, pattern, size)
        for group, opcode in ((3, TEXT), (4, BINARY)):
            for i in range(9):
                add(f"9.{group}.{i + 1}", opcode, b"*", 4096, fragment=64 << 2 * i)
        for group, opcode, pattern in ((5, TEXT, text), (6, BINARY, binary)):
            for i in range(6):
                add(f"9.{group}.{i + 1}", opcode, pattern, 1024, chop=64 << i)

    def round_trips(self):
        count = 1000 if self.full else 50
        for group, opcode, byte in ((7, TEXT, b"*"), (8, BINARY, b"\xfe")):
            for i, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
                self.add(f"9.{group}.{i}", echo(opcode, byte * size) * count)
        self.add("10.1.1", echo(TEXT, b"*" * 65536, fragment=1300))

    def compression(self):
        sizes = [(size, None) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
        sizes += [(size, 256) for size in (8192, 16384, 32768, 65536, 131072)]
        sizes += [(131072, fragment) for fragment in (1024, 4096, 32768)]

        def add(group, opcode, sample, offer, accept):
            for i, (size, fragment) in enumerate(sizes, 1):
                count = 1000 if self.full else max(2, min(50, 65536 // size))
                self.add(f"{group}.{i}", lambda s=size, f=fragment, n=count: windows(opcode, samples.get(sample), s, n, f),
                         offer=offer, accept=accept)

        asked = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
        samples = Samples()
        for i, (opcode, sample) in enumerate(((TEXT, "json"), (BINARY, "picture"), (BINARY, "text"), (TEXT, "html"),
                                              (BINARY, "document")), 1):
            add(f"12.{i}", opcode, sample, asked, "")
        forget, small, large = "no_context_takeover", "max_window_bits=8", "max_window_bits=15"
        terms = ((), (forget,), (small,), (large,), (forget, small), (forget, large), (forget, small))
        for i, term in enumerate(terms, 1):
            offer = asked + "".join(f"; server_{parameter}" for parameter in term)
            if i == 7:
                offer += f", {asked}; server_{forget}, {asked}"
            add(f"13.{i}", TEXT, "json", offer, "".join(f"; client_{parameter}" for parameter in term))


class Samples:
    """Made up, always the same, and of the kinds and sizes of the files that the suite compresses."""

    def __init__(self):
        self.made = {}
        self.random = random.Random(12)
        self.words = [self.word("enisratdhulcgmobwfkzpvüäßöjyxq") for _ in range(2000)]

    def get(self, name):
        if name not in self.made:
            self.random.seed(name)  # whichever others were made before
            self.made[name] = getattr(self, name)()
        return self.made[name]

    def word(self, letters):
        often_first = range(len(letters), 0, -1)
        return "".join(self.random.choices(letters, often_first, k=self.random.randint(2, 12)))

    def line(self, count):
        # Few of the words are most of a text.
        return " ".join(self.words[int(self.random.paretovariate(0.5)) % len(self.words)] for _ in range(count))

    def filled(self, size, make):
        parts, length = [], 0
        while length < size:
            parts.append(make())
            length += len(parts[-1])
        return parts[0][:0].join(parts)[:size]

    def json(self):
        def record():
            number = self.random.randrange(1 << 30)
            return json.dumps({"id": number, "name": self.line(2), "tags": [self.line(1)] * 2, "ratio": number / 7}) + ",\n"

        return self.filled(194056, record)

    def picture(self):
        pixels = bytes((x * y // 700 + x // 3 + self.random.getrandbits(3)) & 255 for y in range(512) for x in range(512))
        return (b"BM" + bytes(1076) + pixels)[:263222]

    def text(self):
        return self.filled(222218, lambda: (self.line(9) + "\r\n").encode())

    def html(self):
        def item():
            return f'<li class="{self.line(1)}"><a href="/{self.line(1)}">{self.line(6)}</a></li>\n'

        return self.filled(263527, item)

    def document(self):
        def stream():
            return b"obj\n<< /Length 4000 >> stream\n" + self.random.randbytes(4000) + b"\nendstream\n"

        return self.filled(1042328, stream)


def frame(opcode, payload=b"", final=True, reserved=0):
    return opcode | reserved << 4 | (128 if final else 0), payload


def closing(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def pieces(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)] or [data]


def fragments(opcode, parts, reserved=0):
    last = len(parts) - 1
    return [frame(MORE if i else opcode, part, i == last, 0 if i else reserved) for i, part in enumerate(parts)]


def repeated(pattern, size):
    return (pattern * (size // len(pattern) + 1))[:size]


def echo(opcode, payload, chop=WHOLE, fragment=None):
    parts = pieces(payload, fragment) if fragment else [payload]
    return [("send", fragments(opcode, parts), chop), ("expect", opcode, payload)]


def windows(opcode, data, size, count, fragment):
    """Messages cut from `data`, one where the other has ended, round and round."""
    at = 0
    for _ in range(count):
        end = (at + size) % len(data)
        part = data[at:end] if end > at else data[at:] + data[:end]
        payload = part.encode() if isinstance(part, str) else part
        yield "compress", opcode, payload, fragment
        yield "expect", opcode, payload
        at = end


def is_utf8(data):
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False


class Failure(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Failure(what)


def shown(message):
    return "the end" if message is None else f"opcode {message[0]} with {len(message[1])} bytes {message[1][:40]}"


class Connection:
    """Frames, on a socket whose opening handshake is over. `deflate` are the agreed parameters, or None."""

    pause = 0.02

    def __init__(self, connected, file, is_client, deflate):
        self.socket, self.file, self.is_client = connected, file, is_client
        self.rest = b""  # of a frame that has begun
        own, peer = ("client_", "server_") if is_client else ("server_", "client_")
        self.deflate = deflate is not None
        if self.deflate:
            # zlib has no window of 2^8 for raw deflate; of one of 2^9 it uses less.
            self.own_bits = max(9, int(deflate.get(own + "max_window_bits", 15)))
            self.peer_bits = int(deflate.get(peer + "max_window_bits", 15))
            self.forgets, self.peer_forgets = (side + "no_context_takeover" in deflate for side in (own, peer))
            self.packer = self.unpacker = None

    # What steps do.

    def send(self, frames, chop=WHOLE):
        coded = [self.code(*one) for one in frames]
        if chop != FRAMES:
            coded = b"".join(coded)
            coded = [coded] if chop is WHOLE else pieces(coded, chop)
        self.write(coded)

    def begin(self, one, size):
        """Sends the head of a frame and so many bytes of its payload."""
        coded = self.code(*one)
        self.payload_size, head = len(one[1]), len(coded) - len(one[1])
        self.rest = coded[head + size:]
        self.write([coded[:head + size]])

    def go_on(self, end):
        size = end - (self.payload_size - len(self.rest))
        self.write([self.rest[:size]])

    def compress(self, opcode, payload, fragment):
        if self.packer is None or self.forgets:
            self.packer = zlib.compressobj(wbits=-self.own_bits)
        packed = (self.packer.compress(payload) + self.packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        self.send(fragments(opcode, pieces(packed, fragment or len(packed)), reserved=4))

    def expect(self, opcode, payload):
        got = self.receive()
        require(got == (opcode, payload), f"{shown((opcode, payload))} was expected, {shown(got)} came")

    def silence(self):
        """What has come so far is no reason to answer, nor to end: the suite waits for a second."""
        readable, _, _ = select.select([self.socket], [], [], self.pause)
        require(not readable, "there is an answer before the fault")

    # How each case ends.

    def end(self, ender, codes):
        if ender == US:
            self.send([closing(1000)])
        got = self.receive()
        require(got is not None and got[0] == CLOSE, f"a close frame was expected, {shown(got)} came")
        code = int.from_bytes(got[1][:2], "big") if got[1] else NO_CODE
        require(code in codes, f"the close frame has {code}, not {codes}: {got[1][2:]}")
        if ender == THEM:
            self.send([closing(code)])
        if not self.is_client:
            self.socket.shutdown(socket.SHUT_WR)  # the server is the first to end it (RFC 6455, section 7.1.1)
        try:
            behind = self.receive()
        except ConnectionError:
            behind = None  # reset, since there was something behind what the peer has read
        require(behind is None, f"{shown(behind)} came behind the close frame")

    # The frames.

    def write(self, parts):
        try:
            for part in parts:
                self.socket.sendall(part)
        except ConnectionError:
            pass  # the peer has heard enough; what it has said is still to be read

    def code(self, first, payload):
        size, masked = len(payload), 128 if self.is_client else 0
        head = (struct.pack("!BB", first, masked | size) if size < 126 else
                struct.pack("!BBH", first, masked | 126, size) if size < 65536 else
                struct.pack("!BBQ", first, masked | 127, size))
        if not masked:
            return head + payload
        key = random.randbytes(4)
        return head + key + self.mask(key, payload)

    @staticmethod
    def mask(key, payload):
        size = len(payload)
        stream = int.from_bytes((key * (size // 4 + 1))[:size], "big")
        return (int.from_bytes(payload, "big") ^ stream).to_bytes(size, "big")

    def receive(self):
        """The next message or control frame; nothing at the end. Whatever is against RFC 6455 is a failure."""
        kind, compressed, parts = None, False, []
        while True:
            got = self.receive_frame()
            if got is None:
                require(kind is None, "the connection ended within a message")
                return None
            first, payload = got
            opcode, final, reserved = first & 15, first >= 128, first >> 4 & 7
            require(opcode in KNOWN, f"opcode {opcode} came")
            if opcode >= CLOSE:
                require(final and len(payload) <= 125 and reserved == 0, f"a control frame {first:#x} came")
                require(kind is None, "a control frame came within a message")  # which these cases never ask for
                return opcode, self.checked_close(payload) if opcode == CLOSE else payload
            require((opcode == MORE) == (kind is not None), f"opcode {opcode} came out of turn")
            require(reserved == 0 or reserved == 4 and self.deflate and opcode != MORE, f"reserved bits {reserved} came")
            if opcode != MORE:
                kind, compressed = opcode, reserved == 4
            parts.append(payload)
            if final:
                whole = b"".join(parts)
                return kind, self.decompress(whole) if compressed else whole

    @staticmethod
    def checked_close(payload):
        require(len(payload) != 1 and is_utf8(payload[2:]), f"a close frame with {payload} came")
        return payload

    def decompress(self, payload):
        if self.unpacker is None or self.peer_forgets:
            self.unpacker = zlib.decompressobj(-self.peer_bits)
        return self.unpacker.decompress(payload + b"\0\0\xff\xff")

    def receive_frame(self):
        head = self.file.read(2)
        if head == b"":
            return None
        require(len(head) == 2, "half a head came")
        require((head[1] >= 128) != self.is_client, "a frame is masked" if self.is_client else "a frame is not masked")
        size = head[1] & 127
        if size > 125:
            least, count = (126, 2) if size == 126 else (65536, 8)
            size = int.from_bytes(self.file.read(count), "big")
            require(least <= size < 1 << 63, f"a length of {size} is coded in {count} bytes")
        key = b"" if self.is_client else self.file.read(4)
        payload = self.file.read(size)
        require(len(payload) == size, "the connection ended within a frame")
        return head[0], self.mask(key, payload) if key else payload


# The opening handshakes.

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def read_head(file):
    first, fields = file.readline(), {}
    while (line := file.readline().strip()) != b"":
        name, value = line.split(b":", 1)
        require(name.lower() not in fields, f"the field {name} came twice")
        fields[name.lower()] = value.strip()
    return first, fields


def parameters(extension):
    """Of permessage-deflate, as a dictionary."""
    name, *rest = (part.strip() for part in extension.split(";"))
    require(name == "permessage-deflate", f"{extension} is no permessage-deflate")
    return dict((parameter.split("=") + [""])[:2] for parameter in rest)


def connect(port, case):
    """To a server, which has to agree to the offer, and to do what it is asked for."""
    connected = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(random.randbytes(16))
    offer = f"Sec-WebSocket-Extensions: {case.offer}\r\n" if case.offer else ""
    connected.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n" + offer.encode() + b"\r\n")
    file = connected.makefile("rb")
    first, fields = read_head(file)
    require(first.startswith(b"HTTP/1.1 101 "), f"the answer is {first}")
    require(fields.get(b"sec-websocket-accept") == accept_key(key), f"the answer has {fields}")
    extension = fields.get(b"sec-websocket-extensions")
    require((extension is not None) == (case.offer is not None), f"{extension} was agreed on")
    deflate = None
    if extension:
        deflate = parameters(extension.decode())
        wanted = parameters(case.offer.split(",")[0])  # a server takes the first offer that it can keep
        require(("server_no_context_takeover" in deflate) >= ("server_no_context_takeover" in wanted) and
                int(deflate.get("server_max_window_bits", 15)) <= int(wanted.get("server_max_window_bits", 15)),
                f"{extension} is not what was asked for")
    return Connection(connected, file, True, deflate)


def accept(listener, case):
    """A client, which has to offer compression; it gets what the case wants of it."""
    connected, _ = listener.accept()
    connected.settimeout(TIMEOUT)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    file = connected.makefile("rb")
    first, fields = read_head(file)
    require(first.startswith(b"GET / HTTP/1.1"), f"the request is {first}")
    answer, deflate = b"", None
    if case.accept is not None:
        offered = parameters(fields[b"sec-websocket-extensions"].decode().split(",")[0])
        require("client_max_window_bits" in offered, f"{offered} lets no server choose a window")
        agreed = "permessage-deflate" + case.accept
        answer, deflate = f"Sec-WebSocket-Extensions: {agreed}\r\n".encode(), parameters(agreed)
    connected.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Accept: " + accept_key(fields[b"sec-websocket-key"]) + b"\r\n" + answer + b"\r\n")
    return Connection(connected, file, False, deflate)


# The runs.

def run(case, opened):
    with opened.socket, opened.file:
        for name, *arguments in case.steps():
            getattr(opened, name)(*arguments)
        opened.end(case.ender, case.codes)


def run_all(role, cases, open_connection):
    """Runs them, reports by group, and returns how many failed."""
    began, passed, total = time.monotonic(), collections.Counter(), collections.Counter()
    for case in cases:
        group = int(case.number.split(".")[0])
        total[group] += 1
        try:
            run(case, open_connection(case))
            passed[group] += 1
        except (Failure, OSError, zlib.error, KeyError, ValueError) as error:
            print(f"  FAILED {case.number}, the {role}: {type(error).__name__}: {error}", flush=True)
    for group, count in total.items():
        print(f"  the {role}, group {group}: {passed[group]} of {count} passed")
    print(f"  the {role}: {time.monotonic() - began:.1f} s", flush=True)
    return sum(total.values()) - sum(passed.values())


def ended(role, process, failed):
    """Whether a program of ours ended well, which a sanitizer would see to."""
    try:
        status = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        status = "no end"
    if status == 0:
        return failed
    print(f"  FAILED: the {role} ended with {status}")
    return failed + 1


def test_server(program, cases):
    command = [os.path.abspath(program), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline().strip().rsplit(":", 1)[1])
        failed = run_all("server", cases, lambda case: connect(port, case))
        server.send_signal(signal.SIGTERM)
        return ended("server", server, failed)


def test_client(program, cases):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        command = [os.path.abspath(program), "echo", str(listener.getsockname()[1]), str(len(cases))]
        with subprocess.Popen(command) as client:
            failed = run_all("client", cases, lambda case: accept(listener, case))
            return ended("client", client, failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("server")
    parser.add_argument("peer", nargs="?")
    options = parser.parse_args()
    if options.full:
        Connection.pause = 1
    random.seed(6455)
    table = Table(options.full)
    only = options.only.rstrip(".") + "." if options.only else ""
    cases = [case for case in table.cases if (case.number + ".").startswith(only)]
    failed, total = test_server(options.server, cases), len(cases)
    if options.peer:
        failed += test_client(options.peer, cases)
        total *= 2
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
