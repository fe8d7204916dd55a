# SPDX-License-Identifier: MIT
# Programs under test as child processes, and what makes their system calls fail.

import ctypes
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from basics import Failure, Skip, expect, note, options, poll_until
from sockets import difference, echo, pattern

START_LIMIT = 20
SANITIZER_REPORT = re.compile(r"Sanitizer|runtime error:")

# UBSan's vptr check opens a pipe to find out whether memory is readable. With no descriptor free it
# takes the memory of every object for unreadable and says so; a real finding shows the memory.
BLIND_VPTR_REPORT = re.compile(
    r".*runtime error: .* does not point to an object of type .*\n"
    r".*note: object has invalid vptr\n"
    r"<memory cannot be printed>\n"
    r"(SUMMARY: UndefinedBehaviorSanitizer: .*\n)?"
)

# A report of that kind must not end the program.
BLIND_UBSAN_OPTIONS = "halt_on_error=0:print_stacktrace=0"

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
running = []  # every process that was started and not yet reaped
servers = []  # those of the case at hand, for the report when it fails


def with_sanitizer_options(environment, extra):
    """Adds to ASAN_OPTIONS what is there already."""
    options = [part for part in (environment.get("ASAN_OPTIONS", ""), extra) if part]
    environment["ASAN_OPTIONS"] = ":".join(options)


def start_process(arguments, environment=None, descriptors=None, **pipes):
    """Starts a child that dies with this process, SIGPIPE having its default action."""
    if descriptors is not None:
        environment = {"UBSAN_OPTIONS": BLIND_UBSAN_OPTIONS, **(environment or {})}

    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        env={**os.environ, **(environment or {})},
        preexec_fn=prepare,
        **pipes,
    )
    running.append(process)
    return process


