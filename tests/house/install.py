#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds a consumer three ways: install.py SOURCE_ROOT COMPILER….
With troth as a subproject; then, installed from there into a temporary folder, with pkg-config alone and with meson.
Builds the program of the README, too, and talks to it."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile


def run(*command: str, env: dict[str, str] | None = None, cwd: str | None = None) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{' '.join(command)} failed:\n{done.stdout}")
        sys.exit(1)
    return done.stdout


def expect_answer(what: str, program: str) -> None:
    answer = run(program).strip()
    if answer != "42":
        print(f"{what}: the consumer printed {answer!r}")
        sys.exit(1)
    print(f"{what}: the consumer runs")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def connect(port: int, process: subprocess.Popen) -> socket.socket:
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            try:
                process.wait(timeout=0.02)  # it says nothing when it listens; its end would be an answer, too
                break
            except subprocess.TimeoutExpired:
                continue
    print("README: the program does not listen")
    sys.exit(1)


def try_readme(root: str, work: str, compiler: list[str], flags: list[str]) -> None:
    with open(os.path.join(root, "README.md"), encoding="utf-8") as file:
        program = re.search(r"```cpp\n(.*?)```", file.read(), re.S).group(1)
    lines = program.count("\n")
    if lines > 30:
        print(f"README: the program has {lines} lines, more than 30")
        sys.exit(1)
    port = free_port()
    source = os.path.join(work, "readme.cc")
    with open(source, "w", encoding="utf-8") as file:
        file.write(program.replace("8080", str(port)))
    run(*compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", source, "-o", os.path.join(work, "readme"), *flags)
    with subprocess.Popen([os.path.join(work, "readme")]) as process:
        try:
            with connect(port, process) as client:
                client.sendall(b"GET /hello/you HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                got = client.makefile("rb").read()
            process.send_signal(signal.SIGINT)
            status = process.wait(timeout=20)
        finally:
            process.kill()
    if not got.startswith(b"HTTP/1.1 200 OK\r\n") or not got.endswith(b"\r\n\r\nhello, you\n") or status != 0:
        print(f"README: the program answered {got!r} and ended with {status}")
        sys.exit(1)
    print("README: the program runs")


def main() -> None:
    root = os.path.abspath(sys.argv[1])
    compiler = sys.argv[2:]
    consumer = os.path.join(root, "tests", "house", "consumer")
    with tempfile.TemporaryDirectory() as work:
        env = dict(os.environ, CXX=" ".join(compiler))
        # The subproject: a copy of what the library is made of.
        host = os.path.join(work, "host")
        shutil.copytree(consumer, host)
        os.makedirs(os.path.join(host, "subprojects"))
        shutil.copytree(root, os.path.join(host, "subprojects", "troth"), symlinks=True,
                        ignore=shutil.ignore_patterns("build", ".git"))
        prefix = os.path.join(work, "prefix")
        build = os.path.join(work, "sub")
        run("meson", "setup", build, host, f"--prefix={prefix}", "--libdir=lib", "--buildtype=plain",
            "--wrap-mode=forcefallback", env=env)
        run("ninja", "-C", build)
        expect_answer("meson, subproject", os.path.join(build, "consumer"))

        # Installed from there: building the library a second time would show nothing more.
        run("meson", "install", "-C", build, env=env)
        stray = [h for h in os.listdir(os.path.join(prefix, "include", "troth")) if h not in ("runtime", "timers", "io", "net")]
        if stray:
            print(f"installed besides the public folders: {stray}")
            sys.exit(1)
        env["PKG_CONFIG_PATH"] = os.path.join(prefix, "lib", "pkgconfig")
        flags = run("pkg-config", "--cflags", "--libs", "troth", env=env).split()
        if any(root in flag for flag in flags):
            print(f"troth.pc names the source tree: {flags}")
            sys.exit(1)
        program = os.path.join(work, "consumer")
        run(*compiler, "-std=c++20", os.path.join(consumer, "consumer.cc"), "-o", program, *flags)
        expect_answer("pkg-config", program)
        if os.path.exists(os.path.join(prefix, "lib", "pkgconfig", "troth-http.pc")):
            flags = run("pkg-config", "--cflags", "--libs", "troth-http", env=env).split()
            try_readme(root, work, compiler, flags)
        else:
            print("README: its program was not tried: there is no llhttp here")

        run("meson", "setup", os.path.join(work, "found"), consumer, env=env)
        run("ninja", "-C", os.path.join(work, "found"))
        expect_answer("meson, installed", os.path.join(work, "found", "consumer"))


main()
