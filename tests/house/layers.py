#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the layering: layers.py SOURCE_ROOT. No folder includes one above it, no files include each other in
a circle, troth's own headers are included by their public path, and what is private stays private: uv.h only
in .cc files and in headers about libuv, fmt only in .cc files, the promise model without libuv."""
import os
import re
import sys

LAYERS = {"runtime": 0, "timers": 1, "io": 2, "net": 3}
HTTP = "net/http/"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def about_libuv(path: str) -> bool:
    return "uv" in re.split(r"[_./]", path)


def check(root: str) -> list[str]:
    faults = []
    includes: dict[str, list[str]] = {}
    for folder in LAYERS:
        for directory, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if not name.endswith((".h", ".cc")):
                    continue
                path = os.path.relpath(os.path.join(directory, name), root)
                with open(os.path.join(root, path), encoding="utf-8") as file:
                    text = file.read()
                if not text.startswith("// SPDX-License-Identifier: MIT\n// "):
                    faults.append(f"{path}: does not begin with the licence tag and a sentence")
                mine = includes.setdefault(path, [])
                for quote, target in INCLUDE.findall(text):
                    if quote == '"':
                        faults.append(f"{path}: includes \"{target}\"; write <troth/…>")
                    if target.startswith("troth/"):
                        below = target.removeprefix("troth/")
                        mine.append(below)
                        if not os.path.exists(os.path.join(root, below)):
                            faults.append(f"{path}: includes <{target}>, which is not there")
                        elif LAYERS[below.split("/")[0]] > LAYERS[folder]:
                            faults.append(f"{path}: includes <{target}>, which is above it")
                        if below.startswith(HTTP) and not path.startswith(HTTP):
                            faults.append(f"{path}: includes <{target}>, which is above it")
                        if below.startswith("runtime/uv/") and path.startswith("runtime/") and not path.startswith("runtime/uv/"):
                            faults.append(f"{path}: the promise model includes <{target}>")
                    if target == "llhttp.h" and path.endswith(".h"):
                        faults.append(f"{path}: a header includes <llhttp.h>")
                    if target == "uv.h" and path.endswith(".h") and not about_libuv(path):
                        faults.append(f"{path}: a header that is not about libuv includes <uv.h>")
                    if target == "uv.h" and path.startswith("runtime/") and not path.startswith("runtime/uv/"):
                        faults.append(f"{path}: the promise model includes <uv.h>")
                    if target.startswith("fmt/") and path.endswith(".h"):
                        faults.append(f"{path}: a header includes <{target}>")

    # What a header lets out through others counts too.
    def reach(path: str, seen: set[str]) -> set[str]:
        for below in includes.get(path, []):
            if below not in seen:
                seen.add(below)
                reach(below, seen)
        return seen

    for path in includes:
        reached = reach(path, set())
        # promise.h and its -inl.h parts belong together.
        if path in reached and not path.endswith("-inl.h"):
            faults.append(f"{path}: includes itself in a circle")
        if path.endswith(".h") and not about_libuv(path):
            for below in sorted(reached):
                if about_libuv(below):
                    faults.append(f"{path}: lets <troth/{below}> out, which is about libuv")
    if not includes:
        faults.append("no files were found")
    return faults


def main() -> int:
    faults = check(sys.argv[1])
    print("\n".join(faults) or "the layers hold")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
