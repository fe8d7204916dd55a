# SPDX-License-Identifier: MIT
# examples/fetch against a web server of Python's.

import http.server
import random
import socket
import struct
import threading
import time

from basics import case, expect, note
from running import free_port, run_example, run_tests, start_example

ENVIRONMENT = {"no_proxy": "*", "RES_OPTIONS": "timeout:1 attempts:1"}


def page(number):
    """Page N: some bytes that nobody else has."""
    return random.Random(number).randbytes(number * 977 % 300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if kind == "page":
            with self.server.lock:
                self.server.busy += 1
                self.server.most = max(self.server.most, self.server.busy)
            time.sleep(self.server.delay)
            with self.server.lock:
                self.server.busy -= 1
            self.answer(200, page(int(rest)))
        elif kind == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                time.sleep(0.02)
            self.wfile.write(b"0\r\n\r\n")
        elif kind == "moved":
            self.answer(301, b"", Location=f"/{rest}")
        elif kind == "slow":
            time.sleep(8)
        elif kind == "reset":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"beginning")
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self.answer(404, b"no such page\n")


class Site:
    def __init__(self, delay=0.0):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients go away
        self.server.delay, self.server.lock = delay, threading.Lock()
        self.server.busy = self.server.most = self.server.connections = 0
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def fetch(*arguments):
    return run_example(*arguments, environment=ENVIRONMENT)


@case("fetch.tests")
def fetch_tests():
    """The tests in C++."""
    run_tests(ENVIRONMENT)


@case("fetch.parallel")
def fetch_parallel():
    """Many URLs, side by side: every body is right, no more are under way than allowed, and connections are kept."""
    count, parallel = 60, 8
    with Site(delay=0.1) as site:
        urls = [site.url(f"page/{number}") for number in range(count)]
        start = time.monotonic()
        seen = fetch("--parallel", parallel, *urls).expect().output.splitlines()
        took = time.monotonic() - start
        wanted = [("200", str(len(page(number))), url) for number, url in enumerate(urls)]
        expect([(line.split()[0], line.split()[1], line.split()[5]) for line in seen] == wanted, f"{seen}")
        note(f"{count} pages of 0.1 s in {took:.1f} s, {site.server.most} at once, {site.server.connections} connections")
        expect(site.server.most == parallel, f"{site.server.most} at once")
        expect(site.server.connections <= parallel, f"{site.server.connections} connections")
        expect(took < count * 0.1 / 2, f"took {took:.1f} s, no better than one after the other")


@case("fetch.bodies")
def fetch_bodies():
    """Bodies are printed byte for byte, in the order of the URLs, whole or in chunks."""
    with Site() as site:
        paths = [*(f"page/{number}" for number in (299, 3, 150, 0)), "chunked", "moved/page/7"]
        process = start_example("--show", "body", "--redirects", "1", *map(site.url, paths), environment=ENVIRONMENT)
        output, errors = process.communicate(timeout=30)
        wanted = b"".join(page(number) for number in (299, 3, 150, 0)) + b"one two three" + page(7)
        expect(process.returncode == 0 and not errors, f"{process.returncode} {errors!r}")
        expect(output == wanted, f"{len(output)} bytes, not the {len(wanted)} that were sent")


@case("fetch.errors")
def fetch_errors():
    """Each error has a line, the others are fetched, and the status is 1."""
    with Site() as site:
        refused = f"http://127.0.0.1:{free_port()}/"
        urls = [site.url("page/5"), site.url("reset"), site.url("slow"), refused, "http://no-such-host.invalid/",
                site.url("page/299"), "gopher://127.0.0.1/", site.url("moved/page/5"), site.url("none")]
        start = time.monotonic()
        ended = fetch("--timeout", 2, "--max-size", 10_000, *urls)
        expect(time.monotonic() - start < 6, "only the slow one may take two seconds")
        expect(ended.status == 1, str(ended))
        lines = [line.split() for line in ended.output.splitlines()]
        expect([line[0] for line in lines] == ["200", "301", "404"], str(ended))
        errors = ended.errors.splitlines()
        note("; ".join(errors))
        wanted = ["beginning|reset|bytes remaining", "timed out", "Couldn't connect|Failed to connect", "resolve|timed out",
                  "longer than 10000 bytes", "not supported"]
        expect(len(errors) == len(wanted), str(ended))
        for line, url, words in zip(errors, [*urls[1:5], urls[5], urls[6]], wanted):
            expect(line.startswith(f"fetch: fetch {url}: "), line)
            expect(any(word in line for word in words.split("|")), f"{line}: must mention {words}")
    fetch().expect_failure("say which URLs")
    fetch("--parallel", "0", refused).expect_failure("at least one transfer")
