# SPDX-License-Identifier: MIT
# What every case needs: outcomes, notes, the options of the run, and the list of cases.

import argparse
import time

MIB = 1024 * 1024

options = argparse.Namespace()  # of the command line, see faults.py


class Failure(Exception):
    """Something was not as it must be; the text is what was seen."""


class Skip(Exception):
    """The case cannot be shown on this machine; the text is why."""


def expect(condition, seen):
    if not condition:
        raise Failure(seen)


def note(text):
    print("    " + text, flush=True)


def poll_until(question, patience, pause=0.02):
    """Asks until the answer is true or the time is over, and returns the last answer."""
    limit = time.monotonic() + patience
    while True:
        answer = question()
        if answer or time.monotonic() > limit:
            return answer
        time.sleep(pause)


cases = {}  # name: (function, arguments)


def case(name, *arguments):
    def register(function):
        cases[name] = (function, arguments)
        return function

    return register