def end_all():
    for process in running:
        if process.poll() is None:
            try:
                os.kill(process.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    running.clear()
    servers.clear()


def describe_status(status):
    if status is None:
        return "still running"
    if status < 0:
        return f"ended by signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def descriptor_names(pid):
    """What leads where: a path, `pipe:[1234]`, `socket:[1234]`."""
    names = {}
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            names[int(name)] = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            pass
    return names


def state(pid):
    """The letter that ps shows: S sleeps, T is stopped."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]


def activate(socket):
    """The command in front of another that hands it `socket` as systemd does (sd_listen_fds(3)): it keeps its pid."""
    if socket is None:
        return []
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.closerange(4, 1024); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='echo'); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-c", code, socket.fileno()]


class Server:
    """An echo server as a child process, and what /proc says of it. `listen` is how it is told where to listen,
    if not by `--port`."""

    def __init__(
        self, *arguments, binary=None, environment=None, descriptors=None, port=0, listen=None, inherited=None
    ):
        self.errors = tempfile.TemporaryFile()
        self.starved = descriptors is not None
        self.process = start_process(
            [*activate(inherited), binary or options.server, *(listen or ("--port", port)), *arguments],
            environment,
            descriptors,
            pass_fds=() if inherited is None else (inherited.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.pid = self.process.pid
        servers.append(self)
        self.host, self.port = self._read_address()
        self.idle_descriptors = self._settled_descriptors()

    def _read_address(self):
        line = b""
        output = self.process.stdout
        limit = time.monotonic() + START_LIMIT
        while b"\n" not in line and time.monotonic() < limit:
            if select.select([output], [], [], 0.2)[0]:
                block = os.read(output.fileno(), 4096)
                if not block:
                    break
                line += block
        match = re.match(rb"listening on \[?([0-9a-f.:]+?)\]?:(\d+)\n", line)
        if not match:
            status = poll_until(lambda: self.process.poll() is not None, 1) and self.process.poll()
            raise Failure(
                f"no line `listening on ADDRESS:PORT`, but {line!r}; "
                f"{describe_status(status or None)}; stderr: {self.error_text()!r}"
            )
        return match[1].decode(), int(match[2])

    def _settled_descriptors(self):
        """The count once it has stopped changing: the line may come before the last handle."""
        count = self.descriptors()
        for _ in range(50):
            time.sleep(0.05)
            again = self.descriptors()
            if again == count:
                break
            count = again
        return count

    def error_text(self):
        self.errors.seek(0)
        text = self.errors.read(256 * 1024).decode(errors="replace")
        return BLIND_VPTR_REPORT.sub("", text) if self.starved else text

    def descriptor_names(self):
        return descriptor_names(self.pid)

    def descriptors(self):
        """How many are open, but for the timer's timerfd, which is made when a delay is short, and kept."""
        try:
            return sum(name != "anon_inode:[timerfd]" for name in self.descriptor_names().values())
        except FileNotFoundError:
            raise Failure(f"the server has died: {self.how_it_ended()}") from None

    def how_it_ended(self):
        poll_until(lambda: self.process.poll() is not None, 1)
        return f"{describe_status(self.process.poll())}; stderr: {self.error_text()!r}"

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        try:
            path = f"/proc/{self.pid}/smaps_rollup"
            with open(path, encoding="ascii") as file:
                return int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M)[1]) * 1024
        except (FileNotFoundError, PermissionError):
            with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
                return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M)[1]) * 1024

    def expect_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"the server has died: {self.how_it_ended()}")

    def expect_descriptors_back(self, patience=5):
        poll_until(lambda: self.descriptors() <= self.idle_descriptors, patience)
        count = self.descriptors()
        expect(
            count <= self.idle_descriptors,
            f"{count} descriptors are open, {self.idle_descriptors} before the first client: "
            f"{self.descriptor_names()}",
        )

    def expect_serves(self, clients=3, patience=5):
        """So many clients, one after the other, are each echoed in full."""
        for number in range(clients):
            data = pattern(10000, number)
            answer = echo(self, data, patience)
            expect(answer == data, f"a new client got back {difference(data, answer)}")

    def expect_calm(self, duration, limit=0.2):
        """Uses less than `limit` of a core for so many seconds."""
        before, start = self.cpu_seconds(), time.monotonic()
        time.sleep(duration)
        share = (self.cpu_seconds() - before) / (time.monotonic() - start)
        note(f"CPU {share * 100:.1f} % over {duration} s")
        expect(share < limit, f"busy: {share * 100:.0f} % of a core over {duration} s")

    def wait(self, patience=15):
        poll_until(lambda: self.process.poll() is not None, patience, 0.01)
        return self.process.poll()

    def expect_ended(self, patience=15, quiet=True):
        status = self.wait(patience)
        expect(
            status == 0,
            f"after the signal to end: {describe_status(status)}; stderr: {self.error_text()!r}",
        )
        text = self.error_text()
        expect(not SANITIZER_REPORT.search(text), f"a sanitizer reports: {text}")
        expect(not quiet or not text, f"on stderr: {text!r}")
        expect(len(text) < 16 * 1024, f"floods stderr: {text[:500]!r}")

    def stop(self, number=signal.SIGTERM, patience=15, quiet=True):
        """Ends the server as its contract says; `quiet` also demands an empty stderr."""
        self.expect_alive()
        os.kill(self.pid, number)
        self.expect_ended(patience, quiet)

    def freeze(self):
        """Stops the process and waits until it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        expect(poll_until(lambda: state(self.pid) in "Tt", 2, 0.002), "SIGSTOP does not stop the server")

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)


def has_sanitizer(binary):
    with open(binary, "rb") as file:
        content = file.read()
    return any(name in content for name in (b"__asan_init", b"__tsan_init", b"__msan_init"))


class Strace:
    """strace attached to a running process, so that its start and its end are not disturbed. With `paths` (of files,
    or a descriptor's name in /proc) only calls that concern them are traced, counted and made to fail."""

    def __init__(self, process, *expressions, paths=()):
        if shutil.which("strace") is None:
            raise Skip("strace is not installed")
        self.log = tempfile.NamedTemporaryFile(prefix="faults-strace-")
        self.errors = tempfile.TemporaryFile()
        arguments = ["strace", "-f", "-q", "-o", self.log.name, "-p", process.pid]
        for expression in expressions:
            arguments += ["-e", expression]
        for path in paths:
            arguments += ["-P", path]
        self.process = start_process(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors
        )
        self.traced = process
        attached = poll_until(lambda: self._attached() or self.process.poll() is not None, 5, 0.005)
        if not attached or self.process.poll() is not None:
            time.sleep(0.1)
            # a program that does not survive it is no reason to skip
            expect(process.poll() is None, f"died of it: {describe_status(process.returncode)}")
            self.errors.seek(0)
            why = self.errors.read().decode(errors="replace").strip()
            raise Skip(f"strace cannot attach here: {why}")

    def _attached(self):
        if self.traced.poll() is not None:
            return False
        tasks = f"/proc/{self.traced.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/status", encoding="ascii") as file:
                if int(re.search(r"^TracerPid:\s+(\d+)", file.read(), re.M)[1]) == 0:
                    return False
        return True

    def detach(self):
        """LeakSanitizer cannot work in a traced process: detach before ending the program."""
        self.process.terminate()
        self.process.wait(10)

    def injected(self):
        self.log.seek(0)
        return self.log.read().count(b"(INJECTED)")


