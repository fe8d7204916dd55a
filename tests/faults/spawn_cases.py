# SPDX-License-Identifier: MIT
# spawn, with failing and short calls in itself and in its child, and without descriptors.

import os
import re
import subprocess
import tempfile

from basics import Skip, case, expect, note, options, poll_until
from flow import Flow
from injection import Ending, faulty_environment, numbers_of, run_program, sweep
from processes import Shim, Strace, descriptor_names, start_process, state

LINES = [f"line {number}" for number in range(2000)]

# Ends with 3, so that its own end can be told from an error of spawn's.
TALK = "echo one; echo two >&2; exit 3"
# Writes every line twice, to its output and to its errors.
REPEAT = 'while read -r line; do echo "$line"; echo "$line" >&2; done; exit 3'


def need_spawn():
    if not options.spawn:
        raise Skip("no --spawn given")


def lines_of(output, stream):
    """What the child wrote to the stream. Everything is a whole line of spawn's, unless it could not be written."""
    return [
        match[1].decode()
        for match in re.finditer(rb"^\[\+\d+\.\d{3}s %s\] (.*)\n" % stream.encode(), output, re.M)
    ]


def expect_lines(output, wanted, whole, seen):
    for stream, lines in wanted.items():
        got = lines_of(output, stream)
        right = got == lines if whole else got == lines[: len(got)]
        expect(right, f"{len(got)} lines of {stream}, {len(lines)} wanted, or others: {seen}")


def run_spawn(command, wanted, fault=None, **settings):
    """Returns how it ended; if it says that all went well, the lines are there."""
    need_spawn()
    output = b""

    def read(process):
        nonlocal output
        output, _ = process.communicate(timeout=20)

    ending = run_program(
        [options.spawn, *command], read, fault, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **settings
    )
    expect_lines(output, wanted, ending.status == 3, ending.seen)
    return ending


# Calls while it starts a child, with errors that they may report, and which of them are its own.
STARTING = {
    "epoll_create1": (("EMFILE",), ""),
    "eventfd2": (("ENFILE",), ""),
    "pipe2": (("ENFILE",), "O_CLOEXEC"),
    "fcntl": (("EMFILE",), ""),
    "ioctl": (("ENOTTY",), "FIONBIO"),
    "clone": (("EAGAIN", "ENOMEM"), ""),
    "epoll_ctl": (("ENOMEM", "ENOSPC"), ""),
    "epoll_wait": (("EINTR",), ""),
    "wait4": (("EINTR",), ""),
}


def spawn_starting(call):
    """One call after the other fails while it starts a child: it does its work, or says what went wrong."""
    errors, own = STARTING[call]

    def run(fault):
        # A shell that redirects calls fcntl itself, and the fault would be the shell's.
        command = "echo one; LC_ALL=C cat /dev/null/two; exit 3"
        complaint = "cat: /dev/null/two: Not a directory"
        return run_spawn(["/bin/sh", "-c", command], {"out": ["one"], "err": [complaint]}, fault)

    numbers = numbers_of(call, own, run)
    sweep(call, errors, run, lambda ending, _: ending.expect_clear(done=3), numbers)


for spawn_call in STARTING:
    case(f"spawn.starting-{spawn_call}", spawn_call)(spawn_starting)

CHILD = {
    "dup2": ("EBUSY", "EMFILE"),
    "execve": ("EACCES", "ENOENT", "ENOMEM", "E2BIG"),
}


def spawn_child(call):
    """A call fails in the child before it is the program: spawn says so, and names the program."""

    def run(fault):
        return run_spawn(["/bin/echo", "one"], {"out": ["one"], "err": []}, fault)

    def judge(ending, fault):
        ending.expect_clear(done=0, error=fault.error)
        expect(ending.status == 1 and "/bin/echo" in ending.text, ending.seen)

    sweep(call, CHILD[call], run, judge, numbers_of(call, "", run, of_child=True))


for spawn_call in CHILD:
    case(f"spawn.child-{spawn_call}", spawn_call)(spawn_child)


