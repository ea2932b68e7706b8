"""Runs a command and says what it and all its descendants used. Imports nothing large.

A process begins with the peak memory of the one that started it (Linux carries the high-water mark over exec), so
whoever measures stays small. Memory is the largest sum of PSS over the tree of processes, sampled: pages that two of
them share count once, and a parent that waits counts beside its child. Processor time is the kernel's own account.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.05  # seconds between two looks at memory


@dataclass(frozen=True)
class Used:
    """What a command used: processor seconds and peak memory (10⁶ bytes) of its tree of processes."""

    seconds: float
    megabytes: float
    largest: float  # peak memory of the largest process alone, as the kernel keeps it


class Failed(Exception):
    """A command ended with another status than 0; the message has its last lines."""


def run(argv: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Used:
    """Run a command in a folder, its output in `log` there. Raises Failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(argv), cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log,
        )  # fmt: skip
        ended = threading.Event()
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
        watcher.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            ended.set()
            watcher.join()
    if process.returncode:
        text = (folder / "log").read_text(encoding="utf-8", errors="replace")
        raise Failed(f"{' '.join(argv)[:300]}: status {process.returncode}\n{text[-3000:]}")
    largest = used.ru_maxrss / 1000
    return Used(used.ru_utime + used.ru_stime, max(peak[0], 0.0), largest)


def _watch(pid: int, ended: threading.Event, peak: list[float]) -> None:
    while not ended.wait(INTERVAL):
        peak[0] = max(peak[0], sum(_pss(one) for one in _tree(pid)) / 1000)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))
    except OSError:  # it has just ended
        return


def _pss(pid: int) -> int:
    """In kB; 0 for one that has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
