#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""rename_llhttp.py LLHTTP_C HEADER: writes a header that gives every function of the generated parser another name, so
that a program can hold it twice, compiled for different processors."""
import re
import sys

with open(sys.argv[1], encoding="utf-8") as source:
    names = sorted(set(re.findall(r"\bllhttp__internal_\w+", source.read())))
with open(sys.argv[2], "w", encoding="utf-8") as header:
    header.writelines(f"#define {name} {name}_sse42\n" for name in names)
