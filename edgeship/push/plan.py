"""What a push will do, decided before anything is touched: which variant for which profile, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeship import libraries
from edgeship.config import Budget
from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.profile import Profile
from edgeship.targets import routes
from edgeship.targets.base import Target


@dataclass(frozen=True)
class Options:
    """What the user asked for beside the model and the devices."""

    calibration: Path | None = None  # instead of [data] representative
    evaluation: Path | None = None  # instead of [data] evaluation
    skip_check: bool = False
    approved_by: str | None = None  # who asked to skip the check
    strict: bool = False  # "not proven" fails too
    bench: bool = True
    jobs: int = 16
    one_first: bool = False  # one device first, then all others
    wheelhouse: Path | None = None


@dataclass(frozen=True)
class Build:
    """One variant to make, and for which profiles."""

    format: str
    precision: str
    runtime: str  # name in hw_profiles/runtimes.toml
    threads: int
    profiles: tuple[str, ...]
    why: str

    @property
    def name(self) -> str:
        """For people: `tflite int8`."""
        return f"{self.format} {self.precision}"


@dataclass(frozen=True)
class Plan:
    """What a push will do. Pure data: `--dry-run` prints it."""

    model: str
    source: ModelFacts
    builds: tuple[Build, ...]
    devices: tuple[Device, ...]


def choose(
    profile: Profile, source: ModelFacts, targets: Mapping[str, Target], *, calibrated: bool,
    precision: str | None = None,
) -> Build:  # fmt: skip
    """Decide format, precision and runtime library for one profile.

    The source's own format where the profile lists it, else the first that can be reached; in it the first of the
    profile's precisions that can be built, or `precision` where it is given.

    Raises:
        UsageError: nothing can be reached, or int8 is wanted and there is no calibration data.
    """
    wanted = profile.build.formats
    formats = (source.format,) if source.format in wanted else wanted
    wished = _precisions(profile, source) if precision is None else (precision,)
    refused: list[tuple[str, str]] = []
    for name in formats:
        if not libraries.carried(runtime := profile.build.runtime[name]):
            refused.append((name, f"{runtime} is no library that a release can carry"))
            continue
        for one in wished:
            reason = routes.text_refused(source, name) or (
                targets[name].reachable(source.format, one) if name in targets else "no such target"
            )
            if reason is not None:
                refused.append((f"{name} {one}", reason))
                continue
            if one == "int8" and source.precision != "int8" and not calibrated:
                raise UsageError(
                    f"profile {profile.name} wants int8, and there is no calibration data to quantize with",
                    hint='--calibration DATA, or [data] representative = "DATA" in edgeship.toml: '
                    "200 to 1,000 samples as the model will see them. Or --precision float16, which needs none",
                )
            own = name == source.format
            why = (
                "the source's own format"
                if own
                else f"first of {profile.name}'s formats that a {source.format} model reaches"
            )
            return Build(name, one, profile.build.runtime[name], profile.build.threads, (profile.name,), why)
    raise UsageError(
        f"profile {profile.name}: no variant of this {source.format} model can be built ({routes.told(refused)})",
        hint=routes.remedy(source.format, formats) or f"edgeship profile show {profile.name}",
    )


def _precisions(profile: Profile, source: ModelFacts) -> Sequence[str]:
    """A source that is quantized already goes as it is."""
    return profile.build.precisions if source.precision == "float32" else (source.precision,)


def plan(
    model: str, source: ModelFacts, devices: Sequence[Device], profiles: Mapping[str, Profile],
    targets: Mapping[str, Target], *, calibrated: bool, precision: str | None = None,
) -> Plan:  # fmt: skip
    """Decide what a push will build, and for whom; profiles that want the same variant share it.

    Args:
        model: the name under which devices serve it.
        source: the model file.
        devices: where it goes.
        profiles: by name, of all the devices.
        targets: formats that can be built, by name.
        calibrated: whether there is calibration data.
        precision: instead of what the profiles ask for.

    Raises:
        UsageError: see `choose`; or a profile that cannot carry the agent.
    """
    builds: dict[tuple[str, str, str, int], Build] = {}
    for name in dict.fromkeys(device.profile for device in devices):
        one = choose(profiles[name], source, targets, calibrated=calibrated, precision=precision)
        key = (one.format, one.precision, one.runtime, one.threads)
        builds[key] = replace(builds[key], profiles=(*builds[key].profiles, name)) if key in builds else one
    return Plan(model, source, tuple(builds.values()), tuple(devices))


def searchable(source: ModelFacts, build: Build) -> bool:
    """Whether there is anything to search where a build breaks the budget: a float model that is calibrated."""
    return build.precision == "int8" and source.precision == "float32"


def compared(source: ModelFacts) -> str:
    """What the check compares, in words: a source that is quantized already has no float model to be held against."""
    if source.precision == "float32":
        return "float against variant on the evaluation data"
    return (
        f"{source.path.name} as it is ({source.precision}) against what is sent, on the evaluation data: what "
        "quantizing it cost was for edgeship optimize to judge, against the float model"
    )


def size_error(build: Build, size: int, budget: Budget) -> str | None:
    """Why a variant of `size` bytes breaks `max_size`, or None."""
    if budget.max_size_bytes is None or size <= budget.max_size_bytes:
        return None
    return f"{build.name} is {size:,} bytes, max_size allows {budget.max_size_bytes:,}"
