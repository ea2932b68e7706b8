"""Regions where int8 goes wrong: outputs that were always nothing, front ends without weights; files packed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.sensitivity import rank
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import floors
from edgeship.targets.tflite.layers import layers
from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.unpack import unpacked
from tests.simulators import inline
from tests.simulators.tflite_graphs import mlp, samples
from tests.simulators.tflite_regions import between, dead, loudness, low_pass, spectral

TFLITE = registry.target("tflite")
FRONT = ("squares", "power", "level", "logs", "scaled")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps run in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def build(path: Path, scheme: Scheme, data: Dataset) -> Variant:
    return TFLITE.build(TFLITE.inspect(path), scheme, data, path.parent / "c", Reporter())


def lost(path: Path, variant: Variant, data: Dataset) -> float:
    """Energy of the error over that by which the answers of the float file differ."""
    plain = TFLITE.as_is(TFLITE.inspect(path), path.parent / "c", Reporter())
    wanted, got = (answers.of_variant(v, data)[0] for v in (plain, variant))
    return float(np.square(wanted - got).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


# ── an output that calibration never saw ─────────────────────────────────────────────────────────────────────────────


def test_a_layer_whose_output_is_always_nothing_can_be_computed(tmp_path: Path) -> None:
    """XNNPACK refuses an output step 256 times finer than the products, and LiteRT may end the process on that."""
    path, data = dead(tmp_path / "m.tflite"), samples(64)
    assert lost(path, build(path, Scheme("int8"), data), data) < 0.01


def test_only_ranges_below_a_layers_own_step_are_raised(tmp_path: Path) -> None:
    data = dead(tmp_path / "m.tflite").read_bytes()
    ranges = {
        "x": (-3.0, 3.0),
        "nothing": (0.0, 0.0),
        "gate": (-1e-12, 2e-12),
        "open": (-2.0, 1.0),
        "both": (-2.0, 1.0),
    }
    found = floors.raised(data, read(data), ranges)
    assert {name for name in ranges if found[name] != ranges[name]} == {"nothing", "gate"}
    assert 0 < found["nothing"][1] < 0.05
    assert found["gate"][1] == pytest.approx(-2 * found["gate"][0])  # both sides of 0 as they were


# ── a front end without weights ──────────────────────────────────────────────────────────────────────────────────────


def test_operators_without_weights_can_be_kept_and_the_input_reaches_them_as_it_is(tmp_path: Path) -> None:
    path, data = spectral(tmp_path / "m.tflite"), loudness(64)
    assert lost(path, build(path, Scheme("int8"), data), data) > 1
    variant = build(path, Scheme("int8", keep=FRONT), data)
    assert lost(path, variant, data) < 0.01
    assert variant.inputs[0].dtype == "float32"
    assert variant.int8_share == 1.0
    only_moved = next(t for t in read(variant.path.read_bytes()).subgraphs[0].tensors if t.name == "parts")
    assert only_moved.dtype == "float32"


def test_an_input_stays_int8_where_no_layer_to_keep_reads_it(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(20)
    kinds = [build(path, Scheme("int8", keep=(name,)), data).inputs[0].dtype for name in ("dense_a", "dense_b")]
    assert kinds == ["float32", "int8"]


def test_what_moves_values_between_operators_in_float_stays_in_float_and_so_does_a_comparison(tmp_path: Path) -> None:
    path, data = between(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme("int8"), data)
    kinds = {t.name: t.dtype for t in read(variant.path.read_bytes()).subgraphs[0].tensors}
    assert (kinds["moved"], kinds["back"]) == ("float32", "float32")
    assert (variant.inputs[0].dtype, variant.outputs[0].dtype, variant.int8_share) == ("int8", "int8", 1.0)
    assert lost(path, variant, data) < 0.01


def test_a_low_pass_is_a_layer_although_its_filter_is_no_matrix(tmp_path: Path) -> None:
    assert "low" in {layer.name for layer in layers(low_pass(tmp_path / "m.tflite"))}


def test_operators_without_weights_are_ranked_with_the_layers(tmp_path: Path) -> None:
    path, data = spectral(tmp_path / "m.tflite"), loudness(64)
    costs = rank(TFLITE.inspect(path), Candidate("tflite", Scheme("int8")), data, tmp_path / "c", Reporter())
    places = {cost.layer.name: cost.place for cost in costs}
    assert {"squares", "power", "level", "hidden", "last"} <= set(places)
    assert places["squares"] < places["power"] < places["hidden"] < places["last"]
    assert {cost.layer.name for cost in costs[:3]} <= {*FRONT}
    work = {cost.layer.name: cost.work for cost in costs}
    assert (work["squares"], work["hidden"], work["last"]) == (24, 512, 256)


# ── files that keep constants behind the tables ──────────────────────────────────────────────────────────────────────


def test_what_the_quantizer_wrote_can_be_packed_again(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(20)
    made = build(path, Scheme("int8"), data).path.read_bytes()
    again = packed(unpacked(made), len(made))
    sizes = [[t.elements for t in read(file).subgraphs[0].tensors if t.constant] for file in (made, again)]
    assert sizes[0] == sizes[1]
    other = tmp_path / "again.tflite"
    other.write_bytes(again)
    answered = [
        answers.of_variant(TFLITE.as_is(TFLITE.inspect(p), tmp_path / "c", Reporter()), data)[0]
        for p in (build(path, Scheme("int8"), data).path, other)
    ]
    assert np.array_equal(answered[0], answered[1])
