"""Times candidates on a device: each is signed as a trial, sent, and timed beside what the device serves.

A device runs nothing unsigned, so a candidate becomes a release of its own name (`trial_of`); only the last one stays
in the signed metadata, and nothing is switched on the device. So searches of one project take turns from signing to
timing; a device that a push works on is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from edgeship import libraries
from edgeship.bench import protocol
from edgeship.bench.device import place_of
from edgeship.bench.protocol import Subject
from edgeship.bench.record import Conditions, Identity, Software
from edgeship.dataset import Dataset
from edgeship.deploy import perform
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.errors import DeviceError
from edgeship.model import ModelFacts
from edgeship.optimize import golden
from edgeship.optimize.search.latency import OPTIONS, Latency
from edgeship.profile import Profile
from edgeship.release import durable
from edgeship.release.build import Draft, DraftVariant, PublishedRelease, publish
from edgeship.release.repository import Repository, trial_of
from edgeship.reporter import Reporter
from edgeship.targets import cache
from edgeship.targets.base import Variant

_BENCH = asdict(OPTIONS)
_BUSY = 60.0  # seconds that another push to the device is waited for
_CLEARING = 10.0  # the same at the end of a search, or after Ctrl-C
_PAUSE = 1.0  # seconds between two tries
_SIGNED = 3  # tries where a push signed newer metadata between signing and sending

T = TypeVar("T")


@dataclass(frozen=True)
class Fleet:
    """What it takes to reach a device: the project's name, its releases, the agent's settings, the device."""

    project: str
    repository: Repository
    settings: Settings
    device: Device
    profile: Profile


class OnDevice:
    """A stopwatch on a device.

    Args:
        fleet: how to reach it.
        source: the model that the variants were made from.
        samples: evaluation data: golden samples, which are also the inputs that are timed, come from it.
        folder: the cache; a measurement is kept under the device's name and host key.
        reporter: is told of what is sent.
    """

    def __init__(
        self, fleet: Fleet, source: ModelFacts, samples: Dataset, folder: Path, reporter: Reporter
    ) -> None:  # fmt: skip
        self._fleet, self._source, self._samples, self._folder = fleet, source, samples, folder
        self._reporter = reporter
        self._agent = Agent.own()
        self._used = False
        self.reached = False  # whether a trial came back from it

    @property
    def place(self) -> str:
        """The device's name."""
        return self._fleet.device.name

    def refuses(self, variant: Variant) -> str | None:
        """Why this variant cannot be timed there: the profile has no runtime library for its format."""
        if variant.format in self._fleet.profile.build.runtime:
            return None
        return f"profile {self._fleet.profile.name} has no runtime library for {variant.format}"

    def time(self, variant: Variant) -> Latency:
        """Measure it, or take what was measured. Raises DeviceError, AuthError, UnreachableError, UnfitError."""
        device, threads = self._fleet.device, self._fleet.profile.build.threads
        runtime = self._fleet.profile.build.runtime[variant.format]
        key = cache.key_of(
            "latency-on-device/2", variant.sha256, self._samples.inputs_sha256, runtime, self._agent.sha256, threads,
            _BENCH, device.name, device.host_key or "local",
        )  # fmt: skip
        facts = cache.keep(self._folder, key, lambda _place: self._measure(variant, runtime, threads).encode()).facts
        low, high = facts["interval_us"]
        return Latency(**{**facts, "interval_us": (float(low), float(high))})

    def close(self) -> None:
        """Remove from the device what was sent for trials; where that fails it is said, the search has its result."""
        if not self._used:
            return
        self._used = False
        try:
            self._waited(lambda: perform.clear(self._fleet.device, self._fleet.profile, Reporter()), _CLEARING)
        except DeviceError as error:
            self._reporter.note(f"what was sent for trials may still be there: {error}")

    def _measure(self, variant: Variant, runtime: str, threads: int) -> Latency:
        fleet = self._fleet
        arch = fleet.device.arch or fleet.profile.hardware.arch
        samples = golden.make(self._source, variant, self._samples, verdict=None, threads=threads)
        library = libraries.fetch(runtime, arch, reporter=self._reporter)
        draft = DraftVariant(variant, samples, [library], [fleet.device.profile], threads, task="other")
        answer, facts = self._tried(Draft(trial_of(fleet.project), [draft]))
        subject = self._subject(variant, facts, library.name, threads)
        return Latency.of(protocol.measure(_answers(answer), subject, OPTIONS, Conditions))

    def _tried(self, draft: Draft) -> tuple[Mapping[str, Any], Facts]:
        """Sign, send and time. Only one search at a time: each signs away what the one before it signed."""
        fleet = self._fleet
        with durable.exclusive(fleet.repository.folder / "trial.lock"):
            for tries in range(1, _SIGNED + 1):
                release = publish(fleet.repository, draft, skipped=True, approved_by="optimize")
                self._used = True
                try:
                    answer = self._waited(partial(self._trial, release), _BUSY)
                    self.reached = True
                    return answer
                except DeviceError as error:
                    if error.code != "untrusted" or tries == _SIGNED:
                        raise
        raise AssertionError

    def _trial(self, release: PublishedRelease) -> tuple[Mapping[str, Any], Facts]:
        fleet = self._fleet
        return perform.trial(
            fleet.device, fleet.profile, release, fleet.repository, fleet.settings, _BENCH, self._reporter,
            agent=self._agent,
        )  # fmt: skip

    def _waited(self, work: Callable[[], T], seconds: float) -> T:
        """Do it, again and again for so long as another host's work keeps the device busy."""
        until = time.monotonic() + seconds
        told = False
        while True:
            try:
                return work()
            except DeviceError as error:
                if error.code != "busy" or time.monotonic() >= until:
                    raise
                if not told:
                    self._reporter.note(f"{error}; waiting for that to end")
                told = True
                time.sleep(_PAUSE)

    def _subject(self, variant: Variant, facts: Facts, library: str, threads: int) -> Subject:
        identity = Identity(
            self._fleet.project, variant.format, variant.precision, variant.sha256, variant.bytes,
            recipe=variant.recipe.key,
        )  # fmt: skip
        return Subject(identity, place_of(self._fleet.device, facts), Software(library=library, threads=threads))


def _answers(answer: Mapping[str, Any]) -> Callable[[str, Mapping[str, Any]], Mapping[str, Any]]:
    """The protocol asks for "bench", which the trial answered already."""

    def ask(_op: str, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
        found = answer.get("bench")
        return found if isinstance(found, Mapping) else {}

    return ask
