# SPDX-License-Identifier: MIT
# What the benchmarks' scripts say and understand alike: their options, how they are ended, and how they report.
"""The command line of {connect,echo,embedding,http,promise,streams,timers}_bench.py."""

import argparse
import re
import shlex
import signal
import sys
from pathlib import Path

from common import BenchError, ROOT, end_all, progress


class Parser(argparse.ArgumentParser):
    """The options that every benchmark has; its own are added by add_argument() and the methods below.

    `quick`: what --quick makes of it; `rounds`: of what, how many, and how many if it is quick."""

    def __init__(self, benchmark, description, quick, rounds, build="release", **more):
        super().__init__(prog=f"tools/bench {benchmark}", description=description, **more)
        self.benchmark = benchmark
        of, self.rounds, self.quick_rounds = rounds
        self.add_argument("--quick", action="store_true", help=quick)
        self.add_argument("--rounds", type=int, help=f"rounds{of} ({self.rounds}; {self.quick_rounds} if quick)")
        self.add_argument("--markdown", action="store_true", help="print Markdown tables")
        self.add_argument("--build", type=Path, default=ROOT / "build" / build, help=argparse.SUPPRESS)

    def add_only(self, what, **more):
        self.add_argument("--only", type=pattern, metavar="REGEX", help=f"only the {what} has a match", **more)

    def add_instructions_only(self, what):
        self.add_argument("--instructions-only", action="store_true", help=what)

    def add_peer(self):
        self.add_argument("--peer", type=peer, action="append", default=[], metavar="NAME=COMMAND",
                          help="compare with another server too; may be repeated")

    def options(self, arguments):
        """The options, with `command`, which is what a person has to type to have the same."""
        options = self.parse_args(arguments)
        if options.rounds is None:
            options.rounds = self.quick_rounds if options.quick else self.rounds
        if options.rounds < 1:
            self.error("--rounds must be at least 1")
        options.command = shlex.join(["tools/bench", self.benchmark, *said_of(arguments)])
        return options


def said_of(arguments):
    """The arguments that a person has given, without paths; what other peers are has a line of its own."""
    words, said = iter(arguments), []
    for word in words:
        if word in ("--build", "--peer"):
            next(words, None)
        elif not word.startswith(("--build=", "--peer=")):
            said.append(word)
    return said


def pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"is no regular expression: {error}") from None


def peer(text):
    name, equals, command = text.partition("=")
    if not (name and equals and command.strip()):
        raise argparse.ArgumentTypeError("must be NAME=COMMAND")
    return name, shlex.split(command)


# --- Reports -------------------------------------------------------------------------------------


def warn_if_busy(busy, sure):
    """`sure`: what can be trusted still."""
    if busy > 0.1:
        progress(f"the machine is {busy:.0%} busy with other things: trust {sure} more than the times")


def print_tables(tables, options):
    for table in tables:
        print(table.render(options.markdown), end="\n\n", flush=True)


def print_lines(lines, options):
    """What is said below the tables."""
    print("\n".join("- " + line for line in lines) if options.markdown else "\n".join(lines))


def status_after(complaints):
    for complaint in complaints:
        progress(f"tools/bench: {complaint}")
    return 1 if complaints else 0


# --- The end -------------------------------------------------------------------------------------


def run(main, seconds):
    """Runs a benchmark, for so many seconds at most, and ends the script; whatever ends it, all that it has started is
    ended, too."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupt)
    signal.alarm(seconds)
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"tools/bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        end_all()


def interrupt(number, frame):
    """Turns a signal into an exception, so that what was started is ended on the way out."""
    reason = "took too long" if number == signal.SIGALRM else f"ended by signal {number}"
    raise SystemExit(f"tools/bench: {reason}")
