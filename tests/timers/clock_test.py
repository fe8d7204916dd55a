#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs delays under clocks that misbehave, by libfaketime: clock_test.py DELAYS.

Exit status 77, "skipped", where there is no faketime (Debian: faketime).
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 77
SUM = "1828"  # milliseconds of delays in all
LENGTH = 0.928  # seconds that they take, one after the other
LIMIT = 60  # seconds for one run


def environment(**more):
    # libfaketime is loaded before the runtime of a sanitizer, which says that it should be first, and works all the same.
    options = os.environ.get("ASAN_OPTIONS", "")
    return {**os.environ, "ASAN_OPTIONS": options + ":verify_asan_link_order=0", **more}


def run(name, command, env, expected=SUM, meanwhile=lambda: None):
    """Runs the program; what was wrong, and how long it took by a clock that nobody fakes."""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            begins = process.stdout.readline()
            start = time.monotonic()
            meanwhile()
            printed, errors = process.communicate(timeout=LIMIT)
            took = time.monotonic() - start
        except subprocess.TimeoutExpired:
            process.kill()
            return f"{name}: not over after {LIMIT} s", 0
    if begins != "begins\n" or process.returncode != 0:
        return f"{name}: status {process.returncode}: {begins}{printed}{errors}", 0
    if printed.strip() != expected:
        return f"{name}: printed {printed!r}", 0
    return None, took


def at_twenty_times_the_speed(program):
    """A day's delays pass in little more than an hour, and none is early by the clock that the program sees."""
    wrong, took = run("x20", ["faketime", "-f", "+0 x20", program], environment())
    if wrong is None and took > LENGTH * 0.8:
        wrong = f"x20: took {took:.2f} s, as long as at the usual speed"
    return wrong


def library():
    """What faketime lets the dynamic linker load."""
    return subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.strip()


def with_a_date_that_jumps(program):
    """The date goes five hours ahead and ten back, as when an administrator sets it: delays do not notice."""
    with tempfile.TemporaryDirectory(prefix="troth-clock-") as directory:
        date = Path(directory) / "date"
        date.write_text("+0\n")

        def jump():
            for offset in ("+5h", "-5h", "+0"):
                time.sleep(LENGTH / 5)
                date.write_text(offset + "\n")

        env = environment(LD_PRELOAD=library(), DONT_FAKE_MONOTONIC="1", FAKETIME_NO_CACHE="1",
                          FAKETIME_TIMESTAMP_FILE=str(date))
        wrong, took = run("jumps", [program], env, SUM + " jumped", jump)
    if wrong is None and not LENGTH * 0.95 <= took <= LENGTH * 5:
        wrong = f"jumps: took {took:.2f} s instead of {LENGTH} s"
    return wrong


def main():
    if shutil.which("faketime") is None:
        print("skipped: faketime is not installed")
        return SKIPPED
    failures = 0
    cases = (at_twenty_times_the_speed, with_a_date_that_jumps)
    for case in cases:
        wrong = case(sys.argv[1])
        failures += wrong is not None
        print(f"{'ok' if wrong is None else 'FAILED'}: {case.__doc__ if wrong is None else wrong}")
    # In doctest's words, which tools/count_tests.py adds up.
    print(f"test cases: {len(cases)} | {len(cases) - failures} passed | {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
