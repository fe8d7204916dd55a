# SPDX-License-Identifier: MIT
# Runs cases one after the other, each within a limit of time, and counts how they end.

import os
import signal
import sys
import time
import traceback

from basics import Failure, Skip, cases, note
from processes import end_all, servers

CASE_LIMIT = 90  # seconds; a case that takes longer has hung


def give_up(_number, _frame):
    raise Failure(f"not done within {CASE_LIMIT} s")


def place_of(failure):
    frames = [f for f in traceback.extract_tb(failure.__traceback__) if f.name not in ("expect", "run_case")]
    return ", ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)


def run_case(name, function, arguments):
    """Returns `passed`, `FAILED` or `skipped`."""
    print(f"{name}: {(function.__doc__ or '').strip().partition(chr(10))[0]}", flush=True)
    start = time.monotonic()
    outcome, why = "passed", ""
    signal.alarm(CASE_LIMIT)
    try:
        function(*arguments)
    except Skip as skip:
        outcome, why = "skipped", str(skip)
    except Failure as failure:
        outcome, why = "FAILED", f"{failure} ({place_of(failure)})"
    except Exception:  # mostly a ConnectionError where none should be
        outcome, why = "FAILED", traceback.format_exc()
    finally:
        signal.alarm(0)
        if outcome == "FAILED":
            for server in servers:
                note(f"server {server.pid}: {server.how_it_ended()}")
        end_all()
    took = time.monotonic() - start
    print(f"  {outcome} {name} in {took:.1f} s{': ' + why if why else ''}", flush=True)
    return outcome


def run_cases(names):
    """Runs them, and returns the exit status."""
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that `finally` ends the children
    outcomes = [run_case(name, *cases[name]) for name in names]
    passed, failed = outcomes.count("passed"), outcomes.count("FAILED")
    skipped = outcomes.count("skipped")
    print(
        f"test cases: {len(outcomes)} | {passed} passed | {failed} failed | {skipped} skipped",
        flush=True,
    )
    if failed:
        return 1
    return 77 if skipped == len(outcomes) else 0  # 77: meson's word for skipped
