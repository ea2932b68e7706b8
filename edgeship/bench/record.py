"""The record of one benchmark: what was measured, where, how, and every raw sample.

A file holds one object of schema `edgeship.bench.run/v1`, `{"runs": [record, …]}`: what `bench run --json` prints too.

Rules this module keeps: statistics are never stored alone, the samples in run order are always beside them; what could
not be read is null, never a guess; a file is written durably and read strictly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from edgeship.bench import statistics
from edgeship.errors import InputError
from edgeship.release import durable
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import need, objects, parse_object

SCHEMA = "edgeship.bench.run/v1"
MAX_FILE = 16 << 20  # bytes of one record

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """What was measured."""

    model: str
    format: str
    precision: str
    sha256: str | None = None  # of the model file
    bytes: int | None = None  # of the model file
    counter: int | None = None  # release counter, None for a file that is in no release
    recipe: str | None = None  # sha256 of the recipe, which names the calibration data


@dataclass(frozen=True)
class Place:
    """Where it was measured; None is "not to be read there"."""

    name: str  # device, or "host"
    profile: str | None = None
    board: str | None = None
    arch: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    kernel: str | None = None
    system: str | None = None
    python: str | None = None
    governor: str | None = None  # of CPU frequency


@dataclass(frozen=True)
class Software:
    """What ran it."""

    agent: str | None = None  # version
    agent_sha256: str | None = None
    library: str | None = None  # runtime library, as in runtimes.toml
    library_sha256: str | None = None
    threads: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conditions:
    """The state of the machine at one moment; None is "not to be read there"."""

    load1: float | None = None  # running processes, mean over a minute
    temperature_celsius: float | None = None
    clock_hertz: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How it was measured."""

    runs: int  # asked for
    warmup: int  # runs before the first that counts
    max_seconds: float
    threads: int = 1
    input: str = ""  # where the inputs came from, in words
    level: float = statistics.LEVEL  # of confidence
    seed: int = statistics.SEED  # of the bootstrap


@dataclass(frozen=True)
class Memory:
    """Of the process that ran the model, after the last run."""

    pss_bytes: int | None = None
    rss_bytes: int | None = None


@dataclass(frozen=True)
class Quality:
    """What the check of the release found, beside the speed."""

    metric: str
    float_value: float
    variant_value: float
    samples: int
    drop_interval: tuple[float, float] | None = None  # points


