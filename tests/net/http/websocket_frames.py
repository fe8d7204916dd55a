# SPDX-License-Identifier: MIT
"""A server's WebSocket frame by frame, as no library would send them: websocket_frames.py PROGRAM, where PROGRAM is
websocket_peer. The sections follow RFC 6455 and RFC 7692; each case is sent at once and in small pieces.

The last line is "N passed, N failed"; the status is 1 if one failed. All connections are on loopback."""
import os
import random
import socket
import struct
import subprocess
import sys
import zlib

TIMEOUT = 20
MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
cases = []


def case(name, sent, expected, path="/", extensions=None):
    """`sent` are frames as bytes; `expected` are (opcode, payload) in order. A close is the last of them."""
    cases.append((name, sent, expected, path, extensions))


def frame(opcode, payload=b"", final=True, reserved=0, masked=True, length=None):
    first = bytes([(128 if final else 0) | reserved << 4 | opcode])
    size = len(payload)
    if length is None:
        length = (struct.pack("!B", size) if size < 126 else struct.pack("!BH", 126, size) if size < 65536
                  else struct.pack("!BQ", 127, size))
    if not masked:
        return first + length + payload
    mask = random.randbytes(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    coded = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
    return first + bytes([length[0] | 128]) + length[1:] + mask + coded


def fragments(opcode, *parts):
    return [frame(MORE if i else opcode, part, final=i == len(parts) - 1) for i, part in enumerate(parts)]


def closing(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def closed(code):
    return (CLOSE, struct.pack("!H", code))


def fill():
    fault, end, bye = closed(1002), closed(1000), closing(1000)
    for size in (0, 125, 126, 127, 128, 65535, 65536):
        for opcode in (TEXT, BINARY):
            case(f"1 size {size}", [frame(opcode, b"*" * size), bye], [(opcode, b"*" * size), end])

    for payload in (b"", b"Hello", bytes([0, 255, 254, 253]), b"\xfe" * 125):
        case("2 ping", [frame(PING, payload), bye], [(PONG, payload), end])
    case("2 long ping", [frame(PING, b"x" * 126)], [fault])
    case("2 pong unasked", [frame(PONG, b"x"), frame(PING, b"y"), bye], [(PONG, b"y"), end])
    case("2 ten pings", [frame(PING, b"%d" % i) for i in range(10)] + [bye], [(PONG, b"%d" % i) for i in range(10)] + [end])

    for reserved in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            case(f"3 reserved {reserved}", [frame(TEXT, b"a"), frame(opcode, b"b", reserved=reserved)], [(TEXT, b"a"), fault])
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        case(f"4 opcode {opcode}", [frame(TEXT, b"a"), frame(opcode, b"b")], [(TEXT, b"a"), fault])
    case("4 not masked", [frame(TEXT, b"a", masked=False)], [fault])
    case("4 length not minimal", [frame(TEXT, b"a" * 125, length=struct.pack("!BH", 126, 125))], [fault])
    case("4 length of 2^63", [frame(TEXT, b"", length=struct.pack("!BQ", 127, 1 << 63))], [fault])
    case("4 length beyond the limit", [frame(TEXT, b"", length=struct.pack("!BQ", 127, 1 << 62))], [closed(1009)])

    for opcode in (PING, PONG):
        case("5 control in fragments", fragments(opcode, b"a", b"b"), [fault])
    case("5 two", fragments(TEXT, b"a", b"b") + [bye], [(TEXT, b"ab"), end])
    first, last = fragments(BINARY, b"a", b"b")
    case("5 ping between", [first, frame(PING, b"p"), last, bye], [(PONG, b"p"), (BINARY, b"ab"), end])
    for final in (True, False):
        case("5 continuation of nothing", [frame(MORE, b"a", final=final), frame(TEXT, b"b")], [fault])
        case("5 continuation of an end", fragments(TEXT, b"a", b"b") + [frame(MORE, b"c", final=final)], [(TEXT, b"ab"), fault])
    case("5 text in a text", [first, frame(TEXT, b"b")], [fault])
    case("5 close in a text", [first, bye, last], [end])

    for good in ("κόσμε", "\ud7ff\ue000\U0010ffff", "\0", "a" * 5000 + "ä"):
        coded = good.encode()
        case("6 good", fragments(TEXT, *[coded[i:i + 1] for i in range(len(coded))]) + [bye], [(TEXT, coded), end])
    for bad in (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xff",
                b"\xe0\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80"):
        case("6 bad", [frame(TEXT, bad)], [closed(1007)])
        case("6 bad, and the frame has not ended", [frame(TEXT, bad + b"x" * 100)[:6 + len(bad)]], [closed(1007)])
        case("6 bad, and the message has not ended", fragments(TEXT, b"a", bad, b"b")[:2], [closed(1007)])
    case("6 not finished", [frame(TEXT, b"\xce")], [closed(1007)])

    case("7 twice", [bye, bye], [end])
    case("7 ping after it", [bye, frame(PING, b"x")], [end])
    case("7 text after it", [bye, frame(TEXT, b"x")], [end])
    case("7 large before it", [frame(TEXT, b"x" * 262144), bye, frame(PING)], [(TEXT, b"x" * 262144), end])
    case("7 without a code", [frame(CLOSE)], [(CLOSE, b"")])
    case("7 one byte", [frame(CLOSE, b"x")], [fault])
    case("7 with a reason", [closing(1000, b"x" * 123)], [end])
    case("7 with a long reason", [closing(1000, b"x" * 124)], [fault])
    case("7 reason not UTF-8", [closing(1000, b"\xce\xba\xed\xa0\x80")], [closed(1007)])
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        case(f"7 code {code}", [closing(code)], [closed(code)])
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        case(f"7 code {code}", [closing(code)], [fault])

    large = random.Random(9).randbytes(1 << 20)
    case("9 a megabyte", [frame(BINARY, large), bye], [(BINARY, large), end])
    case("9 a megabyte and a byte", [frame(BINARY, large + b"x")], [closed(1009)])
    for size in (64, 1300, 65536):
        parts = [large[i:i + size] for i in range(0, len(large), size)]
        case(f"9 in fragments of {size}", fragments(BINARY, *parts) + [bye], [(BINARY, large), end])

    for parameters in ("", "; server_no_context_takeover; client_no_context_takeover", "; server_max_window_bits=9",
                       "; client_max_window_bits=9; server_max_window_bits=8"):
        bits = 9 if "client_max" in parameters else 15
        sent, expected = [], []
        packer = zlib.compressobj(9, zlib.DEFLATED, -bits)
        for i in range(30):
            message = (b"%d and so on, " % (i % 3)) * (i * 40)
            if "client_no" in parameters:
                packer = zlib.compressobj(9, zlib.DEFLATED, -bits)
            payload = (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            middle = len(payload) // 2
            sent += [frame(TEXT, payload[:middle], final=False, reserved=4), frame(PING, b"p"), frame(MORE, payload[middle:])]
            expected += [(PONG, b"p"), (TEXT, message)]
            sent.append(frame(TEXT, b"not compressed"))
            expected.append((TEXT, b"not compressed"))
        case("12 compressed" + parameters, sent + [bye], expected + [end], "/deflate", "permessage-deflate" + parameters)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (packer.compress(bytes(1 << 26)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    case("12 bomb", [frame(BINARY, bomb, reserved=4)], [closed(1009)], "/deflate", "permessage-deflate")
    case("12 garbage", [frame(TEXT, b"\xff\xff\xff", reserved=4)], [closed(1007)], "/deflate", "permessage-deflate")
    case("12 continuation marked", [frame(TEXT, b"a", final=False), frame(MORE, b"b", reserved=4)], [fault], "/deflate", "permessage-deflate")


class Connection:
    def __init__(self, port, path, extensions):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        head = (f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
        if extensions:
            head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
        self.socket.sendall(head.encode() + b"\r\n")
        assert self.file.readline().startswith(b"HTTP/1.1 101 ")
        fields = []
        while (line := self.file.readline().strip()) != b"":
            fields.append(line.lower())
        self.unpacker = None
        if extensions:
            accepted = next(line for line in fields if line.startswith(b"sec-websocket-extensions"))
            self.forgets = b"server_no_context_takeover" in accepted
            self.bits = 9 if b"server_max" in accepted else 15
            self.unpacker = zlib.decompressobj(-self.bits)

    def receive(self):
        """The next message or control frame; nothing at the end."""
        head = self.file.read(2)
        if head == b"":
            return None
        assert head[0] & 0x80 and not head[1] & 0x80, head
        size = head[1]
        if size > 125:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        payload = self.file.read(size)
        if head[0] & 0x40:
            payload = self.unpacker.decompress(payload + b"\0\0\xff\xff")
            if self.forgets:
                self.unpacker = zlib.decompressobj(-self.bits)
        return head[0] & 15, payload


def run(port, sent, expected, path, extensions, step):
    connection = Connection(port, path, extensions)
    with connection.socket:
        data = b"".join(sent)
        pid = os.fork()  # somebody has to send while we receive
        if pid == 0:
            try:
                for at in range(0, len(data), step):
                    connection.socket.sendall(data[at:at + step])
            except OSError:
                pass  # the server has heard enough
            os._exit(0)
        try:
            for want in expected:
                got = connection.receive()
                if want[0] == CLOSE:
                    got = (got[0], got[1][:2])  # whatever the reason
                assert got == want, f"{want[0]} {want[1][:50]} was expected, {got and (got[0], got[1][:50])} came"
            try:
                connection.socket.shutdown(socket.SHUT_WR)
                behind = connection.receive()
            except OSError:
                behind = None  # reset, since there was something behind our close frame
            assert behind is None, f"{behind} came behind the close frame"
        finally:
            os.waitpid(pid, 0)


def main():
    fill()
    program = os.path.abspath(sys.argv[1])
    failed = count = 0
    with subprocess.Popen([program, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline().strip().rsplit(":", 1)[1])
        for name, sent, expected, path, extensions in cases:
            size = sum(map(len, sent))
            for step in (max(size, 1), 1 if size < 300 else size // 50 + 1):
                count += 1
                try:
                    run(port, sent, expected, path, extensions, step)
                except (AssertionError, OSError) as error:
                    failed += 1
                    print(f"  FAILED {name}, {step} bytes at a time: {error}", flush=True)
        server.stdin.close()
        if server.wait(TIMEOUT) != 0:
            failed += 1
            print(f"  FAILED: the server ended with {server.returncode}")
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
