# SPDX-License-Identifier: MIT
# Servers and programs of the clients' cases.

import os
import socket
import subprocess
import tempfile

from basics import Failure, expect, note, options, poll_until
from processes import SANITIZER_REPORT, describe_status, start_process


def free_port():
    """A port that was free a moment ago: what is started on it may fail, and be started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def start_daemon(command_of, ready, patience=20):
    """Starts `command_of(port)` until it is ready(port), and returns the process and the port."""
    seen = ""
    for _ in range(5):
        port = free_port()
        with tempfile.TemporaryFile() as log:
            process = start_process(command_of(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            poll_until(lambda: ready(port) or process.poll() is not None, patience)
            if process.poll() is None and ready(port):
                return process, port
            process.kill()
            process.wait()
            log.seek(0)
            seen = f"{describe_status(process.returncode)}: {log.read()[-500:]!r}"
    raise Failure(f"no server: {seen}")


def run_tests(environment=None, arguments=()):
    """The tests in C++; their own summary is counted."""
    process = start_process(
        [options.tests, *arguments], environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    output = process.communicate(timeout=80)[0].decode(errors="replace")
    print(output, flush=True)
    expect(process.returncode == 0, f"{os.path.basename(options.tests)}: {describe_status(process.returncode)}")
    expect(not SANITIZER_REPORT.search(output), "a sanitizer reports something")


class Ended:
    """How a run of the example ended."""

    def __init__(self, arguments, status, output, errors):
        self.shown = " ".join(str(argument) for argument in arguments)
        self.status, self.output, self.errors = status, output, errors

    def __str__(self):
        return f"{self.shown}: {describe_status(self.status)}; stdout: {self.output!r}; stderr: {self.errors!r}"

    def expect(self, output=None):
        """It went well, and printed `output`."""
        expect(self.status == 0 and not self.errors, str(self))
        expect(output is None or self.output == output, f"{self}; it must print {output!r}")
        return self

    def expect_failure(self, *mentions):
        """It ended with 1 and one line on stderr, with these words in it."""
        note(self.errors.strip())
        name = os.path.basename(options.example)
        expect(self.status == 1 and self.errors.startswith(f"{name}: "), str(self))
        expect(self.errors.count("\n") == 1 and not SANITIZER_REPORT.search(self.errors), str(self))
        for word in mentions:
            expect(word in self.errors, f"{self}; it must mention {word!r}")
        return self


def start_example(*arguments, prefix=(), environment=None):
    return start_process([*prefix, options.example, *arguments], environment, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, arguments=(), patience=60):
    try:
        output, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise Failure(f"{arguments}: still running after {patience} s") from None
    return Ended(arguments, process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def run_example(*arguments, prefix=(), environment=None):
    return finish(start_example(*arguments, prefix=prefix, environment=environment), arguments)
