"""Steps run in a limited child: every way to fail is an ordinary error that names the file."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import child
from edgeship.errors import ConversionError, EdgeshipError, InputError, UsageError

STEP = "tests.simulators.steps"
QUICK = child.Limits(seconds=60.0, cpu_seconds=60)


def run(folder: Path, limits: child.Limits = QUICK, **request: Any) -> dict[str, Any]:
    return child.run(STEP, request, folder, limits=limits, subject="a.keras")


def told(path: Path) -> int:
    """The process that a child writes down, once it has."""
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.01)
    return int(path.read_text())


def gone(pid: int) -> bool:
    """Whether a process ends; whose parent is gone is reaped by init, in its own time."""
    end = time.monotonic() + 60
    while _state(pid) != "Z" and time.monotonic() < end:
        time.sleep(0.01)
    return _state(pid) == "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a step runs from when it has written down its process: a busy machine may start it late."""
    wait = subprocess.Popen.wait

    def later(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is not None:
            told(tmp_path / "pid")
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", later)


def test_a_result_comes_back_and_nothing_heavy_was_imported(tmp_path: Path) -> None:
    result = run(tmp_path, do="answer", value={"a": [1, 2]})
    assert result["echo"] == {"a": [1, 2]}
    assert result["cwd"] == result["folder"] == str(tmp_path)
    assert not {"tensorflow", "numpy", "onnx"} & set(result["modules"])


def test_the_limits_hold_in_the_child_and_not_here(tmp_path: Path) -> None:
    limits = child.Limits(cpu_seconds=7, memory=1 << 33, file=1 << 24, files=99)
    assert run(tmp_path, limits, do="limits") == {
        "RLIMIT_AS": 1 << 33, "RLIMIT_CPU": 7, "RLIMIT_FSIZE": 1 << 24, "RLIMIT_NOFILE": 99, "RLIMIT_CORE": 0,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [InputError, ConversionError, UsageError])
def test_an_error_of_the_step_keeps_its_class_and_hint(tmp_path: Path, kind: type[EdgeshipError]) -> None:
    with pytest.raises(kind, match=r"a\.keras: it is wrong") as caught:
        run(tmp_path, do="raise", kind=kind.__name__, arguments=["it is wrong"], keywords={"hint": "do this"})
    assert type(caught.value) is kind
    assert caught.value.hint == "do this"


def test_a_foreign_exception_is_a_conversion_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"KeyError.*'140_scale'"):
        run(tmp_path, do="raise", kind="KeyError", arguments=["140_scale"])


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT"), (signal.SIGKILL, "SIGKILL")],
)
def test_death_by_a_signal_is_an_ordinary_error_with_the_last_lines(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(ConversionError, match=words) as caught:
        run(tmp_path, do="die", signal=int(number))
    assert "one line" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    if number == signal.SIGKILL:
        assert "memory" in str(caught.value.hint)


def test_a_signal_without_a_name_is_named_by_number(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=f"signal {signal.SIGRTMIN + 3}"):
        run(tmp_path, do="die", signal=int(signal.SIGRTMIN) + 3)


def test_a_reader_that_dies_is_an_input_error(tmp_path: Path) -> None:
    request = {"do": "die", "signal": int(signal.SIGSEGV)}
    with pytest.raises(InputError, match="SIGSEGV"):
        child.run(STEP, request, tmp_path, limits=QUICK, subject="a.onnx", failure=InputError)


@pytest.mark.usefixtures("begun")
def test_a_child_that_hangs_is_stopped_and_gone(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="did not end within 1 s"):
        run(tmp_path, replace(QUICK, seconds=1.0), do="hang")
    with pytest.raises(ProcessLookupError):
        os.kill(told(tmp_path / "pid"), 0)


def test_an_interrupt_stops_the_child(tmp_path: Path) -> None:
    def interrupt() -> None:
        told(tmp_path / "pid")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, do="hang")
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(told(tmp_path / "pid"), 0)


