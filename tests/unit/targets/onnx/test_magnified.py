"""What is squared or put under a logarithm is computed in float, and so are the linear steps before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgeship.dataset import Dataset
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.onnx.magnified import magnified
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators import onnx_graphs as graphs

ONNX = registry.target("onnx")


def found(path: Path) -> list[str]:
    return [node.name for node in magnified(graphs.load(path))]


def tones(n: int = 24) -> Dataset:
    """Tones between −50 dB and full scale, with noise at −60 dB: [n, 1, 1, 512]."""
    rng, t = np.random.default_rng(0), np.arange(512)
    waves = [np.sin(2 * np.pi * rng.uniform(0.01, 0.1) * t) * 10 ** rng.uniform(-2.5, 0) for _ in range(n)]
    return Dataset({"x": (np.stack(waves) + rng.normal(0, 1e-3, (n, 512))).reshape(n, 1, 1, 512).astype(np.float32)})


def test_all_linear_steps_before_a_logarithm_are_found(tmp_path: Path) -> None:
    """A sign, a factor and a Concat lie between the waves and their squares: basic-pitch's were not seen for that."""
    assert found(graphs.halved_spectrogram(tmp_path / "m.onnx")) == ["filter", "real", "imaginary"]


def test_the_quiet_parts_of_a_spectrogram_are_not_the_noise_of_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """42 dB; with the filter in int8 22, with the waves 11: 256 steps have a floor of −50 dB, a logarithm has none."""
    inline.patch(monkeypatch)
    path, data = graphs.halved_spectrogram(tmp_path / "m.onnx"), tones()
    variant = ONNX.build(ONNX.inspect(path), Scheme("int8"), data, tmp_path / "c", Reporter())
    (wanted,) = registry.source_answers(ONNX.inspect(path), variant, data, Reporter())
    (got,) = answers.of_variant(variant, data)
    noise = 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())
    assert noise > 30
    assert variant.int8_share == 1
    made = graphs.load(variant.path)
    casts = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    by_name = {node.name: node for node in made.graph.node}
    assert not {by_name[name].input[0] for name in ("filter", "real", "imaginary")} & casts
    assert by_name["second"].input[0] in casts


def test_the_linear_steps_end_where_something_is_not_linear(tmp_path: Path) -> None:
    path = graphs.halved_spectrogram(tmp_path / "m.onnx", between="Relu")
    assert found(path) == ["real", "imaginary"]


@pytest.mark.parametrize(("exponent", "layers"), [(2.0, ["first"]), (0.5, ["first"]), (3.0, [])])
def test_a_cube_makes_nothing_large(tmp_path: Path, exponent: float, layers: list[str]) -> None:
    """An activation that is written out cubes what a layer answers (GELU by tanh); that layer may be int8."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="first"),
        helper.make_node("Pow", ["h", "e"], ["p"]),
        helper.make_node("Gemm", ["p", "v"], ["y"], name="second"),
    ]
    held: dict[str, graphs.Array] = {
        "w": graphs.weights((8, 8), 1), "v": graphs.weights((8, 8), 2), "e": np.float32(exponent),
    }  # fmt: skip
    ends = [graphs.value("x", (1, 8))], [graphs.value("y", (1, 8))]
    assert found(graphs.save(tmp_path / "m.onnx", nodes, *ends, held)) == layers


def test_a_recurrent_layer_ends_the_linear_steps(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"], name="first"),
        helper.make_node("LSTM", ["a", "w", "r"], ["h"], hidden_size=4, name="cell"),
        helper.make_node("Log", ["h"], ["y"]),
    ]
    held = {"u": graphs.weights((3, 3)), "w": graphs.weights((1, 16, 3), 1), "r": graphs.weights((1, 16, 4), 2)}
    ends = [graphs.value("x", (5, 1, 3))], [graphs.value("y", (5, 1, 1, 4))]
    assert found(graphs.save(tmp_path / "m.onnx", nodes, *ends, held)) == ["cell"]
