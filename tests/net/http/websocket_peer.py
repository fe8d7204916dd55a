# SPDX-License-Identifier: MIT
"""Both ends of WebSocket against Python's websockets: websocket_peer.py PROGRAM, where PROGRAM is websocket_peer.

The last line is "N passed, N failed"; the status is 1 if one failed. All connections are on loopback."""
import asyncio
import random
import sys

sys.dont_write_bytecode = True  # the modules stand among the sources

from websocket_runner import TIMEOUT, output_of, run_all, skip  # noqa: E402

try:
    import websockets
except ImportError:
    skip("websocket_peer", "Python's websockets")


def connect(port, path="", **options):
    return websockets.connect(f"ws://127.0.0.1:{port}/{path}", max_size=None, open_timeout=TIMEOUT, **options)


async def echoes_messages_of_all_sizes(port):
    for path, compression in (("", None), ("", "deflate"), ("deflate", "deflate")):
        async with connect(port, path, compression=compression) as socket:
            assert bool(socket.extensions) == (path == "deflate"), socket.extensions
            for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 300_000):
                for message in ("ä" * (size // 2), random.Random(size).randbytes(size), bytes(size)):
                    await socket.send(message)
                    assert await socket.recv() == message


async def puts_fragments_together(port):
    async with connect(port, "deflate") as socket:
        await socket.send(["in ", "several ", "", "pieces"])
        assert await socket.recv() == "in several pieces"


async def answers_pings(port):
    async with connect(port) as socket:
        waiters = [await socket.ping(bytes([n])) for n in range(10)]
        await asyncio.gather(*waiters)


async def chooses_a_subprotocol(port):
    async with connect(port, subprotocols=["other", "echo", "second"]) as socket:
        assert socket.subprotocol == "second", socket.subprotocol
    async with connect(port, subprotocols=["other"]) as socket:
        assert socket.subprotocol is None


async def refuses_an_origin(port):
    try:
        async with connect(port, origin="https://evil.example"):
            raise AssertionError("it was accepted")
    except websockets.InvalidStatusCode as error:
        assert error.status_code == 403, error


async def closes_with_the_code_of_a_fault(port):
    for path, message, code in (("", "x" * (1024 * 1024 + 1), 1009), ("deflate", bytes(30_000_000), 1009)):
        socket = await connect(port, path)
        try:
            await socket.send(message)
            await socket.recv()
            raise AssertionError("it was accepted")
        except websockets.ConnectionClosed:
            pass
        await socket.wait_closed()
        assert socket.close_code == code, (socket.close_code, socket.close_reason)


async def closes_both_ways(port):
    async with connect(port) as socket:
        await socket.send("close with 4001")
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (4001, "as you wish")
    socket = await connect(port)
    await socket.close(3001, "bye")
    assert socket.close_code == 3001, socket.close_code


async def a_client_of_ours_converses(program):
    seen = []

    async def handle(socket):
        try:
            async for message in socket:
                await socket.send([message[:10], message[10:]] if len(message) > 10 else message)
        except websockets.ConnectionClosedError:
            pass  # how it calls a code that is not 1000 or 1001
        seen.append((socket.close_code, socket.close_reason, socket.subprotocol, bool(socket.extensions)))

    async with websockets.serve(handle, "127.0.0.1", 0, subprotocols=["echo"], max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        output = await output_of(program, "client", str(port))
        assert output == b"subprotocol echo, deflate 1\nclosed with 4321\n", output
    assert seen == [(4321, "done", "echo", True)], seen


if __name__ == "__main__":
    sys.exit(run_all(sys.argv[1], [
        echoes_messages_of_all_sizes, puts_fragments_together, answers_pings, chooses_a_subprotocol, refuses_an_origin,
        closes_with_the_code_of_a_fault, closes_both_ways], [a_client_of_ours_converses]))
