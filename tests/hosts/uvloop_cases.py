# SPDX-License-Identifier: MIT
"""What the plug-in does inside of uvloop: uvloop_cases.py PLUGIN, run by a Python that has uvloop."""
import asyncio
import ctypes
import os
import socket
import sys
import tempfile

import uvloop

from cases import case, client_that_does_not_read, expect, handles, refuses, run

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/uvloop"))
import shouter  # noqa: E402 (it is not a package)
from shouter import Shouter, ask  # noqa: E402

LIBRARY = shouter.load(os.path.abspath(sys.argv[1]))
ADDRESS = "127.0.0.1:0"


def in_uvloop(function):
    """A case that is a coroutine, in a loop of its own, which it must leave so that it can be closed."""
    def body():
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(function(), 20))
        finally:
            loop.close()

    body.__doc__, body.__name__ = function.__doc__, function.__name__
    return case(body)


def open_handles() -> list[str]:
    """The handles in the running loop, as libuv prints them."""
    libuv, libc = ctypes.CDLL("libuv.so.1"), ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fclose.argtypes = [ctypes.c_void_p]
    libuv.uv_print_all_handles.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    with tempfile.NamedTemporaryFile(prefix="troth-hosts-") as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libuv.uv_print_all_handles(shouter.libuv_loop(asyncio.get_running_loop()), stream)
        libc.fclose(stream)
        return sorted(handles(file.read().decode()))


@in_uvloop
async def together():
    """clients, servers and timers of asyncio and a server of troth run together, and both end cleanly"""
    async def greet(reader, writer):
        writer.write(b"asyncio: " + await reader.readline())
        writer.close()

    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    greeter = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with Shouter(LIBRARY, ADDRESS) as troth:
        for _ in range(5):
            shouted = [ask(troth.port, f"hello {i}") for i in range(20)]
            greeted = [ask(greeter.sockets[0].getsockname()[1], f"hello {i}") for i in range(20)]
            answers = await asyncio.gather(*shouted, *greeted)
            expect(answers == [f"HELLO {i}" for i in range(20)] + [f"asyncio: hello {i}" for i in range(20)], answers)
        expect((troth.counters.accepted, troth.counters.answered, troth.counters.failed) == (100, 100, 0))
        port, before = troth.port, ticks
        while ticks < before + 5:
            await asyncio.sleep(0.001)
    expect(refuses(port), "the port is still open")
    expect(await ask(greeter.sockets[0].getsockname()[1], "still here?") == "asyncio: still here?")
    ticking.cancel()
    greeter.close()
    await greeter.wait_closed()


@in_uvloop
async def nothing_stays():
    """nothing of troth's shows in uv_print_all_handles after it has stopped, with clients connected"""
    await asyncio.sleep(0)
    before = open_handles()
    async with Shouter(LIBRARY, ADDRESS) as troth:
        expect(await ask(troth.port, "hello") == "HELLO")
        clients = [socket.create_connection(("127.0.0.1", troth.port)) for _ in range(5)]
        while troth.counters.connections < 5:
            await asyncio.sleep(0.001)
        expect(len(open_handles()) >= len(before) + 6, open_handles())
    expect(open_handles() == before, "before", before, "after", open_handles())
    for client in clients:
        client.settimeout(10)
        expect(client.recv(1) == b"", "a silent client is kept")
        client.close()


@in_uvloop
async def one_a_thread():
    """a second one on the thread is refused with the reason, and the first goes on; after it there may be another"""
    for _ in range(2):
        async with Shouter(LIBRARY, ADDRESS) as troth:
            try:
                async with Shouter(LIBRARY, ADDRESS):
                    raise AssertionError("a second one was started")
            except RuntimeError as error:
                expect("already has an event loop" in str(error), error)
            expect(await ask(troth.port, "hello") == "HELLO")


@in_uvloop
async def valid_until_stopped():
    """until it says that it has stopped, the plug-in can be asked in each iteration of the loop, and knows its counts"""
    loop, seen = asyncio.get_running_loop(), []
    async with Shouter(LIBRARY, ADDRESS) as troth:
        expect(await ask(troth.port, "hello") == "HELLO")
        plugin, stopped = troth._plugin, troth._stopped

        def look():
            if not stopped.done():
                seen.append(LIBRARY.plugin_get_counters(plugin).answered)
                LIBRARY.plugin_stop(plugin, 0)
                loop.call_soon(look)

        look()
    expect(len(seen) > 3 and set(seen) == {1}, seen)


@in_uvloop
async def not_running():
    """asking a server that does not run is an error of Python's, before it runs, while it stops and afterwards"""
    troth, refused = Shouter(LIBRARY, ADDRESS), 0

    def look(*_):
        nonlocal refused
        for attribute in ("port", "counters"):
            try:
                getattr(troth, attribute)
            except RuntimeError:
                refused += 1

    look()
    async with troth:
        expect(troth.port > 0)
        troth._stopped.add_done_callback(look)
    look()
    expect(refused == 6, refused)


@in_uvloop
async def errors():
    """an address that is taken, or none, is an error that names it, and nothing stays"""
    before = open_handles()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for address in (f"127.0.0.1:{taken.getsockname()[1]}", "no such address", "127.0.0.1:99999", ""):
            try:
                async with Shouter(LIBRARY, address):
                    raise AssertionError(f"it listens on {address!r}")
            except OSError as error:
                expect(address in str(error), error)
    expect(open_handles() == before, open_handles())


@in_uvloop
async def cut_off():
    """who does not read is cut off when the grace is over"""
    async with Shouter(LIBRARY, ADDRESS, grace=0.05) as troth:
        client = await asyncio.get_running_loop().run_in_executor(None, client_that_does_not_read, troth.port)
        expect(troth.counters.connections == 1)
    client.close()


@in_uvloop
async def cancelled():
    """a task that is cancelled inside leaves when the server has stopped, not before"""
    async def serve(started):
        async with Shouter(LIBRARY, ADDRESS) as troth:
            started.set_result(troth.port)
            await asyncio.sleep(3600)

    before = open_handles()
    started = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(serve(started))
    port = await started
    with socket.create_connection(("127.0.0.1", port)):
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # and once more, while it stops
        try:
            await task
            raise AssertionError("it was not cancelled")
        except asyncio.CancelledError:
            pass
    expect(open_handles() == before and refuses(port), open_handles())


if __name__ == "__main__":
    sys.exit(run())
