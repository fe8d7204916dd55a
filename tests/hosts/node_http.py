#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""HTTP of troth's inside of node: node_http.py NODE ADDON [SANITIZER…] (libraries that must be loaded first).
What happens inside of node is http_cases.js; here are what leaks, and what the addon shows."""
import os
import subprocess
import sys

from cases import TIMEOUT, case, expect, exported, leaks, run, sanitized

NODE, ADDON = (os.path.abspath(path) for path in sys.argv[1:3])
SANITIZERS = sys.argv[3:]
CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "http_cases.js")


@case
def inside():
    """troth's servers and clients and node's answer each other in one process, and leak nothing"""
    done = subprocess.run([NODE, CASES, ADDON], env=sanitized(SANITIZERS), text=True, capture_output=True, timeout=TIMEOUT, check=False)
    print(done.stdout, end="")
    ours = [leak for leak in leaks(done.stderr) if "napi_create_promise" not in leak]  # of Promises that nobody settled
    expect(done.returncode == 0 and not ours, done.returncode, done.stderr)


@case
def hidden():
    """the addon shows what node looks for, and no llhttp"""
    expect(exported(ADDON) == {"napi_register_module_v1", "node_api_module_get_api_version_v1"}, exported(ADDON))


if __name__ == "__main__":
    sys.exit(run())
