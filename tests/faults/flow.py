# SPDX-License-Identifier: MIT
# Standard input and output of a program: pipes, files or sockets, what goes in and what comes out.

import os
import select
import socket
import tempfile
import time

from basics import Failure


def name_of(descriptor):
    """What /proc calls it: a path, `pipe:[1234]`, `socket:[1234]`."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


class Flow:
    """Both standard streams of a program, of one kind: `data` is what it reads; carry() makes it flow."""

    def __init__(self, kind, data):
        self.data, self.output = data, b""
        self.source = self.sink = self.file = None  # our ends, and the file with the output
        if kind == "file":
            self.input = tempfile.NamedTemporaryFile(prefix="faults-in-")  # deleted with this object
            self.input.write(data)
            self.input.seek(0)
            self.file = tempfile.NamedTemporaryFile(prefix="faults-out-")
            self.stdin, self.stdout = os.dup(self.input.fileno()), os.dup(self.file.fileno())
        elif kind == "pipe":
            self.stdin, self.source = os.pipe()
            self.sink, self.stdout = os.pipe()
        else:
            ends = [end.detach() for _ in range(2) for end in socket.socketpair()]
            self.stdin, self.source, self.sink, self.stdout = ends
        self.paths = (name_of(self.stdin), name_of(self.stdout))

    def pipes(self):
        return {"stdin": self.stdin, "stdout": self.stdout}

    def carry(self, process, patience=20):
        """Feeds the data, and collects the output to its end."""
        for descriptor in (self.stdin, self.stdout):
            os.close(descriptor)
        if self.file:
            process.wait(patience)
            self.file.seek(0)
            self.output = self.file.read()
            return
        os.set_blocking(self.source, False)
        view, got, limit = memoryview(self.data), bytearray(), time.monotonic() + patience
        while True:
            if time.monotonic() > limit:
                raise Failure(f"stuck: {len(view)} bytes not taken, {len(got)} came out")
            feeding = [self.source] if self.source is not None else []
            readable, writable, _ = select.select([self.sink], feeding, [], 1)
            if writable:
                try:
                    view = view[os.write(self.source, view) :]
                except BlockingIOError:
                    pass
                except ConnectionError:
                    view = view[len(view) :]
                if not view:
                    os.close(self.source)
                    self.source = None
            if readable:
                try:
                    block = os.read(self.sink, 65536)
                except ConnectionError:
                    block = b""
                if not block:
                    break
                got += block
        os.close(self.sink)
        if self.source is not None:
            os.close(self.source)
        self.output = bytes(got)
