#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header alone and included twice: headers.py SOURCE_ROOT COMPILER…. A header *-inl.h must refuse
to be included directly. Prints a line for each fault."""
import concurrent.futures
import os
import subprocess
import sys

FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow",
         "-Wnon-virtual-dtor", "-Werror", "-x", "c++", "-"]


def compile_text(compiler: list[str], root: str, text: str) -> subprocess.CompletedProcess:
    return subprocess.run(compiler + ["-I", os.path.join(root, "include")] + FLAGS, input=text, text=True,
                          capture_output=True, check=False)


def check(compiler: list[str], root: str, header: str) -> str | None:
    include = f"#include <troth/{header}>\n"
    done = compile_text(compiler, root, include + include + "int main() {}\n")
    if header.endswith("-inl.h"):
        if done.returncode == 0:
            return f"{header}: may be included directly"
        if "instead" not in done.stderr:
            return f"{header}: does not say what to include instead"
        return None
    return f"{header}: does not compile alone:\n{done.stderr}" if done.returncode else None


def main() -> int:
    root, compiler = sys.argv[1], sys.argv[2:]
    headers = []
    for folder in ("runtime", "timers", "io", "net"):
        for directory, _, names in os.walk(os.path.join(root, folder)):
            headers += [os.path.relpath(os.path.join(directory, n), root) for n in names if n.endswith(".h")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [f for f in pool.map(lambda h: check(compiler, root, h), sorted(headers)) if f]
    print("\n".join(faults) or f"{len(headers)} headers compile alone with {compiler[-1]}")
    return 1 if faults or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
