"""Latency histograms on the host: merged by addition, packed for the database.

Buckets are those of `edgeship.runtime.window`; a quantile has the same relative error of at most 1 %, however many
windows and devices were merged.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping

import numpy as np

from edgeship.fleet.packing import compress
from edgeship.runtime.window import bucket_value

BUCKETS = 1400  # bucket 1399 is 12 days; what a device claims beyond is counted there
CAP = 1 << 40  # of any count in the store: 8 million of them add up within 64 bits

_HEADER = struct.Struct("<cH")  # width code, first bucket
_COMPRESSED = b"z"  # stands in front of a compressed one; no width code
_SMALL = 160  # bytes; compressing less costs more time than it saves room
_WIDTHS = ((b"1", "<u1"), (b"2", "<u2"), (b"4", "<u4"), (b"8", "<i8"))

_DTYPES = {code: np.dtype(name) for code, name in _WIDTHS}


class Histogram:
    """Counts by bucket: int64 of shape [BUCKETS], made when the first count comes."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: np.ndarray | None = None
        if counts:
            self.add(counts)

    def _array(self) -> np.ndarray:
        if self._counts is None:
            self._counts = np.zeros(BUCKETS, np.int64)
        return self._counts

    def add(self, counts: Mapping[int, int]) -> None:
        """Add the counts of a window."""
        buckets = np.fromiter(counts.keys(), np.int64, len(counts))
        numbers = np.fromiter(counts.values(), np.int64, len(counts))
        np.add.at(self._array(), np.minimum(buckets, BUCKETS - 1), np.minimum(numbers, CAP))

    def merge(self, other: Histogram) -> None:
        """Add another histogram."""
        if other._counts is not None:
            counts = self._array()
            counts += other._counts

    def merge_packed(self, packed: bytes) -> None:
        """Add a histogram as `pack` wrote it."""
        if not packed:
            return
        raw = zlib.decompress(packed[1:]) if packed[:1] == _COMPRESSED else packed
        code, first = _HEADER.unpack_from(raw)
        counts = np.frombuffer(raw, _DTYPES[code], offset=_HEADER.size)
        part = self._array()[first : first + counts.size]
        part += counts

    def pack(self) -> bytes:
        """The smallest dense run of counts, compressed where that is worth it; empty bytes for an empty histogram."""
        if self._counts is None:
            return b""
        used = self._counts.nonzero()[0]
        if not used.size:
            return b""
        run = self._counts[used[0] : used[-1] + 1]
        most = int(run.max())
        if most > CAP:
            run, most = np.minimum(run, CAP), CAP
        code, dtype = next(w for w in _WIDTHS if most < 1 << (8 * int(w[0])))
        raw = _HEADER.pack(code, int(used[0])) + run.astype(dtype).tobytes()
        return raw if len(raw) <= _SMALL else _COMPRESSED + compress(raw)

    @property
    def total(self) -> int:
        """All counts."""
        return 0 if self._counts is None else int(self._counts.sum())

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0 to 1) in seconds by nearest rank, None when empty."""
        total = self.total
        if not total:
            return None
        rank = max(1, math.ceil(q * total))
        return bucket_value(int(np.searchsorted(np.cumsum(self._array()), rank))) / 1e6

    def counts(self) -> dict[int, int]:
        """Bucket -> count, without empty buckets."""
        if self._counts is None:
            return {}
        return {int(b): int(self._counts[b]) for b in np.flatnonzero(self._counts)}
