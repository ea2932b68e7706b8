"""One variant of one model, written where the user wants it, with its recipe beside it. Needs no project.

What `edgeship model convert` and `edgeship model quantize` do. Conversions are kept in the user's cache, by content, so
another precision of the same model starts where this one got to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from edgeship import dataset
from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import board, chance, gate, handover
from edgeship.optimize.board import Trial
from edgeship.optimize.gate import GateVerdict
from edgeship.preparation import Preparation
from edgeship.profile import Profile
from edgeship.reporter import Reporter, Step
from edgeship.targets import registry, routes
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme

RECIPE_SUFFIX = ".recipe.json"
COMPARED = 32  # samples that a variant is compared with its source on


@dataclass(frozen=True)
class Converted:
    """What was made: the source, the variant in the cache, and its copies."""

    source: ModelFacts
    variant: Variant
    path: Path
    recipe_path: Path
    gate: GateVerdict | None  # None where there was nothing to compare with
    compared_on: str  # data, noise, or "" where nothing was compared
    trial: Trial | None = None  # in the runtime of the board that was named


def cache_folder() -> Path:
    """Where conversions are kept that belong to no project."""
    return Path(platformdirs.user_cache_dir("edgeship")) / "variants"


def format_of(output: Path, asked: str | None) -> str:
    """The format to make: the one that was asked for, else what the output's suffix says. Raises UsageError."""
    known = {f".{name}": name for name in registry.targets()}
    if asked is not None:
        return registry.target(asked).name
    if output.suffix.lower() not in known:
        raise UsageError(f"{output}: the suffix names no format", hint=f"use {' or '.join(known)}, or give --format")
    return known[output.suffix.lower()]


def convert(
    source: ModelFacts, scheme: Scheme, format: str, data: Path | None, output: Path, reporter: Reporter,  # noqa: A002
    folder: Path | None = None, preparation: Preparation | None = None, profile: Profile | None = None,
) -> Converted:  # fmt: skip
    """Make a variant and write it, with its recipe.

    Args:
        source: the model.
        scheme: how to quantize it; the source's own precision changes nothing.
        format: tflite or onnx.
        data: samples to calibrate with.
        output: the file to write; the recipe goes to the same name with `RECIPE_SUFFIX` added.
        reporter: is told of the step.
        folder: the cache of conversions, by default the user's.
        preparation: how images or recordings become samples.
        profile: of the board that it is for: it is loaded and run in that board's runtime too.

    Raises:
        UsageError: it cannot be built so, the board has no runtime for it, calibration data is missing, or the output
            is a folder or the source itself.
        InputError: the data does not fit the model.
        ConversionError: a converter failed, made less than was asked for, or the output cannot be written.
        GateError: what was made does not compute what the source does; nothing is written.
    """
    _check_output(source, output)
    if profile is not None and format not in profile.build.runtime:
        raise UsageError(
            f"profile {profile.name} has no runtime for {format}",
            hint=f"it has one for {', '.join(profile.build.runtime) or 'nothing'}",
        )
    folder = folder or cache_folder()
    samples = None
    if data is not None:
        samples = dataset.load(data, source, preparation=preparation, reporter=reporter)
    if samples is not None and scheme.calibrated:
        for doubt in dataset.doubts_alone(samples, source.operators):
            reporter.note(doubt)
    step = Step("convert", f"{format} {scheme.name}")
    reporter.started(step)
    compared, on = _compared(source, scheme, samples)
    if routes.prepares(source) and routes.unreachable(source.format, format) is None:
        routes.prepare(source, [] if compared is None else [compared], folder, [format])
    made = registry.target(format).build(source, scheme, samples, folder, reporter)
    verdict = None
    if compared is not None:
        verdict = gate.check(source, made, compared, reporter)
        if compared.labels is not None:
            expected = registry.source_answers(source, made, compared, reporter)
            if (odd := chance.doubt(made.outputs, expected, compared.labels)) is not None:
                reporter.note(odd)
        verdict.require(f"{source.path}: {format} {scheme.name}")
    trial = None
    if profile is not None:
        runtime, what = profile.build.runtime[format], f"{source.path}: {format} {scheme.name}"
        trial = board.check(made, runtime, compared, reporter, what=what)
        if not trial.checked:
            reporter.note(f"{format} {scheme.name} is {trial.said}")
    recipe = output.with_name(output.name + RECIPE_SUFFIX)
    handover.copy(made.path, output)
    handover.copy(made.recipe_path, recipe)
    reporter.finished(step, f"{output}{' (made before)' if made.cached else ''}")
    return Converted(source, made, output, recipe, verdict, on, trial)


def _compared(source: ModelFacts, scheme: Scheme, samples: Dataset | None) -> tuple[Dataset | None, str]:
    """(the samples that source and variant are compared on, what they are).

    Real data where there is some. A conversion that changes no number must agree on anything, so noise does. How good a
    quantization is shows on real data alone: without it nothing is compared.
    """
    if samples is not None:
        few = samples.take(COMPARED, 0)
        return Dataset(few.inputs, few.labels), "data"
    if scheme.precision != source.precision:
        return None, ""
    return gate.noise(source.inputs, COMPARED), "noise"


def _check_output(source: ModelFacts, output: Path) -> None:
    if output.is_dir():
        raise UsageError(f"{output}: a folder", hint="name the file to write: --output FILE")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: its folder {output.parent} does not exist", hint="make it first")
    if output.resolve() in {path.resolve() for path in (source.path, *source.companions)}:
        raise UsageError(f"{output}: that is the model itself", hint="choose another --output")
