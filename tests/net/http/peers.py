# SPDX-License-Identifier: MIT
"""HTTP over sockets, against what others have made, and against clients that mean no good.

    peers.py PROBE_SERVER [HTTP_SERVER HTTP_CLIENT [CASE ...]]

PROBE_SERVER is probe_server, the others are the examples of these names. What is not installed, or not built, is skipped,
and named. The last line counts the cases; the status is 1 if one failed, 77 if all were skipped. All connections are on
loopback; what a case starts is ended by its pid, also when it fails."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # the modules stand among the sources
TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path += [os.path.join(TESTS, "faults"), os.path.join(TESTS, "clients")]

from basics import MIB, Skip, case, cases, expect, note, options  # noqa: E402
from processes import SANITIZER_REPORT, start_process  # noqa: E402
from runner import run_cases  # noqa: E402
from running import accepts, start_daemon  # noqa: E402

SHORT = 0.4  # seconds: the times of a server whose patience is tried
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


# ------------------------------------------------------------------------------------------- servers and clients

class Server:
    """probe_server or the example http_server, as a child."""

    def __init__(self, *command):
        self.errors = tempfile.TemporaryFile()
        environment = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=2"}  # so that memory() tells something
        self.process = start_process(
            command, environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors)
        self.port = int(re.search(rb"(\d+)\s*$", self.process.stdout.readline())[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]) * 1024

    def answers(self):
        """Whether it serves, and how long that takes."""
        begin = time.monotonic()
        with self.connect() as client:
            client.sendall(GET)
            expect(b" 200 OK\r\n" in client.recv(4096), "the server does not answer any more")
        return time.monotonic() - begin

    def stop(self):
        """Asks it to end, and returns what it says."""
        self.process.send_signal(signal.SIGTERM)
        output = self.process.communicate(timeout=20)[0]
        self.errors.seek(0)
        errors = self.errors.read().decode(errors="replace")
        expect(self.process.returncode == 0, f"exit status {self.process.returncode}: {errors}")
        expect(not SANITIZER_REPORT.search(errors), errors)
        return output.decode(), errors


@contextlib.contextmanager
def served(*command):
    server = Server(*command)
    yield server
    if server.process.poll() is None:
        server.stop()


def probe(seconds=60.0, *directory):
    return served(options.probe, int(seconds * 1000), *directory)


@contextlib.contextmanager
def example():
    """The example, with a file of 1000 bytes."""
    if not options.server:
        raise Skip("the example http_server is not built")
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, "file"), "wb") as file:
            file.write(bytes(range(250)) * 4)
        with served(options.server, "--port", "0", "--root", root) as server:
            yield server


def need(program):
    if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin"):
        raise Skip(f"{program} is not installed")


def run(*command, data=None):
    done = subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)
    expect(done.returncode == 0, f"{command[:6]}: status {done.returncode}: {done.stderr[-500:]!r}")
    return done.stdout


def read_all(client, patience=10.0):
    """What comes until the server ends the connection, and whether it was reset."""
    client.settimeout(patience)
    received = b""
    try:
        while more := client.recv(1 << 20):
            received += more
    except ConnectionResetError:
        return received, True
    return received, False


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# ------------------------------------------------------------------------------------------- others' clients

@case("peers.curl")
def curl():
    """curl: connections that are kept, uploads, Expect, ranges, HEAD, HTTP/1.0."""
    need("curl")
    with example() as server:
        def fetch(*arguments, data=None):
            return run("curl", "-sS", "--noproxy", "*", "--max-time", "20", *arguments, data=data)

        url, body = server.url, os.urandom(1_500_000)
        seen = fetch("-w", "%{http_code} %{num_connects}\n", *[f"{url}/hello/{i}" for i in range(5)]).decode()
        expect(re.findall(r"(\d+) (\d)\n", seen) == [("200", "1")] + [("200", "0")] * 4, seen)
        expect(fetch("-X", "POST", "-T", "-", f"{url}/echo", data=body) == body, "an upload in chunks comes back otherwise")
        seen = fetch("-v", "--stderr", "-", "-o", "/dev/null", "-H", "Expect: 100-continue", "--data-binary", "@-",
                     f"{url}/echo", data=body)
        expect(b"< HTTP/1.1 100 Continue" in seen and b"< HTTP/1.1 200 OK" in seen, f"{seen[-2000:]!r}")
        file = bytes(range(250)) * 4
        for wanted, part in (("0-9", file[:10]), ("990-", file[990:]), ("-5", file[-5:])):
            expect(fetch("-r", wanted, "-w", "%{http_code}", f"{url}/files/file") == part + b"206", wanted)
        expect(fetch("-r", "5000-", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/files/file") == b"416", "5000-")
        head = fetch("-I", f"{url}/files/file")
        expect(b"\r\nContent-Length: 1000\r\n" in head and head.endswith(b"\r\n\r\n"), f"{head!r}")
        expect(fetch("--http1.0", f"{url}/hello/old") == b"hello, old\n", "HTTP/1.0")
        expect(fetch("--compressed", "-D", "-", f"{url}/").count(b"</html>") <= 1, "compressed")


NODE_CLIENT = """
const http = require('http');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
const port = Number(process.argv[1]);
let sockets = new Set();
const ask = (method, path, body) => new Promise((resolve, reject) => {
  const request = http.request({agent, port, host: '127.0.0.1', method, path}, response => {
    let text = '';
    response.setEncoding('latin1');
    response.on('data', data => { text += data; });
    response.on('end', () => resolve(response.statusCode + ' ' + text));
  });
  request.on('socket', socket => sockets.add(socket));
  request.on('error', reject);
  for (const part of body) request.write(part);
  request.end();
});
(async () => {
  const all = [];
  for (let i = 0; i < 200; ++i) all.push(i % 3 ? ask('GET', '/hello/' + i, []) : ask('POST', '/echo', ['part ', 'of ', '' + i]));
  const wrong = (await Promise.all(all)).filter((text, i) => text !== '200 ' + (i % 3 ? `hello, ${i}\\n` : `part of ${i}`));
  console.log(JSON.stringify({wrong, sockets: sockets.size}));
  agent.destroy();
})();
"""


@case("peers.node_client")
def node_client():
    """node: 200 requests over 4 connections of its agent, every third with a body in chunks."""
    need("node")
    with example() as server:
        seen = json.loads(run("node", "-e", NODE_CLIENT, str(server.port)))
        expect(seen == {"wrong": [], "sockets": 4}, f"{seen}")


@case("peers.python_client")
def python_client():
    """Python's http.client: one connection, bodies with a length, in chunks, none."""
    with example() as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        first = None
        for size in (0, 1, 10_000, 500_000):
            body = os.urandom(size)
            for chunked in (False, True):
                client.request("POST", "/echo", iter([body[:7], body[7:]]) if chunked else body, encode_chunked=chunked,
                               headers={"Transfer-Encoding": "chunked"} if chunked else {})
                first = first or client.sock
                expect(client.getresponse().read() == body, f"{size} bytes")
            client.request("HEAD", "/hello/you")
            response = client.getresponse()
            expect((response.status, response.read(), response.getheader("content-length")) == (200, b"", "11"), "HEAD")
        expect(client.sock is first, "the connection was not kept")
        client.request("GET", "/nowhere")
        expect(client.getresponse().status == 404, "404")
        client.close()


