"""What is advised depends on the limit that breaks: data does not make a file smaller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeship import profile
from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.optimize.search.advice import advice
from edgeship.optimize.search.candidate import Wish
from edgeship.optimize.search.pick import Budget, Row, choose
from edgeship.optimize.search.run import Found, Request
from edgeship.targets import registry
from tests.simulators.models import SHAPE, samples, tiny_onnx
from tests.simulators.searched import row


def facts(folder: Path, format_name: str) -> ModelFacts:
    return replace(registry.inspect(tiny_onnx(folder / "m.onnx", precision="float32").path), format=format_name)


def advised(
    folder: Path, rows: list[Row], budget: Budget, *, format_name: str = "keras", wish: Wish | None = None
) -> str:
    x, labels = samples(10)
    data = Dataset({"image": x.reshape(10, *SHAPE)}, labels)
    request = Request(
        facts(folder, format_name), profile.load("raspberry-pi-5"), None, data, budget, folder, wish or Wish()
    )
    picked = choose(rows, budget, arch="aarch64", precisions=("int8",), formats=("tflite", "onnx"))
    assert picked.row is None
    return advice(Found(request, picked, (), ()))


def test_a_file_that_is_too_large_gets_pruning_and_precision_not_data(tmp_path: Path) -> None:
    said = advised(tmp_path, [row("tflite int8", size=1000)], Budget(max_bytes=500))
    assert "--prune 2" in said
    assert "--max-size" in said
    assert "data" not in said
    wish = Wish((), ("float32",), (2.0,))
    said = advised(tmp_path, [row("tflite float32", size=1000)], Budget(max_bytes=500), wish=wish)
    assert "--precision int8" in said
    assert "--prune 4" in said


def test_what_cannot_be_pruned_is_not_told_to_be(tmp_path: Path) -> None:
    said = advised(tmp_path, [row("onnx int8", size=1000)], Budget(max_bytes=500), format_name="onnx")
    assert "the float Keras model with --prune" in said


def test_a_model_that_is_too_slow_is_timed_on_the_board_or_made_smaller(tmp_path: Path) -> None:
    said = advised(tmp_path, [row("tflite int8", us=900)], Budget(max_latency_us=100.0))
    assert "--prune 2" in said
    assert "--on DEVICE times it on the board itself, this was x86_64" in said
    assert "calibration" not in said
    said = advised(tmp_path, [row("tflite int16x8")], Budget(max_latency_us=100.0))
    assert said.startswith("its latency has to be known: --on DEVICE")


def test_a_loss_gets_data_and_an_unproven_one_more_samples(tmp_path: Path) -> None:
    assert "calibration data" in advised(tmp_path, [row("tflite int8", lost=50)], Budget())
    said = advised(tmp_path, [row("tflite int8", lost=8)], Budget(strict=True))
    assert said.startswith("more evaluation samples: n ≥ ")
    assert "without --strict" in said


def test_where_int8_alone_was_tried_and_loses_the_next_precision_is_named(tmp_path: Path) -> None:
    rows = [row("tflite int8", lost=300)]
    said = advised(tmp_path, rows, Budget(), wish=Wish((), ("int8",)))
    assert "--precision int8-weights, as small as int8 and computed in float" in said
    assert "int8-weights" not in advised(tmp_path, rows, Budget())  # it was tried
    small = Wish((), ("int8", "int8-weights"))
    assert "no --precision" in advised(tmp_path, rows, Budget(), wish=small)
    assert "no --precision" not in advised(tmp_path, rows, Budget(), wish=Wish((), (*small.precisions, "float16")))
