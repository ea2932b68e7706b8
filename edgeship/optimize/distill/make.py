"""Distillation from outside: a teacher, a plan and data give a student's Keras file, kept by content.

tuned = distill(teacher, Plan(width=0.5), data, folder, reporter)
verdict = tuned.judged("before", "after", budget)                    # student against teacher
"""

from __future__ import annotations

from pathlib import Path

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.optimize.distill.plan import Plan
from edgeship.optimize.tuning import keeping
from edgeship.reporter import Reporter

_STEP = "edgeship.optimize.distill.perform"
_BY = "distill/3"  # raised when what the step makes changes


def check(teacher: ModelFacts, student: ModelFacts | None, plan: Plan) -> None:
    """Raise UsageError unless this can be done."""
    for facts in (teacher, student):
        if facts is not None and facts.format != "keras":
            raise UsageError(
                f"{facts.path}: distillation takes Keras models, this is {facts.format}",
                hint="take the .keras file that it was made from, then convert the student",
            )
    if (student is None) == (plan.width is None):
        raise UsageError(
            "a student is either given or derived from the teacher",
            hint="--student FILE, or --width 0.5 with or without --depth 0.5",
        )


def distill(
    teacher: ModelFacts, plan: Plan, data: Dataset, folder: Path, reporter: Reporter, *,
    student: ModelFacts | None = None, evaluation: Dataset | None = None, what: str = "the data",
) -> keeping.Tuned:  # fmt: skip
    """The taught student.

    Args:
        teacher: a Keras model.
        plan: what is asked for.
        data: samples to teach with; labels are used where there are some.
        folder: the cache of conversions.
        reporter: is told of the epochs.
        student: a Keras model to start from; None: it is derived as the plan says.
        evaluation: samples to judge on; None: a seeded fifth of `data`.
        what: the data's file, for errors.

    Returns:
        Its answers are "before" (the teacher's) and "after" (the student's).

    Raises:
        UsageError: no Keras model; teacher and student do not fit each other; no such layer.
        Else as `keeping.run`.
    """
    check(teacher, student, plan)
    made_by = {
        "plan": plan.encode(), "by": _BY, "teacher": teacher.sha256,
        "student": None if student is None else student.sha256,
    }  # fmt: skip
    request = {"plan": plan.encode(), "student": None if student is None else str(student.path.resolve())}
    order = keeping.Order(
        "distill", _STEP, teacher, request, made_by, plan.settings, "student.keras", ("before", "after"), also=student
    )
    return keeping.run(order, data, evaluation, folder, reporter, what)
