# SPDX-License-Identifier: MIT
"""For websocket_peer.py and websocket_autobahn.py: runs conversations with websocket_peer, and counts how they end."""
import asyncio
import os
import subprocess
import sys
import traceback

TIMEOUT = 20


def skip(test, library):
    """Ends a test whose peer is not installed, by its name."""
    print(f"  skipped {test} in 0.0 s: {library} is not installed")
    sys.exit(77)  # meson's word for skipped


async def run(cases, *arguments):
    failed = 0
    for case in cases:
        try:
            await asyncio.wait_for(case(*arguments), TIMEOUT)
            print(f"  passed {case.__name__}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"  FAILED {case.__name__}", flush=True)
    return failed


async def output_of(program, *arguments):
    """What websocket_peer prints, which has to end well."""
    child = await asyncio.create_subprocess_exec(program, *arguments, stdout=subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(child.communicate(), TIMEOUT)
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0, child.returncode
    return output


def run_all(program, with_server, with_client):
    """Cases that get the port of websocket_peer's server, then cases that get the program, whose client they let connect.
    Returns the exit status."""
    program = os.path.abspath(program)
    with subprocess.Popen([program, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline().strip().rsplit(":", 1)[1])
        failed = asyncio.run(run(with_server, port))
        server.stdin.close()
        status = server.wait(TIMEOUT)
    failed += asyncio.run(run(with_client, program))
    if status != 0:
        print(f"  FAILED: the server ended with {status}")
        failed += 1
    print(f"{len(with_server) + len(with_client) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0
