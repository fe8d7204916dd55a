# SPDX-License-Identifier: MIT
# Clients: connections, what they send, and what they get back.

import errno
import random
import select
import socket
import struct
import time

from basics import Failure


def pattern(size, seed=0):
    return random.Random(seed).randbytes(size)


def difference(wanted, got):
    """Says where two byte strings part."""
    if got is None:
        return "nothing (refused, reset or silent)"
    if wanted == got:
        return "the same"
    at = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), None)
    if at is None:
        return f"{len(got)} bytes instead of {len(wanted)}"
    return f"{len(got)} bytes of {len(wanted)}, the first wrong one at {at}"


def connect(server, patience=5, buffers=None, segment=None):
    """A connection, if wanted with its own buffer sizes and with short segments both ways: where a
    segment (64 kB on loopback) does not fit into a buffer, TCP falls back to waiting for timers."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    limit = time.monotonic() + patience
    while True:
        sock = socket.socket(family)
        if buffers is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        if segment is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.settimeout(patience)
        try:
            sock.connect((server.host, server.port))
            return sock
        except OSError as error:
            sock.close()
            # Ports in TIME_WAIT come back after a second.
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > limit:
                raise
            time.sleep(0.1)


def reset(sock):
    """Closes with a RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def exchange(sock, data, patience=60, half_close=True, piece=65536):
    """Sends and reads at the same time; returns what came back before EOF (or, without half-close,
    before as many bytes as were sent had come)."""
    sock.setblocking(False)
    view, sent, got = memoryview(data), 0, bytearray()
    limit = time.monotonic() + patience
    if half_close and not data:
        sock.shutdown(socket.SHUT_WR)
    while half_close or len(got) < len(data):
        left = limit - time.monotonic()
        if left <= 0:
            raise Failure(f"stuck: {sent} of {len(data)} bytes sent, {len(got)} came back")
        sending = [sock] if sent < len(data) else []
        readable, writable, _ = select.select([sock], sending, [], min(left, 1))
        if writable:
            try:
                sent += sock.send(view[sent : sent + piece])
            except BlockingIOError:
                pass
            if half_close and sent == len(data):
                sock.shutdown(socket.SHUT_WR)
        if readable:
            try:
                block = sock.recv(65536)
            except BlockingIOError:
                continue
            if not block:
                break
            got += block
    sock.settimeout(patience)
    return bytes(got)


def echo(server, data, patience=10):
    """A whole client: send, half-close, read until EOF. None if refused, reset or stuck."""
    try:
        with connect(server, patience) as sock:
            return exchange(sock, data, patience)
    except (OSError, Failure):
        return None


def send_unread(sock, size, patience=1.0):
    """Sends up to `size` bytes, reading none, until no more is taken for a while; how many went."""
    sock.setblocking(False)
    block, sent = pattern(65536), 0
    while sent < size:
        if not select.select([], [sock], [], patience)[1]:
            break
        try:
            sent += sock.send(block[: size - sent])
        except BlockingIOError:
            pass
        except ConnectionError:
            break
    return sent


def state_of(sock, patience):
    """`answered`, `closed` (EOF or reset) or `hanging`, after at most so long."""
    if not select.select([sock], [], [], patience)[0]:
        return "hanging"
    try:
        return "answered" if sock.recv(65536) else "closed"
    except ConnectionError:
        return "closed"
