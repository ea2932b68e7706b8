"""`edgeship model convert` and `edgeship model quantize`: one variant of one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeship import wording
from edgeship.cli.options import preparation, preparation_options, with_output
from edgeship.cli.output import Output, Pairs, human_bytes

if TYPE_CHECKING:
    from edgeship.optimize.convert import Converted
    from edgeship.targets.scheme import Scheme

F = TypeVar("F", bound=Callable[..., Any])


def source_options(function: F) -> F:
    """Add `--signature` and `--shape`: which part of a model is meant, and for inputs of which size."""
    function = click.option(
        "--shape", "shapes", multiple=True, metavar="NAME=1,3,48,320",
        help="Of an input that the model leaves open. Repeatable.",
    )(function)  # fmt: skip
    return click.option(
        "--signature", metavar="NAME", default=None, help="Of a SavedModel; serving_default where not given."
    )(function)


def _making(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of both commands."""
    function = preparation_options(function)
    for option in (
        click.option(
            "--output", type=click.Path(path_type=Path), required=True, metavar="FILE",
            help="The file to write; its recipe goes beside it, as FILE.recipe.json.",
        ),
        click.option(
            "--profile", "board", metavar="NAME", default=None,
            help="The board that it is for: it is loaded and run in the runtime that this board has.",
        ),
        click.option("--format", "format_", metavar="NAME", default=None, help="tflite or onnx; else FILE's suffix."),
        click.option(
            "--data", type=click.Path(path_type=Path), default=None, metavar="DATA",
            help="Representative samples, which int8 and int16x8 are calibrated with: an .npz, a folder of images or "
            "WAV files, a .csv, or module:function.",
        ),
    ):  # fmt: skip
        function = option(function)
    return source_options(function)


@click.command()
@click.argument("file", metavar="MODEL", type=click.Path(path_type=Path))
@_making
@click.option("--precision", metavar="NAME", default=None, help="As for quantize; the model's own where not given.")
@with_output
def convert(
    out: Output, file: Path, output: Path, format_: str | None, data: Path | None, signature: str | None,
    shapes: tuple[str, ...], board: str | None, precision: str | None, stated: tuple[str, ...],
) -> None:  # fmt: skip
    """Convert a model to TFLite or ONNX, with fixed shapes and a batch of 1."""
    from edgeship.model import parse_shapes
    from edgeship.targets import registry
    from edgeship.targets.scheme import Scheme

    facts = registry.inspect(file, signature, parse_shapes(shapes))
    scheme = Scheme(precision or facts.precision)
    _make(out, facts, scheme, output, format_, data, stated, board, "model.convert")


@click.command()
@click.argument("file", metavar="MODEL", type=click.Path(path_type=Path))
@_making
@click.option(
    "--precision",
    metavar="NAME",
    default="int8",
    show_default=True,
    help="float16, dynamic, int8-weights, int8 or int16x8.",
)
@click.option(
    "--ranges",
    metavar="NAME",
    default="min-max",
    show_default=True,
    help="How ranges are chosen: min-max, moving-average, percentile, entropy or mse.",
)
@click.option("--per-tensor", is_flag=True, default=False, help="One scale for a whole weight, not one a channel.")
@click.option("--symmetric", is_flag=True, default=False, help="Activations with a zero point of 0.")
@click.option(
    "--endpoints",
    metavar="NAME",
    default="default",
    show_default=True,
    help="Types of inputs and outputs: default, int8 or float32.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="A layer that stays in float, by the name that a search or model inspect shows. Repeatable.",
)
@click.option(
    "--weights-only",
    multiple=True,
    metavar="NAME",
    help="A layer with int8 weights that computes in float, named likewise. Repeatable.",
)
@click.option(
    "--rounding",
    metavar="NAME",
    default="nearest",
    show_default=True,
    help="How weights become int8: nearest, or fitted to what their layers read, which takes --data.",
)
@with_output
def quantize(
    out: Output, file: Path, output: Path, format_: str | None, data: Path | None, signature: str | None,
    shapes: tuple[str, ...], precision: str, ranges: str, per_tensor: bool, symmetric: bool, endpoints: str,
    keep: tuple[str, ...], weights_only: tuple[str, ...], rounding: str, board: str | None, stated: tuple[str, ...],
) -> None:  # fmt: skip
    """Quantize a model: fewer bits for its weights, or for all of it with --data."""
    from edgeship.model import parse_shapes
    from edgeship.targets import registry
    from edgeship.targets.scheme import Scheme

    scheme = Scheme(precision, ranges, not per_tensor, symmetric, endpoints, keep, rounding, weights_only)
    facts = registry.inspect(file, signature, parse_shapes(shapes))
    _make(out, facts, scheme, output, format_, data, stated, board, "model.quantize")


def _make(
    out: Output, facts: Any, scheme: Scheme, output: Path, format_: str | None, data: Path | None,
    stated: tuple[str, ...], board: str | None, name: str,
) -> None:  # fmt: skip
    from edgeship import profile
    from edgeship.optimize import convert as making

    known = None if board is None else profile.load(board)
    prepared = preparation(stated)
    with out.reporter() as reporter:
        made = making.convert(
            facts, scheme, making.format_of(output, format_), data, output, reporter, preparation=prepared,
            profile=known,
        )  # fmt: skip
    out.emit(name, _data(made, scheme), _human(made, scheme))


def _data(made: Converted, scheme: Scheme) -> dict[str, Any]:
    variant = made.variant
    return {
        "source": str(made.source.path), "source_bytes": made.source.bytes, "file": str(made.path),
        "recipe": str(made.recipe_path), "format": variant.format, "precision": variant.precision,
        "scheme": scheme.encode(), "bytes": variant.bytes, "sha256": variant.sha256, "int8_share": variant.int8_share,
        "inputs": [t.encode() for t in variant.inputs], "outputs": [t.encode() for t in variant.outputs],
        "notes": list(variant.notes), "cached": variant.cached,
        "compared_on": made.compared_on or None, "compared": None if made.gate is None else made.gate.reason,
        "runtime": None if made.trial is None else made.trial.encode(),
    }  # fmt: skip


def _human(made: Converted, scheme: Scheme) -> Pairs:
    variant = made.variant
    share = (
        f", {wording.share(variant.int8_share)} of the weights int8"
        if "int8" in scheme.name or scheme.calibrated
        else ""
    )
    ratio = wording.share(variant.bytes / made.source.bytes)
    return Pairs(
        [
            ("file", made.path),
            ("is", f"{variant.format} {scheme.name}{share}"),
            ("size", f"{human_bytes(variant.bytes)}, {ratio} of the source's {human_bytes(made.source.bytes)}"),
            ("inputs", [f"{t.name}  {t.dtype} {list(t.shape)}" for t in variant.inputs]),
            ("outputs", [f"{t.name}  {t.dtype} {list(t.shape)}" for t in variant.outputs]),
            ("compared", _compared(made)),
            *([("runtime", made.trial.said)] if made.trial is not None else []),
            ("recipe", made.recipe_path),
            *([("notes", list(variant.notes))] if variant.notes else []),
        ]
    )


def _compared(made: Converted) -> str:
    if made.gate is None:
        return "with nothing: give --data to compare its answers with the source's"
    return (
        f"with the source on {wording.counted(made.gate.samples, 'sample')} of {made.compared_on}: {made.gate.reason}"
    )
