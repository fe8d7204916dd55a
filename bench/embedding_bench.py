# SPDX-License-Identifier: MIT
# How long after a host's callback the promise goes on that it has fulfilled, beside a uv_check_t of the host's own.
"""`tools/bench embedding`."""

import statistics
import subprocess
import tempfile
from pathlib import Path

from command_line import Parser, print_lines, print_tables, run
from common import BenchError, Table, busy_share, instructions_in, machine_line, order_of_round, output_of, progress

TOTAL_LIMIT = 600  # seconds
MODES = ["libuv", "troth"]
CASES = {
    "one descriptor": (1, []),
    "64 descriptors, ready together": (64, []),
    "one descriptor, among promises without end": (1, ["--flood"]),
}
FIGURES = ("median", "99 %", "99.9 %")


def command(options, mode, descriptors, rounds, extra):
    return [str(options.build / "bench" / "turn_latency"), mode, "--descriptors", str(descriptors),
            "--rounds", str(rounds), *extra]


def latencies(options, mode, descriptors, extra):
    """The median, 99 % and 99.9 % of one run, in nanoseconds."""
    rounds = options.events // descriptors
    done = subprocess.run(command(options, mode, descriptors, rounds, extra), stdout=subprocess.PIPE, text=True,
                          check=True, timeout=120)
    events, *figures = map(int, done.stdout.split())
    if events != rounds * descriptors:
        raise BenchError(f"{mode} recorded {events} events of {rounds * descriptors}")
    return figures


def instructions(options, mode, descriptors, extra):
    """User-mode instructions for each event: a long run less a short one."""
    counts = []
    for rounds in (200, 1200):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--log-file={log}",
                            *command(options, mode, descriptors, rounds, extra)],
                           stdout=subprocess.DEVNULL, check=True, timeout=300)
            counts.append(instructions_in(log))
    return (counts[1] - counts[0]) / (1000 * descriptors)


def measure(options, title, descriptors, extra):
    modes = MODES if not extra else ["troth"]
    figures = {mode: [] for mode in modes}
    progress(f"{title}: {options.rounds} rounds")
    for number in range(options.rounds):
        for mode in order_of_round(modes, number):
            figures[mode].append(latencies(options, mode, descriptors, extra))
    table = Table(title, MODES)
    for index, name in enumerate(FIGURES):
        table.add(f"from callback to continuation, {name}, ns",
                  {mode: f"{statistics.median(run[index] for run in runs):,.0f}" for mode, runs in figures.items()})
    if not extra:
        table.add("instructions for an event, all in all",
                  {mode: f"{instructions(options, mode, descriptors, extra):,.0f}" for mode in modes})
    return table


def parse_options(arguments):
    parser = Parser("embedding",
                    "In a host's libuv loop: the time from a callback that fulfils a promise to what awaits it, beside "
                    "a uv_check_t of the host's own.", quick="less precise", rounds=("", 15, 5))
    options = parser.options(arguments)
    options.events = 12_800 if options.quick else 64_000
    return options


def main(arguments):
    options = parse_options(arguments)
    busy = busy_share()
    for title, (descriptors, extra) in CASES.items():
        print_tables([measure(options, title, descriptors, extra)], options)
    lines = [
        machine_line([output_of([str(options.build / "bench" / "turn_latency"), "--version"]) or "compiler unknown"], busy),
        f"Medians of {options.rounds} rounds of {options.events:,} events. libuv: what a uv_check_t of the host's own does. "
        "Two looks at the clock are in each figure. Instructions: callgrind, user mode, a long run less a short one.",
        f"Command: `{options.command}`.",
    ]
    print_lines(lines, options)
    return 0


if __name__ == "__main__":
    run(main, TOTAL_LIMIT)
