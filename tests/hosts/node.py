#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The node addon: node.py NODE ADDON PROBE [SANITIZER…] (libraries that must be loaded first).
What happens inside of one node is node_cases.js; here are how node ends, what leaks, and what the addon shows."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from cases import TIMEOUT, Client, Program, Skip, case, expect, exported, handles, leaks, refuses, run, sanitized

NODE, ADDON, PROBE = (os.path.abspath(path) for path in sys.argv[1:4])
SANITIZERS = sys.argv[4:]
HERE = os.path.dirname(os.path.abspath(__file__))
CASES = os.path.join(HERE, "node_cases.js")
DEMO = os.path.join(HERE, "../../examples/node_addon/demo.js")
LOAD = f"const troth = require({ADDON!r});"
IN_WORKER = """
    const { Worker } = require('worker_threads');
    const run = (script) => new Worker(script, { eval: true }).on('exit', console.log);
"""


class Node(Program):
    def __init__(self, script: str, detect_leaks: bool = True):
        super().__init__(NODE, "-e", LOAD + script, env=sanitized(SANITIZERS, detect_leaks))


def our_leaks(errors: str) -> list[str]:
    """The same without what a Promise that is never settled leaves in node, which has no way to give it back."""
    return [leak for leak in leaks(errors) if not re.search(r"#1 .*napi_create_promise", leak)]


def prints(script: str, status: int = 0) -> str:
    with Node(script) as node:
        output, errors = node.ends(status)
    expect(not our_leaks(errors), errors)
    return output


@case
def inside():
    """all cases inside of one node, with workers, pass and leak nothing"""
    done = subprocess.run([NODE, CASES, ADDON], env=sanitized(SANITIZERS), text=True, capture_output=True, timeout=TIMEOUT, check=False)
    print(done.stdout, end="")
    expect(done.returncode == 0 and not our_leaks(done.stderr), done.returncode, done.stderr)


@case
def leaks_are_seen():
    """LeakSanitizer sees through node what the addon has caused, and that is a Promise of a worker that was ended"""
    if not SANITIZERS:
        raise Skip("this is no build with AddressSanitizer")
    with Node(IN_WORKER + f"run({LOAD + 'troth.sleep(3600000); setTimeout(() => process.exit(3), 20)'!r})") as node:
        _, errors = node.ends()
    expect(len(leaks(errors)) == 1 and not our_leaks(errors), errors)


@case
def valgrind():
    """valgrind finds no error and no block of the addon's that is left, not even one that could be reached"""
    if SANITIZERS:
        raise Skip("valgrind and AddressSanitizer exclude each other")
    if shutil.which("valgrind") is None:
        raise Skip("there is no valgrind")
    script = """
        const net = require('net');
        const ask = (port) => new Promise((resolve) => {
          const client = net.connect(port, '127.0.0.1', () => client.write('x\\n'));
          client.on('data', () => client.destroy()).on('close', resolve);
        });
        (async () => {
          const server = await troth.listen({}, async (line) => { await troth.sleep(1); return line; });
          for (let i = 0; i < 3; ++i) await ask(server.port);
          await troth.timeout(1, new Promise(() => {})).catch((error) => console.log(error.code));
          console.log(await server.close(), await troth.timeout(10000, Promise.resolve('end')));
        })();
    """
    with Program("valgrind", "--leak-check=full", "--show-leak-kinds=all", "--num-callers=40", "--keep-debuginfo=yes",
                 NODE, "--jitless", "-e", LOAD + script) as node:  # what V8 compiles is not for valgrind
        output, errors = node.ends()
    blocks = re.split(r"(?m)^==\d+== *\n", errors)
    # A thread's own variables are the dynamic linker's to allocate, and to keep.
    ours = [block for block in blocks if "troth" in block and " at 0x" in block and "__tls_get_addr" not in block]
    expect("LEAK SUMMARY" in errors and output == "OVERLOADED\n0 end\n", output, errors)
    expect(not ours, "\n".join(ours))


