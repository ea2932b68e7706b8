"""The command that makes a variant of a scheme, to type."""

from __future__ import annotations

import shlex
from pathlib import Path

from edgeship.targets.scheme import Scheme


def command(
    model: Path, format: str, scheme: Scheme, data: Path | None, output: Path,  # noqa: A002
    options: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """`edgeship model quantize …`, quoted for a shell, that makes a variant of this scheme."""
    words = ["edgeship", "model", "quantize", str(model), "--format", format, "--precision", scheme.precision]
    if scheme.precision == "float32":
        words = ["edgeship", "model", "convert", str(model), "--format", format]
    if scheme.needs_data and data is not None:
        words += ["--data", str(data)]
    if scheme.ranges != "min-max":
        words += ["--ranges", scheme.ranges]
    if not scheme.per_channel:
        words.append("--per-tensor")
    if scheme.symmetric:
        words.append("--symmetric")
    if scheme.endpoints != "default":
        words += ["--endpoints", scheme.endpoints]
    for name in scheme.keep:
        words += ["--keep", name]
    for name in scheme.weights_only:
        words += ["--weights-only", name]
    if scheme.rounding != "nearest":
        words += ["--rounding", scheme.rounding]
    return shlex.join([*words, *options, "--output", str(output)])
