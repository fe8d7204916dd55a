# SPDX-License-Identifier: MIT
# Faults that the example programs must survive: no descriptors, failing and short calls, vanishing peers.
"""
python3 faults.py --server PATH [--client PATH] [--proxy PATH] [--port-forward PATH] [--chat PATH] [--cat PATH]
                  [--spawn PATH] [--reach PATH] [--shim PATH] [--release PATH] [--list] [CASE ...]

Each case is named for the row of the reliability list that it shows (A1, S3, ...), for a part of
the contract (idle, grace, input, client, address), for the program (proxy, port_forward, chat,
cat, spawn), or for where it happens (namespaces). `A2` runs every case that begins with A2; no name
runs all. The last line counts them; the status is 1 if one failed, 77 if all were skipped.

A program is known only by its command line, its streams and sockets, signals and /proc. Memory is
measured on a binary without sanitizers where there is one: `--release PATH`, or the environment's
TROTH_RELEASE_DIR, a build directory. Without it the sanitizer build is measured against looser
limits, and the output says so.

All connections are on loopback, or in network namespaces of the case's own. What a case starts is
ended by its pid, also when the case fails.
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True  # the modules stand among the sources

from basics import cases, options  # noqa: E402
from runner import run_cases  # noqa: E402

# Each adds its cases; this is the order in which they run.
import server_cases  # noqa: E402, F401
import contract_cases  # noqa: E402, F401
import call_cases  # noqa: E402, F401
import proxy_cases  # noqa: E402, F401
import port_forward_cases  # noqa: E402, F401
import chat_cases  # noqa: E402, F401
import cat_cases  # noqa: E402, F401
import spawn_cases  # noqa: E402, F401
import namespace_cases  # noqa: E402, F401

PROGRAMS = ("server", "client", "proxy", "port_forward", "chat", "cat", "spawn", "reach", "shim", "release")


def find_release():
    folder = os.environ.get("TROTH_RELEASE_DIR")
    if not folder:
        return None
    for path in (f"{folder}/examples/echo_server", f"{folder}/echo_server"):
        if os.path.exists(path):
            return path
    sys.exit(f"faults.py: TROTH_RELEASE_DIR is {folder}, but there is no echo_server in it")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", help="the echo_server under test")
    parser.add_argument("--client", help="the echo_client under test")
    parser.add_argument("--proxy", help="the proxy under test")
    parser.add_argument("--port-forward", help="the port_forward under test")
    parser.add_argument("--chat", help="the chat under test")
    parser.add_argument("--cat", help="the cat under test")
    parser.add_argument("--spawn", help="the spawn under test")
    parser.add_argument("--reach", help="the program made from reach.cc")
    parser.add_argument("--shim", help="the shared library made from shim.cc")
    parser.add_argument("--release", help="an echo_server without sanitizers, to measure memory on")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="a name or the beginning of one")
    parser.parse_args(namespace=options)
    if options.list:
        print("\n".join(cases))
        return 0
    if not options.server:
        parser.error("--server is needed")
    options.release = options.release or find_release()
    for key in PROGRAMS:
        path = getattr(options, key)
        if path is not None:
            setattr(options, key, os.path.abspath(path))

    chosen = [n for n in cases if not options.cases or any(n.startswith(c) for c in options.cases)]
    if not chosen:
        parser.error(f"no such case: {' '.join(options.cases)} (see --list)")
    return run_cases(chosen)


if __name__ == "__main__":
    sys.exit(main())
