#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stands for a test that this machine has not got what it takes for: missing.py NAME REASON."""
import sys

print(f"skipped {sys.argv[1]} in 0.0 s: {sys.argv[2]}")
sys.exit(77)  # meson's word for skipped
