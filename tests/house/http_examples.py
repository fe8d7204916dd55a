#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the examples on HTTP and talks to them in bytes: http_examples.py HTTP_SERVER REVERSE_PROXY."""
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

TIMEOUT = 60


@contextlib.contextmanager
def running(program: str, *arguments: str):
    """A server on a free port, which ends by itself when it is asked to."""
    process = subprocess.Popen([program, "--port", "0", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line + process.stderr.read()
        server = Running(process, int(line.rsplit(":", 1)[1]))
        yield server
        server.stop()
        _, server.errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, f"{program}: status {process.returncode}, {server.errors}"
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


class Running:
    def __init__(self, process, port):
        self.process, self.port, self.errors, self.is_told = process, port, "", False

    def stop(self):
        if not self.is_told:
            self.process.send_signal(signal.SIGTERM)
        self.is_told = True

    def ask(self, method: str, path: str, body=None, headers=None, chunked: bool = False):
        """Status, fields and body of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.request(method, path, body, headers or {}, encode_chunked=chunked)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)


def until(stream: socket.socket, end: bytes) -> bytes:
    text = b""
    while end not in text:
        more = stream.recv(65536)
        assert more, f"the stream ended after {text!r}, before {end!r}"
        text += more
    return text


def is_served(server: Running, data: bytes) -> None:
    """What http_server does, by itself or behind a proxy."""
    status, fields, text = server.ask("GET", "/hello/a%20b%2Fc?x=y")
    assert (status, text) == (200, b"hello, a b/c\n"), (status, text)
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert server.ask("POST", "/echo", data)[2] == data
    assert server.ask("POST", "/echo", iter([data[:10], data[10:]]), chunked=True,
                      headers={"Transfer-Encoding": "chunked"})[2] == data
    assert server.ask("POST", "/echo", b"")[::2] == (200, b"")
    assert server.ask("GET", "/echo")[0] == 405 and server.ask("GET", "/none")[0] == 404
    status, fields, text = server.ask("HEAD", "/hello")
    assert (status, fields["content-length"], text) == (200, "13", b"")
    assert b"new WebSocket" in server.ask("GET", "/")[2]
    assert server.ask("GET", "/", headers={"Accept-Encoding": "gzip"})[1]["content-encoding"] == "gzip"
    status, fields, text = server.ask("GET", "/files/data", headers={"Range": "bytes=5-9"})
    assert (status, text) == (206, data[5:10])
    assert server.ask("GET", "/files/data", headers={"If-None-Match": fields["etag"]})[0] == 304
    assert server.ask("GET", "/files/data")[2] == data
    assert server.ask("GET", "/files")[1]["location"] == "/files/"
    assert server.ask("HEAD", "/events")[::2] == (200, b"")
    with server.connect() as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 6\r\n\r\n")
        assert b"text/event-stream" in until(stream, b"id: 7\ndata: 7\n\n")
    with server.connect() as stream:
        stream.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
        stream.sendall(b"\x81\x82\0\0\0\0hi")  # a text, masked by zeros
        assert until(stream, b"hi") == b"\x81\x02hi"
        stream.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert stream.recv(100) == b"\x88\x02\x03\xe8" and stream.recv(100) == b""
    assert server.ask("GET", "/ws")[0] in (400, 426)


def drains(server: Running) -> None:
    """A request that is under way when the signal comes is answered; its connection is the last."""
    with server.connect() as stream:
        stream.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        until(stream, b"\r\n\r\nabc")
        server.stop()
        while True:  # until the port is closed
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                pass  # it came into the queue just when that was closed
        stream.sendall(b"def")
        assert until(stream, b"def") == b"def" and stream.recv(100) == b""


def behind(answers: list, heads: list) -> int:
    """A server that notes the heads that it gets and answers what it was told; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener:
            for answer in answers:
                stream, _ = listener.accept()
                with stream:
                    heads.append(until(stream, b"\r\n\r\n").decode("latin-1"))
                    stream.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def fields_are_passed(program: str) -> None:
    heads = []
    answers = [b"HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\nX-Private: 1\r\nX-Public: 2\r\nKeep-Alive: 3\r\n"
               b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
               b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
               b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
               b"nonsense\r\n\r\n", b""]
    with running(program, "--to", f"http://127.0.0.1:{behind(answers, heads)}") as proxy:
        status, fields, text = proxy.ask("GET", "/a%2fb?c=d", headers={
            "Host": "front.example", "Connection": "x-hop , close, te", "X-Hop": "1", "X-End": "2", "TE": "gzip",
            "Keep-Alive": "x", "Proxy-Authorization": "x", "X-Forwarded-For": "10.0.0.1", "Via": "1.0 first"})
        assert (status, text) == (200, b"ok")
        assert fields["x-public"] == "2" and fields["via"] == "1.1 reverse_proxy" and "x-private" not in fields
        assert fields["set-cookie"] == "b" and "keep-alive" not in fields
        assert proxy.ask("GET", "/")[1]["location"] == "/there"
        with proxy.connect() as stream:  # what is broken off there is broken off here
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            text = until(stream, b"short")
            with contextlib.suppress(ConnectionResetError):
                assert stream.recv(100) == b""
        assert proxy.ask("GET", "/")[0] == 502
        upgrade = b"\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: odd\r\nForwarded: for=a\r\nForwarded: for=b\r\n\r\n"
        for version, status in ((b"1", b" 502 "), (b"0", b" 200 ")):  # HTTP/1.0 has no upgrades
            with proxy.connect() as stream:
                stream.sendall(b"GET / HTTP/1." + version + upgrade)
                assert status in until(stream, b"\r\n")
        assert proxy.ask("TRACE", "/", b"x")[0] == 400
        assert proxy.ask("PUT", "/", b"x")[0] == 502
        assert proxy.ask("PUT", "/", b"x")[0] == 502
        assert proxy.ask("OPTIONS", "*")[0] == 501
    assert 'Forwarded: for=a, for=b, for="127.0.0.1";' in heads[4] and "\r\nUpgrade: odd\r\n" in heads[4], heads[4]
    assert "pgrade: " not in heads[5], heads[5]
    head = heads[0]
    assert head.startswith("GET /a%2fb?c=d HTTP/1.1\r\n"), head
    for line in ("X-End: 2", "X-Forwarded-For: 10.0.0.1, 127.0.0.1", "X-Forwarded-Host: front.example",
                 'Forwarded: for="127.0.0.1";host="front.example";proto=http', "Via: 1.0 first", "Via: 1.1 reverse_proxy"):
        assert f"\r\n{line}\r\n" in head, (line, head)
    for name in ("x-hop", "te:", "keep-alive", "proxy-authorization", "user-agent: troth"):
        assert name not in head.lower(), head
    assert "\r\nHost: front.example\r\n" not in head


def talks(*steps):
    """A server with one connection that waits for the end of a text, and then says something, once for each step; returns
    its port, and what it has heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        with listener, listener.accept()[0] as stream:
            for end, answer in steps:
                heard.append(until(stream, end))
                stream.sendall(answer)
            heard.append(stream.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], heard


def messages_are_passed(program: str) -> None:
    """Trailers, interim responses and Expect, both ways, as far as each side wants them."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\nContent-Length: 7\r\n\r\n"
    port, heard = talks((b"\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"),
                        (b"X-Sum: 3\r\n\r\n", chunked), (b"\r\n\r\n", chunked),
                        (b"\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
    with running(program, "--to", f"http://127.0.0.1:{port}") as proxy:
        with proxy.connect() as stream:
            stream.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nExpect: 100-continue\r\n"
                           b"Connection: TE\r\nTE: trailers\r\n\r\n")
            interim = until(stream, b"</a>\r\n")
            while interim.count(b"\r\n\r\n") < 2:
                interim += stream.recv(1000)
            assert b"HTTP/1.1 103 Early Hints\r\n" in interim and b"HTTP/1.1 100 Continue\r\n\r\n" in interim, interim
            assert b"X-Hop" not in interim, interim
            stream.sendall(b"3\r\nabc\r\n0\r\nHost: evil\r\nX-Sum: 3\r\n\r\n")
            text = until(stream, b"\r\nX-Sum: 2\r\n\r\n")
            assert b"HTTP/1.1 200 OK\r\n" in text and b"\r\n2\r\nok\r\n0\r\n" in text, text
            assert b"\r\nTrailer: X-Sum\r\n" in text, text
            assert b"Content-Length" not in text, text
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # which does not say that it takes them
            text = until(stream, b"\r\n0\r\n\r\n")
            assert b"X-Sum" not in text, text
            stream.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            text = until(stream, b"\r\n\r\nno")
            assert text.startswith(b"HTTP/1.1 403 "), text  # nobody has asked for the body
    head, body = heard[0], heard[1]
    for line in (b"Expect: 100-continue", b"TE: trailers", b"Connection: TE", b"Trailer: X-Sum", b"Transfer-Encoding: chunked"):
        assert b"\r\n" + line + b"\r\n" in head, (line, head)
    assert body.endswith(b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n") and b"evil" not in body, body
    assert b"TE: " not in heard[2] and b"Expect: " in heard[3], heard
    assert heard[4] == b"", heard  # the body was not sent


def hops_are_counted(program: str) -> None:
    heads = []
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with running(program, "--to", f"http://127.0.0.1:{behind([answer, answer], heads)}") as proxy:
        assert proxy.ask("OPTIONS", "/", headers={"Max-Forwards": "0"})[0] == 204
        assert proxy.ask("OPTIONS", "/", headers={"Max-Forwards": "3"})[0] == 200
        assert proxy.ask("GET", "/", headers={"Max-Forwards": "x"})[0] == 200
        with proxy.connect() as stream:
            stream.sendall(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
            assert until(stream, b"\r\n").startswith(b"HTTP/1.1 501 ")
        with proxy.connect() as stream:
            stream.sendall(b"OPTIONS / HTTP/1.0\r\nMax-Forwards: 0\r\n\r\n")
            assert until(stream, b"\r\n").startswith(b"HTTP/1.1 204 ")
    assert "\r\nMax-Forwards: 2\r\n" in heads[0] and "\r\nMax-Forwards: x\r\n" in heads[1], heads
    assert "CONNECT" in proxy.errors, proxy.errors


def main() -> int:
    http_server, reverse_proxy = sys.argv[1:]
    data = os.urandom(2_000_000)
    with tempfile.TemporaryDirectory(prefix="troth-http-") as folder:
        with open(f"{folder}/data", "wb") as file:
            file.write(data)
        with running(http_server, "--root", folder, "--log", "common") as server:
            is_served(server, data)
            print("http_server does what it should")
            with running(reverse_proxy, "--to", f"http://127.0.0.1:{server.port}") as proxy:
                is_served(proxy, data)
                drains(proxy)
            drains(server)
        assert '"GET /hello/a%20b%2Fc?x=y HTTP/1.1" 200 13' in server.errors, server.errors
        fields_are_passed(reverse_proxy)
        messages_are_passed(reverse_proxy)
        hops_are_counted(reverse_proxy)
        with running(reverse_proxy, "--to", "http://127.0.0.1:1") as proxy:
            assert proxy.ask("GET", "/")[0] == 502
        assert "connection refused" in proxy.errors, proxy.errors
        silent = socket.create_server(("127.0.0.1", 0))
        with running(reverse_proxy, "--to", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "1") as proxy:
            assert proxy.ask("GET", "/")[0] == 504
    print("reverse_proxy does what it should")
    for program, *arguments in ((http_server, "--log", "much"), (http_server, "--port", "x"), (reverse_proxy, "--to", "nowhere"),
                                (reverse_proxy, "--to", "http://127.0.0.1:1/path"),
                                (reverse_proxy, "--to", "http://me@127.0.0.1:1"), (http_server, "--root", "/none")):
        done = subprocess.run([program, *arguments], text=True, capture_output=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    return 0


if __name__ == "__main__":
    sys.exit(main())
