"""Ctrl-C while `edgeship push` runs, at every stage: exit 130, nothing half done, nothing left running.

The command is a child process, the signal a real one. It goes to the command alone, as from `kill -INT`; children that
it starts have sessions of their own, so a terminal's Ctrl-C reaches no other process either.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulators.commandline import run, run_json
from tests.simulators.models import samples, tiny_tflite

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("edgeship")
SECONDS = 60.0  # for what must come
MARK = "EDGESHIP-TEST-MARK"


class Push:
    """`edgeship push --json` as a child process that a test interrupts."""

    def __init__(self, *args: str) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [str(COMMAND), "push", "--json", "--no-bench", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env={**os.environ, MARK: self._mark},
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)

    def reached(self, event: str, step: str) -> bool:
        """Whether it said that a step is there."""
        found = [json.loads(line)["data"] for line in self._lines]
        return any((data.get("event"), data.get("step")) == (event, step) for data in found)

    def interrupt(self, times: int = 1) -> dict[str, Any]:
        """Press Ctrl-C; gives the last that it said, an error unless it was interrupted at that too."""
        assert self._process.poll() is None, self._lines
        for _ in range(times):
            self._process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert self._process.stdout is not None
        with self._process.stdout as out:
            assert out.read() == ""
        self._reader.join(SECONDS)
        assert self._process.wait(SECONDS) == 130, self._lines
        assert self._process.stderr is not None
        self._process.stderr.close()
        records = [json.loads(line) for line in self._lines]  # whatever it said is JSON: no traceback
        last: dict[str, Any] = records[-1]["data"]
        return last

    def left(self) -> list[str]:
        """Processes that it started and that still run, without the device's own agent, which is meant to stay."""
        found: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                pid = int(entry.name)
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if f"{MARK}={self._mark}".encode() in (entry / "environ").read_bytes() and words:
                    found[pid] = parent, words
        agents = {pid for pid, (_, words) in found.items() if " supervise " in words}
        return [words for pid, (parent, words) in found.items() if pid not in agents and parent not in agents]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose sim serves release 1."""
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        x, labels = samples(400)
        np.savez_compressed(folder / "calibration.npz", image=x[:100])
        np.savez_compressed(folder / "evaluation.npz", image=x[100:], labels=labels[100:])
        tiny_tflite(folder / "tiny.tflite", precision="float32")
        run("init", "--name", "tiny")
        run("push", "--no-bench", "-l", "name=sim")
        yield folder
    finally:
        run("agent", "uninstall", "-l", "name=sim", "--yes")
        run("lab", "down")
        os.chdir(before)


def served(device: str) -> int:
    """The release that a device serves, after it answered rightly."""
    answers = run_json("infer", "infer", device, "--data", "evaluation.npz", "--n", "3")
    assert [answer["predicted"] for answer in answers] == [answer["label"] for answer in answers]
    (status,) = run_json("agent.status", "agent", "status", "-l", f"name={device}")
    counter: int = status["status"]["counter"]
    return counter


def newest() -> int:
    """The newest release of the project."""
    found: list[dict[str, Any]] = run_json("release.list", "release", "list")
    return max(int(release["counter"]) for release in found)


@pytest.mark.parametrize(
    ("event", "step", "times"),
    [
        ("started", "convert", 1), ("finished", "convert", 1), ("started", "check", 3), ("started", "fit", 1),
        ("started", "deploy", 1),
    ],
)  # fmt: skip
def test_at_every_stage_of_a_push(project: Path, event: str, step: str, times: int) -> None:
    old = served("sim")
    shutil.rmtree(project / ".edgeship" / "variants")  # so that there is something to convert
    push = Push("-l", "name=sim")
    until(lambda: push.reached(event, step), f"{step} was not {event}")

    error = push.interrupt(times)

    assert times > 1 or (error["kind"], error["exit_code"]) == ("Interrupted", 130)
    until(lambda: not push.left(), f"left running: {push.left()}")
    assert served("sim") in (old, newest())
    assert run_json("push", "push", "-l", "name=sim", "--skip-check", "--no-bench")["counter"] == served("sim")


def says(log: Path, word: str) -> int:
    """How often a device's log says a word."""
    return sum(path.read_text().count(word) for path in log.glob("*.log*")) if log.is_dir() else 0


@pytest.mark.parametrize("stage", ["verify:", "start:", "probe:"])
def test_while_the_device_switches(project: Path, stage: str) -> None:
    """The device finishes by itself what was asked for, or keeps the old release."""
    old, log = served("sim"), project / ".edgeship" / "sim" / "log"
    before = says(log, stage)
    push = Push("-l", "name=sim", "--skip-check")
    until(lambda: says(log, stage) > before, f"{stage} was not reached")

    assert push.interrupt()["message"] == "interrupted; 0 of 1 devices were done"

    until(lambda: not push.left(), f"left running: {push.left()}")
    assert served("sim") in (old, newest())
    assert run_json("push", "push", "-l", "name=sim", "--skip-check", "--no-bench")["counter"] == served("sim")


@pytest.mark.ssh
def test_over_ssh_a_first_push_is_taken_up_by_the_next(project: Path) -> None:
    run("lab", "up", "pi=raspberry-pi-5")
    push = Push("-l", "name=pi", "--skip-check")
    until(lambda: push.reached("progress", "deploy"), "nothing was sent")

    push.interrupt()

    until(lambda: not push.left(), f"left running: {push.left()}")
    assert run_json("push", "push", "-l", "name=pi", "--skip-check", "--no-bench")["counter"] == served("pi")
