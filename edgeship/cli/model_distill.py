"""`edgeship model distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeship.cli import tuning
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs

if TYPE_CHECKING:
    from edgeship.optimize.quality import Verdict
    from edgeship.optimize.tuning.keeping import Tuned

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("teacher", metavar="TEACHER", type=_FILE)
@click.option("--student", type=_FILE, default=None, metavar="FILE", help="A .keras file to teach, or instead:")
@click.option("--width", type=float, default=None, metavar="SHARE",
              help="Derive the student: this part of the teacher's channels.")  # fmt: skip
@click.option("--depth", type=float, default=1.0, show_default=True, metavar="SHARE",
              help="This part of each stage's repeated blocks; with --width.")  # fmt: skip
@click.option("--data", required=True, type=_FILE, metavar="DATA",
              help="Samples to teach with; labels are used where there are some.")  # fmt: skip
@tuning.sample_options
@click.option("--temperature", type=float, default=4.0, show_default=True,
              help="How soft the teacher's class scores are made.")  # fmt: skip
@click.option("--alpha", type=float, default=0.5, show_default=True,
              help="Weight of the labels against the teacher, 0 to 1.")  # fmt: skip
@click.option("--match-features", "features", multiple=True, metavar="LAYER",
              help="Make this layer like the teacher's; TEACHERS:STUDENTS where names differ. Repeatable.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(0, 10_000), default=30, show_default=True, metavar="N",
              help="Of training, at most.")  # fmt: skip
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Learning rate at the start.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=0, show_default=True,
              help="Of the held-out parts, the order of the samples and new weights.")  # fmt: skip
@click.option("--max-drop", type=float, default=1.0, show_default=True, metavar="POINTS",
              help="Points of the metric that the student may be worse.")  # fmt: skip
@click.option("--max-class-drop", type=float, default=None, metavar="POINTS",
              help="The same for each class and slice alone; no limit by default.")  # fmt: skip
@with_output
def distill(
    out: Output, teacher: Path, student: Path | None, width: float | None, depth: float, data: Path,
    evaluation: Path | None, output: Path, temperature: float, alpha: float, features: tuple[str, ...], epochs: int,
    rate: float, seed: int, max_drop: float, max_class_drop: float | None, stated: tuple[str, ...],
) -> None:  # fmt: skip
    """Teach a small Keras model what a large one answers.

    The student is given, or derived from the teacher by width and depth. It learns the teacher's softened class scores
    and the labels; without labels the teacher alone. It is judged on samples that it never saw. Exit code 6: it is
    worse than the teacher by more than --max-drop, and nothing was written.
    """
    from dataclasses import replace

    from edgeship.optimize.distill import make
    from edgeship.optimize.distill.plan import DEFAULTS, Plan, feature_pair
    from edgeship.optimize.tuning import keeping
    from edgeship.targets import registry

    settings = replace(DEFAULTS, epochs=epochs, rate=rate, seed=seed, temperature=temperature, alpha=alpha)
    plan = Plan(width, depth, tuple(map(feature_pair, features)), settings)
    limits = tuning.Limits(max_drop, tuning.NO_LIMIT if max_class_drop is None else max_class_drop)
    keeping.check_output(output, [teacher, *([] if student is None else [student])])
    source = registry.inspect(teacher)
    pupil = None if student is None else registry.inspect(student)
    make.check(source, pupil, plan)
    with out.reporter() as reporter:
        samples, judged = tuning.samples(data, evaluation, source, stated, reporter)
        tuned = make.distill(
            source, plan, samples, tuning.work_folder(), reporter, student=pupil, evaluation=judged, what=str(data)
        )  # fmt: skip
    verdict = tuning.gate(tuned, "before", limits, f"the student of {teacher}")
    keeping.deliver(tuned, output)
    _show(out, teacher, student, output, tuned, verdict)


def _show(
    out: Output, teacher: Path, student: Path | None, output: Path, tuned: Tuned, verdict: Verdict
) -> None:  # fmt: skip
    from edgeship.optimize.tuning import keeping

    facts = tuned.facts
    data = {
        "teacher": str(teacher), "student": None if student is None else str(student), "output": str(output),
        "recipe": str(keeping.recipe_path(output)), "parameters_before": facts["parameters_before"],
        "parameters_after": facts["parameters_after"], "macs_before": facts["macs_before"],
        "macs_after": facts["macs_after"], "dropped": facts["dropped"], "epochs": facts["epochs"],
        "best_epoch": facts["best_epoch"], "check": tuning.check_of(verdict), "cached": tuned.cached,
    }  # fmt: skip
    rows: list[tuple[str, object]] = [
        ("file", output),
        ("recipe", data["recipe"]),
        ("parameters", tuning.change(facts["parameters_before"], facts["parameters_after"])),
        ("arithmetic", tuning.change(facts["macs_before"], facts["macs_after"]) + "  multiply-accumulates a sample"),
    ]
    if facts["dropped"]:
        rows.append(("left out", facts["dropped"]))
    rows += [
        ("epochs", f"{facts['epochs']}, best {facts['best_epoch']}"),
        ("check", f"teacher → student: {verdict.summary}"),
    ]
    out.emit("model.distill", data, Pairs(rows))
