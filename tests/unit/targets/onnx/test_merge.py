"""HardSwish that is written out becomes one operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgeship.targets.onnx.merge import merge
from tests.simulators import onnx_graphs as graphs
from tests.unit.targets.onnx.test_quantize import build, here, kinds

__all__ = ["here"]  # steps run in this process

HELD: dict[str, Any] = {
    "w": graphs.weights((8, 3, 3, 3), 1), "b": np.linspace(-1, 1, 8, dtype=np.float32), "three": np.float32(3),
    "zero": np.float32(0), "six": np.float32(6), "sixth": np.float32(1 / 6),
}  # fmt: skip
CONV = helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
GATE = [helper.make_node("Add", ["c", "three"], ["a"]), helper.make_node("Clip", ["a", "zero", "six"], ["g"])]

WRITTEN_OUT = {
    "a sixth of the product": [*GATE, *(
        helper.make_node(*given) for given in (("Mul", ["c", "g"], ["p"]), ("Div", ["p", "six"], ["y"]))
    )],
    "a factor behind the product": [*GATE, *(
        helper.make_node(*given) for given in (("Mul", ["g", "c"], ["p"]), ("Mul", ["sixth", "p"], ["y"]))
    )],
    "a sixth of the gate": [*GATE, *(
        helper.make_node(*given) for given in (("Div", ["g", "six"], ["p"]), ("Mul", ["c", "p"], ["y"]))
    )],
    "a hard sigmoid": [
        helper.make_node("HardSigmoid", ["c"], ["g"], alpha=1 / 6, beta=0.5), helper.make_node("Mul", ["c", "g"], ["y"])
    ],
}  # fmt: skip


def saved(path: Path, nodes: list[Any], **held: Any) -> Path:
    shape = (1, 8, 8, 8)
    return graphs.save(path, nodes, [graphs.value("x", (1, 3, 8, 8))], [graphs.value("y", shape)], HELD | held)


def merged(path: Path) -> Any:
    """What became of it; it answers as before, to the last digits."""
    before, after = (onnx.shape_inference.infer_shapes(graphs.load(path)) for _ in range(2))
    count = merge(after)
    x = {"x": 5 * np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    one, other = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, x)[0]
        for m in (before, after)
    )
    assert np.allclose(one, other, atol=1e-5)
    assert count == len(before.graph.node) - len(after.graph.node)
    return after.graph


@pytest.mark.parametrize("written", WRITTEN_OUT.values(), ids=list(WRITTEN_OUT))
def test_an_activation_that_is_written_out_becomes_one_operator(tmp_path: Path, written: list[Any]) -> None:
    graph = merged(saved(tmp_path / "m.onnx", [CONV, *written]))
    assert [(node.op_type, [*node.input], [*node.output]) for node in graph.node] == [
        ("Conv", ["x", "w", "b"], ["c"]), ("HardSwish", ["c"], ["y"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"three": np.float32(2)}, []), ({"six": np.float32(5)}, []), ({"zero": np.float32(-1)}, []),
        ({}, [helper.make_node("Add", ["y0", "g"], ["y"])]),
    ],
    ids=["another offset", "another bound", "a bound below", "a part that is read elsewhere too"],
)  # fmt: skip
def test_what_only_looks_like_it_stays(tmp_path: Path, changed: dict[str, Any], more: list[Any]) -> None:
    last = helper.make_node("Div", ["p", "six"], ["y0" if more else "y"])
    nodes = [CONV, *GATE, helper.make_node("Mul", ["c", "g"], ["p"]), last, *more]
    graph = merged(saved(tmp_path / "m.onnx", nodes, **changed))
    assert len(graph.node) == len(nodes)


def test_it_is_part_of_preparing_a_float_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [CONV, *WRITTEN_OUT["a sixth of the product"]])
    assert kinds(build(path, None, "float32")) == {"Conv", "HardSwish"}