def test_an_interrupt_that_comes_as_the_child_ends_is_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Popen.wait` gives a child a quarter of a second after Ctrl-C, and may find it ended: nothing is there to end."""
    wait = subprocess.Popen.wait

    def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        code = wait(process, timeout)
        if timeout is not None:
            raise KeyboardInterrupt
        return code

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, do="exit")


def test_a_child_that_burns_processor_time_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="more than 1 s of processor time"):
        run(tmp_path, replace(QUICK, cpu_seconds=1), do="burn")


def test_too_much_memory_is_refused_with_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="more memory than its limit of 1024 MB"):
        run(tmp_path, replace(QUICK, memory=1 << 30), do="eat", bytes=1 << 31)


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="File too large"):
        run(tmp_path, replace(QUICK, file=1 << 24), do="write", bytes=1 << 25)


def test_a_full_disk_says_which_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=f"no space left on the disk of {tmp_path}") as caught:
        run(tmp_path, do="raise", kind="OSError", arguments=[errno.ENOSPC, "No space left on device", "a.bin"])
    assert "TMPDIR" in str(caught.value.hint)
    with pytest.raises(ConversionError, match=r"FileNotFoundError.*a\.bin"):
        run(tmp_path, do="raise", kind="OSError", arguments=[errno.ENOENT, "No such file", "a.bin"])


@pytest.mark.parametrize("do", ["exit", "nan"])
def test_no_answer_is_an_error(tmp_path: Path, do: str) -> None:
    with pytest.raises(ConversionError, match="without an answer"):
        run(tmp_path, do=do)


@pytest.mark.parametrize("answer", [b"", b"{", b'{"ok": true}', b'{"ok": false, "error": "text"}', b"[]"])
def test_a_forged_answer_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "response.json").write_bytes(answer)
    with pytest.raises(ConversionError, match="without an answer"):
        run(tmp_path, do="exit")


@pytest.mark.parametrize("what", ["process", "session", "thread"])
def test_what_a_step_leaves_running_ends_with_its_answer(tmp_path: Path, what: str) -> None:
    result = run(tmp_path, do="leave", what=what)
    assert gone(result["pid"])


@pytest.mark.usefixtures("begun")
def test_what_left_the_session_of_a_step_that_hangs_ends_too(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    (tmp_path / "script.py").write_text(f"{code}open('pid', 'w').write(str(p.pid)); time.sleep(600)")
    with pytest.raises(ConversionError, match="did not end within 1 s"):
        child.run_script(
            Path(sys.executable), tmp_path / "script.py", {}, tmp_path, limits=replace(QUICK, seconds=1.0), subject="x"
        )
    assert gone(told(tmp_path / "pid"))


def test_the_user_may_set_how_long_a_step_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_STEP_LIMIT", "1s")
    with pytest.raises(ConversionError, match="did not end within 1 s") as caught:
        run(tmp_path, do="hang")
    assert "EDGESHIP_STEP_LIMIT=2h in the environment allows more time" in str(caught.value.hint)
    given = child.Limits(seconds=600.0, cpu_seconds=1200, once=300.0)
    assert child.asked_for(given, {}) == given
    assert child.asked_for(given, {"EDGESHIP_STEP_LIMIT": ""}) == given
    assert child.asked_for(given, {"EDGESHIP_STEP_LIMIT": "2h"}) == replace(
        given, seconds=7200.0, cpu_seconds=14400, once=7200.0
    )
    assert child.asked_for(given, {"EDGESHIP_STEP_LIMIT": "1m"}).cpu_seconds == 120


@pytest.mark.parametrize("text", ["10", "soon", "0s", "9000h"])
def test_a_limit_that_is_no_time_is_a_matter_of_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("EDGESHIP_STEP_LIMIT", text)
    with pytest.raises(UsageError, match=rf"\$EDGESHIP_STEP_LIMIT '{text}' must be ") as caught:
        run(tmp_path, do="answer", value=1)
    assert caught.value.hint == "such as EDGESHIP_STEP_LIMIT=2h, or unset it"


def test_one_thing_that_takes_too_long_ends_the_step_with_its_name(tmp_path: Path) -> None:
    limits = replace(QUICK, once=0.3)
    assert run(tmp_path, limits, do="late", sleeps=0.0) == {}
    with pytest.raises(ConversionError, match=r"steps was stopped: a nap took more than 0 s") as caught:
        run(tmp_path, limits, do="late", sleeps=30.0)
    assert "EDGESHIP_STEP_LIMIT" in str(caught.value.hint)
    with pytest.raises(ConversionError, match="a nap took more than 1 s"):
        run(tmp_path, QUICK, do="late", sleeps=30.0, seconds=0.6)


def test_what_the_user_set_goes_before_the_time_of_one_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_STEP_LIMIT", "30s")
    assert run(tmp_path, replace(QUICK, once=0.1), do="late", sleeps=0.3, seconds=0.1) == {}


def test_in_no_child_a_deadline_does_nothing(tmp_path: Path) -> None:
    """A timer of whoever called goes on."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with child.Deadline(tmp_path, "a nap", 0.01):
            time.sleep(0.05)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_an_exit_that_a_step_raises_is_an_error_with_its_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConversionError, match=f"{kind}: 0"):
        run(tmp_path, do="raise", kind=kind, arguments=[0])


def test_a_child_whose_parent_is_gone_does_nothing(tmp_path: Path) -> None:
    """It may die before the child has asked the system to tell it of that."""
    order = {"step": STEP, "limits": asdict(QUICK), "parent": 1 << 30, "request": {"do": "answer", "value": 1}}
    (tmp_path / "request.json").write_text(json.dumps(order))
    argv = [sys.executable, "-c", "import sys; from edgeship.child import main; main(sys.argv[1])", str(tmp_path)]
    assert subprocess.run(argv, check=False).returncode == 1
    assert not (tmp_path / "response.json").exists()


def test_an_unknown_step_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="ModuleNotFoundError"):
        child.run("edgeship.targets.nothing", {}, tmp_path, limits=QUICK, subject="x")


def test_a_workspace_is_removed() -> None:
    with child.workspace() as folder:
        (folder / "file").touch()
    assert not folder.exists()