class Repeating:
    """A spawn that runs, attached to by strace; what its child reads is still to come."""

    def __init__(self, call, error, when):
        self.flow = Flow("pipe", "".join(line + "\n" for line in LINES).encode())
        self.errors = tempfile.TemporaryFile()
        self.process = start_process(
            [options.spawn, "/bin/sh", "-c", REPEAT],
            faulty_environment(),
            stderr=self.errors,
            **self.flow.pipes(),
        )
        self.name = f"{call} {when} fails with {error}, spawn"
        pipes = poll_until(self._pipes, 10, 0.005)
        expect(pipes, "its child has not been started")
        strace = Strace(
            self.process, f"trace={call}", f"inject={call}:error={error}:when={when}", paths=pipes
        )
        children = self._children()
        self.flow.carry(self.process)
        status = self.process.wait(20)
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        strace.process.wait(10)
        strace.log.seek(0)
        self.ending = Ending(self.name, status, text, strace.log.read().decode().splitlines())
        for child in children:
            gone = poll_until(lambda pid=child: not os.path.exists(f"/proc/{pid}"), 5)
            expect(gone, f"the child is still there: {self.ending.seen}")

    def _children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return file.read().split()

    def _pipes(self):
        """The names of the pipes that it reads from its child and writes to; none before it only waits."""
        if not self._children() or state(self.process.pid) != "S":
            return None
        names = descriptor_names(self.process.pid)
        count = [*names.values()]
        ours = {name for fd, name in names.items() if name.startswith("pipe:") and fd > 2 and count.count(name) == 1}
        return [*ours, names[1]] if len(ours) == 2 else None


RUNNING = {"read": ("EIO", "ENOMEM"), "write": ("ENOSPC", "EIO", "EPIPE")}


def spawn_running(call):
    """One call after the other fails while the child writes: an error that is named, and the child is gone."""
    need_spawn()
    failed = 0
    wanted = {"out": LINES, "err": LINES}
    for error in RUNNING[call]:
        for number in (1, 2, 3, 5, 10, 100):
            run = Repeating(call, error, number)
            run.ending.expect_clear(done=3, error=error)
            expect(run.ending.status == 1 or not run.ending.injected, f"nothing is wrong? {run.ending.seen}")
            expect_lines(run.flow.output, wanted, run.ending.status == 3, run.ending.seen)
            failed += len(run.ending.injected)
    note(f"{failed} calls failed, one at a time")
    expect(failed >= 4 * len(RUNNING[call]), "next to no call has failed: the case shows nothing")


for spawn_call in RUNNING:
    case(f"spawn.running-{spawn_call}", spawn_call)(spawn_running)


@case("spawn.repeated-reads")
def spawn_repeated_reads():
    """Every second read is interrupted, or finds nothing: nobody notices."""
    need_spawn()
    for error in ("EINTR", "EAGAIN"):
        run = Repeating("read", error, "1+2")
        run.ending.expect_clear(done=3)
        expect(run.ending.status == 3 and len(run.ending.injected) > 2, run.ending.seen)
        expect_lines(run.flow.output, {"out": LINES, "err": LINES}, True, run.ending.seen)


@case("spawn.full-device")
def spawn_full_device():
    """What cannot be printed is an error, not lost in silence."""
    need_spawn()
    with open("/dev/full", "wb") as full:
        ending = run_program([options.spawn, "/bin/echo", "one"], lambda _: None, stdout=full)
    ending.expect_clear(error="ENOSPC")
    expect(ending.status == 1, ending.seen)


@case("spawn.short")
def spawn_short():
    """Reads that bring single bytes, some of them interrupted: nobody notices."""
    lines = LINES[:500]
    shim = Shim(shorten=1, fail_every=3, files=1)
    command = ["/usr/bin/env", "-u", "LD_PRELOAD", "/bin/sh", "-c", "printf '%s\\n' \"$@\"; exit 3", "sh", *lines]
    ending = run_spawn(command, {"out": lines, "err": []}, environment=shim.environment)
    expect(ending.status == 3 and not ending.text, ending.seen)
    shim.expect_faults(shortened=4000, failed=1000)


@case("spawn.descriptors")
def spawn_descriptors():
    """From none that is free to enough: it does its work, or says that there are too few descriptors."""
    refused = worked = 0
    for limit in range(4, 40):
        wanted = {"out": ["one"], "err": ["two"]}
        ending = run_spawn(["/bin/sh", "-c", TALK], wanted, descriptors=limit)
        ending.expect_clear(done=3, error="EMFILE")
        refused += ending.status == 1
        worked += ending.status == 3
        if worked == 3:
            break
    note(f"{refused} limits are too few, {limit - 2} is enough")
    expect(refused and worked == 3, f"{refused} limits too few, {worked} enough: the case shows nothing")
