"""From a model file to what can be measured on this host: which variants of it, built as a push builds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeship.bench.host import HostModel
from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets.base import Target, Variant, needs_calibration
from edgeship.targets.scheme import Scheme


def wanted(
    facts: ModelFacts, targets: Mapping[str, Target], *, formats: Sequence[str], precisions: Sequence[str],
    calibrated: bool,
) -> list[tuple[str, str]]:  # fmt: skip
    """The (format, precision) pairs to measure, in the order asked for.

    Without formats: the file's own, else the first that can be reached. Without precisions: the file's own, and int8
    beside float32 where there is calibration data, so that what int8 brings can be seen.

    Raises:
        UsageError: a format is unknown, or a precision cannot be reached.
    """
    unknown = [name for name in formats if name not in targets]
    if unknown:
        raise UsageError(f"unknown format {unknown[0]!r}", hint=f"known are {', '.join(targets)}")
    chosen = list(formats) or _default_format(facts, targets)
    levels = list(precisions)
    if not levels:
        levels = [facts.precision, "int8"] if facts.precision == "float32" and calibrated else [facts.precision]
    out = []
    for name in chosen:
        for level in levels:
            if reason := targets[name].reachable(facts.format, level):
                raise UsageError(f"{facts.path}: {name} {level} cannot be built: {reason}", hint="another --precision")
            out.append((name, level))
    return out


def _default_format(facts: ModelFacts, targets: Mapping[str, Target]) -> list[str]:
    if facts.format in targets:
        return [facts.format]
    reached = [n for n, target in targets.items() if target.reachable(facts.format, facts.precision) is None]
    if not reached:
        raise UsageError(
            f"{facts.path}: no format that an engine runs can be built from {facts.format}",
            hint="edgeship model inspect MODEL shows what it is",
        )
    return reached[:1]


def build(
    facts: ModelFacts, pairs: Sequence[tuple[str, str]], targets: Mapping[str, Target], *, name: str,
    calibration: Dataset | None, folder: Path, reporter: Reporter,
) -> list[HostModel]:  # fmt: skip
    """Build the variants, or take them from `folder`. Raises ConversionError, UsageError (see `Target.build`)."""
    out = []
    for format_, precision in pairs:
        scheme = Scheme(precision)
        data = calibration if needs_calibration(facts, scheme) else None
        out.append(host_model(name, targets[format_].build(facts, scheme, data, folder, reporter)))
    return out


def host_model(name: str, variant: Variant) -> HostModel:
    """A variant as the host's worker takes it."""
    return HostModel(
        name=name, path=variant.path, format=variant.format, precision=variant.precision, inputs=variant.inputs,
        outputs=variant.outputs, sha256=variant.sha256, bytes=variant.bytes, recipe=variant.recipe.key,
    )  # fmt: skip
