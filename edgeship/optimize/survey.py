"""What each hardware profile can do with a model: formats that are reached, and for TFLite and ONNX, whether it runs.

A file is judged by loading it in the profile's own runtime library, in the same version, on this machine; a runtime
that is not here is named, with what brings it. Memory is an estimate: weights, activations, and what the runtime
library takes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship import environments, wording
from edgeship.errors import EdgeshipError
from edgeship.model import ModelFacts
from edgeship.optimize import board
from edgeship.profile import Profile
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.cost import Cost

#: Bytes of a worker with a tiny model, measured on x86-64: PSS of Python with the runtime library.
BASE = {"tflite": 16_000_000, "onnx": 36_000_000}
CROWDED = 0.5  # of the board's memory: the system and the user's own program want the rest


@dataclass(frozen=True)
class Outlook:
    """A model on one profile."""

    profile: str
    formats: Mapping[str, str | None]  # format -> None where it is reached, else why not
    precisions: tuple[str, ...]  # that the profile asks for, in its order
    loads: bool | None  # in the profile's runtime library; None where that was not tried
    memory: int | None  # bytes of a worker that serves the file as it is
    memory_share: float | None  # of the board's
    verdict: str


def survey(
    source: ModelFacts, cost: Cost | None, profiles: Sequence[Profile], folder: Path, reporter: Reporter
) -> list[Outlook]:
    """One outlook a profile.

    Args:
        source: the model.
        cost: of it, where it is known.
        profiles: the boards.
        folder: the cache of conversions: a file with an open batch is closed to be loaded.
        reporter: is told when a runtime library is fetched.
    """
    runtimes = dict.fromkeys(r for p in profiles if (r := p.build.runtime.get(source.format)) is not None)
    found = _load(source, list(runtimes), folder, reporter) if source.format in registry.targets() else {}
    return [_outlook(source, cost, profile, found) for profile in profiles]


@dataclass(frozen=True)
class _Load:
    """How the file did in a runtime: it loads, or `why` not; `loads` is None where that could not be tried."""

    loads: bool | None
    why: str = ""


def _load(source: ModelFacts, runtimes: Sequence[str], folder: Path, reporter: Reporter) -> dict[str, _Load]:
    """Runtime -> how the file does in it. What the engine here refuses as it is, is tried in no other."""
    try:
        variant = registry.target(source.format).as_is(source, folder, reporter)
    except EdgeshipError as error:
        return dict.fromkeys(runtimes, _Load(False, _first(error, source)))
    out: dict[str, _Load] = {}
    for runtime in runtimes:
        try:
            trial = board.check(variant, runtime, None, reporter, what=str(source.path))
            out[runtime] = _Load(True if trial.checked else None, trial.said)
        except EdgeshipError as error:
            out[runtime] = _Load(False, _first(error, source))
    return out


def _first(error: EdgeshipError, source: ModelFacts) -> str:
    return str(error).removeprefix(f"{source.path}: ").splitlines()[0][:160]


def _outlook(source: ModelFacts, cost: Cost | None, profile: Profile, found: Mapping[str, _Load]) -> Outlook:
    formats = {name: registry.target(name).reachable(source.format, "float32") for name in profile.build.formats
               if name in registry.targets()}  # fmt: skip
    load = found.get(profile.build.runtime.get(source.format, ""))
    memory = share = None
    if load is not None and cost is not None:
        memory = BASE[source.format] + cost.weight_bytes + cost.peak[0]
        share = memory / (profile.hardware.memory_mb * 1_000_000)
    verdict = _verdict(source, profile, [name for name, reason in formats.items() if reason is None], load, share)
    if profile.supported is not None:
        packaged = any(environments.of_runtime(runtime) for runtime in profile.build.runtime.values())
        own = f"; in a program of yours: {verdict}" if packaged else ""
        verdict = f"cannot carry the agent: {profile.supported}{own}"
    return Outlook(
        profile.name, formats, profile.build.precisions, None if load is None else load.loads, memory, share, verdict
    )


def _verdict(
    source: ModelFacts, profile: Profile, reached: list[str], load: _Load | None, share: float | None
) -> str:  # fmt: skip
    if not reached:
        return f"cannot be built: the board takes {' or '.join(profile.build.formats)}"
    if source.format not in profile.build.formats:
        return f"to be converted to {' or '.join(reached)}"
    if load is not None and load.loads is False:
        return f"refused: {load.why}"
    if load is not None and load.loads is None:
        return load.why
    if share is not None and share > 1:
        return "does not fit into its memory"
    if share is not None and share > CROWDED:
        return f"takes {wording.share(share)} of its memory"
    if source.precision == "float32" and profile.build.precisions[0] != "float32":
        return f"runs; {profile.build.precisions[0]} is what this board is for"
    return "runs"
