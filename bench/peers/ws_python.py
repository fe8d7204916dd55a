# SPDX-License-Identifier: MIT
# A peer in the HTTP benchmark: the echo of WebSocket messages with Python's `websockets` on asyncio.
import argparse
import asyncio
import signal

import websockets


async def echo(socket, path=None):
    async for message in socket:
        await socket.send(message)


async def serve(port):
    ended = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: ended.done() or ended.set_result(None))
    async with websockets.serve(echo, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await ended


parser = argparse.ArgumentParser(description="Echoes WebSocket messages.")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--version", action="version", version=f"Python's websockets {websockets.__version__}")
asyncio.run(serve(parser.parse_args().port))
