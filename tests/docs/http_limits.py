#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""http_limits.py SOURCE_ROOT: whether the tables of limits in docs/http.md are whole, and say what the headers say."""
import os
import re
import sys

# Of each header, the structs whose settings stand in a table, and whether all of their numbers and times must.
TABLES = (("server", ("ServerSettings",)), ("client", ("ClientSettings", "RequestOptions")), ("query", ("QueryLimits",)),
          ("cookie", ("CookieLimits",)), ("multipart", ("MultipartLimits",)), ("content_coding", ("DecodingLimits",)))
MEMBER = re.compile(r"^  (?:std::u?int\d+_t|std::size_t|unsigned|Duration) (\w+) = ([^;]+);", re.M)
UNITS = ((1024 * 1024, "MiB"), (1024, "KiB"))


def shown(value):
    """A default of a header as the tables have it."""
    if "max()" in value:
        return "none"
    if time := re.fullmatch(r"std::chrono::seconds\((\d+)\)", value):
        return f"{time[1]} s"
    number = 1
    for factor in value.split(" * "):
        number *= int(factor)
    return next((f"{number // size} {unit}" for size, unit in UNITS if number % size == 0 and number > 0), str(number))


def main():
    http = os.path.join(sys.argv[1], "net", "http")
    with open(os.path.join(sys.argv[1], "docs", "http.md"), encoding="utf-8") as page:
        rows = re.findall(r"^\| `([\w:]+)` \| ([^|]+) \| ", page.read(), re.M)
    wanted = []
    for header, structs in TABLES:
        with open(os.path.join(http, header + ".h"), encoding="utf-8") as file:
            text = file.read()
        for struct in structs:
            body = re.search(rf"^struct {struct} {{\n(.*?)^}};", text, re.M | re.S)[1]
            prefix = f"{struct}::" if struct.endswith("Limits") else ""
            wanted += [(prefix + name, shown(value)) for name, value in MEMBER.findall(body)]
    listed = [row for row in rows if row[0].split("::")[-1] in {name.split("::")[-1] for name, _ in wanted}]
    missing, wrong = [row for row in wanted if row not in listed], [row for row in listed if row not in wanted]
    print(f"missing in docs/http.md: {missing}, not in the headers: {wrong}" if missing or wrong else f"{len(wanted)} settings are as the headers say")
    return 1 if missing or wrong or len(wanted) < 30 else 0


if __name__ == "__main__":
    sys.exit(main())