@case("peers.wrk")
def wrk():
    """wrk: 50 connections for a second, no errors."""
    need("wrk")
    with example() as server:
        seen = run("wrk", "-t1", "-c50", "-d1s", f"{server.url}/hello/you").decode()
        expect("Socket errors" not in seen and "Non-2xx" not in seen, seen)
        count = int(re.search(r"(\d+) requests in", seen)[1])
        note(f"{count} requests")
        expect(count > 100, seen)


@case("peers.pipelining")
def pipelining():
    """1000 requests at once, of all sorts, are answered in order."""
    with probe() as server, server.connect() as client:
        sent, wanted = b"", b""
        for i in range(1000):
            if i % 3 == 0:
                sent += b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i
            elif i % 3 == 1:
                sent += b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" % i
            else:
                sent += b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % i
            wanted += (b"GET /%d 0\n", b"POST /%d 5\n", b"PUT /%d 5\n")[i % 3] % i
        writer = threading.Thread(target=client.sendall, args=(sent + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",))
        writer.start()
        received, _ = read_all(client)
        writer.join()
        bodies = b"".join(re.findall(rb"\r\n\r\n([A-Z]+ /\d+ \d+\n)", received))
        expect(bodies == wanted, f"{len(bodies)} bytes of {len(wanted)}")


# ------------------------------------------------------------------------------------------- others' servers

def client(*arguments, data=None):
    if not options.client:
        raise Skip("the example http_client is not built")
    return run(options.client, *arguments, data=data)


NGINX = """
daemon off; master_process off; pid {root}/pid; error_log stderr;
events {{ }}
http {{
  access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  gzip on; gzip_types *; gzip_min_length 100;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location = /moved {{ return 302 /text; }}
  }}
}}
"""


@case("peers.nginx")
def nginx():
    """The client and nginx: files, compression, a redirect, HEAD, what is not there."""
    need("nginx")
    with tempfile.TemporaryDirectory() as root:
        text, large = b"some text\n" * 500, os.urandom(3_000_000)
        for name, content in (("text", text), ("large", large)):
            with open(os.path.join(root, name), "wb") as file:
                file.write(content)

        def command(port):
            with open(os.path.join(root, "conf"), "w", encoding="ascii") as file:
                file.write(NGINX.format(root=root, port=port))
            return ["/usr/sbin/nginx", "-c", os.path.join(root, "conf")]

        process, port = start_daemon(command, accepts)
        url = f"http://127.0.0.1:{port}"
        expect(client(f"{url}/large") == large, "a file comes otherwise")
        expect(client("--compressed", "--include", f"{url}/text").endswith(b"\n" + text), "a coded file comes otherwise")
        expect(client("--follow", f"{url}/moved") == text, "a redirect leads elsewhere")
        head = client("--head", f"{url}/text")
        expect(head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n"), f"HEAD: {head!r}")
        process.terminate()
        process.wait(10)


NODE_SERVER = """
const http = require('http');
http.createServer((request, response) => {
  const length = request.headers['content-length'];
  response.writeHead(200, {'X-Framing': length === undefined ? 'chunked' : 'length ' + length});
  request.pipe(response);
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
"""


@case("peers.node_server")
def node_server():
    """The client and node: an upload that comes back while it goes, with a length and without."""
    need("node")
    server = Server("node", "-e", NODE_SERVER)
    body = os.urandom(2_000_000)
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        expect(client("--data-file", file.name, server.url) == body, "an upload comes back otherwise")
    expect(client("--data-file", "-", server.url, data=body) == body, "an upload in chunks comes back otherwise")
    server.process.terminate()
    server.process.wait(10)


@contextlib.contextmanager
def said(*replies):
    """A server that answers each connection with the next of the replies, and closes it; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for reply in replies:
            stream, _ = listener.accept()
            with stream:
                stream.recv(65536)
                stream.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    thread.join(10)
    listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@case("peers.client_retry")
def client_retry():
    """The client tries again after nothing, and after 503 no sooner than the server says."""
    with said(b"", b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", OK) as url:
        begin = time.monotonic()
        expect(client("--retry", "2", url) == b"ok", "another answer")
        expect(1 <= time.monotonic() - begin < 5, "not when it should")


@case("peers.client_errors")
def client_errors():
    """What the client says when there is no answer, or none in time."""
    def error(*arguments):
        if not options.client:
            raise Skip("the example http_client is not built")
        done = subprocess.run([options.client, *arguments], capture_output=True, text=True, timeout=30, check=False)
        expect(done.returncode == 1 and not done.stdout, f"{done}")
        return done.stderr

    with said(b"") as url:
        expect(error(url) == "http_client: HTTP: the server closed the connection instead of answering\n", "nothing")
    with said(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n") as url:
        expect("breaks the rules" in error(url), "nonsense")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for seconds in ("0.0001", "1e-12", "0.25"):
            said_so = error("--timeout", seconds, url)
            expect("timed out" in said_so and " 0" not in said_so, said_so)
    for bad in ("0", "-1", "1s", "nan", "1e99", ""):
        expect("is no number of seconds" in error("--timeout", bad, url), bad)
    expect("is no number from" in error("--retry", "-1", url), "--retry")


# ------------------------------------------------------------------------------------------- clients that mean no good

@case("peers.patience")
def patience():
    """Who says nothing, drips, stops in a body, does not read (a text, or a file) or stays idle is ended in time."""
    with tempfile.TemporaryDirectory() as root, open(os.path.join(root, "large"), "wb") as file:
        file.truncate(8_000_000)
        with probe(SHORT, root) as server:
            try_patience(server)


def try_patience(server):
    def ends(what, client, begin, least=0.0):
        received, was_reset = read_all(client)
        took = time.monotonic() - begin
        expect(least <= took < SHORT + 3, f"{what}: ended after {took:.2f} s")
        return received, was_reset

    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent, dripping, stalled, idle, deaf, deaf_to_file = (stack.enter_context(server.connect()) for _ in range(6))
        stalled.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        idle.sendall(GET)
        deaf.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        deaf_to_file.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
        dripping.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        while time.monotonic() < begin + SHORT * 0.9:
            dripping.sendall(b"A: b\r\n")
            time.sleep(SHORT / 10)
        expect(ends("silent", silent, begin, SHORT * 0.9) == (b"", False), "silent")
        expect(b" 408 Request Timeout\r\n" in ends("dripping", dripping, begin, SHORT * 0.9)[0], "dripping")
        expect(b" 408 Request Timeout\r\n" in ends("stalled", stalled, begin, SHORT * 0.9)[0], "stalled")
        expect(ends("idle", idle, begin, SHORT * 0.9)[0].endswith(b"\r\n\r\nGET / 0\n"), "idle")
        time.sleep(max(0.0, begin + 3 * SHORT - time.monotonic()))
        for name, client in (("deaf", deaf), ("deaf to a file", deaf_to_file)):
            received, was_reset = ends(name, client, begin)
            expect(was_reset and len(received) < 8_000_000, f"{name}: {len(received)} bytes")


@case("peers.changing_file")
def changing_file():
    """A file that is replaced while it is sent comes as it was; one that becomes shorter breaks the connection."""
    size = 30_000_000  # more than the sockets' buffers hold
    with tempfile.TemporaryDirectory() as root:
        path = os.path.join(root, "large")

        def make(at, byte):
            with open(at, "wb") as file:
                file.write(byte * size)

        def begin():
            client = server.connect()
            client.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = client.recv(4096)
            return client, received[received.index(b"\r\n\r\n") + 4:]

        make(path, b"a")
        with probe(60, root) as server:
            client, received = begin()
            make(path + "2", b"b")
            os.rename(path + "2", path)
            with client:
                received += read_all(client)[0]
            expect(received == b"a" * size, f"{len(received)} bytes of the old one")
            client, received = begin()
            os.truncate(path, 20_000_000)
            with client:
                rest, was_reset = read_all(client)
            expect(was_reset and len(received + rest) < size, f"{len(received + rest)} bytes, reset: {was_reset}")
            expect("became shorter" in server.stop()[1], "the server says nothing of it")


@case("peers.slow_crowd")
def slow_crowd():
    """200 slow clients, in heads, bodies and responses, do not keep a normal one waiting."""
    with probe() as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(server.connect()) for _ in range(200)]
        beginnings = (b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx", b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        for i, slow in enumerate(crowd):
            slow.sendall(beginnings[i % 3])
        times = []
        for i in range(100):
            for slow in crowd[i % 2::4]:
                if slow is not None and crowd.index(slow) % 3 == 1:
                    slow.sendall(b"x")
            times.append(server.answers())
        note(f"the slowest of 100 answers took {max(times) * 1000:.0f} ms")
        expect(max(times) < 1, f"{max(times):.2f} s")


@case("peers.pipelined_reset")
def pipelined_reset():
    """200 requests at once and a reset are harmless, also in the middle of a large response."""
    with probe() as server:
        for path in (b"/", b"/large", b"/slow"):
            for _ in range(20):
                client = server.connect()
                client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path * 200)
                if path != b"/slow":
                    client.recv(100)
                reset(client)
        server.answers()
        _, errors = server.stop()
        expect(not errors, errors)


@case("peers.endless")
def endless():
    """What has no end (heads, targets, chunk extensions, trailers) is cut off, with an answer that can be read."""
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    floods = [
        ("a line", GET[:-2] + b"A: ", b"x" * 65536, b" 431 "),
        ("lines", GET[:-2], b"A: b\r\n" * 10_000, b" 431 "),
        ("a target", b"GET /", b"x" * 65536, b" 414 "),
        ("a method", b"", b"G" * 65536, b" 501 "),
        ("an extension", chunked + b"1;", b"x" * 65536, b" 413 "),
        ("extensions", chunked, b"1;%s\r\nx\r\n" % (b"x" * 1000) * 60, b" 413 "),
        ("trailers", chunked + b"0\r\n", b"A: b\r\n" * 10_000, b" 431 "),
        ("empty lines", b"", b"\r\n" * 32768, b" 400 "),
    ]
    with probe(5) as server:
        server.answers()
        before = server.memory()
        for name, begin, flood, status in floods:
            with server.connect() as client:
                client.settimeout(10)
                client.sendall(begin)
                for _ in range(128):  # 8 MB, all of which the server takes, so that its answer is not lost
                    client.sendall(flood)
                client.shutdown(socket.SHUT_WR)
                received, was_reset = read_all(client)
                expect(status in received[:20] and not was_reset, f"{name}: {received[:200]!r}, reset: {was_reset}")
                expect(received.count(b"HTTP/1.1 ") <= 2 and b"Connection: close" in received, f"{name}: {received[:300]!r}")
        grown = server.memory() - before
        note(f"the server has grown by {grown / MIB:.1f} MiB")
        expect(grown < 16 * MIB, f"{grown / MIB:.1f} MiB")


@case("peers.ranges")
def ranges():
    """Many ranges of one file do not multiply what is sent."""
    with example() as server:
        for spans in ("0-," * 1000 + "0-", "0-999," * 1000 + "-1", ",".join(f"{i}-{i}" for i in range(0, 1000, 2))):
            with server.connect() as client:
                client.sendall(b"GET /files/file HTTP/1.1\r\nHost: a\r\nConnection: close\r\nRange: bytes=%s\r\n\r\n" % spans.encode())
                received, _ = read_all(client)
                note(f"{received[9:12].decode()}, {len(received)} bytes")
                expect(received.startswith(b"HTTP/1.1 ") and len(received) < 4000, f"{len(received)} bytes")


@case("peers.drain")
def drain():
    """SIGTERM: who is idle is let go, who waits for a response gets it, and the program ends well."""
    with probe() as server:
        with server.connect() as idle, server.connect() as busy:
            busy.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in range(3):  # the server has accepted, and then read, the one before by the time that it answers these
                idle.sendall(GET)
                idle.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            expect(read_all(idle) == (b"", False) and time.monotonic() - begin < 0.7, "the idle one is not let go")
            received, _ = read_all(busy)
            expect(b"\r\nConnection: close\r\n" in received and received.endswith(b"GET /slow 0\n"), f"{received!r}")
        with contextlib.suppress(ConnectionRefusedError):
            server.connect().close()
            expect(False, "it still accepts")
        output = server.process.communicate(timeout=10)[0]
        expect(server.process.returncode == 0 and output == b"0 cancelled\n", f"{server.process.returncode} {output!r}")


def main():
    if len(sys.argv) < 2 or len(sys.argv) == 3:
        sys.exit(__doc__)
    options.probe = os.path.abspath(sys.argv[1])
    options.server, options.client = (sys.argv[2:4] + [None, None])[:2]
    wanted = sys.argv[4:]
    return run_cases([name for name in cases if not wanted or any(name.startswith(w) for w in wanted)])


if __name__ == "__main__":
    sys.exit(main())
