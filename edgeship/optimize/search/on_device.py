"""Times candidates on a device: each is signed as a trial, sent, and timed beside what the device serves.

A device runs nothing unsigned, so a candidate becomes a release of its own name (`<project>-trial`); only the last one
stays in the signed metadata, and nothing is switched on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from edgeship.release.build import Draft, DraftVariant, publish
from edgeship.release.repository import TRIAL, Repository
from edgeship.reporter import Reporter
from edgeship.targets import cache
from edgeship.targets.base import Variant

_BENCH = asdict(OPTIONS)


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
            "latency-on-device/1", variant.sha256, runtime, self._agent.sha256, threads, _BENCH, device.name,
            device.host_key or "local",
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
            perform.clear(self._fleet.device, self._fleet.profile, Reporter())
        except DeviceError as error:
            self._reporter.note(f"what was sent for trials is still there: {error}")

    def _measure(self, variant: Variant, runtime: str, threads: int) -> Latency:
        fleet = self._fleet
        arch = fleet.device.arch or fleet.profile.hardware.arch
        samples = golden.make(self._source, variant, self._samples, verdict=None, threads=threads)
        library = libraries.fetch(runtime, arch, reporter=self._reporter)
        draft = DraftVariant(variant, samples, [library], [fleet.device.profile], threads, task="other")
        release = publish(fleet.repository, Draft(fleet.project + TRIAL, [draft]), skipped=True, approved_by="optimize")
        self._used = True
        answer, facts = perform.trial(
            fleet.device, fleet.profile, release, fleet.repository, fleet.settings, _BENCH, self._reporter,
            agent=self._agent,
        )  # fmt: skip
        subject = self._subject(variant, facts, library.name, threads)
        return Latency.of(protocol.measure(_answers(answer), subject, OPTIONS, Conditions))

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
