#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What must not compile: compile_fail.py SOURCE_ROOT COMPILER….

Each .cc file here is compiled twice. With -DWRONG=1 it must fail, and what the compiler says must have every
`// EXPECT:` text of the file; with -DWRONG=0 it must compile without a warning. Every message of a static_assert in the
headers of runtime/ must be expected by some file. Prints a line for each fault."""
import concurrent.futures
import os
import re
import subprocess
import sys

FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def compile_case(compiler: list[str], root: str, path: str, wrong: int) -> subprocess.CompletedProcess:
    command = compiler + FLAGS + ["-I", os.path.join(root, "include"), f"-DWRONG={wrong}", path]
    environment = dict(os.environ, LC_ALL="C")
    return subprocess.run(command, text=True, capture_output=True, check=False, env=environment)


def expectations(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^// EXPECT: (.*)$", file.read(), re.MULTILINE)


def check(compiler: list[str], root: str, path: str) -> list[str]:
    name = os.path.basename(path)
    expected = expectations(path)
    faults = [] if expected else [f"{name}: expects nothing"]
    right = compile_case(compiler, root, path, 0)
    if right.returncode != 0:
        faults.append(f"{name}: the corrected form does not compile:\n{right.stderr[:3000]}")
    wrong = compile_case(compiler, root, path, 1)
    if wrong.returncode == 0:
        faults.append(f"{name}: compiles, but must not")
    else:
        said = " ".join(wrong.stderr.split())
        faults += [f"{name}: the compiler does not say “{text}”, but:\n{wrong.stderr[:3000]}"
                   for text in expected if text not in said]
    return faults


def asserted_messages(root: str) -> set[str]:
    """The messages of the static_asserts in the headers of runtime/."""
    messages = set()
    for directory, _, names in os.walk(os.path.join(root, "runtime")):
        for name in names:
            if not name.endswith(".h"):
                continue
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                for statement in re.findall(r"static_assert\((.*?)\);", file.read(), re.DOTALL):
                    parts = re.findall(r'"((?:[^"\\]|\\.)*)"', statement)
                    if parts:
                        messages.add("".join(parts))
    return messages


def main() -> int:
    root, compiler = sys.argv[1], sys.argv[2:]
    folder = os.path.dirname(os.path.abspath(__file__))
    cases = sorted(os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".cc"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [f for found in pool.map(lambda c: check(compiler, root, c), cases) for f in found]
    expected = {text for case in cases for text in expectations(case)}
    faults += [f"no case expects the static_assert “{message}”" for message in sorted(asserted_messages(root))
               if message not in expected]
    print("\n".join(faults) or f"{len(cases)} cases are refused, and compile once corrected, with {compiler[-1]}")
    return 1 if faults or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
