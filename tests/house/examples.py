#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the examples that need no other partner and compares what they print: examples.py TIMERS SPAWN CAT DNS UDP_ECHO."""
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile

TIMERS = "1\n2\n3\ncounted to 3\n1\n2\ntimed out after 25ms\n1\ndone\n"


def timers(program: str) -> bool:
    done = subprocess.run([program], text=True, capture_output=True, timeout=60, check=False)
    # How far the two counts come that are cancelled depends on how busy the machine is; the rest does not.
    lines = [line for line in done.stdout.splitlines() if not line.isdigit()]
    wanted = [line for line in TIMERS.splitlines() if not line.isdigit()]
    if done.returncode or done.stderr or lines != wanted or not done.stdout.startswith("1\n2\n3\ncounted"):
        print(f"timers: status {done.returncode}, printed:\n{done.stdout}{done.stderr}")
        return False
    print("timers prints what it should")
    return True


def spawn_ends(program: str, command: list[str], status: int, lines: set[str], errors: str) -> bool:
    done = subprocess.run([program, *command], text=True, capture_output=True, timeout=60, check=False)
    # The order of lines from different streams is the system's affair.
    printed = {re.sub(r"^\[\+\d+\.\d{3}s ", "[", line) for line in done.stdout.splitlines()}
    if done.returncode != status or printed != lines or errors not in done.stderr or bool(errors) != bool(done.stderr):
        print(f"spawn {command}: status {done.returncode}, printed:\n{done.stdout}{done.stderr}")
        return False
    return True


def spawn_is_interrupted(program: str) -> bool:
    """Ctrl-C, which here only `spawn` itself gets, kills the child; the end of its output shows that it is gone."""
    command = [program, "sh", "-c", "trap '' INT TERM; echo $$; exec tail -f /dev/null"]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    child = int(process.stdout.readline().split("] ")[1])
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    if process.returncode != 128 + signal.SIGINT or rest or os.path.exists(f"/proc/{child}"):
        print(f"spawn: status {process.returncode} after SIGINT, printed:\n{rest}")
        return False
    return True


