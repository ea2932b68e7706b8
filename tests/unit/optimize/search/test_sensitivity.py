"""Layers ranked by what int8 costs in each, and the search that keeps the worst of them in float. Real quantizers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship import profile
from edgeship.dataset import Dataset
from edgeship.optimize.search import report, sensitivity
from edgeship.optimize.search.candidate import Candidate, Wish
from edgeship.optimize.search.pick import Budget
from edgeship.optimize.search.run import Request, Search
from edgeship.optimize.search.sensitivity import rank
from edgeship.reporter import Reporter
from edgeship.targets import child, registry
from edgeship.targets.base import Layer, Recipe, Variant
from edgeship.targets.scheme import Scheme
from tests.simulators import inline, tflite_graphs
from tests.unit.optimize.search.test_run import Stopwatch


def uneven_onnx(path: Path) -> Path:
    """The net of `tflite_graphs.uneven` as ONNX."""
    nodes, held, last = [], [], "x"
    for name, weights in zip(("loud", "quiet", "last"), tflite_graphs.uneven_weights(), strict=True):
        held.append(numpy_helper.from_array(np.ascontiguousarray(weights.T), f"{name}/weights"))
        held.append(numpy_helper.from_array(np.zeros(len(weights), np.float32), f"{name}/bias"))
        out = name if name == "last" else f"{name}/sum"
        nodes.append(helper.make_node("Gemm", [last, f"{name}/weights", f"{name}/bias"], [out], name=name))
        if name != "last":
            nodes.append(helper.make_node("Relu", [out], [name], name=f"{name}_relu"))
        last = name
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12])
    y = helper.make_tensor_value_info("last", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The uneven net in both formats; steps run in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    inline.patch(monkeypatch)
    return {
        "tflite": tflite_graphs.uneven(tmp_path / "m.tflite"), "onnx": uneven_onnx(tmp_path / "m.onnx"),
    }  # fmt: skip


def labelled(n: int, path: Path, folder: Path) -> Dataset:
    """Samples whose label is what the float model answers."""
    plain = tflite_graphs.samples(n, seed=9)
    facts = registry.inspect(path)
    variant = registry.target(facts.format).as_is(facts, folder, Reporter())
    [scores] = registry.source_answers(facts, variant, plain, Reporter())
    return Dataset(plain.inputs, scores.reshape(n, -1).argmax(axis=1).astype(np.int32))


def test_what_else_is_made_of_the_same_file_and_other_tools_rank_anew(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another signature of one SavedModel has the same file and other layers."""
    facts, data, cache = registry.inspect(made["onnx"]), tflite_graphs.samples(20), tmp_path / "c"
    candidate = Candidate("onnx", Scheme("int8"))
    layers = [Layer(name, "Gemm", 1, (1,), name).encode() | {"error": 0.5, "weights_error": 0.1} for name in "ab"]
    answered = iter([[layer] for layer in (*layers, layers[0])])
    target = registry.target("onnx")
    monkeypatch.setattr(child, "run", lambda *args, **named: {"layers": next(answered)})
    recipe = Recipe(facts.sha256, "onnx", "onnx", "float32", ())
    float_form = Variant(tmp_path / "f", recipe, tmp_path, (), (), 1, "")

    def ranked(sha256: str) -> str:
        made_of = replace(float_form, sha256=sha256)
        monkeypatch.setattr(type(target), "build", lambda *args: made_of)
        return rank(facts, candidate, data, cache, Reporter())[0].layer.name

    assert [ranked("1" * 64), ranked("2" * 64), ranked("1" * 64)] == ["a", "b", "a"]
    monkeypatch.setattr(sensitivity, "versions_of", lambda packages: {"onnxruntime": "another"})
    assert ranked("2" * 64) == "a"


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_the_layer_that_int8_destroys_ranks_first_and_ranking_is_kept(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    facts = registry.inspect(made[format_name])
    candidate = Candidate(format_name, Scheme("int8"))
    costs = rank(facts, candidate, tflite_graphs.samples(100), tmp_path / "c", Reporter())
    assert {cost.layer.source_name.split("/")[0] for cost in costs} == {"loud", "quiet", "last"}
    assert costs[0].error > 0.1
    assert costs[-1].error < 1e-2
    assert costs[0].layer.weights in (192, 256)

    def refuse(*args: Any, **named: Any) -> Any:
        raise AssertionError(args)

    registry.target(format_name).build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    monkeypatch.setattr(child, "run", refuse)
    assert rank(facts, candidate, tflite_graphs.samples(100), tmp_path / "c", Reporter()) == costs


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_search_keeps_in_float_what_it_must_and_says_so(
    made: dict[str, Path], tmp_path: Path, format_name: str
) -> None:
    path = made[format_name]
    request = Request(
        registry.inspect(path), profile.load("raspberry-pi-5"), tflite_graphs.samples(100),
        labelled(400, path, tmp_path / "c"), Budget(max_drop=2.0, max_class_drop=8.0), tmp_path / "c",
        Wish((format_name,), ("int8",)),
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        found = Search(request, pool, Stopwatch(), Reporter()).run()
    assert found.pick.row is not None
    scheme = found.pick.row.candidate.scheme
    kept = (*scheme.keep, *scheme.weights_only)
    assert 1 <= len(kept) <= 2
    assert scheme.rounding == "fitted"
    assert any("loud" in name or "quiet" in name for name in kept)
    [plain] = [t for t in found.tried if t.candidate.scheme == Scheme("int8")]
    assert plain.outcome is not None
    assert plain.outcome.verdict is not None
    assert plain.outcome.verdict.drop > 10
    assert found.pick.row.variant.int8_share > 0.1
    assert all(" (" in words for words in report.kept_layers(found, found.pick.row.candidate))
    page = report.html(found)
    assert "Layers by what int8 costs" in page
    assert "of its weights" in page
    [costs] = found.costs.values()
    assert all(0 < cost.weights_error <= cost.error for cost in costs if cost.error > 0.1)
    assert "In float: " in page
