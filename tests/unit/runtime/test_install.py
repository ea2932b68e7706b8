"""An install step by step, with a fake verifier and fake workers: the order of things, and the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime import install as module
from edgeship.runtime.children import Worker
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.install import Installer
from edgeship.runtime.layout import Layout
from edgeship.runtime.settings import Settings
from edgeship.runtime.slots import Slot, Slots

VARIANT = {"file": "sha256:" + "1" * 64, "golden": {"file": "sha256:" + "2" * 64}, "precision": "int8"}


class FakeWorker:
    def __init__(self, probe: dict[str, Any]) -> None:
        self.probe, self.stopped = probe, False

    def request(self, op: str, _seconds: float, **_fields: Any) -> dict[str, Any]:
        assert op == "probe"
        if "error" in self.probe:
            raise AgentError(self.probe["error"], "worker")
        return self.probe

    def stop(self) -> int:
        self.stopped = True
        return 0


class Bench:
    """An installer with everything around it faked and every step noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout.of(str(folder / "device"))
        self.disk = FailingDisk()
        for name in self.layout.folders:
            self.disk.mkdir(name)
        Settings(name="device", profile="generic").save(self.layout, self.disk)
        self.slots = Slots(self.layout, self.disk)
        self.steps: list[str] = []
        self.probe: dict[str, Any] = {"passed": True, "agreement": 1.0}
        self.worker: FakeWorker | None = None
        self.current: FakeWorker | None = None
        self.slot: Slot | None = None
        self.answer: bytes | None = None
        self.counter = 1
        monkeypatch.setattr(module, "run", self.verifier)
        self.installer = Installer(
            self.layout,
            self.disk,
            self.slots,
            self,
            app="/agent",
            boot="boot",
            note=lambda kind, _text: self.note(kind),
        )

    def note(self, kind: str) -> None:
        self.steps.append(f"note {kind}")

    def verifier(self, _argv: object, request: bytes, _seconds: float) -> tuple[int, bytes]:
        assert json.loads(request)["profile"] == "generic"
        sha256 = f"{self.counter:064d}"
        Path(self.layout.blob(sha256)).write_bytes(b"{}")
        good = {
            "counter": self.counter, "sha256": sha256, "model": "digits", "variant": VARIANT, "library": "3" * 64,
            "clock_corrected": False,
        }  # fmt: skip
        return -9 if self.answer == b"" else 0, json.dumps(
            {"ok": good}
        ).encode() if self.answer is None else self.answer

    # what install.Traffic asks for

    def start(self, _slot: Slot, _seconds: float) -> Worker:
        assert self.slots.journal.pending
        self.worker = FakeWorker(self.probe)
        return self.worker  # type: ignore[return-value]  # what an install asks of a worker

    def move(self, slot: Slot | None, worker: Worker | None) -> None:
        self.steps.append(f"traffic to {slot.counter if slot else None} {'' if worker else 'in time'}".strip())
        self.slot, self.current = slot, worker  # type: ignore[assignment]

    def serving(self) -> Worker | None:
        return self.current  # type: ignore[return-value]

    def install(self, counter: int) -> dict[str, Any]:
        self.counter = counter
        return self.installer.install(
            "digits/manifest.json", f"{counter:064d}", None, lambda s, _t: self.steps.append(s)
        )

    def link(self) -> str:
        return os.path.basename(os.readlink(self.layout.current)) if os.path.islink(self.layout.current) else ""


class FailingDisk(Disk):
    def __init__(self) -> None:
        self.fails: Callable[[str, str], bool] = lambda _action, _path: False

    def step(self, action: str, path: str) -> None:
        if self.fails(action, path):
            raise OSError(28, "No space left on device")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_order_of_an_install(bench: Bench) -> None:
    answer = bench.install(1)
    assert bench.steps == ["verify", "start", "probe", "switch", "traffic to 1", "note switch"]
    assert (answer["counter"], answer["slot"], answer["probe"]) == (1, "1-" + "0" * 12, bench.probe)
    assert bench.link() == bench.slots.journal.good == "1-" + "0" * 12


def test_a_failed_probe_never_touches_link_and_traffic(bench: Bench) -> None:
    bench.install(1)
    before, bench.steps[:] = bench.link(), []
    for probe, words in (
        ({"passed": False, "reason": "it agrees on 3 of 16"}, "3 of 16"), ({"passed": False}, "the probe failed"),
        ({"error": "the worker died by SIGSEGV"}, "SIGSEGV"),
    ):  # fmt: skip
        bench.probe = probe
        with pytest.raises(AgentError, match=words) as refused:
            bench.install(2)
        assert refused.value.code == "rolled-back"
        assert bench.worker is not None
        assert bench.worker.stopped
    assert bench.link() == before
    assert not [step for step in bench.steps if step.startswith("traffic")]
    assert bench.slots.journal.outcome == "the worker died by SIGSEGV"
    with pytest.raises(AgentError, match="failed 3 times"):
        bench.install(2)


@pytest.mark.parametrize("name", ["/.new-current", "/journal"])
def test_a_disk_that_fails_at_the_end_moves_everything_back(bench: Bench, name: str) -> None:
    bench.install(1)
    before = bench.link()
    seen: list[str] = []

    def fails(action: str, path: str) -> bool:
        if "traffic to 2" in bench.steps or name == "/.new-current":
            seen.extend([path] if path.endswith(name) and action in ("link", "rename") else [])
        return len(seen) == 1

    bench.disk.fails = fails
    with pytest.raises(AgentError) as refused:
        bench.install(2)
    assert refused.value.code == "disk-full"
    assert bench.steps[-2:] == ["traffic to 1 in time", "note revert"]
    again = Slots(bench.layout, Disk())
    again.start()
    assert again.good is not None
    assert again.good.counter == 1
    assert bench.link() == before
    bench.disk.fails = lambda _action, _path: False
    assert bench.install(2)["counter"] == 2


def test_the_good_release_is_only_probed(bench: Bench) -> None:
    bench.install(1)
    bench.steps[:] = []
    assert bench.install(1)["probe"] == bench.probe
    assert bench.steps == ["verify", "probe"]
    bench.current = None  # nothing serves: it is installed again
    assert bench.install(1)["counter"] == 1
    assert bench.slots.journal.previous == ""


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"", "internal", "the verifier died by SIGKILL without an answer"),
        (b"Traceback", "internal", "without an answer"),
        (b'{"error": {"code": "expired", "message": "too old"}}', "expired", "too old"),
        (b'{"error": {"code": "new-code", "message": "hm"}}', "internal", "hm"),
    ],
)
def test_what_the_verifier_says(bench: Bench, answer: bytes, code: str, words: str) -> None:
    bench.answer = answer
    with pytest.raises(AgentError, match=words) as refused:
        bench.install(1)
    assert refused.value.code == code
    assert not bench.installer.lock.locked()


def test_falling_back_and_when_that_fails(bench: Bench) -> None:
    bench.install(1)
    bench.install(2)
    with bench.installer.lock:
        assert bench.installer.fall_back("it crashes") is False
    bench.disk.fails = lambda _action, _path: True
    assert bench.installer.fall_back("it crashes") is False
    bench.disk.fails = lambda _action, _path: False
    bench.steps[:] = []
    assert bench.installer.fall_back("it crashes") is True
    assert bench.steps == ["note revert", "traffic to 1 in time"]
    assert bench.slots.journal.outcome == "it crashes"
    assert bench.installer.fall_back("again") is False