def spawn_ends_unheard(program: str) -> bool:
    """Nobody reads what it prints any more, as with `spawn yes | head -1`."""
    process = subprocess.Popen([program, "yes"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    if process.wait(timeout=60) != 1 or "standard output" not in errors:
        print(f"spawn: status {process.returncode} without a reader, printed:\n{errors}")
        return False
    return True


def spawn(program: str) -> bool:
    right = (
        spawn_ends(program, ["sh", "-c", "echo one; echo two >&2; printf 'no newline'; exit 3"], 3,
                   {"[out] one", "[err] two", "[out] no newline"}, "")
        and spawn_ends(program, ["sh", "-c", "kill -KILL $$"], 137, set(), "spawn: sh was killed by SIGKILL (9)\n")
        and spawn_ends(program, ["no-such-program"], 1, set(), 'spawn: spawn "no-such-program": no such file')
        and spawn_ends(program, [], 1, set(), "say which command")
        and spawn_is_interrupted(program)
        and spawn_ends_unheard(program)
    )
    if right:
        print("spawn does what it should")
    return right


def cat(program: str) -> bool:
    """Files, pipes and /dev/null in all places, byte for byte."""
    data = random.Random(1).randbytes(300_000)
    with tempfile.TemporaryDirectory(prefix="troth-cat-") as folder:
        name, copy = f"{folder}/file", f"{folder}/copy"
        with open(name, "wb") as file:
            file.write(data)
        with open(copy, "wb") as output:
            to_file = subprocess.run([program, name], stdout=output, timeout=60, check=False)
        with open(copy, "rb") as output:
            copied = output.read()
        piped = subprocess.run([program, name, "-", name], input=b"between", capture_output=True, timeout=60, check=False)
        nothing = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        closed = [subprocess.run(["sh", "-c", f'"$0" "$@" {how}', program, *names], stderr=subprocess.PIPE, timeout=60, check=False)
                  for how, names in (("<&-", ["-"]), (">&-", [name]))]
        folders = subprocess.run([program, folder], capture_output=True, timeout=60, check=False)
        missing = subprocess.run([program, f"{folder}/none"], capture_output=True, timeout=60, check=False)
    right = (
        to_file.returncode == 0 and copied == data
        and piped.returncode == 0 and piped.stdout == data + b"between" + data
        and nothing.returncode == 0 and nothing.stdout == b""
        and closed[0].returncode == 1 and b"descriptor 0 is open for writing only" in closed[0].stderr
        and closed[1].returncode == 1 and b"descriptor 1 is open for reading only" in closed[1].stderr
        and folders.returncode == 1 and f"cat: {folder}: ".encode() in folders.stderr and b"is a directory" in folders.stderr
        and missing.returncode == 1 and b"none" in missing.stderr and missing.stderr.count(b"\n") == 1
    )
    print("cat copies what it should" if right else f"cat: {missing}, {closed}, {folders}, {piped.returncode}, {piped.stderr!r}, {to_file}")
    return right


def dns(program: str) -> bool:
    """Names that every machine knows, and one that none does; each error is a line of its own."""
    known = subprocess.run([program, "127.0.0.1", "localhost", "::1"], text=True, capture_output=True, timeout=60,
                           check=False)
    lines = known.stdout.splitlines()
    bad = subprocess.run([program, "127.0.0.1", "bad name", "127.1"], text=True, capture_output=True, timeout=60,
                         check=False)
    nothing = subprocess.run([program], text=True, capture_output=True, timeout=60, check=False)
    right = (
        known.returncode == 0 and not known.stderr and len(lines) == 3
        and lines[0] == "127.0.0.1 → 127.0.0.1" and lines[2] == "::1 → [::1]"
        and lines[1] in ("localhost → 127.0.0.1", "localhost → [::1]", "localhost → [::1], 127.0.0.1",
                         "localhost → 127.0.0.1, [::1]")
        and bad.returncode == 1 and bad.stdout == "127.0.0.1 → 127.0.0.1\n" and bad.stderr.count("\n") == 2
        and bad.stderr.startswith('dns: bad name: invalid address "bad name"') and "\ndns: 127.1: " in bad.stderr
        and nothing.returncode == 1 and nothing.stderr.count("\n") == 1
    )
    print("dns looks up what it should" if right else f"dns: {known}, {bad}, {nothing}")
    return right


def udp_echo(program: str) -> bool:
    """A server, clients of it, and clients that nobody answers."""
    def send(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([program, "--send", *arguments], text=True, capture_output=True, timeout=60, check=False)

    server = subprocess.Popen([program, "127.0.0.1:0"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    address = server.stdout.readline().strip().removeprefix("listening on ")
    answers = [send(address, text) for text in ("hello", "", "x" * 60_000)]
    server.send_signal(signal.SIGINT)
    rest, errors = server.communicate(timeout=60)
    refused = send(address, "anybody?")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        unheard = send(f"127.0.0.1:{silent.getsockname()[1]}", "anybody?")
        silent.settimeout(0)
        asked = [silent.recv(100) for _ in range(3)]
    wrong = send(address)
    right = (
        [answer.stdout for answer in answers] == [f"{address}: {text}\n" for text in ("hello", "", "x" * 60_000)]
        and server.returncode == 0 and not rest and not errors
        and refused.returncode == 1 and "connection refused" in refused.stderr
        and unheard.returncode == 1 and unheard.stderr.count("\n") == 1 and asked == [b"anybody?"] * 3
        and wrong.returncode == 1 and "usage" in wrong.stderr
    )
    print("udp_echo answers what it should" if right else
          f"udp_echo: {[a.stderr for a in answers]}, {server.returncode}, {rest}, {errors}, {refused}, {unheard}, {wrong}")
    return right


def main() -> int:
    results = [timers(sys.argv[1]), spawn(sys.argv[2]), cat(sys.argv[3]), dns(sys.argv[4]), udp_echo(sys.argv[5])]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
