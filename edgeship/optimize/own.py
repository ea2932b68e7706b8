"""A metric of one's own: a Python function named `module:function`, run in a child process.

It is called once with the source model's answers and once with the variant's, and gives a score for each sample or one
number for all, of which more is better and 1 is perfect. One number is taken again on samples drawn with replacement,
to know how sure a drop is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import child
from edgeship.child import GIB, Limits
from edgeship.errors import InputError, UsageError
from edgeship.optimize.answers import Answers
from edgeship.optimize.drops import Comparison, Double, Drop, Indices, Means, at_least, percentiles

EVERYTHING = "all samples"

#: Resamples of a metric that gives one number: each costs two calls.
RESAMPLES = 200

#: `once` is of the first call, with the source's answers: later ones are held to how long that one took.
LIMITS = Limits(seconds=3600.0, cpu_seconds=7200, memory=64 * GIB, file=8 * GIB, files=4096, once=600.0)

#: Of importing its module; frameworks take half a minute.
FINDING = replace(LIMITS, seconds=300.0)

#: Seconds of judging one variant from which on a person should know.
LONG = 60.0

_NAME = re.compile(r"(?:(.*)/)?([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def is_own(metric: str) -> bool:
    """Whether a metric is a Python function, `module:function` or `FOLDER/module:function`."""
    return _NAME.fullmatch(metric) is not None


def short(metric: str) -> str:
    """The name of a metric without the folder."""
    return metric.rpartition("/")[2] if is_own(metric) else metric


@dataclass(frozen=True)
class Numbers:
    """A metric that is one number for many samples, taken where it will be asked for: see `Comparison`."""

    taken: Mapping[
        bytes, Double
    ]  # positions -> [1 + resamples, 2]: source and variant, first of the samples themselves
    lower: bool = False

    def drop(self, at: Indices) -> Drop:
        """Of the positions that were taken."""
        values = self.taken[at.tobytes()]
        points = 100 * (values[:, 0] - values[:, 1])
        before, after = map(float, values[0])
        value = float(points[0])
        return Drop(before, after, value, at_least(value, percentiles(points[1:], len(at)), len(at)), len(at))

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:  # noqa: ARG002 - as the others
        """A number for the samples of one class alone is another metric: none."""
        return None


def check(metric: str) -> tuple[str, ...]:
    """Find the function and read its parameters, in a child process; it is not called.

    Returns:
        What it takes.

    Raises:
        UsageError: no such module or function, or it takes other arguments.
        InputError: importing it raised, crashed or did not end.
    """
    with child.workspace() as work:
        found = child.run(
            "edgeship.optimize.finding", _where(metric), work, limits=FINDING, subject=f"the metric {short(metric)}",
            failure=InputError,
        )  # fmt: skip
    return tuple(map(str, found["parameters"]))


def _where(metric: str) -> dict[str, Any]:
    """What a step is told to find the function. Raises UsageError."""
    found = _NAME.fullmatch(metric)
    if found is None:
        raise UsageError(f"{metric!r} is no module:function", hint="such as --metric mine:score for score() in mine.py")
    home = Path(found[1] or ("/" if metric.startswith("/") else "."))
    return {
        "folder": str(home.resolve()), "path": [entry or str(Path.cwd()) for entry in sys.path],
        "cwd": str(Path.cwd()), "module": found[2], "function": found[3],
    }  # fmt: skip


def rehearse(metric: str, answers: Answers) -> str | None:
    """Call the function once, with the source's answers, before anything is built that it is to judge.

    Args:
        metric: as `compare`.
        answers: of the source; those of a variant are not looked at.

    Returns:
        What a person should know: that one number will take long to judge each variant by.

    Raises:
        As `compare`.
    """
    with child.workspace() as work:
        request = _where(metric) | _written(answers, _subsets(answers), work)
        found = child.run(
            "edgeship.optimize.rehearsal", request, work, limits=LIMITS, subject=f"the metric {short(metric)}",
            failure=InputError,
        )  # fmt: skip
    seconds = found["calls"] * found["seconds"]
    if seconds < LONG:
        return None
    instead = "; two are enough for a function that returns one score a sample" if found["kind"] == "numbers" else ""
    return (
        f"a call of {short(metric)} with {len(answers):,} samples takes {found['seconds']:.1f} s, and a variant is "
        f"judged by {found['calls']} calls: about {max(1, round(seconds / 60))} minutes{instead}"
    )


def _subsets(answers: Answers) -> dict[str, Indices]:
    """The parts of the samples that are judged alone, by name; `EVERYTHING` first."""
    named = {f"slice {name}": np.flatnonzero(mask) for name, mask in answers.slices.items() if mask.any()}
    return {EVERYTHING: np.arange(len(answers))} | named


def compare(metric: str, answers: Answers) -> Comparison:
    """Both models under a function.

    Args:
        metric: its name, `module:function` or `FOLDER/module:function`: the module is looked for in the folder (by
            default the current one), then where Python looks.
        answers: of both models.

    Raises:
        UsageError: no such module or function, or it takes other arguments.
        InputError: it raised, crashed, did not end, or gave something else than scores.
    """
    subsets = _subsets(answers)
    with child.workspace() as work:
        request = _where(metric) | _written(answers, subsets, work)
        response = child.run(
            "edgeship.optimize.scoring", request, work, limits=LIMITS, subject=f"the metric {short(metric)}",
            failure=InputError,
        )  # fmt: skip
        if response["kind"] == "scores":
            before, after = np.load(work / "scores.npy", allow_pickle=False)
            return Means(before, after)
        taken = [np.load(work / f"values{i}.npy", allow_pickle=False) for i in range(len(subsets))]
        return Numbers({at.tobytes(): values for at, values in zip(subsets.values(), taken, strict=True)})


def _written(answers: Answers, subsets: Mapping[str, Indices], work: Path) -> dict[str, Any]:
    """Write the arrays to where the step finds them; what it is told of them."""
    arrays: dict[str, NDArray[Any]] = {f"expected{i}": array for i, array in enumerate(answers.expected)}
    arrays |= {f"given{i}": array for i, array in enumerate(answers.given)}
    arrays |= {f"input{i}": array for i, array in enumerate(answers.inputs.values())}
    arrays |= {f"subset{i}": array for i, array in enumerate(subsets.values())}
    arrays |= {} if answers.labels is None else {"labels": answers.labels}
    arrays |= {} if answers.targets is None else {"targets": answers.targets}
    for name, array in arrays.items():
        np.save(work / f"{name}.npy", array, allow_pickle=False)
    return {
        "resamples": RESAMPLES, "outputs": [spec.name for spec in answers.outputs], "inputs": list(answers.inputs),
        "labels": answers.labels is not None, "targets": answers.targets is not None, "subsets": [*subsets],
        "seconds": child.asked_for(LIMITS, os.environ).seconds,
    }  # fmt: skip
