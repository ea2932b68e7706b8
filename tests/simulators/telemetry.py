"""Devices that make telemetry: what an agent's spool would hold, without an agent.

`SimulatedDevice` answers `telemetry`, `status` and `hello` as an agent does; `fill` puts a whole fleet into a store.
Seeded: the same arguments give the same windows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from edgeship.deploy.device import Device
from edgeship.fleet.ingest import ingest
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from edgeship.runtime.window import Window, bucket_of

DAY = 86_400.0


def window(seq: int = 1, *, seconds: float = 60.0, start: float = 1_800_000_000.0, **fields: Any) -> Window:
    """Window number `seq` of a device that was started at `start` (wall clock and clocks agree)."""
    mono = (seq - 1) * seconds
    values: dict[str, Any] = {
        "spool": "spool-a", "seq": seq, "boot": "boot-a", "mono_start": mono, "mono_end": mono + seconds,
        "wall_end": start + mono + seconds, "model": "digits", "counter": 1, "precision": "int8", "ok": 10,
        "latency": {bucket_of(1000.0): 10},
    }  # fmt: skip
    return Window(**(values | fields))


@dataclass
class SimulatedDevice:
    """One board: a latency distribution, a rate, a model, habits."""

    name: str
    profile: str = "raspberry-pi-5"
    labels: Mapping[str, str] = field(default_factory=dict)
    milliseconds: float = 4.0  # median latency
    spread: float = 0.25  # sigma of its logarithm
    rate: float = 2.0  # requests a second at noon
    errors: float = 0.0005
    restarts: float = 0.0  # a window
    celsius: float = 52.0
    seconds: float = 60.0
    classes: int = 10
    seed: int = 1

    @property
    def device(self) -> Device:
        """Its record in the inventory."""
        return Device(self.name, self.profile, "ssh", f"{self.name}.local", labels=dict(self.labels))

    def windows(
        self,
        start: float,
        end: float,
        *,
        first: int = 1,
        spool: str | None = None,
        boot: str = "boot-1",
        counter: Callable[[float], int] = lambda _at: 1,
        offline: Callable[[float], bool] = lambda _at: False,
        clock_ahead: float = 0.0,
    ) -> list[Window]:
        """Windows over a range of true time; `offline` says when the board had no power (nothing recorded)."""
        noise = random.Random(f"{self.name}{self.seed}")
        out: list[Window] = []
        at, seq = start, first
        while at + self.seconds <= end:
            if not offline(at):
                out.append(
                    self._window(noise, seq, at, start, spool or f"spool-{self.name}", boot, counter(at), clock_ahead)
                )
                seq += 1
            at += self.seconds
        return out

    def _window(
        self,
        noise: random.Random,
        seq: int,
        at: float,
        origin: float,
        spool: str,
        boot: str,
        release: int,
        ahead: float,
    ) -> Window:
        day = 0.65 + 0.35 * math.sin((at % DAY) / DAY * 2 * math.pi - 1.2)
        n = max(0, round(noise.gauss(self.rate * self.seconds * day, math.sqrt(self.rate * self.seconds * day) + 0.1)))
        drawn = min(n, 60)  # enough for a histogram; the counts are scaled
        scale, rest = divmod(n, drawn) if drawn else (0, 0)
        faster = 0.8 if release > 1 else 1.0
        latency: dict[int, int] = {}
        compute: dict[int, int] = {}
        confidence = [0] * 20
        classes: dict[str, int] = {}
        for index in range(drawn):
            weight = scale + (index < rest)
            tail = 3.2 if noise.random() < 0.012 else 1.0
            took = self.milliseconds * faster * (0.9 + 0.2 * day) * tail * math.exp(noise.gauss(0, self.spread)) * 1000
            latency[bucket_of(took)] = latency.get(bucket_of(took), 0) + weight
            inside = bucket_of(took * 0.8)
            compute[inside] = compute.get(inside, 0) + weight
            confidence[min(19, int(noise.betavariate(14, 1.1) * 20))] += weight
            label = str(min(self.classes - 1, int(noise.triangular(0, self.classes, self.classes * 0.3))))
            classes[label] = classes.get(label, 0) + weight
        failed = sum(noise.random() < self.errors for _ in range(min(n, 400)))
        events: list[dict[str, Any]] = []
        if noise.random() < self.restarts:
            events.append(
                {"kind": "worker-exit", "text": "the worker was killed by signal 9; started again after 0.5 s"}
            )
        return Window(
            spool=spool, seq=seq, boot=boot, mono_start=100 + at - origin, mono_end=100 + at - origin + self.seconds,
            wall_end=at + self.seconds + ahead, model="digits", counter=release, precision="int8", ok=n, failed=failed,
            refused=int(noise.random() < 0.01), latency=latency, compute=compute, classes=classes,
            confidence=tuple(confidence) if n else (),
            sensors={
                "temperature_celsius": round(self.celsius + 9 * day + noise.gauss(0, 0.6), 1),
                "cpu_ratio": round(min(1, 0.08 + 0.3 * day + noise.gauss(0, 0.01)), 3),
                "memory_available_bytes": 6.1e9 + noise.gauss(0, 2e7),
                "disk_free_bytes": 21.4e9,
            },
            events=tuple(events),
        )  # fmt: skip


class Agent:
    """A fake of `AgentClient`: answers `hello`, `status` and `telemetry` from a list of windows; a context manager."""

    def __init__(self, windows: list[Window], *, clock: float | None = None, mono: float | None = None) -> None:
        self.windows, self.clock, self.mono = windows, clock, mono
        self.acked: int | None = None
        self.asked: list[dict[str, Any]] = []
        self.closed = False
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda _op, _fields: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def request(self, op: str, data: Any = None, on_event: Any = None, **fields: Any) -> Any:
        """One request of the protocol."""
        self.asked.append({"op": op, **fields})
        told = self.answer(op, fields)
        if told is not None:
            return Reply(told)
        if op == "status":
            boot = self.windows[-1].boot if self.windows else "boot-a"
            told = {"clock": self.clock, "mono": self.mono, "model": "digits", "counter": 1, "precision": "int8"}
            return Reply({"state": "serving", "boot_id": boot, **told})
        if op != "telemetry":
            raise AssertionError(op)
        if "ack" in fields:
            self.acked = fields["ack"]
            return Reply({})
        spool = self.windows[-1].spool if self.windows else "spool-a"
        after = fields["after"] if fields.get("spool") == spool else 0
        left = [w for w in self.windows if w.spool == spool and w.seq > after]
        page = left[: fields["limit"]]
        return Reply({"spool": spool, "windows": [w.encode() for w in page], "next": after + len(page) + 1,
                      "more": len(left) > len(page)})  # fmt: skip


@dataclass
class Reply:
    """What `AgentClient.request` returns."""

    result: dict[str, Any]
    data: bytes = b""


def fleet(
    now: float, *, hours: float = 24.0, spread: int = 14
) -> tuple[list[SimulatedDevice], dict[str, list[Window]]]:
    """A fleet with a bit of everything: healthy, degraded, stale, offline, one with a gap, one with few requests."""
    start = now - hours * 3600
    rolled = now - hours * 3600 * 0.45  # an update in waves
    boards = [
        SimulatedDevice("pi-entrance", "raspberry-pi-5", {"site": "berlin"}, milliseconds=3.1, rate=3.0),
        SimulatedDevice("pi-dock-1", "raspberry-pi-5", {"site": "berlin"}, milliseconds=3.3, rate=2.2, celsius=58),
        SimulatedDevice("pi-dock-2", "raspberry-pi-4", {"site": "berlin"}, milliseconds=7.6, rate=1.2, celsius=66),
        SimulatedDevice("jetson-line-a", "jetson-orin-nano", {"site": "oslo"}, milliseconds=1.6, rate=9.0, celsius=47),
        SimulatedDevice("jetson-line-b", "jetson-orin-nano", {"site": "oslo"}, milliseconds=1.7, rate=8.0, errors=0.03),
        SimulatedDevice("phone-07", "android-termux", {"site": "field"}, milliseconds=5.8, rate=0.6, spread=0.4),
        SimulatedDevice("pi-archive", "raspberry-pi-3", {"site": "oslo"}, milliseconds=16.0, rate=0.002, celsius=44),
        SimulatedDevice(
            "pi-roof", "raspberry-pi-zero-2-w", {"site": "field"}, milliseconds=38.0, rate=0.3, restarts=0.03
        ),
    ]
    boards += [
        SimulatedDevice(
            f"pi-shelf-{index + 1:02}", "raspberry-pi-4", {"site": ("berlin", "oslo")[index % 2]},
            milliseconds=6.5 + index % 5 * 0.4, rate=0.8, seed=index + 2,
        )
        for index in range(max(0, spread - len(boards)))
    ]  # fmt: skip
    windows: dict[str, list[Window]] = {}
    for index, board in enumerate(boards):
        end = {"phone-07": now - 5 * 3600, "pi-dock-2": now - 2 * 3600}.get(board.name, now)
        windows[board.name] = board.windows(
            start,
            end,
            counter=_updated(now + 1 if board.name == "pi-archive" else rolled + index * 400),
            offline=_quiet(board.name, start, hours),
        )
    return boards, windows


def _updated(when: float) -> Callable[[float], int]:
    return lambda at: 2 if at >= when else 1


def _quiet(name: str, start: float, hours: float) -> Callable[[float], bool]:
    """A power cut that took all boards whose name begins with pi."""
    first, last = start + hours * 3600 * 0.3, start + hours * 3600 * 0.38
    return lambda at: name.startswith("pi-") and first <= at < last


def fill(store: FleetStore, now: float, *, hours: float = 24.0, spread: int = 14) -> list[SimulatedDevice]:
    """Put `fleet` into a store whose clock says `now`, with contacts and an audit trail."""
    boards, windows = fleet(now, hours=hours, spread=spread)
    start, rolled, clock = now - hours * 3600, now - hours * 3600 * 0.45, store._clock
    for index, board in enumerate(boards):
        store._clock = _at(start + 60 * index)
        store.save_device(board.device)
        store.audit("deploy.good", board.name, {"model": "digits", "counter": 1, "bytes": 2_870_112})
    for index, board in enumerate(boards):
        store._clock = _at(rolled + index * 400)
        if any(window.counter == 2 for window in windows[board.name]):
            store.audit("deploy.good", board.name, {"model": "digits", "counter": 2, "bytes": 301_776})
    store._clock = _at(now - 1200)
    store.audit(
        "deploy.failed", "jetson-line-a", {"model": "digits", "counter": 3, "reason": "golden samples: 9 of 16"}
    )
    for board in boards:
        store._clock = _at(now - {"pi-dock-2": 7200, "phone-07": 5 * 3600}.get(board.name, 5))
        ingest(store, board.name, windows[board.name], Contact(host=now, clock=now))
        served = max(w.counter or 0 for w in windows[board.name])
        status = {"state": "serving", "model": "digits", "counter": served, "precision": "int8", "format": "tflite",
                  "agent": "0.1.0", "uptime_seconds": hours * 3600, "worker_restarts": 0,
                  "pss": {"supervisor": 9_300_000, "worker": 16_100_000}}  # fmt: skip
        store.record_contact(board.name, status=status, skew=0.02)
    store._clock = _at(now - 4 * 3600)
    store.record_contact("phone-07", error="no route to host phone-07.local")
    store._clock = clock
    return boards


def _at(when: float) -> Callable[[], float]:
    return lambda: when
