"""`edgeship infer`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Table


@click.command()
@click.argument("device")
@click.option("--data", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Samples; the project's evaluation data by default.")  # fmt: skip
@click.option("--n", type=click.IntRange(1, 100_000), default=5, show_default=True, help="How many samples.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first sample.")
@with_output
def infer(out: Output, device: str, data: Path | None, n: int, start: int) -> None:
    """Ask a device for answers to samples.

    The samples take the way of a request to the device's serving port, as FP32 tensors of the Open Inference Protocol;
    answers are shown beside the true labels.
    """
    from edgeship.errors import UsageError
    from edgeship.infer import infer as ask

    with choose.opened() as (project, store):
        found = choose.device(store, device)
        path = data or project.data.evaluation
        if path is None:
            raise UsageError("which samples?", hint='--data DATA, or [data] evaluation = "DATA" in edgeship.toml')
        with out.reporter() as reporter, choose.connected(found, reporter) as client:
            answers = ask(client, path, range(start, start + n), project.model.labels, project.data.preparation)
    records = [
        {"sample": a.sample, "label": a.label, "predicted": a.predicted, "confidence": a.confidence,
         "milliseconds": round(a.milliseconds, 3), "outputs": a.outputs}
        for a in answers
    ]  # fmt: skip
    rows = [
        (a.sample, a.label, a.predicted, None if a.confidence is None else f"{a.confidence:.3f}",
         "" if a.right is None else "right" if a.right else "WRONG", f"{a.milliseconds:.1f} ms")
        for a in answers
    ]  # fmt: skip
    out.emit("infer", records, Table(("sample", "label", "answer", "score", "", "round trip"), rows))
