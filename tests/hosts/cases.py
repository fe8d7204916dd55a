# SPDX-License-Identifier: MIT
"""The cases of a host: functions whose first line of documentation says what holds. run() counts them in the manner of
doctest, for tools/count_tests.py."""
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import traceback

_cases = []
TIMEOUT = 40  # seconds, for anything that must happen


class Skip(Exception):
    """Something is missing on this machine."""


def case(function):
    _cases.append(function)
    return function


def expect(holds, *seen):
    if not holds:
        raise AssertionError(" ".join(str(s) for s in seen)[:5000])


def run() -> int:
    """Runs all cases. The status is 77, meson's word for skipped, if there was nothing to run them with."""
    outcomes = []
    for function in _cases:
        begun, why, outcome = time.monotonic(), "", "passed"
        try:
            function()
        except Skip as skip:
            outcome, why = "skipped", f": {skip}"
        except Exception:
            outcome = "FAILED"
            traceback.print_exc()
        outcomes.append(outcome)
        name = function.__doc__.splitlines()[0] if outcome != "skipped" else function.__name__
        print(f"{outcome} {name} in {time.monotonic() - begun:.1f} s{why}", flush=True)
    passed, failed, skipped = (outcomes.count(o) for o in ("passed", "FAILED", "skipped"))
    print(f"test cases: {len(outcomes)} | {passed} passed | {failed} failed | {skipped} skipped")
    return 1 if failed else 77 if not passed else 0


class Program:
    """A host that runs, with what it prints."""

    def __init__(self, *command: str, env=None):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)
        self.watchdog = threading.Timer(TIMEOUT, self.process.kill)  # whatever waits for it goes on then
        self.watchdog.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watchdog.cancel()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            self.ends()
            raise AssertionError("the program has ended")
        return line.rstrip("\n")

    def port(self, what: str) -> int:
        """The port in the next line, which begins with `what`."""
        line = self.line()
        found = re.fullmatch(f"{what}.*:(\\d+)", line)
        expect(found, f"{line!r} is not {what!r} and a port")
        return int(found[1])

    def still_runs(self, seconds: float) -> bool:
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, status: int = 0) -> tuple[str, str]:
        """Waits for the end; gives what else it printed."""
        output = self.process.stdout.read()
        self.process.wait(timeout=TIMEOUT)
        self.errors.seek(0)
        errors = self.errors.read()
        expect(self.process.returncode == status, f"status {self.process.returncode}\n{output}{errors}")
        return output, errors


class Client:
    """A connection that speaks in lines."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.input = self.socket.makefile("r", encoding="utf-8", newline="\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()

    def ask(self, line: str) -> str:
        self.socket.sendall(line.encode() + b"\n")
        return self.line()

    def line(self) -> str:
        return self.input.readline().removesuffix("\n")

    def is_hung_up_on(self) -> bool:
        return self.input.read() == ""


def client_that_does_not_read(port: int) -> socket.socket:
    """One that has sent lines until the server, which cannot send the answers, has stopped reading."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    while select.select([], [client], [], 0.2)[1]:
        client.send((b"x" * 4000 + b"\n") * 100)
    return client


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    return False


def handles(text: str) -> list[str]:
    """Of what uv_print_all_handles printed: the handles that are not libuv's own, as "A timer" (active) or "- tcp"."""
    found = re.findall(r"^\[([R-])([A-])([I-])\] (\S+) +0x[0-9a-f]+$", text, re.M)
    return [f"{active} {kind}" for _, active, internal, kind in found if internal == "-"]


def sanitized(libraries: list[str], detect_leaks: bool = True) -> dict[str, str]:
    """The environment of a program that loads something with sanitizers. Leaks are reported, but fail nothing by
    themselves: the program has its own. Other errors end it."""
    if not libraries:
        return dict(os.environ)
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:detect_leaks={int(detect_leaks)}:exitcode=0:abort_on_error=1"
    return {**os.environ, "LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": options}


def leaks(errors: str) -> list[str]:
    """Of LeakSanitizer's report what has troth, or the example around it, in its stack."""
    blocks = re.split(r"(?m)^(?=Direct leak|Indirect leak)", errors)[1:]
    return [block for block in blocks if re.search(r"troth::|/examples/", block)]


def exported(library: str) -> set[str]:
    if shutil.which("nm") is None:
        raise Skip("there is no nm")
    shown = subprocess.run(["nm", "-D", "--defined-only", library], text=True, capture_output=True, check=True).stdout
    return {line.split()[-1] for line in shown.splitlines()}
