"""The processes of a search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgeship.errors import ConversionError
from edgeship.optimize.search.pool import processes


def _ignores() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)


_INTERRUPTED = """
import sys
from edgeship.cli import _leave
from edgeship.errors import ConversionError
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
    assert _wait_for(pid)


def _wait_for(pid: int) -> bool:
    """Whether a process ends in time."""
    for _ in range(6000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


KILLED = """
import sys, time
from tests.unit.optimize.search.test_pool import _sleep
from edgeship.errors import ConversionError
from edgeship.optimize.search.pool import processes
if __name__ == "__main__":
    with processes(2) as pool:
        pool.submit(_sleep, sys.argv[1])
        pool.submit(_sleep, sys.argv[2])
        time.sleep(120)
"""


def test_they_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Each holds an end of the queue that the other waits on: by themselves they would wait for ever."""
    paths = [tmp_path / "one", tmp_path / "two"]
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = str(Path(__file__).resolve().parents[4])
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, str(script), *map(str, paths)], env=environment)
    try:
        while not all(path.exists() and path.read_text() for path in paths):
            assert parent.poll() is None
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
    assert all(_wait_for(int(path.read_text())) for path in paths)


def test_their_temporary_files_go_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with processes(1) as pool:
        made = Path(pool.submit(tempfile.mkdtemp).result())
        assert made.parent.parent == tmp_path
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "pid")
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_a_killed_process_is_an_error_with_what_to_do() -> None:
    with (
        pytest.raises(ConversionError, match="was killed, most likely for want of memory") as caught,
        processes(1) as pool,
    ):
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()
    assert caught.value.hint is not None
    assert "--jobs" in caught.value.hint
