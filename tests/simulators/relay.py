"""A bad network: a small TCP relay in front of a port that drops, cuts and stalls connections.

with Relay(port) as relay:
    relay.cuts = [100_000]       # the first connection is cut after so many bytes towards the device
    device = replace(device, port=relay.port)
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 1 << 15


class Relay:
    """Passes bytes on between clients and one port of this host, as long as it is told to."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # what it takes and never passes on
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.port: int = self._server.getsockname()[1]
        self.cuts: list[int] = []  # bytes to the device after which each connection is cut, in order
        self.stalls = False  # a connection that would be cut stays open instead, and nothing passes any more
        self.stalled = threading.Event()
        self.drops = 0  # connections that are closed at once, as MaxStartups does
        self.silent = False  # connections are taken, and nothing is said
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._server.close()

    def _start(self, target: object, *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]  # a method of this class
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._server.settimeout(0.05)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                self.connections += 1
                if self.drops > 0:
                    self.drops -= 1
                    client.close()
                    continue
                self._start(self._pass, client)

    def _hold(self, client: socket.socket) -> None:
        """Until the client has gone."""
        poll = select.poll()
        poll.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self._stop.is_set() and not poll.poll(50):
            pass

    def _pass(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as device:
            if self.silent:
                self._stop.wait(60)
                return
            left = self.cuts.pop(0) if self.cuts else None
            with selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, device)
                selector.register(device, selectors.EVENT_READ, client)
                while not self._stop.is_set():
                    for key, _ in selector.select(0.05):
                        data = key.fileobj.recv(_CHUNK)  # type: ignore[union-attr]  # only sockets are registered
                        if not data:
                            return
                        if key.fileobj is client and left is not None:
                            data, left = data[:left], left - len(data[:left])
                        key.data.sendall(data)
                        if left == 0:
                            if self.stalls:
                                self.stalled.set()
                                self._hold(client)
                            return
