"""`edgeship model`: inspect; its other commands have files of their own."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.model_compare import compare
from edgeship.cli.model_convert import convert, quantize, source_options
from edgeship.cli.model_prune import prune
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs, human_bytes


@click.group()
def model() -> None:
    """Look into model files, convert and quantize them."""


model.add_command(convert)
model.add_command(quantize)
model.add_command(compare)


@model.command()
@click.argument("file", metavar="MODEL", type=click.Path(path_type=Path))
@source_options
@with_output
def inspect(out: Output, file: Path, signature: str | None, shapes: tuple[str, ...]) -> None:
    """Show format, size, inputs, outputs and operators of a model."""
    from edgeship.model import parse_shapes
    from edgeship.targets import registry

    facts = registry.inspect(file, signature, parse_shapes(shapes))
    data = facts.encode()

    def tensors(key: str) -> list[str]:
        shown = []
        for t in data[key]:
            scale = f"  scale {t['scale']:g}, zero point {t['zero_point']}" if t.get("scale") else ""
            shown.append(f"{t['name']}  {t['dtype']} {t['shape']}{scale}")
        return shown

    operators = sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))
    out.emit(
        "model.inspect",
        data,
        Pairs(
            [
                ("file", facts.path),
                ("format", facts.format),
                ("precision", facts.precision),
                ("size", human_bytes(facts.bytes)),
                ("sha256", facts.sha256),
                ("parameters", f"{facts.parameters:,}" if facts.parameters is not None else None),
                ("inputs", tensors("inputs")),
                ("outputs", tensors("outputs")),
                ("operators", [f"{count:>5} {name}" for name, count in operators]),
                *((key, value) for key, value in facts.details.items()),
                *([("notes", list(facts.notes))] if facts.notes else []),
            ]
        ),
    )


model.add_command(prune)
