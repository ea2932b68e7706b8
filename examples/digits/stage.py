"""What the demo stands on: commands shown as typed, checks that end it, a prober, and nothing left running.

Standard library only, so that what the demo sees of a device is what any client sees.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

COMMAND_SECONDS = 280.0
BIN = Path(sys.executable).parent


class Deviation(Exception):
    """Something was not as the demo says it must be."""


@dataclass
class Stage:
    """One run of the demo: its project folder, what was measured, when it began."""

    folder: Path
    figures: dict[str, str] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)  # answered so far, by device
    began: float = field(default_factory=time.monotonic)

    @property
    def environment(self) -> dict[str, str]:
        """Of every command: nobody's settings, the tools of this environment first, no colours in a log."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGESHIP_") and k != "FORCE_COLOR"}
        return {
            **kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8", "TF_CPP_MIN_LOG_LEVEL": "3", "VIRTUAL_ENV": str(BIN.parent),
        }  # fmt: skip

    def asked(self, device: str, count: int) -> None:
        """Remember how many requests a device answered."""
        self.requests[device] += count

    def title(self, text: str) -> None:
        """A heading."""
        passed = time.monotonic() - self.began
        print(f"\n━━ {text} {'━' * max(2, 92 - len(text))} {passed:5.0f} s", flush=True)

    def say(self, text: str) -> None:
        """A remark that is no output of a command."""
        print(f"   {text}", flush=True)

    def check(self, holds: bool, text: str) -> None:
        """Say that something was checked. Raises Deviation when it does not hold."""
        if not holds:
            raise Deviation(f"does not hold: {text}")
        print(f"   ✔ {text}", flush=True)

    def run(self, line: str, *, code: int = 0) -> str:
        """Run a command as a user would type it, show it and all that it prints.

        Args:
            line: the command; split as a shell does, run without one.
            code: the exit code that it must end with.

        Returns:
            what it printed, standard error included.

        Raises:
            Deviation: another exit code, or no end in time.
        """
        print(f"\n$ {line}", flush=True)
        argv = shlex.split(line)
        said: list[str] = []
        with subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        ) as process:  # fmt: skip
            timer = threading.Timer(COMMAND_SECONDS, process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                for text in process.stdout:
                    said.append(text)
                    print(f"  {text}", end="", flush=True)
                if said and not said[-1].endswith("\n"):
                    print(flush=True)
                got = process.wait()
            finally:
                timer.cancel()
                if process.poll() is None:
                    process.terminate()
        if got != code:
            raise Deviation(f"'{line}' ended with exit code {got}, {code} was expected")
        if code:
            self.check(True, f"exit code {code}")
        return "".join(said)

    def quietly(self, line: str) -> None:
        """Run a command unseen, however it ends: for tidying up."""
        subprocess.run(
            shlex.split(line), cwd=self.folder, env=self.environment, capture_output=True, check=False, timeout=60
        )

    def ask(self, *argv: str) -> Any:
        """What a command says with `--json`, unseen: for the demo's own checks. Raises Deviation."""
        done = subprocess.run(
            [*argv, "--json"], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Deviation(f"'{shlex.join(argv)} --json' ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout)["data"]


# ── asking devices as any client does ────────────────────────────────────────────────────────────────────────────────


def post(url: str, body: bytes, seconds: float = 10.0) -> dict[str, Any]:
    """POST JSON and read JSON. Raises OSError (urllib's errors are that), ValueError."""
    # the URLs are the demo's own: http on this machine
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
        out: dict[str, Any] = json.load(answer)
        return out


def infer_body(samples: Sequence[float], name: str, shape: Sequence[int]) -> bytes:
    """A request of the Open Inference Protocol v2 with one FP32 tensor."""
    tensor = {"name": name, "shape": list(shape), "datatype": "FP32", "data": [round(float(v), 5) for v in samples]}
    return json.dumps({"inputs": [tensor]}).encode()


class Prober:
    """Asks every device again and again, and counts who did not answer: the proof that serving never stopped."""

    def __init__(self, ports: Mapping[str, int], model: str, body: bytes, pause: float = 0.2) -> None:
        self._urls = {name: f"http://127.0.0.1:{port}/v2/models/{model}/infer" for name, port in ports.items()}
        self._body, self._pause = body, pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._probe, args=(name,), daemon=True) for name in self._urls]
        self.answered: Counter[str] = Counter()
        self.versions: dict[str, list[str]] = {name: [] for name in self._urls}
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    @property
    def total(self) -> int:
        """Answers of all devices."""
        return sum(self.answered.values())

    def _probe(self, name: str) -> None:
        seen = self.versions[name]
        while not self._stop.is_set():
            try:
                version = str(post(self._urls[name], self._body).get("model_version"))
            except (OSError, ValueError) as error:
                self.failures.append(f"{name}: {error}")
            else:
                self.answered[name] += 1
                if not seen or seen[-1] != version:
                    seen.append(version)
            self._stop.wait(self._pause)


def until(what: str, holds: Any, *, seconds: float = 30.0, every: float = 0.1) -> float:
    """Wait for something; returns how long it took. Raises Deviation when it does not come."""
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except (OSError, ValueError):
            pass
        if time.monotonic() - began > seconds:
            raise Deviation(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def get(url: str, seconds: float = 10.0) -> tuple[int, str]:
    """GET a page: (status, text). Raises OSError."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 - as above
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


# ── nothing left running ─────────────────────────────────────────────────────────────────────────────────────────────


def left_running(folder: Path) -> dict[int, str]:
    """Processes that belong to a project folder, by what they were started with: process id -> command line."""
    mark = str(folder).encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            working = os.readlink(entry / "cwd")
        except OSError:
            continue
        if mark in command or working.startswith(str(folder)):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return found


def end(pids: Sequence[int]) -> None:
    """End processes that `left_running` found."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
