#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the examples that need no partner and compares what they print: examples.py TIMERS."""
import subprocess
import sys

TIMERS = "1\n2\n3\ncounted to 3\n1\n2\ntimed out after 25ms\n1\ndone\n"


def main() -> int:
    timers = sys.argv[1]
    done = subprocess.run([timers], text=True, capture_output=True, timeout=60, check=False)
    # How far the two counts come that are cancelled depends on how busy the machine is; the rest does not.
    lines = [line for line in done.stdout.splitlines() if not line.isdigit()]
    wanted = [line for line in TIMERS.splitlines() if not line.isdigit()]
    if done.returncode or done.stderr or lines != wanted or not done.stdout.startswith("1\n2\n3\ncounted"):
        print(f"timers: status {done.returncode}, printed:\n{done.stdout}{done.stderr}")
        return 1
    print("timers prints what it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
