#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A troth server inside of Python's uvloop, with asyncio clients that talk to it in the same loop.

    /usr/bin/python3 examples/uvloop/shouter.py BUILD/examples/uvloop/libtroth_plugin.so

prints what asyncio's clients get; in another terminal:  nc 127.0.0.1 PORT   and any line: it comes back in capitals.
Ctrl-C ends both. The plug-in is the one of ../plugin/plugin.h; ctypes is all it takes to load it.
"""
import asyncio
import ctypes
import signal
import sys

import uvloop
from uvloop.loop import libuv_get_loop_t_ptr, libuv_get_version

_LISTENING = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint16, ctypes.c_char_p)
_STOPPED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Events(ctypes.Structure):
    _fields_ = [("host", ctypes.c_void_p), ("listening", _LISTENING), ("stopped", _STOPPED)]


class Counters(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("connections", "accepted", "answered", "failed")]


def load(path: str) -> ctypes.CDLL:
    """The plug-in; refused if it does not work on the libuv that uvloop works on."""
    library = ctypes.CDLL(path)
    version = ctypes.CDLL("libuv.so.1").uv_version()
    if version != libuv_get_version():
        raise ImportError(f"uvloop has a libuv of its own, {libuv_get_version():#x}; the plug-in has {version:#x}")
    library.shout_start.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Events, ctypes.c_char_p, ctypes.c_size_t]
    library.shout_start.restype = ctypes.c_void_p
    library.plugin_port.argtypes = [ctypes.c_void_p]
    library.plugin_port.restype = ctypes.c_uint16
    library.plugin_get_counters.argtypes = [ctypes.c_void_p]
    library.plugin_get_counters.restype = Counters
    library.plugin_stop.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.plugin_stop.restype = None
    return library


def libuv_loop(loop: uvloop.Loop) -> int:
    """The address of the uv_loop_t, out of the capsule in which uvloop hands it out."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    get_pointer.restype = ctypes.c_void_p
    return get_pointer(libuv_get_loop_t_ptr(loop), None)


class Shouter:
    """A troth server in the running loop: `async with Shouter(library, "127.0.0.1:0") as shouter: … shouter.port`.

    It must have stopped before the loop is closed, which leaving the block sees to: the loop would take what it finds
    in itself then for its own.
    """

    def __init__(self, library: ctypes.CDLL, address: str, grace: float = 1.0):
        self._library, self._address, self._grace = library, address, grace
        self._plugin = None

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._listening, self._stopped = loop.create_future(), loop.create_future()
        # They are called by the loop, and held here for as long as they can be.
        self._events = _Events(None, _LISTENING(self._on_listening), _STOPPED(self._on_stopped))
        error = ctypes.create_string_buffer(200)
        self._plugin = self._library.shout_start(libuv_loop(loop), self._address.encode(), self._events, error, len(error))
        if not self._plugin:
            raise RuntimeError(error.value.decode())
        try:
            await self._listening
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_):
        await self._stop()

    @property
    def port(self) -> int:
        return self._library.plugin_port(self._running())

    @property
    def counters(self) -> Counters:
        return self._library.plugin_get_counters(self._running())

    def _running(self):
        if not self._plugin:
            raise RuntimeError("the server does not run: it is asked inside of `async with`")
        return self._plugin

    async def _stop(self):
        self._library.plugin_stop(self._plugin, int(self._grace * 1000))
        self._plugin = None
        cancelled = False
        while not self._stopped.done():  # nobody may close the loop before, and so nobody leaves here before
            try:
                await asyncio.shield(self._stopped)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    def _on_listening(self, _host, _port, error):
        if self._listening.done():
            return  # it was cancelled
        if error is None:
            self._listening.set_result(None)
        else:
            self._listening.set_exception(OSError(error.decode()))

    def _on_stopped(self, _host):
        self._stopped.set_result(None)


async def ask(port: int, line: str) -> str:
    """What the server answers to a client of asyncio's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line.encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().rstrip("\n")


async def main(library: ctypes.CDLL) -> None:
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    async with Shouter(library, "127.0.0.1:0") as shouter:
        print(f"listening on 127.0.0.1:{shouter.port}", flush=True)
        print(*await asyncio.gather(*(ask(shouter.port, f"hello from asyncio, {i}") for i in range(3))), sep="\n", flush=True)
        await interrupted.wait()
        print(f"{shouter.counters.answered} lines were answered")


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(load(sys.argv[1])))
