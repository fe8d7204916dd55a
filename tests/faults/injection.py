# SPDX-License-Identifier: MIT
# Programs in which one system call fails, by strace, from their start on; and what must come of it.

import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile

from basics import Skip, expect, note, poll_until
from processes import (
    BLIND_UBSAN_OPTIONS,
    BLIND_VPTR_REPORT,
    SANITIZER_REPORT,
    describe_status,
    start_process,
    with_sanitizer_options,
)

PATIENCE = 20

# What libuv (1.44) does when one of these fails is to call abort(), so there is nothing that could end the program
# with a message: the epoll_ctl of uv__io_poll and of uv__io_check_fd, a thread of its pool (uv__threadpool.c), the
# pipe that holds the lock of its signal handlers (uv__signal_global_once_init).
LIBUV_ABORTS = ("epoll_ctl", "clone3", "pipe2")


class Fault:
    """The calls that fail: `when` says which, as strace has it (3: the third; 1+2: every second one from the first),
    counted in each thread, of those that concern `paths` if there are any (see Strace)."""

    def __init__(self, call, error, when, paths=()):
        self.call, self.error, self.when, self.paths = call, error, when, paths

    def strace(self, log):
        arguments = ["strace", "-D", "-f", "-q", "-o", log, "-e", f"trace={self.call}"]
        if self.error:
            arguments += ["-e", f"inject={self.call}:error={self.error}:when={self.when}"]
        for path in self.paths:
            arguments += ["-P", path]
        return arguments

    def __str__(self):
        return f"{self.call} {self.when} fails with {self.error}"


class Ending:
    """How a program ended: its status, what it wrote to stderr, and the traced calls."""

    def __init__(self, name, status, text, calls):
        self.name, self.status, self.text, self.calls = name, status, text, calls
        self.injected = [line for line in calls if "(INJECTED)" in line]
        self.seen = f"{name}: {describe_status(status)}; stderr: {text!r}"

    def aborted(self):
        return self.status == -signal.SIGABRT and not self.text

    def expect_clear(self, done=0, error=None):
        """The program did its work, or gave 1 and a single line that says why, and names the error if it is known."""
        expect(not SANITIZER_REPORT.search(self.text), f"a sanitizer reports: {self.seen}")
        if self.status == done:
            expect(not self.text, self.seen)
            return
        expect(self.status == 1 and self.text.count("\n") == 1, self.seen)
        expect(re.match(r"\w+: .{15}", self.text), self.seen)
        if error:
            names = (error, os.strerror(getattr(errno, error)))
            expect(any(name in self.text for name in names), f"{self.seen}; it must name {error}")


def faulty_environment(environment=None, traced=True):
    """For a program with few descriptors, or that has strace on it until its end."""
    environment = dict(environment or {}, UV_THREADPOOL_SIZE="1")
    environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", ""))
    if traced:
        with_sanitizer_options(environment, "detect_leaks=0")  # does not work in a traced process
    environment["UBSAN_OPTIONS"] = BLIND_UBSAN_OPTIONS
    return environment


def run_program(arguments, use, fault=None, descriptors=None, environment=None, **pipes):
    """Runs a program, with a fault or few descriptors, hands the process to `use`, and gives its Ending."""
    if fault and shutil.which("strace") is None:
        raise Skip("strace is not installed")
    environment = faulty_environment(environment, traced=fault is not None)
    with tempfile.NamedTemporaryFile(prefix="faults-strace-") as log, tempfile.TemporaryFile() as errors:
        prefix = fault.strace(log.name) if fault else []
        process = start_process([*prefix, *arguments], environment, descriptors, stderr=errors, **pipes)
        use(process)
        name = f"{fault or 'no fault'}, {os.path.basename(str(arguments[0]))}"
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            status = None
        errors.seek(0)
        text = BLIND_VPTR_REPORT.sub("", errors.read().decode(errors="replace"))

        def calls():
            with open(log.name, encoding="ascii", errors="replace") as file:
                return file.read().splitlines()

        ending = Ending(name, status, text, [])
        expect(status is not None, f"hangs: {ending.seen}")
        if fault:
            own_end = re.compile(rf"^{process.pid} +\+\+\+ (exited|killed)", re.M)
            ended = poll_until(lambda: own_end.search("\n".join(calls())), 5, 0.002)
            expect(ended, f"strace has not ended: {ending.seen}")
            ending = Ending(name, status, text, calls())
        return ending


def numbers_of(call, pattern, run, of_child=False):
    """Which calls of the program (1 for its first) match a pattern when nothing fails; `run(fault)` gives the Ending.
    Those of sanitizers and of the loader, which nothing can go on without, can be left out so."""
    ending = run(Fault(call, None, None))
    pid = re.search(r"^(\d+) +\+\+\+ exited", ending.calls[-1])[1]
    numbers, count = [], 0
    for line in ending.calls:
        match = re.match(rf"(\d+) +{call}\w*\(", line)
        if match and (match[1] == pid) != of_child:
            count += 1
            if re.search(pattern, line):
                numbers.append(count)
    expect(numbers, f"no call of {call} matches {pattern}: the case shows nothing")
    return numbers


def sweep(call, errors, run, judge, numbers=None):
    """Makes one call after the other fail with each of the errors, until there is none any more or for the `numbers`;
    `run(fault)` gives the Ending, `judge(ending, fault)` what must be beyond its being clear."""
    failed = aborted = 0
    for error in errors:
        for number in numbers or range(1, 100):
            fault = Fault(call, error, number)
            ending = run(fault)
            if not ending.injected and numbers is None:
                judge(ending, None)
                break
            failed += bool(ending.injected)
            if ending.aborted() and call in LIBUV_ABORTS:
                aborted += 1
            else:
                judge(ending, fault)
    note(f"{call} failed {failed} times, one at a time" + (f"; {aborted} times libuv gave up" if aborted else ""))
    expect(failed >= len(errors), "not every error has been met: the case shows nothing")
