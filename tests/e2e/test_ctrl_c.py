"""Ctrl-C while `edgeship push` or a search runs, at every stage: exit 130, nothing half done, nothing left running.

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


class Running:
    """`edgeship ARGS --json` as a child process that a test interrupts."""

    def __init__(self, *args: str) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [str(COMMAND), *args, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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
        assert self._process.wait(SECONDS) == 130, "".join(self._lines)
        assert self._process.stderr is not None
        self._process.stderr.close()
        records = [json.loads(line) for line in self._lines]  # whatever it said is JSON: no traceback
        last: dict[str, Any] = records[-1]["data"]
        return last

    def end(self) -> None:
        """Let it come to its end."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.read()
        assert self._process.wait(SECONDS) == 0, "".join(self._lines)
        self._reader.join(SECONDS)
        self._process.stdout.close()
        self._process.stderr.close()

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


def pushing(*args: str) -> Running:
    """`edgeship push`."""
    return Running("push", "--no-bench", *args)


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
    push = pushing("-l", "name=sim")
    until(lambda: push.reached(event, step), f"{step} was not {event}")

    error = push.interrupt(times)

    assert times > 1 or (error["kind"], error["exit_code"]) == ("Interrupted", 130)
    until(lambda: not push.left(), f"left running: {push.left()}")
    assert served("sim") in (old, newest())
    assert run_json("push", "push", "-l", "name=sim", "--skip-check", "--no-bench")["counter"] == served("sim")


class Supervised:
    """The supervisor of the device sim, which a test halts: what is said next in its log is what it is at."""

    def __init__(self, project: Path) -> None:
        (status,) = run_json("agent.status", "agent", "status", "-l", "name=sim")
        self._pid: int = status["status"]["pid"]
        self._log = project / ".edgeship" / "sim" / "log"

    def said(self, word: str) -> int:
        """How often its log says a word."""
        return sum(path.read_text().count(word) for path in self._log.glob("*.log*"))

    def halt_at(self, stage: str) -> bool:
        """Let it run in short turns until it says the stage; it stands still then. Whether it was not over yet."""
        before, good = self.said(stage), self.said(" is good")

        def reached() -> bool:
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(0.003)
            os.kill(self._pid, signal.SIGSTOP)
            return self.said(stage) > before

        until(reached, f"{stage} was not reached")
        return self.said(" is good") == good

    def go_on(self) -> None:
        """Let it run."""
        os.kill(self._pid, signal.SIGCONT)


@pytest.mark.parametrize("stage", ["verify:", "start:", "probe:"])
def test_while_the_device_switches(project: Path, stage: str) -> None:
    """The device finishes by itself what was asked for, or keeps the old release."""
    supervisor = Supervised(project)
    try:
        while True:
            old = served("sim")
            push = pushing("-l", "name=sim", "--skip-check")
            if supervisor.halt_at(stage):
                break
            supervisor.go_on()  # this turn was too long a one: the device was done before it was halted
            push.end()
        assert push.interrupt()["message"] == "interrupted; 0 of 1 devices were done"
    finally:
        supervisor.go_on()

    until(lambda: not push.left(), f"left running: {push.left()}")
    assert served("sim") in (old, newest())
    assert run_json("push", "push", "-l", "name=sim", "--skip-check", "--no-bench")["counter"] == served("sim")


@pytest.mark.parametrize(("event", "step"), [("started", "try"), ("finished", "try")])
def test_while_candidates_of_a_search_are_built_and_others_wait(project: Path, event: str, step: str) -> None:
    """What ends the processes of the pool has nothing to say: the error is the last line, and the others are events."""
    shutil.rmtree(project / ".edgeship" / "variants", ignore_errors=True)
    search = Running(
        "optimize", "tiny.tflite", "--data", "calibration.npz", "--evaluation", "evaluation.npz",
        "--profile", "generic-x86-64", "--jobs", "1",
    )  # fmt: skip
    until(lambda: search.reached(event, step), f"{step} was not {event}")

    error = search.interrupt()

    assert (error["kind"], error["exit_code"]) == ("Interrupted", 130)
    assert error["message"] == "interrupted; what was built, judged or timed is kept"
    until(lambda: not search.left(), f"left running: {search.left()}")


@pytest.mark.ssh
def test_over_ssh_a_first_push_is_taken_up_by_the_next(project: Path) -> None:
    run("lab", "up", "pi=raspberry-pi-5")
    push = pushing("-l", "name=pi", "--skip-check")
    until(lambda: push.reached("progress", "deploy"), "nothing was sent")

    push.interrupt()

    until(lambda: not push.left(), f"left running: {push.left()}")
    assert run_json("push", "push", "-l", "name=pi", "--skip-check", "--no-bench")["counter"] == served("pi")
