"""`edgeship model doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.model_convert import source_options
from edgeship.cli.options import preparation, preparation_options, with_output
from edgeship.cli.output import Output, Pairs


@click.command()
@click.argument("file", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--format", "format_", metavar="NAME", default=None,
              help="tflite or onnx; the model's own where not given, tflite for other sources.")  # fmt: skip
@click.option("--precision", metavar="NAME", default="int8", show_default=True,
              help="float32, float16, dynamic, int8-weights, int8 or int16x8.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Representative samples: to calibrate with, and to see whether answers are right.")  # fmt: skip
@click.option("--keep", multiple=True, metavar="NAME", help="A layer that stays in float already. Repeatable.")
@click.option("--output", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="Where the smallest failing part goes, always; else only where no fix works.")  # fmt: skip
@click.option("--trials", type=click.IntRange(4, 1000), default=60, show_default=True, metavar="N",
              help="Builds of parts and variants at most.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(10), default=900, show_default=True, metavar="N",
              help="No new trial after so long.")  # fmt: skip
@source_options
@preparation_options
@with_output
def doctor(
    out: Output, file: Path, format_: str | None, precision: str, data: Path | None, keep: tuple[str, ...],
    output: Path | None, trials: int, seconds: int, signature: str | None, shapes: tuple[str, ...],
    stated: tuple[str, ...],
) -> None:  # fmt: skip
    """Find out why a conversion or quantization fails or answers wrong.

    Names the smallest failing part, tries the known fixes and prints the command of the one that works. Where none
    does, the part and its inputs are saved for a bug report. Exits with 6 unless all is well as asked for.
    """
    from edgeship import dataset
    from edgeship.cli.scratch import conversions
    from edgeship.model import parse_shapes
    from edgeship.optimize.doctor import report
    from edgeship.optimize.doctor.diagnosis import OK, Limits, Request
    from edgeship.optimize.doctor.examine import examine, reachable
    from edgeship.targets import registry
    from edgeship.targets.scheme import Scheme

    scheme = Scheme(precision, keep=keep)
    if data is not None:
        dataset.check_file(data)
    facts = registry.inspect(file, signature, parse_shapes(shapes))
    name = format_ or (facts.format if facts.format in registry.targets() else "tflite")
    reachable(facts, registry.target(name).name, scheme)
    prepared = preparation(stated)
    with out.reporter() as reporter, conversions() as folder:
        samples = None if data is None else dataset.load(data, facts, preparation=prepared, reporter=reporter)
        options = [word for shape in shapes for word in ("--shape", shape)]
        options += [] if signature is None else ["--signature", signature]
        preparing = tuple(word for one in stated for word in ("--prepare", one))
        request = Request(facts, name, scheme, samples, data, folder, output, tuple(options), preparing)
        found = examine(request, reporter, Limits(trials, float(seconds)))
    out.emit("model.doctor", report.encode(found), Pairs(report.pairs(found)))
    if found.stage != OK:
        raise SystemExit(6)
