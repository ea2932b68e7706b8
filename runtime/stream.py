"""A socket in a selector that never blocks: what cannot be sent yet is kept; it is registered for what is wanted."""

from __future__ import annotations

import collections
import selectors
import socket
from collections.abc import Callable

SCRATCH = 1 << 16  # bytes; received into, so that no buffer of the largest size is made for every small read


class Stream:
    """One socket, owned from now on.

    Args:
        sock: connected.
        selector: where it is registered, with `ready` as data.
        ready: called with the event mask.
        scratch: writable memory to receive into; may be shared, its content is copied at once.
    """

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, ready: Callable[[int], None], scratch: memoryview
    ) -> None:
        self._sock, self._selector, self._ready, self._scratch = sock, selector, ready, scratch
        self._out: collections.deque[memoryview] = collections.deque()
        self._events = 0
        self._reading = True
        self.closed = False
        sock.setblocking(False)
        self._register()

    @property
    def pending(self) -> bool:
        """Whether something is left to send."""
        return bool(self._out)

    def receive(self) -> bytes | None:
        """What has arrived; b"" at the end of the stream, None when there is nothing now. Raises OSError."""
        try:
            size = self._sock.recv_into(self._scratch)
        except BlockingIOError:
            return None
        return bytes(self._scratch[:size])

    def send(self, parts: list[bytes]) -> None:
        """Send, now or when the socket takes it. Raises OSError when it is broken."""
        if not self._out and len(parts) == 1:
            try:
                sent = self._sock.send(parts[0])
            except BlockingIOError:
                sent = 0
            if sent == len(parts[0]):
                return
            self._out.append(memoryview(parts[0])[sent:])
        else:
            self._out.extend(map(memoryview, parts))
        self.flush()

    def flush(self) -> None:
        """Send what is left as far as the socket takes it. Raises OSError when it is broken."""
        try:
            while self._out:
                view = self._out[0]
                sent = self._sock.send(view)
                if sent < len(view):
                    self._out[0] = view[sent:]
                    break
                self._out.popleft()
        except BlockingIOError:
            pass
        self._register()

    def read(self, wanted: bool) -> None:
        """Whether events for reading are wanted."""
        if wanted is not self._reading:
            self._reading = wanted
            self._register()

    def _register(self) -> None:
        events = (selectors.EVENT_READ if self._reading else 0) | (selectors.EVENT_WRITE if self._out else 0)
        if events == self._events:
            return
        if not events:
            self._selector.unregister(self._sock)
        elif not self._events:
            self._selector.register(self._sock, events, self._ready)
        else:
            self._selector.modify(self._sock, events, self._ready)
        self._events = events

    def finish(self) -> None:
        """Tell the other side that nothing more will be sent. Raises OSError."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Unregister and close; safe to call twice."""
        if not self.closed:
            self.closed = True
            if self._events:
                self._selector.unregister(self._sock)
            self._sock.close()
