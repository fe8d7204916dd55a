# SPDX-License-Identifier: MIT
# The examples on C libraries (hiredis, libcurl, libpq), against servers that are started here.
"""
python3 clients.py GROUP [TESTS EXAMPLE [CASE ...]]

GROUP is redis, fetch or postgres; TESTS the program of its tests in C++, EXAMPLE the example itself, neither of which is
there without its library. What a server is needed for that is not installed is skipped, and says so. The last line counts
the cases; the status is 1 if one failed, 77 if all were skipped.

All connections are on loopback or Unix sockets. What a case starts is ended by its pid, also when the case fails.
"""

import importlib
import os
import sys

sys.dont_write_bytecode = True  # the modules stand among the sources
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))

from basics import cases, options  # noqa: E402
from runner import run_cases  # noqa: E402


LIBRARIES = {"redis": "hiredis", "fetch": "libcurl", "postgres": "libpq"}


def main():
    if len(sys.argv) < 2 or len(sys.argv) == 3 or sys.argv[1] not in LIBRARIES:
        sys.exit(__doc__)
    if len(sys.argv) == 2:
        print(f"  skipped {sys.argv[1]} in 0.0 s: {LIBRARIES[sys.argv[1]]} is not installed")
        return 77  # meson's word for skipped
    options.tests, options.example = (os.path.abspath(path) for path in sys.argv[2:4])
    importlib.import_module(f"{sys.argv[1]}_cases")
    wanted = sys.argv[4:]
    return run_cases([name for name in cases if not wanted or any(name.startswith(w) for w in wanted)])


if __name__ == "__main__":
    sys.exit(main())
