"""The agent's log: lines of text in two files of bounded size, safe to show on any terminal.

A line is "2026-11-22T09:30:00Z text". What comes from elsewhere (a worker's messages) loses control characters, so
neither a newline nor an escape sequence of it reaches a reader.
"""

from __future__ import annotations

import os
import re
import threading
import time

from edgeship.runtime import disk as disks
from edgeship.runtime.errors import AgentError

MAX_BYTES = 128 << 10  # of each of the two files
MAX_LINE = 1000


def printable(text: str) -> str:
    """`text` on one line, without control characters, bounded."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_LINE])


class Log:
    """Appends lines; never raises for a full disk, since a log must not stop what it tells of."""

    def __init__(self, folder: str, disk: disks.Disk) -> None:
        self._path, self._disk = os.path.join(folder, "agent.log"), disk
        self._lock = threading.Lock()
        self.lost = 0  # lines that could not be written

    def write(self, text: str) -> None:
        """Add a line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{stamp} {printable(text)}\n".encode()
        with self._lock:
            try:
                if os.path.exists(self._path) and os.path.getsize(self._path) + len(line) > MAX_BYTES:
                    self._disk.rename(self._path, self._path + ".1")
                self._disk.append(self._path, line, sync=False)
            except (AgentError, OSError):
                self.lost += 1

    def tail(self, lines: int) -> list[str]:
        """The last lines, oldest first."""
        return tail(os.path.dirname(self._path), lines)


def tail(folder: str, lines: int) -> list[str]:
    """The last lines of a log folder, oldest first; nothing where there is no log."""
    out: list[str] = []
    for name in ("agent.log.1", "agent.log"):
        try:
            raw = disks.read(os.path.join(folder, name), 2 * MAX_BYTES) or b""
        except AgentError:
            continue
        raw = re.sub(rb"\0+", b"\n", raw)  # what a power cut left where lines had not reached the disk
        out += [printable(line) for line in raw.decode("utf-8", "replace").splitlines() if line]
    return out[-lines:] if lines > 0 else []
