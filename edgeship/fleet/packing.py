"""The form of a window in the database: compact JSON, compressed, without what its row says already."""

from __future__ import annotations

import json
import zlib

from edgeship.runtime.window import WINDOW_SCHEMA, Window

_IN_THE_ROW = ("schema", "spool", "seq")


def pack(window: Window) -> bytes:
    """A window as bytes."""
    data = window.encode()
    for key in _IN_THE_ROW:
        del data[key]
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 1)


def unpack(packed: bytes, spool: str, seq: int) -> Window:
    """The inverse of `pack`."""
    data = json.loads(zlib.decompress(packed))
    return Window.parse({**data, "schema": WINDOW_SCHEMA, "spool": spool, "seq": seq})