@case
def idle():
    """node ends by itself when the server is closed and nothing is waited for"""
    with Node("troth.timeout(3600000, new Promise(() => {}))") as node:
        expect(node.still_runs(0.5), "node has ended, although a timer of troth's runs")
    expect(prints("process.on('exit', () => console.log('exit'))") == "exit\n", "loaded, it keeps node from ending")
    expect(prints("troth.listen().then(s => s.close()).then(console.log)") == "0\n")
    never = "troth.listen({}, () => new Promise(() => {})).then(s => { troth.sleep(5).then(() => s.close(0)); });"
    expect(prints(never + "process.on('exit', () => console.log('exit'))") == "exit\n")


@case
def open_server():
    """an open server keeps node alive until it is closed"""
    script = """
        troth.listen({}, (line) => { if (line === 'close') server.close(); return 'ok'; })
             .then((s) => { server = s; console.log('listening on :' + s.port); });
    """
    with Node(script) as node:
        port = node.port("listening on")
        expect(node.still_runs(0.5), "node has ended, although a server is open")
        with Client(port) as client:
            expect(client.ask("hello") == "ok")
            expect(client.ask("close") == "ok", "what was read is answered")
            expect(client.is_hung_up_on())
        expect(not our_leaks(node.ends()[1]))
        expect(refuses(port))


@case
def demo():
    """the demo answers by timers, promises and pages of node's, refuses what it does not know, and quits"""
    with Program(NODE, DEMO, ADDON, env=sanitized(SANITIZERS)) as node:
        with Client(node.port("listening on")) as client:
            expect(re.fullmatch(r"\d+ ticks", client.ask("time")))
            expect(client.ask("page") == "a page")
            expect(client.ask("sleep") == "a second later")
            expect(client.ask("what") == 'error: "what" is not time, sleep, page or quit')
            expect(client.ask("quit") == "good-bye")
            expect(client.is_hung_up_on())
        expect(not our_leaks(node.ends()[1]))


@case
def exits():
    """process.exit() ends node with its status, with everything open, also in the middle of an answer"""
    everything = """
        const net = require('net');
        const ask = (server, line) => net.connect(server.port, '127.0.0.1').on('error', () => {}).write(line);
        troth.sleep(3600000); troth.timeout(3600000, new Promise(() => {}));
    """
    for script in ("troth.listen().then(() => troth.sleep(5)).then(() => process.exit(7))",
                   "troth.listen({}, () => process.exit(7)).then((s) => ask(s, 'x\\n'))",
                   "troth.listen({}, async () => { await troth.sleep(1); process.exit(7); }).then((s) => ask(s, 'x\\n'))"):
        with Node(everything + script, detect_leaks=False) as node:
            node.ends(7)


@case
def uncaught():
    """what nobody catches ends node as it does without the addon, with the error on standard error"""
    for script in ("troth.sleep(1).then(() => { throw new Error('uncaught') })",
                   "troth.listen().then(() => setTimeout(() => { throw new Error('uncaught') }, 1))",
                   "troth.listen({host: 'nonsense'})"):
        with Node(script, detect_leaks=False) as node:
            _, errors = node.ends(1)
        expect("uncaught" in errors or "nonsense" in errors, errors)


@case
def nothing_stays():
    """nothing of troth's shows in uv_print_all_handles when the environment has ended, with a server left open"""
    opened = f"{LOAD} troth.sleep(3600000); troth.listen().then(() => troth.sleep(20)).then(() => process.exit(3))"
    seen = []
    for script in (opened, "setTimeout(() => process.exit(3), 20)"):
        with tempfile.TemporaryDirectory(prefix="troth-hosts-") as folder:
            os.environ["TROTH_HANDLES"] = os.path.join(folder, "handles")
            expect(prints(IN_WORKER + f"run({f'require({PROBE!r});' + script!r})") == "3\n")
            with open(os.environ["TROTH_HANDLES"], encoding="utf-8") as file:
                text = file.read()
        expect("A timer" in handles(text), "the probe saw not even itself:", text)
        seen.append(sorted(handles(text)))
    expect(seen[0] == seen[1], f"with the addon {seen[0]}, without {seen[1]}")


@case
def hidden():
    """the addon shows what node looks for, and nothing else of troth, libuv or anybody; and it brings no libuv"""
    expect(exported(ADDON) == {"napi_register_module_v1", "node_api_module_get_api_version_v1"}, exported(ADDON))
    needed = subprocess.run(["readelf", "-d", ADDON], text=True, capture_output=True, check=True).stdout
    expect("libuv" not in needed, needed)


if __name__ == "__main__":
    sys.exit(run())
