"""`edgeship model compare`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.options import preparation, preparation_options, with_output
from edgeship.cli.output import Lines, Output, Pairs, Table, human_bytes


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", type=click.Path(path_type=Path), default=None,
              help="Samples for the inputs of A; with labels, who is right.")  # fmt: skip
@preparation_options
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), default=None,
              help="Also write a page with plots; one file, nothing beside it.")  # fmt: skip
@with_output
def compare(
    out: Output, first: Path, second: Path, data: Path | None, html: Path | None, stated: tuple[str, ...]
) -> None:  # fmt: skip
    """Compare model B with model A: sizes, error of every layer, changed answers.

    A is the reference, most often the float model; B most often a variant of it. Without --data only what the files say
    is compared: nothing is run on made-up samples.
    """
    from edgeship import dataset
    from edgeship.cli.scratch import conversions
    from edgeship.optimize.compare import report
    from edgeship.optimize.compare.perform import compare as perform
    from edgeship.targets import registry

    if data is not None:
        dataset.check_file(data)
    facts = registry.inspect(first), registry.inspect(second)
    prepared = preparation(stated)
    with out.reporter() as reporter, conversions() as folder:
        samples = None if data is None else dataset.load(data, facts[0], preparation=prepared, reporter=reporter)
        found = perform(*facts, samples, folder, reporter)
    names = () if samples is None else samples.classes
    if html is not None:
        _write(html, report.html(found, names))
    sizes: list[tuple[str, object]] = [
        (f"{which}", f"{f.path}  {f.format} {f.precision}  {human_bytes(f.bytes)}")
        for which, f in zip("ab", facts, strict=True)
    ]  # fmt: skip
    human: list[Pairs | Table | Lines] = [
        Pairs([*sizes, *((title, f"{figure}  {text}") for title, figure, text in report.tiles(found)),
               ("first", report.verdict(found))])
    ]  # fmt: skip
    if found.worst:
        human.append(Table(report.WORST_COLUMNS, report.worst_rows(found)))
    else:
        human.append(Table(("operator", "a", "b"), report.operator_rows(found)))
        human.append(
            Table(
                ("layer", "operator", "shape", "weights of a", "weights of b"),
                [[r.label, r.a.operator, None if r.a.shape is None else str(list(r.a.shape)), r.a.weights,
                  None if r.b is None else r.b.weights] for r in found.layers if r.a.weights],
                empty="no layer has weights",
            )
        )  # fmt: skip
    if found.answers is not None and found.answers.changes:
        human.append(Table(report.CHANGE_COLUMNS, report.change_rows(found.answers, names)))
    out.emit("model.compare", report.encode(found), human)
    if html is not None:
        out.say(f"written: {html}")


def _write(path: Path, text: str) -> None:
    from edgeship.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror}", hint="name a file in a folder that is there"
        ) from error
