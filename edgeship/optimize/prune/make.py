"""Pruning from outside: a Keras file, a plan and data give a smaller Keras file, kept by content.

tuned = prune(source, Plan(speedup=1.5), data, folder, reporter)      # the same again: nothing is done
verdict = tuned.judged("before", "after", budget)
"""

from __future__ import annotations

from pathlib import Path

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.tuning import keeping
from edgeship.reporter import Reporter

_STEP = "edgeship.optimize.prune.perform"
_BY = "prune/3"  # raised when what the step makes changes


def check(source: ModelFacts) -> None:
    """Raise UsageError unless this can be pruned."""
    if source.format != "keras":
        raise UsageError(
            f"{source.path}: pruning takes Keras models, this is {source.format}",
            hint="prune the .keras file that it was made from, then convert again",
        )


def prune(
    source: ModelFacts, plan: Plan, data: Dataset, folder: Path, reporter: Reporter, *,
    evaluation: Dataset | None = None, what: str = "the data",
) -> keeping.Tuned:  # fmt: skip
    """The pruned and fine-tuned model.

    Args:
        source: a Keras model.
        plan: what is asked for.
        data: samples to rank channels and to fine-tune with; with labels, or the model teaches itself.
        folder: the cache of conversions.
        reporter: is told of the epochs.
        evaluation: samples to judge on; None: a seeded fifth of `data`.
        what: the data's file, for errors.

    Returns:
        Its answers are "before", "cut" (pruned, not yet tuned) and "after".

    Raises:
        UsageError: the source is no Keras model.
        Else as `keeping.run`.
    """
    check(source)
    made_by = {"plan": plan.encode(), "by": _BY}
    order = keeping.Order(
        "prune", _STEP, source, {"plan": plan.encode()}, made_by, plan.settings, "pruned.keras",
        ("before", "cut", "after"),
    )  # fmt: skip
    return keeping.run(order, data, evaluation, folder, reporter, what)
