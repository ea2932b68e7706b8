"""Telemetry into the fleet's store and out again, beside a naive SQLite table with one row a value: ratios in one run.

    python benchmarks/store_ingest.py [--devices N] [--windows N]

Both get the same windows in the same batches (one transaction a device and batch), on the same disk:

* ours: `fleet.ingest` (exactly once, time axis, gaps, events, roll-ups by minute and hour), then the pages' queries;
* naive: one row (device, time, metric, value) a counter, histogram bucket, class and sensor, primary key on the first
  three; percentiles by summing buckets.

Prints one JSON object. Processor time, so that a busy machine does little harm.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeship.deploy.device import Device
from edgeship.fleet import query
from edgeship.fleet.ingest import ingest
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from edgeship.runtime.window import Window, quantile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.simulators.telemetry import SimulatedDevice

NOW = 1_800_000_000.0
BATCH = 200


def made(devices: int, windows: int) -> dict[str, list[Window]]:
    """Windows of one minute for each device, up to `NOW`; a few patterns, since making them is slow."""
    start = NOW - windows * 60
    patterns = [SimulatedDevice(f"d{n}", seed=n).windows(start, NOW) for n in range(min(4, devices))]
    return {f"d{n:04}": patterns[n % len(patterns)] for n in range(devices)}


def batches(windows: list[Window]) -> Iterator[list[Window]]:
    """As a pull brings them."""
    for at in range(0, len(windows), BATCH):
        yield windows[at : at + BATCH]


def timed(job: Callable[[], object]) -> float:
    """Processor seconds of a job."""
    before = time.process_time()
    job()
    return time.process_time() - before


def naive_rows(device: str, window: Window) -> Iterator[tuple[str, float, str, float]]:
    """One row a value."""
    at = window.wall_end
    yield from ((device, at, name, float(getattr(window, name))) for name in ("ok", "failed", "refused"))
    yield from ((device, at, f"latency.{b}", float(n)) for b, n in window.latency.items())
    yield from ((device, at, f"compute.{b}", float(n)) for b, n in window.compute.items())
    yield from ((device, at, f"class.{c}", float(n)) for c, n in window.classes.items())
    yield from ((device, at, f"confidence.{i}", float(n)) for i, n in enumerate(window.confidence) if n)
    yield from ((device, at, f"sensor.{s}", value) for s, value in window.sensors.items())


def naive_p95(database: sqlite3.Connection, start: float, step: int) -> list[float | None]:
    """p95 of the fleet over time from the naive table."""
    steps: dict[int, dict[int, int]] = {}
    rows = database.execute(
        "SELECT CAST(at / ? AS INTEGER), metric, SUM(value) FROM samples WHERE at >= ? AND metric LIKE 'latency.%' "
        "GROUP BY 1, 2", (step, start),
    )  # fmt: skip
    for at, metric, count in rows:
        steps.setdefault(at, {})[int(metric.partition(".")[2])] = int(count)
    return [quantile(counts, 0.95) for _, counts in sorted(steps.items())]


def bytes_of(folder: Path, name: str) -> int:
    """Size of a database with its log."""
    return sum(os.path.getsize(path) for path in folder.glob(f"{name}*"))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Ingest and query of the fleet's store beside a naive table.")
    parser.add_argument("--devices", type=int, default=40)
    parser.add_argument("--windows", type=int, default=1440, help="of one minute, for each device")
    options = parser.parse_args()
    data = made(options.devices, options.windows)
    total = sum(len(windows) for windows in data.values())
    day = query.Span(NOW - options.windows * 60, NOW)
    contact = Contact(NOW, NOW)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with FleetStore.open(folder / "ours.db") as store:
            for name in data:
                store.save_device(Device(name, "raspberry-pi-5"))

            def ours_in() -> None:
                for name, windows in data.items():
                    for batch in batches(windows):
                        ingest(store, name, batch, contact)

            names = list(data)
            result = {
                "windows": total,
                "ours": {
                    "ingest_seconds": timed(ours_in),
                    "replay_seconds": timed(ours_in),  # all duplicates: nothing changes
                    "p95_by_hour_seconds": timed(lambda: query.series(store, names, day, 3600)),
                    "p95_by_ten_minutes_seconds": timed(lambda: query.series(store, names, day, 600)),
                    "one_device_seconds": timed(lambda: query.series(store, names[:1], day, 600, detail=True)),
                },
            }
            stored = query.totals(store, names, day)
            assert sum(summary.windows for summary in stored.values()) == total, "every window once"
        database = sqlite3.connect(folder / "naive.db")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE samples (device TEXT, at REAL, metric TEXT, value REAL, PRIMARY KEY (device, at, metric)) "
            "WITHOUT ROWID"
        )

        def naive_in() -> None:
            for name, windows in data.items():
                for batch in batches(windows):
                    with database:
                        database.executemany(
                            "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?)",
                            (row for window in batch for row in naive_rows(name, window)),
                        )

        result["naive"] = {
            "ingest_seconds": timed(naive_in),
            "replay_seconds": timed(naive_in),
            "p95_by_hour_seconds": timed(lambda: naive_p95(database, day.start, 3600)),
            "p95_by_ten_minutes_seconds": timed(lambda: naive_p95(database, day.start, 600)),
        }
        database.close()
        for name in ("ours", "naive"):
            part = result[name]
            assert isinstance(part, dict)
            part["bytes_a_window"] = bytes_of(folder, f"{name}.db") / total
            part["windows_a_second"] = total / part["ingest_seconds"]
    ours, naive = result["ours"], result["naive"]
    assert isinstance(ours, dict)
    assert isinstance(naive, dict)
    result["ratios_naive_to_ours"] = {
        key: round(naive[key] / ours[key], 2) for key in naive if key in ours and "_a_second" not in key
    }
    print(json.dumps(_rounded(result), indent=2))
    return 0


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
