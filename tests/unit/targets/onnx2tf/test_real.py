"""ONNX to TFLite by the real onnx2tf: layouts, odd names, integers, several inputs; and what it cannot do.

The layouts are chosen so that a mistake shows: other sizes of each axis, or all the same where no shape would tell.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.optimize import gate
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline, real_environment

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_environment.use("onnx2tf", monkeypatch)
    inline.patch(monkeypatch)


def weights(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(0, 0.3, shape).astype(np.float32)


def saved(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], held: dict[str, Any]) -> Path:
    """An ONNX file. Inputs and outputs are (name, type, shape)."""
    import onnx
    from onnx import helper, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value(*i) for i in inputs], [value(*o) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def channels_first(path: Path) -> Path:
    """Two inputs, one of them under a name that onnx2tf changes; a mask with channels first, 8 of 16 × 12."""
    from onnx import helper as h

    nodes = [
        h.make_node("Conv", ["image:0", "k"], ["c"], pads=[1, 1, 1, 1]),
        h.make_node("GlobalAveragePool", ["c"], ["p"]),
        h.make_node("Flatten", ["p"], ["f"]),
        h.make_node("Concat", ["f", "vector"], ["all"], axis=1),
        h.make_node("Gemm", ["all", "w", "b"], ["scores/y:0"]),
        h.make_node("Sigmoid", ["c"], ["mask"]),
    ]
    return saved(
        path, nodes, [("image:0", 1, [1, 3, 16, 12]), ("vector", 1, [1, 4])],
        [("mask", 1, [1, 8, 16, 12]), ("scores/y:0", 1, [1, 5])],
        {"k": weights(8, 3, 3, 3), "w": weights(12, 5), "b": weights(5)},
    )  # fmt: skip


def channels_last(path: Path) -> Path:
    """What Keras exports: the image comes and goes with its channels last."""
    from onnx import helper as h

    nodes = [
        h.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        h.make_node("Conv", ["t", "k"], ["c"], pads=[1, 1, 1, 1]),
        h.make_node("Relu", ["c"], ["r"]),
        h.make_node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1]),
    ]
    return saved(path, nodes, [("image", 1, [1, 9, 11, 3])], [("y", 1, [1, 9, 11, 8])], {"k": weights(8, 3, 3, 3)})


def square(path: Path) -> Path:
    """8 channels of 8 × 8: onnx2tf delivers them last, and no shape tells."""
    from onnx import helper as h

    nodes = [h.make_node("Conv", ["image", "k"], ["c"], pads=[1, 1, 1, 1]), h.make_node("Relu", ["c"], ["y"])]
    return saved(path, nodes, [("image", 1, [1, 3, 8, 8])], [("y", 1, [1, 8, 8, 8])], {"k": weights(8, 3, 3, 3)})


def tokens(path: Path) -> Path:
    """Indices of 64 bits into a table of 100 rows; MatMul + Add behind it."""
    from onnx import helper as h

    nodes = [
        h.make_node("Gather", ["table", "ids"], ["e"]),
        h.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        h.make_node("MatMul", ["m", "w"], ["product"]),
        h.make_node("Add", ["product", "b"], ["y"]),
    ]
    held = {"table": weights(100, 8), "w": weights(8, 5), "b": weights(5)}
    return saved(path, nodes, [("ids", 7, [1, 12])], [("y", 1, [1, 5])], held)


def recurrent(path: Path) -> Path:
    """An LSTM over 20 steps, which is to carry nothing from one run to the next."""
    from onnx import helper as h

    nodes = [
        h.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        h.make_node("LSTM", ["steps", "w", "r", "b"], ["", "last"], hidden_size=16),
        h.make_node("Flatten", ["last"], ["flat"], axis=2),
        h.make_node("Gemm", ["flat", "d", "e"], ["y"]),
    ]
    held = {"w": weights(1, 64, 4), "r": weights(1, 64, 16), "b": weights(1, 128), "d": weights(16, 5), "e": weights(5)}
    return saved(path, nodes, [("x", 1, [1, 20, 4])], [("y", 1, [1, 5])], held)


@pytest.mark.parametrize("maker", [channels_first, channels_last, square, tokens, recurrent])
def test_a_model_keeps_names_shapes_layout_and_answers(tmp_path: Path, maker: Callable[[Path], Path]) -> None:
    facts = registry.inspect(maker(tmp_path / "m.onnx"))
    made = registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert [(t.name, t.shape) for t in made.inputs] == [(t.name, t.shape) for t in facts.inputs]
    assert [(t.name, t.shape) for t in made.outputs] == [(t.name, t.shape) for t in facts.outputs]
    rng = np.random.default_rng(5)
    data = Dataset(
        {
            t.name: rng.integers(0, 100, (20, *t.shape)).astype(t.dtype)
            if t.dtype.startswith("int")
            else rng.normal(0, 1, (20, *t.shape)).astype(np.float32)
            for t in facts.inputs
        }
    )
    assert gate.check(facts, made, data, Reporter()).passed


def test_int8_of_it_is_right_too(tmp_path: Path) -> None:
    """MatMul + Add goes over as one dense layer: as a BATCH_MATMUL its static int8 would be wrong."""
    facts = registry.inspect(channels_first(tmp_path / "m.onnx"))
    rng = np.random.default_rng(6)
    data = Dataset({t.name: rng.normal(0, 1, (50, *t.shape)).astype(np.float32) for t in facts.inputs})
    made = registry.target("tflite").build(facts, Scheme("int8"), data, tmp_path / "c", Reporter())
    assert made.int8_share == 1.0
    assert gate.check(facts, made, data, Reporter()).passed


def test_what_every_step_reads_is_kept_once(tmp_path: Path) -> None:
    facts = registry.inspect(recurrent(tmp_path / "m.onnx"))
    made = registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert facts.parameters is not None
    matrix = registry.inspect(made.path).parameters
    assert matrix is not None
    assert matrix < 2 * facts.parameters


def test_an_operator_that_it_does_not_know_is_named(tmp_path: Path) -> None:
    from onnx import helper as h

    path = saved(tmp_path / "m.onnx", [h.make_node("Det", ["x"], ["y"])], [("x", 1, [1, 4, 4])], [("y", 1, [1])], {})
    with pytest.raises(ConversionError, match="onnx2tf has no TFLite operators for its DET") as caught:
        registry.target("tflite").build(registry.inspect(path), Scheme("float32"), None, tmp_path / "c", Reporter())
    assert str(path) in str(caught.value)
