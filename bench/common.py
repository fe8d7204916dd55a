# SPDX-License-Identifier: MIT
# What the benchmarks' scripts share: child processes, counting, tables, and what is said about the machine.
"""Helpers of {connect,echo,embedding,http,promise,streams,timers}_bench.py."""

import contextlib
import datetime
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_LIMIT = 15  # seconds from SIGTERM to the end


class BenchError(Exception):
    """A measurement that could not be made. The message is for the person who reads the table."""


# --- Processes -----------------------------------------------------------------------------------

STARTED = []  # every child, so that none outlives this script, whatever ends it


def start(command, **streams):
    process = subprocess.Popen([str(part) for part in command], **streams)
    STARTED.append(process)
    return process


def end_all():
    for process in STARTED:
        if process.poll() is None:
            end_tracer(process)


def end_process(process):
    """Ends a child that this script started, politely at first; returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def child_of(pid):
    """The one child of a process, or None."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The command's name, in parentheses, may have spaces in it: count from its end.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                return int(entry.name)
    return None


def end_tracer(process):
    """Ends what a tracer traces, upon which the tracer writes its report and ends too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = child_of(process.pid) if process.poll() is None else None
        if pid is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(STOP_LIMIT)
    return end_process(process)


# --- Counting ------------------------------------------------------------------------------------

SYSTEM_CALL_KINDS = {
    "read": {"read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg", "pread64", "preadv"},
    "write": {"write", "writev", "send", "sendto", "sendmsg", "sendmmsg", "pwrite64", "pwritev"},
    "epoll_wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2"},
    "epoll_ctl": {"epoll_ctl"},
}


def system_calls_in(report):
    """The calls in what `strace -c` has written, by kind."""
    counts = dict.fromkeys([*SYSTEM_CALL_KINDS, "other"], 0)
    for line in report.read_text().splitlines():
        # % time, seconds, µs per call, calls, errors (empty if none), name
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if match and match[2] != "total":
            kinds = (kind for kind, names in SYSTEM_CALL_KINDS.items() if match[2] in names)
            counts[next(kinds, "other")] += int(match[1])
    return counts


def instructions_in(log):
    """The instructions in the log of callgrind."""
    match = re.search(r"Collected : (\d+)", log.read_text())
    if not match:
        raise BenchError("callgrind wrote no count")
    return int(match[1])


# --- Rounds and tables ---------------------------------------------------------------------------


def progress(text):
    print(text, file=sys.stderr, flush=True)


def order_of_round(names, number):
    """Forwards and backwards in turn, and beginning with each: no server has a place of its own."""
    begin = number // 2 % len(names)
    order = names[begin:] + names[:begin]
    return order if number % 2 == 0 else order[::-1]


def quartiles(values):
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def median_cells(figures, key, form):
    """Of each server the median over its rounds, in words; `figures` are lists of what was measured, None where not."""
    columns = {name: [figure[key] for figure in rounds if figure] for name, rounds in figures.items()}
    return {name: form(statistics.median(column)) for name, column in columns.items() if column}


def paired_ratio_cells(figures, key, yardstick):
    """Of each server the median (and quartiles) of its ratios to the yardstick, each within one round."""
    cells = {}
    for name, rounds in figures.items():
        pairs = zip(rounds, figures[yardstick])
        ratios = [mine[key] / base[key] for mine, base in pairs if mine and base]
        if ratios:
            low, middle, high = quartiles(ratios)
            cells[name] = "1" if name == yardstick else f"{middle:.2f}× ({low:.2f}–{high:.2f})"
    return cells


def with_ratio(values, form, yardstick):
    """Cells of one value each, with the ratio to the yardstick's."""
    base = values.get(yardstick)
    cells = {}
    for name, value in values.items():
        cells[name] = form(value)
        if base and name != yardstick:
            cells[name] += f" ({value / base:.2f}×)"
    return cells


class Table:
    """Rows of measures and columns of servers; a cell is a text or None."""

    def __init__(self, title, servers):
        self.rows = [[title, *servers]]
        self.servers = list(servers)

    def add(self, label, cells):
        self.rows.append([label, *(cells.get(name) or "–" for name in self.servers)])

    def render(self, markdown):
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.rows[0]))]
        lines = []
        for index, row in enumerate(self.rows):
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
            line = "| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip()
            lines.append(line)
            if index == 0 and markdown:
                rules = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
                lines.append("| " + " | ".join(rules) + " |")
        return "\n".join(lines)


# --- What was measured, and where ----------------------------------------------------------------


def output_of(command):
    """The first line that a command prints, or None if it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=10, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0] or None


def processor():
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return match[1].strip() if match else os.uname().machine


def system():
    with contextlib.suppress(OSError):
        match = re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.M)
        if match:
            return match[1]
    return os.uname().sysname


def commit(root):
    short = output_of(["git", "-C", str(root), "rev-parse", "--short", "HEAD"])
    if short is None:
        return None
    changed = output_of(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return short + (" with changes" if changed else "")


def machine_line(versions, busy):
    """What the figures were taken on, and of; None among the versions is left out."""
    revision = commit(ROOT)
    parts = [processor(), f"{len(os.sched_getaffinity(0))} cores", system(), f"Linux {os.uname().release}", *versions,
             revision and f"troth {revision}", datetime.date.today().isoformat(),
             f"machine {max(busy, 0):.0%} busy with other things before the start"]
    return ", ".join(filter(None, parts)) + "."


def busy_share():
    """How busy all cores are with other things, measured over half a second."""
    def times():
        line = Path("/proc/stat").read_text().partition("\n")[0]
        fields = [int(field) for field in line.split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # all; idle and waiting for a disk

    total, idle = times()
    time.sleep(0.5)
    later_total, later_idle = times()
    return 1 - (later_idle - idle) / max(later_total - total, 1)
