"""What a push does when the plain int8 variant breaks the budget: it searches one that does not.

The same search as `edgeship optimize`, within the format and the precision that the profile asks for: other ranges,
then the fewest layers in float. Nothing is timed: the device's own probe holds the limit on latency.
"""

from __future__ import annotations

from edgeship.config import Project
from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.optimize.search import report
from edgeship.optimize.search.candidate import Wish
from edgeship.optimize.search.latency import Untimed
from edgeship.optimize.search.pick import Budget, Row
from edgeship.optimize.search.pool import processes
from edgeship.optimize.search.run import Request, Search
from edgeship.profile import Profile
from edgeship.push.plan import Build, searchable
from edgeship.reporter import Reporter, Step


def worth(source: ModelFacts, build: Build, calibration: Dataset | None) -> bool:
    """Whether there is anything to search: a float model that is to be calibrated."""
    return searchable(source, build) and calibration is not None


def search(
    project: Project, source: ModelFacts, build: Build, calibration: Dataset | None, evaluation: Dataset, strict: bool,
    profile: Profile, reporter: Reporter,
) -> Row | None:  # fmt: skip
    """The variant that meets the project's budget best, or None.

    Args:
        project: its budget, metric and labels hold.
        source: the model.
        build: the format and precision to stay within.
        calibration: representative data.
        evaluation: what candidates are judged on.
        strict: whether a loss has to be proven to be within the limit.
        profile: of the boards.
        reporter: is told of the step "search" and of every candidate.

    Raises:
        ConversionError, InputError: the source cannot be converted.
    """
    step = Step("search", build.name)
    reporter.started(step)
    budget = project.budget
    limits = Budget(budget.max_drop, budget.max_class_drop, None, budget.max_size_bytes, strict, budget.max_slice_drop)
    request = Request(
        source, profile, calibration, evaluation, limits, project.state / "variants",
        Wish((build.format,), (build.precision,)), project.data.metric,
        tuple(project.model.labels) or tuple(evaluation.classes),
    )  # fmt: skip
    with processes() as pool:
        found = Search(request, pool, Untimed(), reporter).run()
    row = found.pick.row
    if row is None:
        reporter.finished(step, found.pick.reason, {"passed": False})
        return None
    kept = report.kept_layers(found, row.candidate)
    said = f"{row.candidate.name}: {row.verdict.summary}" + (f"   in float: {', '.join(kept)}" if kept else "")
    reporter.finished(step, said, {"scheme": row.candidate.scheme.encode(), "drop": row.verdict.drop})
    return row
