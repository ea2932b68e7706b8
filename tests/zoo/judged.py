"""What edgeship makes of a model of the zoo: a variant and how good it is, or the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship.dataset import archive, parting
from edgeship.errors import EdgeshipError
from edgeship.optimize import quality
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme

#: Tried in this order; the first that computes what its source does is taken.
SCHEMES = (
    Scheme("int8"), Scheme("int8", "mse"), Scheme("int8", rounding="fitted"), Scheme("int8", "mse", rounding="fitted"),
    Scheme("int8-weights"), Scheme("int8-weights", rounding="fitted"),
)  # fmt: skip
EVALUATED = 24  # samples


@dataclass(frozen=True)
class Budget:
    """Nothing is refused for points: agreement is shown."""

    max_drop: float = 100.0
    max_class_drop: float = 100.0


@dataclass(frozen=True)
class Judged:
    """A row of the table. Without a scheme it was refused; `refused` says why, or why full int8 was."""

    scheme: str
    share: float = 0.0  # of the weights, int8
    size: float = 0.0  # of the file, against the source's
    agreement: float = 0.0
    refused: str = ""
    hint: str = ""


def judge(
    path: Path, data: Path, folder: Path, shapes: Mapping[str, Sequence[int]], schemes: Sequence[Scheme] = SCHEMES
) -> Judged:  # fmt: skip
    """Build and compare.

    Args:
        path: the model; the variant is of its format.
        data: .npz.
        folder: the cache of conversions.
        shapes: of inputs that the model leaves open.
        schemes: to be tried.
    """
    refused, hint = "", ""
    try:
        facts = registry.inspect(path, shapes=shapes or None)
        calibration, evaluation = parting.split(archive.read(data, facts.inputs), 0.3)
    except EdgeshipError as error:
        return Judged("", refused=str(error), hint=error.hint or "")
    for scheme in schemes:
        try:
            variant = registry.target(facts.format).build(facts, scheme, calibration, folder, Reporter())
            verdict = quality.check(facts, variant, evaluation.take(EVALUATED, 0), Budget())
        except EdgeshipError as error:
            refused, hint = refused or str(error), hint or error.hint or ""
            continue
        if verdict.gate is not None and not verdict.gate.passed:
            refused = refused or verdict.gate.reason
            continue
        size = variant.bytes / facts.bytes
        return Judged(scheme.name, variant.int8_share, size, verdict.agreement, refused, hint)
    return Judged("", refused=refused, hint=hint)
