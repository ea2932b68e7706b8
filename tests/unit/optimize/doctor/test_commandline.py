"""The command that the doctor prints."""

from __future__ import annotations

import shlex
from pathlib import Path

from edgeship.optimize.doctor.commandline import command
from edgeship.targets.scheme import Scheme


def test_the_command_of_a_scheme_is_quoted_and_whole() -> None:
    scheme = Scheme("int8", "percentile", per_channel=False, endpoints="int8", keep=("a b;c",))
    options = ("--shape", "x=1,3,4,4")
    text = command(Path("my model.onnx"), "onnx", scheme, Path("d.npz"), Path("o.onnx"), options)
    assert shlex.split(text) == [
        "edgeship", "model", "quantize", "my model.onnx", "--format", "onnx", "--precision", "int8", "--data", "d.npz",
        "--ranges", "percentile", "--per-tensor", "--endpoints", "int8", "--keep", "a b;c",
        "--shape", "x=1,3,4,4", "--output", "o.onnx",
    ]  # fmt: skip
