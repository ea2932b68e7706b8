"""The processes of a search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeship.optimize.search.pool import processes


def _ignores() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)


_INTERRUPTED = """
import sys
from edgeship.cli import _leave
from edgeship.optimize.search.pool import processes

if __name__ == "__main__":
    try:
        with processes(1) as pool:
            pool.submit(abs, 1).result()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        _leave()
"""


def test_after_an_interrupt_python_has_nothing_to_warn_of(tmp_path: Path) -> None:
    """Its resource tracker speaks of "leaked semaphore objects" where those of a pool were not unlinked."""
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


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
