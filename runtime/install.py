"""Installing a release: verify → pending → start → probe → link → traffic → good, or back.

One step after the other in the thread that asks; the supervisor's loop keeps serving meanwhile. Rules kept here:

* Before the journal says "pending" nothing but staged files is on the disk; before the link moves nothing is served.
* A failed probe never touches the link. Whatever fails after it moves link and traffic back.
* The journal's "good" is written last; a start that finds "pending" serves the slot that was good before.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edgeship.runtime import disk as disks
from edgeship.runtime import slots as rules
from edgeship.runtime.children import Worker, agent_argv, describe, run
from edgeship.runtime.errors import CODES, AgentError, ProtocolError
from edgeship.runtime.facts import own_arch
from edgeship.runtime.layout import Layout
from edgeship.runtime.settings import Settings
from edgeship.runtime.slots import Slot, Slots
from edgeship.runtime.wire import MAX_JSON, parse_object

VERIFY_SECONDS = 300.0  # python-tuf in pure Python and a rehash of every blob on the slowest board

Report = Callable[[str, str], None]  # (stage, text for people)


class Traffic(Protocol):
    """What an install asks of the supervisor; callable from any thread."""

    def start(self, slot: Slot, seconds: float) -> Worker:
        """A new worker with the slot's model loaded. Raises AgentError."""
        ...

    def move(self, slot: Slot | None, worker: Worker | None) -> None:
        """Serve this slot by this worker; without a worker one is started in time."""
        ...

    def serving(self) -> Worker | None:
        """The worker that serves now."""
        ...


