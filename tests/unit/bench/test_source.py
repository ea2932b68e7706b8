"""Which variants of a file the host measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeship.bench import source
from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets.base import Recipe, Variant
from edgeship.targets.scheme import Scheme

IMAGE = TensorSpec("image", "float32", (1, 4))


def facts(format: str = "keras", precision: str = "float32") -> ModelFacts:  # noqa: A002
    return ModelFacts(Path(f"m.{format}"), format, "ab" * 32, 100, precision, (IMAGE,), (IMAGE,), {}, 5)


class FakeTarget:
    """Reaches some sources; remembers what it built."""

    def __init__(self, name: str, sources: Sequence[str]) -> None:
        self.name, self.sources = name, sources
        self.built: list[tuple[str, bool]] = []

    def inspect(self, path: Path) -> ModelFacts:
        raise AssertionError(path)

    def reachable(self, source_format: str, precision: str) -> str | None:
        if source_format not in self.sources:
            return f"{source_format} does not lead to {self.name}"
        return "no such precision" if precision == "int4" else None

    def build(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None, folder: Path, reporter: Reporter
    ) -> Variant:
        self.built.append((scheme.precision, calibration is not None))
        recipe = Recipe(source.sha256, source.format, self.name, scheme.precision, ())
        return Variant(folder / "m", recipe, folder / "r", (IMAGE,), (IMAGE,), 50, "cd" * 32)

    def as_is(self, source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
        raise AssertionError(source)


TARGETS = {"tflite": FakeTarget("tflite", ["keras", "tflite"]), "onnx": FakeTarget("onnx", ["keras", "onnx"])}


@pytest.mark.parametrize(
    ("found", "formats", "precisions", "calibrated", "pairs"),
    [
        (facts(), (), (), True, [("tflite", "float32"), ("tflite", "int8")]),
        (facts(), (), (), False, [("tflite", "float32")]),
        (facts("onnx"), (), (), True, [("onnx", "float32"), ("onnx", "int8")]),
        (facts("tflite", "int8"), (), (), True, [("tflite", "int8")]),
        (facts(), ("onnx", "tflite"), ("int8",), True, [("onnx", "int8"), ("tflite", "int8")]),
    ],
)
def test_what_is_measured(
    found: ModelFacts, formats: tuple[str, ...], precisions: tuple[str, ...], calibrated: bool,
    pairs: list[tuple[str, str]],
) -> None:  # fmt: skip
    assert source.wanted(found, TARGETS, formats=formats, precisions=precisions, calibrated=calibrated) == pairs


@pytest.mark.parametrize(
    ("found", "formats", "precisions", "says"),
    [
        (facts(), ("coreml",), (), "unknown format 'coreml'"),
        (facts("onnx"), ("tflite",), (), "onnx does not lead to tflite"),
        (facts(), (), ("int4",), "no such precision"),
        (facts("savedmodel"), (), (), "no format that an engine runs"),
    ],
)
def test_what_cannot_be_measured_says_why(
    found: ModelFacts, formats: tuple[str, ...], precisions: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        source.wanted(found, TARGETS, formats=formats, precisions=precisions, calibrated=True)


def test_variants_are_built_with_calibration_only_where_it_is_needed(tmp_path: Path) -> None:
    data = Dataset({"image": np.zeros((3, 1, 4), np.float32)})
    made = source.build(
        facts(), [("tflite", "float32"), ("tflite", "int8")], TARGETS, name="digits", calibration=data,
        folder=tmp_path, reporter=Reporter(),
    )  # fmt: skip
    assert TARGETS["tflite"].built == [("float32", False), ("int8", True)]
    assert [(m.name, m.format, m.precision, m.bytes) for m in made] == [
        ("digits", "tflite", "float32", 50), ("digits", "tflite", "int8", 50),
    ]  # fmt: skip
    assert made[0].recipe is not None
