"""What every engine keeps, for both runtime libraries: the same tests on tiny TFLite and ONNX models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
from tests.simulators.models import (
    Precision,
    TinyModel,
    library,
    pair_onnx,
    pair_tflite,
    samples,
    source,
    tiny_onnx,
    tiny_tflite,
)

FORMATS = ["tflite", "onnx"]
PRECISIONS: list[Precision] = ["int8", "float32"]
Make = Callable[..., TinyModel]
TINY: dict[str, Make] = {"tflite": tiny_tflite, "onnx": tiny_onnx}
PAIR: dict[str, Make] = {"tflite": pair_tflite, "onnx": pair_onnx}


def load(tiny: TinyModel, threads: int = 1) -> engine.Model:
    return engine.load(tiny.format, str(library(tiny.format)), str(tiny.path), threads=threads)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("format_", FORMATS)
def test_answers_are_those_of_the_reference(format_: str, precision: Precision, tmp_path: Path) -> None:
    tiny = TINY[format_](tmp_path / "m", precision)
    model = load(tiny)
    assert model.inputs == tiny.inputs
    assert model.outputs == tiny.outputs
    assert model.notes == ()
    x, labels = samples(100)
    agreed = 0
    for i in range(len(x)):
        raw = tiny.quantize(x[i : i + 1])
        (answer,) = model.run(raw)
        step = 2 if tiny.outputs[0].scale else 1e-5
        wanted = np.frombuffer(tiny.reference(raw)[0], tiny.outputs[0].dtype).astype(float)
        assert np.abs(np.frombuffer(answer, tiny.outputs[0].dtype) - wanted).max() <= step
        agreed += int(tiny.dequantize(answer).argmax()) == labels[i]
    assert agreed >= 98
    assert np.abs(tiny.dequantize(answer) - source(x[-1:])).max() < 0.05
    model.close()


@pytest.mark.parametrize("format_", FORMATS)
def test_two_inputs_and_two_outputs_and_any_bytes_like_object(format_: str, tmp_path: Path) -> None:
    tiny = PAIR[format_](tmp_path / "m")
    model = load(tiny, threads=2)
    a, b = np.array([1, 2, 3, 4], np.float32), np.array([0.5, -1, 2, 8], np.float32)
    wanted = dict(zip([o.name for o in tiny.outputs], tiny.reference(a.tobytes(), b.tobytes()), strict=True))
    answers = model.run(a.tobytes(), memoryview(b.tobytes()))
    assert dict(zip([o.name for o in model.outputs], answers, strict=True)) == wanted
    assert model.run(memoryview(a.tobytes()).cast("f"), memoryview(b)) == answers  # type: ignore[arg-type]  # numpy's
    model.close()


@pytest.mark.parametrize("format_", FORMATS)
def test_inputs_of_a_wrong_number_or_size_are_refused_and_do_no_harm(format_: str, tmp_path: Path) -> None:
    tiny = PAIR[format_](tmp_path / "m")
    model = load(tiny)
    good = np.ones(4, np.float32).tobytes()
    before = model.run(good, good)
    with pytest.raises(EngineError, match="takes 2 inputs, 1 were given"):
        model.run(good)
    with pytest.raises(EngineError, match=r"input 'b' takes 16 bytes \(float32 \[1, 4\]\), 15 were given"):
        model.run(good, good[:-1])
    with pytest.raises(EngineError, match="20 were given"):
        model.run(good + b"1234", good)
    assert model.run(good, good) == before
    model.close()


@pytest.mark.parametrize("format_", FORMATS)
def test_a_closed_model_says_so_and_closes_again(format_: str, tmp_path: Path) -> None:
    tiny = TINY[format_](tmp_path / "m")
    model = load(tiny)
    model.close()
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.run(bytes(tiny.inputs[0].nbytes))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_model_without_fixed_shapes_is_refused(format_: str, tmp_path: Path) -> None:
    tiny = TINY[format_](tmp_path / "m", dynamic=True)
    with pytest.raises(EngineError, match=r"'image' has no fixed shape \(\? × 8 × 8 × 1\); convert .* batch of 1"):
        load(tiny)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_is_no_library_is_refused(format_: str, tmp_path: Path) -> None:
    tiny = TINY[format_](tmp_path / "m")
    (tmp_path / "lib.so").write_bytes(b"not a library")
    with pytest.raises(EngineError, match="the runtime library does not load"):
        engine.load(format_, str(tmp_path / "lib.so"), str(tiny.path))


@pytest.mark.parametrize(("format_", "other"), [("tflite", "onnx"), ("onnx", "tflite")])
def test_another_library_is_refused_with_the_version_needed(format_: str, other: str, tmp_path: Path) -> None:
    tiny = TINY[format_](tmp_path / "m")
    with pytest.raises(EngineError, match="or later is needed"):
        engine.load(format_, str(library(other)), str(tiny.path))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("content", [None, b"", b"\x00" * 8, b"nothing like a model"])
def test_what_is_no_model_is_refused(format_: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError):
        engine.load(format_, str(library(format_)), str(path))


def test_a_format_without_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(EngineError, match="no engine runs the format 'tensorrt'; known are tflite, onnx"):
        engine.load("tensorrt", "lib.so", "model")


def test_threads_must_be_positive() -> None:
    with pytest.raises(EngineError, match="threads must be 1 or more"):
        engine.load("tflite", "lib.so", "model", threads=0)
