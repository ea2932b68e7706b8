"""Telemetry on the device: the open window that counts, and the spool that outlives power cuts.

Rules this module keeps:

* (spool, seq) names a window for ever; seq counts from 1 without gaps and is given when the window is written.
* A window is one record `crc32 seq json` on one line, appended and synced in one durable write. A torn last record is
  cut off at the next start; a damaged one in the middle is left out and shows as a gap.
* The spool is bounded: when it is full its oldest segment goes, and an event says so.
* What the disk refuses stays in memory, bounded, and is tried again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from edgeship.runtime import disk as disks
from edgeship.runtime.errors import AgentError
from edgeship.runtime.window import Window, bucket_of
from edgeship.runtime.wire import MAX_WINDOW

SEGMENT_BYTES = 128 << 10
SPOOL_BYTES = 8 << 20  # about two weeks of minutes
MAX_BATCH = 512 << 10  # bytes of windows in one answer, within a JSON frame
MAX_CLASSES = 1000
MAX_EVENTS = 64
MAX_UNWRITTEN = 64
BINS = 20  # of confidence


class Answered(Protocol):
    """What the front tells of one request."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def seconds(self) -> float:
        """From the request's last byte to the answer's first."""
        ...

    @property
    def compute_us(self) -> float | None:
        """Microseconds inside the runtime library; None when no model ran."""
        ...


