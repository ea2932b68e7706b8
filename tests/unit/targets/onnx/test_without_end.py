"""Models that take hours, or for ever: each thing that a runtime does with one has a limit of its own, and is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship import libraries
from edgeship.errors import ConversionError
from edgeship.reporter import Reporter
from edgeship.targets import child, registry
from edgeship.targets.scheme import Scheme
from tests.simulators import onnx_graphs as graphs

ONCE = 2.0  # seconds instead of 300


def looping(path: Path) -> Path:
    """x [1, 4] + what a Loop makes in 10¹⁰ rounds, which depends on no input."""
    value = graphs.value
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "one"], ["more"]), helper.make_node("Identity", ["on"], ["still"])], "body",
        [value("i", [], TensorProto.INT64), value("on", [], TensorProto.BOOL), value("v", [1, 4])],
        [value("still", [], TensorProto.BOOL), value("more", [1, 4])],
        [numpy_helper.from_array(np.ones((1, 4), np.float32), "one")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["rounds", "yes", "start"], ["grown"], body=body),
        helper.make_node("Add", ["x", "grown"], ["y"]),
    ]
    held: dict[str, Any] = {
        "rounds": np.array(10**10, np.int64), "yes": np.array(True), "start": np.zeros((1, 4), np.float32),
    }  # fmt: skip
    return graphs.save(path, nodes, [value("x", [1, 4])], [value("y", [1, 4])], held)


def folding(path: Path) -> Path:
    """x [1, 4] + the largest element of 4,000 products of matrices [2000, 2000]: constants, which loading works out."""
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["size"], ["c0"], value=numpy_helper.from_array(np.array([5e-4], np.float32))
        ),
        *(helper.make_node("MatMul", [f"c{i}", "c0"], [f"c{i + 1}"]) for i in range(4000)),
        helper.make_node("ReduceMax", ["c4000"], ["top"], keepdims=0),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    held = {"size": np.array([2000, 2000], np.int64)}
    return graphs.save(path, nodes, [graphs.value("x", [1, 4])], [graphs.value("y", [1, 4])], held)


def choosing(path: Path) -> Path:
    """As `folding`, with an If that adds the input once more or not: whether both branches load is tried first."""
    model = graphs.load(folding(path))
    value = graphs.value
    bodies = [
        helper.make_graph([helper.make_node(kind, ["y", "x"], [kind])], kind, [], [value(kind, [1, 4])])
        for kind in ("Add", "Sub")
    ]
    model.graph.node.append(helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["most"], ["some"], to=TensorProto.BOOL))
    model.graph.node.append(helper.make_node("If", ["some"], ["z"], then_branch=bodies[0], else_branch=bodies[1]))
    model.graph.output[0].name = "z"
    path.write_bytes(model.SerializeToString())
    return path


LOADING = "loading the model, and computing what is constant in it,"


@pytest.mark.parametrize(
    ("made", "said"), [(looping, "one answer of the model"), (folding, LOADING), (choosing, LOADING)]
)
def test_preparing_one_ends_at_the_limit_of_what_it_was_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Any, said: str
) -> None:
    monkeypatch.setattr(child, "CONVERT", replace(child.CONVERT, once=ONCE))
    target, path = registry.target("onnx"), made(tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=rf"onnx.prepare was stopped: {said} took more than 2 s") as caught:
        target.build(target.inspect(path), Scheme("float32"), None, tmp_path / "c", Reporter())
    assert "EDGESHIP_STEP_LIMIT=2h in the environment allows more time" in str(caught.value.hint)


def test_the_engine_loads_within_that_limit_too(tmp_path: Path) -> None:
    request = {
        "format": "onnx", "path": str(folding(tmp_path / "m.onnx")), "threads": 1, "samples": None,
        "library": str(libraries.for_host("onnx").path),
    }  # fmt: skip
    with child.workspace() as work, pytest.raises(ConversionError, match="run was stopped: loading the model"):
        child.run("edgeship.targets.run", request, work, limits=replace(child.RUN, once=ONCE), subject="m.onnx")
