"""A Loop that carries its weights, as tf2onnx writes recurrent layers of Keras: int8 all the same, and it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.dataset import Dataset
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.onnx import invariant
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators import onnx_graphs as graphs

STEPS, WORDS, UNITS = 6, 50, 16
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    inline.patch(monkeypatch)


def recurrent(path: Path, *, read_after: bool = False) -> Path:
    """words [1, 6] -> a row each -> Loop: h = tanh(row + h · k), k carried -> y [1, 16]; z: k after the loop."""
    value = graphs.value
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["rows", "i"], ["row"]),
            helper.make_node("MatMul", ["h", "k_in"], ["hk"]),
            helper.make_node("Add", ["row", "hk"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["h_out"]),
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Identity", ["k_in"], ["k_out"]),
        ],
        "body",
        [value("i", [], INT64), value("on", [], BOOL), value("h", [1, UNITS]), value("k_in", [UNITS, UNITS])],
        [value("still", [], BOOL), value("h_out", [1, UNITS]), value("k_out", [UNITS, UNITS])],
    )
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["found"]),
        helper.make_node("Reshape", ["found", "apart"], ["rows"]),
        helper.make_node("Loop", ["rounds", "yes", "zero", "k"], ["y", "k_after"], body=body),
    ]
    outputs = [value("y", [1, UNITS])]
    if read_after:
        nodes.append(helper.make_node("Abs", ["k_after"], ["z"]))
        outputs.append(value("z", [UNITS, UNITS]))
    held: dict[str, Any] = {
        "table": graphs.weights([WORDS, UNITS]) * 4, "k": graphs.weights([UNITS, UNITS], 2),
        "apart": np.array([STEPS, 1, UNITS]), "rounds": np.array(STEPS), "yes": np.array(True),
        "zero": np.zeros((1, UNITS), np.float32),
    }  # fmt: skip
    return graphs.save(path, nodes, [value("words", [1, STEPS], INT64)], outputs, held)


def test_the_weights_become_int8_and_the_file_runs(tmp_path: Path) -> None:
    target = registry.target("onnx")
    data = Dataset({"words": np.random.default_rng(1).integers(0, WORDS, (60, 1, STEPS))})
    facts = target.inspect(recurrent(tmp_path / "m.onnx"))
    floats = target.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    small = target.build(facts, Scheme("int8"), data, tmp_path / "c", Reporter())
    assert small.int8_share == 1.0
    expected, given = (answers.of_variant(variant, data)[0] for variant in (floats, small))
    assert np.corrcoef(expected.ravel(), given.ravel())[0, 1] > 0.99


def test_what_a_loop_changes_or_what_is_read_after_it_stays_carried(tmp_path: Path) -> None:
    model = onnx.load(recurrent(tmp_path / "m.onnx", read_after=True))
    before = model.SerializeToString()
    invariant.settle(model.graph)
    assert model.SerializeToString() == before


def test_the_body_holds_what_it_was_given_and_the_graph_no_longer(tmp_path: Path) -> None:
    model = onnx.load(recurrent(tmp_path / "m.onnx"))
    wanted = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "k")
    model.graph.input.append(graphs.value("k", [UNITS, UNITS]))  # as files before IR 4 list it
    invariant.settle(model.graph)
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    assert [*loop.input] == ["rounds", "yes", "zero"]
    assert [*loop.output] == ["y"]
    assert [value.name for value in body.input] == ["i", "on", "h"]
    assert [value.name for value in body.output] == ["still", "h_out"]
    (held,) = body.initializer
    assert held.name == "k_in"
    assert np.array_equal(numpy_helper.to_array(held), wanted)
    assert "k" not in {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    onnx.checker.check_model(model)