class Installer:
    """Runs one install at a time.

    Args:
        app: path of this agent's zipapp.
        boot: the kernel's boot id.
        note: takes (kind, text) of what should be in log and telemetry.
    """

    def __init__(
        self, layout: Layout, disk: disks.Disk, slots: Slots, traffic: Traffic, *,
        app: str, boot: str, note: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._layout, self._disk, self._slots, self._traffic = layout, disk, slots, traffic
        self._app, self._boot, self._note = app, boot, note
        self.lock = threading.Lock()

    def install(self, target: str, sha256: str, host_clock: float | None, report: Report) -> dict[str, Any]:
        """Install the staged release.

        Returns:
            {"slot", "counter", "model", "probe", "seconds", "clock_corrected"}.

        Raises:
            AgentError: "busy"; what the verifier says; "rolled-back" when the probe fails; "disk-full", "disk-error".
        """
        if not self.lock.acquire(blocking=False):
            raise AgentError("another install is under way on this device", "busy")
        try:
            begun = time.monotonic()
            settings = Settings.load(self._layout)
            slot, corrected = self._verified(target, sha256, host_clock, settings, report)
            probe = self._try(slot, settings, report)
            return {
                "slot": slot.name, "counter": slot.counter, "model": slot.model, "probe": probe,
                "seconds": time.monotonic() - begun, "clock_corrected": corrected,
            }  # fmt: skip
        finally:
            self.lock.release()

    def trial(
        self, target: str, sha256: str, host_clock: float | None, report: Report, bench: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:  # fmt: skip
        """Time the staged release in a worker beside the one that serves. Nothing is installed, nothing is switched.

        `bench` are the fields of the worker's "bench", which may take so many `seconds`; the rest is as of `install`.

        Returns:
            {"counter", "model", "probe", "bench"}.

        Raises:
            AgentError: "busy"; what the verifier says; "worker" when the model does not run.
        """
        if not self.lock.acquire(blocking=False):
            raise AgentError("another install is under way on this device", "busy")
        try:
            settings = Settings.load(self._layout)
            slot, _ = self._verified(target, sha256, host_clock, settings, report)
            report("start", f"starting release {slot.counter} of {slot.model} on trial")
            worker = self._traffic.start(slot, settings.probe_seconds)
            try:
                probe = worker.request("probe", settings.probe_seconds)
                report("bench", "timing it")
                measured = worker.request("bench", seconds, **bench)
            finally:
                worker.stop()
            return {"counter": slot.counter, "model": slot.model, "probe": probe, "bench": measured}
        finally:
            self.lock.release()

    def _verified(
        self, target: str, sha256: str, host_clock: float | None, settings: Settings, report: Report
    ) -> tuple[Slot, bool]:  # fmt: skip
        """The staged release as a slot, and whether the clock was corrected to judge it."""
        if not settings.profile:
            raise AgentError("this device is not enrolled yet", "not-enrolled")
        report("verify", "checking signatures and hashes")
        verified = self._verify(target, sha256, host_clock, settings)
        keys = ("counter", "sha256", "model", "variant", "library")
        return Slot(**{key: verified[key] for key in keys}), bool(verified["clock_corrected"])

    def _verify(self, target: str, sha256: str, host_clock: float | None, settings: Settings) -> dict[str, Any]:
        """Let a child with python-tuf verify what is staged."""
        arch = own_arch(settings.arch)
        question = {
            "target": target, "sha256": sha256, "profile": settings.profile, "arch": arch, "host_clock": host_clock,
        }  # fmt: skip
        argv = agent_argv(self._app, "verify", "--root", self._layout.root)
        code, out = run(argv, json.dumps(question).encode(), VERIFY_SECONDS)
        try:
            answer = parse_object(out)
        except ProtocolError as error:
            raise AgentError(f"the verifier {describe(code)} without an answer") from error
        if "ok" in answer:
            result: dict[str, Any] = answer["ok"]
            return result
        failure = answer.get("error", {})
        known = failure.get("code") in CODES
        raise AgentError(str(failure.get("message")), failure["code"] if known else "internal")

    def _try(self, slot: Slot, settings: Settings, report: Report) -> dict[str, Any]:
        """From a verified release to a good one; returns what the probe found."""
        fresh = rules.admit(self._slots.journal, slot.counter, slot.sha256, self._boot)
        serving = self._traffic.serving()
        if not fresh and serving is not None:
            report("probe", f"release {slot.counter} is installed already")
            return serving.request("probe", settings.probe_seconds)
        manifest = disks.read(self._layout.blob(slot.sha256), MAX_JSON) or b""
        self._slots.prepare(slot, manifest)
        self._slots.save(rules.begin(self._slots.journal, slot.counter, slot.sha256, self._boot))
        worker = None
        try:
            report("start", f"starting release {slot.counter} of {slot.model}")
            worker = self._traffic.start(slot, settings.probe_seconds)
            report("probe", "comparing golden samples with the source model's answers")
            probe = worker.request("probe", settings.probe_seconds)
            if not probe.get("passed"):
                raise AgentError(str(probe.get("reason") or "the probe failed"), "rolled-back")
            report("switch", f"release {slot.counter} takes over")
            self._switch(slot, worker)
        except AgentError as error:
            if worker is not None:
                worker.stop()
            self._give_up(slot, error)
            raise AgentError(str(error), error.code if error.code.startswith("disk") else "rolled-back") from error
        self._note("switch", f"release {slot.counter} of {slot.model} is good")
        return probe

    def _switch(self, slot: Slot, worker: Worker) -> None:
        before = self._slots.good
        try:
            self._slots.point(slot.name)
            self._traffic.move(slot, worker)
            self._slots.save(rules.commit(self._slots.journal))
        except AgentError:
            self._traffic.move(before, None)
            raise

    def _give_up(self, slot: Slot, error: AgentError) -> None:
        """Back to the good slot on the disk; a disk that refuses that is settled by the next start."""
        journal = rules.revert(self._slots.journal, str(error))
        self._note("revert", f"release {slot.counter} of {slot.model} was given up: {error}")
        try:
            self._slots.point(journal.good)
            self._slots.save(journal)
        except AgentError:
            self._slots.journal = journal

    def fall_back(self, reason: str) -> bool:
        """Go back to the slot that was good before, when there is one and no install is under way."""
        if not self._slots.journal.previous or not self.lock.acquire(blocking=False):
            return False
        try:
            self._slots.save(rules.fall_back(self._slots.journal, reason))
            self._slots.point(self._slots.journal.good)
            self._note("revert", reason)
            self._traffic.move(self._slots.good, None)
            return True
        except AgentError as error:
            self._note("revert", f"cannot go back: {error}")
            return False
        finally:
            self.lock.release()
