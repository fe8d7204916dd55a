# SPDX-License-Identifier: MIT
"""Both ends of WebSocket against Python's autobahn: websocket_autobahn.py PROGRAM, where PROGRAM is websocket_peer.

Here is what websocket_peer.py does not have: frames that are sent while they are being made, and terms of compression
that either side sets.

The last line is "N passed, N failed"; the status is 1 if one failed. All connections are on loopback."""
import asyncio
import random
import sys

sys.dont_write_bytecode = True  # the modules stand among the sources

from websocket_runner import TIMEOUT, output_of, run_all, skip  # noqa: E402

try:
    from autobahn.asyncio.websocket import (WebSocketClientFactory, WebSocketClientProtocol, WebSocketServerFactory,
                                            WebSocketServerProtocol)
    from autobahn.websocket.compress import (PerMessageDeflateOffer, PerMessageDeflateOfferAccept,
                                             PerMessageDeflateResponse, PerMessageDeflateResponseAccept)
except ImportError:
    skip("websocket_autobahn", "Python's autobahn")

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 300_000)


# ------------------------------------------------------------------------------------------- its client, our server

class Client(WebSocketClientProtocol):
    """What comes becomes results to be awaited."""

    def __init__(self):
        super().__init__()
        loop = asyncio.get_running_loop()
        self.agreed, self.closed = loop.create_future(), loop.create_future()
        self.messages, self.pongs = asyncio.Queue(), asyncio.Queue()

    def onConnect(self, response):
        self.response = response

    def onOpen(self):
        self.agreed.set_result(True)

    def onMessage(self, payload, isBinary):
        self.messages.put_nowait((payload, isBinary))

    def onPong(self, payload):
        self.pongs.put_nowait(payload)

    def onClose(self, wasClean, code, reason):
        if not self.agreed.done():
            self.agreed.set_result(False)
        self.closed.set_result((self.remoteCloseCode, self.remoteCloseReason))

    async def gets_back(self, payload, isBinary):
        got = await self.messages.get()
        assert got == (payload, isBinary), (got[1], len(got[0]), isBinary, len(payload))


async def connect(port, path="", deflate=None, **options):
    """`deflate`: the keyword arguments of an offer."""
    factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}/{path}", **options)
    factory.protocol = Client
    factory.setProtocolOptions(
        failByDrop=False, tcpNoDelay=True, openHandshakeTimeout=TIMEOUT, closeHandshakeTimeout=TIMEOUT)
    if deflate is not None:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer(**deflate)],
            perMessageCompressionAccept=lambda answer: isinstance(answer, PerMessageDeflateResponse) and
            PerMessageDeflateResponseAccept(answer))
    _, client = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
    await client.agreed
    return client


async def end(client):
    client.sendClose(1000)
    assert await client.closed == (1000, None), client.closed


async def echoes_under_all_terms_of_compression(port):
    terms = [None, {}, {"request_no_context_takeover": True}, {"request_max_window_bits": 9},
             {"request_no_context_takeover": True, "request_max_window_bits": 12},
             {"accept_no_context_takeover": False, "accept_max_window_bits": False}]
    for deflate in terms:
        client = await connect(port, "deflate", deflate)
        assert (client.websocket_extensions_in_use != []) == (deflate is not None), client.websocket_extensions_in_use
        for size in SIZES:
            text = ("a" * (size % 2) + "ä" * (size // 2)).encode()
            for payload, isBinary in ((text, False), (random.Random(size).randbytes(size), True), (bytes(size), True)):
                client.sendMessage(payload, isBinary)
                await client.gets_back(payload, isBinary)
        await end(client)


async def puts_fragments_together(port):
    for path, deflate in (("", None), ("deflate", {})):
        client = await connect(port, path, deflate)
        payload = "in several pieces, ä and ö among them".encode()
        for size in range(1, len(payload) + 1):
            client.sendMessage(payload, fragmentSize=size)
            client.sendPing(b"%d" % size)
            await client.gets_back(payload, False)
            assert await client.pongs.get() == b"%d" % size
        await end(client)


async def takes_frames_that_are_still_being_made(port):
    client = await connect(port)
    client.beginMessage(isBinary=True)
    for size in (1, 126, 70_000):
        client.beginMessageFrame(size)
        for at in range(0, size, 10_000):
            client.sendMessageFrameData(b"x" * min(10_000, size - at))
    client.endMessage()
    await client.gets_back(b"x" * 70_127, True)
    await end(client)


async def chooses_a_subprotocol_and_refuses_an_origin(port):
    client = await connect(port, protocols=["other", "echo", "second"])
    assert client.response.protocol == "second", client.response.protocol
    await end(client)
    client = await connect(port, origin="https://evil.example")
    assert client.agreed.result() is False
    assert "403" in client.wasNotCleanReason, client.wasNotCleanReason


async def closes_with_codes_and_reasons(port):
    client = await connect(port)
    client.sendMessage(b"close with 4001")
    assert await client.closed == (4001, "as you wish"), client.closed
    client = await connect(port)
    client.sendClose(3001, "bye")
    assert (await client.closed)[0] == 3001, client.closed
    client = await connect(port)
    client.sendMessage(b"x" * (1024 * 1024 + 1))
    assert (await client.closed)[0] == 1009, client.closed
    client = await connect(port)
    client.sendMessage(b"not \xff UTF-8")
    assert (await client.closed)[0] == 1007, client.closed


# ------------------------------------------------------------------------------------------- its server, our client

class Echo(WebSocketServerProtocol):
    def onConnect(self, request):
        return "echo" if "echo" in request.protocols else None

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary, fragmentSize=self.factory.fragment_size)

    def onClose(self, wasClean, code, reason):
        self.factory.seen.append((wasClean, code, reason, self.websocket_extensions_in_use != []))


async def serve(accept, fragment_size=None):
    factory = WebSocketServerFactory(protocols=["echo"])
    factory.protocol, factory.seen, factory.fragment_size = Echo, [], fragment_size

    def agree(offers):
        for offer in offers:
            if isinstance(offer, PerMessageDeflateOffer):
                return PerMessageDeflateOfferAccept(offer, **accept)

    factory.setProtocolOptions(tcpNoDelay=True, echoCloseCodeReason=True, perMessageCompressionAccept=agree)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    return server, factory


async def a_client_of_ours_converses(program):
    for accept in ({}, {"request_max_window_bits": 9}, {"no_context_takeover": True, "window_bits": 10}):
        for fragment_size in (None, 1000):
            server, factory = await serve(accept, fragment_size)
            async with server:
                port = server.sockets[0].getsockname()[1]
                output = await output_of(program, "client", str(port))
            assert output == b"subprotocol echo, deflate 1\nclosed with 4321\n", output
            assert factory.seen == [(True, 4321, "done", True)], factory.seen


if __name__ == "__main__":
    sys.exit(run_all(sys.argv[1], [
        echoes_under_all_terms_of_compression, puts_fragments_together, takes_frames_that_are_still_being_made,
        chooses_a_subprotocol_and_refuses_an_origin, closes_with_codes_and_reasons], [a_client_of_ours_converses]))