@dataclass(frozen=True)
class Record:
    """One benchmark run."""

    created: str  # RFC 3339, UTC
    identity: Identity
    place: Place
    software: Software
    protocol: Protocol
    latencies_us: tuple[float, ...]  # in run order, warm-up not among them
    memory: Memory = Memory()
    cpu_seconds: float | None = None  # of the whole measurement
    load_us: float | None = None
    first_us: float | None = None
    before: Conditions = Conditions()
    after: Conditions = Conditions()
    quality: Quality | None = None
    budget_p95_us: float | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> statistics.Summary:
        """The statistics, from the samples."""
        return statistics.summarize(self.latencies_us, self.protocol.level)

    @property
    def title(self) -> str:
        """For a legend: device, format and precision."""
        return f"{self.place.name} · {self.identity.format} {self.identity.precision}"

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes; the statistics are in it for readers, and computed anew by `parse`."""
        return {
            "created": self.created,
            "identity": asdict(self.identity),
            "target": asdict(self.place),
            "software": asdict(self.software),
            "protocol": asdict(self.protocol),
            "results": {
                "latency_us": statistics.encode(self.summary),
                "load_us": self.load_us, "first_us": self.first_us,
                "memory": asdict(self.memory), "cpu_seconds": self.cpu_seconds,
                "energy_joules": None,  # no meter is read
            },
            "conditions": {"before": asdict(self.before), "after": asdict(self.after)},
            "quality": None if self.quality is None else asdict(self.quality),
            "budget": {"latency_p95_us": self.budget_p95_us},
            "warnings": list(self.warnings),
            "samples": {"latency_us": list(self.latencies_us)},
        }  # fmt: skip

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Record:
        """From decoded JSON. Raises ProtocolError for a shape that is not this schema's."""
        results, conditions = need(data, "results", dict), need(data, "conditions", dict)
        quality = need(data, "quality", (dict, type(None)))
        samples = need(need(data, "samples", dict), "latency_us", list)
        if not all(isinstance(s, (int, float)) and not isinstance(s, bool) and s >= 0 for s in samples) or not samples:
            raise ProtocolError("'latency_us' must be a non-empty list of numbers, none below 0")
        try:
            return cls(
                created=need(data, "created", str),
                identity=_build(Identity, need(data, "identity", dict)),
                place=_build(Place, need(data, "target", dict)),
                software=_build(Software, need(data, "software", dict)),
                protocol=_build(Protocol, need(data, "protocol", dict)),
                latencies_us=tuple(float(s) for s in samples),
                memory=_build(Memory, need(results, "memory", dict)),
                cpu_seconds=_number(results, "cpu_seconds"),
                load_us=_number(results, "load_us"),
                first_us=_number(results, "first_us"),
                before=_build(Conditions, need(conditions, "before", dict)),
                after=_build(Conditions, need(conditions, "after", dict)),
                quality=None if quality is None else _build(Quality, quality),
                budget_p95_us=_number(need(data, "budget", dict), "latency_p95_us"),
                warnings=tuple(str(w) for w in need(data, "warnings", list)),
            )
        except TypeError as error:  # a field without which a record says nothing is missing
            raise ProtocolError(str(error).replace("__init__() ", "")) from error


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = need(data, key, (int, float, type(None)))
    return None if value is None else float(value)


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "tuple": (list,), "None": (type(None),),
}  # fmt: skip


def _build(kind: type[T], data: Mapping[str, Any]) -> T:
    """One of the records above from its JSON: known keys of the right type, unknown ones ignored (additive)."""
    values: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]  # every kind given is a dataclass of this module
        if item.name not in data:
            continue
        names = [part.strip().split("[")[0] for part in str(item.type).split("|")]
        value = need(data, item.name, tuple(t for name in names for t in _KINDS[name]))
        values[item.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def dumps(records: Sequence[Record]) -> str:
    """Records as one JSON object with its schema, as they are saved and printed."""
    runs = [record.encode() for record in records]
    return json.dumps({"schema": SCHEMA, "data": {"runs": runs}}, ensure_ascii=False, allow_nan=False)


def save(record: Record, folder: Path) -> Path:
    """Write a record durably as `<time>-<device>.json` in `folder`; never over another one."""
    stamp = record.created.replace("-", "").replace(":", "")
    stem = f"{stamp}-{record.place.name}"
    path, count = folder / f"{stem}.json", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.json"
    durable.write(path, (dumps([record]) + "\n").encode())
    return path


def load(path: Path) -> list[Record]:
    """Read a file of records. Raises InputError: missing, not JSON, another schema, a field missing or wrong."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "edgeship bench list shows the saved records"
        raise InputError(f"{path}: {error.strerror or error}", hint=hint) from error
    try:
        outer = parse_object(raw, limit=MAX_FILE)
        if outer.get("schema") != SCHEMA:
            raise ProtocolError(f"its schema is {outer.get('schema')!r:.80}, not {SCHEMA}")
        found = [Record.parse(run) for run in objects(need(outer, "data", dict), "runs")]
        if not found:
            raise ProtocolError("it holds no run")
        return found
    except ProtocolError as error:
        raise InputError(
            f"{path} is not a benchmark record: {error}", hint="give a file that edgeship bench run wrote"
        ) from error


def saved(folder: Path) -> list[Path]:
    """The saved records, oldest first."""
    return sorted(folder.glob("*.json")) if folder.is_dir() else []