class Shim:
    """The environment that makes a program's calls short or fail, see shim.cc, and its counts."""

    def __init__(self, **settings):
        if not options.shim:
            raise Skip("no --shim given")
        self.report = tempfile.NamedTemporaryFile(prefix="faults-shim-")
        self.environment = {"LD_PRELOAD": options.shim, "TROTH_SHIM_REPORT": self.report.name}
        for key, value in settings.items():
            self.environment[f"TROTH_SHIM_{key.upper()}"] = str(value)
        self.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "")
        with_sanitizer_options(self.environment, "verify_asan_link_order=0")

    def counts(self):
        with open(self.report.name, "rb") as file:
            return struct.unpack("=QQQ", file.read(24).ljust(24, b"\0"))

    def expect_faults(self, shortened=0, failed=0):
        calls, short, fails = self.counts()
        note(f"{calls} calls, {short} shortened, {fails} failed by the shim")
        expect(
            short >= shortened and fails >= failed,
            f"the shim met {calls} calls, shortened {short} (≥ {shortened} wanted), "
            f"made {fails} fail (≥ {failed} wanted): the case shows nothing",
        )


def need_client():
    if not options.client:
        raise Skip("no --client given")


def run_and_expect_error(arguments, mentions, program="echo_server", stdin=subprocess.DEVNULL):
    """The program ends with status 1 and `program: MESSAGE` on stderr with these words in it."""
    binary = {"echo_client": options.client, "port_forward": options.port_forward}.get(program, options.server)
    shown = " ".join(str(argument) for argument in arguments)
    process = start_process(
        [binary, *arguments],
        # A name server that does not answer is given up soon.
        {"RES_OPTIONS": "timeout:1 attempts:1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        raise Failure(f"{program} {shown}: still running after 20 s") from None
    text = errors.decode(errors="replace")
    seen = f"{program} {shown}: {describe_status(process.returncode)}; stderr: {text!r}"
    note(seen if len(seen) < 300 else seen[:300] + " …")
    expect(process.returncode == 1, seen)
    expect(text.startswith(f"{program}: "), f"{seen}; it must begin with `{program}: `")
    expect(not SANITIZER_REPORT.search(text), seen)
    for word in mentions:
        expect(word in text, f"{seen}; it must mention {word!r}")
    expect(b"listening" not in output, f"{seen}; but it says {output!r}")