class Spool:
    """Windows on the disk: segments named by their first sequence number, in one folder.

    Args:
        folder: made by the caller.
        limit: bytes of all segments together.
        segment: bytes after which a new segment begins.
    """

    def __init__(
        self, folder: str, disk: disks.Disk, *, limit: int = SPOOL_BYTES, segment: int = SEGMENT_BYTES
    ) -> None:
        self._folder, self._disk, self._limit, self._segment = folder, disk, limit, segment
        self.id, self.acked = self._identity()
        self._starts = self._segments()
        self.next = 1
        self._size = 0
        if self._starts:
            self._recover(self._starts[-1])

    def _path(self, start: int) -> str:
        return os.path.join(self._folder, f"{start:016d}.seg")

    def _identity(self) -> tuple[str, int]:
        """The spool's random id and what was acknowledged; a spool that lost its id begins anew under another."""
        state = os.path.join(self._folder, "state.json")
        try:
            found = json.loads(disks.read(state) or b"{}")
            return str(found["id"]), int(found["acked"])
        except (AgentError, ValueError, KeyError, TypeError):
            for start in self._segments():
                self._disk.remove(self._path(start))
            identity = os.urandom(8).hex()
            self._disk.write(state, json.dumps({"id": identity, "acked": 0}).encode())
            return identity, 0

    def _segments(self) -> list[int]:
        names = (name[:16] for name in os.listdir(self._folder) if len(name) == 20 and name.endswith(".seg"))
        return sorted(int(name) for name in names if name.isdigit())

    def _recover(self, start: int) -> None:
        """Find the end of the newest segment, and cut a torn record off."""
        self.next, self._size = start, 0
        offset = 0
        for line, seq, _ in self._lines(start):
            offset += len(line)
            if seq is not None:
                self.next, self._size = seq + 1, offset
        path = self._path(start)
        if os.path.getsize(path) > self._size:
            self._disk.truncate(path, self._size)

    def _lines(self, start: int) -> Iterator[tuple[bytes, int | None, bytes]]:
        """(line with its end, sequence number or None when damaged, JSON) of each record of a segment."""
        raw = disks.read(self._path(start), 2 * self._segment + 2 * MAX_WINDOW) or b""
        for line in raw.splitlines(keepends=True):
            crc, _, rest = line.rstrip(b"\n").partition(b" ")
            seq, _, body = rest.partition(b" ")
            whole = line.endswith(b"\n") and crc == b"%08x" % zlib.crc32(rest) and seq.isdigit()
            yield line, int(seq) if whole else None, body

    @property
    def first(self) -> int:
        """The oldest sequence number that is still here and not acknowledged (equal to `next` when there is none)."""
        oldest = self._starts[0] if self._starts else self.next
        return min(max(oldest, self.acked + 1), self.next)

    def append(self, body: bytes) -> int:
        """Write one encoded window durably; its sequence number is `next` before the call.

        Returns:
            how many windows had to go for it, unacknowledged.

        Raises:
            DiskError: it is not written and `next` is unchanged.
        """
        rest = b"%d %s" % (self.next, body)
        line = b"%08x %s\n" % (zlib.crc32(rest), rest)
        fresh = not self._starts or self._size + len(line) > self._segment
        start = self.next if fresh else self._starts[-1]
        self._disk.append(self._path(start), line)
        if fresh:
            self._starts.append(start)
            self._size = 0
        self._size += len(line)
        self.next += 1
        return self._trim() if fresh else 0

    def _trim(self) -> int:
        most = max(2, self._limit // self._segment)
        lost = 0
        while len(self._starts) > most:
            last = self._starts[1] - 1
            lost += max(0, last - max(self.acked, self._starts[0] - 1))
            self._disk.remove(self._path(self._starts[0]))
            del self._starts[0]
        return lost

    def read(self, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Windows with a greater sequence number, oldest first, bounded; and whether there are more."""
        out: list[dict[str, Any]] = []
        size = 0
        for position, start in enumerate(self._starts):
            end = self._starts[position + 1] if position + 1 < len(self._starts) else self.next
            if end - 1 <= after:
                continue
            for _, seq, body in self._lines(start):
                if seq is None or seq <= after or seq >= self.next:
                    continue
                if len(out) >= limit or size + len(body) > MAX_BATCH:
                    return out, True
                out.append(json.loads(body))
                size += len(body)
        return out, False

    def ack(self, seq: int) -> None:
        """Forget windows up to `seq`; whole segments leave the disk, the newest one stays to keep the count."""
        seq = min(seq, self.next - 1)
        if seq <= self.acked:
            return
        state = json.dumps({"id": self.id, "acked": seq}).encode()
        self._disk.write(os.path.join(self._folder, "state.json"), state)
        self.acked = seq
        while len(self._starts) > 1 and self._starts[1] - 1 <= seq:
            self._disk.remove(self._path(self._starts[0]))
            del self._starts[0]


class Telemetry:
    """The open window and its way into the spool. Used by one thread.

    Args:
        boot: the kernel's boot id.
        seconds: length of a window.
    """

    def __init__(self, spool: Spool, boot: str, seconds: float) -> None:
        self.spool, self._boot, self.seconds = spool, boot, seconds
        self._serving: tuple[str | None, int | None, str | None] = (None, None, None)
        self._unwritten: list[dict[str, Any]] = []
        self._open(_now())

    def _open(self, start: float) -> None:
        self._start = start
        self._ok = self._failed = self._refused = 0
        self._latency: dict[int, int] = {}
        self._compute: dict[int, int] = {}
        self._classes: dict[str, int] = {}
        self._confidence = [0] * BINS
        self._events: list[dict[str, str]] = []

    @property
    def remaining(self) -> float:
        """Seconds until the open window should close."""
        return self._start + self.seconds - _now()

    def count(self, answered: Answered, cls: str | None, confidence: float | None) -> None:
        """Count one request. Those that ask for health or metadata and get it are no inferences and not counted."""
        if answered.status >= 500:
            self._failed += 1
        elif answered.status >= 400:
            self._refused += 1
        elif answered.compute_us is not None:
            self._ok += 1
            _add(self._latency, bucket_of(answered.seconds * 1e6))
            _add(self._compute, bucket_of(answered.compute_us))
            if cls is not None:
                known = cls in self._classes or len(self._classes) < MAX_CLASSES
                _add(self._classes, cls[:64] if known else "other")
            if confidence is not None:
                self._confidence[min(BINS - 1, max(0, int(confidence * BINS)))] += 1

    def event(self, kind: str, text: str) -> None:
        """Something that happened: boot, switch, revert, worker-exit, gap, …; the first `MAX_EVENTS` of a window."""
        if len(self._events) < MAX_EVENTS:
            self._events.append({"kind": kind, "text": text[:500]})

    def serve(
        self, model: str | None, counter: int | None, precision: str | None, sensors: Mapping[str, float]
    ) -> None:
        """Another release answers from now on: the open window ends, since a window tells of one release."""
        if (model, counter, precision) != self._serving:
            self.close(sensors)
            self._serving = (model, counter, precision)

    def close(self, sensors: Mapping[str, float]) -> None:
        """End the open window, begin the next, write what is not written yet. A disk's refusal is kept for later."""
        end = _now()
        model, counter, precision = self._serving
        window = Window(
            spool=self.spool.id, seq=1, boot=self._boot, mono_start=self._start, mono_end=end, wall_end=time.time(),
            model=model, counter=counter, precision=precision,
            ok=self._ok, failed=self._failed, refused=self._refused, latency=self._latency, compute=self._compute,
            classes=self._classes, confidence=tuple(self._confidence) if any(self._confidence) else (),
            sensors=sensors, events=tuple(self._events),
        )  # fmt: skip
        self._unwritten.append(window.encode())
        self._open(end)
        lost = max(0, len(self._unwritten) - MAX_UNWRITTEN)
        if lost:
            del self._unwritten[:lost]
        try:
            while self._unwritten:
                lost += self.spool.append(_encoded({**self._unwritten[0], "seq": self.spool.next}))
                del self._unwritten[0]
        except AgentError as error:
            self.event("disk", str(error))
        if lost:
            self.event("gap", f"{lost} windows were dropped: the spool is full")


def _encoded(window: dict[str, Any]) -> bytes:
    """A window as JSON within `MAX_WINDOW`: the rarest classes go first, then the events."""
    body = json.dumps(window, separators=(",", ":"), allow_nan=False).encode()
    if len(body) <= MAX_WINDOW:
        return body
    common = sorted(window["classes"].items(), key=lambda item: -item[1])[:100]
    rest = sum(window["classes"].values()) - sum(count for _, count in common)
    classes = dict(common)
    classes["other"] = classes.get("other", 0) + rest
    return json.dumps({**window, "classes": classes, "events": []}, separators=(",", ":"), allow_nan=False).encode()


def _add(counts: dict[Any, int], key: int | str) -> None:
    counts[key] = counts.get(key, 0) + 1


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
