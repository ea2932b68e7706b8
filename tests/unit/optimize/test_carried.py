"""A model that carries its own state is judged carrying it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship import child
from edgeship.dataset import Dataset
from edgeship.optimize import carried, gate, quality
from edgeship.optimize.carried import pairs
from edgeship.optimize.search.evaluate import Limits
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline


def specs(**shapes: tuple[int, ...]) -> list[TensorSpec]:
    return [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]


def test_what_is_state_is_told_by_names_and_shapes() -> None:
    assert pairs(specs(x=(1, 4), state=(1, 8)), specs(y=(1, 2), stateN=(1, 8))) == {"state": "stateN"}
    assert pairs(specs(x=(1, 4), h=(1, 8), c=(1, 8)), specs(y=(1, 2), hn=(1, 8), cn=(1, 8))) == {"h": "hn", "c": "cn"}
    assert pairs(specs(x=(1, 4), h_in=(1, 8)), specs(y=(1, 2), h_out=(1, 8))) == {"h_in": "h_out"}
    assert pairs(specs(x=(1, 4), h=(1, 8)), specs(h_out=(1, 8), h_new=(1, 8), y=(1, 2))) == {}, "which one is not told"


def test_an_image_that_becomes_an_image_is_no_state() -> None:
    assert pairs(specs(image=(1, 8, 8, 3)), specs(image_out=(1, 8, 8, 3))) == {}
    assert pairs(specs(input=(1, 4), other=(1, 4)), specs(output=(1, 4), more=(1, 4))) == {}
    assert pairs(specs(x=(1, 4), h=(1, 8)), specs(y=(1, 2), h_out=(1, 9))) == {}


def filter_onnx(path: Path, decay: float) -> Path:
    """state_out = decay · state + x, y = 2 · state_out; x and state [1, 4]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def info(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])

    nodes = [
        helper.make_node("Mul", ["state", "decay"], ["kept"]), helper.make_node("Add", ["kept", "x"], ["state_out"]),
        helper.make_node("Add", ["state_out", "state_out"], ["y"]),
    ]  # fmt: skip
    constant = numpy_helper.from_array(np.array([decay], np.float32), "decay")
    graph = helper.make_graph(nodes, "f", [info("x"), info("state")], [info("y"), info("state_out")], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def data() -> Dataset:
    x = np.random.default_rng(0).normal(0, 1, (40, 1, 4)).astype(np.float32)
    return Dataset({"x": x, "state": np.zeros((40, 1, 4), np.float32)})


def test_state_that_is_lost_is_found_though_every_sample_alone_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Dataset
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(child, "run", inline.run)
    inline.patch(monkeypatch)
    target = registry.target("onnx")
    facts = registry.inspect(filter_onnx(tmp_path / "a.onnx", 0.9))
    good = target.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    y, state = carried.answers(good, data, {"state": "state_out"})
    held = np.zeros((1, 4))
    for index in range(40):
        held = 0.9 * held + data.inputs["x"][index]
        assert state[index] == pytest.approx(held, abs=1e-5)
        assert y[index] == pytest.approx(2 * held, abs=1e-5)
    assert gate.check(facts, good, data).passed

    other = target.build(
        registry.inspect(filter_onnx(tmp_path / "b.onnx", 0.3)), Scheme("float32"), None, tmp_path / "c", Reporter()
    )
    shutil.copy(other.path, tmp_path / "forgets.onnx")
    forgets = replace(other, recipe=good.recipe)
    verdict = gate.check(facts, forgets, data)
    assert not verdict.passed
    assert verdict.reason.startswith("carrying its state state: ")
    limits = Limits(max_drop=100.0)
    trained = registry.inspect(filter_onnx(tmp_path / "b.onnx", 0.3))
    assert quality.check(facts, forgets, data, limits, metric="cosine", start=trained).passed, "it is what was trained"
    checked = [quality.check(facts, variant, data, limits, metric="cosine") for variant in (good, forgets)]
    assert [v.passed for v in checked] == [True, False], "a search and a push ask quality.check"
    assert "refused by the numeric gate: carrying its state state: " in checked[1].summary
