"""The form of a window in the database: compact JSON, compressed, without what its row says already."""

from __future__ import annotations

import json
import zlib

from edgeship.runtime.window import WINDOW_SCHEMA, Window

_encode = json.JSONEncoder(separators=(",", ":")).encode


def compress(raw: bytes) -> bytes:
    """Deflate with a window of 4 kB: for less than a kilobyte, four times as fast as `zlib.compress` and no larger."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 12, 5)
    return packer.compress(raw) + packer.flush()


def pack(window: Window) -> bytes:
    """A window as bytes: the values of `Window.encode` in a fixed order (JSON makes texts of the buckets itself)."""
    values = (
        window.boot, (window.mono_start, window.mono_end), window.wall_end, window.model, window.counter,
        window.precision, (window.ok, window.failed, window.refused), window.latency, window.compute, window.classes,
        window.confidence, window.sensors, window.events,
    )  # fmt: skip
    return compress(_encode(values).encode())


def unpack(packed: bytes, spool: str, seq: int) -> Window:
    """The inverse of `pack`."""
    names = (
        "boot", "mono", "wall_end", "model", "counter", "precision", "counts", "latency", "compute", "classes",
        "confidence", "sensors", "events",
    )  # fmt: skip
    data = dict(zip(names, json.loads(zlib.decompress(packed)), strict=True))
    counts = dict(zip(("ok", "failed", "refused"), data.pop("counts"), strict=True))
    return Window.parse({**data, "requests": counts, "schema": WINDOW_SCHEMA, "spool": spool, "seq": seq})
