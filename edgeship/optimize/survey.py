"""What each hardware profile can do with a model: formats that are reached, and for TFLite and ONNX, whether it runs.

A file is judged by loading it in the profile's own runtime library, in the same version, on this machine. Memory is an
estimate: weights, activations, and what the runtime library takes by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeship import libraries
from edgeship.errors import EdgeshipError
from edgeship.model import ModelFacts
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
    source: ModelFacts, cost: Cost | None, profiles: Iterable[Profile], folder: Path, reporter: Reporter
) -> list[Outlook]:
    """One outlook a profile.

    Args:
        source: the model.
        cost: of it, where it is known.
        profiles: the boards.
        folder: the cache of conversions: a file with an open batch is closed to be loaded.
        reporter: is told when a runtime library is fetched.
    """
    refused = _load(source, folder, reporter) if source.format in registry.targets() else None
    return [_outlook(source, cost, profile, refused) for profile in profiles]


def _load(source: ModelFacts, folder: Path, reporter: Reporter) -> str:
    """Why the engine of this machine does not load and run the file; empty where it does."""
    try:
        registry.target(source.format).as_is(source, folder, reporter)
    except EdgeshipError as error:
        return str(error).removeprefix(f"{source.path}: ")
    return ""


def _outlook(source: ModelFacts, cost: Cost | None, profile: Profile, refused: str | None) -> Outlook:
    formats = {name: registry.target(name).reachable(source.format, "float32") for name in profile.build.formats
               if name in registry.targets()}  # fmt: skip
    reached = [name for name, reason in formats.items() if reason is None]
    loads = memory = share = None
    if source.format in profile.build.formats and refused is not None:
        same = profile.build.runtime.get(source.format) == _host_library(source.format)
        loads = (not refused) if same else None
        if cost is not None:
            memory = BASE[source.format] + cost.weight_bytes + cost.peak[0]
            share = memory / (profile.hardware.memory_mb * 1_000_000)
    return Outlook(
        profile.name, formats, profile.build.precisions, loads, memory, share,
        _verdict(source, profile, reached, refused, share),
    )  # fmt: skip


def _host_library(format: str) -> str | None:  # noqa: A002 - the domain's word
    """Name of the runtime library that this machine measures a format with."""
    return next((pin.name for pin in libraries.pins() if pin.format == format), None)


def _verdict(source: ModelFacts, profile: Profile, reached: list[str], refused: str | None, share: float | None) -> str:
    if profile.supported is not None:
        return f"cannot carry the agent: {profile.supported}"
    if not reached:
        return f"cannot be built: the board takes {' or '.join(profile.build.formats)}"
    if source.format not in profile.build.formats:
        return f"to be converted to {' or '.join(reached)}"
    if refused:
        return f"its runtime library refuses it: {refused.splitlines()[0][:120]}"
    if share is not None and share > 1:
        return "does not fit into its memory"
    if share is not None and share > CROWDED:
        return f"takes {share:.0%} of its memory"
    if source.precision == "float32" and profile.build.precisions[0] != "float32":
        return f"runs; {profile.build.precisions[0]} is what this board is for"
    return "runs"
