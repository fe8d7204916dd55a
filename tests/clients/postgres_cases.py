# SPDX-License-Identifier: MIT
# examples/postgres against a real server in a temporary directory.

import glob
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

from basics import Skip, case, expect, note, poll_until
from processes import describe_status
from running import finish, free_port, run_example, run_tests, start_daemon, start_example


def newest(program):
    """The program of the newest version that is installed (Debian has one folder for each), or of the PATH."""
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{program}")
    found.sort(key=lambda path: float(path.split("/")[4]))
    path = found[-1] if found else shutil.which(program)
    if path is None:
        raise Skip(f"PostgreSQL's {program} is not installed")
    return path


def as_somebody():
    """PostgreSQL refuses to be run by root: the user, and what to put in front of its commands."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()), []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if shutil.which("setpriv") is None:
            raise Skip("setpriv is not installed, and PostgreSQL does not run as root")
        # The kernel forgets who wants to be told of a parent's end when the user changes.
        return user, ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
                      "--pdeathsig", "QUIT"]
    raise Skip("there is no user to run PostgreSQL as")


class Database:
    """A server with a database cluster of its own, which is made once."""

    cluster = None

    def __init__(self):
        self.user, self.prefix = as_somebody()
        program = newest("postgres")
        if Database.cluster is None:
            Database.cluster = self.make_cluster()
        folder = Database.cluster.name
        self.process, self.port = start_daemon(
            lambda port: [*self.prefix, program, "-D", f"{folder}/data", "-k", folder, "-h", "127.0.0.1", "-p", port,
                          "-c", "fsync=off", "-c", "max_connections=100", "-c", "log_min_messages=fatal"],
            self.is_ready)
        self.info = f"host={folder} port={self.port} user=postgres dbname=postgres"
        self.tcp = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def make_cluster(self):
        initdb = newest("initdb")
        folder = tempfile.TemporaryDirectory(prefix="troth-postgres-")
        os.chown(folder.name, self.user.pw_uid, self.user.pw_gid)
        done = subprocess.run(
            [*self.prefix, initdb, "-D", f"{folder.name}/data", "-U", "postgres", "-A", "trust", "--no-sync",
             "--no-instructions", "--locale=C", "--encoding=UTF8"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder.name, timeout=60, check=False)
        expect(done.returncode == 0, f"initdb: {describe_status(done.returncode)}: {done.stderr}")
        return folder

    def is_ready(self, port):
        return run_example("--connect", f"host=127.0.0.1 port={port} user=postgres dbname=postgres", "SELECT 1").status == 0

    def query(self, sql):
        """The rows, as text, without the line of the columns' names."""
        return run_example("--connect", self.info, sql).expect().output.splitlines()[1:]

    def stop(self, how=signal.SIGINT):
        os.kill(self.process.pid, how)
        self.process.wait(20)


def running(database, mark):
    """The queries with this word in them that the server executes."""
    return database.query(
        f"SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{mark}%' AND pid <> pg_backend_pid()")


@case("postgres.tests")
def postgres_tests():
    """The tests in C++."""
    database = Database()
    run_tests({"TROTH_POSTGRES": database.info, "TROTH_POSTGRES_PORT": str(database.port)})
    database.stop()


@case("postgres.rows")
def postgres_rows():
    """Rows, parameters and errors, over TCP and a Unix socket; refused connections."""
    database = Database()
    for info in (database.info, database.tcp):
        def run(*arguments):
            return run_example("--connect", info, *arguments)

        run("SELECT $1::int + $2::int AS sum, NULL AS none", "20", "22").expect("sum\tnone\n42\t(null)\n")
        run("CREATE TABLE things AS SELECT generate_series(1, 3) AS n").expect("3 rows changed\n")
        run("SELECT n FROM things ORDER BY n").expect("n\n1\n2\n3\n")
        run("DROP TABLE things").expect("0 rows changed\n")
        run("SELECT n FROM things").expect_failure('42P01: relation "things" does not exist')
        run("SELECT 1; SELECT 2").expect_failure("42601")
        run("COPY (SELECT 1) TO STDOUT").expect_failure("COPY is not supported")
    run_example().expect_failure("say which query")
    run_example("--connect", f"host=127.0.0.1 port={free_port()}", "SELECT 1").expect_failure("Connection refused")
    run_example("--connect", "host=/nonexistent", "SELECT 1").expect_failure("/nonexistent")
    run_example("--connect", "host=127.0.0.1 nonsense=1", "SELECT 1").expect_failure("nonsense")
    run_example("--connect", f"{database.tcp} dbname=none", "SELECT 1").expect_failure('database "none" does not exist')
    database.stop()


@case("postgres.cancel")
def postgres_cancel():
    """A query that is given up after a time-out is cancelled on the server."""
    database = Database()
    arguments = ("--connect", database.info, "--timeout", "1", "SELECT pg_sleep(60) AS given_up")
    process = start_example(*arguments)
    expect(poll_until(lambda: running(database, "given_up"), 5), "the server does not execute it")
    start = time.monotonic()
    finish(process, arguments).expect_failure("timed out after 1s")
    expect(time.monotonic() - start < 5, "it takes its time to end")
    expect(not running(database, "given_up"), "the server still executes it")
    database.stop()


@case("postgres.many")
def postgres_many():
    """Many queries at once share few connections."""
    database = Database()
    seen = run_example("--connect", database.info, "--times", 500, "--connections", 3,
                       "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").expect().output
    note(seen.replace("\n", " "))
    expect(re.fullmatch(r"count\n[1-4]\n500 queries in [\d.]+ ms\n", seen), seen)
    database.stop()


@case("postgres.lost")
def postgres_lost():
    """A server that shuts down, or is killed, while it executes a query, is reported."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        database = Database()
        arguments = ("--connect", database.tcp, "SELECT pg_sleep(60) AS lost")
        process = start_example(*arguments)
        expect(poll_until(lambda: running(database, "lost"), 5), "the server does not execute it")
        database.stop(how)
        finish(process, arguments).expect_failure("server closed the connection unexpectedly")


@case("postgres.silent")
def postgres_silent():
    """A server that does not speak is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run_example("--connect", f"host=127.0.0.1 port={silent.getsockname()[1]}", "--timeout", "1",
                    "SELECT 1").expect_failure("timed out after 1s")


@case("postgres.deaf")
def postgres_deaf():
    """A server that never answers a query, nor the request to cancel it, does not keep the program from ending."""
    def message(kind, body):
        return kind + struct.pack("!i", len(body) + 4) + body

    def serve(listener, held):
        while True:
            held.append(listener.accept()[0])
            if len(held) == 1:
                held[0].recv(4096)  # the client says who it is
                held[0].sendall(message(b"R", bytes(4)) + message(b"K", bytes(8)) + message(b"Z", b"I"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []
        threading.Thread(target=serve, args=(listener, held), daemon=True).start()
        info = f"host=127.0.0.1 port={listener.getsockname()[1]} user=me dbname=me sslmode=disable gssencmode=disable"
        start = time.monotonic()
        run_example("--connect", info, "--timeout", "1", "SELECT 1").expect_failure("timed out after 1s")
        expect(time.monotonic() - start < 30, "it waits for the request to cancel")
        expect(len(held) == 2, f"{len(held)} connections: there was no request to cancel")
