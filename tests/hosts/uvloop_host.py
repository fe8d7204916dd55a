#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The plug-in in Python's uvloop: uvloop_host.py PYTHON PLUGIN [SANITIZER…] (libraries that must be loaded first).
What happens inside of a Python is uvloop_cases.py; here are the example itself, what leaks, and what is exported."""
import os
import signal
import subprocess
import sys

from cases import TIMEOUT, Client, Program, case, expect, exported, leaks, run, sanitized

PYTHON, PLUGIN, SANITIZERS = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3:]
HERE = os.path.dirname(os.path.abspath(__file__))


@case
def inside():
    """all cases inside of uvloop pass and leak nothing"""
    command = [PYTHON, os.path.join(HERE, "uvloop_cases.py"), PLUGIN]
    done = subprocess.run(command, env=sanitized(SANITIZERS), text=True, capture_output=True, timeout=2 * TIMEOUT, check=False)
    print(done.stdout, end="")
    expect(done.returncode == 0 and not leaks(done.stderr), done.returncode, done.stderr)


@case
def demo():
    """the example talks to itself and to others, and ends with Ctrl-C"""
    with Program(PYTHON, os.path.join(HERE, "../../examples/uvloop/shouter.py"), PLUGIN, env=sanitized(SANITIZERS)) as python:
        port = python.port("listening on")
        expect([python.line() for _ in range(3)] == [f"HELLO FROM ASYNCIO, {i}" for i in range(3)])
        with Client(port) as client:
            expect(client.ask("hello from outside") == "HELLO FROM OUTSIDE")
            python.signal(signal.SIGINT)
            expect(client.is_hung_up_on())
        output, errors = python.ends()
        expect(output == "4 lines were answered\n" and not leaks(errors), output, errors)


@case
def hidden():
    """the plug-in shows the functions of plugin.h, and nothing else of troth or anybody"""
    functions = {"shout_start", "plugin_port", "plugin_get_counters", "plugin_stop"}
    expect(exported(PLUGIN) == functions, exported(PLUGIN))


if __name__ == "__main__":
    sys.exit(run())
