"""`edgeship model prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeship import wording
from edgeship.cli import tuning
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs

if TYPE_CHECKING:
    from edgeship.optimize.quality import Verdict
    from edgeship.optimize.tuning.keeping import Tuned


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="DATA",
              help="Samples to fine-tune with; with labels, or the model teaches itself.")  # fmt: skip
@tuning.sample_options
@click.option("--amount", type=float, default=None, metavar="SHARE",
              help="Share of the channels, or weights, that goes; 0.5 by default.")  # fmt: skip
@click.option("--speedup", type=float, default=None, metavar="FACTOR",
              help="Instead: how much less arithmetic is wanted, such as 1.5; of channels.")  # fmt: skip
@click.option("--method", type=click.Choice(["channels", "magnitude", "2:4"]), default="channels", show_default=True,
              help="channels: smaller and faster everywhere. The others set weights to zero.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(0, 10_000), default=10, show_default=True, metavar="N",
              help="Of fine-tuning, at most.")  # fmt: skip
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Learning rate at the start.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=0, show_default=True,
              help="Of the held-out parts and the order of the samples.")  # fmt: skip
@click.option("--max-drop", type=float, default=1.0, show_default=True, metavar="POINTS",
              help="Points of the metric that may be lost.")  # fmt: skip
@click.option("--max-class-drop", type=float, default=None, metavar="POINTS",
              help="The same for each class and slice alone; no limit by default.")  # fmt: skip
@with_output
def prune(
    out: Output, model: Path, data: Path, evaluation: Path | None, output: Path, amount: float | None,
    speedup: float | None, method: str, epochs: int, rate: float, seed: int, max_drop: float,
    max_class_drop: float | None, stated: tuple[str, ...],
) -> None:  # fmt: skip
    """Make a Keras model smaller and faster by taking out what matters least.

    Channels go from every layer that they pass through, residual and depthwise ones included; what is left is
    fine-tuned on your data with early stop and judged on samples that it never saw. Exit code 6: it lost more than
    --max-drop, and nothing was written.
    """
    from edgeship.optimize.prune import make
    from edgeship.optimize.prune.plan import Plan
    from edgeship.optimize.tuning import keeping
    from edgeship.optimize.tuning.settings import Settings
    from edgeship.targets import registry

    plan = Plan(method, amount, speedup, Settings(epochs=epochs, rate=rate, seed=seed))
    limits = tuning.Limits(max_drop, tuning.NO_LIMIT if max_class_drop is None else max_class_drop)
    keeping.check_output(output, [model])
    source = registry.inspect(model)
    make.check(source)
    with out.reporter() as reporter:
        samples, judged = tuning.samples(data, evaluation, source, stated, reporter)
        tuned = make.prune(
            source, plan, samples, tuning.work_folder(), reporter, evaluation=judged, what=str(data)
        )  # fmt: skip
    verdict = tuning.gate(tuned, "before", limits, str(model))
    keeping.deliver(tuned, output)
    _show(out, model, output, plan.method, tuned, verdict)


def _show(out: Output, model: Path, output: Path, method: str, tuned: Tuned, verdict: Verdict) -> None:
    from edgeship.optimize.tuning import keeping

    facts = tuned.facts
    untuned = tuned.judged("before", "cut", tuning.Limits(tuning.NO_LIMIT, tuning.NO_LIMIT)).variant_value
    data = {
        "model": str(model), "output": str(output), "recipe": str(keeping.recipe_path(output)), "method": method,
        "parameters_before": facts["parameters_before"], "parameters_after": facts["parameters_after"],
        "macs_before": facts.get("macs_before"), "macs_after": facts.get("macs_after"), "zeros": facts.get("zeros"),
        "groups": facts.get("groups", []), "held": facts["held"], "epochs": facts["epochs"],
        "best_epoch": facts["best_epoch"], "untuned": untuned, "check": tuning.check_of(verdict),
        "cached": tuned.cached,
    }  # fmt: skip
    trained = wording.counted(facts["epochs"], "epoch")
    rows: list[tuple[str, object]] = [("file", output), ("recipe", data["recipe"])]
    if method == "channels":
        rows += [
            ("parameters", tuning.change(facts["parameters_before"], facts["parameters_after"])),
            (
                "arithmetic",
                tuning.change(facts["macs_before"], facts["macs_after"]) + "  multiply-accumulates a sample",
            ),
            ("channels", [f"{g['before']} → {g['after']}  {', '.join(g['layers'])}" for g in facts["groups"]]),
        ]
    else:
        rows += [("zeros", f"{facts['zeros']:.1%} of the masked kernels; shapes and dense speed are as before")]
    rows += [
        ("left alone", facts["held"] or "nothing"),
        ("check", verdict.summary),
        ("untuned", f"{100 * untuned:.1f} % before fine-tuning, {trained}, best {facts['best_epoch']}"),
    ]
    out.emit("model.prune", data, Pairs(rows))
