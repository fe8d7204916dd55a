# SPDX-License-Identifier: MIT
# examples/redis against a real server, and against none.

import os
import re
import shutil
import socket
import tempfile
import time

from basics import Skip, case, expect, note, poll_until
from processes import with_sanitizer_options
from running import accepts, finish, free_port, run_example, run_tests, start_daemon, start_example


class Redis:
    """A server in a directory of its own, without anything that lasts."""

    def __init__(self):
        program = shutil.which("redis-server")
        if program is None:
            raise Skip("redis-server is not installed")
        self.folder = tempfile.TemporaryDirectory(prefix="troth-redis-")
        self.process, self.port = start_daemon(
            lambda port: [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
                          self.folder.name], accepts)
        self.address = f"127.0.0.1:{self.port}"

    def run(self, *arguments, **settings):
        return run_example("--server", self.address, *arguments, **settings)


@case("redis.tests")
def redis_tests():
    """The tests in C++ that need no server."""
    run_tests(arguments=["--test-case-exclude=real:*"])


@case("redis.real")
def redis_real():
    """The tests in C++ that need one: 10 000 pipelined commands in order, and the cost of one after the other."""
    redis = Redis()
    run_tests({"TROTH_REDIS": redis.address}, ["--test-case=real:*"])


@case("redis.commands")
def redis_commands():
    """Answers and errors, as a person sees them."""
    redis = Redis()
    redis.run("PING").expect("PONG\n")
    redis.run("SET", "key", "two words").expect("OK\n")
    redis.run("GET", "key").expect("two words\n")
    redis.run("GET", "none").expect("(nil)\n")
    redis.run("RPUSH", "list", "a", "b").expect("(integer) 2\n")
    redis.run("LRANGE", "list", "0", "-1").expect("(2 elements)\n- a\n- b\n")
    redis.run("EVAL", "return {1,{'x'}}", "0").expect("(2 elements)\n- (integer) 1\n- (1 elements)\n  - x\n")
    redis.run("NONSENSE").expect_failure("ERR unknown command")
    redis.run("SUBSCRIBE", "x").expect_failure("SUBSCRIBE has more than one answer")
    run_example().expect_failure("say which command")
    run_example("--server", "localhost", "PING").expect_failure('"localhost"')


@case("redis.pipeline")
def redis_pipeline():
    """10 000 commands at once are answered in order, for which the system is asked a handful of times."""
    redis = Redis()
    seen = redis.run("--pipeline", 10_000).expect().output
    expect(seen.startswith("10000 answers, all in order"), seen)
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    environment = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
    with_sanitizer_options(environment, "detect_leaks=0")  # which does not work in a traced process
    calls = {}
    for count in (1, 10_000):
        with tempfile.NamedTemporaryFile(prefix="troth-strace-") as log:
            redis.run("--pipeline", count, environment=environment,
                      prefix=["strace", "-f", "-qq", "-o", log.name, "-e", "trace=epoll_ctl,read,write"]).expect()
            log.seek(0)
            text = log.read().decode()
        calls[count] = {name: len(re.findall(rf"\b{name}\(", text)) for name in ("epoll_ctl", "read", "write")}
    note(f"calls: {calls}")
    expect(calls[10_000]["epoll_ctl"] <= calls[1]["epoll_ctl"] + 10, f"epoll is told of changes too often: {calls}")
    expect(calls[10_000]["read"] + calls[10_000]["write"] < 1000, f"commands are not sent together: {calls}")


@case("redis.refused")
def redis_refused():
    """A refused connection is reported at once, with the address, over TCP and over a Unix socket."""
    start = time.monotonic()
    port = free_port()
    run_example("--server", f"127.0.0.1:{port}", "PING").expect_failure(f"127.0.0.1:{port}", "Connection refused")
    run_example("--server", "unix:/nonexistent/redis", "PING").expect_failure("unix:/nonexistent/redis", "No such file")
    expect(time.monotonic() - start < 5, "only the time-out ended it")


@case("redis.silent")
def redis_silent():
    """A server that does not answer is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run_example("--server", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "1",
                    "PING").expect_failure("timed out after 1s")


@case("redis.killed")
def redis_killed():
    """A server that is killed while a command waits is reported."""
    redis = Redis()
    arguments = ("--server", redis.address, "--timeout", "60", "BLPOP", "nothing", "0")
    process = start_example(*arguments)

    def is_blocked():
        return "blocked_clients:1" in redis.run("INFO", "clients").output

    expect(poll_until(is_blocked, 10), "the command does not reach the server")
    redis.process.kill()
    finish(process, arguments).expect_failure(redis.address, "Server closed the connection")
