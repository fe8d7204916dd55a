#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sums the test cases of a meson test run: count_tests.py TESTLOG.json STATUS.

Each program prints doctest's summary ("test cases: 3 | 2 passed | 1 failed"). One without it counts as one
case; one that crashed after its summary, or without one, counts as a failure. The last line printed is
"N passed, N failed"; the exit status is not 0 if anything failed, nothing ran, or STATUS is not 0. What was skipped is
named, with the reason if the program has given one ("skipped NAME in 0.1 s: REASON").
"""
import json
import re
import sys

SKIPPED = re.compile(r"^\s*skipped (\S+) in [\d.]+ s(: .*)?$", re.M)
SUMMARY = re.compile(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed(?:\s*\|\s*(\d+) skipped)?")


def main() -> int:
    passed = failed = skipped = 0
    with open(sys.argv[1], encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            ok = test["result"] in ("OK", "EXPECTEDFAIL", "SKIP")
            summaries = SUMMARY.findall(test.get("stdout") or "")
            case_failures = sum(int(s[2]) for s in summaries)
            for name, reason in SKIPPED.findall(test.get("stdout") or ""):
                print(f"skipped: {name}{reason}")
            if test["result"] == "SKIP":
                skipped += 1
            elif summaries:
                passed += sum(int(s[1]) for s in summaries)
            elif ok:
                passed += 1
            failed += case_failures
            if not ok:
                failed += case_failures == 0
                print(f"failed: {test['name']} ({test['result']})")
    if skipped:
        print(f"skipped programs: {skipped}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed or int(sys.argv[2]) else 0


if __name__ == "__main__":
    sys.exit(main())
