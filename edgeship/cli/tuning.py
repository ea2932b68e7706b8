"""What `edgeship model prune` and `distill` share: their samples, where work is kept, the gate, what is shown of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli.options import preparation, preparation_options
from edgeship.errors import UsageError

if TYPE_CHECKING:
    from edgeship.dataset import Dataset
    from edgeship.model import ModelFacts
    from edgeship.optimize.quality import Verdict
    from edgeship.optimize.tuning.keeping import Tuned
    from edgeship.reporter import Reporter

NO_LIMIT = 100.0  # points


@dataclass(frozen=True)
class Limits:
    """Points of the metric that may be lost, in all and in each class.

    Raises:
        UsageError: one is no finite number, so nothing would ever break it, or negative: a gain is not asked for.
    """

    max_drop: float
    max_class_drop: float

    def __post_init__(self) -> None:
        for option, points in (("--max-drop", self.max_drop), ("--max-class-drop", self.max_class_drop)):
            if not 0 <= points < math.inf:
                raise UsageError(f"{option} {points}: points from 0 upwards are wanted", hint=f"such as {option} 1.0")


def sample_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--evaluation`, how files become samples, and `--output`."""
    file = click.Path(path_type=Path)
    function = click.option(
        "--output",
        required=True,
        type=file,
        metavar="FILE",
        help="The .keras file to write; its recipe goes beside it.",
    )(function)
    function = preparation_options(function)
    return click.option(
        "--evaluation", type=file, default=None, metavar="DATA",
        help="Samples to judge with; without it a seeded fifth of --data is held out.",
    )(function)  # fmt: skip


def samples(
    data: Path, evaluation: Path | None, source: ModelFacts, stated: tuple[str, ...], reporter: Reporter
) -> tuple[Dataset, Dataset | None]:  # fmt: skip
    """Samples to train on, and to judge with where they were given. Raises InputError, UsageError."""
    from edgeship import dataset

    prepared = preparation(stated)
    train = dataset.load(data, source, preparation=prepared, reporter=reporter)
    if evaluation is None:
        return train, None
    return train, dataset.load(evaluation, source, preparation=prepared, reporter=reporter)


def work_folder() -> Path:
    """The cache of conversions: the project's, else the user's."""
    import platformdirs

    from edgeship import config

    if config.find() is None:
        return platformdirs.user_cache_path("edgeship") / "variants"
    return config.load().state / "variants"


def gate(tuned: Tuned, before: str, limits: Limits, what: str) -> Verdict:
    """The verdict on a tuned model. Raises GateError where it lost more than it may."""
    from edgeship.errors import GateError

    verdict = tuned.judged(before, "after", limits)
    if not verdict.passed:
        raise GateError(
            f"{what}: {verdict.summary}",
            hint="nothing was written. Ask for less, train longer (--epochs), or allow more (--max-drop)",
        )
    return verdict


def check_of(verdict: Verdict) -> dict[str, Any]:
    """As `--json` shows it."""
    return {
        "metric": verdict.metric, "before": verdict.float_value, "after": verdict.variant_value,
        "drop": verdict.drop, "interval": list(verdict.interval), "samples": verdict.samples,
        "passed": verdict.passed, "proven": verdict.proven,
    }  # fmt: skip


def change(before: int, after: int) -> str:
    """Two counts for people: 17,930 → 4,746 (3.78 times less)."""
    return f"{before:,} → {after:,} ({before / max(1, after):.2f} times less)"
