"""Children get what they are given and nothing else; whatever they do, the parent gets an answer in time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from edgeship.runtime.children import Worker, describe, run, spawn
from edgeship.runtime.errors import AgentError

#: A worker that echoes: each request's "text" comes back, or it misbehaves as told.
FAKE = """
import json, os, socket, struct, sys, time
control = socket.socket(fileno=int(sys.argv[2]))
def read(n):
    data = b""
    while len(data) < n:
        part = control.recv(n - len(data))
        if not part: sys.exit(0)
        data += part
    return data
while True:
    kind, size = struct.unpack(">cI", read(5))
    request = json.loads(read(size))
    what = request["op"]
    if what == "die": os.kill(os.getpid(), 11)
    if what == "exit": sys.exit(3)
    if what == "hang": time.sleep(60)
    answer = {"id": request["id"], "ok": True, "result": {"text": request.get("text")}}
    if what == "refuse": answer = {"id": 1, "ok": False, "error": {"code": request["code"], "message": "no"}}
    body = json.dumps(answer).encode()
    if what == "garbage": body = b"{" * 10
    control.sendall(struct.pack(">cI", b"J", len(body)) + body)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return Worker([sys.executable, "-I", str(script)])


def end(worker: Worker) -> int:
    code = worker.stop()
    worker.stop()
    os.close(worker.stderr)
    worker.serve.close()
    return code


def test_a_worker_answers_and_ends_when_its_control_closes(worker: Worker) -> None:
    assert worker.request("echo", 30, text="hello") == {"text": "hello"}
    assert worker.request("echo", 30) == {"text": None}
    assert end(worker) == 0


@pytest.mark.parametrize(
    ("op", "code", "words"),
    [("die", -11, "died by SIGSEGV"), ("exit", 3, "ended with status 3")],
)
def test_a_death_is_an_error_with_its_cause(worker: Worker, op: str, code: int, words: str) -> None:
    with pytest.raises(AgentError, match=words) as failed:
        worker.request(op, 30)
    assert failed.value.code == "worker"
    with pytest.raises(AgentError):
        worker.request("echo", 30)
    assert end(worker) == code


def test_a_hanging_worker_is_ended(worker: Worker) -> None:
    with pytest.raises(AgentError, match="did not answer 'hang' within 0 s"):
        worker.request("hang", 0.3)
    assert end(worker) == -signal.SIGKILL


def test_nonsense_from_a_worker(worker: Worker) -> None:
    with pytest.raises(AgentError) as failed:
        worker.request("garbage", 30)
    assert failed.value.code == "worker"
    end(worker)


@pytest.mark.parametrize(("code", "mapped"), [("engine", "engine"), ("no-such", "worker"), (7, "worker")])
def test_a_refusal_keeps_its_code(worker: Worker, code: object, mapped: str) -> None:
    with pytest.raises(AgentError, match="no") as failed:
        worker.request("refuse", 30, code=code)
    assert failed.value.code == mapped
    assert end(worker) == 0


def test_one_request_at_a_time(worker: Worker) -> None:
    with worker._lock, pytest.raises(AgentError) as busy:
        worker.request("echo", 30)
    assert busy.value.code == "busy"
    end(worker)


def test_waiting_too_long_kills(worker: Worker) -> None:
    assert worker.request("echo", 30) == {"text": None}
    assert worker.wait(0.05) == -signal.SIGKILL
    end(worker)


def test_a_child_inherits_only_what_it_is_given() -> None:
    """Python opens everything with O_CLOEXEC; only what this test's own parent left open goes through."""
    left_open = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            left_open |= {int(name)} if os.get_inheritable(int(name)) else set()
    with socket.socket(), open("/dev/null", "rb"):
        show = "import os; print(*os.listdir('/proc/self/fd'))"
        code, out = run([sys.executable, "-I", "-c", show], b"", 30)
    assert code == 0
    assert len({int(fd) for fd in out.split()} - left_open - {0, 1, 2}) == 1, out  # the listing itself


def test_input_and_output_of_a_run() -> None:
    argv = [sys.executable, "-I", "-c", "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(5)"]
    assert run(argv, b"words", 30) == (5, b"WORDS")


def test_a_run_that_takes_too_long_or_says_too_much() -> None:
    with pytest.raises(AgentError, match="did not end within"):
        run([sys.executable, "-I", "-c", "import time; time.sleep(60)"], b"", 0.2)
    with pytest.raises(AgentError, match="said more than"):
        run([sys.executable, "-I", "-c", "print('x' * 3_000_000)"], b"", 30)


def test_a_program_that_is_not_there() -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AgentError, match="cannot start"):
        run(["/no/such/program", "-I", "x", "y"], b"", 1)
    with pytest.raises(AgentError, match="cannot start"):
        Worker(["/no/such/program"])
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_session_of_its_own(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_bytes(b"")
    show = "import os,sys; sys.stdout.write(f'{os.getpid()} {os.getsid(0)}')"
    pid = spawn([sys.executable, "-I", "-c", show], {1: str(told)}, session=True)
    assert os.waitpid(pid, 0)[1] == 0
    assert told.read_text() == f"{pid} {pid}"


def test_exit_codes_in_words() -> None:
    assert describe(0) == "ended with status 0"
    assert describe(-9) == "died by SIGKILL"
    assert describe(-63).startswith("died by ")
    assert describe(-200) == "died by signal 200"
