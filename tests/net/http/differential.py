# SPDX-License-Identifier: MIT
"""Where messages end, by troth's server and by node's: differential.py PROGRAM [COUNT], where PROGRAM is probe_server.

A corpus of COUNT messages is made from a seed: requests, with what smugglers put into them. Each goes to both servers with
a request of its own behind it. Both say what they have understood. They must agree; or troth refuses what node takes, by a
rule that it names; or one of them closes the connection earlier, which is always safe. Never may troth take what node
refuses, nor both the same bytes for different requests.

The last line is "N passed, N failed"; the status is 1 if one failed, 77 without node. All connections are on loopback."""
import collections
import random
import re
import shutil
import socket
import subprocess
import sys

SEED = 20
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NODE = """
const http = require('http');
const server = http.createServer({insecureHTTPParser: false, keepAliveTimeout: 2000}, (request, response) => {
  let length = 0;
  request.on('data', chunk => { length += chunk.length; });
  request.on('end', () => response.end(`${request.method} ${request.url} ${length}\\n`));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""

# Requests in parts: a mutation changes, doubles, drops or puts in one.
BASES = [
    [b"GET", b" ", b"/a", b" ", b"HTTP/1.1", b"\r\n", b"Host:", b" a", b"\r\n", b"\r\n"],
    [b"GET", b" ", b"/a", b" ", b"HTTP/1.0", b"\r\n", b"Connection:", b" keep-alive", b"\r\n", b"\r\n"],
    [b"POST", b" ", b"/a", b" ", b"HTTP/1.1", b"\r\n", b"Host:", b" a", b"\r\n", b"Content-Length:", b" 5", b"\r\n",
     b"\r\n", b"hello"],
    [b"POST", b" ", b"/a", b" ", b"HTTP/1.1", b"\r\n", b"Host:", b" a", b"\r\n", b"Transfer-Encoding:", b" chunked",
     b"\r\n", b"\r\n", b"5", b"\r\n", b"hello", b"\r\n", b"0", b"\r\n", b"\r\n"],
    [b"PUT", b" ", b"/a", b" ", b"HTTP/1.1", b"\r\n", b"Host:", b" a", b"\r\n", b"Transfer-Encoding:", b" chunked",
     b"\r\n", b"\r\n", b"A", b";x=y", b"\r\n", b"0123456789", b"\r\n", b"0", b"\r\n", b"Trailer:", b" t", b"\r\n", b"\r\n"],
]
PARTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b"0", b"5", b"+5", b"-5", b"5 ",
    b" 5", b"0x5", b"05", b"5,5", b"5, 5", b"00000000000000000005", b"ffffffffffffffff", b"18446744073709551621",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 6\r\n", b"Content-Length : 5\r\n",
    b"content-length:5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding:\tchunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding : chunked\r\n", b"Transfer_Encoding: chunked\r\n",
    b"Transfer-Encoding: Chunked\r\n", b"Transfer-Encoding:\r\n chunked\r\n", b" folded: x\r\n", b"X: y\r\n", b"X:\r\n",
    b"X\r\n", b": y\r\n", b"Host: b\r\n", b"Connection: close\r\n", b"Connection: Transfer-Encoding\r\n",
    b"Expect: 100-continue\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"GET",
    b"get", b"*", b"http://a/", b"/a?b#c", b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b";x", b";x=\"y\"", b";\n",
]


def mutate(chance):
    parts = list(chance.choice(BASES))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(parts))
        what = chance.randrange(5)
        if what == 0:
            parts[at] = chance.choice(PARTS)
        elif what == 1:
            parts.insert(at, chance.choice(PARTS))
        elif what == 2:
            parts.insert(at, parts[at])
        elif what == 3 and len(parts) > 1:
            del parts[at]
        else:  # a field of its own
            ends = [i + 1 for i, part in enumerate(parts) if part == b"\r\n"] or [at]
            parts.insert(chance.choice(ends), chance.choice([part for part in PARTS if part.endswith(b"\r\n")]))
    return b"".join(parts)


def talk(port, message):
    """All that comes for these bytes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.settimeout(3)
        try:
            client.sendall(message + NEXT)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            received += b"(waits)"
    return received


def understood(reply):
    """The requests that a server has understood, how it refuses the next one, if it does, and whether it closes."""
    requests, refusal, closes, at = [], "", False, 0
    while head := re.compile(rb"HTTP/1\.1 (\d+) [^\r]*\r\n(.*?\r\n)?\r\n", re.DOTALL).match(reply, at):
        at = head.end()
        if head[1] == b"100":
            continue
        length = re.search(rb"(?i)content-length: (\d+)", head[2] or b"")
        body = reply[at:at + int(length[1]) if length else len(reply)]
        at += len(body)
        if head[1] != b"200":
            refusal = (head[1] + b" " + body.strip()).decode(errors="replace")
            break
        if b"ransfer-" in (head[2] or b""):
            body = body.split(b"\r\n")[1]
        requests.append(body.decode(errors="replace"))
        closes = b"\r\nconnection: close\r\n" in head[0].lower()
    return requests, refusal, closes


def start(*command):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def verdict(ours, theirs):
    """What is wrong, or "", and what the two differ in, if they do."""
    (mine, refusal, closes), (nodes, node_refusal, _) = ours, theirs
    if mine == nodes:
        return "", ""
    if mine == nodes[:len(mine)]:
        if refusal or closes:
            return "", "stricter: " + (refusal or "closes")
        return "node goes on where troth ends silently", ""
    if nodes == mine[:len(nodes)]:
        if not node_refusal:
            return "", "node closes earlier"
        if refusal or closes:  # it has answered what came before
            return "", "node does not answer requests that come together with what it refuses"
        return "troth takes what node refuses", ""
    return "they take it for different requests", ""


def main():
    if not shutil.which("node"):
        print("differential: skipped, there is no node")
        return 77
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 600
    chance = random.Random(SEED)
    corpus = list(dict.fromkeys(mutate(chance) for _ in range(count)))
    passed, failed, differences = 0, 0, collections.Counter()
    processes = []
    try:
        probe, port = start(sys.argv[1])
        processes.append(probe)
        node, node_port = start("node", "-e", NODE)
        processes.append(node)
        for message in corpus:
            ours, theirs = understood(talk(port, message)), understood(talk(node_port, message))
            wrong, difference = verdict(ours, theirs)
            differences[difference or "none"] += 1
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if wrong:
                print(f"FAILED: {wrong}: {message!r}\n  troth: {ours}\n  node:  {theirs}")
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
            process.stdout.close()
    for difference, number in differences.most_common():
        print(f"{number:5} {difference}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
