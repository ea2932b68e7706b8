"""The processes of a search."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from edgeship.optimize.search.pool import processes


def _ignores() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)


def test_work_runs_in_other_processes_that_leave_ctrl_c_to_their_parent() -> None:
    with processes(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        assert pool.submit(_ignores).result()


def _interrupted(path: Path) -> None:
    with processes(1) as pool:
        pool.submit(_sleep, str(path))
        while not path.exists() or not path.read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt


def test_an_interrupt_ends_them_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)
    pid = int(path.read_text())
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} still runs")
